//! Nodes that are gone, frozen, alone or empty.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tamada::config::HostPort;
use tamada::core::lock_seen::LockSeen;
use tamada::dcs::etcd::EtcdDcs;
use tamada::dcs::{Dcs, DcsError, Lock};
use tokio::task::JoinHandle;

use super::etcd::Etcd;
use super::{SOON, assert_all_unreachable, base_path, eventually, in_time, member, record, timing};

const SHORT: Duration = Duration::from_secs(1);

fn wait(dcs: &Arc<EtcdDcs>, version: u64) -> JoinHandle<()> {
    let dcs = dcs.clone();
    tokio::spawn(async move { dcs.wait_for_change(version).await })
}

#[tokio::test]
async fn every_call_to_a_frozen_node_ends_by_its_deadline() {
    let etcd = Etcd::start();
    let dcs = member(&etcd.config(), "n1");
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("etcd answers").is_held());
    dcs.publish(&record(), SOON).await.expect("etcd answers");
    etcd.freeze(0);
    for deadline in [Duration::from_millis(100), SHORT] {
        assert_all_unreachable(&dcs, deadline).await;
    }
    etcd.thaw(0);
    assert!(in_time(SOON, dcs.renew(None, None, SOON)).await.expect("etcd answers again").is_held());
}

#[tokio::test]
async fn a_node_frozen_under_a_call_does_not_hold_it() {
    let etcd = Etcd::start();
    let dcs = Arc::new(member(&etcd.config(), "n1"));
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("etcd answers").is_held());
    let caller = dcs.clone();
    let calls = tokio::spawn(async move {
        loop {
            if let Err(error) = in_time(SHORT, caller.renew(None, None, SHORT)).await {
                return error;
            }
        }
    });
    tokio::task::yield_now().await;
    etcd.freeze(0);
    let error = tokio::time::timeout(SOON, calls).await.expect("a call fails").expect("no call takes too long");
    assert!(matches!(error, DcsError::Unreachable { .. }), "{error:?}");
    etcd.thaw(0);
    assert!(dcs.renew(None, None, SOON).await.expect("etcd answers again").is_held());
}

/// A release that got no answer waits in the frozen node and may be carried out when that thaws; but no more once a
/// renewal through another node has said that the lock is held.
#[tokio::test]
async fn a_release_without_an_answer_does_not_undo_a_later_renewal() {
    let etcd = Etcd::cluster(3);
    let dcs = member(&etcd.config(), "n1");
    let one_try = Duration::from_millis(300);
    let some_tries = Duration::from_secs(3);
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("etcd answers").is_held());
    for round in 0..6 {
        // The connection goes from one node to the next when its node is frozen, so most rounds hit it.
        etcd.freeze(round % 3);
        let released = dcs.release(None, None, one_try).await;
        let renewed = dcs.renew(None, None, some_tries).await;
        etcd.thaw(round % 3);
        let is_held = match (released, renewed) {
            (Err(DcsError::Unreachable { .. }), Ok(Lock::Held { .. })) => true,
            (Ok(()), Ok(Lock::NotHeld) | Err(_)) | (Err(_), Err(_) | Ok(Lock::NotHeld)) => false,
            impossible => panic!("{impossible:?}"),
        };
        for _ in 0..if is_held { 30 } else { 0 } {
            assert!(dcs.renew(None, None, SOON).await.expect("etcd answers").is_held(), "round {round}");
        }
        eventually("the lock is ours again", || async {
            dcs.acquire(LockSeen::default(), SOON).await.is_ok_and(|lock| lock.is_held())
        })
        .await;
    }
}

/// The process before may have sent a release that is still on its way. Such a one is bound to the revision that the leader
/// key had then.
#[tokio::test]
async fn a_lock_taken_over_from_a_former_process_gets_a_new_revision_once() {
    let etcd = Etcd::start();
    let config = etcd.config();
    let mut client = etcd.client().await;
    let mut revision = async || {
        let answer = client.get("/service/demo/leader", None).await.expect("etcd answers");
        answer.kvs().first().expect("there is a leader").mod_revision()
    };
    let former = member(&config, "n1");
    assert!(former.acquire(LockSeen::default(), SOON).await.expect("etcd answers").is_held());
    let acquired = revision().await;
    let base = base_path("service", "demo");
    let dcs =
        EtcdDcs::member(&config, &base, "n1".into(), timing(30), former.lease().as_ref()).expect("it is complete");
    assert!(dcs.renew(None, None, SOON).await.expect("etcd answers").is_held());
    let confirmed = revision().await;
    assert!(confirmed > acquired, "a release of revision {acquired} would still find the key");
    assert!(dcs.renew(None, None, SOON).await.expect("etcd answers").is_held());
    assert_eq!(revision().await, confirmed);
}

#[tokio::test]
async fn without_any_node_calls_end_by_their_deadline_and_waiters_are_told_of_the_outage_and_its_end() {
    let mut etcd = Etcd::start();
    let dcs = Arc::new(member(&etcd.config(), "n1"));
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("etcd answers").is_held());
    let version = dcs.snapshot(SOON).await.expect("etcd answers").version;
    let sleeper = wait(&dcs, version);
    // The watch is alive when it has shown somebody else's write.
    let mut client = etcd.client().await;
    client.put("/service/demo/leader", "n1", None).await.expect("etcd answers");
    tokio::time::timeout(SOON, sleeper).await.expect("the leader key was changed").expect("no panic");

    let version = dcs.snapshot(SOON).await.expect("etcd answers").version;
    let sleeper = wait(&dcs, version);
    tokio::task::yield_now().await;
    etcd.kill(0);
    tokio::time::timeout(SOON, sleeper).await.expect("an outage is a change").expect("no panic");
    assert_all_unreachable(&dcs, SHORT).await;
    assert!(in_time(SHORT, dcs.snapshot(SHORT)).await.is_err());
    let sleeper = wait(&dcs, version);
    tokio::task::yield_now().await;
    assert!(!sleeper.is_finished());
    etcd.restart(0);
    tokio::time::timeout(SOON, sleeper).await.expect("the end of an outage is a change").expect("no panic");
    dcs.publish(&record(), SOON).await.expect("etcd answers again");
}

