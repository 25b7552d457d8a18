//! Failsafe mode in the simulator: who vouches for whom, and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use tamada::core::authority::can_be_bound;
use tamada::core::failsafe::{self, Promise, Vouch, Vouchers};
use tamada::core::units::MemberName;

use super::node::at;
use super::world::World;

/// Whether the cluster has it, and whether its members keep what they promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failsafe {
    Off,
    On,
    /// A member that has vouched for a primary races all the same.
    Unkept,
}

impl World {
    pub(super) fn failsafe(&self, index: usize) -> failsafe::Failsafe {
        let node = &self.nodes[index];
        let answered = node.vouchers.as_ref().filter(|(known_at, _)| *known_at <= self.now);
        let is_kept = self.layers.failsafe == Failsafe::On;
        failsafe::Failsafe {
            vouchers: answered.map(|(_, vouchers)| vouchers.clone()),
            promise: node.promise.clone().filter(|_| is_kept),
            unsure_until: is_kept.then(|| at(node.began) + node.timing.ttl),
        }
    }

    /// Whether a promise keeps it from taking the lock at this moment.
    pub(super) fn is_bound(&self, index: usize) -> bool {
        let promise = self.nodes[index].promise.as_ref().filter(|_| self.layers.failsafe == Failsafe::On);
        promise.is_some_and(|promise| promise.until > at(self.now))
    }

    pub(super) fn ask_to_vouch(
        &mut self,
        index: usize,
        members: &BTreeMap<MemberName, Option<String>>,
        limit: Duration,
    ) {
        let asked_at = at(self.now);
        let mut soon = self.now + 20;
        let mut answers = BTreeMap::new();
        for name in members.keys() {
            let found = self.nodes.iter().position(|other| other.name == *name).expect("a member's name");
            let vouch = match self.reaches(index, found) && self.nodes[found].away_until <= self.now {
                true => self.vouch(found, index),
                false => {
                    soon = self.now + limit.as_millis() as u64;
                    Vouch::NoAnswer
                }
            };
            answers.insert(name.clone(), vouch);
        }
        let node = &mut self.nodes[index];
        node.vouchers = Some((soon, Vouchers { asked_at, answers }));
        node.wake = node.wake.min(soon);
    }

    fn vouch(&mut self, index: usize, primary: usize) -> Vouch {
        let now = at(self.now);
        let (leader, ttl) = (self.nodes[primary].name.clone(), self.nodes[primary].timing.ttl);
        let node = &self.nodes[index];
        // A call for the lock may be on its way.
        let races = node.acting.is_some();
        let holds = self.store.holds(node.lease) || node.memory.lease_valid_until > Some(now);
        let is_bound = node.promise.as_ref().is_some_and(|known| known.until > now && known.leader != leader);
        if races || holds || is_bound || node.never_probed || !can_be_bound(&node.observe(), &node.memory) {
            return Vouch::Refused;
        }
        let until = now + node.timing.ttl.max(ttl);
        let slots = self.positions(primary);
        self.nodes[index].promise = Some(Promise { leader, until, slots });
        Vouch::Accepted
    }
}
