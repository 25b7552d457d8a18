//! The actions, the properties, and how a counterexample is told.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use stateright::{Model, Path, Property};
use tamada::core::decide;
use tamada::core::decision::{Decision, LeaseStep, RolesStep, Wake};
use tamada::core::invariants::one_writable;
use tamada::core::local::Job;
use tamada::core::observation::DcsOutage;
use tamada::core::policy::Policy;
use tamada::core::reason::Reason;
use tamada::core::view::ClusterView;

use super::Layers;
use super::actions::Calls;
use super::policy::policy_of;
use super::state::{NODES, Pending, Server, State, name};
use super::time::{NOW, TIMING};

pub const ONE_PRIMARY: &str = "at most one writable primary";
pub const NO_PROMOTION_WITHOUT_LOCK: &str = "no promotion without the lock";
pub const WHOLE_IN_THE_END: &str = "without further faults somebody leads and the other streams";
pub const FAILOVER: &str = "a failover";
pub const IN_PLACE: &str = "a start in place";
pub const REJOINED: &str = "a former primary that streams";

/// Of so many states one is followed to its end without faults.
const HEALED_OF: u64 = 512;
/// So many ticks may pass until then.
const HEALED_WITHIN: usize = 60;

#[derive(Clone, Copy, Debug)]
pub struct World {
    pub layers: Layers,
    pub faults: u8,
    /// A crashed primary gives the lock up rather than to start in place.
    pub fails_over_at_once: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A quarter of a second passes.
    Tick,
    /// The agent looks and decides.
    Observe(usize),
    /// The agent carries out what it has decided.
    Act(usize, Calls),
    /// The long job ends.
    Finish(usize),
    /// A promotion comes about that nobody waits for.
    PromoteLate(usize),
    /// A release arrives that nobody waits for.
    ReleaseLate(usize),
    CrashServer(usize),
    RestartAgent(usize),
    /// From now on the agent stands still, whatever it was about to do.
    Freeze(usize),
    Thaw(usize),
    /// From now on the node reaches neither the store nor the other's agent.
    Cut(usize),
    Mend(usize),
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::healthy(self.faults)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.nodes.iter().all(|node| node.is_settled(self.layers)) {
            actions.push(Action::Tick);
        }
        for (index, node) in state.nodes.iter().enumerate() {
            match &node.pending {
                _ if node.frozen => actions.push(Action::Thaw(index)),
                None if node.looked => {}
                None => actions.push(Action::Observe(index)),
                Some(_) if node.cut => actions.push(Action::Act(index, Calls::Missed)),
                Some(pending) => actions.extend(calls(&pending.decision.lease).map(|calls| Action::Act(index, calls))),
            }
            actions.push(if node.cut { Action::Mend(index) } else { Action::Cut(index) });
            if self.layers.guard && !node.frozen {
                actions.push(Action::Freeze(index));
            }
            if node.job.is_some() {
                actions.push(Action::Finish(index));
            }
            if node.promoting {
                actions.push(Action::PromoteLate(index));
            }
            if state.store.late_release[index] {
                actions.push(Action::ReleaseLate(index));
            }
            if !matches!(node.server, Server::Down { .. }) {
                actions.push(Action::CrashServer(index));
            }
            actions.push(Action::RestartAgent(index));
        }
        actions.retain(|action| state.faults_left > 0 || !state.is_fault(*action));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.faults_left -= u8::from(last.is_fault(action));
        match action {
            Action::Tick => {
                state.shift();
                state.expire(self.layers);
                state.nodes.iter_mut().for_each(|node| node.looked = false);
            }
            Action::Observe(index) => self.look(&mut state, index),
            Action::Act(index, calls) => state.act(index, calls, self.layers, &self.policy(index)),
            Action::Finish(index) => state.finish(index),
            Action::PromoteLate(index) => {
                state.promote(index);
            }
            Action::ReleaseLate(index) => {
                state.store.late_release[index] = false;
                state.store.leader = state.store.leader.filter(|leader| *leader != index);
            }
            Action::CrashServer(index) => state.nodes[index].kill(),
            Action::RestartAgent(index) => state.restart_agent(index),
            Action::Freeze(index) => state.nodes[index].frozen = true,
            Action::Thaw(index) => state.nodes[index].frozen = false,
            Action::Cut(index) => state.nodes[index].cut = true,
            Action::Mend(index) => state.nodes[index].cut = false,
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_PRIMARY, |_, state: &State| one_writable(state.primaries()).is_ok()),
            Property::always(NO_PROMOTION_WITHOUT_LOCK, |_, state: &State| !state.unlocked_promotion),
            Property::always(WHOLE_IN_THE_END, |world: &World, state: &State| !is_sampled(state) || world.heals(state)),
            Property::sometimes(FAILOVER, |_, state: &State| state.nodes[1].server == Server::Primary),
            Property::sometimes(IN_PLACE, |_, state: &State| {
                let node = &state.nodes[0];
                node.server == Server::Primary && node.memory.primary_starts > 0
            }),
            Property::sometimes(REJOINED, |_, state: &State| {
                state.nodes[0].server == Server::Standby && state.streams(0)
            }),
        ]
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.nodes.iter().all(|node| node.timeline <= 3)
    }
}

impl World {
    fn policy(&self, index: usize) -> Policy {
        Policy {
            timing: TIMING,
            primary_start_timeout: Duration::from_secs(if self.fails_over_at_once { 0 } else { 300 }),
            ..policy_of(name(index))
        }
    }

