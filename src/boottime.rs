//! The one clock that leases, deadlines and intervals are measured on: the time since boot, suspend included.
//!
//! PID 1, the agent and the API compare points of time with each other, so they all have to read this clock.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::core::units::Instant;

/// CLOCK_BOOTTIME.
///
/// # Panics
///
/// Where the kernel has no such clock. Linux has had it since 2.6.39, and nothing here could be kept without it.
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has had CLOCK_BOOTTIME since 2.6.39").into()
}

/// The same as a point of time.
pub fn now() -> Instant {
    Instant(since_boot())
}
