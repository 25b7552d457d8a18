//! One clock for this program and for what runs in containers of the same machine: seconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

/// A moment on the machine's clock.
pub type Moment = Duration;

pub fn now() -> Moment {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the machine's clock stands after 1970")
}

/// What Bash has in EPOCHREALTIME, with the decimal point of its locale.
pub fn from_shell(text: &str) -> Result<Moment> {
    Ok(Duration::try_from_secs_f64(text.replace(',', ".").parse()?)?)
}

/// Seconds from one moment to a later one; 0 when it is not later.
pub fn seconds(from: Moment, to: Moment) -> f64 {
    to.saturating_sub(from).as_secs_f64()
}