    fn look(&self, state: &mut State, index: usize) {
        let cut = state.nodes[index].cut;
        let view = match cut {
            true => Err(DcsOutage { error: String::new() }),
            false => Ok(state.view(index, !self.layers.lease)),
        };
        // Not only read as ours: believed. A key that was only read as ours is given back as taken unawares.
        if !self.layers.lease && view.as_ref().is_ok_and(ClusterView::is_ours) {
            state.nodes[index].memory.lease_valid_until = Some(NOW + TIMING.ttl);
        }
        let seen = state.observe(index, view);
        let mut decision = decide(&self.policy(index), &seen);
        // Waking up and telling reasons change nothing: agents look whenever they like.
        let reason = decision.reason.code();
        (decision.reason, decision.wake) = (Reason::NotStarted, Wake::Now);
        // What goes on beside changes nothing either; `decide` has judged it.
        (decision.slots, decision.roles) = (None, RolesStep::Leave);
        let idle = decision == Decision::idle(Reason::NotStarted, Wake::Now);
        state.nodes[index].pending = Some(Arc::new(Pending { seen, decision, reason }));
        if idle {
            // Nothing that could come too late.
            state.act(index, if cut { Calls::Missed } else { Calls::Answered }, self.layers, &self.policy(index));
        }
    }

    /// Whether all is well some time after the last fault.
    fn heals(&self, state: &State) -> bool {
        let mut state = state.clone();
        state.faults_left = 0;
        for _ in 0..HEALED_WITHIN {
            for index in 0..NODES {
                let step = |state: &mut State, action| {
                    if let Some(next) = self.next_state(state, action) {
                        *state = next;
                    }
                };
                if state.store.late_release[index] {
                    step(&mut state, Action::ReleaseLate(index));
                }
                if state.nodes[index].promoting {
                    step(&mut state, Action::PromoteLate(index));
                }
                (state.nodes[index].frozen, state.nodes[index].cut) = (false, false);
                step(&mut state, Action::Act(index, Calls::Answered));
                step(&mut state, Action::Finish(index));
                if !state.nodes[index].looked {
                    step(&mut state, Action::Observe(index));
                    step(&mut state, Action::Act(index, Calls::Answered));
                    step(&mut state, Action::Finish(index));
                }
            }
            if state.is_whole() {
                return true;
            }
            let Some(next) = self.next_state(&state, Action::Tick) else { return false };
            state = next;
        }
        false
    }
}

impl State {
    fn is_fault(&self, action: Action) -> bool {
        match action {
            // Whoever is cut off misses everything.
            Action::Act(index, calls) => calls != Calls::Answered && !self.nodes[index].cut,
            Action::Tick | Action::Observe(_) | Action::Finish(_) | Action::Thaw(_) | Action::Mend(_) => false,
            Action::PromoteLate(_) | Action::ReleaseLate(_) => false,
            Action::CrashServer(_) | Action::RestartAgent(_) | Action::Freeze(_) | Action::Cut(_) => true,
        }
    }

    fn is_whole(&self) -> bool {
        let Some(leader) = self.store.leader else { return false };
        (0..NODES).all(|index| match index == leader {
            true => self.nodes[index].server == Server::Primary,
            false => self.nodes[index].server == Server::Standby && self.streams(index),
        })
    }
}

impl super::state::Node {
    /// Whether a quarter of a second may pass: an agent that runs has had its cycle, and a stop is over. A promotion that
    /// nobody waits for may take as long as it likes where there is a guard.
    fn is_settled(&self, layers: Layers) -> bool {
        let stops = self.job.as_ref().is_some_and(|running| matches!(running.job, Job::Stop { .. }));
        let acted = self.looked && self.pending.is_none() && !stops;
        (self.frozen || acted) && (layers.guard || !self.promoting)
    }
}

/// What can become of a decision's calls.
fn calls(step: &LeaseStep) -> impl Iterator<Item = Calls> {
    let (all, count) = (
        [Calls::Answered, Calls::Missed, Calls::Unanswered, Calls::Late],
        match step {
            LeaseStep::Keep | LeaseStep::Vouched { .. } => 1,
            LeaseStep::Acquire { .. } | LeaseStep::Renew => 3,
            LeaseStep::Release { .. } | LeaseStep::ReleaseUnconfirmed { .. } | LeaseStep::GiveBack { .. } => 4,
        },
    );
    all.into_iter().take(count)
}

fn is_sampled(state: &State) -> bool {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(state) % HEALED_OF == 0
}

/// Each action with what the nodes then were.
pub fn story(path: &Path<State, Action>) -> String {
    let mut lines = Vec::new();
    let mut action = None;
    for (state, next) in path.clone().into_vec() {
        let node = |index: usize| {
            let node = &state.nodes[index];
            let lock = if state.holds(index) { " with the lock" } else { "" };
            let job = node.job.as_ref().map(|running| format!(", {}", running.job)).unwrap_or_default();
            let decided = node.pending.as_ref().map(|pending| format!(", decided: {}", pending.reason));
            let frozen = if node.frozen { ", frozen" } else { "" };
            let cut = if node.cut { ", cut off" } else { "" };
            format!("{}: {:?}{lock}{job}{frozen}{cut}{}", name(index), node.server, decided.unwrap_or_default())
        };
        let told = action.map_or("in the beginning".to_owned(), |action: Action| format!("{action:?}"));
        lines.push(format!("{told:<22} {} | {}", node(0), node(1)));
        if one_writable(state.primaries()).is_err() || state.unlocked_promotion {
            break;
        }
        action = next;
    }
    lines.join("\n")
}
