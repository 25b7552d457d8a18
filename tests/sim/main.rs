//! The simulator: seeded worlds in which the real `decide`, `learn` and `note` run three members against a store with
//! leases, while agents freeze, servers crash and networks part. First faults, then everything heals.
//!
//! Each safety layer gets a world in which the other one is off, so that neither hides the other's absence; and each
//! world is also run with its layer removed, which must be noticed.

mod actions;
mod calls;
mod jobs;
mod node;
mod rng;
mod store;
mod world;

use world::{Layers, World};

fn violations(layers: Layers, seeds: std::ops::Range<u64>) -> Vec<String> {
    seeds.filter_map(|seed| World::new(seed, layers).run().err().map(|what| format!("seed {seed}: {what}"))).collect()
}

/// As many worlds as `RUNS` says, otherwise this many.
fn holds(layers: Layers, usually: u64) {
    let runs = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok());
    let found = violations(layers, 0..runs.unwrap_or(usually));
    assert!(found.is_empty(), "{} violations, the first: {}", found.len(), found[0]);
}

#[test]
fn one_writable_primary_and_a_whole_cluster_in_the_end() {
    holds(Layers::ALL, 400);
}

#[test]
fn the_guard_alone_keeps_one_writable_primary() {
    holds(Layers { demotion: false, ..Layers::ALL }, 200);
}

#[test]
fn demotion_alone_keeps_one_writable_primary_while_agents_run() {
    holds(Layers { guard: false, ..Layers::ALL }, 200);
}

#[test]
fn without_either_layer_two_primaries_are_found() {
    let found = violations(Layers { guard: false, demotion: false, ..Layers::ALL }, 0..60);
    assert!(found.iter().any(|what| what.contains("two writable primaries")), "the oracle sees nothing: {found:?}");
}

#[test]
fn where_any_leader_key_counts_a_promotion_without_the_lock_is_found() {
    let found = violations(Layers { lease: false, ..Layers::ALL }, 0..20);
    assert!(found.iter().any(|what| what.contains("without the lock")), "the oracle sees nothing: {found:?}");
}

#[test]
fn every_fault_is_survived_with_a_fail_over() {
    // `sometimes`: the worlds reach what they are for.
    let mut reached = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut world = World::new(seed, Layers::ALL);
        world.run().expect("a world without a violation");
        reached.extend(world.reached.iter().copied());
    }
    let reasons =
        ["promoting", "handing_over", "starting_in_place", "failing_over", "rewinding", "demoted_no_dcs", "cloning"];
    let faults = ["call without an answer", "call that comes late", "call that comes twice", "late promotion"];
    for what in reasons.iter().chain(&faults) {
        assert!(reached.contains(what), "no world reached {what}: {reached:?}");
    }
}

/// `SEED=13 cargo test --test sim replay -- --nocapture` shows one world's story; with NO_GUARD=1, NO_DEMOTION=1 or
/// NO_LEASE=1 that of the world without the layer.
#[test]
fn replay() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let mut world = World::new(
        seed,
        Layers {
            guard: std::env::var("NO_GUARD").is_err(),
            demotion: std::env::var("NO_DEMOTION").is_err(),
            lease: std::env::var("NO_LEASE").is_err(),
        },
    );
    let result = world.run();
    println!("{}", world.story());
    result.expect("no violation");
}
