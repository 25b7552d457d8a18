//! Waiting for something, within bounds.

use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(20);

/// Looks again and again until there is a value; fails with what the last look said. Returns the value and how long it
/// took.
pub fn eventually<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> (T, Duration) {
    let began = Instant::now();
    loop {
        match look() {
            Ok(value) => return (value, began.elapsed()),
            Err(why) if began.elapsed() > limit => panic!("not within {limit:?}: {what}: {why}"),
            Err(_) => std::thread::sleep(STEP),
        }
    }
}

/// The same for a condition.
pub fn until(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    eventually(limit, what, || if holds() { Ok(()) } else { Err("it does not hold".to_owned()) }).1
}

/// Fails as soon as the condition does not hold, for so long.
pub fn always(during: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < during {
        assert!(holds(), "after {:?}: {what}", began.elapsed());
        std::thread::sleep(STEP);
    }
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
