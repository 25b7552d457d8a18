//! What goes on beside whatever is decided: the server's replication slots, the roles that a cluster which was taken over
//! may lack, restarts at a time. Decided from the same observation, so that it fits the decision, and never in its way.

use super::decision::{Decision, LeaseStep, PostgresStep, RolesStep};
use super::local::{LastRole, Postgres, Running};
use super::observation::{Observation, Roles};
use super::policy::{Mode, Policy};
use super::schedule;
use super::slots::{self, SlotsWanted};

pub fn with(policy: &Policy, seen: &Observation, decision: Decision) -> Decision {
    let rests = is_at_rest(seen, &decision);
    let tends = rests && policy.mode == Mode::Cluster;
    let slots = match tends {
        true => slots_wanted(policy, seen, &decision),
        false => slots_in_outage(seen, &decision),
    };
    let roles = if tends { roles(seen) } else { RolesStep::Leave };
    schedule::decide(policy, seen, rests, Decision { slots, roles, ..decision })
}

/// The store answers, nothing is done to the server now, and the agent goes on.
fn is_at_rest(seen: &Observation, decision: &Decision) -> bool {
    let is_busy = seen.local.job.is_some() || decision.postgres != PostgresStep::Leave || decision.lease.gives_up();
    let ends = seen.requests.shutdown.is_some() || decision.exit.is_some();
    seen.cluster.is_ok() && !is_busy && !ends
}

fn leads(seen: &Observation) -> bool {
    seen.memory.lease_valid_until.is_some_and(|until| until > seen.now)
}

/// `None`: they are as they should be, or it cannot be said what they should be. For a leader from the lock on: the others
/// follow it from then on, and a receiver that finds no slot tries again only after seconds.
fn slots_wanted(policy: &Policy, seen: &Observation, decision: &Decision) -> Option<SlotsWanted> {
    let (Ok(view), Postgres::Running(running)) = (&seen.cluster, &seen.local.postgres) else { return None };
    let (role, retained) = match running {
        _ if leads(seen) => (LastRole::Primary, &seen.retained_slots),
        // The next leader keeps what the last one kept.
        _ if matches!(decision.lease, LeaseStep::Acquire { .. }) => (LastRole::Primary, &view.status.retain_slots),
        Running::Standby(_) if view.other_leader().is_some() => (LastRole::Standby, &view.status.retain_slots),
        Running::Standby(_) | Running::Primary(_) => return None,
    };
    let wanted = slots::wanted(policy, view, role, retained);
    let stand = seen.memory.slots.as_ref().is_some_and(|stand| wanted.is_near(stand));
    (!stand).then_some(wanted)
}

/// While the store is silent the primary that we have vouched for says itself where its slots are.
fn slots_in_outage(seen: &Observation, decision: &Decision) -> Option<SlotsWanted> {
    let is_free = seen.local.job.is_none() && decision.postgres == PostgresStep::Leave;
    let ends = seen.requests.shutdown.is_some() || decision.exit.is_some();
    let is_standby = matches!(seen.local.postgres, Postgres::Running(Running::Standby(_)));
    let promise = seen.failsafe.promise.as_ref().filter(|promise| promise.until > seen.now)?;
    let last = seen.memory.slots_wanted.as_ref().filter(|last| last.role == LastRole::Standby)?;
    let wanted = last.moved_on(&promise.slots);
    let stand = seen.memory.slots.as_ref().is_some_and(|stand| wanted.is_near(stand));
    (seen.cluster.is_err() && is_free && !ends && is_standby && !stand).then_some(wanted)
}

/// Once: what was made by hand since then is not looked at.
fn roles(seen: &Observation) -> RolesStep {
    let is_primary = matches!(seen.local.postgres, Postgres::Running(Running::Primary(_)));
    match is_primary && seen.memory.roles == Roles::NotLookedAt && leads(seen) {
        true => RolesStep::Ensure,
        false => RolesStep::Leave,
    }
}
