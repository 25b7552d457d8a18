//! Which changes of our record and of the status are worth a write now. Pure.
//!
//! WAL moves by a few hundred bytes even in an idle cluster, and each write of a position wakes every member's watch.
//! Where only positions have changed, and by little, the store is told once in two minutes. Nothing that is decided at once
//! hangs on such a difference: health checks, `/patroni` and elections ask the servers themselves, and the lag that a
//! candidate may have is judged in steps far larger. Only the lag that lists show is made of published positions: a
//! record that would show one that is no more does not wait.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::core::policy::Floor;
use crate::core::units::{Instant, Lsn, MemberName};
use crate::core::view::ClusterStatus;

/// How long a small change of positions may wait.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// From here on a change of a position is not small.
const STEP_MAX: u64 = 64 * 1024;
/// The part of `maximum_lag_on_failover` that the published position may be wrong by.
const LAG_PARTS: u64 = 16;
/// The fields of a member's record that are positions.
const POSITIONS: [&str; 3] = ["xlog_location", "replay_lsn", "receive_lsn"];

/// Changes of positions by less than this may wait. None may while a Patroni member is about: those follow
/// the status.
pub(super) fn step(floor: Floor, maximum_lag_on_failover: u64) -> u64 {
    match floor {
        Floor::Ours => STEP_MAX.min(maximum_lag_on_failover / LAG_PARTS),
        Floor::Patroni => 0,
    }
}

/// Whether the record as it stands shows a member behind the leader's published position that has reached it since.
pub(super) fn shows_lag_made_up(standing: &Value, new: &Value, leader: Option<Lsn>) -> bool {
    let Some(leader) = leader else { return false };
    let reaches = |record: &Value, field| record.get(field).and_then(Value::as_u64).is_some_and(|at| at >= leader.0);
    POSITIONS.iter().any(|field| reaches(new, field) && !reaches(standing, field))
}

/// What is published piece by piece.
pub(super) trait Published: Clone + PartialEq {
    /// Whether `self` says the same as `old` but for positions that differ by less than `step`.
    fn is_near(&self, old: &Self, step: u64) -> bool;
}

impl Published for Value {
    fn is_near(&self, old: &Self, step: u64) -> bool {
        let (Some(new), Some(old)) = (self.as_object(), old.as_object()) else { return false };
        let near = |name: &str, old: &Value, new: &Value| match (old.as_u64(), new.as_u64()) {
            (Some(old), Some(new)) if POSITIONS.contains(&name) => old.abs_diff(new) < step,
            (Some(_) | None, _) => old == new,
        };
        let same = |fields: &Map<String, Value>| fields.keys().all(|name| new.contains_key(name));
        new.len() == old.len() && same(old) && old.iter().all(|(name, value)| near(name, value, &new[name]))
    }
}

impl Published for ClusterStatus {
    fn is_near(&self, old: &Self, step: u64) -> bool {
        let near = |old: Lsn, new: Lsn| old.0.abs_diff(new.0) < step;
        let optime = match (old.optime, self.optime) {
            (Some(old), Some(new)) => near(old, new),
            (old, new) => old == new,
        };
        let slots = self.slots.len() == old.slots.len()
            && self.slots.iter().all(|(slot, new)| old.slots.get(slot).is_some_and(|old| near(*old, *new)));
        optime
            && slots
            && self.retain_slots == old.retain_slots
            && self.released_by == old.released_by
            && self.gave_way == old.gave_way
    }
}

/// What was written last, when, and under which leader. `None`: nothing is known to stand there, so that the next
/// value goes out as it is.
#[derive(Clone, Debug)]
pub(super) struct Pace<T> {
    last: Option<Written<T>>,
}

#[derive(Clone, Debug)]
struct Written<T> {
    value: T,
    at: Instant,
    leader: Option<MemberName>,
}

impl<T> Default for Pace<T> {
    fn default() -> Self {
        Pace { last: None }
    }
}

impl<T: Published> Pace<T> {
    /// The value that is to stand in the store now: `new`, or still the last one.
    pub(super) fn due(&self, new: T, now: Instant, leader: Option<&MemberName>, step: u64) -> T {
        match &self.last {
            Some(last)
                if last.leader.as_ref() == leader
                    && now.since(last.at) < WAIT_MAX
                    && new.is_near(&last.value, step) =>
            {
                last.value.clone()
            }
            Some(_) | None => new,
        }
    }

    /// The store has answered that this stands there.
    pub(super) fn wrote(&mut self, value: T, now: Instant, leader: Option<&MemberName>) {
        if self.last.as_ref().is_none_or(|last| last.value != value) {
            self.last = Some(Written { value, at: now, leader: leader.cloned() });
        }
    }

    pub(super) fn standing(&self) -> Option<&T> {
        self.last.as_ref().map(|last| &last.value)
    }

    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Somebody else may have written: only what we wrote ourselves may stay as it is.
    pub(super) fn compare(&mut self, found: &T) {
        if self.last.as_ref().is_some_and(|last| last.value != *found) {
            self.forget();
        }
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
