//! A renewal is two requests at the same time: the keepalive of the lease and the proof that the lock hangs on it. What
//! happens to the lease between the two answers, whichever comes first.

use std::time::Duration;

use tamada::config::HostPort;
use tamada::core::lock_seen::LockSeen;
use tamada::dcs::etcd::EtcdDcs;
use tamada::dcs::{Dcs, Lock};

use super::etcd::Etcd;
use super::gate::{Gate, Request};
use super::{SOON, eventually, member, timing};

const LEADER: &str = "/service/demo/leader";

struct Leader {
    etcd: Etcd,
    gate: Gate,
    dcs: EtcdDcs,
}

impl Leader {
    async fn start() -> Self {
        let etcd = Etcd::start();
        let mut config = etcd.config();
        let address = format!("{}:{}", config.endpoints[0].host, config.endpoints[0].port);
        let gate = Gate::to(address.parse().expect("an address"));
        config.endpoints = vec![HostPort { host: gate.address.ip().to_string(), port: gate.address.port() }];
        let dcs = member(&config, "n1");
        assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("etcd answers").is_held());
        // The keepalive's stream is open from the first renewal on, and the watch is silent.
        assert!(dcs.renew(None, None, SOON).await.expect("etcd answers").is_held());
        eventually("the watch", async || dcs.snapshot(SOON).await.is_ok()).await;
        Leader { etcd, gate, dcs }
    }

    /// A renewal, with what happens after one answer and before the other request.
    async fn renew_around(&self, held_back: Request, meanwhile: impl Future<Output = ()>) -> Lock {
        self.gate.shut(held_back);
        let between = async {
            eventually("one answer", async || self.gate.stands_between()).await;
            meanwhile.await;
            self.gate.open();
        };
        let (renewed, ()) = tokio::join!(self.dcs.renew(None, None, SOON), between);
        renewed.expect("etcd answers")
    }

    /// The lease that the leader key hangs on; 0 without one.
    async fn lease(&self) -> i64 {
        let answer = self.etcd.client().await.get(LEADER, None).await.expect("etcd answers");
        answer.kvs().first().map_or(0, |key| key.lease())
    }

    /// For how long etcd keeps that lease after a renewal.
    async fn granted(&self) -> Duration {
        let lease = self.lease().await;
        let answer = self.etcd.client().await.lease_time_to_live(lease, None).await.expect("etcd answers");
        Duration::from_secs(answer.granted_ttl().try_into().expect("it lives"))
    }

    async fn revoke(&self) {
        let lease = self.lease().await;
        self.etcd.client().await.lease_revoke(lease).await.expect("etcd answers");
    }
}

#[tokio::test]
async fn a_lease_that_goes_between_the_two_answers_is_no_lock() {
    for held_back in [Request::Proof, Request::KeepAlive] {
        let leader = Leader::start().await;
        let lock = leader.renew_around(held_back, leader.revoke()).await;
        assert_eq!(lock, Lock::NotHeld, "{held_back:?} came after it");
        assert!(leader.dcs.acquire(LockSeen::default(), SOON).await.expect("etcd answers").is_held(), "on a new lease");
    }
}

#[tokio::test]
async fn a_lock_that_another_takes_between_the_two_answers_is_not_ours() {
    let leader = Leader::start().await;
    let taken = async {
        leader.etcd.client().await.put(LEADER, "n2", None).await.expect("etcd answers");
    };
    assert_eq!(leader.renew_around(Request::Proof, taken).await, Lock::NotHeld);
}

#[tokio::test]
async fn a_ttl_that_changes_between_the_two_answers_is_never_taken_for_more_than_was_granted() {
    for held_back in [Request::Proof, Request::KeepAlive] {
        let leader = Leader::start().await;
        let before = leader.lease().await;
        let changed = async { leader.dcs.set_timing(timing(60)) };
        let lock = leader.renew_around(held_back, changed).await;
        // Whether it is moved to a lease of the new ttl by this renewal or by the next depends on what came first.
        assert_eq!(lock, Lock::Held { valid_for: leader.granted().await }, "{held_back:?} came after it");
        let next = leader.dcs.renew(None, None, SOON).await.expect("etcd answers");
        assert_eq!(next, Lock::Held { valid_for: Duration::from_secs(60) });
        assert!(leader.lease().await != before);
    }
}
