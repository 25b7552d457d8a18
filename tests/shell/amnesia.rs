//! The store is restored from a backup, or wiped, under living members.

use std::time::Duration;

use serde_json::json;
use tamada::agent::mailbox::{Request, SwitchoverDocument};
use tamada::core::units::Instant;
use tamada::dcs::memory::{Backup, Fault};
use tokio::time::sleep;

use crate::failover::leader_of;
use crate::node::Node;
use crate::start::three;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(30);

/// Nothing happened to the server of this primary, which holds the lock again within `limit`.
async fn goes_on(world: &World, nodes: &[Node], leader: usize, limit: Duration) {
    let name = nodes[leader].name;
    let (stops, promotions) = (world.count("stop"), world.count("promote"));
    world.until("the leader has its lock again", limit, || nodes[leader].says_leader() && is_leader(world, name)).await;
    world.settled(&nodes.iter().collect::<Vec<_>>(), TTL * 2).await;
    assert_eq!(world.primary(), Some(name));
    assert_eq!((world.count("stop"), world.count("promote")), (stops, promotions));
}

fn is_leader(world: &World, name: &str) -> bool {
    world.leader().as_deref() == Some(name)
}

/// Whoever is cut off has stopped before another promotes, which is not before a ttl has passed.
async fn is_replaced(world: &World, nodes: &[Node], cut_off: usize) -> &'static str {
    is_replaced_since(world, nodes, cut_off, world.now()).await
}

async fn is_replaced_since(world: &World, nodes: &[Node], cut_off: usize, forgot: Instant) -> &'static str {
    let name = nodes[cut_off].name;
    world.until("another leads", TTL * 3, || world.primary().is_some_and(|primary| primary != name)).await;
    let new = world.primary().unwrap();
    let promoted = world.when(new, "promote").unwrap();
    assert!(world.when(name, "stop").is_some_and(|stopped| stopped < promoted));
    assert!(promoted.since(forgot) >= TTL, "{:?}", promoted.since(forgot));
    nodes[cut_off].fault(Fault::None);
    world.settled(&nodes.iter().collect::<Vec<_>>(), TTL * 3).await;
    assert_eq!(world.primary(), Some(new));
    assert_eq!(world.inner().initdbs, 1);
    new
}

pub async fn switched_over(world: &World, nodes: &[Node; 3], from: usize) -> usize {
    let to = (from + 1) % 3;
    let names = [from, to].map(|at| Some(nodes[at].name.to_owned()));
    let [leader, candidate] = names;
    let document = SwitchoverDocument { leader, candidate, scheduled_at: None };
    let written = nodes[from].ask(|answer| Request::Switchover(document, answer), SECOND).await;
    assert_eq!(written, Ok(()));
    world.until("the candidate leads", SECOND * 5, || world.primary() == Some(nodes[to].name)).await;
    world.settled(&nodes.each_ref(), SECOND * 30).await;
    to
}

