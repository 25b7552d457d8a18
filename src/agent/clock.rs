//! The agent's two clocks. Everything that concerns the lease counts on the monotonic one, time asleep included; civil
//! time is for schedules and for people.
//!
//! A trait because tests run the same loop on tokio's paused clock.

use nix::time::{ClockId, clock_gettime};

pub use super::alarm::Alarm;
use super::alarm::SystemAlarm;
use crate::boottime;
use crate::core::units::{Instant, WallTime};

pub trait Clock: Send + Sync + 'static {
    /// Monotonic, suspend included.
    fn now(&self) -> Instant;
    fn wall(&self) -> WallTime;
    /// For the loop's long waits. Needs the runtime.
    fn alarm(&self) -> Box<dyn Alarm>;
}

/// CLOCK_BOOTTIME, the clock that PID 1 keeps its deadline on too, and CLOCK_REALTIME.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        boottime::now()
    }

    fn wall(&self) -> WallTime {
        let time = clock_gettime(ClockId::CLOCK_REALTIME).expect("every system has CLOCK_REALTIME");
        WallTime(time.tv_sec() * 1_000 + time.tv_nsec() / 1_000_000)
    }

    fn alarm(&self) -> Box<dyn Alarm> {
        Box::new(SystemAlarm::new(|| SystemClock.now()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_monotonic_clock_never_goes_back_and_is_not_civil_time() {
        let clock = SystemClock;
        let first = clock.now();
        assert!(clock.now() >= first);
        assert!(clock.wall().0 > 1_700_000_000_000);
    }

    #[tokio::test]
    async fn the_alarm_rings_in_time_each_time_and_at_once_for_what_has_passed() {
        let mut alarm = SystemClock.alarm();
        let soon = SystemClock.now() + Duration::from_millis(50);
        // One that nobody waits for any more leaves nothing behind.
        let early = SystemClock.now() + Duration::from_millis(1);
        let _given_up = tokio::time::timeout(Duration::ZERO, alarm.at(early)).await;
        std::thread::sleep(Duration::from_millis(5));
        alarm.at(soon).await;
        assert!(SystemClock.now() >= soon);
        for past in [Instant(Duration::ZERO), soon] {
            tokio::time::timeout(Duration::from_secs(5), alarm.at(past)).await.expect("it has passed");
        }
    }
}
