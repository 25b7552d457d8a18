//! Documents and records: conditions of writes, and what a reader finds.

use serde_json::json;
use tamada::core::decision::SyncKey;
use tamada::core::lock_seen::LockSeen;
use tamada::core::units::MemberName;
use tamada::core::view::{ConfigKey, Holder, Initialize, MemberState};
use tamada::dcs::{Content, Dcs, DcsError, Expect, Key, Lock, Seen, codec};

use super::{SOON, World, eventually, record, status, timing};

pub(super) async fn a_missing_key_is_created_once<W: World>() {
    let mut world = W::open().await;
    let (first, second) = (world.member("n1"), world.member("n2"));
    first
        .replace(Key::Initialize, Content::Claim, Expect::AsSeen(Seen::default()), SOON)
        .await
        .expect("the key is absent");
    let again = second.replace(Key::Initialize, Content::Claim, Expect::AsSeen(Seen::default()), SOON).await;
    assert!(matches!(again, Err(DcsError::Conflict { key: Key::Initialize })), "{again:?}");
    let view = second.read(SOON).await.expect("the store answers").view.clone();
    assert_eq!(view.initialize, Initialize::InProgress(Holder::Other));
    let own = first.read(SOON).await.expect("the store answers").view.clone();
    assert_eq!(own.initialize, Initialize::InProgress(Holder::Us));
    let id = Content::Text("7710921647475908793".to_owned());
    first.replace(Key::Initialize, id, Expect::Anything, SOON).await.expect("there is no condition");
    assert_eq!(world.get("initialize").await.as_deref(), Some("7710921647475908793"));
}

