//! Short work beside the loop that no decision waits for within its cycle: asking peers, comparing histories, the
//! checkpoint after promotion, files, slots. Of each kind at most one runs; its report is collected by the next cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::cluster_file::Known;
use super::handed::Handed;
use crate::core::failsafe::Vouchers;
use crate::core::observation::{DivergenceReport, PeerReports};
use crate::core::slots::SlotsWanted;
use crate::core::units::{Branch, Seconds};
use crate::dcs::LeaseToken;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BackgroundTask {
    AskPeers,
    AskToVouch,
    CompareHistory,
    Checkpoint,
    SyncSlots,
    TendLogicalSlots,
    SetStandbyNames,
    EnsureRoles,
    Configure,
    SaveDynamic,
    SaveLease,
    SaveCluster,
    UpdateHistory,
    ReadBranch,
    ResumeReplay,
    FindUpstream,
}

/// What a background task reports.
#[derive(Debug)]
pub(super) enum Report {
    Peers(PeerReports),
    Vouchers(Vouchers),
    Divergence(DivergenceReport),
    Checkpointed,
    SlotsBrought(SlotsWanted),
    SlotsCopied(BTreeSet<String>),
    RolesEnsured,
    /// This generation of the settings is in force.
    Configured(u64),
    /// The configuration of this generation is kept beside the data.
    DynamicSaved(u64),
    LeaseSaved(LeaseToken),
    ClusterSaved(Known),
    /// Of the data before they were replaced so often.
    Branch {
        replaced: u64,
        branch: Branch,
    },
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

/// Whether the loop should begin a cycle when the task ends.
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
pub(super) struct BackgroundTasks {
    runtime: Handle,
    /// Begins the loop's next cycle.
    wake: Arc<Notify>,
    running: BTreeMap<BackgroundTask, Handed<Report>>,
    /// The last failure of each kind, so that it is not told again and again.
    complaints: BTreeMap<BackgroundTask, String>,
}

impl BackgroundTasks {
    /// `runtime`: where they run. Not the loop's, since files are written, and not the jobs', since a stop waits for
    /// nothing.
    pub(super) fn new(runtime: Handle, wake: Arc<Notify>) -> Self {
        BackgroundTasks { runtime, wake, running: BTreeMap::new(), complaints: BTreeMap::new() }
    }

    pub(super) fn is_running(&self, task: BackgroundTask) -> bool {
        self.running.contains_key(&task)
    }

    /// Whether the last one of this kind failed.
    pub(super) fn has_failed(&self, task: BackgroundTask) -> bool {
        self.complaints.contains_key(&task)
    }

    pub(super) fn begin<F>(&mut self, task: BackgroundTask, at_end: AtEnd, work: F) -> Begun
    where
        F: Future<Output = Report> + Send + 'static,
    {
        if self.is_running(task) {
            return Begun::Busy;
        }
        let work = async move {
            let limit = task.limit();
            let ended = timeout(limit, work).await;
            ended.unwrap_or_else(|_| Report::Failed(format!("no end within {}", Seconds(limit))))
        };
        let wake = match at_end {
            AtEnd::Wake => Some(self.wake.clone()),
            AtEnd::Wait => None,
        };
        let running = Handed::begin(&self.runtime, wake, work);
        self.running.insert(task, running);
        Begun::Yes
    }

    /// What has come in since the last call. Failures are logged here, each once until it changes.
    pub(super) fn collect(&mut self) -> Vec<Report> {
        let ended = self.running.iter_mut().filter_map(|(task, running)| Some((*task, running.take()?)));
        let ended: Vec<_> = ended.collect();
        let mut reports = Vec::with_capacity(ended.len());
        for (task, result) in ended {
            self.running.remove(&task);
            let report = result.unwrap_or_else(|_| Report::Failed("the task panicked".to_owned()));
            match &report {
                Report::Failed(error) => self.complain(task, error),
                _done => drop(self.complaints.remove(&task)),
            }
            reports.push(report);
        }
        reports
    }

    fn complain(&mut self, task: BackgroundTask, error: &str) {
        if self.complaints.insert(task, error.to_owned()).as_deref() == Some(error) {
            tracing::debug!("{task:?} failed again: {error}");
        } else {
            tracing::warn!("{} failed: {error}", task.as_str());
        }
    }
}

impl Drop for BackgroundTasks {
    fn drop(&mut self) {
        self.running.values().for_each(Handed::abort);
    }
}

impl BackgroundTask {
    /// None is waited for; this only keeps a dead one from standing in the way of the next.
    fn limit(self) -> Duration {
        match self {
            BackgroundTask::Checkpoint => Duration::from_secs(3600),
            BackgroundTask::TendLogicalSlots => Duration::from_secs(1800),
            BackgroundTask::AskPeers
            | BackgroundTask::AskToVouch
            | BackgroundTask::CompareHistory
            | BackgroundTask::SyncSlots
            | BackgroundTask::SetStandbyNames
            | BackgroundTask::EnsureRoles
            | BackgroundTask::Configure
            | BackgroundTask::SaveDynamic
            | BackgroundTask::SaveLease
            | BackgroundTask::SaveCluster
            | BackgroundTask::UpdateHistory
            | BackgroundTask::ReadBranch
            | BackgroundTask::ResumeReplay
            | BackgroundTask::FindUpstream => Duration::from_secs(60),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            BackgroundTask::AskPeers => "asking the other members",
            BackgroundTask::AskToVouch => "asking the other members in failsafe mode",
            BackgroundTask::CompareHistory => "comparing our WAL with the leader's history",
            BackgroundTask::Checkpoint => "the checkpoint after promotion",
            BackgroundTask::SyncSlots => "keeping the members' replication slots",
            BackgroundTask::TendLogicalSlots => "tending the logical replication slots",
            BackgroundTask::SetStandbyNames => "setting synchronous_standby_names",
            BackgroundTask::EnsureRoles => "creating missing roles",
            BackgroundTask::Configure => "configuring PostgreSQL",
            BackgroundTask::SaveDynamic => "keeping the cluster's configuration beside the data",
            BackgroundTask::SaveLease => "keeping the lease beside the data",
            BackgroundTask::SaveCluster => "keeping the cluster's identifier in the data directory",
            BackgroundTask::UpdateHistory => "writing the timeline history",
            BackgroundTask::ReadBranch => "reading where our timeline began",
            BackgroundTask::ResumeReplay => "resuming WAL replay",
            BackgroundTask::FindUpstream => "following the upstream's address",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_task_of_a_kind_runs_and_its_report_comes_once() {
        let wake = Arc::new(Notify::new());
        let mut tasks = BackgroundTasks::new(Handle::current(), wake.clone());
        let begin = |tasks: &mut BackgroundTasks| {
            tasks.begin(BackgroundTask::Checkpoint, AtEnd::Wake, async { Report::Checkpointed })
        };
        assert_eq!(begin(&mut tasks), Begun::Yes);
        assert_eq!(begin(&mut tasks), Begun::Busy);
        wake.notified().await;
        let reports = tasks.collect();
        assert!(matches!(reports[..], [Report::Checkpointed]), "{reports:?}");
        assert!(tasks.collect().is_empty());
        assert_eq!(begin(&mut tasks), Begun::Yes);
    }
}
