//! Failsafe mode: a primary that the store does not answer goes on as long as every other member vouches for it.
//!
//! A member that vouches promises not to take the lock for a ttl, counted by its own clock from when it was asked. So a
//! primary that was vouched for by all that could take the lock is safe for a ttl, counted from when it began to ask: the
//! answers are worth what a renewed lease is worth. Who could take the lock stands in the `failsafe` key: while the mode is
//! on, nobody else races.

use std::collections::BTreeMap;
use std::time::Duration;

use super::authority;
use super::context::Ctx;
use super::decision::{Decision, LeaseStep, Question, Wake};
use super::lease;
use super::local::{Postgres, Running};
use super::observation::{Memory, Observation};
use super::policy::{Pause, Policy, Switch, Timing};
use super::reason::Reason;
use super::units::{Instant, MemberName};
use super::view::{ClusterStatus, ClusterView, Holder, Leader};

pub use super::vouching::{Failsafe, Promise, Vouch, Vouchers};

/// How long a member may take to answer.
fn limit(timing: &Timing) -> Duration {
    (timing.ttl / 10).clamp(Duration::from_millis(300), Duration::from_secs(2))
}

/// Whether the store answered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Answers,
    IsSilent,
}

/// How much of the time that a call to the store may take a leader gives it: once the store does not answer there must be
/// time left to ask the members.
pub fn call_limit(policy: &Policy, valid_until: Option<Instant>, store: Store, limit: Duration) -> Duration {
    if !policy.failsafe.is_on() || valid_until.is_none() {
        return limit;
    }
    let most = policy.timing.ttl.saturating_sub(policy.timing.loop_wait) / 4;
    limit.min(match store {
        Store::Answers => most,
        Store::IsSilent => most / 3,
    })
}

/// The key as it should be: every member that says where it answers, and its leader.
pub fn wanted(policy: &Policy, view: &ClusterView) -> BTreeMap<MemberName, String> {
    let known = view.members.values().filter_map(|member| Some((member.name.clone(), member.api_url.clone()?)));
    let own = view.members.get(&policy.name).and_then(|own| own.api_url.clone()).unwrap_or_default();
    known.chain([(policy.name.clone(), own)]).collect()
}

/// A leader remembers whom it would have to ask: whoever stands in the key, and whoever it has tried to put there since the
/// key was last as it should be.
pub(super) fn learn(memory: &mut Memory, view: &ClusterView) {
    if !view.failsafe.is_empty() {
        memory.failsafe_key = view.failsafe.keys().cloned().collect();
    }
    if !view.is_ours() {
        memory.vouchers.clear();
        return;
    }
    let stands = view.failsafe.keys().eq(view.members.keys());
    let known = if stands { BTreeMap::new() } else { std::mem::take(&mut memory.vouchers) };
    let members = view.members.values().map(|member| (member.name.clone(), member.api_url.clone()));
    let listed = view.failsafe.iter().map(|(name, url)| (name.clone(), Some(url.clone())));
    memory.vouchers = known.into_iter().chain(listed).chain(members).collect();
}

