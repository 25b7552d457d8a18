//! What goes on beside the decisions, as the core has decided it: slots, synchronous standbys, roles, restarts at a time.

use std::collections::BTreeSet;

use super::background_task::{AtEnd, BackgroundTask, Report};
use super::cycle::Agent;
use super::inbox::{BEGIN_WITHIN, PendingRestart};
use super::publish::tell;
use crate::core::decision::{Overtaken, RolesStep, ScheduleStep, SyncStep};
use crate::core::local::{LastRole, Postgres, Running, Upstream};
use crate::core::observation::{Event, Observation, RestartRequest};
use crate::core::slots::{Brought, SlotsWanted};
use crate::core::standby_names::StandbyNames;
use crate::core::units::MemberName;
use crate::core::view::{ReplicationState, SyncState};
use crate::dcs::{Content, Dcs, DcsError, Key, codec};
use crate::postgres::Instance;

impl<D: Dcs, I: Instance> Agent<D, I> {
    pub(super) fn bring_slots(&mut self, wanted: SlotsWanted) {
        // One that fails half-way, or that has to leave a slot, has changed others.
        self.memory.note(&Event::SlotsTouched(wanted.clone()));
        if !wanted.logical.is_empty() {
            let (shared, wanted) = (self.shared.clone(), wanted.clone());
            let work = async move {
                let copied = shared.instance.tend_logical_slots(&wanted).await;
                Report::of(copied, |names| if names.is_empty() { Report::Done } else { Report::SlotsCopied(names) })
            };
            self.background.begin(BackgroundTask::TendLogicalSlots, AtEnd::Wait, work);
        }
        let shared = self.shared.clone();
        let work = async move {
            let brought = shared.instance.sync_slots(&wanted).await;
            Report::of(brought, |brought| match brought {
                Brought::All => Report::SlotsBrought(wanted),
                // Not known as brought about, they are tried again.
                Brought::Partly => Report::Done,
            })
        };
        self.background.begin(BackgroundTask::SyncSlots, AtEnd::Wait, work);
    }

    /// The key is written at once, since nothing else may come between what was seen and what is promised; the server's
    /// setting takes a reload.
    pub(super) async fn bring_synchronous(&mut self, step: &SyncStep, seen: &Observation) {
        let before = seen.cluster.as_ref().map(|view| view.sync.clone()).unwrap_or_default();
        let (content, revision) = match step {
            SyncStep::Leave => return,
            SyncStep::Set(names) => return self.set_standby_names(Some(names.clone())),
            SyncStep::GiveBack => return self.set_standby_names(None),
            SyncStep::Publish { key, seen } => (Content::Json(codec::sync_document(key)), *seen),
            SyncStep::Unpublish { seen } => (Content::Delete, Some(*seen)),
        };
        match self.replace(Key::Sync, content, self.as_seen_leading(revision)).await {
            Ok(()) => tell_synchronous(step, &before),
            Err(DcsError::Conflict { .. }) => tracing::info!("Synchronous replication key updated by someone else."),
            Err(error) => tell(&error, format_args!("Updating sync state failed")),
        }
    }

    fn set_standby_names(&mut self, names: Option<StandbyNames>) {
        let shared = self.shared.clone();
        let work = async move {
            let _configuring = shared.configuring.clone().lock_owned().await;
            Report::of(shared.instance.set_standby_names(names.as_ref()).await, |()| Report::Done)
        };
        self.background.begin(BackgroundTask::SetStandbyNames, AtEnd::Wake, work);
    }

    pub(super) fn ensure_roles(&mut self, step: RolesStep) {
        match step {
            RolesStep::Leave => {}
            RolesStep::Ensure => {
                let shared = self.shared.clone();
                let work = async move { Report::of(shared.instance.ensure_roles().await, |()| Report::RolesEnsured) };
                self.background.begin(BackgroundTask::EnsureRoles, AtEnd::Wait, work);
            }
        }
    }

    /// A standby that does not stream may connect to an address that its upstream has no longer. A job finds it by itself.
    pub(super) fn find_upstream(&mut self, seen: &Observation) {
        if self.jobs.running().is_some() || !may_miss_upstream(&seen.local.postgres) {
            return;
        }
        let shared = self.shared.clone();
        let work = async move { Report::of(shared.instance.find_upstream().await, |()| Report::Done) };
        self.background.begin(BackgroundTask::FindUpstream, AtEnd::Wait, work);
    }

