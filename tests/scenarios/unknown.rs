//! What cannot be looked at is not harmless: the server is judged before its data, and the lock is given up only after a
//! stop that was seen to have ended.

use tamada::core::decide;
use tamada::core::decision::{Decision, LeaseStep, PostgresStep};
use tamada::core::local::{ClusterState, DataDir, LastRole, Postgres, RecoverySignal, StopMode};
use tamada::core::observation::{Observation, Requests, ShutdownRequest};
use tamada::core::policy::{Pause, Policy};
use tamada::core::view::{Holder, Initialize};

use super::build::*;

/// What a data directory looks like whose files cannot be read, and one that was emptied.
fn broken() -> [DataDir; 2] {
    [DataDir::Unusable("it cannot be read".to_owned()), DataDir::Empty]
}

fn with(mut observation: Observation, data: DataDir) -> Observation {
    observation.local.data = data;
    observation
}

fn releases(decision: &Decision) -> bool {
    matches!(decision.lease, LeaseStep::Release { .. })
}

fn stops(decision: &Decision) -> bool {
    matches!(decision.postgres, PostgresStep::Stop { mode: StopMode::Immediate, .. })
}

#[test]
fn a_leader_that_serves_keeps_the_lock_although_its_data_cannot_be_looked_at() {
    for pause in [Pause::Running, Pause::Paused] {
        for data in broken() {
            let decision = decide(&Policy { pause, ..policy() }, &with(renewed(seen(view(OURS), primary()), 10), data));
            assert_eq!((decision.lease, decision.postgres), (LeaseStep::Renew, PostgresStep::Leave), "{pause:?}");
        }
    }
}

#[test]
fn a_primary_without_the_lock_stops_whatever_its_data_look_like() {
    for leader in [None, Some(("b", Holder::Other))] {
        for data in broken() {
            assert!(stops(&decided(&with(seen(view(leader), primary()), data))), "{leader:?}");
        }
    }
}

#[test]
fn a_standby_that_holds_the_lock_and_whose_data_cannot_be_looked_at_stops_before_it_gives_the_lock_up() {
    for data in broken() {
        let decision = decided(&with(renewed(seen(view(OURS), standby_at(900, "b")), 1), data));
        assert!(stops(&decision) && !releases(&decision), "{decision:?}");
    }
}

#[test]
fn the_lock_is_given_up_only_once_postgresql_is_seen_to_be_stopped() {
    let states = [
        primary(),
        standby_at(900, "b"),
        Postgres::Stopping,
        Postgres::Starting { since: now(), role: LastRole::Primary },
        Postgres::Starting { since: now(), role: LastRole::Standby },
        Postgres::Unresponsive { since: now(), role: LastRole::Primary },
        Postgres::Unresponsive { since: now(), role: LastRole::Standby },
    ];
    let shutdowns = [None, Some(ShutdownRequest::Graceful), Some(ShutdownRequest::Fast)];
    let whole = data(ClusterState::InProduction, RecoverySignal::None);
    for postgres in states {
        for shutdown in shutdowns {
            for data in broken().into_iter().chain([whole.clone()]) {
                for ago in [1, 29] {
                    let mut observation = with(renewed(seen(view(OURS), postgres.clone()), ago), data.clone());
                    observation.requests = Requests { shutdown, ..Requests::default() };
                    let decision = decided(&observation);
                    assert!(!releases(&decision), "{postgres:?} {shutdown:?} {data:?}: {decision:?}");
                }
            }
        }
    }
    for data in broken() {
        assert!(releases(&decided(&with(renewed(seen(view(OURS), Postgres::Stopped), 1), data))));
    }
}

#[test]
fn data_of_another_cluster_are_stopped_before_the_lock_is_given_up() {
    let mut other = view(OURS);
    other.initialize = Initialize::Done(tamada::core::units::SystemId(1));
    let running = decided(&renewed(seen(other.clone(), primary()), 1));
    assert!(stops(&running) && !releases(&running), "{running:?}");
    assert!(releases(&decided(&renewed(seen(other, Postgres::Stopped), 1))));
}

#[test]
fn an_unknown_server_is_not_replaced_by_a_clone_or_a_start() {
    for leader in [OURS, None, Some(("b", Holder::Other))] {
        for data in broken() {
            let unknown = Postgres::Unresponsive { since: now(), role: LastRole::Standby };
            let decision = decided(&with(seen(view(leader), unknown), data));
            assert_eq!(decision.postgres, PostgresStep::Leave, "{leader:?}");
        }
    }
}

#[test]
fn a_primary_that_cannot_confirm_its_lock_stops_before_pid_1_kills_it() {
    let mut found = seen(view(OURS), primary());
    found.local.guard = tamada::core::local::Guard::Until(second(1_010));
    assert_eq!((decided(&found).lease, decided(&found).postgres), (LeaseStep::Renew, PostgresStep::Leave));
    found.local.guard = tamada::core::local::Guard::Until(second(1_001));
    assert!(matches!(decided(&found).postgres, PostgresStep::Stop { mode: StopMode::Fast, .. }));
}
