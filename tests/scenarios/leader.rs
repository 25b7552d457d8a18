//! A primary with, or suddenly without, the lock.

use std::time::Duration;

use tamada::core::decide;
use tamada::core::decision::{Decision, DocumentStep, LeaseStep, PostgresStep, Question, Wake};
use tamada::core::local::{DataDir, Guard, Postgres, PrimaryFacts, Running, StopMode, StopWhy};
use tamada::core::observation::{LockLost, Observation};
use tamada::core::policy::{Policy, Timing};
use tamada::core::reason::Reason;
use tamada::core::units::{Instant, Lsn, Timeline};
use tamada::core::view::{AfterPromote, ClusterView, ConfigKey, History, Holder, Initialize};

use super::build::*;

#[test]
fn a_leader_renews_when_loop_wait_has_passed_and_does_nothing_else() {
    let decision = decided(&kept_up(renewed(seen(view(OURS), primary()), 10)));
    let leading = Decision::idle(Reason::Leading { name: "a".into() }, Wake::At(second(1_010)));
    assert_eq!(decision, Decision { lease: LeaseStep::Renew, ..leading });
}

#[test]
fn between_two_renewals_a_leader_only_waits() {
    let decision = decided(&kept_up(renewed(seen(view(OURS), primary()), 4)));
    assert_eq!(decision, Decision::idle(Reason::Leading { name: "a".into() }, Wake::At(second(1_006))));
}

#[test]
fn a_primary_stops_at_once_when_another_holds_the_lock() {
    let decision = decided(&seen(view(Some(("b", Holder::Other))), primary()));
    assert!(matches!(decision.postgres, PostgresStep::Stop { mode: StopMode::Immediate, why: StopWhy::LostLock, .. }));
    assert_eq!(decision.lease, LeaseStep::Keep);
}

#[test]
fn our_own_name_on_another_lease_is_anothers_lock() {
    let decision = decided(&seen(view(Some(("a", Holder::Other))), primary()));
    assert!(matches!(decision.postgres, PostgresStep::Stop { mode: StopMode::Immediate, .. }));
}

#[test]
fn a_primary_stops_at_once_when_the_store_said_that_the_lock_is_lost() {
    for leader in [OURS, None] {
        let mut observation = seen(view(leader), primary());
        observation.memory.lock_lost = LockLost::Yes;
        let decision = decided(&observation);
        assert!(matches!(decision.postgres, PostgresStep::Stop { mode: StopMode::Immediate, .. }), "{leader:?}");
        assert_eq!(decision.lease, LeaseStep::Keep);
    }
}

#[test]
fn an_outage_alone_demotes_nobody_while_the_lease_lasts() {
    let decision = decided(&outage(renewed(seen(view(OURS), primary()), 20)));
    assert_eq!(decision.postgres, PostgresStep::Leave);
    assert_eq!(decision.lease, LeaseStep::Renew);
}

#[test]
fn demotes_before_the_guard_when_the_lease_runs_out_in_an_outage() {
    let decision = decided(&outage(renewed(seen(view(OURS), primary()), 28)));
    assert!(matches!(decision.postgres, PostgresStep::Stop { mode: StopMode::Fast, why: StopWhy::LostLock, .. }));
}

#[test]
fn demotes_when_renewals_bring_no_answer_although_the_cache_still_shows_the_lock() {
    let decision = decided(&renewed(seen(view(OURS), primary()), 28));
    assert!(matches!(decision.postgres, PostgresStep::Stop { mode: StopMode::Fast, why: StopWhy::LostLock, .. }));
}

#[test]
fn a_new_agent_in_an_outage_goes_by_the_guards_deadline() {
    let mut observation = outage(seen(view(OURS), primary()));
    observation.local.guard = Guard::Until(second(1_020));
    assert_eq!(decided(&observation).postgres, PostgresStep::Leave);
    observation.local.guard = Guard::Until(second(1_001));
    assert!(matches!(decided(&observation).postgres, PostgresStep::Stop { .. }));
    observation.local.guard = Guard::NoDeadline;
    assert!(matches!(decided(&observation).postgres, PostgresStep::Stop { .. }));
}

#[test]
fn a_new_agent_renews_the_lock_that_it_finds_before_anything_else() {
    let decision = decided(&seen(view(OURS), primary()));
    assert_eq!(decision.lease, LeaseStep::Renew);
    assert_eq!(decision.postgres, PostgresStep::Leave);
    assert_eq!(decision.reason, Reason::ConfirmingLock);
}

