//! A job is under way, a restart is asked for, or the server does not tell what it is.

use std::time::Duration;

use tamada::core::decide;
use tamada::core::decision::{Decision, Exit, LastWord, LeaseStep, PostgresStep, Wake};
use tamada::core::local::{
    ClusterState, DataDir, Guard, Job, LastRole, Postgres, RecoverySignal, Reinit, RunningJob, StartAs, StopMode,
    StopWhy, Upstream,
};
use tamada::core::observation::{Amnesia, Backoff, Observation, RestartRequest};
use tamada::core::policy::{Mode, Pause, Policy};
use tamada::core::reason::Reason;
use tamada::core::units::{Instant, Seconds, SystemId};
use tamada::core::view::Initialize;

use super::build::*;

fn during(mut observation: Observation, job: &Job) -> Observation {
    observation.local.job = Some(RunningJob { job: job.clone(), since: second(990) });
    observation
}

/// What stops a primary that must not go on: at once, and PID 1 would not wait longer.
fn stops_at_once(reason: Reason) -> Decision {
    let limit = Duration::from_secs(1);
    let postgres = PostgresStep::Stop { mode: StopMode::Immediate, why: StopWhy::LostLock, limit };
    Decision { postgres, ..Decision::idle(reason, Wake::At(second(1_010))) }
}

fn starting(role: LastRole, since: u64) -> Postgres {
    Postgres::Starting { since: second(since), role }
}

fn silent(role: LastRole, since: u64) -> Postgres {
    Postgres::Unresponsive { since: second(since), role }
}

#[test]
fn while_a_job_runs_the_lock_is_kept_and_nothing_else_is_done() {
    let job = Job::Follow(Upstream::None);
    let led = Decision::idle(Reason::JobInProgress { job: job.clone() }, Wake::At(second(1_010)));
    assert_eq!(decided(&during(seen(view(THEIRS), standby_at(500, "b")), &job)), led);
    let leads = |postgres: Postgres, ago: u64| decided(&during(renewed(seen(view(OURS), postgres), ago), &job));
    let reason = Reason::DuringJob { job: job.clone() };
    let renews = Decision { lease: LeaseStep::Renew, ..Decision::idle(reason.clone(), Wake::At(second(1_010))) };
    assert_eq!(leads(Postgres::Stopped, 10), renews);
    assert_eq!(leads(Postgres::Stopped, 4), Decision::idle(reason.clone(), Wake::At(second(1_006))));
    // How long a start takes is looked at in between.
    let looked_at = Decision::idle(reason, Wake::At(second(1_001)));
    assert_eq!(leads(starting(LastRole::Primary, 999), 4), looked_at);
}

#[test]
fn a_stop_that_ends_authority_renews_nothing_any_more() {
    let job = Job::Stop { mode: StopMode::Fast, why: StopWhy::LostLock };
    let reason = Reason::JobInProgress { job: job.clone() };
    let waits = Decision::idle(reason, Wake::At(Instant::from_millis(1_000_500)));
    assert_eq!(decided(&during(renewed(seen(view(OURS), Postgres::Stopping), 10), &job)), waits);
    let other = Job::Stop { mode: StopMode::Fast, why: StopWhy::Handover };
    let decision = decided(&during(renewed(seen(view(OURS), Postgres::Stopping), 10), &other));
    assert_eq!(decision.lease, LeaseStep::Renew);
}

#[test]
fn a_job_that_lets_a_primary_serve_ends_with_the_lock() {
    let ends = |observation: Observation, job: &Job| decided(&during(observation, job));
    for job in [Job::Promote, Job::Start(StartAs::Primary)] {
        let stop = stops_at_once(Reason::JobLostLock { job: job.clone() });
        assert_eq!(ends(seen(view(THEIRS), standby_at(500, "b")), &job), stop);
        assert_eq!(ends(renewed(seen(view(OURS), standby_at(500, "b")), 27), &job), stop);
        let held = ends(renewed(seen(view(OURS), standby_at(500, "b")), 26), &job);
        assert_eq!((held.postgres, held.lease), (PostgresStep::Leave, LeaseStep::Renew));
        let unconfirmed = ends(seen(view(OURS), standby_at(500, "b")), &job);
        assert_eq!((unconfirmed.postgres, unconfirmed.lease), (PostgresStep::Leave, LeaseStep::Renew));
        for policy in [Policy { mode: Mode::Single, ..policy() }, Policy { pause: Pause::Paused, ..policy() }] {
            let decision = decide(&policy, &during(seen(view(THEIRS), standby_at(500, "b")), &job));
            assert_eq!(decision.postgres, PostgresStep::Leave, "{:?} {:?}", policy.mode, policy.pause);
        }
    }
    assert_eq!(ends(seen(view(THEIRS), standby_at(500, "b")), &Job::Recover).postgres, PostgresStep::Leave);
}

