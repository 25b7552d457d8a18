//! The agent's two clocks. Everything that concerns the lease counts on the monotonic one, time asleep included; civil
//! time is for schedules and for people.
//!
//! A trait because tests run the same loop on tokio's paused clock.

use std::time::Duration;

use futures_util::future::BoxFuture;
use nix::time::{ClockId, clock_gettime};

use super::alarm::SystemAlarm;
use crate::core::units::{Instant, WallTime};

pub trait Clock: Send + Sync + 'static {
    /// Monotonic, suspend included.
    fn now(&self) -> Instant;
    fn wall(&self) -> WallTime;
    /// For the loop's long waits. Needs the runtime.
    fn alarm(&self) -> Box<dyn Alarm>;
}

pub trait Alarm: Send + Sync {
    /// Returns at this instant, or at once if it has passed.
    fn at(&mut self, at: Instant) -> BoxFuture<'_, ()>;
}

/// CLOCK_BOOTTIME, the clock that PID 1 keeps its deadline on too, and CLOCK_REALTIME.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has had CLOCK_BOOTTIME since 2.6.39");
        Instant(Duration::from(time))
    }

    fn wall(&self) -> WallTime {
        let time = clock_gettime(ClockId::CLOCK_REALTIME).expect("every system has CLOCK_REALTIME");
        WallTime(time.tv_sec() * 1_000 + time.tv_nsec() / 1_000_000)
    }

    fn alarm(&self) -> Box<dyn Alarm> {
        Box::new(SystemAlarm::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_goes_back_and_is_not_civil_time() {
        let clock = SystemClock;
        let first = clock.now();
        assert!(clock.now() >= first);
        assert!(clock.wall().0 > 1_700_000_000_000);
    }
}
