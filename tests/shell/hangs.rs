//! Calls that do not return.

use std::time::Duration;

use tamada::agent::init_link::InitLink;
use tamada::core::local::Guard;
use tamada::dcs::memory::Fault;
use tokio::time::sleep;

use crate::failover::leader_of;
use crate::node::Node;
use crate::server::ProbeMode;
use crate::start::three;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_does_not_keep_the_leader_writable() {
    let world = World::new();
    let nodes = three(&world).await;
    sleep(SECOND * 3).await;
    let old = leader_of(&world, &nodes);
    let name = nodes[old].name;
    nodes[old].fault(Fault::Hang);
    world.until("another leader", SECOND * 35, || world.primary().is_some_and(|primary| primary != name)).await;
    assert!(world.when(name, "stop").is_some());
    assert_eq!(world.when(name, "fenced"), None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_every_time_is_an_outage_too() {
    let world = World::new();
    let nodes = three(&world).await;
    let old = leader_of(&world, &nodes);
    let name = nodes[old].name;
    // The lease is renewed all the time, but the leader never learns of it.
    nodes[old].fault(Fault::AnswerLost);
    world.until("the leader stops", SECOND * 31, || world.when(name, "stop").is_some()).await;
    assert_eq!(world.when(name, "fenced"), None);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_the_probe_keeps_its_lock() {
    let world = World::new();
    let nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    nodes[leader].server(|server| server.probe = ProbeMode::Hangs);
    sleep(SECOND * 180).await;
    assert_eq!(world.leader().as_deref(), Some(nodes[leader].name));
    assert_eq!((world.count("stop"), world.count("fenced")), (0, 0));
    nodes[leader].server(|server| server.probe = ProbeMode::Answers);
    world.settled(&nodes.each_ref(), SECOND * 15).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_leaves_the_loop_renewing() {
    let world = World::new();
    let nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    nodes[leader].server(|server| server.start_takes = SECOND * 100);
    nodes[leader].crash();
    sleep(SECOND * 90).await;
    assert_eq!(world.leader().as_deref(), Some(nodes[leader].name));
    assert!(nodes[leader].says_leader());
    world.settled(&nodes.each_ref(), SECOND * 30).await;
    assert_eq!(world.count("promote"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_counts_from_the_beginning_of_its_request() {
    let world = World::new();
    let nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    sleep(SECOND).await;
    nodes[leader].fault(Fault::Latency(SECOND * 4));
    let before = nodes[leader].init.told_at();
    world.until("a slow renewal", SECOND * 20, || nodes[leader].init.told_at() != before).await;
    let Guard::Until(deadline) = nodes[leader].init.guard_now() else { panic!("PID 1 has a deadline") };
    let told = nodes[leader].init.told_at().unwrap();
    assert!(deadline.since(told) <= SECOND * 26, "{:?}", deadline.since(told));
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_heard_while_the_first_look_at_the_server_hangs() {
    let world = World::new();
    let mut node = Node::start(&world, "a");
    node.server(|server| server.probe = ProbeMode::Hangs);
    sleep(SECOND).await;
    node.terminate();
    sleep(SECOND * 2).await;
    node.server(|server| server.probe = ProbeMode::Answers);
    assert_eq!(node.ended(SECOND * 10).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_server_a_new_agent_cannot_look_at_is_no_stopped_one() {
    let world = World::new();
    let mut nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    let name = nodes[leader].name;
    nodes[leader].server(|server| server.probe = ProbeMode::Hangs);
    nodes[leader].restart_agent(SECOND).await;
    sleep(SECOND * 40).await;
    assert_eq!((world.primary(), world.leader().as_deref()), (Some(name), Some(name)));
    assert!(matches!(nodes[leader].init.guard_now(), Guard::Until(_)), "the deadline stands");
    nodes[leader].server(|server| server.probe = ProbeMode::Answers);
    world.settled(&nodes.each_ref(), SECOND * 15).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_lifts_no_deadline_of_a_standby_that_a_former_agent_may_have_told_to_promote() {
    let world = World::new();
    let mut nodes = three(&world).await;
    let other = usize::from(leader_of(&world, &nodes) == 0);
    let deadline = Guard::Until(world.now() + SECOND * 25);
    nodes[other].init.guard(deadline);
    nodes[other].restart_agent(SECOND).await;
    nodes[other].fault(Fault::Unreachable);
    sleep(SECOND * 5).await;
    assert_eq!(nodes[other].init.guard_now(), deadline);
}

/// It was ended at PID 1's deadline, and the agent with it or since.
#[tokio::test(start_paused = true)]
async fn a_new_agent_starts_its_server_for_reads_while_the_store_is_away() {
    let world = World::new();
    let mut nodes = three(&world).await;
    let leader = leader_of(&world, &nodes);
    let name = nodes[leader].name;
    nodes[leader].fault(Fault::Unreachable);
    nodes[leader].crash();
    let (agent, crashed) = (SECOND / 2, world.now());
    nodes[leader].restart_agent(agent).await;
    nodes[leader].fault(Fault::Unreachable);
    let reads = || world.when(name, "start standby").is_some_and(|started| started > crashed);
    world.until("it serves reads", SECOND * 10, reads).await;
    assert!(!nodes[leader].server(|server| server.is_primary()));
    nodes[leader].fault(Fault::None);
    world.settled(&nodes.each_ref(), SECOND * 60).await;
}