#[tokio::test]
async fn a_restarted_etcd_finds_the_lock_where_it_was() {
    let mut etcd = Etcd::start();
    let dcs = member(&etcd.config(), "n1");
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("etcd answers").is_held());
    let lease = dcs.lease();
    etcd.kill(0);
    etcd.restart(0);
    assert!(dcs.renew(None, None, SOON).await.expect("etcd answers again").is_held());
    assert_eq!(dcs.lease(), lease);
}

/// A member of a three-node etcd holds the lock; then something happens to the node that it talks to.
async fn one_node_of_three(happens: impl FnOnce(&mut Etcd)) {
    let mut etcd = Etcd::cluster(3);
    let endpoints = etcd.endpoints();
    let dcs = Arc::new(member(&etcd.config(), "n1"));
    let mut elsewhere = etcd.config();
    elsewhere.endpoints = endpoints[1..].to_vec();
    let other = member(&elsewhere, "n2");
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("etcd answers").is_held());
    happens(&mut etcd);
    let limit = Duration::from_secs(6);
    assert!(in_time(limit, dcs.renew(None, None, limit)).await.expect("two nodes serve").is_held());
    dcs.publish(&record(), SOON).await.expect("two nodes serve");
    let version = dcs.read(SOON).await.expect("two nodes serve").version;
    let sleeper = wait(&dcs, version);
    other.publish(&record(), SOON).await.expect("two nodes serve");
    tokio::time::timeout(SOON, sleeper).await.expect("the watch goes on elsewhere").expect("no panic");
    eventually("the other member is seen", || {
        let dcs = dcs.clone();
        async move { dcs.snapshot(SOON).await.expect("two nodes serve").view.members.len() == 2 }
    })
    .await;
}

#[tokio::test]
async fn the_other_nodes_serve_when_one_is_killed() {
    one_node_of_three(|etcd| etcd.kill(0)).await;
}

#[tokio::test]
async fn the_other_nodes_serve_when_one_is_frozen() {
    one_node_of_three(|etcd| etcd.freeze(0)).await;
}

#[tokio::test]
async fn nodes_that_are_not_configured_are_learned() {
    let mut etcd = Etcd::cluster(3);
    let mut config = etcd.config();
    config.endpoints.truncate(1);
    let dcs = member(&config, "n1");
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("etcd answers").is_held());
    let etcd_ref = &etcd;
    eventually("the nodes are asked for", || async move {
        let asked = |line: &str| {
            line.starts_with("grpc_server_handled_total") && line.contains("MemberList") && line.ends_with(" 1")
        };
        etcd_ref.metrics(0).lines().any(asked)
    })
    .await;
    // On the same connection this answer comes after the other.
    assert!(dcs.renew(None, None, SOON).await.expect("etcd answers").is_held());
    etcd.kill(0);
    assert!(dcs.renew(None, None, SOON).await.expect("the others serve").is_held());
}

#[tokio::test]
async fn a_minority_is_no_store() {
    let mut etcd = Etcd::cluster(3);
    let dcs = member(&etcd.config(), "n1");
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("etcd answers").is_held());
    etcd.kill(1);
    etcd.kill(2);
    assert_all_unreachable(&dcs, SHORT).await;
    etcd.restart(1);
    assert!(dcs.renew(None, None, SOON).await.expect("a majority serves").is_held());
}

#[tokio::test]
async fn endpoints_that_lead_nowhere_are_passed_over() {
    let etcd = Etcd::start();
    let mut config = etcd.config();
    let nowhere = [("etcd.invalid", 2379), ("127.0.0.1", 1)];
    let nowhere = nowhere.map(|(host, port)| HostPort { host: host.to_owned(), port });
    config.endpoints.splice(0..0, nowhere);
    let dcs = member(&config, "n1");
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("one endpoint serves").is_held());
    config.endpoints.truncate(2);
    let error = member(&config, "n2").read(SHORT).await.expect_err("no endpoint serves");
    let text = error.to_string();
    assert!(text.contains("etcd.invalid:2379") && text.contains("127.0.0.1:1"), "{text}");
}

/// A record that waits in a frozen node is not carried out any more once a newer one stands there: it would make others
/// take a primary for a replica.
#[tokio::test]
async fn a_record_that_arrives_late_replaces_no_newer_one() {
    let etcd = Etcd::cluster(3);
    let dcs = member(&etcd.config(), "n1");
    let role = |role: &str, round: usize| json!({"role": role, "state": "running", "round": round});
    dcs.publish(&role("replica", 0), SOON).await.expect("etcd answers");
    for round in 1..7 {
        // The connection goes from one node to the next when its node is frozen, so most rounds hit it.
        etcd.freeze(round % 3);
        let old = dcs.publish(&role("replica", round), Duration::from_millis(300)).await;
        let new = role("primary", round);
        let written = dcs.publish(&new, Duration::from_secs(3)).await;
        etcd.thaw(round % 3);
        if old.is_ok() || written.is_err() {
            continue;
        }
        let mut client = etcd.client().await;
        for _ in 0..30 {
            let answer = client.get("/service/demo/members/n1", None).await.expect("etcd answers");
            let found = answer.kvs().first().expect("there is a record").value();
            assert_eq!(serde_json::from_slice::<Value>(found).expect("JSON"), new, "round {round}");
        }
    }
}
