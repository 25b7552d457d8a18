//! Who may be the leader, whatever the API server answers or does not.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::json;
use tamada::core::lock_seen::LockSeen;
use tamada::core::view::Holder;
use tamada::dcs::{Dcs, DcsError, Lock};

use super::kube_api::{Fault, Loss, When};
use super::{NAMESPACE, SLACK, SOON, World, eventually, in_time, record, status, unreachable};

fn patches() -> When {
    When::any().method(Method::PATCH).path("/configmaps/demo-leader")
}

#[tokio::test]
async fn no_error_says_that_the_lock_is_another_ones() {
    let world = World::open();
    let member = world.member("n1");
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    let deadline = Duration::from_secs(2);
    for code in [401, 404, 410, 429, 500, 502, 503, 504] {
        let rule = world.proxy.add(When::any().path("/configmaps"), Fault::Answer(code, None));
        let answer = in_time(deadline, member.renew(None, None, deadline)).await;
        assert!(answer.is_err(), "{code}: {answer:?}");
        world.proxy.remove(rule);
        assert!(member.renew(None, None, SOON).await.expect("the server answers").is_held(), "after {code}");
    }
    for fault in [Fault::LoseRequest(Loss::Hang), Fault::LoseRequest(Loss::Reset), Fault::Truncate(20)] {
        let rule = world.proxy.add(When::any().path("/configmaps"), fault.clone());
        unreachable(in_time(deadline, member.renew(None, None, deadline)).await);
        world.proxy.remove(rule);
        assert!(member.renew(None, None, SOON).await.expect("the server answers").is_held(), "after {fault:?}");
    }
}

/// A 404 that names no object, of whatever stands before the server, does not say that the lock's object is gone.
#[tokio::test]
async fn a_404_about_no_object_says_nothing_about_the_lock() {
    let world = World::open();
    let ttl = Duration::from_secs(2);
    let (member, other) = (world.resume("n1", ttl.as_secs(), None), world.member("n2"));
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    eventually("the leader is seen", async || {
        other.snapshot(SOON).await.expect("the server answers").view.leader.is_some()
    })
    .await;
    let rule = world.proxy.add(When::any().path("/configmaps"), Fault::Answer(404, None));
    let began = Instant::now();
    let deadline = Duration::from_millis(300);
    while began.elapsed() < ttl + deadline {
        unreachable(in_time(deadline, member.renew(None, None, deadline)).await);
        unreachable(in_time(deadline, other.acquire(LockSeen::default(), deadline)).await);
    }
    world.proxy.remove(rule);
    assert!(member.renew(None, None, SOON).await.expect("the server answers").is_held());
}

#[tokio::test]
async fn a_renewal_whose_answer_is_lost_is_made_again_over_what_it_wrote() {
    let world = World::open();
    let member = world.member("n1");
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    for loss in [Loss::Hang, Loss::Reset] {
        world.proxy.add(patches().once(), Fault::LoseAnswer(loss));
        let deadline = Duration::from_secs(5);
        let lock = in_time(deadline, member.renew(Some(&status(7)), None, deadline)).await;
        assert!(lock.expect("the server answers").is_held(), "{loss:?}");
        world.proxy.clear();
    }
    assert_eq!(world.annotation("configmaps", "demo-leader", "optime").as_deref(), Some("7"));
}

#[tokio::test]
async fn taking_the_lock_without_an_answer_ends_with_the_truth() {
    let world = World::open();
    let member = world.member("n1");
    world.proxy.add(When::any().method(Method::POST).path("/configmaps").once(), Fault::LoseAnswer(Loss::Reset));
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    assert_eq!(world.leader().as_deref(), Some("n1"));
}

/// Others count ttl from the write that made the lock ours, so that of a call that nobody waited for must not count.
#[tokio::test]
async fn a_lock_that_a_late_call_has_taken_is_written_once_more_before_it_counts() {
    let world = World::open();
    let member = world.member("n1");
    member.snapshot(SOON).await.expect("the server answers");
    world.proxy.add(When::any().method(Method::POST).path("/configmaps").once(), Fault::Delay(Duration::from_secs(2)));
    unreachable(member.acquire(LockSeen::default(), Duration::from_millis(900)).await);
    eventually("the late call arrives", async || world.leader().is_some()).await;
    let renewed = || world.annotation("configmaps", "demo-leader", "renewTime");
    let first = renewed();
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    assert_ne!(renewed(), first);
}

#[tokio::test]
async fn a_frozen_server_holds_nobody_up() {
    let world = World::open();
    let member = world.member("n1");
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    world.api.freeze();
    let deadline = Duration::from_secs(1);
    unreachable(in_time(deadline, member.renew(None, None, deadline)).await);
    unreachable(in_time(deadline, member.read(deadline)).await);
    unreachable(in_time(deadline, member.publish(&record("running"), deadline)).await);
    unreachable(in_time(deadline, member.release(None, None, deadline)).await);
    world.api.thaw();
    let snapshot = member.read(SOON).await.expect("the server answers");
    assert!(snapshot.view.leader.as_ref().is_none_or(|leader| leader.name.as_str() == "n1"));
}

