//! Planned changes: switchover, shutdown, pause.

use std::time::Duration;

use tamada::agent::mailbox::{Request, SwitchoverDocument};
use tamada::core::local::Guard;
use tokio::time::sleep;

use crate::failover::leader_of;
use crate::start::three;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_switchover_goes_to_the_candidate_and_loses_nothing() {
    let world = World::new();
    let nodes = three(&world).await;
    sleep(SECOND * 12).await;
    let old = leader_of(&world, &nodes);
    let candidate = nodes[(old + 1) % 3].name;
    let document = SwitchoverDocument {
        leader: Some(nodes[old].name.to_owned()),
        candidate: Some(candidate.to_owned()),
        scheduled_at: None,
    };
    let began = world.now();
    let written = nodes[old].ask(|answer| Request::Switchover(document, answer), SECOND).await;
    assert_eq!(written, Ok(()));
    world.until("the candidate leads", SECOND * 5, || world.primary() == Some(candidate)).await;
    let stopped = world.when(nodes[old].name, "stop").unwrap();
    let promoted = world.when(candidate, "promote").unwrap();
    assert!(stopped < promoted);
    assert!(promoted.since(began) < SECOND * 2, "{:?}", promoted.since(began));
    world.settled(&nodes.each_ref(), SECOND * 15).await;
    assert_eq!(world.primary(), Some(candidate));
    assert_eq!(world.store.get_raw("failover").as_deref(), Some("{}"));
    assert_eq!(world.count("rewind"), 0, "the old leader's WAL is a prefix of the new one's");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_told_to_end_hands_over_after_its_stop() {
    let world = World::new();
    let mut nodes = three(&world).await;
    let old = leader_of(&world, &nodes);
    let name = nodes[old].name;
    let began = world.now();
    nodes[old].terminate();
    assert_eq!(nodes[old].ended(SECOND * 10).await, 0);
    world.until("another leader", SECOND * 5, || world.primary().is_some()).await;
    let new = world.primary().unwrap();
    assert_ne!(new, name);
    let stopped = world.when(name, "stop").unwrap();
    let promoted = world.when(new, "promote").unwrap();
    assert!(stopped < promoted);
    assert!(promoted.since(began) < SECOND * 2, "{:?}", promoted.since(began));
    let record = world.store.get_raw(&format!("members/{name}")).unwrap();
    assert!(record.contains(r#""state":"stopped","role":"primary""#), "{record}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_told_to_end_stops_its_server() {
    let world = World::new();
    let mut nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    let replica = (leader + 1) % 3;
    nodes[replica].terminate();
    assert_eq!(nodes[replica].ended(SECOND * 5).await, 0);
    assert!(!nodes[replica].server(|server| server.is_running()));
    assert_eq!(world.primary(), Some(nodes[leader].name));
}

#[tokio::test(start_paused = true)]
async fn a_paused_cluster_keeps_a_primary_whatever_the_store_does() {
    let world = World::new();
    let mut nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    let mut pause = serde_json::Map::new();
    pause.insert("pause".to_owned(), true.into());
    let change = tamada::agent::mailbox::ConfigChange::Merge(pause);
    nodes[leader].ask(|answer| Request::Config(change, answer), SECOND).await;
    sleep(SECOND * 11).await;
    assert_eq!(nodes[leader].init.guard_now(), tamada::core::local::Guard::NoDeadline);
    nodes[leader].fault(tamada::dcs::memory::Fault::Unreachable);
    sleep(SECOND * 120).await;
    assert_eq!(world.primary(), Some(nodes[leader].name));

    nodes[leader].terminate();
    assert_eq!(nodes[leader].ended(SECOND * 5).await, 0);
    assert_eq!(world.primary(), Some(nodes[leader].name), "its server is left running");
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_the_deadline_holds_at_once() {
    let world = World::new();
    let mut nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    let guard = |nodes: &[crate::node::Node; 3]| nodes[leader].init.guard_now();
    world.store.put_raw("config", r#"{"pause":true}"#);
    world.until("the deadline is lifted", SECOND * 15, || guard(&nodes) == Guard::NoDeadline).await;
    sleep(SECOND * 12).await;
    world.store.put_raw("config", r#"{"ttl":30}"#);
    world.until("the deadline holds", SECOND, || guard(&nodes) != Guard::NoDeadline).await;
    // Nobody renews from now on: PID 1 ends it before another member leads.
    nodes[leader].freeze();
    let old = nodes[leader].name;
    world.until("another leads", SECOND * 40, || world.leader().is_some_and(|name| name != old)).await;
    assert!(world.when(old, "fenced").is_some());
}
