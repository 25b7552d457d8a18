//! The agent was asked to end.

use std::time::Duration;

use tamada::core::decide;
use tamada::core::decision::{Decision, DocumentStep, Exit, LeaseStep, PostgresStep, Wake};
use tamada::core::local::{
    ClusterState, DataDir, Job, LastRole, Postgres, RecoverySignal, RunningJob, StartAs, StopMode, StopWhy, Upstream,
};
use tamada::core::observation::{
    FinishedJob, Handover, HandoverPurpose, HandoverStage, JobResult, Observation, ShutdownRequest,
};
use tamada::core::policy::{Mode, Pause, Policy};
use tamada::core::reason::Reason;
use tamada::core::units::{Instant, Lsn};
use tamada::core::view::{Holder, Initialize};

use super::build::*;

fn asked(mut observation: Observation, how: ShutdownRequest) -> Observation {
    observation.requests.shutdown = Some(how);
    observation
}

fn busy(mut observation: Observation, job: Job) -> Observation {
    observation.local.job = Some(RunningJob { job, since: second(999) });
    observation
}

fn stop_job(mode: StopMode) -> Job {
    Job::Stop { mode, why: StopWhy::Shutdown }
}

fn stop(mode: StopMode, limit: u64) -> PostgresStep {
    PostgresStep::Stop { mode, why: StopWhy::Shutdown, limit: Duration::from_millis(limit) }
}

fn ends(documents: Vec<DocumentStep>) -> Decision {
    Decision { documents, exit: Some(Exit::Stopped), ..Decision::idle(Reason::Stopped, Wake::Now) }
}

fn down(leader: Option<(&str, Holder)>, state: ClusterState) -> Observation {
    let mut observation = renewed(seen(view(leader), Postgres::Stopped), 1);
    observation.local.data = data(state, RecoverySignal::None);
    observation
}

#[test]
fn in_a_pause_the_agent_ends_and_postgresql_runs_on() {
    let paused = Policy { pause: Pause::Paused, ..policy() };
    let observation = asked(renewed(seen(view(OURS), primary()), 1), ShutdownRequest::Graceful);
    let decision = decide(&paused, &observation);
    assert_eq!((decision.exit, decision.postgres), (Some(Exit::Stopped), PostgresStep::Leave));
    assert_eq!(decision.reason, Reason::LeftRunning);
    let single = Policy { mode: Mode::Single, ..paused };
    assert_eq!(decide(&single, &observation).postgres, stop(StopMode::CheckpointThenFast, 58_000));
}

#[test]
fn a_stop_leaves_time_for_what_follows_it() {
    let observation = asked(seen(view(THEIRS), standby_at(500, "b")), ShutdownRequest::Graceful);
    assert_eq!(decided(&observation).postgres, stop(StopMode::Fast, 58_000), "a standby needs no checkpoint");
    let hurried = Policy { stop_timeout: Duration::from_secs(3), ..policy() };
    assert_eq!(decide(&hurried, &observation).postgres, stop(StopMode::Fast, 1_500), "half of it is PostgreSQL's");
}

#[test]
fn whatever_runs_is_stopped() {
    let states = [
        standby_at(500, "b"),
        Postgres::Starting { since: now(), role: LastRole::Standby },
        Postgres::Unresponsive { since: now(), role: LastRole::Standby },
        Postgres::Stopping,
    ];
    for postgres in states {
        for cluster in [Ok(view(THEIRS)), outage(seen(view(THEIRS), Postgres::Stopped)).cluster] {
            let mut observation = asked(seen(view(THEIRS), postgres.clone()), ShutdownRequest::Graceful);
            observation.cluster = cluster;
            assert_eq!(decided(&observation).postgres, stop(StopMode::Fast, 58_000), "{postgres:?}");
        }
    }
    let jobs = [Job::Recover, Job::Follow(Upstream::None), Job::Start(StartAs::Standby(Upstream::None))];
    for job in jobs.into_iter().chain([Job::Rewind { from: "b".into() }, Job::Bootstrap]) {
        let observation = busy(asked(seen(view(THEIRS), Postgres::Stopped), ShutdownRequest::Graceful), job);
        assert_eq!(decided(&observation).postgres, stop(StopMode::Fast, 58_000), "{:?}", observation.local.job);
    }
}

#[test]
fn a_running_stop_is_replaced_only_by_a_harder_one() {
    use StopMode::{CheckpointThenFast, Fast, Immediate};
    let replaced = |running: StopMode, how: ShutdownRequest| {
        let stopping = asked(renewed(seen(view(OURS), Postgres::Stopping), 1), how);
        match decided(&busy(stopping, stop_job(running))).postgres {
            PostgresStep::Stop { mode, .. } => Some(mode),
            _ => None,
        }
    };
    for running in [CheckpointThenFast, Fast, Immediate] {
        assert_eq!(replaced(running, ShutdownRequest::Graceful), None, "any stop meets it: {running:?}");
    }
    assert_eq!(replaced(CheckpointThenFast, ShutdownRequest::Fast), Some(Fast));
    assert_eq!(replaced(Fast, ShutdownRequest::Fast), None);
    assert_eq!(replaced(Immediate, ShutdownRequest::Fast), None);
    assert_eq!(replaced(CheckpointThenFast, ShutdownRequest::Immediate), Some(Immediate));
    assert_eq!(replaced(Fast, ShutdownRequest::Immediate), Some(Immediate));
    assert_eq!(replaced(Immediate, ShutdownRequest::Immediate), None);
}