pub(super) async fn only_one_of_two_writers_of_a_revision_wins<W: World>() {
    let mut world = W::open().await;
    let (first, second) = (world.member("n1"), world.member("n2"));
    let config = |ttl: u64| Content::Json(json!({"ttl": ttl, "loop_wait": 10}));
    first.replace(Key::Config, config(30), Expect::AsSeen(Seen::default()), SOON).await.expect("the key is absent");
    let snapshot = second.read(SOON).await.expect("the store answers");
    let seen = snapshot.expect(snapshot.documents.config.as_ref().map(|config| config.revision));
    first.replace(Key::Config, config(40), seen, SOON).await.expect("nobody changed it");
    let late = second.replace(Key::Config, config(50), seen, SOON).await;
    assert!(matches!(late, Err(DcsError::Conflict { key: Key::Config })), "{late:?}");
    assert_eq!(world.get("config").await.as_deref(), Some(r#"{"ttl":40,"loop_wait":10}"#));
    // The loser has learned from the refusal or reads anew; with that revision it succeeds.
    let snapshot = second.read(SOON).await.expect("the store answers");
    let seen = snapshot.expect(snapshot.documents.config.as_ref().map(|config| config.revision));
    second.replace(Key::Config, config(50), seen, SOON).await.expect("nobody changed it");
    assert_eq!(second.snapshot(SOON).await.expect("the store answers").view.config, ConfigKey::Valid);
}

/// A store that has begun anew counts its revisions again, and what is missing there may be missing under a living leader.
pub(super) async fn a_decision_of_before_a_loss_of_the_stores_data_writes_nothing<W: World>() {
    let mut world = W::open().await;
    let member = world.member("n1");
    for ttl in 0..20 {
        world.put("config", &format!(r#"{{"ttl":{ttl}}}"#)).await;
    }
    let before = member.read(SOON).await.expect("the store answers");
    member.snapshot(SOON).await.expect("the store answers");
    world.wipe().await;
    eventually("the loss is noticed", || async { member.read(SOON).await.is_ok_and(|now| now.losses == 1) }).await;
    let claim = member.replace(Key::Initialize, Content::Claim, before.expect(None), SOON).await;
    assert!(matches!(claim, Err(DcsError::Forgot { .. })), "{claim:?}");
    let lock = member.acquire(LockSeen::default(), SOON).await;
    assert!(matches!(lock, Err(DcsError::Forgot { .. })), "{lock:?}");
    assert_eq!((world.get("initialize").await, world.get("leader").await), (None, None));
    let now = member.snapshot(SOON).await.expect("the store answers");
    member.replace(Key::Initialize, Content::Claim, now.expect(None), SOON).await.expect("decided since");
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
}

/// Seed 16131524: a leader's history that arrives when others have led since, none of which had written its own.
pub(super) async fn what_a_leader_writes_is_refused_once_the_lock_is_another_ones<W: World>() {
    let mut world = W::open().await;
    let (first, second) = (world.member("n1"), world.member("n2"));
    let history = || Content::Json(json!([[1, 5, "no recovery target specified"]]));
    let write = async |member: &W::Dcs| {
        let seen = member.read(SOON).await.expect("the store answers").expect_leading(None);
        member.replace(Key::History, history(), seen, SOON).await
    };
    let refused = |answer| assert!(matches!(answer, Err(DcsError::Conflict { key: Key::History })), "{answer:?}");
    refused(write(&first).await);
    assert!(second.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
    first.publish(&record("running"), SOON).await.expect("the store answers");
    refused(write(&first).await);
    assert_eq!(world.get("history").await, None);
    write(&second).await.expect("it leads");
    refused(write(&second).await);
    assert!(world.get("history").await.is_some());
}

/// What the key promises of a standby counts only if it was written over what was seen, by whoever leads.
pub(super) async fn the_synchronous_standbys_are_the_leaders_to_write<W: World>() {
    let world = W::open().await;
    let (first, second) = (world.member("n1"), world.member("n2"));
    let key = |leader: &str, quorum: usize, standbys: &[&str]| {
        let standbys = standbys.iter().map(|name| MemberName::from(*name)).collect();
        Content::Json(codec::sync_document(&SyncKey { leader: leader.into(), quorum, standbys }))
    };
    let write = async |member: &W::Dcs, content: Content| {
        let snapshot = member.read(SOON).await.expect("the store answers");
        member.replace(Key::Sync, content, snapshot.expect_leading(snapshot.view.sync.revision), SOON).await
    };
    assert!(first.acquire(LockSeen::default(), SOON).await.expect("the store answers").is_held());
    let refused = write(&second, key("n2", 0, &[])).await;
    assert!(matches!(refused, Err(DcsError::Conflict { key: Key::Sync })), "{refused:?}");
    let before = first.read(SOON).await.expect("the store answers").expect_leading(None);
    write(&first, key("n1", 0, &[])).await.expect("it leads");
    write(&first, key("n1", 1, &["n3", "n2"])).await.expect("it leads");
    let late = first.replace(Key::Sync, key("n1", 0, &[]), before, SOON).await;
    assert!(matches!(late, Err(DcsError::Conflict { key: Key::Sync })), "{late:?}");
    let sync = second.read(SOON).await.expect("the store answers").view.sync.clone();
    assert_eq!((sync.leader, sync.quorum), (Some("n1".into()), 1));
    assert_eq!(sync.standbys, ["n2".into(), "n3".into()].into());
    let own = first.snapshot(SOON).await.expect("the store answers");
    assert_eq!(own.view.sync.standbys.len(), 2, "what it has written it reads at once");
    write(&first, Content::Delete).await.expect("it leads");
    let sync = second.read(SOON).await.expect("the store answers").view.sync.clone();
    assert_eq!((sync.leader, sync.standbys.len()), (None, 0));
    write(&first, key("n1", 0, &["n2"])).await.expect("it leads");
}

pub(super) async fn writes_without_a_condition_and_deletions_work<W: World>() {
    let mut world = W::open().await;
    let member = world.member("n1");
    let request = Content::Json(json!({"leader": "n1"}));
    member.replace(Key::Failover, request, Expect::Anything, SOON).await.expect("the store answers");
    let snapshot = member.snapshot(SOON).await.expect("the store answers");
    let switchover = snapshot.view.switchover.clone().expect("it was written");
    assert_eq!(switchover.leader, Some("n1".into()));
    let seen = snapshot.expect(Some(switchover.revision));
    member.replace(Key::Failover, Content::Json(json!({})), seen, SOON).await.expect("nobody changed it");
    assert_eq!(world.get("failover").await.as_deref(), Some("{}"));
    assert_eq!(member.snapshot(SOON).await.expect("the store answers").view.switchover, None);
    member.replace(Key::Failover, Content::Delete, Expect::Anything, SOON).await.expect("the store answers");
    assert_eq!(world.get("failover").await.as_deref(), W::ANNOTATIONS.then_some("{}"));
    let gone = member.replace(Key::Failover, Content::Delete, seen, SOON).await;
    assert!(matches!(gone, Err(DcsError::Conflict { key: Key::Failover })), "{gone:?}");
}

pub(super) async fn a_renewal_writes_the_status_when_it_differs<W: World>() {
    let mut world = W::open().await;
    let member = world.member("n1");
    member.acquire(LockSeen::default(), SOON).await.expect("the store answers");
    member.renew(Some(&status(7)), None, SOON).await.expect("the store answers");
    assert_eq!(world.get("status").await.as_deref(), Some(r#"{"optime":7}"#));
    let version = member.read(SOON).await.expect("the store answers").version;
    member.renew(Some(&status(7)), None, SOON).await.expect("the store answers");
    assert_eq!(member.read(SOON).await.expect("the store answers").version > version, W::ANNOTATIONS);
    member.renew(Some(&status(8)), None, SOON).await.expect("the store answers");
    assert_eq!(world.get("status").await.as_deref(), Some(r#"{"optime":8}"#));
}

pub(super) async fn a_renewal_writes_our_record_while_the_lock_is_ours_and_on_our_lease<W: World>() {
    let mut world = W::open().await;
    let member = world.resume("n1", timing(2), None);
    member.acquire(LockSeen::default(), SOON).await.expect("the store answers");
    member.renew(None, Some(&record("starting")), SOON).await.expect("the store answers");
    assert_eq!(world.get("members/n1").await, Some(record("starting").to_string()));
    member.renew(Some(&status(7)), Some(&record("running")), SOON).await.expect("the store answers");
    assert_eq!(world.get("members/n1").await, Some(record("running").to_string()));
    let version = member.read(SOON).await.expect("the store answers").version;
    member.publish(&record("running"), SOON).await.expect("the store answers");
    assert_eq!(member.read(SOON).await.expect("the store answers").version, version, "it stands there already");
    world.delete("leader").await;
    let late = member.renew(None, Some(&record("stopping")), SOON).await.expect("the store answers");
    assert_eq!(late, Lock::NotHeld);
    assert_eq!(world.get("members/n1").await, Some(record("running").to_string()));
    if W::ANNOTATIONS {
        return;
    }
    let other = world.member("n2");
    let is_gone = async || other.read(SOON).await.expect("the store answers").view.members.is_empty();
    eventually("the record goes with the lease", is_gone).await;
}

pub(super) async fn a_record_is_restored_when_it_was_removed<W: World>() {
    let mut world = W::open().await;
    let member = world.member("n1");
    member.publish(&record("running"), SOON).await.expect("the store answers");
    assert_eq!(world.get("members/n1").await, Some(record("running").to_string()));
    world.delete("members/n1").await;
    assert!(member.read(SOON).await.expect("the store answers").view.members.is_empty());
    member.publish(&record("running"), SOON).await.expect("the store answers");
    assert_eq!(world.get("members/n1").await, Some(record("running").to_string()));
    member.publish(&record("stopping"), SOON).await.expect("the store answers");
    let snapshot = member.snapshot(SOON).await.expect("the store answers");
    assert_eq!(snapshot.view.members[&"n1".into()].state, MemberState::Stopping);
}

pub(super) async fn every_document_arrives_in_the_snapshot<W: World>() {
    let mut world = W::open().await;
    world.put("config", r#"{"ttl":30}"#).await;
    world.put("history", r#"[[1,5,"no recovery target specified"]]"#).await;
    world.put("failsafe", r#"{"n1":"http://h/patroni"}"#).await;
    world.put("sync", r#"{"leader":"n1","quorum":0,"sync_standby":null}"#).await;
    world.put("members/n1", r#"{"state":"running","foo":"bar"}"#).await;
    world.put("members/n2", "garbage").await;
    let snapshot = world.member("n3").snapshot(SOON).await.expect("the store answers");
    let documents = &snapshot.documents;
    let value = |document: &Option<tamada::dcs::Document>| document.clone().expect("it is there").value;
    assert_eq!(value(&documents.config), json!({"ttl": 30}));
    assert_eq!(value(&documents.history), json!([[1, 5, "no recovery target specified"]]));
    assert_eq!(value(&documents.failsafe), json!({"n1": "http://h/patroni"}));
    assert_eq!(documents.switchover, None);
    assert_eq!(documents.members.len(), 1);
    assert_eq!(documents.members[&"n1".into()]["foo"], "bar");
    assert_eq!(snapshot.view.members.len(), 2);
    assert_eq!(snapshot.view.sync.leader, Some("n1".into()));
}

pub(super) async fn everything_of_the_cluster_is_removed<W: World>() {
    let mut world = W::open().await;
    let member = world.member("n1");
    let keys = [
        ("leader", "n9"),
        ("status", r#"{"optime":7}"#),
        ("initialize", "7710921647475908793"),
        ("config", r#"{"ttl":30}"#),
        ("history", r#"[[1,5,"no recovery target specified"]]"#),
        ("failsafe", r#"{"n1":"http://h/patroni"}"#),
        ("failover", r#"{"leader":"n9"}"#),
        ("sync", r#"{"leader":"n1","quorum":0,"sync_standby":null}"#),
    ];
    for (path, value) in keys {
        world.put(path, value).await;
    }
    member.publish(&record("running"), SOON).await.expect("the store answers");
    member.remove_cluster(SOON).await.expect("the store answers");
    for (path, _) in keys {
        assert_eq!(world.get(path).await, None, "{path}");
    }
    // A pod is not the cluster's to delete.
    assert_eq!(world.get("members/n1").await.is_some(), W::ANNOTATIONS);
    member.remove_cluster(SOON).await.expect("nothing is left");
    let snapshot = world.member("n2").read(SOON).await.expect("the store answers");
    let (view, documents) = (&snapshot.view, &snapshot.documents);
    assert_eq!((&view.leader, view.initialize.clone(), &view.sync.leader), (&None, Initialize::Absent, &None));
    assert_eq!((&documents.config, &documents.switchover, &documents.history), (&None, &None, &None));
    let another = world.member("n3");
    let seen = another.snapshot(SOON).await.expect("the store answers").expect(None);
    another.replace(Key::Initialize, Content::Claim, seen, SOON).await.expect("another cluster begins in its place");
}
