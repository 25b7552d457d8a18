//! The leader key is on our lease although this agent never heard that the lock is ours.

use tamada::core::decision::{LastWord, LeaseStep};
use tamada::core::learn;
use tamada::core::local::{ClusterState, Guard, RecoverySignal};
use tamada::core::observation::{LeaseOutcome, LockLost, Outcome, RestartRequest};
use tamada::core::reason::Reason;
use tamada::core::units::Lsn;
use tamada::core::view::Holder;

use super::build::*;

#[test]
fn a_lock_that_a_late_call_has_taken_is_given_back() {
    let mut taken = seen(view(Some(("a", Holder::Us))), standby_at(500, "b"));
    assert_eq!(decided(&taken).reason, Reason::TakenUnawares);
    assert_eq!(decided(&taken).lease, LeaseStep::GiveBack { word: LastWord::Stands });
    // Seed 16175444: nobody has more than a leader that handed over but one that has led since.
    let Ok(cluster) = &mut taken.cluster else { unreachable!("there is a view") };
    (cluster.status.released_by, cluster.status.optime) = (Some("a".into()), Some(Lsn(500)));
    assert_eq!(decided(&taken).lease, LeaseStep::GiveBack { word: LastWord::Stands });
    let Ok(cluster) = &mut taken.cluster else { unreachable!("there is a view") };
    cluster.status.optime = Some(Lsn(499));
    assert_eq!(decided(&taken).lease, LeaseStep::GiveBack { word: LastWord::IsOver });
    // A former agent may have told PostgreSQL to promote: that was under a lock that it had.
    taken.local.guard = Guard::Until(second(1_005));
    assert_eq!(decided(&taken).reason, Reason::ConfirmingLock);
}

/// Seeds 2044952 and 2010970: somebody has led since this server was shut down as a primary.
#[test]
fn a_former_primary_gives_a_lock_back_that_was_given_up_since_it_led() {
    let mut at_rest = stopped(OURS, ClusterState::ShutDown, RecoverySignal::None);
    assert_eq!(decided(&at_rest).reason, Reason::ConfirmingLock);
    let Ok(cluster) = &mut at_rest.cluster else { unreachable!("there is a view") };
    cluster.status.released_by = Some("b".into());
    assert_eq!(decided(&at_rest).reason, Reason::TakenUnawares);
    let Ok(cluster) = &mut at_rest.cluster else { unreachable!("there is a view") };
    (cluster.status.released_by, cluster.status.gave_way) = (None, Some("a".into()));
    assert_eq!(decided(&at_rest).reason, Reason::TakenUnawares);
}

/// Seed 3002111: the answer to the call that took it again was lost, after one that had said that it was gone.
#[test]
fn a_lock_that_was_lost_and_is_on_our_lease_again_is_given_back_by_a_former_primary() {
    let mut taken = seen(view(OURS), standby_at(500, "b"));
    taken.memory.lock_lost = LockLost::Yes;
    let (lease, reason) = (LeaseOutcome::None, Reason::Released);
    let outcome = Outcome { now: now(), lease, started: None, asked: None, reason };
    taken.memory = learn(taken.memory.clone(), &taken, &outcome);
    assert_eq!(decided(&taken).reason, Reason::TakenUnawares);
    let mut leads = seen(view(OURS), primary());
    leads.memory.lock_lost = LockLost::Yes;
    assert_eq!(learn(leads.memory.clone(), &leads, &outcome).lock_lost, LockLost::Yes, "it stops first");
}

/// Seed 2010970.
#[test]
fn a_restart_that_was_asked_for_confirms_no_lock_that_a_late_call_has_taken() {
    let mut taken = seen(view(OURS), standby_at(500, "b"));
    taken.requests.restart = Some(RestartRequest { timeout: None });
    assert_eq!(decided(&taken).reason, Reason::TakenUnawares);
    let mut at_rest = stopped(OURS, ClusterState::ShutDownInRecovery, RecoverySignal::Present);
    at_rest.requests.restart = taken.requests.restart;
    assert_eq!(decided(&at_rest).reason, Reason::TakenUnawares);
    assert_eq!(decided(&renewed(taken, 1)).reason, Reason::Restarting);
}