#[test]
fn a_job_that_lets_a_primary_serve_ends_with_the_lease_in_an_outage_too() {
    let during = |job: Job, ago: u64| {
        let observation = outage(renewed(seen(view(OURS), primary()), ago));
        decided(&busy(asked(observation, ShutdownRequest::Graceful), job))
    };
    let checkpoint = stop_job(StopMode::CheckpointThenFast);
    assert_eq!(during(checkpoint.clone(), 28).reason, Reason::DemotedNoDcs);
    assert_eq!(during(checkpoint, 1).lease, LeaseStep::Renew);
    // The others wait for their end, which is looked at again soon.
    let fast = during(stop_job(StopMode::Fast), 28);
    assert_eq!((fast.postgres, fast.reason), (PostgresStep::Leave, Reason::ShuttingDown));
    assert_eq!(fast.wake, Wake::At(Instant::from_millis(1_000_500)));
}

#[test]
fn a_member_without_the_lock_ends_once_postgresql_has_stopped() {
    let stopped = asked(down(THEIRS, ClusterState::ShutDown), ShutdownRequest::Graceful);
    assert_eq!(decided(&stopped), ends(Vec::new()));
    assert_eq!(decided(&outage(stopped)), ends(Vec::new()));
}

#[test]
fn a_bootstrap_that_is_cut_short_gives_its_claim_back() {
    let cut = |initialize: Initialize, job: Job| {
        let mut observation = asked(seen(view(None), Postgres::Stopped), ShutdownRequest::Graceful);
        observation.cluster.as_mut().expect("there is a view").initialize = initialize;
        observation.memory.finished = Some(FinishedJob { job, at: now(), result: JobResult::Cancelled });
        decided(&observation)
    };
    let ours = Initialize::InProgress(Holder::Us);
    assert_eq!(cut(ours.clone(), Job::Bootstrap), ends(vec![DocumentStep::UnclaimInitialize]));
    assert_eq!(cut(ours, Job::Promote), ends(Vec::new()), "a claim that is not this agent's to give back");
    assert_eq!(cut(Initialize::InProgress(Holder::Other), Job::Bootstrap), ends(Vec::new()));
    assert_eq!(cut(Initialize::Done(ID), Job::Bootstrap), ends(Vec::new()));
}

#[test]
fn a_lock_that_is_still_held_after_the_stop_is_given_up_and_it_is_said_whether_all_was_written() {
    let given_up = |data: DataDir| {
        let mut observation = asked(down(OURS, ClusterState::ShutDown), ShutdownRequest::Graceful);
        observation.local.data = data;
        let decision = decided(&observation);
        assert_eq!((decision.lease, decision.exit), (LeaseStep::Release { last_position: None }, None));
        decision.reason
    };
    let state = |state| data(state, RecoverySignal::None);
    for clean in [ClusterState::ShutDown, ClusterState::ShutDownInRecovery] {
        assert_eq!(given_up(state(clean)), Reason::Released, "{clean:?}");
    }
    for unclean in [ClusterState::InProduction, ClusterState::ShuttingDown, ClusterState::InArchiveRecovery] {
        assert_eq!(given_up(state(unclean)), Reason::ReleasedUnclean { own: "a".into() }, "{unclean:?}");
    }
    for nothing in [DataDir::Empty, DataDir::Unusable("it cannot be read".to_owned())] {
        assert_eq!(given_up(nothing), Reason::Released);
    }
}

#[test]
fn a_second_signal_waits_for_no_confirmation() {
    let stage = HandoverStage::Confirming { position: Lsn(1_000), since: second(999) };
    let confirming = |how: ShutdownRequest, stage: HandoverStage| {
        let mut observation = answers(asked(down(OURS, ClusterState::ShutDown), how), &[("b", 900), ("c", 900)]);
        let (purpose, since) = (HandoverPurpose::Shutdown, second(999));
        observation.memory.handover = Some(Handover { purpose, candidate: None, since, stage, best: None });
        decided(&observation).lease
    };
    assert_eq!(confirming(ShutdownRequest::Graceful, stage), LeaseStep::Keep);
    let given_up = LeaseStep::Release { last_position: None };
    assert_eq!(confirming(ShutdownRequest::Fast, stage), given_up);
    assert_eq!(confirming(ShutdownRequest::Immediate, stage), given_up);
    assert_eq!(confirming(ShutdownRequest::Graceful, HandoverStage::Stopping), given_up, "it did not stop in order");
}
