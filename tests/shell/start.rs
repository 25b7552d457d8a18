//! How a cluster begins.

use std::time::Duration;

use serde_json::json;
use tamada::core::local::Guard;
use tamada::core::units::SystemId;
use tamada::dcs::memory::Fault;
use tokio::time::sleep;

use crate::node::Node;
use crate::server::Server;
use crate::settings;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

pub async fn three(world: &World) -> [Node; 3] {
    let nodes = ["n1", "n2", "n3"].map(|name| Node::start(world, name));
    world.settled(&nodes.each_ref(), SECOND * 20).await;
    nodes
}

#[tokio::test(start_paused = true)]
async fn three_that_start_together_make_one_cluster() {
    let world = World::new();
    let nodes = three(&world).await;
    assert_eq!(world.inner().initdbs, 1);
    let leader = world.primary().unwrap();
    world
        .until("the cluster's documents", SECOND * 3, || {
            let config = world.store.get_raw("config").is_some_and(|text| text.contains("\"ttl\":30"));
            config
                && world.store.get_raw("initialize").is_some_and(|id| id.parse() == Ok(7_000_000_000_000_000_001_u64))
        })
        .await;
    let slots = |node: &Node| node.server(|server| server.slots.len());
    let primary = nodes.iter().find(|node| node.name == leader).unwrap();
    world.until("a slot for each replica", SECOND * 20, || slots(primary) == 2).await;
    world.until("and on the replicas for a failover", SECOND * 20, || nodes.iter().all(|node| slots(node) == 2)).await;
    assert!(primary.says_leader());
    assert_eq!(nodes.iter().filter(|node| node.says_leader()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_waits_for_the_store_and_ends_when_told() {
    let world = World::new();
    let mut node = Node::start(&world, "n1");
    node.fault(Fault::Hang);
    sleep(SECOND * 60).await;
    assert!(node.is_running());
    assert_eq!(world.inner().initdbs, 0);
    node.terminate();
    assert_eq!(node.ended(SECOND * 2).await, 0);
}

#[tokio::test(start_paused = true)]
async fn the_store_is_found_once_it_answers() {
    let world = World::new();
    let node = Node::start(&world, "n1");
    node.fault(Fault::Unreachable);
    sleep(SECOND * 30).await;
    node.fault(Fault::None);
    world.settled(&[&node], SECOND * 10).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_node_of_the_same_name_ends_at_once() {
    let world = World::new();
    world.inner().servers.insert("elsewhere", Server::new("elsewhere"));
    world.store.put_raw("members/n1", &json!({"api_url": "http://elsewhere:8008/patroni"}).to_string());
    let mut node = Node::start(&world, "n1");
    assert_eq!(node.ended(SECOND * 4).await, 1);
    assert_eq!(world.inner().initdbs, 0);
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_record_of_the_same_name_is_no_reason_to_stay_away() {
    let world = World::new();
    world.store.put_raw("members/n1", &json!({"api_url": "http://gone:8008/patroni"}).to_string());
    let node = Node::start(&world, "n1");
    world.settled(&[&node], SECOND * 15).await;
}

#[tokio::test(start_paused = true)]
async fn a_single_server_needs_no_cluster() {
    let world = World::new();
    world.inner().unguarded = true;
    let mut node = Node::start_with(&world, settings::single("only"));
    world.until("a primary", SECOND * 5, || world.primary() == Some("only")).await;
    world.until("its health check", SECOND * 2, || node.says_leader()).await;
    sleep(SECOND * 120).await;
    assert!(node.says_leader());
    assert_eq!(node.init.guard_now(), Guard::NoDeadline);
    assert!(node.server(|server| server.slots.is_empty()));

    node.crash();
    world.until("a start in place", SECOND * 5, || world.when("only", "start primary").is_some()).await;
    assert_eq!(world.count("promote"), 0);
    node.terminate();
    assert_eq!(node.ended(SECOND * 5).await, 0);
    assert!(!node.server(|server| server.is_running()));
}

#[tokio::test(start_paused = true)]
async fn data_of_another_cluster_are_not_touched() {
    let world = World::new();
    let first = Node::start(&world, "n1");
    world.settled(&[&first], SECOND * 10).await;
    let other = World::new();
    let stranger = Node::start(&other, "n2");
    other.settled(&[&stranger], SECOND * 10).await;
    let mut files = stranger.server(|server| server.files.clone()).unwrap();
    files.system_id = SystemId(1_234_567_890_123);
    files.dynamic = None;
    let mut server = Server::new("n2");
    server.files = Some(files);
    world.inner().servers.insert("n2", server);

    let mut lost = Node::start(&world, "n2");
    assert_eq!(lost.ended(SECOND * 5).await, 1);
    let (configured, dynamic) =
        lost.server(|server| (server.configured, server.files.as_ref().unwrap().dynamic.clone()));
    assert_eq!((configured, dynamic), (0, None));
    assert_eq!(world.store.get_raw("members/n2"), None);
}

#[tokio::test(start_paused = true)]
async fn a_bootstrap_that_fails_leaves_the_claim_to_another() {
    let world = World::new();
    let mut server = Server::new("n1");
    server.initdb_fails = true;
    world.inner().servers.insert("n1", server);
    let mut first = Node::start(&world, "n1");
    sleep(SECOND / 10).await;
    assert_eq!(world.store.get_raw("initialize").as_deref(), Some(""));
    let second = Node::start(&world, "n2");
    assert_eq!(first.ended(SECOND * 5).await, 1);
    world.settled(&[&second], SECOND * 5).await;
    assert_eq!(world.primary(), Some("n2"));
}
