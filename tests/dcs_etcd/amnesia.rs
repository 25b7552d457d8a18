//! An etcd that loses its data: wiped, or restored from a snapshot. Its cluster's id stays the same.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tamada::core::lock_seen::LockSeen;
use tamada::core::units::Revision;
use tamada::core::view::{Holder, Leader};
use tamada::dcs::etcd::EtcdDcs;
use tamada::dcs::{Content, Dcs, DcsError, Expect, Key, LeaseToken, Lock};

use super::etcd::Etcd;
use super::{SOON, base_path, eventually, member, record, timing};

fn resumed(etcd: &Etcd, name: &str, lease: Option<&LeaseToken>) -> EtcdDcs {
    EtcdDcs::member(&etcd.config(), &base_path("service", "demo"), name.into(), timing(30), lease).expect("complete")
}

/// So that the revision that is lost is more than a few steps away.
async fn write_on(dcs: &EtcdDcs) {
    for ttl in 0..20 {
        let config = Content::Json(json!({"ttl": ttl}));
        dcs.replace(Key::Config, config, Expect::Anything, SOON).await.expect("etcd answers");
    }
}

fn wipe(etcd: &mut Etcd) {
    etcd.kill(0);
    etcd.lose_data(0);
    etcd.restart(0);
}

fn restore(etcd: &mut Etcd, snapshot: &Path) {
    etcd.kill(0);
    etcd.restore(snapshot);
    etcd.restart(0);
}

async fn held(dcs: &EtcdDcs, seen: Option<Revision>) -> bool {
    dcs.acquire(LockSeen { lock: seen, ..LockSeen::default() }, SOON).await.expect("etcd answers").is_held()
}

async fn losses(dcs: &EtcdDcs) -> u64 {
    dcs.snapshot(SOON).await.expect("etcd answers").losses
}

/// No answer about the lock comes before a snapshot has told of the loss.
async fn forgets(dcs: &EtcdDcs) {
    let answer = dcs.renew(None, None, SOON).await;
    assert!(matches!(answer, Err(DcsError::Forgot { .. })), "{answer:?}");
    let answer = dcs.acquire(LockSeen::default(), SOON).await;
    assert!(matches!(answer, Err(DcsError::Forgot { .. })), "{answer:?}");
    eventually("a snapshot tells of the loss", || async { losses(dcs).await == 1 }).await;
}

#[tokio::test]
async fn a_wiped_etcd_is_noticed_before_it_says_that_the_lock_is_lost() {
    let mut etcd = Etcd::start();
    let dcs = Arc::new(member(&etcd.config(), "n1"));
    assert!(held(&dcs, None).await);
    dcs.publish(&record(), SOON).await.expect("etcd answers");
    write_on(&dcs).await;
    let version = dcs.snapshot(SOON).await.expect("etcd answers").version;
    wipe(&mut etcd);
    forgets(&dcs).await;
    tokio::time::timeout(SOON, dcs.wait_for_change(version)).await.expect("a loss is a change");
    let snapshot = dcs.read(SOON).await.expect("etcd answers");
    assert_eq!((&snapshot.view.leader, &snapshot.documents.config), (&None, &None));
    assert!(held(&dcs, None).await);
    dcs.publish(&record(), SOON).await.expect("etcd answers");
    let snapshot = dcs.read(SOON).await.expect("etcd answers");
    assert_eq!(snapshot.view.leader.as_ref().map(|leader| leader.holder), Some(Holder::Us));
    assert_eq!((snapshot.view.members.len(), snapshot.losses), (1, 1));
}

#[tokio::test]
async fn an_outage_and_a_lease_that_ran_out_are_no_losses() {
    let mut etcd = Etcd::start();
    let dcs = resumed(&etcd, "n1", None);
    assert!(held(&dcs, None).await);
    etcd.kill(0);
    etcd.restart(0);
    assert!(dcs.renew(None, None, SOON).await.expect("etcd answers again").is_held());
    let lease = dcs.lease();
    let mut client = etcd.client().await;
    let lease_of_the_lock = only_lease(&mut client).await;
    client.lease_revoke(lease_of_the_lock).await.expect("etcd answers");
    assert_eq!(dcs.renew(None, None, SOON).await.expect("etcd answers"), Lock::NotHeld);
    assert_eq!(losses(&dcs).await, 0);
    assert_eq!(losses(&resumed(&etcd, "n1", lease.as_ref())).await, 0);
}

