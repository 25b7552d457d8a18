//! The lock: who gets it, who keeps it, who loses it.

use std::sync::Arc;

use futures_util::future::join_all;
use tamada::core::lock_seen::{LockSeen, StatusSeen};
use tamada::core::view::{Holder, Leader};
use tamada::dcs::{Dcs, LeaseToken, Lock};

use super::{SOON, World, eventually, record, status, timing};

pub(super) async fn exactly_one_of_many_racers_gets_the_lock<W: World>() {
    let world = W::open().await;
    let racers: Vec<_> = (0..12).map(|at| world.member(&format!("n{at}"))).collect();
    for _ in 0..3 {
        let locks = join_all(racers.iter().map(|racer| racer.acquire(LockSeen::default(), SOON))).await;
        let held: Vec<_> = locks.into_iter().map(|lock| lock.expect("the store answers").is_held()).collect();
        assert_eq!(held.iter().filter(|held| **held).count(), 1);
        let winner = held.iter().position(|held| *held).expect("there is one");
        let snapshot = racers[winner].read(SOON).await.expect("the store answers");
        let name = format!("n{winner}");
        let expected = Leader { name: name.as_str().into(), holder: Holder::Us };
        assert_eq!(snapshot.view.leader, Some(expected));
        assert!(racers[winner].acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
        racers[winner].release(None, None, SOON).await.expect("the store answers");
    }
}

pub(super) async fn a_lock_without_renewal_is_free_after_its_ttl_and_so_is_the_record<W: World>() {
    let world = W::open().await;
    let (first, second) = (world.resume("n1", timing(2), None), world.member("n2"));
    assert!(first.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
    first.publish(&record("running"), SOON).await.expect("the store answers");
    assert_eq!(second.acquire(LockSeen::default(), SOON).await.expect("the store answers"), Lock::NotHeld);
    let second = Arc::new(second);
    eventually("the lock is free", || {
        let second = second.clone();
        async move { second.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held() }
    })
    .await;
    let snapshot = second.read(SOON).await.expect("the store answers");
    assert_eq!(snapshot.view.members.len(), usize::from(W::ANNOTATIONS));
    assert_eq!(first.renew(None, None, SOON).await.expect("the store answers"), Lock::NotHeld);
}

/// Somebody has held it since, and has given it up again.
pub(super) async fn a_free_lock_is_not_taken_by_what_was_read_before_another_led<W: World>() {
    let world = W::open().await;
    let (first, second) = (world.member("n1"), world.member("n2"));
    for has_status in [false, true] {
        let seen = second.read(SOON).await.expect("the store answers").view.lock_and_status_seen();
        assert_eq!(seen.lock.is_some(), W::ANNOTATIONS && has_status);
        assert_eq!(seen.status != StatusSeen::Absent, has_status);
        assert!(first.acquire(seen, SOON).await.expect("the store answers").is_held());
        first.release(Some(&status(7 + u64::from(has_status))), None, SOON).await.expect("the store answers");
        assert_eq!(second.acquire(seen, SOON).await.expect("the store answers"), Lock::NotHeld);
        // What the refusal told is known.
        let now = second.snapshot(SOON).await.expect("the store answers").view.lock_and_status_seen();
        assert_ne!(now, seen);
        assert!(second.acquire(now, SOON).await.expect("the store answers").is_held());
        second.release(None, None, SOON).await.expect("the store answers");
    }
}

pub(super) async fn renewal_notices_that_the_key_was_deleted<W: World>() {
    let mut world = W::open().await;
    let member = world.member("n1");
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
    assert!(member.renew(None, None, SOON).await.expect("the store answers").is_held());
    world.delete("leader").await;
    assert_eq!(member.renew(Some(&status(7)), None, SOON).await.expect("the store answers"), Lock::NotHeld);
    assert_eq!(world.get("status").await, None);
}

pub(super) async fn renewal_notices_that_the_key_was_overwritten<W: World>() {
    let mut world = W::open().await;
    let member = world.member("n1");
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
    world.put("leader", "n2").await;
    assert_eq!(member.renew(Some(&status(7)), None, SOON).await.expect("the store answers"), Lock::NotHeld);
    let leader = member.snapshot(SOON).await.expect("the store answers").view.leader.clone();
    assert_eq!(leader, Some(Leader { name: "n2".into(), holder: Holder::Other }));
    assert_eq!(world.get("status").await, None);
}

pub(super) async fn our_name_on_another_lease_is_anothers_lock<W: World>() {
    let mut world = W::open().await;
    let (ours, double) = (world.member("n1"), world.member("n1"));
    assert!(double.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
    assert_eq!(ours.acquire(LockSeen::default(), SOON).await.expect("the store answers"), Lock::NotHeld);
    assert_eq!(ours.renew(Some(&status(7)), None, SOON).await.expect("the store answers"), Lock::NotHeld);
    ours.release(Some(&status(7)), None, SOON).await.expect("the store answers");
    let leader = ours.read(SOON).await.expect("the store answers").view.leader.clone();
    assert_eq!(leader, Some(Leader { name: "n1".into(), holder: Holder::Other }));
    assert_eq!(world.get("leader").await.as_deref(), Some("n1"));
    assert_eq!(world.get("status").await, None);
    assert!(double.renew(None, None, SOON).await.expect("the store answers").is_held());
}

pub(super) async fn a_second_process_goes_on_with_the_lease_of_the_first<W: World>() {
    let world = W::open().await;
    let first = world.member("n1");
    assert!(first.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
    first.publish(&record("running"), SOON).await.expect("the store answers");
    let lease = first.lease();
    assert!(lease.is_some());
    drop(first);
    let second = world.resume("n1", timing(30), lease.as_ref());
    let leader = second.snapshot(SOON).await.expect("the store answers").view.leader.clone();
    assert_eq!(leader, Some(Leader { name: "n1".into(), holder: Holder::Us }));
    assert!(second.renew(None, None, SOON).await.expect("the store answers").is_held());
    second.publish(&record("running"), SOON).await.expect("the store answers");
    assert!(
        second.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held(),
        "the lock is on the lease of the first"
    );
}

pub(super) async fn a_lease_that_is_gone_is_replaced<W: World>() {
    let world = W::open().await;
    let gone = LeaseToken::new("6e6a5b1e34e");
    let member = world.resume("n1", timing(30), gone.as_ref());
    assert_eq!(member.renew(None, None, SOON).await.expect("the store answers"), Lock::NotHeld);
    member.publish(&record("running"), SOON).await.expect("the store answers");
    assert_ne!(member.lease(), gone);
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
}

pub(super) async fn a_new_ttl_keeps_lock_and_record<W: World>() {
    let world = W::open().await;
    let (member, witness) = (world.resume("n1", timing(2), None), world.resume("n3", timing(2), None));
    let watcher = Arc::new(world.member("n2"));
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
    member.publish(&record("running"), SOON).await.expect("the store answers");
    let old = member.lease();
    member.set_timing(timing(60));
    assert!(member.renew(None, None, SOON).await.expect("the store answers").is_held());
    assert_eq!(member.lease() == old, W::ANNOTATIONS, "where keys hang on a lease it is another one");
    if W::ANNOTATIONS {
        return;
    }
    // The witness's lease is younger than the old one: when it has run out, nothing hangs on the old one any more.
    witness.publish(&record("running"), SOON).await.expect("the store answers");
    eventually("the witness is gone and the record is not", || {
        let watcher = watcher.clone();
        async move {
            let members = &watcher.read(SOON).await.expect("the store answers").view.members;
            assert!(members.contains_key(&"n1".into()));
            members.len() == 1
        }
    })
    .await;
    assert!(member.renew(None, None, SOON).await.expect("the store answers").is_held());
    member.set_timing(timing(2));
    member.publish(&record("running"), SOON).await.expect("the store answers");
    eventually("the shorter ttl holds", || {
        let watcher = watcher.clone();
        async move { watcher.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held() }
    })
    .await;
}

pub(super) async fn release_gives_up_the_lock_and_leaves_the_last_status<W: World>() {
    let mut world = W::open().await;
    let member = world.member("n1");
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
    member.publish(&record("running"), SOON).await.expect("the store answers");
    let mut last = status(67_108_960);
    last.released_by = Some("n1".into());
    member.release(Some(&last), Some(&record("stopped")), SOON).await.expect("the store answers");
    assert_eq!(world.get("leader").await, None);
    assert_eq!(world.get("members/n1").await, Some(record("stopped").to_string()));
    let snapshot = member.snapshot(SOON).await.expect("the store answers");
    assert_eq!(snapshot.view.leader, None);
    assert_eq!(snapshot.view.status, last);
    assert_eq!(snapshot.view.members.len(), 1);
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
}

pub(super) async fn releasing_what_is_not_ours_changes_nothing<W: World>() {
    let mut world = W::open().await;
    let (holder, other) = (world.member("n1"), world.member("n2"));
    assert!(holder.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
    other.publish(&record("running"), SOON).await.expect("the store answers");
    other.release(Some(&status(5)), Some(&record("stopped")), SOON).await.expect("the store answers");
    assert_eq!(world.get("leader").await.as_deref(), Some("n1"));
    assert_eq!(world.get("status").await, None);
    assert_eq!(world.get("members/n2").await, Some(record("running").to_string()));
}