#[test]
fn a_start_that_takes_too_long_is_cut_short_and_a_stop_is_not() {
    let slow = |job: &Job| {
        let observation = renewed(seen(view(OURS), starting(LastRole::Primary, 600)), 1);
        decided(&during(answers(observation, &[("b", 1_000), ("c", 1_000)]), job))
    };
    assert_eq!(slow(&Job::Start(StartAs::Primary)), stops_at_once(Reason::StartTimeout));
    let stop = Job::Stop { mode: StopMode::Fast, why: StopWhy::Handover };
    assert_eq!(slow(&stop).postgres, PostgresStep::Leave);
}

#[test]
fn a_restart_keeps_the_role_and_a_leader_the_lock() {
    let asked = |leader, postgres: Postgres, renewal: Option<u64>| {
        let mut observation = seen(view(leader), postgres);
        observation.memory.lease_valid_until = renewal.map(|ago| second(1_030 - ago));
        observation.requests.restart = Some(RestartRequest { timeout: None });
        decided(&observation)
    };
    let behind_b = || StartAs::Standby(Upstream::Member { name: "b".into(), address: address("b") });
    let leads = asked(OURS, primary(), Some(10));
    assert_eq!((leads.postgres, leads.lease), (PostgresStep::Restart(StartAs::Primary), LeaseStep::Renew));
    let unconfirmed = asked(OURS, primary(), None);
    assert_eq!((unconfirmed.postgres, unconfirmed.reason), (PostgresStep::Leave, Reason::ConfirmingLock));
    assert_eq!(asked(THEIRS, primary(), None), stops_at_once(Reason::DemotedOtherLeader { leader: "b".into() }));
    for standby in [standby_at(500, "b"), silent(LastRole::Standby, 990)] {
        assert_eq!(asked(THEIRS, standby, None).postgres, PostgresStep::Restart(behind_b()));
    }
    assert_eq!(asked(THEIRS, Postgres::Stopped, None).postgres, PostgresStep::Start(behind_b()));
    for unknown in [silent(LastRole::Primary, 999), starting(LastRole::Standby, 999), Postgres::Stopping] {
        assert_eq!(asked(OURS, unknown, Some(1)).postgres, PostgresStep::Leave);
    }
}

#[test]
fn a_server_that_does_not_tell_its_role_goes_on_only_with_a_lock_that_lasts() {
    for postgres in [starting(LastRole::Primary, 999), silent(LastRole::Primary, 999)] {
        let stop = stops_at_once(Reason::DemotedOtherLeader { leader: "b".into() });
        assert_eq!(decided(&seen(view(THEIRS), postgres.clone())), stop);
        assert_eq!(decided(&renewed(seen(view(OURS), postgres.clone()), 27)).reason, Reason::DemotedNoDcs);
        let held = decided(&renewed(seen(view(OURS), postgres.clone()), 26));
        assert_eq!(
            (held.postgres, held.lease, held.wake),
            (PostgresStep::Leave, LeaseStep::Renew, Wake::At(second(1_001)))
        );
        let unconfirmed = decided(&seen(view(OURS), postgres));
        assert_eq!((unconfirmed.postgres, unconfirmed.lease), (PostgresStep::Leave, LeaseStep::Renew));
    }
    let standby = decided(&seen(view(THEIRS), silent(LastRole::Standby, 900)));
    assert_eq!(standby, Decision::idle(Reason::NotAnswering, Wake::At(second(1_001))));
    // A standby's role is no reason to stop one that holds the lock, until it has not served for too long.
    let holds = |since: u64| {
        let observation = renewed(seen(view(OURS), silent(LastRole::Standby, since)), 28);
        decided(&answers(observation, &[("b", 1_000), ("c", 1_000)]))
    };
    assert_eq!((holds(990).postgres, holds(990).lease), (PostgresStep::Leave, LeaseStep::Renew));
    assert_eq!(holds(700), stops_at_once(Reason::StartTimeout));
}

#[test]
fn data_that_cannot_be_used_are_left_alone_and_no_lock_is_kept_for_them() {
    let unusable = |leader, renewal: Option<u64>| {
        let mut observation = seen(view(leader), Postgres::Stopped);
        observation.memory.lease_valid_until = renewal.map(|ago| second(1_030 - ago));
        observation.local.data = DataDir::Unusable("it cannot be read".to_owned());
        decided(&observation)
    };
    let why = Reason::Unusable { why: "it cannot be read".to_owned() };
    assert_eq!(unusable(THEIRS, None), Decision::idle(why.clone(), Wake::At(second(1_010))));
    let given_up = Decision { lease: LeaseStep::Release { last_position: None }, ..Decision::idle(why, Wake::Now) };
    assert_eq!(unusable(OURS, Some(1)), given_up);
    assert_eq!(unusable(OURS, None), given_up);
}

