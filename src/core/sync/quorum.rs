//! Quorum commit: some of the standbys confirm each commit, and who wants to take over has to know of enough members that
//! they are not ahead. The two sets always meet, whatever is changed in between.
//!
//! `Quorum::steps` plans the whole way to what is wanted; a leader takes the first step and plans anew.

use std::collections::BTreeSet;

use super::candidates::{Standby, has_caught_up, is_one_on_its_way, standbys};
use super::state::{Before, Next, State};
use crate::core::context::Ctx;
use crate::core::decision::SyncKey;
use crate::core::local::{Duty, PrimaryFacts};
use crate::core::standby_names::{Method, StandbyNames};
use crate::core::units::MemberName;

type Names = BTreeSet<MemberName>;

/// What holds now and what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    pub me: MemberName,
    /// By the key.
    pub leader: MemberName,
    /// Of so many others of the voters and the leader a candidate must know that they are not ahead.
    pub quorum: usize,
    pub voters: Names,
    /// So many of `sync` confirm a commit.
    pub numsync: usize,
    pub sync: Names,
    /// How many of those that stream have caught up with the last change of the setting.
    pub confirmed: usize,
    /// Those that stream now.
    pub active: Names,
    /// `synchronous_node_count`.
    pub wanted: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key {
        leader: MemberName,
        quorum: usize,
        voters: Names,
    },
    Set {
        numsync: usize,
        sync: Names,
    },
    /// The standbys have to confirm first.
    Await,
}

impl Quorum {
    /// Whoever can confirm a commit meets whoever can elect a leader, and one of the two sets holds the other.
    pub fn is_safe(&self) -> bool {
        let everybody: Names = self.voters.union(&self.sync).chain([&self.leader]).cloned().collect();
        let nested = self.voters.is_subset(&self.sync) || self.sync.is_subset(&self.voters);
        self.voters.is_empty() || (everybody.len() <= self.quorum + self.numsync + 1 && nested)
    }

    /// Whether this step is safe at this moment. A key that lets more candidates win than the one before counts on those that
    /// have caught up with the last change of the setting alone: what was confirmed before, others may have confirmed. Patroni
    /// takes it for granted that the rest has caught up.
    pub fn may_take(&self, step: &Step, confirmed: &Names) -> bool {
        let Step::Key { leader, quorum, voters } = step else { return true };
        let changes_leader = self.leader != *leader;
        let is_leader_alone = voters.is_empty();
        let new = voters.difference(&self.voters).count();
        let is_no_weaker = !self.voters.is_empty() && *quorum >= self.quorum + new;
        let is_backed = *quorum + voters.intersection(confirmed).count() >= voters.len();
        changes_leader || is_leader_alone || is_no_weaker || is_backed
    }

    /// The way from here to what is wanted. Empty: it is reached.
    pub fn steps(&self) -> Vec<Step> {
        let mut plan = Plan { state: self.clone(), steps: Vec::new(), is_over: false };
        plan.make();
        plan.steps
    }
}

struct Plan {
    state: Quorum,
    steps: Vec<Step>,
    is_over: bool,
}

/// Whether a key asks for more votes while too few standbys are known to have caught up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Adjust {
    Yes,
    No,
}

impl Plan {
    fn make(&mut self) {
        self.change_leader();
        if self.is_over {
            return;
        }
        let state = &mut self.state;
        let present = state.sync.intersection(&state.active).count();
        if state.confirmed == 0 && present > 0 {
            state.confirmed = present.min(state.voters.len().saturating_sub(state.quorum));
        }
        self.finish();
        self.remove_gone();
        self.add_new();
        self.change_count();
    }

    fn key(&mut self, quorum: usize, voters: Names, adjust: Adjust) {
        if self.is_over {
            return;
        }
        let state = &mut self.state;
        if state.confirmed == 0 && state.voters.is_empty() {
            // Nobody is known to have anything yet.
            self.steps.push(Step::Await);
            self.is_over = true;
            return;
        }
        let missing = if adjust == Adjust::Yes { state.numsync.saturating_sub(state.confirmed) } else { 0 };
        let quorum = quorum + missing;
        if (quorum, &voters) == (state.quorum, &state.voters) {
            return;
        }
        (state.quorum, state.voters) = (quorum, voters);
        self.push_key();
    }

    fn push_key(&mut self) {
        let Quorum { leader, quorum, voters, .. } = self.state.clone();
        if let Some(Step::Key { .. }) = self.steps.last() {
            self.steps.pop();
        }
        self.steps.push(Step::Key { leader, quorum, voters });
    }

    fn set(&mut self, numsync: usize, sync: Names) {
        if self.is_over || (numsync, &sync) == (self.state.numsync, &self.state.sync) {
            return;
        }
        if let Some(Step::Set { .. }) = self.steps.last() {
            self.steps.pop();
        }
        (self.state.numsync, self.state.sync) = (numsync, sync.clone());
        self.steps.push(Step::Set { numsync, sync });
    }