async fn only_lease(client: &mut etcd_client::Client) -> i64 {
    let answer = client.get("/service/demo/leader", None).await.expect("etcd answers");
    answer.kvs().first().expect("there is a leader").lease()
}

#[tokio::test]
async fn a_snapshot_that_knows_another_leader_is_noticed_by_both() {
    let mut etcd = Etcd::start();
    let (first, second) = (member(&etcd.config(), "n1"), member(&etcd.config(), "n2"));
    assert!(held(&first, None).await);
    let snapshot = etcd.save();
    first.release(None, None, SOON).await.expect("etcd answers");
    assert!(held(&second, None).await);
    write_on(&second).await;
    restore(&mut etcd, &snapshot);
    forgets(&first).await;
    forgets(&second).await;
    let view = &second.read(SOON).await.expect("etcd answers").view;
    assert_eq!(view.leader, Some(Leader { name: "n1".into(), holder: Holder::Other }));
    // The key is on a living lease of the first, and is taken over as it was seen.
    assert_eq!(second.acquire(LockSeen::default(), SOON).await.expect("etcd answers"), Lock::NotHeld);
    assert!(held(&second, view.lock_revision).await);
    assert!(second.acquire(view.lock_seen(), SOON).await.expect("etcd answers").is_held());
    first.release(None, None, SOON).await.expect("etcd answers");
    assert_eq!(first.acquire(view.lock_seen(), SOON).await.expect("etcd answers"), Lock::NotHeld);
    assert!(second.renew(None, None, SOON).await.expect("etcd answers").is_held());
}

#[tokio::test]
async fn a_lock_that_was_given_up_meanwhile_is_taken_as_a_free_one() {
    let etcd = Etcd::start();
    let (first, second) = (member(&etcd.config(), "n1"), member(&etcd.config(), "n2"));
    assert!(held(&first, None).await);
    let seen = second.read(SOON).await.expect("etcd answers").view.lock_revision;
    assert!(seen.is_some());
    first.release(None, None, SOON).await.expect("etcd answers");
    assert!(held(&second, seen).await);
}

#[tokio::test]
async fn a_later_process_notices_what_was_lost_before_it_began() {
    let mut etcd = Etcd::start();
    let first = member(&etcd.config(), "n1");
    assert!(held(&first, None).await);
    let snapshot = etcd.save();
    let early = first.lease();
    let follower = member(&etcd.config(), "n2");
    follower.publish(&record(), SOON).await.expect("etcd answers");
    first.release(None, None, SOON).await.expect("etcd answers");
    write_on(&first).await;
    assert!(held(&follower, None).await);
    eventually("the former leader knows who leads", || async {
        first.snapshot(SOON).await.is_ok_and(|snapshot| snapshot.view.leader.is_some())
    })
    .await;
    let kept = [&first, &follower].map(|dcs| dcs.lease());
    drop((first, follower));
    restore(&mut etcd, &snapshot);
    for (name, lease) in ["n1", "n2"].into_iter().zip(&kept) {
        assert!(lease.is_some());
        assert_eq!(losses(&resumed(&etcd, name, lease.as_ref())).await, 1, "{name}");
    }
    // One who had ended before the snapshot was made has been shown nothing that is not there.
    assert_eq!(losses(&resumed(&etcd, "n1", early.as_ref())).await, 0);
}

/// The wiped store has counted higher than what was kept, and nobody holds the lock.
#[tokio::test]
async fn a_later_process_notices_a_store_that_was_wiped_and_written_to() {
    let mut etcd = Etcd::start();
    let first = member(&etcd.config(), "n1");
    let initialize = || async {
        let absent = first.read(SOON).await.expect("etcd answers").expect(None);
        first.replace(Key::Initialize, Content::Text("7".to_owned()), absent, SOON).await.expect("etcd answers");
    };
    initialize().await;
    assert!(held(&first, None).await);
    first.read(SOON).await.expect("etcd answers");
    let kept = first.lease();
    wipe(&mut etcd);
    forgets(&first).await;
    first.publish(&record(), SOON).await.expect("etcd answers");
    let waiting = first.lease_after_loss();
    write_on(&first).await;
    initialize().await;
    for kept in [kept, waiting] {
        assert!(kept.is_some());
        assert_eq!(losses(&resumed(&etcd, "n1", kept.as_ref())).await, 1, "{kept:?}");
    }
    assert_eq!(losses(&resumed(&etcd, "n1", first.lease().as_ref())).await, 0);
}
