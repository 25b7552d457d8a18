//! Quorum commit: the way from one set of voters and synchronous standbys to another, and what holds on it.

use std::collections::BTreeSet;

use tamada::core::sync::quorum::{Quorum, Step};
use tamada::core::units::MemberName;

fn set(names: &str) -> BTreeSet<MemberName> {
    names.split_whitespace().map(MemberName::from).collect()
}

/// `voters quorum | sync numsync confirmed | active | wanted` of leader `a`, which is ours unless the leader is told.
fn quorum(key: (&str, usize), sync: (&str, usize, usize), active: &str, wanted: usize) -> Quorum {
    Quorum {
        me: "a".into(),
        leader: "a".into(),
        quorum: key.1,
        voters: set(key.0),
        numsync: sync.1,
        sync: set(sync.0),
        confirmed: sync.2,
        active: set(active),
        wanted,
    }
}

fn key(leader: &str, quorum: usize, voters: &str) -> Step {
    Step::Key { leader: leader.into(), quorum, voters: set(voters) }
}

fn sync(numsync: usize, names: &str) -> Step {
    Step::Set { numsync, sync: set(names) }
}

#[test]
fn each_step_is_patronis() {
    let cases = [
        (quorum(("", 0), ("", 0, 0), "b c", 1), vec![sync(1, "b c"), Step::Await]),
        (quorum(("", 0), ("b c", 1, 0), "b c", 1), vec![Step::Await]),
        (quorum(("", 0), ("b c", 1, 1), "b c", 1), vec![key("a", 1, "b c")]),
        (quorum(("b c", 1), ("b c", 1, 2), "b c", 1), vec![]),
        (quorum(("b c", 1), ("b c", 1, 2), "b c d", 1), vec![key("a", 2, "b c d"), sync(1, "b c d")]),
        (quorum(("b c", 1), ("b c", 1, 1), "b", 1), vec![sync(1, "b"), key("a", 0, "b")]),
        (quorum(("b c", 1), ("b c", 1, 0), "", 1), vec![key("a", 0, ""), sync(0, "")]),
        (quorum(("b c", 1), ("b c", 1, 2), "b c", 2), vec![sync(2, "b c"), key("a", 0, "b c")]),
        (quorum(("b c", 0), ("b c", 2, 2), "b c", 1), vec![key("a", 1, "b c"), sync(1, "b c")]),
        (quorum(("b c d", 1), ("b c d", 2, 2), "b c", 2), vec![sync(2, "b c"), key("a", 0, "b c")]),
        (quorum(("b c d", 1), ("b c d", 2, 1), "b", 2), vec![sync(2, "b c"), key("a", 0, "b"), sync(1, "b")]),
        (quorum(("b c d", 0), ("b c d", 1, 3), "b c d", 1), vec![key("a", 2, "b c d")]),
    ];
    for (state, expected) in cases {
        assert_eq!(state.steps(), expected, "{state:?}");
    }
}

#[test]
fn a_new_leader_makes_the_former_one_a_voter_first() {
    let promoted = |active| Quorum { me: "b".into(), ..quorum(("b c", 1), ("a c", 1, 0), active, 1) };
    assert_eq!(promoted("").steps(), [key("b", 1, "a c")]);
    assert_eq!(promoted("c").steps(), [key("b", 1, "a c"), sync(1, "c"), key("b", 0, "c")]);
}

/// A small generator of numbers, so that a failure comes again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn some(&mut self, names: &str) -> BTreeSet<MemberName> {
        set(names).into_iter().filter(|_| self.below(2) == 1).collect()
    }
}

fn take(state: &mut Quorum, step: Step) {
    match step {
        Step::Key { leader, quorum, voters } => {
            (state.leader, state.quorum, state.voters) = (leader, quorum, voters);
        }
        Step::Set { numsync, sync } => (state.numsync, state.sync, state.confirmed) = (numsync, sync, 0),
        Step::Await => {}
    }
}

/// Standbys come and go, catch up or not, and their wanted number changes between any two steps.
#[test]
fn after_every_step_whoever_confirms_meets_whoever_elects() {
    for seed in 0..20_000 {
        let mut numbers = Numbers(seed);
        let mut state = quorum(("", 0), ("", 0, 0), "", 1);
        for _ in 0..40 {
            if numbers.below(4) == 0 {
                state.active = numbers.some("b c d e");
            }
            if numbers.below(8) == 0 {
                state.wanted = 1 + numbers.below(3) as usize;
            }
            let present = state.sync.intersection(&state.active).count();
            state.confirmed = present.min(state.confirmed + numbers.below(3) as usize);
            let Some(step) = state.steps().into_iter().next() else { continue };
            let before = state.clone();
            take(&mut state, step.clone());
            assert!(state.is_safe(), "seed {seed}: {before:?} became {state:?} by {step:?}");
            assert!(state.numsync <= state.sync.len(), "seed {seed}: {before:?} became {state:?} by {step:?}");
        }
        state.active = set("b c d");
        state.wanted = 2;
        for _ in 0..30 {
            state.confirmed = state.sync.intersection(&state.active).count();
            let steps = state.steps();
            let Some(step) = steps.into_iter().next() else { break };
            take(&mut state, step);
        }
        let reached = (state.voters.clone(), state.quorum, state.sync.clone(), state.numsync);
        assert_eq!(reached, (set("b c d"), 1, set("b c d"), 2), "seed {seed} does not come to rest where it should");
    }
}