/// A pod that is deleted by force on a lost node runs on, and a new one of its name is there.
#[tokio::test]
async fn the_lock_of_another_process_of_our_name_is_anothers() {
    let world = World::open();
    let (first, second) = (world.member("n1"), world.other("n1", 30));
    assert!(first.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    assert!(world.api.delete("pods", NAMESPACE, "n1"));
    world.put_pods();
    let seen = second.read(SOON).await.expect("the server answers").view.clone();
    assert_eq!(seen.leader.map(|leader| leader.holder), Some(Holder::Other));
    let lock = second.acquire(LockSeen::default(), SOON).await.expect("the server answers");
    assert_eq!(lock, Lock::NotHeld);
    assert!(first.renew(None, None, SOON).await.expect("the server answers").is_held());
}

#[tokio::test]
async fn a_leader_without_a_pod_keeps_the_lock() {
    let world = World::open();
    let (leader, other) = (world.member("n1"), world.other("n2", 5));
    assert!(leader.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    assert!(world.api.delete("pods", NAMESPACE, "n1"));
    for _ in 0..3 {
        assert!(leader.renew(None, None, SOON).await.expect("the server answers").is_held());
        assert_eq!(other.acquire(LockSeen::default(), SOON).await.expect("the server answers"), Lock::NotHeld);
    }
    let answer = leader.publish(&record("running"), Duration::from_secs(1)).await;
    let told = answer.expect_err("there is no pod").to_string();
    assert!(told.contains("no pod n1") && told.contains("PATRONI_NAME"), "{told}");
}

#[tokio::test]
async fn the_object_of_the_lock_is_made_anew_while_the_lock_is_valid() {
    let world = World::open();
    let member = world.member("n1");
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    assert!(world.api.delete("configmaps", NAMESPACE, "demo-leader"));
    assert!(member.renew(Some(&status(7)), None, SOON).await.expect("the server answers").is_held());
    assert_eq!(world.leader().as_deref(), Some("n1"));
}

/// Whoever takes it does so a ttl after it saw the last renewal, and no moment earlier.
#[tokio::test]
async fn a_lock_is_free_a_ttl_after_its_last_renewal_was_seen() {
    let world = World::open();
    let (leader, other) = (world.other("n1", 3), world.other("n2", 30));
    assert!(leader.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    let version = other.snapshot(SOON).await.expect("the server answers").version;
    eventually("the leader is seen", async || {
        other.snapshot(SOON).await.expect("the server answers").view.leader.is_some()
    })
    .await;
    let began = Instant::now();
    assert!(leader.renew(None, None, SOON).await.expect("the server answers").is_held());
    drop(leader);
    let ttl = Duration::from_secs(3);
    let mut free = other.snapshot(SOON).await.expect("the server answers");
    assert!(free.version >= version);
    while free.view.leader.is_some() {
        let version = free.version;
        tokio::time::timeout(SOON, other.wait_for_change(version)).await.expect("the end of the lock wakes");
        free = other.snapshot(SOON).await.expect("the server answers");
    }
    let took = began.elapsed();
    assert!(took >= ttl && took <= ttl + SLACK, "free after {took:?}");
    let seen = free.view.lock_and_status_seen();
    assert!(other.acquire(seen, SOON).await.expect("the server answers").is_held());
    assert_eq!(world.annotation("configmaps", "demo-leader", "transitions").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_late_renewal_of_a_former_leader_misses() {
    let world = World::open();
    let (first, second) = (world.resume("n1", 2, None), world.other("n2", 30));
    assert!(first.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    world.proxy.add(patches().once(), Fault::Delay(Duration::from_secs(4)));
    unreachable(first.renew(None, None, Duration::from_millis(900)).await);
    world.proxy.freeze();
    eventually("another takes the lock", async || {
        second.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held()
    })
    .await;
    world.proxy.thaw();
    eventually("the late call is refused", async || {
        world.api.records().iter().any(|record| record.asked.verb == "patch" && record.code == 409)
    })
    .await;
    assert_eq!(world.leader().as_deref(), Some("n2"));
    assert_eq!(first.renew(None, None, SOON).await.expect("the server answers"), Lock::NotHeld);
    assert!(second.renew(None, None, SOON).await.expect("the server answers").is_held());
}

#[tokio::test]
async fn whoever_takes_over_takes_the_label_from_the_one_before() {
    let world = World::open();
    let label = |name: &str| {
        world
            .api
            .get("pods", NAMESPACE, name)
            .and_then(|pod| pod["metadata"]["labels"]["role"].as_str().map(str::to_owned))
    };
    world.api.patch("pods", NAMESPACE, "n1", &json!({"metadata": {"labels": {"role": "primary"}}}));
    let member = world.member("n2");
    member.snapshot(SOON).await.expect("the server answers");
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    eventually("the label goes", async || label("n1").is_none()).await;
    member.publish(&record("running"), SOON).await.expect("the server answers");
    assert_eq!(label("n2").as_deref(), Some("primary"));
    member.release(None, Some(&record("running")), SOON).await.expect("the server answers");
    assert_eq!(label("n2").as_deref(), Some("replica"));
    member.publish(&record("stopped"), SOON).await.expect("the server answers");
    assert_eq!(label("n2"), None);
}

#[tokio::test]
async fn a_renewal_that_is_refused_for_good_is_an_error_with_the_servers_words() {
    let world = World::open();
    let (token, user) = super::service_account(&world);
    let member = world.limited("limited", &token, "n1");
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    world.api.withhold("patch", "configmaps");
    let answer = member.renew(None, None, Duration::from_secs(2)).await;
    let Err(DcsError::Denied { detail, .. }) = &answer else { panic!("{answer:?}") };
    assert!(detail.contains("cannot patch resource \"configmaps\"") && detail.contains(&user.name), "{detail}");
    world.api.give_back();
    assert!(member.renew(None, None, SOON).await.expect("the server answers").is_held());
}
