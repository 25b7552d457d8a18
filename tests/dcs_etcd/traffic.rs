//! How much an idle cluster asks of etcd.

use std::time::Duration;

use tamada::dcs::Dcs;

use super::etcd::Etcd;
use super::{SOON, member, record};

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

#[tokio::test]
async fn an_idle_cycle_costs_one_keepalive_a_member_and_one_transaction() {
    const CYCLES: u64 = 4;
    let etcd = Etcd::start();
    let config = etcd.config();
    let members = ["n1", "n2", "n3"].map(|name| member(&config, name));
    let [leader, ..] = &members;
    leader.acquire(SOON).await.expect("etcd answers");
    let cycle = async || {
        leader.renew(None, SOON).await.expect("etcd answers");
        for member in &members {
            member.snapshot(SOON).await.expect("etcd answers");
            member.publish(&record(), SOON).await.expect("etcd answers");
        }
    };
    // Two cycles to settle: records are written and watches begin.
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..2 {
        clock.tick().await;
        cycle().await;
    }
    let before = messages(&etcd.metrics(0));
    for _ in 0..CYCLES {
        clock.tick().await;
        cycle().await;
    }
    let spent = messages(&etcd.metrics(0)) - before;
    assert!(spent <= 4 * CYCLES, "{spent} messages in {CYCLES} cycles");
    assert!(spent >= CYCLES, "the counters count");
}
