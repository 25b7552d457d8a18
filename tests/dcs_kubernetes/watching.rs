//! The watches: what ends them, and what is noticed all the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tamada::core::lock_seen::LockSeen;
use tamada::dcs::Dcs;

use super::kube_api::{Ending, Fault, When};
use super::{SOON, World, eventually, status};

/// Waits until this member sees that position.
async fn sees(member: &impl Dcs, optime: u64) {
    eventually("the position is seen", async || {
        let seen = member.snapshot(SOON).await;
        seen.is_ok_and(|seen| seen.view.status.optime.is_some_and(|seen| seen.0 == optime))
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_ends_or_asks_for_too_old_a_version_begins_anew() {
    let world = World::open();
    let (leader, member) = (world.other("n1", 30), world.member("n2"));
    assert!(leader.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    let mut optime = 0;
    for how in [Ending::Clean, Ending::Broken] {
        optime += 1;
        leader.renew(Some(&status(optime)), None, SOON).await.expect("the server answers");
        sees(&member, optime).await;
        world.api.drop_watches(how);
        world.api.compact();
        optime += 1;
        leader.renew(Some(&status(optime)), None, SOON).await.expect("the server answers");
        sees(&member, optime).await;
    }
}

/// The connection stays open and says nothing more: only that no renewal is seen tells of it.
#[tokio::test]
async fn a_silent_watch_is_given_up() {
    let world = World::open();
    let (leader, member) = (world.other("n1", 30), world.member("n2"));
    assert!(leader.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    leader.renew(Some(&status(1)), None, SOON).await.expect("the server answers");
    sees(&member, 1).await;
    let rule = world.proxy.add(When::any().path("watch="), Fault::Silence);
    world.proxy.remove(rule);
    let began = Instant::now();
    leader.renew(Some(&status(2)), None, SOON).await.expect("the server answers");
    sees(&member, 2).await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_outage_and_its_end_wake() {
    let world = World::open();
    let member = Arc::new(world.member("n1"));
    let version = member.snapshot(SOON).await.expect("the server answers").version;
    let sleeper = {
        let member = member.clone();
        tokio::spawn(async move { member.wait_for_change(version).await })
    };
    world.api.stop();
    tokio::time::timeout(SOON, sleeper).await.expect("the outage wakes").expect("no panic");
    let sleeper = {
        let member = member.clone();
        tokio::spawn(async move { member.wait_for_change(u64::MAX).await })
    };
    tokio::task::yield_now().await;
    world.api.restart();
    tokio::time::timeout(SOON, sleeper).await.expect("its end wakes").expect("no panic");
}
