//! The costly facts that decisions ask for. Each is found out by an errand beside the loop; its report stands in the
//! first observation after it came in.

use super::act::address_of;
use super::cycle::Agent;
use super::errand::{AtEnd, Begun, Errand, Report, SlotSet};
use super::peers::{Asked, ask_all};
use crate::core::decision::Question;
use crate::core::local::{Postgres, Running};
use crate::core::observation::{DivergenceReport, Observation};
use crate::core::policy::Mode;
use crate::core::units::MemberName;
use crate::dcs::Dcs;
use crate::postgres::Instance;

impl<D: Dcs, I: Instance> Agent<D, I> {
    /// Whether the question was sent. One that is still out is not sent twice.
    pub(super) fn ask(&mut self, question: &Question, seen: &Observation) -> bool {
        let begun = match question {
            Question::Peers(limits) => {
                let asked = limits.iter().map(|(name, limit)| Asked {
                    name: name.clone(),
                    api_url: self.api_url(name, seen),
                    limit: *limit,
                });
                let asked = asked.collect();
                let shared = self.shared.clone();
                let work =
                    async move { Report::Peers(ask_all(shared.peers.as_ref(), shared.clock.as_ref(), asked).await) };
                self.errands.begin(Errand::AskPeers, AtEnd::Wake, &self.shared.wake.clone(), work)
            }
            Question::Divergence { leader } => self.compare_history(leader.clone(), seen),
            Question::Checkpoint => {
                let shared = self.shared.clone();
                let work = async move { Report::of(shared.instance.checkpoint().await, |()| Report::Checkpointed) };
                // A leader owes it to others. A standby that waits for its effect looks again by itself: woken by each end
                // it would ask for the next one without a rest.
                let at_end = match &seen.local.postgres {
                    Postgres::Running(Running::Standby(_)) => AtEnd::Wait,
                    _ => AtEnd::Wake,
                };
                self.errands.begin(Errand::Checkpoint, at_end, &self.shared.wake.clone(), work)
            }
        };
        begun == Begun::Yes
    }

    /// A member whose record has expired is asked where it was seen last.
    fn api_url(&self, name: &MemberName, seen: &Observation) -> Option<String> {
        let current = seen.cluster.as_ref().ok().and_then(|view| view.members.get(name));
        current.or_else(|| self.memory.last_members.get(name)).and_then(|member| member.api_url.clone())
    }

    fn compare_history(&mut self, leader: MemberName, seen: &Observation) -> Begun {
        let Some(address) = address_of(&leader, seen) else { return Begun::Busy };
        let limit = self.settings.timing.retry_timeout;
        let shared = self.shared.clone();
        let work = async move {
            let asked_at = shared.now();
            let divergence = shared.instance.divergence(&address, limit).await;
            Report::Divergence(DivergenceReport { leader, asked_at, divergence })
        };
        self.errands.begin(Errand::CompareHistory, AtEnd::Wake, &self.shared.wake.clone(), work)
    }

    /// What a leader does beside its decisions: slots for the members, once for each set of them, and the roles that an
    /// adopted cluster may lack, once.
    pub(super) fn keep_house(&mut self, seen: &Observation) {
        let Postgres::Running(Running::Primary(_)) = &seen.local.postgres else {
            // Whoever was demoted has dropped them, and may lead again without having lost the lock in between.
            self.slots_synced = None;
            return;
        };
        let leads = self.memory.lease_valid_until.is_some_and(|until| until > seen.now);
        if self.settings.mode() == Mode::Single || !leads || self.jobs.running().is_some() {
            return;
        }
        let Postgres::Running(Running::Primary(_)) = &seen.local.postgres else { return };
        self.keep_slots(seen);
        if !self.roles_ensured {
            let shared = self.shared.clone();
            let work = async move { Report::of(shared.instance.ensure_roles().await, |()| Report::RolesEnsured) };
            self.errands.begin(Errand::EnsureRoles, AtEnd::Wait, &self.shared.wake.clone(), work);
        }
    }

    /// Begun as soon as the lock is ours: the other members follow us from then on, and a receiver that finds no slot
    /// tries again only after seconds.
    pub(super) fn keep_slots(&mut self, seen: &Observation) {
        let wanted = self.slots_wanted(seen);
        let uses_slots = self.settings.mode() == Mode::Cluster && self.settings.dynamic.use_slots.is_on();
        let runs = matches!(seen.local.postgres, Postgres::Running(_));
        if !uses_slots || !runs || self.slots_synced.as_ref() == Some(&wanted) {
            return;
        }
        let shared = self.shared.clone();
        let work = async move {
            let synced = shared.instance.sync_slots(&wanted.members, &wanted.retain).await;
            Report::of(synced, |()| Report::SlotsSynced(wanted))
        };
        self.errands.begin(Errand::SyncSlots, AtEnd::Wait, &self.shared.wake.clone(), work);
    }

    /// A slot for each other member that streams, and those that are kept for members that are away.
    pub(super) fn slots_wanted(&self, seen: &Observation) -> SlotSet {
        let Ok(view) = &seen.cluster else { return SlotSet::default() };
        let me = &self.settings.config.name;
        let streaming = view.members.values().filter(|member| member.name != *me && !member.tags.nostream);
        SlotSet {
            members: streaming.map(|member| member.name.clone()).collect(),
            retain: self.retained.names().collect(),
        }
    }
}
