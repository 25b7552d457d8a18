//! What must hold of every decision and at every moment, as predicates: `decide` asserts them in a debug build, and the
//! model and the simulator judge their worlds by them.

use super::authority::{self, Effect};
use super::decision::{Decision, LeaseStep, PostgresStep, RolesStep, ScheduleStep};
use super::lease::Hold;
use super::local::{Job, LastRole, Watchdog};
use super::observation::Observation;
use super::policy::{ClusterKind, Mode, Pause, Policy};
use super::slots::{self, LogicalWanted, SlotWanted};
use super::tree;

/// At most one server of a cluster takes writes.
pub fn one_writable<'a>(writable: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let names: Vec<&str> = writable.into_iter().collect();
    match names.len() {
        0 | 1 => Ok(()),
        _ => Err(format!("two writable primaries {names:?}")),
    }
}

/// What no decision may ask for, whatever was seen.
pub fn is_safe(policy: &Policy, seen: &Observation, decision: &Decision) -> Result<(), &'static str> {
    upkeep_is_safe(policy, seen, decision)?;
    if policy.mode == Mode::Single || policy.pause == Pause::Paused {
        return Ok(());
    }
    let hold = seen.cluster.as_ref().ok().map(|view| Hold::of(view, &seen.memory, seen.now));
    if decision.lease.gives_up() && !authority::is_no_primary(&seen.local) {
        return Err("the lock is given up although PostgreSQL is not known to be stopped or a standby");
    }
    let job = if let Effect::Gives(job) = decision.postgres.effect() { Some(job) } else { None };
    if job.as_ref().is_some_and(Job::may_make_primary) && policy.cluster != ClusterKind::Primary {
        return Err("PostgreSQL is made a primary in a standby cluster");
    }
    if job.as_ref().is_some_and(Job::needs_lock) {
        if !matches!(hold, Some(Hold::Held { .. })) {
            return Err("PostgreSQL is made a primary without a lock that is confirmed");
        }
        if decision.lease.gives_up() {
            return Err("PostgreSQL is made a primary while the lock is given up");
        }
        if matches!(seen.local.watchdog, Watchdog::Unknown | Watchdog::Usable | Watchdog::Failed) {
            return Err("PostgreSQL is made a primary without the watchdog that it must have");
        }
    }
    if matches!(decision.lease, LeaseStep::Acquire { .. }) && seen.cluster.is_err() {
        return Err("the lock is taken without having been looked at");
    }
    Ok(())
}

/// What goes on beside the decisions neither touches a server that something else is done to, nor takes from a member the
/// WAL that it may need.
fn upkeep_is_safe(policy: &Policy, seen: &Observation, decision: &Decision) -> Result<(), &'static str> {
    let rests = decision.postgres == PostgresStep::Leave && seen.local.job.is_none();
    let is_begun = decision.schedule == ScheduleStep::Begin;
    if (is_begun || decision.slots.is_some() || decision.roles == RolesStep::Ensure) && !rests {
        return Err("slots, roles or a scheduled restart in the way of a job");
    }
    if is_begun && (policy.pause == Pause::Paused || decision.lease.gives_up()) {
        return Err("a scheduled restart in pause, or with a release of the lock");
    }
    let (Some(slots), Ok(view)) = (&decision.slots, &seen.cluster) else { return Ok(()) };
    if policy.mode == Mode::Single || slots.pause != policy.pause {
        return Err("slots of a single server, or dropped in pause");
    }
    let others = view.members.values().filter(|member| member.name != policy.name && !member.tags.nostream);
    let streams = others.filter(|member| tree::streams_from(policy, view, LastRole::Primary, member));
    let mut names = streams.map(|member| member.name.slot_name());
    if slots.role == LastRole::Primary && policy.slots.use_slots.is_on() && !names.all(|name| slots.keeps(&name)) {
        return Err("a leader keeps no slot for a member that streams");
    }
    let is_published = |(name, wanted): (&String, &SlotWanted)| match wanted {
        SlotWanted::Kept(Some(position)) => {
            let of_member = view.members.values().find(|member| member.name.slot_name() == **name);
            let told = of_member.and_then(|member| slots::position_of(view, member));
            told == Some(*position) || view.status.slots.get(name) == Some(position)
        }
        SlotWanted::Kept(None) | SlotWanted::Streams => true,
    };
    let is_confirmed = |(name, wanted): (&String, &LogicalWanted)| {
        wanted.confirmed.is_none() || view.status.slots.get(name) == wanted.confirmed.as_ref()
    };
    if !slots.physical.iter().all(is_published) || !slots.logical.iter().all(is_confirmed) {
        return Err("a slot is moved on to a position that the leader has not published");
    }
    Ok(())
}
