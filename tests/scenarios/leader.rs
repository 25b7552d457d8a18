//! A primary with, or suddenly without, the lock.

use tamada::core::decision::{Decision, DocumentStep, LeaseStep, PostgresStep, Question, Wake};
use tamada::core::local::{Guard, StopMode, StopWhy};
use tamada::core::observation::LockLost;
use tamada::core::reason::Reason;
use tamada::core::view::{AfterPromote, ConfigKey, Holder, Initialize};

use super::build::*;

const OURS: Option<(&str, Holder)> = Some(("a", Holder::Us));

#[test]
fn a_leader_renews_when_loop_wait_has_passed_and_does_nothing_else() {
    let decision = decided(&renewed(seen(view(OURS), primary()), 10));
    let leading = Decision::idle(Reason::Leading { name: "a".into() }, Wake::At(second(1_010)));
    assert_eq!(decision, Decision { lease: LeaseStep::Renew, ..leading });
}

#[test]
fn between_two_renewals_a_leader_only_waits() {
    let decision = decided(&renewed(seen(view(OURS), primary()), 4));
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
    let decision = decided(&seen(view(None), primary()));
    assert_eq!(
        decision,
        Decision { lease: LeaseStep::Acquire { seen: None }, ..Decision::idle(Reason::AcquiredAsPrimary, Wake::Now) }
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