#[tokio::test(start_paused = true)]
async fn a_leader_goes_on_in_a_wiped_store() {
    let world = World::new();
    let nodes = three(&world).await;
    sleep(SECOND * 15).await;
    let leader = leader_of(&world, &nodes);
    let (id, config) = (world.store.get_raw("initialize"), world.store.get_raw("config"));
    world.store.restore(Backup::default());
    goes_on(&world, &nodes, leader, SECOND).await;
    world.until("the documents are back", SECOND * 12, || world.store.get_raw("config") == config).await;
    assert_eq!(world.store.get_raw("initialize"), id);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_from_a_wiped_store_is_replaced_after_a_ttl() {
    let world = World::new();
    let nodes = three(&world).await;
    sleep(SECOND * 15).await;
    let leader = leader_of(&world, &nodes);
    nodes[leader].fault(Fault::Unreachable);
    world.store.restore(Backup::default());
    is_replaced(&world, &nodes, leader).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_goes_on_in_a_store_that_knows_its_predecessor() {
    let world = World::new();
    let nodes = three(&world).await;
    sleep(SECOND * 15).await;
    let backup = world.store.backup();
    let leader = switched_over(&world, &nodes, leader_of(&world, &nodes)).await;
    sleep(SECOND * 15).await;
    world.store.restore(backup);
    goes_on(&world, &nodes, leader, SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_predecessor_that_a_restored_store_names_does_not_promote() {
    let world = World::new();
    let nodes = three(&world).await;
    sleep(SECOND * 15).await;
    let former = leader_of(&world, &nodes);
    let backup = world.store.backup();
    let leader = switched_over(&world, &nodes, former).await;
    sleep(SECOND * 15).await;
    // Its records in the store are of a time before the switchover; nobody has the last of its WAL but itself.
    nodes[leader].fault(Fault::Unreachable);
    world.store.restore(backup);
    is_replaced(&world, &nodes, leader).await;
}

/// The former leader's agent was not there when the store lost its data; its lease is in the backup.
#[tokio::test(start_paused = true)]
async fn a_new_agent_of_a_predecessor_leaves_the_lock_to_the_last_leader() {
    let world = World::new();
    let mut nodes = three(&world).await;
    sleep(SECOND * 15).await;
    let former = leader_of(&world, &nodes);
    let backup = world.store.backup();
    let leader = switched_over(&world, &nodes, former).await;
    sleep(SECOND * 15).await;
    world.store.restore(backup);
    nodes[former].restart_agent(SECOND / 2).await;
    goes_on(&world, &nodes, leader, SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_member_makes_no_second_cluster_of_a_wiped_store() {
    let world = World::new();
    let nodes = three(&world).await;
    sleep(SECOND * 15).await;
    let leader = leader_of(&world, &nodes);

    let waiting = Node::start(&world, "n4");
    world.until("it has been cloned", SECOND * 30, || waiting.server(|server| server.is_running())).await;
    nodes[leader].fault(Fault::Unreachable);
    world.store.restore(Backup::default());
    let late = Node::start(&world, "n5");
    is_replaced(&world, &nodes, leader).await;
    world.until("the newcomer has been cloned", TTL, || late.server(|server| server.is_running())).await;
    assert_eq!(world.inner().initdbs, 1);
    assert!(world.store.get_raw("initialize").is_some_and(|id| json!(id) == json!("7000000000000000001")));
}

/// Both others' agents are started anew while they wait, so that nobody who noticed the loss is left.
#[tokio::test(start_paused = true)]
async fn a_new_agent_goes_on_with_the_wait_for_a_leader_that_is_cut_off() {
    let world = World::new();
    let mut nodes = three(&world).await;
    sleep(SECOND * 15).await;
    let leader = leader_of(&world, &nodes);
    nodes[leader].fault(Fault::Unreachable);
    world.store.restore(Backup::default());
    let forgot = world.now();
    sleep(SECOND * 2).await;
    for other in [(leader + 1) % 3, (leader + 2) % 3] {
        nodes[other].restart_agent(SECOND / 2).await;
    }
    is_replaced_since(&world, &nodes, leader, forgot).await;
}

/// Nobody was there to notice the loss but the leader, which is cut off.
#[tokio::test(start_paused = true)]
async fn a_new_agent_notices_what_was_lost_while_there_was_none() {
    let world = World::new();
    let mut nodes = three(&world).await;
    sleep(SECOND * 15).await;
    let leader = leader_of(&world, &nodes);
    nodes[leader].fault(Fault::Unreachable);
    for other in [(leader + 1) % 3, (leader + 2) % 3] {
        nodes[other].fault(Fault::Unreachable);
    }
    world.store.restore(Backup::default());
    let forgot = world.now();
    for other in [(leader + 1) % 3, (leader + 2) % 3] {
        nodes[other].restart_agent(SECOND / 2).await;
    }
    is_replaced_since(&world, &nodes, leader, forgot).await;
}
