//! How often positions that move a little are written. The fake servers write 10 kB of WAL in a second.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::node::Node;
use crate::settings;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

async fn two(world: &World) -> [Node; 2] {
    let eager = [("PATRONI_TTL", "30"), ("PATRONI_LOOP_WAIT", "1"), ("PATRONI_RETRY_TIMEOUT", "10")];
    let nodes = ["n1", "n2"].map(|name| Node::start_with(world, settings::with(name, &eager)));
    world.settled(&nodes.each_ref(), SECOND * 20).await;
    sleep(SECOND * 20).await;
    nodes
}

/// The values that a key takes in a minute of sixty cycles.
async fn values(world: &World, key: &str) -> usize {
    let mut seen = BTreeSet::new();
    for _ in 0..600 {
        seen.insert(world.store.get_raw(key));
        sleep(SECOND / 10).await;
    }
    seen.len()
}

#[tokio::test(start_paused = true)]
async fn a_position_is_written_by_steps_and_not_each_cycle() {
    let world = World::new();
    let _nodes = two(&world).await;
    // 600 kB in steps of 64 KiB and the rest of a cycle.
    for key in ["status", "members/n1", "members/n2"] {
        let count = values(&world, key).await;
        assert!((7..=18).contains(&count), "{key} took {count} values");
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_is_written_each_cycle_beside_a_patroni_member() {
    let world = World::new();
    let _nodes = two(&world).await;
    world.store.put_raw("members/other", &json!({"state": "running", "role": "replica"}).to_string());
    sleep(SECOND * 2).await;
    for key in ["status", "members/n1"] {
        let count = values(&world, key).await;
        assert!(count > 50, "{key} took {count} values");
    }
}
