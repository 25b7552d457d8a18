//! What must hold of every decision and at every moment, as predicates: `decide` asserts them in a debug build, and the
//! model and the simulator judge their worlds by them.

use super::authority::{self, Effect};
use super::decision::{Decision, LeaseStep};
use super::lease::Hold;
use super::local::Job;
use super::observation::Observation;
use super::policy::{Mode, Pause, Policy};

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
    if policy.mode == Mode::Single || policy.pause == Pause::Paused {
        return Ok(());
    }
    let hold = seen.cluster.as_ref().ok().map(|view| Hold::of(view, &seen.memory, seen.now));
    if decision.lease.gives_up() && !authority::is_no_primary(&seen.local) {
        return Err("the lock is given up although PostgreSQL is not known to be stopped or a standby");
    }
    let job = if let Effect::Gives(job) = decision.postgres.effect() { Some(job) } else { None };
    if job.as_ref().is_some_and(Job::needs_lock) {
        if !matches!(hold, Some(Hold::Held { .. })) {
            return Err("PostgreSQL is made a primary without a lock that is confirmed");
        }
        if decision.lease.gives_up() {
            return Err("PostgreSQL is made a primary while the lock is given up");
        }
    }
    if matches!(decision.lease, LeaseStep::Acquire { .. }) && seen.cluster.is_err() {
        return Err("the lock is taken without having been looked at");
    }
    Ok(())
}