#[test]
fn a_running_primary_takes_a_free_lock_without_a_restart() {
    let decision = decided(&kept_up(seen(view(None), primary())));
    assert_eq!(
        decision,
        Decision { lease: LeaseStep::Acquire { seen: FREE }, ..Decision::idle(Reason::AcquiredAsPrimary, Wake::Now) }
    );
}

#[test]
fn a_primary_on_an_old_timeline_never_takes_the_lock() {
    let mut cluster = view(None);
    left_timeline(&mut cluster, 1);
    let decision = decided(&seen(cluster, primary()));
    assert_eq!(decision.lease, LeaseStep::Keep);
    assert!(matches!(decision.postgres, PostgresStep::Stop { mode: StopMode::Immediate, .. }));
}

#[test]
fn a_leader_restores_what_a_wiped_store_has_lost() {
    let mut cluster = view(OURS);
    cluster.initialize = Initialize::Absent;
    cluster.config = ConfigKey::Missing;
    let decision = decided(&renewed(seen(cluster, primary()), 1));
    assert_eq!(decision.documents, [DocumentStep::SetInitialize(ID), DocumentStep::RestoreConfig]);
}

#[test]
fn a_promoted_leader_owes_a_checkpoint() {
    let mut observation = renewed(seen(view(OURS), primary()), 1);
    observation.memory.checkpoint = AfterPromote::Pending;
    assert_eq!(decided(&observation).ask, Some(Question::Checkpoint));
}

#[test]
fn a_renewal_that_is_nearly_due_is_made_with_the_cycle_that_is_under_way() {
    let after = |millis: u64| {
        let mut observation = seen(view(OURS), primary());
        observation.memory.lease_valid_until = Some(Instant::from_millis(1_030_000 - millis));
        decided(&observation).lease
    };
    assert_eq!((after(9_400), after(9_500), after(9_600)), (LeaseStep::Keep, LeaseStep::Renew, LeaseStep::Renew));
}

#[test]
fn a_lease_that_has_run_out_by_our_own_clock_counts_only_after_a_renewal() {
    for until in [990, 1_000] {
        let mut observation = seen(view(OURS), standby_at(900, "b"));
        observation.memory.lease_valid_until = Some(second(until));
        let decision = decided(&observation);
        assert_eq!((decision.lease, decision.reason), (LeaseStep::Renew, Reason::ConfirmingLock), "{until}");
        assert_eq!(decision.wake, Wake::At(Instant::from_millis(1_000_500)), "tried again soon");
    }
}

/// An orderly stop that takes no more than half of what PID 1 leaves, looked at again soon.
fn demotes_in_time(limit: u64) -> Decision {
    let limit = Duration::from_millis(limit);
    Decision {
        postgres: PostgresStep::Stop { mode: StopMode::Fast, why: StopWhy::LostLock, limit },
        ..Decision::idle(Reason::DemotedNoDcs, Wake::At(Instant::from_millis(1_000_500)))
    }
}

#[test]
fn a_primary_that_cannot_renew_stops_within_half_the_time_that_pid_1_leaves() {
    assert_eq!(decided(&renewed(seen(view(OURS), primary()), 28)), demotes_in_time(500));
    assert_eq!(decided(&renewed(seen(view(OURS), primary()), 27)), demotes_in_time(1_000));
    assert_eq!(decided(&renewed(seen(view(OURS), primary()), 26)).postgres, PostgresStep::Leave);
    // A new agent knows only PID 1's deadline.
    let mut found = seen(view(OURS), primary());
    found.local.guard = Guard::Until(second(1_001));
    assert_eq!(decided(&found), demotes_in_time(500));
    found.local.guard = Guard::Until(second(1_002));
    assert_eq!(decided(&found), demotes_in_time(1_000));
    found.local.guard = Guard::Until(second(1_003));
    assert_eq!(decided(&found).postgres, PostgresStep::Leave);
}

#[test]
fn a_primary_that_cannot_renew_stops_in_time_whatever_its_data_look_like() {
    for broken in [DataDir::Empty, DataDir::Unusable("it cannot be read".to_owned())] {
        let mut observation = renewed(seen(view(OURS), primary()), 28);
        observation.local.data = broken;
        assert_eq!(decided(&observation), demotes_in_time(500));
    }
}

