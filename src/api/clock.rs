//! The clock that leases are measured with.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::core::units::Instant;

/// CLOCK_BOOTTIME, as the agent stamps `leader_until` and `next_cycle` with. A clock that cannot be read (no Linux
/// lacks it) counts as the end of time: every lease has run out then.
pub fn now() -> Instant {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Instant(Duration::MAX), |time| Instant(time.into()))
}
