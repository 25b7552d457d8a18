//! How much an idle cluster asks of etcd.

use std::time::Duration;

use serde_json::json;
use tamada::core::lock_seen::LockSeen;
use tamada::core::policy::Timing;
use tamada::dcs::Dcs;
use tamada::dcs::codec::base_path;
use tamada::dcs::etcd::EtcdDcs;

use super::etcd::Etcd;
use super::{SOON, eventually, member, record, status, timing};

/// Requests handled and stream messages sent, as etcd counts them.
fn messages(metrics: &str) -> u64 {
    let count = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let is_unary = series.starts_with("grpc_server_handled_total") && series.contains("\"unary\"");
        let is_stream = series.starts_with("grpc_server_msg_sent_total") && !series.contains("\"unary\"");
        (is_unary || is_stream).then(|| value.parse::<f64>().ok()).flatten()
    };
    metrics.lines().filter_map(count).sum::<f64>() as u64
}

/// What the cluster costs etcd in so many cycles of a second each, after two in which watches begin.
async fn cost(etcd: &Etcd, cycles: u64, cycle: impl AsyncFn(u64)) -> u64 {
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    for number in 1..=2 {
        clock.tick().await;
        cycle(number).await;
    }
    let before = messages(&etcd.metrics(0));
    for number in 3..cycles + 3 {
        clock.tick().await;
        cycle(number).await;
    }
    messages(&etcd.metrics(0)) - before
}

#[tokio::test]
async fn an_idle_cycle_costs_one_keepalive_and_one_transaction_of_the_leader() {
    const CYCLES: u64 = 4;
    let etcd = Etcd::start();
    let config = etcd.config();
    let members = ["n1", "n2", "n3"].map(|name| member(&config, name));
    let [leader, ..] = &members;
    leader.acquire(LockSeen::default(), SOON).await.expect("etcd answers");
    let cycle = async |_| {
        leader.renew(None, None, SOON).await.expect("etcd answers");
        for member in &members {
            member.snapshot(SOON).await.expect("etcd answers");
            member.publish(&record(), SOON).await.expect("etcd answers");
        }
    };
    let spent = cost(&etcd, CYCLES, cycle).await;
    assert_eq!(spent, 2 * CYCLES, "messages in {CYCLES} cycles");
}

#[tokio::test]
async fn a_follower_renews_its_lease_by_halves_of_the_ttl_and_its_record_stays() {
    const CYCLES: u64 = 9;
    let etcd = Etcd::start();
    let timers = Timing { retry_timeout: Duration::from_secs(1), ..timing(5) };
    let base = base_path("service", "demo");
    let follower = EtcdDcs::member(&etcd.config(), &base, "n2".into(), timers, None).expect("a whole configuration");
    let observer = EtcdDcs::observer(&etcd.config(), &base, timers).expect("a whole configuration");
    let cycle = async |_| {
        follower.snapshot(SOON).await.expect("etcd answers");
        follower.publish(&record(), SOON).await.expect("etcd answers");
    };
    let spent = cost(&etcd, CYCLES, cycle).await;
    // Every third cycle is the first one after half the ttl.
    assert!((3..=4).contains(&spent), "{spent} messages in {CYCLES} cycles");
    let seen = observer.read(SOON).await.expect("etcd answers");
    assert!(seen.documents.members.contains_key(&"n2".into()));
}

#[tokio::test]
async fn a_leaders_record_and_status_in_its_renewal_are_one_message_to_each_watch() {
    const CYCLES: u64 = 3;
    let etcd = Etcd::start();
    let config = etcd.config();
    let members = ["n1", "n2"].map(|name| member(&config, name));
    let [leader, follower] = &members;
    leader.acquire(LockSeen::default(), SOON).await.expect("etcd answers");
    let cycle = async |number: u64| {
        let record = json!({"state": "running", "role": "primary", "xlog_location": number, "tamada": "0"});
        leader.renew(Some(&status(number)), Some(&record), SOON).await.expect("etcd answers");
        leader.publish(&record, SOON).await.expect("etcd answers");
        let arrived = async || {
            let seen = follower.snapshot(SOON).await.expect("etcd answers");
            seen.view.status == status(number) && seen.documents.members.get(&"n1".into()) == Some(&record)
        };
        eventually("the watch shows both", arrived).await;
        leader.snapshot(SOON).await.expect("etcd answers");
    };
    let spent = cost(&etcd, CYCLES, cycle).await;
    // A keepalive, a transaction and a message to each of two watches. Our own watch may lag behind by one.
    assert!((4 * CYCLES - 1..=4 * CYCLES + 1).contains(&spent), "{spent} messages in {CYCLES} cycles");
}
