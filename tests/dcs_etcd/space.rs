//! An etcd that is out of space.

use std::time::{Duration, Instant};

use serde_json::json;
use tamada::core::lock_seen::LockSeen;
use tamada::dcs::{Content, Dcs, DcsError, Expect, Key};

use super::etcd::Etcd;
use super::{SOON, eventually, in_time, member, record, status};

const QUOTA: u64 = 2 * 1024 * 1024;

#[tokio::test]
async fn writes_that_a_full_etcd_refuses_are_not_sent_again_at_once() {
    let etcd = Etcd::with_quota(QUOTA);
    let (leader, other) = (member(&etcd.config(), "n1"), member(&etcd.config(), "n2"));
    assert!(leader.acquire(LockSeen::default(), SOON).await.expect("etcd answers").is_held());
    etcd.fill();
    let before = etcd.refusals();
    let full = |answer: Result<(), DcsError>| assert!(matches!(answer, Err(DcsError::Full { .. })), "{answer:?}");
    let began = Instant::now();
    let mut calls = 0;
    while began.elapsed() < Duration::from_secs(4) {
        full(in_time(SOON, other.publish(&record(), SOON)).await);
        full(in_time(SOON, other.acquire(LockSeen::default(), SOON)).await.map(|_| ()));
        full(other.replace(Key::Config, Content::Json(json!({})), Expect::Anything, SOON).await);
        // The lock is kept, with something to write and without.
        assert!(leader.renew(Some(&status(calls)), Some(&record()), SOON).await.expect("etcd answers").is_held());
        assert!(leader.renew(None, None, SOON).await.expect("etcd answers").is_held());
        calls += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(calls > 20, "{calls} calls");
    let refused = etcd.refusals() - before;
    assert!((2..=8).contains(&refused), "{refused} writes were sent by two members in 4 s");
    etcd.make_room();
    eventually("writes are taken again", || async { other.publish(&record(), SOON).await.is_ok() }).await;
    eventually("the leader's too", || async {
        leader.renew(Some(&status(1)), None, SOON).await.is_ok_and(|lock| lock.is_held())
            && other.read(SOON).await.is_ok_and(|seen| seen.view.status == status(1))
    })
    .await;
}
