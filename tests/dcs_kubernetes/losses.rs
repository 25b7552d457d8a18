//! An API server whose data are older than what was seen, or another cluster's.

use std::time::Duration;

use tamada::core::lock_seen::LockSeen;
use tamada::dcs::{Dcs, DcsError};

use super::{SOON, World, eventually, record, status};

#[tokio::test]
async fn a_restored_server_is_noticed_and_says_nothing_about_the_lock_before() {
    let world = World::open();
    let member = world.member("n1");
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    member.publish(&record("running"), SOON).await.expect("the server answers");
    let backup = world.api.snapshot();
    for optime in 1..=20 {
        assert!(member.renew(Some(&status(optime)), None, SOON).await.expect("the server answers").is_held());
    }
    member.snapshot(SOON).await.expect("the server answers");
    world.api.restore(&backup);
    eventually("the loss is noticed", async || {
        matches!(member.renew(None, None, SOON).await, Err(DcsError::Forgot { .. }))
    })
    .await;
    let seen = member.snapshot(SOON).await.expect("the server answers");
    assert_eq!(seen.losses, 1);
    assert!(member.renew(None, None, SOON).await.expect("the server answers").is_held());
}

#[tokio::test]
async fn a_later_process_notices_what_was_lost_meanwhile() {
    let world = World::open();
    let (member, other) = (world.member("n1"), world.other("n2", 30));
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    let backup = world.api.snapshot();
    member.release(Some(&status(7)), None, SOON).await.expect("the server answers");
    assert!(other.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    eventually("the new leader is seen", async || {
        let seen = member.snapshot(SOON).await.expect("the server answers");
        seen.view.leader.as_ref().is_some_and(|leader| leader.name.as_str() == "n2")
    })
    .await;
    let token = member.lease();
    drop(member);
    world.api.restore(&backup);
    let later = world.resume("n1", 30, token.as_ref());
    assert_eq!(later.snapshot(SOON).await.expect("the server answers").losses, 1);
    let token = later.lease_after_loss();
    drop(later);
    let again = world.resume("n1", 30, token.as_ref());
    assert_eq!(again.snapshot(SOON).await.expect("the server answers").losses, 1);
    let fresh = world.resume("n1", 30, again.lease().as_ref());
    assert_eq!(fresh.snapshot(SOON).await.expect("the server answers").losses, 0);
}

#[tokio::test]
async fn another_server_behind_the_same_name_is_a_loss() {
    let world = World::open();
    let member = world.member("n1");
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    for optime in 1..=20 {
        member.renew(Some(&status(optime)), None, SOON).await.expect("the server answers");
    }
    world.api.wipe();
    world.put_pods();
    let began = std::time::Instant::now();
    eventually("the loss is noticed", async || member.snapshot(SOON).await.is_ok_and(|seen| seen.losses == 1)).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(world.leader(), None);
}
