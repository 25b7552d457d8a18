//! The costly facts that decisions ask for. Each is found out by a background task; its report stands in the
//! first observation after it came in.

use serde_json::{Map, Value, json};

use super::background_task::{AtEnd, BackgroundTask, Begun, Report};
use super::cycle::Agent;
use super::peers::{Asked, ask_all, ask_to_vouch};
use crate::core::decision::Question;
use crate::core::local::{HistoryOf, Postgres, Running};
use crate::core::observation::{DivergenceReport, Observation};
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
                self.background.begin(BackgroundTask::AskPeers, AtEnd::Wake, work)
            }
            Question::Vouch { members, limit } => {
                let (shared, members, limit) = (self.shared.clone(), members.clone(), *limit);
                let body = self.failsafe_body();
                let work = async move {
                    let (peers, clock) = (shared.peers.as_ref(), shared.clock.as_ref());
                    Report::Vouchers(ask_to_vouch(peers, clock, members, &body, limit).await)
                };
                self.background.begin(BackgroundTask::AskToVouch, AtEnd::Wake, work)
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
                self.background.begin(BackgroundTask::Checkpoint, at_end, work)
            }
        };
        begun == Begun::Yes
    }

    /// Patroni's fields, and our ttl: whoever vouches is bound for so long.
    fn failsafe_body(&self) -> Value {
        let slots = &self.server.probe().facts.slots;
        let slots: Map<String, Value> = slots.iter().map(|(name, lsn)| (name.clone(), lsn.0.into())).collect();
        json!({
            "name": self.settings.config.name.as_str(),
            "conn_url": self.own_connection_url(),
            "api_url": self.own_api_url(),
            "slots": slots,
            "ttl": self.settings.timing.ttl.as_secs(),
        })
    }

    /// A member whose record has expired is asked where it was seen last.
    fn api_url(&self, name: &MemberName, seen: &Observation) -> Option<String> {
        let current = seen.cluster.as_ref().ok().and_then(|view| view.members.get(name));
        current.or_else(|| self.memory.last_members.get(name)).and_then(|member| member.api_url.clone())
    }

    fn compare_history(&mut self, leader: HistoryOf, seen: &Observation) -> Begun {
        let Some(address) = self.address_of(&leader, seen) else { return Begun::Busy };
        let limit = self.settings.timing.retry_timeout;
        let shared = self.shared.clone();
        let work = async move {
            let asked_at = shared.now();
            let divergence = shared.instance.divergence(&address, limit).await;
            Report::Divergence(DivergenceReport { leader, asked_at, divergence })
        };
        self.background.begin(BackgroundTask::CompareHistory, AtEnd::Wake, work)
    }
}
