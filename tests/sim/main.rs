//! The simulator: seeded worlds in which the real `decide`, `learn` and `note` run three members against a store with
//! leases, while agents freeze, servers crash, networks part, stores forget, and people ask for this and that. First
//! faults, then everything heals.
//!
//! Each safety layer gets a world in which the other one is off, so that neither hides the other's absence; and each
//! world is also run with its layer removed, which must be noticed.

mod actions;
mod calls;
mod failsafe;
mod faults;
mod jobs;
mod log;
mod many;
mod node;
mod oracles;
#[path = "../support/policy.rs"]
mod policy;
mod reading;
mod rng;
mod slots;
mod standbys;
mod store;
mod synchronous;
mod wal;
mod world;

use failsafe::Failsafe;
use faults::Fault;
use log::Told;
use many::worlds;
use store::Expiry;
use world::{Layers, World};

#[test]
fn the_guard_alone_keeps_one_writable_primary() {
    worlds(Layers { demotion: false, ..Layers::ALL }, 0..200).expect_none();
}

#[test]
fn demotion_alone_keeps_one_writable_primary_while_agents_run() {
    worlds(Layers { guard: false, ..Layers::ALL }, 0..200).expect_none();
}

#[test]
fn where_each_member_judges_expiry_itself_the_same_holds() {
    let layers = Layers { expiry: Expiry::Observed, ..Layers::ALL };
    worlds(layers, 0..200).expect_none();
    worlds(Layers { demotion: false, ..layers }, 0..100).expect_none();
    worlds(Layers { guard: false, ..layers }, 0..100).expect_none();
}

/// Whoever was told that a commit is done finds it, whoever dies.
#[test]
fn synchronous_modes_lose_nothing() {
    let layers = Layers { sync: true, ..Layers::ALL };
    let found = worlds(layers, 0..400);
    found.expect_none();
    for what in ["not_synchronous", "too_few_votes", "preparing_synchronous", "asking_for_release"] {
        assert!(found.reached.contains(what), "no world reached {what}: {:?}", found.reached);
    }
    worlds(Layers { demotion: false, ..layers }, 0..100).expect_none();
    worlds(Layers { guard: false, ..layers }, 0..100).expect_none();
    worlds(Layers { expiry: Expiry::Observed, ..layers }, 0..100).expect_none();
}

/// A primary that the store does not answer goes on as long as all members vouch for it, and nobody else is one meanwhile.
#[test]
fn failsafe_mode_keeps_one_writable_primary() {
    let layers = Layers { failsafe: Failsafe::On, ..Layers::ALL };
    let found = worlds(layers, 0..400);
    found.expect_none();
    for what in ["failsafe_leading", "failsafe_asking", "failsafe_unsure", "a primary outlives its lease"] {
        assert!(found.reached.contains(what), "no world reached {what}: {:?}", found.reached);
    }
    worlds(Layers { demotion: false, ..layers }, 0..200).expect_none();
    worlds(Layers { guard: false, ..layers }, 0..200).expect_none();
    worlds(Layers { expiry: Expiry::Observed, ..layers }, 0..200).expect_none();
    worlds(Layers { sync: true, ..layers }, 0..200).expect_none();
}

/// Nobody writes in a standby cluster, and nobody but the holder of the lock once it is none any more.
#[test]
fn a_standby_cluster_takes_no_writes_and_has_one_primary_afterwards() {
    let layers = Layers { standby: true, ..Layers::ALL };
    let found = worlds(layers, 0..400);
    found.expect_none();
    for what in ["demoting_cluster", "leading_standbys", "following_standby_leader", "starting_standby_leader"] {
        assert!(found.reached.contains(what), "no world reached {what}: {:?}", found.reached);
    }
    worlds(Layers { demotion: false, ..layers }, 0..200).expect_none();
    worlds(Layers { guard: false, ..layers }, 0..200).expect_none();
    worlds(Layers { expiry: Expiry::Observed, ..layers }, 0..200).expect_none();
    worlds(Layers { failsafe: Failsafe::On, ..layers }, 0..200).expect_none();
}

