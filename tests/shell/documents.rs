//! The cluster's documents are written by whoever leads, and not by one who did.

use std::time::Duration;

use tamada::dcs::memory::Fault;
use tokio::time::sleep;

use crate::amnesia::switched_over;
use crate::failover::leader_of;
use crate::node::Node;
use crate::start::three;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_history_that_comes_late_does_not_take_the_clusters_timeline_back() {
    let world = World::new();
    let nodes = three(&world).await;
    sleep(SECOND * 15).await;
    let first = leader_of(&world, &nodes);
    let (second, third) = ((first + 1) % 3, (first + 2) % 3);
    world.inner().slow_history.insert(nodes[second].name, SECOND * 40);
    assert_eq!(switched_over(&world, &nodes, first).await, second);
    // By then it has begun to read its history.
    sleep(SECOND * 2).await;
    assert_eq!(switched_over(&world, &nodes, second).await, third);
    let entries = || {
        let text = world.store.get_raw("history").unwrap_or_default();
        serde_json::from_str::<Vec<serde_json::Value>>(&text).map_or(0, |entries| entries.len())
    };
    world.until("the history of two switchovers", SECOND * 20, || entries() == 2).await;
    for _ in 0..60 {
        sleep(SECOND).await;
        assert_eq!(entries(), 2);
    }
}

/// Somebody else comes first, at each moment between the end of initdb and the new cluster's lock.
#[tokio::test(start_paused = true)]
async fn whoever_has_lost_the_race_writes_no_identifier() {
    for moment in 0..40 {
        let world = World::new();
        let node = Node::start(&world, "n1");
        node.fault(Fault::Latency(SECOND / 2));
        world.until("it is a primary", SECOND * 10, || world.primary().is_some()).await;
        sleep(SECOND * moment / 20).await;
        if world.leader().is_some() {
            return assert!(moment > 5, "only {moment} moments before the lock");
        }
        world.store.put_raw("leader", "thief");
        world.store.put_raw("initialize", "7000000000000000999");
        sleep(SECOND * 20).await;
        assert_eq!(world.store.get_raw("initialize").as_deref(), Some("7000000000000000999"), "moment {moment}");
    }
    panic!("it never took the lock");
}