    /// After a promotion: the former leader votes like the others. Where the key does not fit the setting it is mended.
    fn change_leader(&mut self) {
        let state = self.state.clone();
        if state.leader != state.me {
            let mut voters = state.voters.clone();
            voters.remove(&state.me);
            voters.insert(state.leader.clone());
            if state.sync.is_empty() {
                self.set(voters.len().saturating_sub(state.quorum), voters.clone());
            }
            (self.state.leader, self.state.voters) = (state.me.clone(), voters);
            self.push_key();
            // They have a moment to connect.
            self.is_over = self.state.sync.is_disjoint(&state.active);
        } else if !state.is_safe() {
            self.key(state.sync.len().saturating_sub(state.numsync), state.sync, Adjust::No);
        }
    }

    /// What an interrupted change has left.
    fn finish(&mut self) {
        let state = self.state.clone();
        if state.sync == state.voters {
            let has_too_few = state.quorum + state.numsync.min(state.confirmed) > state.voters.len();
            let is_short = state.numsync == state.wanted
                && state.wanted > state.confirmed
                && state.quorum + state.numsync > state.voters.len();
            if has_too_few && state.numsync > state.wanted {
                let numsync = state.wanted.max(state.voters.len().saturating_sub(state.quorum));
                self.set(numsync, state.sync);
            } else if has_too_few || is_short {
                self.key(state.sync.len() - state.numsync, state.voters, Adjust::Yes);
            }
        } else if state.sync.is_subset(&state.voters) {
            let kept: Names = state.voters.iter().filter(|name| state.has(name)).cloned().collect();
            let adjust = if state.sync.is_subset(&state.active) { Adjust::Yes } else { Adjust::No };
            if kept != state.voters {
                self.key(kept.len().saturating_sub(state.numsync), kept.clone(), adjust);
            }
            let sync: Names = kept.into_iter().filter(|name| state.has(name)).collect();
            self.set(state.numsync, sync);
        } else if state.voters.is_subset(&state.sync) {
            let alive: Names = state
                .sync
                .iter()
                .filter(|name| state.active.contains(*name) || state.voters.contains(*name))
                .cloned()
                .collect();
            if !alive.is_empty() {
                self.set(state.numsync.min(alive.len()), alive.clone());
            }
            let joined: Names = alive
                .iter()
                .filter(|name| state.active.contains(*name) || state.voters.contains(*name))
                .cloned()
                .collect();
            if joined != state.voters {
                self.key(joined.len().saturating_sub(self.state.numsync), joined.clone(), Adjust::Yes);
            }
            let numsync = self.state.numsync.min(joined.len());
            self.set(numsync, joined);
        }
    }

    fn remove_gone(&mut self) {
        let state = self.state.clone();
        let gone: Vec<MemberName> = state.sync.difference(&state.active).cloned().collect();
        if gone.is_empty() {
            return;
        }
        if gone.len() == state.sync.len() {
            self.key(0, Names::new(), Adjust::No);
            return self.set(0, Names::new());
        }
        let spare = state.quorum.min(gone.len());
        let (left, removed) = gone.split_at(gone.len() - spare);
        if spare > 0 {
            let kept: Names = state.sync.iter().filter(|name| !removed.contains(name)).cloned().collect();
            let numsync = state.numsync.max(state.wanted).min(kept.len());
            self.set(numsync, kept.clone());
            let adjust = if left.is_empty() { Adjust::Yes } else { Adjust::No };
            self.key(kept.len() - numsync, kept, adjust);
        }
        if !left.is_empty() && !self.is_over {
            let state = self.state.clone();
            let kept: Names = state.sync.intersection(&state.active).cloned().collect();
            let numsync = state.numsync.saturating_sub(left.len()).max(1);
            let spare = numsync.saturating_sub(state.wanted.min(kept.len()));
            let quorum = spare.min(kept.len() - 1);
            self.key(quorum, kept.clone(), Adjust::No);
            self.set(numsync.min(kept.len()), kept);
        }
    }

    fn add_new(&mut self) {
        let state = self.state.clone();
        let mut new: Vec<MemberName> = state.active.difference(&state.sync).cloned().collect();
        if new.is_empty() {
            return;
        }
        let target = state.wanted.min(state.active.len());
        if state.numsync < target {
            let added = if state.sync.is_empty() { new.len() } else { (target - state.numsync).min(new.len()) };
            let sync: Names = state.sync.iter().cloned().chain(new.drain(..added)).collect();
            self.set(target.min(sync.len()), sync.clone());
            self.key(sync.len() - self.state.numsync, sync, Adjust::Yes);
        }
        if !new.is_empty() && !self.is_over {
            let sync: Names = self.state.sync.iter().cloned().chain(new).collect();
            self.key(sync.len() - self.state.numsync, sync.clone(), Adjust::Yes);
            self.set(self.state.numsync, sync);
        }
    }

