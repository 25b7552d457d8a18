//! One clock for this program and for what runs in containers of the same machine: seconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment on the machine's clock.
pub type Moment = Duration;

pub fn now() -> Moment {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the machine's clock stands after 1970")
}

/// Seconds from one moment to a later one; 0 when it is not later.
pub fn seconds(from: Moment, to: Moment) -> f64 {
    to.saturating_sub(from).as_secs_f64()
}
