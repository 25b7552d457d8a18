//! What the loop does with a watchdog device.

use std::time::Duration;

use tamada::dcs::memory::Fault;
use tokio::time::sleep;

use crate::failover::leader_of;
use crate::node::Node;
use crate::settings;
use crate::world::{Device, World};

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(30);

async fn two(world: &World, mode: &str, devices: [Device; 2]) -> [Node; 2] {
    let names = ["n1", "n2"];
    for (name, device) in names.into_iter().zip(devices) {
        world.inner().watchdogs.insert(name, device);
    }
    names.map(|name| Node::start_with(world, settings::with(name, &[("PATRONI_WATCHDOG_MODE", mode)])))
}

fn kept_alive(world: &World, name: &str) -> usize {
    world.inner().happenings.iter().filter(|one| one.node == name && one.what == "keepalive").count()
}

#[tokio::test(start_paused = true)]
async fn each_renewal_keeps_the_leaders_watchdog_alive_and_nobody_elses() {
    let world = World::new();
    let nodes = two(&world, "required", [Device::Works; 2]).await;
    world.settled(&nodes.each_ref(), SECOND * 20).await;
    let leader = leader_of(&world, &nodes);
    let before = kept_alive(&world, nodes[leader].name);
    sleep(SECOND * 100).await;
    let renewals = kept_alive(&world, nodes[leader].name) - before;
    assert!((9..=13).contains(&renewals), "{renewals}");
    assert_eq!(world.count("keepalive"), before + renewals, "the standby's is not armed");
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_device_is_missing_never_leads_where_it_is_required() {
    let world = World::new();
    let mut nodes = two(&world, "required", [Device::Missing, Device::Works]).await;
    world.settled(&nodes.each_ref(), SECOND * 60).await;
    assert_eq!(world.primary(), Some("n2"));
    nodes[1].die();
    sleep(TTL * 4).await;
    assert_eq!((world.primary(), world.when("n1", "promote")), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_device_cannot_be_armed_gives_way() {
    let world = World::new();
    let mut nodes = two(&world, "required", [Device::Works, Device::Busy]).await;
    world.until("a leader with a watchdog", TTL * 6, || world.primary() == Some("n1")).await;
    world.settled(&nodes.each_ref(), TTL * 2).await;
    nodes[0].die();
    sleep(TTL * 6).await;
    assert_eq!((world.primary(), world.when("n2", "promote")), (None, None));
}

#[tokio::test(start_paused = true)]
async fn without_one_an_automatic_member_leads_all_the_same() {
    let world = World::new();
    let nodes = two(&world, "automatic", [Device::Missing; 2]).await;
    world.settled(&nodes.each_ref(), SECOND * 20).await;
    sleep(SECOND * 100).await;
    assert_eq!(world.count("no watchdog"), 1, "and PID 1 is asked once");
}

/// An orderly stop, and no reset: an outage of the store is no fault of this machine.
#[tokio::test(start_paused = true)]
async fn in_an_outage_the_leader_has_stopped_and_disarmed_it_before_it_ends() {
    let world = World::new();
    let nodes = two(&world, "required", [Device::Works; 2]).await;
    world.settled(&nodes.each_ref(), SECOND * 20).await;
    let leader = &nodes[leader_of(&world, &nodes)];
    sleep(SECOND * 15).await;
    nodes.iter().for_each(|node| node.fault(Fault::Unreachable));
    let last = world.when(leader.name, "keepalive").unwrap();
    let disarmed = || world.when(leader.name, "disarm").is_some_and(|at| at > last);
    world.until("it is disarmed", SECOND * 25, disarmed).await;
    assert_eq!(world.when(leader.name, "keepalive"), Some(last));
    let (stopped, disarmed) = (world.when(leader.name, "stop").unwrap(), world.when(leader.name, "disarm").unwrap());
    assert!(stopped <= disarmed && disarmed.since(last) < SECOND * 25, "{:?}", disarmed.since(last));
    assert!(stopped.since(last) > SECOND * 20, "it had time for another renewal: {:?}", stopped.since(last));
    assert_eq!(world.when(leader.name, "fenced"), None);
}

/// The agent is frozen: nothing keeps the countdown from its end, which comes before PID 1's own deadline.
#[tokio::test(start_paused = true)]
async fn a_frozen_agent_ends_in_a_reset() {
    let world = World::new();
    let mut nodes = two(&world, "required", [Device::Works; 2]).await;
    world.settled(&nodes.each_ref(), SECOND * 20).await;
    let leader = leader_of(&world, &nodes);
    nodes[leader].freeze();
    let name = nodes[leader].name;
    let last = world.when(name, "keepalive").unwrap();
    world.until("PID 1's deadline", TTL, || world.when(name, "fenced").is_some()).await;
    assert!(world.when(name, "fenced").unwrap().since(last) > SECOND * 25);
    assert_eq!(world.when(name, "keepalive"), Some(last));
    assert!(world.when(name, "disarm").is_none_or(|at| at < last));
}