#[test]
fn a_primary_without_the_lock_says_who_has_it() {
    let other = decided(&seen(view(Some(("b", Holder::Other))), primary()));
    assert_eq!(other.reason, Reason::DemotedOtherLeader { leader: "b".into() });
    let mut lost = seen(view(OURS), primary());
    lost.memory.lock_lost = LockLost::Yes;
    assert_eq!(decided(&lost).reason, Reason::DemotedLockLost);
}

#[test]
fn a_leader_writes_the_history_that_led_to_its_timeline_and_no_other() {
    let writes = |timeline: u32, history: History| {
        let facts = PrimaryFacts { timeline: Timeline(timeline), flushed: Lsn(1_000) };
        let cluster = ClusterView { history, ..view(OURS) };
        let observation = renewed(seen(cluster, Postgres::Running(Running::Primary(facts))), 1);
        decided(&observation).documents == [DocumentStep::UpdateHistory]
    };
    let left = |timeline: u32, new_leader: Option<&str>| {
        let mut cluster = view(OURS);
        left_timeline(&mut cluster, timeline);
        let History::Known(mut entries) = cluster.history else { unreachable!("made so") };
        entries[0].new_leader = new_leader.map(Into::into);
        History::Known(entries)
    };
    for nothing in [History::Unknown, History::Known(Vec::new())] {
        assert!(!writes(1, nothing.clone()) && writes(2, nothing.clone()) && writes(3, nothing));
    }
    assert!(!writes(3, left(2, Some("a"))) && writes(4, left(2, Some("a"))) && writes(3, left(2, None)));
}

/// Nobody holds the lock, and this is what the store says of the cluster.
fn unlocked(initialize: Initialize) -> Observation {
    seen(ClusterView { initialize, ..view(None) }, primary())
}

#[test]
fn a_cluster_that_was_just_made_gets_its_identifier_and_configuration_with_the_lock() {
    let made = Decision {
        lease: LeaseStep::Acquire { seen: FREE },
        documents: vec![DocumentStep::SetInitialize(ID), DocumentStep::RestoreConfig],
        ..Decision::idle(Reason::Initialized, Wake::Now)
    };
    assert_eq!(decided(&kept_up(unlocked(Initialize::InProgress(Holder::Us)))), made);
    for initialize in [Initialize::Absent, Initialize::InProgress(Holder::Other)] {
        let mut late = unlocked(initialize);
        late.memory.bootstrapped = Some(ID);
        assert_eq!(decided(&kept_up(late)), made);
    }
}

#[test]
fn a_primary_that_finds_no_cluster_says_first_which_one_it_is() {
    for initialize in [Initialize::Absent, Initialize::Invalid("?".to_owned())] {
        let decision = decided(&unlocked(initialize));
        let documents = vec![DocumentStep::SetInitialize(ID)];
        assert_eq!(decision, Decision { documents, ..Decision::idle(Reason::AcquiredAsPrimary, Wake::Now) });
    }
    // While another makes one, only whoever knows that this one is older goes on.
    let mut claimed = unlocked(Initialize::InProgress(Holder::Other));
    assert_eq!((decided(&claimed).lease, decided(&claimed).reason), (LeaseStep::Keep, Reason::NoClusterId));
    claimed.memory.cluster = Some(ID);
    assert_eq!(decided(&claimed).lease, LeaseStep::Acquire { seen: FREE });
}

#[test]
fn a_primary_on_the_newest_timeline_takes_a_free_lock() {
    let mut observation = unlocked(Initialize::Done(ID));
    left_timeline(observation.cluster.as_mut().expect("there is a view"), 1);
    let facts = PrimaryFacts { timeline: Timeline(2), flushed: Lsn(1_000) };
    observation.local.postgres = Postgres::Running(Running::Primary(facts));
    assert_eq!(decided(&observation).lease, LeaseStep::Acquire { seen: FREE });
}

#[test]
fn the_timers_are_those_of_the_cluster() {
    let seconds = Duration::from_secs;
    let timing =
        Timing { ttl: seconds(60), loop_wait: seconds(20), retry_timeout: seconds(20), reset_before: Duration::ZERO };
    let policy = Policy { timing, ..policy() };
    let mut observation = seen(view(OURS), primary());
    let mut after = |left: u64| {
        observation.memory.lease_valid_until = Some(second(1_000 + left));
        decide(&policy, &observation)
    };
    assert_eq!((after(45).lease, after(45).wake), (LeaseStep::Keep, Wake::At(second(1_005))));
    assert_eq!((after(40).lease, after(40).wake), (LeaseStep::Renew, Wake::At(second(1_020))));
}