    fn change_count(&mut self) {
        let target = self.state.wanted.min(self.state.active.len());
        let (voters, sync) = (self.state.voters.clone(), self.state.sync.clone());
        if target > self.state.numsync {
            self.set(target, sync);
            self.key(voters.len().saturating_sub(target), voters, Adjust::Yes);
        } else if target < self.state.numsync {
            self.key(voters.len().saturating_sub(target), voters, Adjust::Yes);
            self.set(target, sync);
        }
    }
}

impl Quorum {
    fn has(&self, name: &MemberName) -> bool {
        self.sync.contains(name) || self.active.contains(name)
    }
}

pub(super) fn next(ctx: &Ctx, facts: &PrimaryFacts) -> Next {
    let state = State::of(ctx);
    let me = ctx.policy.name.clone();
    let Some(leader) = state.leader.clone() else {
        return Next::Publish(SyncKey { leader: me, quorum: 0, standbys: Names::new() });
    };
    let settings = &ctx.policy.synchronous;
    let found = standbys(ctx, facts);
    let active = active(&found, settings.node_count);
    if active.is_empty() && settings.strict.is_on() {
        // Whoever is in the key is waited for until it comes back.
        let names = before_primary(ctx, &state).names;
        return match state.is_set_to(&names) {
            true if is_one_on_its_way(ctx, &found) => Next::Awaited,
            true => Next::Nothing,
            false => Next::Set(names),
        };
    }
    let is_confirmed = |standby: &&Standby| {
        active.contains(&standby.name) && standby.duty == Duty::Quorum && has_caught_up(ctx, standby)
    };
    let confirmed: Names = found.iter().filter(is_confirmed).map(|standby| standby.name.clone()).collect();
    let now = &ctx.seen.local.sync.names;
    let quorum = Quorum {
        me,
        leader,
        quorum: state.quorum,
        voters: state.published.clone(),
        numsync: if state.set.is_empty() { 0 } else { now.count.min(state.set.len()) },
        sync: state.set.clone(),
        confirmed: confirmed.len(),
        active,
        wanted: settings.node_count,
    };
    match quorum.steps().into_iter().next() {
        Some(step) if !quorum.may_take(&step, &confirmed) => Next::Awaited,
        Some(Step::Key { leader, quorum, voters }) => Next::Publish(SyncKey { leader, quorum, standbys: voters }),
        Some(Step::Set { numsync, sync }) => Next::Set(StandbyNames::any_of(numsync, sync)),
        Some(Step::Await) => Next::Awaited,
        // As in priority mode, or the user's own.
        None => {
            let names = StandbyNames::any_of(quorum.numsync, quorum.sync.clone());
            match state.is_set_to(&names) {
                true if quorum.confirmed < quorum.numsync || is_one_on_its_way(ctx, &found) => Next::Awaited,
                true => Next::Nothing,
                false => Next::Set(names),
            }
        }
    }
}

/// Those that may not become leader are counted only where there are too few others.
fn active(found: &[Standby], wanted: usize) -> Names {
    let able = found.iter().filter(|standby| !standby.is_nofailover).count();
    let rest = found.iter().filter(|standby| standby.is_nofailover).take(wanted.saturating_sub(able));
    found.iter().filter(|standby| !standby.is_nofailover).chain(rest).map(|standby| standby.name.clone()).collect()
}

/// What a new leader waits for, by the key that its predecessor left: as many as keep the promise of that key, which from
/// then on counts from the new leader: the former one need not have everything any more. A leader that starts again waits for
/// no fewer than before.
pub(super) fn before_primary(ctx: &Ctx, state: &State) -> Before {
    let strict = ctx.policy.synchronous.strict.is_on();
    let me = &ctx.policy.name;
    let nobody = if strict { StandbyNames::nobody(Method::Any) } else { StandbyNames::default() };
    let Some(leader) = &state.leader else { return Before { names: nobody, key: None } };
    let now = &ctx.seen.local.sync.names;
    if leader == me {
        let kept = Quorum {
            me: me.clone(),
            leader: me.clone(),
            quorum: state.quorum,
            voters: state.published.clone(),
            numsync: now.count,
            sync: state.set.clone(),
            confirmed: 0,
            active: Names::new(),
            wanted: 0,
        };
        let count = state.published.len().saturating_sub(state.quorum);
        let names = match state.published.is_empty() {
            true => nobody,
            false if kept.is_safe() && now.method == Method::Any => now.clone(),
            false => StandbyNames::any_of(count, state.published.clone()),
        };
        return Before { names, key: None };
    }
    let everybody: Names = state.published.iter().chain([leader]).cloned().collect();
    let count = everybody.len().saturating_sub(state.quorum + 1) + usize::from(!everybody.contains(me));
    let others: Names = everybody.into_iter().filter(|name| name != me).collect();
    let count = if strict { count.max(1) } else { count };
    let key = SyncKey { leader: me.clone(), quorum: state.quorum, standbys: others.clone() };
    let names = match StandbyNames::any_of(count.min(others.len()), others) {
        names if names.names.is_empty() => nobody,
        names => names,
    };
    Before { names, key: Some(key) }
}
