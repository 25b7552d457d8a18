//! A bounded wait. Use: `#[path = "../support/eventually.rs"] mod eventually;` in the test's root file.

use std::future::Future;
use std::time::Duration;

/// Enough for anything that must happen, on a busy machine too.
pub const SOON: Duration = Duration::from_secs(20);

/// Wait, for a bounded time, until it is so.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let poll = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, poll).await.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"));
}
