//! What can be injected into the in-process store, on tokio's paused clock.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tamada::core::lock_seen::LockSeen;
use tamada::core::policy::Timing;
use tamada::dcs::memory::{Fault, MemoryDcs, MemoryStore};
use tamada::dcs::{Content, Dcs, DcsError, Expect, Key, Seen};
use tokio::time::{Instant, timeout};

const LIMIT: Duration = Duration::from_secs(5);

fn member(store: &MemoryStore, name: &str) -> Arc<MemoryDcs> {
    Arc::new(MemoryDcs::new(store, name.into(), Timing::default()))
}

/// How long a read took, and whether it was answered.
async fn read(dcs: &MemoryDcs) -> (Duration, bool) {
    let began = Instant::now();
    let answer = dcs.read(LIMIT).await;
    assert!(matches!(answer, Ok(_) | Err(DcsError::Unreachable { .. })), "{answer:?}");
    (began.elapsed(), answer.is_ok())
}

#[tokio::test(start_paused = true)]
async fn each_fault_takes_its_time() {
    let dcs = member(&MemoryStore::new(), "n1");
    let slow = Duration::from_secs(2);
    let cases = [
        (Fault::None, Duration::ZERO, true),
        (Fault::Unreachable, Duration::ZERO, false),
        (Fault::Hang, LIMIT, false),
        (Fault::Latency(slow), slow, true),
        (Fault::Latency(LIMIT * 2), LIMIT, false),
        (Fault::AnswerLost, LIMIT, false),
    ];
    for (fault, takes, answered) in cases {
        dcs.inject(fault);
        let (took, is_answered) = read(&dcs).await;
        assert_eq!((took.as_secs(), is_answered), (takes.as_secs(), answered), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_a_deed_done_and_a_hanging_call_is_none() {
    let store = MemoryStore::new();
    let dcs = member(&store, "n1");
    dcs.inject(Fault::Hang);
    assert!(dcs.acquire(LockSeen::default(), LIMIT).await.is_err());
    assert_eq!(store.get_raw("leader"), None);
    dcs.inject(Fault::AnswerLost);
    assert!(dcs.acquire(LockSeen::default(), LIMIT).await.is_err());
    assert_eq!(store.get_raw("leader").as_deref(), Some("n1"));
    dcs.inject(Fault::None);
    assert!(dcs.renew(None, None, LIMIT).await.expect("there is no fault").is_held());
}

#[tokio::test(start_paused = true)]
async fn an_outage_and_its_end_wake_and_what_happens_meanwhile_does_not() {
    let store = MemoryStore::new();
    let (dcs, other) = (member(&store, "n1"), member(&store, "n2"));
    let version = dcs.snapshot(LIMIT).await.expect("there is no fault").version;
    let wait = || {
        let dcs = dcs.clone();
        tokio::spawn(async move { timeout(LIMIT, dcs.wait_for_change(version)).await.is_ok() })
    };
    let waiter = wait();
    tokio::task::yield_now().await;
    dcs.inject(Fault::Unreachable);
    assert!(waiter.await.expect("no panic"), "an outage is a change");
    let waiter = wait();
    tokio::task::yield_now().await;
    let config = Content::Json(json!({"ttl": 30}));
    other.replace(Key::Config, config, Expect::AsSeen(Seen::default()), LIMIT).await.expect("there is no fault");
    assert!(!waiter.await.expect("no panic"), "nothing is seen during an outage");
    let waiter = wait();
    tokio::task::yield_now().await;
    dcs.inject(Fault::None);
    assert!(waiter.await.expect("no panic"), "its end is a change");
}

#[tokio::test(start_paused = true)]
async fn a_lost_watch_wakes_once() {
    let dcs = member(&MemoryStore::new(), "n1");
    let version = dcs.snapshot(LIMIT).await.expect("there is no fault").version;
    dcs.lose_watch();
    timeout(LIMIT, dcs.wait_for_change(version)).await.expect("a lost watch is a change");
    let version = dcs.snapshot(LIMIT).await.expect("there is no fault").version;
    assert!(timeout(LIMIT, dcs.wait_for_change(version)).await.is_err());
}
