//! Who is woken by what.

use std::sync::Arc;

use serde_json::json;
use tamada::core::lock_seen::LockSeen;
use tamada::dcs::{Content, Dcs, Expect, Key, Seen};
use tokio::task::JoinHandle;

use super::{SOON, World, eventually, record, status, timing};

/// A waiter for what comes after what `member` sees now.
async fn waiter<D: Dcs>(member: &Arc<D>) -> JoinHandle<()> {
    let version = member.snapshot(SOON).await.expect("the store answers").version;
    let member = member.clone();
    let waiter = tokio::spawn(async move { member.wait_for_change(version).await });
    tokio::task::yield_now().await;
    waiter
}

async fn ends(waiter: JoinHandle<()>, what: &str) {
    let ended = tokio::time::timeout(SOON, waiter).await;
    ended.unwrap_or_else(|_| panic!("{what}: does not wake")).expect("the waiter does not panic");
}

/// Everything before this is known to `member`, because it has seen a key that nobody acts on.
async fn caught_up<W: World>(world: &mut W, member: &Arc<W::Dcs>, mark: &str) {
    world.put("history", &format!(r#"[[1,5,"{mark}"]]"#)).await;
    eventually("the mark is seen", || {
        let member = member.clone();
        async move {
            let snapshot = member.snapshot(SOON).await.expect("the store answers");
            snapshot.documents.history.as_ref().is_some_and(|history| history.value[0][2] == mark)
        }
    })
    .await;
}

pub(super) async fn others_changes_wake_and_own_ones_do_not<W: World>() {
    let mut world = W::open().await;
    let member = Arc::new(world.member("n1"));
    let other = world.member("n2");

    let sleeper = waiter(&member).await;
    let config = || Content::Json(json!({"ttl": 30}));
    member.publish(&record("running"), SOON).await.expect("the store answers");
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
    member.replace(Key::Config, config(), Expect::AsSeen(Seen::default()), SOON).await.expect("the store answers");
    member.renew(Some(&status(7)), None, SOON).await.expect("the store answers");
    member.release(Some(&status(8)), None, SOON).await.expect("the store answers");
    caught_up(&mut world, &member, "a").await;
    assert!(!sleeper.is_finished());

    assert!(other.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
    ends(sleeper, "a new leader").await;
    let sleeper = waiter(&member).await;
    other.publish(&record("starting"), SOON).await.expect("the store answers");
    ends(sleeper, "a new member").await;
    let sleeper = waiter(&member).await;
    other.publish(&record("running"), SOON).await.expect("the store answers");
    ends(sleeper, "a member's state").await;
    let sleeper = waiter(&member).await;
    world.put("members/n2", &record("running").to_string().replace("replica", "primary")).await;
    ends(sleeper, "a member's role").await;
    let sleeper = waiter(&member).await;
    other.replace(Key::Config, config(), Expect::Anything, SOON).await.expect("the store answers");
    ends(sleeper, "the configuration").await;
    let sleeper = waiter(&member).await;
    world.put("failover", r#"{"leader":"n2"}"#).await;
    ends(sleeper, "a request").await;
    let sleeper = waiter(&member).await;
    world.put("sync", r#"{"leader":"n2","sync_standby":"n1"}"#).await;
    ends(sleeper, "the synchronous standbys").await;
    let sleeper = waiter(&member).await;
    world.put("initialize", "").await;
    ends(sleeper, "a bootstrap").await;
    let sleeper = waiter(&member).await;
    other.release(None, None, SOON).await.expect("the store answers");
    ends(sleeper, "a released lock").await;
    let sleeper = waiter(&member).await;
    world.delete("members/n2").await;
    ends(sleeper, "a lost member").await;
}

pub(super) async fn what_nobody_acts_on_does_not_wake<W: World>() {
    let mut world = W::open().await;
    let member = Arc::new(world.member("n1"));
    let other = world.member("n2");
    other.acquire(LockSeen::default(), SOON).await.expect("the store answers");
    other.publish(&record("running"), SOON).await.expect("the store answers");
    caught_up(&mut world, &member, "a").await;
    let sleeper = waiter(&member).await;
    other.renew(Some(&status(7)), None, SOON).await.expect("the store answers");
    let mut moved = record("running");
    moved["xlog_location"] = json!(67_108_960);
    other.publish(&moved, SOON).await.expect("the store answers");
    world.put("unknown", "x").await;
    caught_up(&mut world, &member, "b").await;
    assert!(!sleeper.is_finished());
    sleeper.abort();
}

pub(super) async fn status_wakes_beside_a_patroni_member<W: World>() {
    let mut world = W::open().await;
    let member = Arc::new(world.member("n1"));
    world.put("members/n2", r#"{"state":"running","role":"primary","version":"4.1.4"}"#).await;
    world.put("leader", "n2").await;
    caught_up(&mut world, &member, "a").await;
    let sleeper = waiter(&member).await;
    world.put("status", r#"{"optime":7}"#).await;
    ends(sleeper, "the status").await;
    world.delete("leader").await;
    member.acquire(LockSeen::default(), SOON).await.expect("the store answers");
    caught_up(&mut world, &member, "b").await;
    let sleeper = waiter(&member).await;
    member.renew(Some(&status(9)), None, SOON).await.expect("the store answers");
    caught_up(&mut world, &member, "c").await;
    assert!(!sleeper.is_finished());
    sleeper.abort();
}

pub(super) async fn what_happened_before_the_call_wakes_at_once<W: World>() {
    let mut world = W::open().await;
    let member = Arc::new(world.member("n1"));
    let version = member.snapshot(SOON).await.expect("the store answers").version;
    world.put("leader", "n2").await;
    caught_up(&mut world, &member, "a").await;
    let waiting = tokio::time::timeout(SOON, member.wait_for_change(version));
    waiting.await.expect("it has happened already");
}

pub(super) async fn an_expired_lock_wakes<W: World>() {
    let world = W::open().await;
    let member = Arc::new(world.member("n1"));
    let other = world.resume("n2", timing(2), None);
    assert!(other.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
    assert!(member.read(SOON).await.expect("the store answers").view.leader.is_some());
    let sleeper = waiter(&member).await;
    ends(sleeper, "an expired lock").await;
    eventually("the lock is seen to be free", || {
        let member = member.clone();
        async move { member.snapshot(SOON).await.expect("the store answers").view.leader.is_none() }
    })
    .await;
}
