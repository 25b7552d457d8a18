//! The model: every order in which two members, the store and time can move, up to a depth. `decide`, `learn` and `note`
//! are the real ones. Observing and acting are separate steps, so what is acted upon may be long out of date.
//!
//! Each safety layer is checked in a world in which the other one is off, and worlds that lack what they need must turn
//! red. A counterexample is a list of actions with what each node then was.

mod actions;
#[path = "../support/policy.rs"]
mod policy;
mod state;
mod time;
mod world;

use stateright::{Checker, HasDiscoveries, Model};
use std::collections::HashSet;

use world::{FAILOVER, IN_PLACE, NO_PROMOTION_WITHOUT_LOCK, ONE_PRIMARY, REJOINED, WHOLE_IN_THE_END, World};

/// What keeps two primaries apart, each of which a world may lack.
#[derive(Clone, Copy, Debug)]
pub struct Layers {
    /// PID 1 kills at the deadline. A world without it has agents that run: each has a cycle between two ticks.
    pub guard: bool,
    /// The agent stops a primary that lost its lock. Without it such stops are not carried out.
    pub demotion: bool,
    /// The lock is ours only if the leader key hangs on our lease. Without it any leader key counts as a standby's own, and
    /// as renewed.
    pub lease: bool,
}

const ALL: Layers = Layers { guard: true, demotion: true, lease: true };

/// Checks all that can happen within `depth` actions: what was found, and the stories of what must not be.
fn explore(world: World, depth: usize) -> (HashSet<&'static str>, String) {
    let began = std::time::Instant::now();
    let forbidden = [ONE_PRIMARY, NO_PROMOTION_WITHOUT_LOCK, WHOLE_IN_THE_END];
    let until = HasDiscoveries::AnyOf(forbidden.into());
    let checker = world.checker().target_max_depth(depth).finish_when(until).spawn_bfs().join();
    let found = checker.discoveries();
    let (all, different) = (checker.state_count(), checker.unique_state_count());
    println!("{world:?}: {all} states, {different} different, depth {}, {:?}", checker.max_depth(), began.elapsed());
    let stories = forbidden.into_iter().filter_map(|name| Some((name, world::story(found.get(name)?))));
    let stories = stories.map(|(name, story)| format!("not so: {name}\n{story}\n")).collect();
    (found.into_keys().collect(), stories)
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().and_then(|number| number.parse().ok())
}

/// `FAULTS` and `DEPTH` explore more, or less, than what is usual. `-- --nocapture` tells the numbers of states.
fn holds(world: World, depth: usize, reached: &[&str]) {
    let faults = number("FAULTS").and_then(|faults| u8::try_from(faults).ok()).unwrap_or(world.faults);
    let (found, stories) = explore(World { faults, ..world }, number("DEPTH").unwrap_or(depth));
    assert!(stories.is_empty(), "{stories}");
    for what in reached {
        assert!(found.contains(what), "never reached: {what}");
    }
}

fn turns_red(world: World, broken: &str, depth: usize) {
    let (found, stories) = explore(world, depth);
    assert!(found.contains(broken), "nothing is noticed: {found:?}");
    println!("{stories}");
}

#[test]
fn both_layers() {
    let world = World { layers: ALL, faults: 2, fails_over_at_once: true };
    holds(world, 26, &[FAILOVER]);
}

#[test]
fn the_guard_alone() {
    let world = World { layers: Layers { demotion: false, ..ALL }, faults: 1, fails_over_at_once: false };
    holds(world, 60, &[FAILOVER, IN_PLACE, REJOINED]);
}

#[test]
fn demotion_alone() {
    let world = World { layers: Layers { guard: false, ..ALL }, faults: 1, fails_over_at_once: false };
    holds(world, 60, &[FAILOVER, IN_PLACE, REJOINED]);
}

#[test]
fn neither_layer() {
    let layers = Layers { guard: false, demotion: false, ..ALL };
    turns_red(World { layers, faults: 1, fails_over_at_once: false }, ONE_PRIMARY, 40);
}

#[test]
fn any_leader_key_is_ones_own() {
    let layers = Layers { lease: false, ..ALL };
    turns_red(World { layers, faults: 0, fails_over_at_once: false }, NO_PROMOTION_WITHOUT_LOCK, 20);
}
