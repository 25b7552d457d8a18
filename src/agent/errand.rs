//! Short work beside the loop that no decision waits for within its cycle: asking peers, comparing histories, the
//! checkpoint after promotion, files, slots. Of each kind at most one runs; its report is collected by the next cycle.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::core::observation::{DivergenceReport, PeerReports};
use crate::core::slots::SlotsWanted;
use crate::core::units::SystemId;
use crate::dcs::LeaseToken;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Errand {
    AskPeers,
    CompareHistory,
    Checkpoint,
    SyncSlots,
    EnsureRoles,
    Configure,
    SaveDynamic,
    SaveLease,
    SaveCluster,
    UpdateHistory,
    ResumeReplay,
}

/// What an errand brought.
#[derive(Debug)]
pub(super) enum Report {
    Peers(PeerReports),
    Divergence(DivergenceReport),
    Checkpointed,
    SlotsSynced(SlotsWanted),
    RolesEnsured,
    /// This generation of the settings is in force.
    Configured(u64),
    /// The configuration of this generation is kept beside the data.
    DynamicSaved(u64),
    LeaseSaved(LeaseToken),
    ClusterSaved(SystemId),
    Done,
    /// It failed; tried again when it is due again.
    Failed(String),
}

impl Report {
    /// Done, or why not.
    pub(super) fn of<T, E: std::fmt::Display>(result: Result<T, E>, done: impl FnOnce(T) -> Report) -> Report {
        match result {
            Ok(value) => done(value),
            Err(error) => Report::Failed(error.to_string()),
        }
    }
}

/// Whether the loop should begin a cycle when the errand ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtEnd {
    Wake,
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    Yes,
    /// The last one of this kind still runs.
    Busy,
}

#[derive(Debug)]
pub(super) struct Errands {
    runtime: Handle,
    running: BTreeMap<Errand, JoinHandle<Report>>,
    /// The last failure of each kind, so that it is not told again and again.
    complaints: BTreeMap<Errand, String>,
}

impl Errands {
    /// `runtime`: where they run. Not the loop's, since files are written, and not the jobs', since a stop waits for
    /// nothing.
    pub(super) fn new(runtime: Handle) -> Self {
        Errands { runtime, running: BTreeMap::new(), complaints: BTreeMap::new() }
    }

    pub(super) fn is_running(&self, errand: Errand) -> bool {
        self.running.contains_key(&errand)
    }

    pub(super) fn begin<F>(&mut self, errand: Errand, at_end: AtEnd, wake: &Arc<Notify>, work: F) -> Begun
    where
        F: Future<Output = Report> + Send + 'static,
    {
        if self.is_running(errand) {
            return Begun::Busy;
        }
        let wake = wake.clone();
        let task = self.runtime.spawn(async move {
            let limit = errand.limit();
            let report = match timeout(limit, work).await {
                Ok(report) => report,
                Err(_) => Report::Failed(format!("no end within {limit:?}")),
            };
            match at_end {
                AtEnd::Wake => wake.notify_one(),
                AtEnd::Wait => {}
            }
            report
        });
        self.running.insert(errand, task);
        Begun::Yes
    }

    /// What has come in since the last call. Failures are logged here, each once until it changes.
    pub(super) async fn collect(&mut self) -> Vec<Report> {
        let ended = self.running.iter().filter(|(_, task)| task.is_finished());
        let ended: Vec<Errand> = ended.map(|(errand, _)| *errand).collect();
        let mut reports = Vec::with_capacity(ended.len());
        for errand in ended {
            let Some(task) = self.running.remove(&errand) else { continue };
            let report = task.await.unwrap_or_else(|error| Report::Failed(error.to_string()));
            match &report {
                Report::Failed(error) => self.complain(errand, error),
                _done => drop(self.complaints.remove(&errand)),
            }
            reports.push(report);
        }
        reports
    }

    fn complain(&mut self, errand: Errand, error: &str) {
        if self.complaints.insert(errand, error.to_owned()).as_deref() == Some(error) {
            tracing::debug!("{errand:?} failed again: {error}");
        } else {
            tracing::warn!("{} failed: {error}", errand.as_str());
        }
    }
}

impl Drop for Errands {
    fn drop(&mut self) {
        self.running.values().for_each(JoinHandle::abort);
    }
}

impl Errand {
    /// None is waited for; this only keeps a dead one from standing in the way of the next.
    fn limit(self) -> Duration {
        match self {
            Errand::Checkpoint => Duration::from_secs(3600),
            Errand::AskPeers
            | Errand::CompareHistory
            | Errand::SyncSlots
            | Errand::EnsureRoles
            | Errand::Configure
            | Errand::SaveDynamic
            | Errand::SaveLease
            | Errand::SaveCluster
            | Errand::UpdateHistory
            | Errand::ResumeReplay => Duration::from_secs(60),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Errand::AskPeers => "asking the other members",
            Errand::CompareHistory => "comparing our WAL with the leader's history",
            Errand::Checkpoint => "the checkpoint after promotion",
            Errand::SyncSlots => "keeping the members' replication slots",
            Errand::EnsureRoles => "creating missing roles",
            Errand::Configure => "configuring PostgreSQL",
            Errand::SaveDynamic => "keeping the cluster's configuration beside the data",
            Errand::SaveLease => "keeping the lease beside the data",
            Errand::SaveCluster => "keeping the cluster's identifier in the data directory",
            Errand::UpdateHistory => "writing the timeline history",
            Errand::ResumeReplay => "resuming WAL replay",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_errand_of_a_kind_runs_and_its_report_comes_once() {
        let wake = Arc::new(Notify::new());
        let mut errands = Errands::new(Handle::current());
        let begin = |errands: &mut Errands| {
            errands.begin(Errand::Checkpoint, AtEnd::Wake, &wake, async { Report::Checkpointed })
        };
        assert_eq!(begin(&mut errands), Begun::Yes);
        assert_eq!(begin(&mut errands), Begun::Busy);
        wake.notified().await;
        let reports = errands.collect().await;
        assert!(matches!(reports[..], [Report::Checkpointed]), "{reports:?}");
        assert!(errands.collect().await.is_empty());
        assert_eq!(begin(&mut errands), Begun::Yes);
    }
}
