//! What this member has promised to a primary that the store does not answer: not to take the lock for a while. Under the
//! inbox's lock, since a promise and a race for the lock exclude each other.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::failsafe::Promise;
use crate::core::units::{Instant, Lsn, MemberName};

#[derive(Debug, Default)]
pub(crate) struct Promised {
    promise: Option<Promise>,
    /// Whether it is a fact of the last cycle that this member neither is a primary nor becomes one, and holds no lock.
    may_promise: bool,
}

/// Whether a race for the lock may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Race {
    Begun,
    Bound,
}

impl Promised {
    /// What a cycle has seen. Until the next one says otherwise.
    pub(crate) fn observed(&mut self, may_promise: bool) {
        self.may_promise = may_promise;
    }

    pub(crate) fn in_force(&self) -> Option<&Promise> {
        self.promise.as_ref()
    }

    /// Whether the promise was given.
    pub(crate) fn give(
        &mut self,
        leader: MemberName,
        slots: BTreeMap<String, Lsn>,
        now: Instant,
        lasts: Duration,
    ) -> bool {
        let is_bound = |promise: &Promise| promise.until > now && promise.leader != leader;
        if !self.may_promise || self.promise.as_ref().is_some_and(is_bound) {
            return false;
        }
        let until = self.promise.as_ref().map_or(now + lasts, |promise| promise.until.max(now + lasts));
        self.promise = Some(Promise { leader, until, slots });
        true
    }

    /// From now on nothing is promised, unless something is already.
    pub(crate) fn race(&mut self, now: Instant) -> Race {
        if self.promise.as_ref().is_some_and(|promise| promise.until > now) {
            return Race::Bound;
        }
        self.may_promise = false;
        Race::Begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn second(second: u64) -> Instant {
        Instant(Duration::from_secs(second))
    }

    #[test]
    fn a_promise_and_a_race_exclude_each_other() {
        let mut promised = Promised::default();
        assert!(!promised.give("a".into(), BTreeMap::new(), second(0), TTL), "nothing is known of this member yet");
        promised.observed(true);
        assert!(promised.give("a".into(), BTreeMap::new(), second(1), TTL));
        assert_eq!(promised.race(second(30)), Race::Bound);
        assert!(!promised.give("b".into(), BTreeMap::new(), second(30), TTL), "one primary at a time");
        assert_eq!(promised.race(second(31)), Race::Begun);
        assert!(!promised.give("a".into(), BTreeMap::new(), second(31), TTL), "it races");
        promised.observed(true);
        assert!(promised.give("b".into(), BTreeMap::new(), second(32), TTL));
    }

    #[test]
    fn a_promise_is_never_shortened() {
        let mut promised = Promised::default();
        promised.observed(true);
        assert!(promised.give("a".into(), BTreeMap::new(), second(0), TTL));
        assert!(promised.give("a".into(), BTreeMap::new(), second(1), Duration::from_secs(5)));
        assert_eq!(promised.race(second(29)), Race::Bound);
    }
}
