//! Leaders that die, freeze, lose the store or lose the lock.

use std::time::Duration;

use tamada::core::local::Guard;
use tamada::dcs::memory::Fault;
use tokio::time::sleep;

use crate::node::Node;
use crate::settings;
use crate::start::three;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(30);

pub fn leader_of(world: &World, nodes: &[Node]) -> usize {
    let leader = world.primary().unwrap();
    nodes.iter().position(|node| node.name == leader).unwrap()
}

pub fn others(nodes: &[Node], leader: usize) -> Vec<&Node> {
    nodes.iter().enumerate().filter(|(at, _)| *at != leader).map(|(_, node)| node).collect()
}

#[tokio::test(start_paused = true)]
async fn a_replica_takes_over_when_the_leader_dies() {
    let world = World::new();
    let mut nodes = three(&world).await;
    sleep(SECOND * 15).await;
    let old = leader_of(&world, &nodes);
    nodes[old].die();
    let rest = others(&nodes, old);
    let died = world.now();
    let new = world.settled(&rest, TTL + SECOND * 4).await;
    assert_ne!(new, nodes[old].name);
    assert!(world.when(new, "promote").unwrap().since(died) < TTL + SECOND * 3);
    let history = || world.store.get_raw("history").unwrap_or_default();
    world.until("the history with the new leader's name", SECOND * 15, || history().contains(new)).await;

    // The old one comes back on its old volume and follows.
    let name = nodes[old].name;
    nodes[old] = Node::start(&world, name);
    world.settled(&nodes.each_ref(), SECOND * 30).await;
    assert_eq!(world.primary(), Some(new));
    assert_eq!(world.inner().initdbs, 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_the_store_has_stopped_before_another_promotes() {
    let world = World::new();
    let nodes = three(&world).await;
    let old = leader_of(&world, &nodes);
    let name = nodes[old].name;
    let armed = matches!(nodes[old].init.guard_now(), Guard::Until(_));
    assert!(armed, "a leader's PID 1 has a deadline");
    let since = world.now();
    nodes[old].fault(Fault::Unreachable);
    world.until("another leader", TTL + SECOND * 5, || world.primary().is_some_and(|primary| primary != name)).await;
    let stopped = world.when(name, "stop").expect("it stops by itself, before PID 1 has to");
    let promoted = world.when(world.primary().unwrap(), "promote").unwrap();
    assert!(stopped < promoted);
    assert_eq!(world.when(name, "fenced"), None);
    assert!(stopped.since(since) < TTL - SECOND);
    assert!(!nodes[old].says_leader());

    // The store is back: it follows the new leader.
    nodes[old].fault(Fault::None);
    world.settled(&nodes.each_ref(), SECOND * 30).await;
}

#[tokio::test(start_paused = true)]
async fn a_frozen_leader_is_fenced_before_another_promotes() {
    let world = World::new();
    let mut nodes = three(&world).await;
    let old = leader_of(&world, &nodes);
    let name = nodes[old].name;
    nodes[old].freeze();
    world.until("another leader", TTL + SECOND * 5, || world.primary().is_some_and(|primary| primary != name)).await;
    let fenced = world.when(name, "fenced").unwrap();
    assert!(fenced < world.when(world.primary().unwrap(), "promote").unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_changes_nothing() {
    let world = World::new();
    let nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    let promotions = world.count("promote");
    for node in &nodes {
        node.fault(Fault::Unreachable);
    }
    sleep(SECOND * 12).await;
    for node in &nodes {
        node.fault(Fault::None);
    }
    sleep(SECOND * 60).await;
    assert_eq!(world.primary(), Some(nodes[leader].name));
    assert_eq!((world.count("promote"), world.count("stop")), (promotions, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lost_lock_demotes_at_once() {
    let world = World::new();
    let nodes = three(&world).await;
    sleep(SECOND * 5).await;
    let old = leader_of(&world, &nodes);
    let thief = others(&nodes, old)[0].name;
    world.store.delete_raw("leader");
    world.store.put_raw("leader", thief);
    let stopped = || world.when(nodes[old].name, "stop").is_some();
    let took = world.until("the old leader stops", SECOND * 3, stopped).await;
    assert!(took < SECOND, "{took:?}");
    assert!(!nodes[old].says_leader());
}

#[tokio::test(start_paused = true)]
async fn a_crashed_primary_is_started_in_place_on_its_timeline() {
    let world = World::new();
    let nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    nodes[leader].crash();
    let took = world.settled(&nodes.each_ref(), SECOND * 5).await;
    assert_eq!(took, nodes[leader].name);
    assert_eq!(world.count("promote"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_goes_on_with_the_same_lease() {
    let world = World::new();
    let mut nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    let lease = nodes[leader].init.lease_kept();
    assert!(lease.is_some());
    let happened = world.inner().happenings.iter().filter(|one| one.node == nodes[leader].name).count();
    nodes[leader].restart_agent(SECOND * 5).await;
    sleep(SECOND * 60).await;
    assert_eq!(world.primary(), Some(nodes[leader].name));
    assert_eq!(nodes[leader].init.lease_kept(), lease);
    let inner = world.inner();
    let since: Vec<_> = inner.happenings.iter().filter(|one| one.node == nodes[leader].name).skip(happened).collect();
    assert!(since.iter().all(|one| one.what == "roles"), "the server is not disturbed: {since:?}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_back_without_its_server_starts_it_at_once() {
    let world = World::new();
    let mut nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    nodes[leader].crash();
    nodes[leader].restart_agent(Duration::ZERO).await;
    let took = world.until("a primary", SECOND * 5, || world.primary().is_some()).await;
    // The configuration takes 100 ms to be written, the start 200 ms.
    assert!(took < Duration::from_millis(350), "{took:?}");
    assert_eq!((world.primary(), world.count("promote")), (Some(nodes[leader].name), 0));
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_lost_right_after_it_was_won_promotes_nobody() {
    let world = World::new();
    let timers = [("PATRONI_TTL", "20"), ("PATRONI_LOOP_WAIT", "5"), ("PATRONI_RETRY_TIMEOUT", "5")];
    let mut nodes = ["n1", "n2"].map(|name| Node::start_with(&world, settings::with(name, &timers)));
    world.settled(&nodes.each_ref(), SECOND * 20).await;
    let old = leader_of(&world, &nodes);
    let next = 1 - old;
    let name = nodes[next].name;
    // Each call takes so long that the renewal is due when the promotion is decided.
    nodes[next].fault(Fault::Latency(SECOND * 3));
    nodes[old].die();
    world.until("the lock", SECOND * 60, || world.leader().as_deref() == Some(name)).await;
    sleep(SECOND / 5).await;
    assert!(nodes[next].says_leader(), "the health check does not wait for the cycle's end");
    sleep(SECOND * 4).await;
    world.store.delete_raw("leader");
    world.store.put_raw("leader", "thief");
    sleep(SECOND * 4).await;
    assert!(!nodes[next].says_leader());
    sleep(SECOND * 30).await;
    assert_eq!(world.count("promote"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_loss_shows_before_the_slow_rest_of_its_cycle() {
    let world = World::new();
    let nodes = three(&world).await;
    let old = leader_of(&world, &nodes);
    nodes[old].fault(Fault::Latency(SECOND * 4));
    sleep(SECOND * 30).await;
    assert!(nodes[old].says_leader());
    world.store.delete_raw("leader");
    world.store.put_raw("leader", "thief");
    // At most the rest of a call and one reading.
    let took = world.until("the health check's answer", SECOND * 30, || !nodes[old].says_leader()).await;
    assert!(took <= SECOND * 17, "{took:?}");
    let stop = world.until("the stop", SECOND * 5, || world.when(nodes[old].name, "stop").is_some()).await;
    assert!(stop < SECOND * 9 / 2, "one reading: {stop:?}");
}

#[tokio::test(start_paused = true)]
async fn a_start_as_primary_is_given_up_with_the_lock() {
    let world = World::new();
    let nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    let name = nodes[leader].name;
    nodes[leader].server(|server| server.start_takes = SECOND * 100);
    nodes[leader].crash();
    sleep(SECOND * 5).await;
    nodes[leader].fault(Fault::Unreachable);
    let another = || world.primary().is_some_and(|primary| primary != name);
    world.until("another leader", TTL + SECOND * 5, another).await;
    let stopped = world.when(name, "stop").expect("the start is cancelled and what it started is stopped");
    assert!(stopped < world.when(world.primary().unwrap(), "promote").unwrap());
    assert_eq!(world.when(name, "fenced"), None);
}

/// `primary_start_timeout: 0` asks for another member to take over after a crash, at once.
#[tokio::test(start_paused = true)]
async fn a_crashed_leader_that_gives_way_at_once_is_followed_by_another_member_at_once() {
    for members in [2, 3] {
        let world = World::new();
        let names = ["a", "b", "c"];
        let variables = [("PATRONI_TTL", "30"), ("PATRONI_LOOP_WAIT", "2"), ("PATRONI_PRIMARY_START_TIMEOUT", "0")];
        let nodes: Vec<Node> =
            names[..members].iter().map(|name| Node::start_with(&world, settings::with(name, &variables))).collect();
        world.settled(&nodes.iter().collect::<Vec<_>>(), SECOND * 30).await;
        sleep(SECOND * 15).await;
        let old = leader_of(&world, &nodes);
        nodes[old].crash();
        let crashed = world.now();
        let other = || world.primary().is_some_and(|primary| primary != nodes[old].name);
        let took = world.until("another primary", SECOND * 5, other).await;
        assert!(took < Duration::from_millis(500), "{took:?} with {members}");
        world.settled(&nodes.iter().collect::<Vec<_>>(), SECOND * 30).await;
        assert!(world.when(nodes[old].name, "promote").is_none_or(|at| at < crashed), "it led again");
    }
}