/// The store does not answer and PostgreSQL is a primary under a lock that is about to end. `None`: the mode is off, or it
/// is too late; the lease counts.
pub fn instead_of_stop(policy: &Policy, seen: &Observation) -> Option<Decision> {
    let serves = matches!(seen.local.postgres, Postgres::Running(Running::Primary(_))) && seen.local.job.is_none();
    let timing = &policy.timing;
    let ends = authority::stop_begins(seen.memory.lease_valid_until, seen.local.guard, timing)?;
    let is_asked = seen.memory.vouchers.contains_key(&policy.name) && seen.memory.lease_valid_until.is_some();
    if !policy.failsafe.is_on() || policy.pause == Pause::Paused || !serves || !is_asked || ends <= seen.now {
        return None;
    }
    let others: BTreeMap<&MemberName, &Option<String>> =
        seen.memory.vouchers.iter().filter(|(name, _)| **name != policy.name).collect();
    let until = match &seen.failsafe.vouchers {
        _ if others.is_empty() => Some(seen.now + timing.ttl),
        Some(vouchers) => {
            let accepts = |name: &&MemberName| vouchers.answers.get(*name) == Some(&Vouch::Accepted);
            others.keys().all(accepts).then(|| vouchers.asked_at + timing.ttl)
        }
        None => None,
    };
    let extends = until.filter(|until| Some(*until) > seen.memory.lease_valid_until);
    if let Some(until) = extends {
        let wake = Wake::At(lease::renewal_due(until, timing).max(seen.now));
        let decision = Decision::idle(Reason::FailsafeLeading, wake);
        return Some(Decision { lease: LeaseStep::Vouched { until }, ..decision });
    }
    let last = seen.failsafe.vouchers.as_ref().map(|vouchers| vouchers.asked_at);
    let is_vouched = until.is_some();
    // Once all have answered they are asked again when a renewal would be due; else soon, as long as there is time.
    let pause = if is_vouched { timing.loop_wait } else { lease::RETRY };
    let due = last.map_or(seen.now, |last| last + pause);
    let reason = if is_vouched { Reason::FailsafeLeading } else { Reason::FailsafeAsking };
    let wait = Decision::idle(reason, Wake::At(due.max(seen.now + lease::RETRY / 5).min(ends)));
    if due > seen.now {
        return Some(wait);
    }
    let asked = others.iter().map(|(name, url)| ((*name).clone(), (*url).clone())).collect();
    let wake = Wake::At((seen.now + limit(timing) + lease::RETRY / 5).min(ends));
    Some(Decision { ask: Some(Question::Vouch { members: asked, limit: limit(timing) }), wake, ..wait })
}

/// The view in which a primary that we have vouched for holds the lock, if the store knows of no leader.
pub fn with_promised(seen: &Observation, view: &ClusterView) -> Option<ClusterView> {
    let promise = in_force(seen).filter(|_| view.leader.is_none())?;
    let mut view = view.clone();
    view.leader = Some(Leader { name: promise.leader.clone(), holder: Holder::Other });
    if let Some(record) = seen.memory.last_members.get(&promise.leader) {
        view.members.entry(promise.leader.clone()).or_insert_with(|| record.clone());
    }
    Some(view)
}

fn in_force(seen: &Observation) -> Option<&Promise> {
    seen.failsafe.promise.as_ref().filter(|promise| promise.until > seen.now)
}

/// A lock that a late call has taken for us is given back as long as we are bound by a promise.
pub fn keeps_promise(ctx: &Ctx) -> Option<Decision> {
    let promise = in_force(ctx.seen).filter(|promise| promise.leader != ctx.policy.name)?;
    let idle = ctx.view.is_ours() && authority::is_no_primary(&ctx.seen.local);
    let reason = Reason::FailsafeGivenBack { leader: promise.leader.clone() };
    idle.then(|| Decision { reason, ..ctx.give_back() })
}

/// What keeps this member out of a race: it is not among those that a primary would have asked, or it may have promised what
/// it does not know.
pub fn barred(ctx: &Ctx) -> Option<Reason> {
    if !has_key(ctx) {
        return None;
    }
    let is_unsure = ctx.seen.failsafe.unsure_until.is_some_and(|until| until > ctx.now());
    let status: &ClusterStatus = &ctx.view.status;
    // A leader that has given the lock up asks nobody any more.
    let is_over = status.given_up().is_some() && ctx.seen.memory.is_last_word(status);
    if is_unsure && !is_over {
        return Some(Reason::FailsafeUnsure);
    }
    (!may_race(ctx, &ctx.policy.name)).then_some(Reason::FailsafeNotNamed)
}

fn has_key(ctx: &Ctx) -> bool {
    !ctx.view.failsafe.is_empty() || !ctx.seen.memory.failsafe_key.is_empty()
}

/// Whether the key lets this member race: the others need not wait for one that may not.
pub fn may_race(ctx: &Ctx, name: &MemberName) -> bool {
    let is_named = match ctx.view.failsafe.is_empty() {
        true => ctx.seen.memory.failsafe_key.contains(name),
        false => ctx.view.failsafe.contains_key(name),
    };
    ctx.policy.failsafe == Switch::Off || is_named || !has_key(ctx)
}
