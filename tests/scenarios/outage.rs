//! The store does not answer.

use std::time::Duration;

use tamada::core::decision::{Decision, LeaseStep, PostgresStep, Wake};
use tamada::core::local::{
    ClusterState, Guard, Job, Postgres, RecoverySignal, RunningJob, StartAs, StopMode, StopWhy, Upstream,
};
use tamada::core::observation::{
    Backoff, Event, FinishedJob, Handover, HandoverPurpose, HandoverStage, JobResult, Observation, ShutdownRequest,
};
use tamada::core::policy::{Pause, Policy};
use tamada::core::reason::Reason;
use tamada::core::units::{Instant, Lsn, Seconds};
use tamada::core::view::Holder;
use tamada::core::{decide, note};

use super::build::*;

/// Nothing is done, and it is looked at again after a second.
fn waits() -> Decision {
    Decision::idle(Reason::DcsOutage { error: "no answer".to_owned() }, Wake::At(second(1_001)))
}

fn stops(mode: StopMode, limit: u64) -> Decision {
    let limit = Duration::from_millis(limit);
    Decision {
        postgres: PostgresStep::Stop { mode, why: StopWhy::LostLock, limit },
        ..Decision::idle(Reason::DemotedNoDcs, Wake::At(Instant::from_millis(1_000_500)))
    }
}

fn stopped(state: ClusterState, signal: RecoverySignal) -> Observation {
    let mut observation = outage(seen(view(None), Postgres::Stopped));
    observation.local.data = data(state, signal);
    observation
}

#[test]
fn a_primary_goes_on_and_renews_until_its_stop_has_to_begin() {
    let goes_on = |left: u64, wake: u64| {
        let left = Seconds(Duration::from_millis(left));
        let idle = Decision::idle(Reason::LockNotConfirmed { left }, Wake::At(Instant::from_millis(wake)));
        Decision { lease: LeaseStep::Renew, ..idle }
    };
    let mut observation = outage(renewed(seen(view(OURS), primary()), 20));
    assert_eq!(decided(&observation), goes_on(7_000, 1_000_500));
    observation.now = Instant::from_millis(1_006_700);
    assert_eq!(decided(&observation), goes_on(300, 1_007_000), "not later than the moment at which it has to stop");
    observation.now = second(1_007);
    assert!(matches!(decided(&observation).postgres, PostgresStep::Stop { .. }));
}

#[test]
fn a_primary_stops_within_half_the_time_that_pid_1_leaves() {
    let mut observation = outage(renewed(seen(view(OURS), primary()), 28));
    observation.local.guard = Guard::Until(second(1_001));
    assert_eq!(decided(&observation), stops(StopMode::Fast, 500));
    observation.local.guard = Guard::NoDeadline;
    assert_eq!(decided(&observation), stops(StopMode::Fast, 2_000));
    observation.local.job = Some(RunningJob { job: Job::Promote, since: second(999) });
    assert_eq!(decided(&observation), stops(StopMode::Immediate, 2_000), "a job that makes a primary is cut short");
}

#[test]
fn in_a_pause_an_outage_stops_and_starts_nothing() {
    let paused = Policy { pause: Pause::Paused, ..policy() };
    let late = outage(renewed(seen(view(OURS), primary()), 40));
    let down = stopped(ClusterState::ShutDownInRecovery, RecoverySignal::Present);
    assert_eq!([decide(&paused, &late), decide(&paused, &down)], [waits(), waits()]);
}

#[test]
fn a_stopped_server_starts_as_a_standby_of_nobody_so_that_reads_go_on() {
    let starts = Decision { postgres: PostgresStep::Start(StartAs::Standby(Upstream::None)), ..waits() };
    let mut observation = stopped(ClusterState::InProduction, RecoverySignal::None);
    assert_eq!(decided(&observation), starts);
    observation.memory.backoff = Some(Backoff { failures: 1, until: second(1_001) });
    assert_eq!(decided(&observation), waits(), "it has just failed");
    observation.memory.backoff = Some(Backoff { failures: 1, until: now() });
    assert_eq!(decided(&observation), starts);
    assert_eq!(decided(&stopped(ClusterState::ShutDown, RecoverySignal::RewindUnfinished)), waits());
    let running = outage(seen(view(Some(("b", Holder::Other))), standby_at(500, "b")));
    assert_eq!(decided(&running), waits());
}

#[test]
fn a_leader_that_stopped_for_a_hand_over_waits_as_long_as_the_lock_is_its_own_to_give_up() {
    let stage = HandoverStage::Confirming { position: Lsn(1_000), since: second(999) };
    let in_stage = |stage, valid_until: Option<u64>| {
        let mut observation = stopped(ClusterState::ShutDown, RecoverySignal::None);
        observation.memory.lease_valid_until = valid_until.map(second);
        let (purpose, since) = (HandoverPurpose::Shutdown, second(999));
        observation.memory.handover = Some(Handover { purpose, candidate: None, since, stage, best: None });
        observation
    };
    assert_eq!(decided(&in_stage(stage, Some(1_001))), waits());
    for over in [in_stage(stage, Some(1_000)), in_stage(stage, None), in_stage(HandoverStage::Stopping, Some(1_001))] {
        assert!(matches!(decided(&over).postgres, PostgresStep::Start(_)), "{:?}", over.memory);
    }
    // A member that is to end waits too, and ends as soon as there is nothing to give up.
    let mut ending = in_stage(stage, Some(1_001));
    ending.requests.shutdown = Some(ShutdownRequest::Graceful);
    let decision = decided(&ending);
    assert_eq!((decision.exit, decision.reason), (None, Reason::ShuttingDown));
    assert_eq!(decision.wake, Wake::At(Instant::from_millis(1_000_500)));
    ending.requests.shutdown = Some(ShutdownRequest::Fast);
    assert!(decided(&ending).exit.is_some());
}

#[test]
fn a_promotion_that_failed_is_stopped_whatever_the_store_says() {
    let failed = |mut observation: Observation| {
        let result = JobResult::Failed("not promoted in time".to_owned());
        observation.memory.finished = Some(FinishedJob { job: Job::Promote, at: second(999), result });
        observation
    };
    let standby = || failed(renewed(seen(view(OURS), standby_at(900, "b")), 1));
    let paused = Policy { pause: Pause::Paused, ..policy() };
    let mut forgot = standby();
    forgot.cluster = Ok(view(None));
    forgot.memory = note(forgot.memory, &Event::StoreForgot { at: now(), ttl: policy().timing.ttl, lock: None });
    let stops = StopMode::Immediate;
    for observation in [standby(), outage(standby()), forgot] {
        for policy in [policy(), paused.clone()] {
            let decision = decide(&policy, &observation);
            assert_eq!(decision.reason, Reason::PromotionFailed);
            assert!(matches!(decision.postgres, PostgresStep::Stop { mode, .. } if mode == stops), "{decision:?}");
        }
    }
    let mut stopping = outage(standby());
    let job = Job::Stop { mode: StopMode::Immediate, why: StopWhy::LostLock };
    stopping.local.job = Some(RunningJob { job, since: second(999) });
    assert_eq!(decided(&stopping), waits(), "it is being stopped");
}