#[test]
fn data_of_another_cluster_end_the_agent_unless_they_were_made_a_moment_ago() {
    let other = |bootstrapped: Option<SystemId>| {
        let mut observation = seen(view(THEIRS), Postgres::Stopped);
        observation.cluster.as_mut().expect("there is a view").initialize = Initialize::Done(SystemId(1));
        observation.memory.bootstrapped = bootstrapped;
        decided(&observation)
    };
    for unrelated in [None, Some(SystemId(2))] {
        assert!(
            matches!(other(unrelated).exit, Some(Exit::Fatal(_))) && other(unrelated).postgres == PostgresStep::Leave
        );
    }
    let replaced = other(Some(ID));
    assert_eq!(replaced.exit, None);
    assert!(matches!(replaced.postgres, PostgresStep::Reinitialize { why: Reinit::Diverged, .. }), "{replaced:?}");
}

#[test]
fn a_replica_is_refused_as_the_first_of_a_cluster_only_if_nobody_knows_this_cluster() {
    let first = |change: fn(&mut Observation)| {
        let mut observation = seen(view(None), standby_at(500, "b"));
        observation.cluster.as_mut().expect("there is a view").initialize = Initialize::Absent;
        change(&mut observation);
        decided(&observation).exit
    };
    assert!(matches!(first(|_| {}), Some(Exit::FatalLeaveRunning(_))));
    assert_eq!(first(|seen| seen.memory.cluster = Some(ID)), None);
    assert!(first(|seen| seen.memory.cluster = Some(SystemId(1))).is_some());
    assert_eq!(first(|seen| seen.memory.amnesia = Some(Amnesia { until: second(1_010), lock: None })), None);
    assert_eq!(first(|seen| seen.local.postgres = primary()), None);
    let led = |seen: &mut Observation| {
        let initialize = Initialize::Absent;
        seen.cluster = Ok(tamada::core::view::ClusterView { initialize, ..view(THEIRS) });
    };
    assert_eq!(first(led), None);
}

#[test]
fn failures_hold_back_until_their_time_has_come() {
    let after = |until: u64| {
        let mut observation = seen(view(THEIRS), Postgres::Stopped);
        observation.local.data = data(ClusterState::ShutDownInRecovery, RecoverySignal::Present);
        observation.memory.backoff = Some(Backoff { failures: 3, until: second(until) });
        decided(&observation)
    };
    let left = Seconds(Duration::from_secs(2));
    let waits = Decision::idle(Reason::BackingOff { failures: 3, left }, Wake::At(second(1_002)));
    assert_eq!(after(1_002), waits);
    assert!(matches!(after(1_000).postgres, PostgresStep::Start(_)));
}

#[test]
fn a_new_agent_that_finds_a_standby_with_a_deadline_stops_it_before_it_gives_the_lock_up() {
    let mut other = renewed(seen(view(OURS), standby_at(500, "b")), 1);
    other.cluster.as_mut().expect("there is a view").initialize = Initialize::Done(SystemId(1));
    assert_eq!(decided(&other).lease, LeaseStep::Release { last_position: None });
    other.local.guard = Guard::Until(second(1_020));
    assert_eq!(decided(&other), stops_at_once(Reason::ReleasedForeign));
}

#[test]
fn a_lock_that_a_late_call_takes_during_a_job_is_given_back() {
    let from = tamada::core::local::CloneSource {
        name: "b".into(),
        address: address("b"),
        kind: tamada::core::local::CloneFrom::Leader,
    };
    for job in [Job::Start(StartAs::Standby(Upstream::None)), Job::Clone { from }, Job::Recover] {
        let mut observation = during(seen(view(OURS), Postgres::Stopped), &job);
        let decision = decided(&observation);
        assert_eq!(decision.lease, LeaseStep::GiveBack { word: LastWord::Stands }, "{job:?}");
        assert_eq!((decision.postgres, decision.reason), (PostgresStep::Leave, Reason::TakenUnawares));
        observation.memory.lease_valid_until = Some(second(1_020));
        assert!(!decided(&observation).lease.gives_up(), "{job:?}: it is known to be ours");
    }
    let starts = during(seen(view(OURS), Postgres::Stopped), &Job::Start(StartAs::Primary));
    assert!(!decided(&starts).lease.gives_up(), "it makes a primary");
}
