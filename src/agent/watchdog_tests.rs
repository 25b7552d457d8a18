use std::sync::Mutex;

use super::*;
use crate::core::local::{Guard, Watchdog as Seen};
use crate::dcs::LeaseToken;

const NOW: Instant = Instant::from_millis(1_000_000);
const UNTIL: Instant = Instant::from_millis(1_030_000);

#[derive(Default)]
struct Recorder(Mutex<Vec<WatchdogOrder>>);

impl InitLink for Recorder {
    fn guard(&self, _guard: Guard) {}
    fn lease(&self, _token: &LeaseToken) {}
    fn postmaster(&self, _pid: Option<i32>) {}
    fn watchdog(&self, order: WatchdogOrder) {
        self.0.lock().unwrap().push(order);
    }
}

fn config(mode: WatchdogMode) -> WatchdogConfig {
    WatchdogConfig { mode, device: "/dev/watchdog".into(), safety_margin: Some(5) }
}

fn watchdog(mode: WatchdogMode) -> (Watchdog, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    (Watchdog::new(recorder.clone(), config(mode)), recorder)
}

fn said(recorder: &Recorder) -> Vec<WatchdogOrder> {
    std::mem::take(&mut recorder.0.lock().unwrap())
}

fn keep(need: Need, timeout: u16, by: Instant) -> WatchdogOrder {
    let by = u64::try_from(by.0.as_nanos()).unwrap();
    WatchdogOrder::Keep { device: Device::new(b"/dev/watchdog").unwrap(), need, timeout, by }
}

fn at(seconds: u64) -> Instant {
    NOW + Duration::from_secs(seconds)
}

#[test]
fn the_longest_path_fits_into_a_message() {
    assert_eq!(crate::config::WATCHDOG_DEVICE_MAX, crate::wire::watchdog::DEVICE_MAX);
}

#[test]
fn it_follows_the_renewals_and_ends_with_the_lease_at_the_latest() {
    let timing = Timing::default();
    let (mut watchdog, recorder) = watchdog(WatchdogMode::Required);
    assert_eq!(watchdog.seen(), Seen::Unknown);
    watchdog.renewed(UNTIL, &timing, NOW);
    assert_eq!(said(&recorder), [keep(Need::Required, 25, at(5))], "five seconds later its end would be the lease's");
    watchdog.heard(WatchdogState::Armed { timeout: 25 }, &timing);
    assert_eq!(watchdog.seen(), Seen::Active);
    assert_eq!(watchdog.reset_before(&timing), Duration::from_secs(5));
    // A renewal whose answer took long.
    watchdog.renewed(UNTIL, &timing, at(6));
    assert_eq!((said(&recorder), watchdog.seen()), (vec![], Seen::Active));
    watchdog.renewed(UNTIL + Duration::from_secs(10), &timing, at(10));
    assert_eq!(said(&recorder).len(), 1);
    watchdog.lift();
    watchdog.lift();
    assert_eq!((said(&recorder), watchdog.seen()), (vec![WatchdogOrder::Disarm], Seen::Unknown));
}

#[test]
fn what_an_agent_before_this_one_has_armed_is_disarmed() {
    let (mut watchdog, recorder) = watchdog(WatchdogMode::Automatic);
    watchdog.lift();
    assert_eq!(said(&recorder), [WatchdogOrder::Disarm]);
}

#[test]
fn a_failure_holds_until_the_configuration_is_read_again() {
    let timing = Timing::default();
    let later = WatchdogState::Armed { timeout: 60 };
    let short = WatchdogState::Armed { timeout: 9 };
    for answer in [WatchdogState::Failed, later, short] {
        let (mut watchdog, recorder) = watchdog(WatchdogMode::Required);
        watchdog.renewed(UNTIL, &timing, NOW);
        watchdog.heard(answer, &timing);
        assert_eq!(watchdog.seen(), Seen::Failed);
        assert_eq!(said(&recorder).last(), Some(&WatchdogOrder::Disarm));
        watchdog.renewed(UNTIL, &timing, NOW);
        watchdog.check(at(60));
        assert_eq!(said(&recorder), []);
        watchdog.reloaded(&config(WatchdogMode::Required));
        assert_eq!(watchdog.seen(), Seen::Unknown);
    }
    let (mut automatic, recorder) = watchdog(WatchdogMode::Automatic);
    automatic.renewed(UNTIL, &timing, NOW);
    automatic.heard(later, &timing);
    assert_eq!(automatic.state, State::Active, "one that may be late is better than none");
    automatic.reloaded(&config(WatchdogMode::Off));
    assert_eq!(said(&recorder).last(), Some(&WatchdogOrder::Disarm));
    automatic.renewed(UNTIL, &timing, NOW);
    assert_eq!(said(&recorder), []);
}

#[test]
fn timers_without_room_for_it_leave_it_out() {
    let (mut watchdog, recorder) = watchdog(WatchdogMode::Required);
    let seconds = Duration::from_secs;
    let tight = Timing { ttl: seconds(14), ..Timing::default() };
    watchdog.renewed(UNTIL, &tight, NOW);
    assert_eq!((said(&recorder), watchdog.seen()), (vec![WatchdogOrder::Disarm], Seen::Failed));
    watchdog.renewed(UNTIL, &Timing::default(), NOW);
    assert_eq!(said(&recorder).len(), 1, "the cluster's ttl was raised");
}

#[test]
fn a_member_that_could_not_lead_says_so_before_it_tries() {
    let timing = Timing::default();
    let (mut watchdog, recorder) = watchdog(WatchdogMode::Required);
    let check = WatchdogOrder::Check(Device::new(b"/dev/watchdog").unwrap());
    watchdog.check(NOW);
    watchdog.check(NOW);
    assert_eq!(said(&recorder), [check]);
    watchdog.heard(WatchdogState::Unusable, &timing);
    assert_eq!(watchdog.seen(), Seen::Failed);
    watchdog.check(at(1));
    assert_eq!(said(&recorder), [check], "it may be there by now");
    watchdog.heard(WatchdogState::Usable, &timing);
    assert_eq!(watchdog.seen(), Seen::Usable);
}

#[test]
fn a_pid_1_that_says_nothing_counts_as_a_failure() {
    let (mut watchdog, _recorder) = watchdog(WatchdogMode::Required);
    watchdog.renewed(UNTIL, &Timing::default(), NOW);
    watchdog.check(at(4));
    assert_eq!(watchdog.seen(), Seen::Usable);
    watchdog.check(at(5));
    assert_eq!(watchdog.seen(), Seen::Failed);
}