    /// Only the restart that was seen: another may have been scheduled since.
    pub(super) fn settle_schedule(&self, step: &ScheduleStep, seen: &Observation) {
        let decided = seen.requests.scheduled.as_ref().map(|scheduled| scheduled.at);
        let until = self.shared.now() + BEGIN_WITHIN;
        let mut inbox = self.shared.inbox();
        let mut take = || inbox.scheduled.take_if(|scheduled| scheduled.body.schedule == decided);
        match step {
            ScheduleStep::Keep => {}
            ScheduleStep::Begin => {
                let Some(scheduled) = take() else { return };
                let request = RestartRequest { timeout: scheduled.body.timeout };
                inbox.restart.get_or_insert(PendingRestart { request, answer: None, until });
            }
            ScheduleStep::Drop(why) => {
                take();
                match why {
                    Overtaken::ByTime => tracing::warn!("{why}"),
                    Overtaken::ByAnotherRestart { .. } | Overtaken::ByConditions => tracing::info!("{why}"),
                }
            }
        }
    }
}

/// Patroni's words, which monitoring looks for.
fn tell_synchronous(step: &SyncStep, before: &SyncState) {
    let names = |standbys: &BTreeSet<MemberName>| {
        let quoted: Vec<String> = standbys.iter().map(|name| format!("'{name}'")).collect();
        format!("[{}]", quoted.join(", "))
    };
    match step {
        SyncStep::Publish { key, .. } if before.leader.is_none() && key.standbys.is_empty() => {
            tracing::info!("Enabled synchronous replication");
        }
        SyncStep::Publish { key, .. } if key.quorum > 0 || before.quorum > 0 => {
            let plain: Vec<&str> = key.standbys.iter().map(MemberName::as_str).collect();
            tracing::info!("Setting leader to {}, quorum to {} of ({})", key.leader, key.quorum, plain.join(", "));
        }
        SyncStep::Publish { key, .. } if key.standbys.len() < before.standbys.len() => {
            let (from, to) = (names(&before.standbys), names(&key.standbys));
            tracing::info!("Updating /sync key temporarily from {from} to {to}");
        }
        SyncStep::Publish { key, .. } => {
            tracing::info!("Synchronous standby status assigned to {}", names(&key.standbys));
        }
        SyncStep::Unpublish { .. } => tracing::info!("Disabled synchronous replication"),
        SyncStep::Leave | SyncStep::Set(_) | SyncStep::GiveBack => {}
    }
}

fn may_miss_upstream(postgres: &Postgres) -> bool {
    match postgres {
        Postgres::Running(Running::Standby(facts)) => {
            matches!(facts.upstream, Upstream::Member { .. }) && facts.replication != Some(ReplicationState::Streaming)
        }
        Postgres::Starting { role, .. } => *role == LastRole::Standby,
        Postgres::Running(Running::Primary(_))
        | Postgres::Stopped
        | Postgres::Unresponsive { .. }
        | Postgres::Stopping => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::local::{Replay, StandbyFacts};
    use crate::core::units::{Instant, Lsn};
    use crate::core::view::Address;

    fn standby(upstream: Upstream, replication: Option<ReplicationState>) -> Postgres {
        let (received, replayed, replay) = (Lsn::default(), Lsn::default(), Replay::Going);
        let facts = StandbyFacts { timeline: None, received, replayed, upstream, replication, replay };
        Postgres::Running(Running::Standby(facts))
    }

    #[test]
    fn names_are_looked_up_only_while_a_standby_does_not_stream() {
        let address = Address { host: "n1".to_owned(), port: 5432, database: "postgres".to_owned() };
        let member = Upstream::Member { name: "n1".into(), address };
        assert!(!may_miss_upstream(&standby(member.clone(), Some(ReplicationState::Streaming))));
        assert!(may_miss_upstream(&standby(member.clone(), Some(ReplicationState::InArchiveRecovery))));
        assert!(may_miss_upstream(&standby(member, None)));
        assert!(!may_miss_upstream(&standby(Upstream::None, None)));
        let starting = |role| Postgres::Starting { since: Instant::default(), role };
        assert!(may_miss_upstream(&starting(LastRole::Standby)) && !may_miss_upstream(&starting(LastRole::Primary)));
    }
}