#[test]
fn where_a_promise_is_not_kept_two_primaries_are_found() {
    let found = worlds(Layers { failsafe: Failsafe::Unkept, ..Layers::ALL }, 0..400);
    assert!(found.has("two writable primaries"), "the oracle sees nothing: {:?}", found.violations.keys());
}

#[test]
fn without_either_layer_two_primaries_are_found() {
    let found = worlds(Layers { guard: false, demotion: false, ..Layers::ALL }, 0..200);
    assert!(found.has("two writable primaries"), "the oracle sees nothing: {:?}", found.violations.keys());
}

#[test]
fn where_any_leader_key_counts_a_promotion_without_the_lock_is_found() {
    let found = worlds(Layers { lease: false, ..Layers::ALL }, 0..200);
    assert!(found.has("without the lock"), "the oracle sees nothing: {:?}", found.violations.keys());
}

#[test]
fn one_writable_primary_nothing_lost_unduly_and_a_whole_cluster_in_the_end() {
    let found = worlds(Layers::ALL, 0..400);
    found.expect_none();
    // `sometimes`: the worlds reach what they are for.
    let reasons = [
        "promoting",
        "handing_over",
        "starting_in_place",
        "failing_over",
        "rewinding",
        "demoted_no_dcs",
        "cloning",
        "released",
        "released_unconfirmed",
        "store_forgot",
        "store_forgot_my_lock",
        "paused_leading",
        "restarting",
        "reinitializing",
        "unusable",
        "not_answering",
        "behind_released",
        "timeline_behind",
        "lag_too_large",
        "peer_ahead",
    ];
    let calls = ["call without an answer", "call that comes late", "call that comes twice", "late promotion"];
    let faults = Fault::ALL.iter().map(|(_, named)| *named);
    let others =
        ["slow start", "loss as after a crash", "a promotion that pre_promote refused", "logical slot taken over"];
    for what in reasons.into_iter().chain(calls).chain(faults).chain(others) {
        assert!(found.reached.contains(what), "no world reached {what}: {:?}", found.reached);
    }
}

/// `make sim RUNS=200000`: so many worlds from seed `FROM` on, and what they came to. A few where nobody says how many.
#[test]
fn many_worlds() {
    let number = |name: &str, usually| std::env::var(name).map_or(usually, |given| given.parse().expect("a number"));
    let from = number("FROM", 0);
    let seeds = from..from + number("RUNS", 20);
    let mut violations = 0;
    let all = Layers { expiry: expiry(), sync: sync(), failsafe: failsafe(), standby: standby(), ..Layers::ALL };
    let layers = [
        ("all layers", all),
        ("the guard alone (NO_DEMOTION=1)", Layers { demotion: false, ..all }),
        ("demotion alone (NO_GUARD=1)", Layers { guard: false, ..all }),
    ];
    for (named, layers) in layers {
        let found = worlds(layers, seeds.clone());
        println!("{named}: {found}\n");
        violations += found.violations.len();
    }
    assert_eq!(violations, 0, "see above");
}

/// `STANDBY=1`: the cluster is a standby cluster for a while.
fn standby() -> bool {
    std::env::var_os("STANDBY").is_some()
}

/// `FAILSAFE=1`: with failsafe mode.
fn failsafe() -> Failsafe {
    std::env::var_os("FAILSAFE").map_or(Failsafe::Off, |_| Failsafe::On)
}

/// `SYNC=1`: with synchronous replication.
fn sync() -> bool {
    std::env::var_os("SYNC").is_some()
}

/// `OBSERVED=1`: in a store in which nothing expires.
fn expiry() -> Expiry {
    std::env::var_os("OBSERVED").map_or(Expiry::ByStore, |_| Expiry::Observed)
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
            expiry: expiry(),
            sync: sync(),
            failsafe: failsafe(),
            standby: standby(),
        },
        Told::Yes,
    );
    let result = world.run();
    println!("{}", world.story());
    result.expect("no violation");
}
