//! What the loop does around `pre_promote`.

use std::time::Duration;

use tokio::time::sleep;

use crate::failover::{leader_of, others};
use crate::node::Node;
use crate::server::PrePromote;
use crate::start::three;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(30);

/// How often a member's `pre_promote` was run.
fn asked(world: &World, name: &str) -> usize {
    world.inner().happenings.iter().filter(|one| one.node == name && one.what == "pre_promote").count()
}

/// The leader is gone, and the others' `pre_promote` says this.
async fn without_leader(world: &World, says: [PrePromote; 2]) -> ([Node; 3], [&'static str; 2]) {
    let mut nodes = three(world).await;
    let old = leader_of(world, &nodes);
    let names = [others(&nodes, old)[0].name, others(&nodes, old)[1].name];
    for (name, says) in names.into_iter().zip(says) {
        world.inner().servers.get_mut(name).unwrap().pre_promote = says;
    }
    nodes[old].die();
    (nodes, names)
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_pre_promote_refuses_leaves_the_lock_to_another() {
    let world = World::new();
    let agrees = PrePromote::AgreesAfter(SECOND * 12);
    let (_nodes, [refusing, agreeing]) = without_leader(&world, [PrePromote::Refuses, agrees]).await;
    // Whoever of the two goes first.
    world.until("the other leads", TTL * 3, || world.primary() == Some(agreeing)).await;
    assert!(world.when(refusing, "promote").is_none());
    assert!(asked(&world, agreeing) == 1 && asked(&world, refusing) <= 1, "{:?}", world.inner().happenings);
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_ends_with_the_lease_and_is_tried_again_after_ttl_at_the_earliest() {
    let world = World::new();
    let (_nodes, names) = without_leader(&world, [PrePromote::Hangs; 2]).await;
    let runs = |world: &World| names.iter().map(|name| asked(world, name)).sum::<usize>();
    world.until("both were asked", TTL * 5, || names.iter().all(|name| asked(&world, name) > 0)).await;
    assert_eq!(runs(&world), 2, "the first one leaves the second one its turn");
    sleep(TTL * 4).await;
    assert_eq!(world.primary(), None);
    assert!(runs(&world) <= 6, "{}", runs(&world));
    for name in names {
        world.inner().servers.get_mut(name).unwrap().pre_promote = PrePromote::AgreesAfter(Duration::ZERO);
    }
    world.until("somebody leads", TTL * 3, || world.primary().is_some()).await;
}

/// The loop stands still while the command runs: nothing renews, and nothing ends the job.
#[tokio::test(start_paused = true)]
async fn after_the_command_the_lock_is_looked_at_again() {
    let world = World::new();
    let mut nodes = three(&world).await;
    let old = leader_of(&world, &nodes);
    for node in &nodes {
        node.server(|server| server.pre_promote = PrePromote::AgreesAfter(SECOND * 40));
    }
    nodes[old].die();
    let asked_first = || nodes.iter().find(|node| asked(&world, node.name) > 0).map(|node| node.name);
    world.until("a command runs", TTL * 2, || asked_first().is_some()).await;
    let first = asked_first().unwrap();
    sleep(SECOND * 4).await;
    let index = nodes.iter().position(|node| node.name == first).unwrap();
    nodes[index].freeze_loop();
    sleep(SECOND * 120).await;
    assert!(world.when(first, "promote").is_none(), "{:?}", world.inner().happenings);
}
