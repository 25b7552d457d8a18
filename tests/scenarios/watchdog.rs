//! A member that must not lead without a watchdog device.

use std::time::Duration;

use tamada::core::decide;
use tamada::core::decision::{Decision, LeaseStep, PostgresStep};
use tamada::core::local::{ClusterState, Postgres, RecoverySignal, StartAs, StopMode, StopWhy, Watchdog};
use tamada::core::observation::{Observation, RestartRequest};
use tamada::core::policy::{Pause, Policy};
use tamada::core::reason::Reason;
use tamada::core::view::Initialize;

use super::build::*;

const RELEASED: LeaseStep = LeaseStep::Release { last_position: None };

fn with(watchdog: Watchdog, mut observation: Observation) -> Observation {
    observation.local.watchdog = watchdog;
    observation
}

fn stops(decision: &Decision) -> bool {
    let (wanted, reason) = ((StopMode::Immediate, StopWhy::LostLock), Reason::WatchdogDemoting);
    matches!(decision.postgres, PostgresStep::Stop { mode, why, .. } if (mode, why) == wanted)
        && decision.lease == LeaseStep::Keep
        && decision.reason == reason
}

#[test]
fn a_standby_with_the_lock_promotes_only_with_the_watchdog() {
    let ours = |watchdog| with(watchdog, renewed(seen(view(OURS), standby_at(500, "b")), 0));
    assert_eq!(decided(&ours(Watchdog::Active)).postgres, PostgresStep::Promote);
    assert_eq!(decided(&ours(Watchdog::NotRequired)).postgres, PostgresStep::Promote);
    let awaits = decided(&ours(Watchdog::Usable));
    assert_eq!((awaits.postgres, awaits.reason), (PostgresStep::Leave, Reason::AwaitingWatchdog));
    let failed = decided(&ours(Watchdog::Failed));
    assert_eq!((failed.lease, failed.reason), (RELEASED, Reason::WatchdogNotPromoting));
    // Where PID 1 has a deadline a former agent may have begun a promotion.
    let mut guarded = ours(Watchdog::Failed);
    guarded.local.guard = tamada::core::local::Guard::Until(second(1_020));
    assert!(matches!(decided(&guarded).postgres, PostgresStep::Stop { .. }));
    assert_eq!(decided(&guarded).lease, LeaseStep::Keep);
}

#[test]
fn a_leader_whose_watchdog_fails_stops_and_then_gives_the_lock_up() {
    let leads = |watchdog| with(watchdog, renewed(seen(view(OURS), primary()), 0));
    assert!(stops(&decided(&leads(Watchdog::Failed))));
    for fine in [Watchdog::NotRequired, Watchdog::Unknown, Watchdog::Usable, Watchdog::Active] {
        assert_eq!(decided(&leads(fine)).postgres, PostgresStep::Leave, "{fine:?}");
    }
    let down = with(Watchdog::Failed, renewed(stopped(OURS, ClusterState::InProduction, RecoverySignal::None), 0));
    assert_eq!(decided(&down).lease, RELEASED);
    let standby =
        with(Watchdog::Failed, renewed(stopped(OURS, ClusterState::InArchiveRecovery, RecoverySignal::Present), 0));
    assert_eq!(decided(&standby).lease, RELEASED);
}

#[test]
fn a_crashed_leader_starts_in_place_only_with_the_watchdog() {
    let down = |watchdog| with(watchdog, renewed(stopped(OURS, ClusterState::InProduction, RecoverySignal::None), 0));
    assert_eq!(decided(&down(Watchdog::Active)).postgres, PostgresStep::Start(StartAs::Primary));
    let awaits = decided(&down(Watchdog::Usable));
    assert_eq!((awaits.postgres, awaits.reason), (PostgresStep::Leave, Reason::AwaitingWatchdog));
}

#[test]
fn a_restart_waits_for_it_too() {
    let asked = |watchdog| {
        let mut observation = with(watchdog, renewed(seen(view(OURS), primary()), 0));
        observation.requests.restart = Some(RestartRequest { timeout: None });
        observation
    };
    assert_eq!(decided(&asked(Watchdog::Active)).postgres, PostgresStep::Restart(StartAs::Primary));
    assert_eq!(decided(&asked(Watchdog::Usable)).postgres, PostgresStep::Leave);
    assert!(stops(&decided(&asked(Watchdog::Failed))));
}

#[test]
fn a_member_whose_watchdog_is_not_usable_takes_part_in_no_race_and_makes_no_cluster() {
    let race = |watchdog| with(watchdog, answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 400)]));
    let decision = decided(&race(Watchdog::Failed));
    assert_eq!((decision.lease, decision.reason), (LeaseStep::Keep, Reason::WatchdogUnusable));
    for fine in [Watchdog::NotRequired, Watchdog::Usable] {
        assert!(matches!(decided(&race(fine)).lease, LeaseStep::Acquire { .. }), "{fine:?}");
    }
    let decision = decided(&race(Watchdog::Unknown));
    assert_eq!((decision.lease, decision.reason), (LeaseStep::Keep, Reason::AwaitingWatchdog));
    let mut empty = with(Watchdog::Failed, seen(view(None), Postgres::Stopped));
    empty.local.data = tamada::core::local::DataDir::Empty;
    empty.cluster.as_mut().expect("a view").initialize = Initialize::Absent;
    let decision = decided(&empty);
    assert_eq!((decision.postgres, decision.reason), (PostgresStep::Leave, Reason::WatchdogUnusable));
    empty.local.watchdog = Watchdog::Unknown;
    assert_eq!(decided(&empty).postgres, PostgresStep::Leave);
    empty.local.watchdog = Watchdog::Usable;
    assert_eq!(decided(&empty).postgres, PostgresStep::Bootstrap);
}

#[test]
fn in_a_pause_it_matters_to_nobody() {
    let paused = |observation: &Observation| decide(&Policy { pause: Pause::Paused, ..policy() }, observation);
    let leads = with(Watchdog::Failed, renewed(seen(view(OURS), primary()), 0));
    assert_eq!(paused(&leads).postgres, PostgresStep::Leave);
    let mut cluster = view(OURS);
    request(&mut cluster, None, Some("a"));
    let named = with(Watchdog::Failed, renewed(seen(cluster, standby_at(500, "b")), 0));
    assert_eq!(paused(&named).postgres, PostgresStep::Promote);
}

/// The reset comes 25 s after the renewal, and PID 1's deadline 29 s.
#[test]
fn an_orderly_stop_comes_before_the_reset() {
    let mut policy = policy();
    policy.timing = policy.timing.with_watchdog(Duration::from_secs(5));
    let leads = |ago| {
        let mut observation = with(Watchdog::Active, renewed(seen(view(OURS), primary()), ago));
        observation.local.guard = tamada::core::local::Guard::Until(second(1_029 - ago));
        observation
    };
    for (ago, stops) in [(21, false), (22, true)] {
        for observation in [leads(ago), outage(leads(ago))] {
            let decision = decide(&policy, &observation);
            match decision.postgres {
                PostgresStep::Stop { mode, limit, .. } => {
                    assert!(stops && (mode, limit) == (StopMode::Fast, Duration::from_secs(1)), "{limit:?}");
                }
                step => assert!(!stops && step == PostgresStep::Leave, "{ago}: {step:?}"),
            }
        }
    }
}
