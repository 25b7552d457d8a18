//! What is asked of the API server: in which form, and at rest.

use std::collections::{BTreeMap, BTreeSet};

use tamada::core::lock_seen::LockSeen;
use tamada::dcs::Dcs;

use super::kube_api::{KubeApi, Options};
use super::{SOON, World, eventually, record, status};

/// A strategic merge patch leaves empty annotations where it should remove some and the object has none, on servers before
/// <https://github.com/kubernetes/kubernetes/pull/107705>.
#[tokio::test]
async fn no_patch_is_a_strategic_one() {
    let world = World::around(KubeApi::stand_in(Options::loopback()));
    let member = world.member("n1");
    assert!(member.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    member.publish(&record("running"), SOON).await.expect("the server answers");
    member.release(Some(&status(7)), Some(&record("stopped")), SOON).await.expect("the server answers");
    let records = world.api.records();
    let forms: BTreeSet<&str> = records
        .iter()
        .filter(|record| record.asked.verb == "patch" && record.user_agent.is_empty())
        .map(|record| record.content_type.as_str())
        .collect();
    assert_eq!(forms, BTreeSet::from(["application/merge-patch+json"]));
}

/// One write of the lock a cycle, and nothing else.
#[tokio::test]
async fn an_idle_cluster_sends_one_patch_a_cycle() {
    const CYCLES: usize = 6;
    let world = World::open();
    let (leader, member) = (world.other("n1", 30), world.other("n2", 30));
    assert!(leader.acquire(LockSeen::default(), SOON).await.expect("the server answers").is_held());
    for one in [&leader, &member] {
        one.snapshot(SOON).await.expect("the server answers");
        one.publish(&record("running"), SOON).await.expect("the server answers");
    }
    // What acquiring brings with it.
    eventually("all is at rest", async || {
        let leader = member.snapshot(SOON).await.expect("the server answers").view.leader.clone();
        leader.is_some() && world.api.records().iter().any(|record| record.asked.resource == "leases")
    })
    .await;
    world.api.clear_records();
    for _ in 0..CYCLES {
        leader.renew(Some(&status(7)), Some(&record("running")), SOON).await.expect("the server answers");
        for one in [&leader, &member] {
            one.snapshot(SOON).await.expect("the server answers");
            one.publish(&record("running"), SOON).await.expect("the server answers");
        }
    }
    let mut asked: BTreeMap<(String, String), usize> = BTreeMap::new();
    for record in world.api.records() {
        *asked.entry((record.asked.verb.clone(), record.asked.resource.clone())).or_default() += 1;
    }
    let expected = BTreeMap::from([(("patch".to_owned(), "configmaps".to_owned()), CYCLES)]);
    assert_eq!(asked, expected);
}
