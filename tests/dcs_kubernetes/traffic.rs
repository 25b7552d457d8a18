//! What is asked of the API server at rest.

use std::collections::BTreeMap;
use std::time::Duration;

use tamada::core::lock_seen::LockSeen;
use tamada::dcs::Dcs;

use super::{SOON, World, record, status};

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
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.api.clear_records();
    for _ in 0..CYCLES {
        leader.renew(Some(&status(7)), Some(&record("running")), SOON).await.expect("the server answers");
        for one in [&leader, &member] {
            one.snapshot(SOON).await.expect("the server answers");
            one.publish(&record("running"), SOON).await.expect("the server answers");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut asked: BTreeMap<(String, String), usize> = BTreeMap::new();
    for record in world.api.records() {
        *asked.entry((record.asked.verb.clone(), record.asked.resource.clone())).or_default() += 1;
    }
    let expected = BTreeMap::from([(("patch".to_owned(), "configmaps".to_owned()), CYCLES)]);
    assert_eq!(asked, expected);
}
