//! The etcd backend against what happens to a real etcd: frozen, killed, cut down to a minority, emptied, with passwords,
//! with certificates. In each case every call must end by its deadline.

mod amnesia;
#[path = "../support/certs.rs"]
mod certs;
#[path = "../support/etcd.rs"]
mod etcd;
mod faults;
mod gate;
mod limits;
mod renewal;
mod security;
mod space;
mod traffic;
#[path = "../support/wait.rs"]
mod wait;

use std::future::Future;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tamada::config::EtcdConfig;
use tamada::core::lock_seen::LockSeen;
use tamada::core::policy::Timing;
use tamada::core::units::Lsn;
use tamada::core::view::ClusterStatus;
use tamada::dcs::codec::base_path;
use tamada::dcs::etcd::EtcdDcs;
use tamada::dcs::{Content, Dcs, DcsError, Expect, Key};

use wait::SOON;

/// Waits until it is so.
async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    wait::within(SOON, what, holds).await;
}

/// What a call may take beyond its deadline: the time of a busy machine to notice it.
const SLACK: Duration = Duration::from_millis(500);

fn timing(ttl: u64) -> Timing {
    let seconds = Duration::from_secs;
    Timing { ttl: seconds(ttl), loop_wait: seconds(1), retry_timeout: seconds(3), reset_before: Duration::ZERO }
}

fn member(config: &EtcdConfig, name: &str) -> EtcdDcs {
    let base = base_path("service", "demo");
    EtcdDcs::member(config, &base, name.into(), timing(30), None).expect("the configuration is complete")
}

fn record() -> Value {
    json!({"state": "running", "role": "replica", "version": "4.1.5", "tamada": "0"})
}

fn status(optime: u64) -> ClusterStatus {
    ClusterStatus { optime: Some(Lsn(optime)), ..ClusterStatus::default() }
}

/// The call's answer; panics when it comes after the deadline.
async fn in_time<T>(deadline: Duration, call: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let answer = call.await;
    let took = began.elapsed();
    assert!(took <= deadline + SLACK, "took {took:?} of {deadline:?}");
    answer
}

/// Every method of the trait that asks etcd, but for the release, fails as unreachable, each within its deadline.
async fn assert_all_unreachable(dcs: &EtcdDcs, deadline: Duration) {
    let unreachable =
        |answer: Result<(), DcsError>| assert!(matches!(answer, Err(DcsError::Unreachable { .. })), "{answer:?}");
    unreachable(in_time(deadline, dcs.renew(None, None, deadline)).await.map(|_| ()));
    unreachable(in_time(deadline, dcs.acquire(LockSeen::default(), deadline)).await.map(|_| ()));
    unreachable(in_time(deadline, dcs.read(deadline)).await.map(|_| ()));
    unreachable(in_time(deadline, dcs.publish(&json!({"state": "crashed"}), deadline)).await);
    let nothing = Content::Json(json!({}));
    unreachable(in_time(deadline, dcs.replace(Key::Failover, nothing, Expect::Anything, deadline)).await);
}
