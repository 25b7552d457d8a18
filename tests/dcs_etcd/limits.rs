//! An etcd that is full, a reader that is no member, a configuration that cannot be followed.

use etcd_client::{AlarmAction, AlarmType};
use serde_json::json;
use tamada::core::lock_seen::LockSeen;
use tamada::core::policy::Timing;
use tamada::dcs::codec::base_path;
use tamada::dcs::etcd::EtcdDcs;
use tamada::dcs::{Content, Dcs, DcsError, Expect, Key, Seen};

use super::etcd::Etcd;
use super::{SOON, member, record, status};

#[tokio::test]
async fn a_full_etcd_costs_no_lock() {
    let etcd = Etcd::start();
    let dcs = member(&etcd.config(), "n1");
    assert!(dcs.acquire(LockSeen::default(), SOON).await.expect("etcd answers").is_held());
    let mut client = etcd.client().await;
    client.alarm(AlarmAction::Activate, AlarmType::Nospace, None).await.expect("etcd answers");
    assert!(dcs.renew(None, None, SOON).await.expect("etcd answers").is_held());
    assert!(dcs.renew(Some(&status(7)), None, SOON).await.expect("etcd answers").is_held());
    assert_eq!(dcs.read(SOON).await.expect("etcd answers").view.status.optime, None);
    let refused = dcs.publish(&record(), SOON).await;
    assert!(matches!(refused, Err(DcsError::Full { .. })), "{refused:?}");
    dcs.release(Some(&status(8)), None, SOON).await.expect("etcd answers");
    assert_eq!(dcs.read(SOON).await.expect("etcd answers").view.leader, None);
}

#[tokio::test]
async fn an_observer_reads_and_writes_without_a_lease() {
    let etcd = Etcd::start();
    let (config, base) = (etcd.config(), base_path("service", "demo"));
    let dcs = member(&config, "n1");
    dcs.publish(&record(), SOON).await.expect("etcd answers");
    let observer = EtcdDcs::observer(&config, &base, Timing::default()).expect("the configuration is complete");
    assert_eq!(observer.snapshot(SOON).await.expect("etcd answers").view.members.len(), 1);
    let document = Content::Json(json!({"ttl": 30}));
    observer.replace(Key::Config, document, Expect::AsSeen(Seen::default()), SOON).await.expect("etcd answers");
    assert!(observer.snapshot(SOON).await.expect("etcd answers").documents.config.is_some());
    assert_eq!(observer.lease(), None);
    let granted = etcd.client().await.leases().await.expect("etcd answers");
    assert_eq!(granted.leases().len(), 1);
}
