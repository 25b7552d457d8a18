//! Bounded waits, with a runtime and without one. Use: `#[path = "../support/wait.rs"] mod wait;` in the test's root file.

#![allow(dead_code)]

use std::time::{Duration, Instant};

/// Enough for anything that must happen, on a busy machine too.
pub const SOON: Duration = seconds(20);

/// The pauses between two looks: short at first, since most things are there soon.
struct Pauses(Duration);

impl Pauses {
    const FIRST: Duration = Duration::from_millis(2);
    const LONGEST: Duration = Duration::from_millis(20);

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        pause
    }
}

/// Looks again and again until there is a value; fails with what the last look said. Returns the value and how long it
/// took.
pub fn eventually<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> (T, Duration) {
    let (began, mut pauses) = (Instant::now(), Pauses(Pauses::FIRST));
    loop {
        match look() {
            Ok(value) => return (value, began.elapsed()),
            Err(why) if began.elapsed() > limit => panic!("not within {limit:?}: {what}: {why}"),
            Err(_) => std::thread::sleep(pauses.next()),
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
        std::thread::sleep(Pauses::LONGEST);
    }
}

/// On a runtime: waits until the condition holds, whose every look may itself take no longer than what is left.
pub async fn within(limit: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let poll = async {
        let mut pauses = Pauses(Pauses::FIRST);
        while !holds().await {
            tokio::time::sleep(pauses.next()).await;
        }
    };
    tokio::time::timeout(limit, poll).await.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"));
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
