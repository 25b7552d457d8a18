//! One cycle's observation: the store and the server read at the same time, each within its own bound, and what has
//! come in since the last cycle.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use tokio::time::timeout;

use super::background_task::{AtEnd, BackgroundTask, Report};
use super::cluster_file::Known;
use super::cycle::Agent;
use super::inbox::{ForceOut, Reload};
use super::mailbox::RestartResult;
use super::settings::TimingChange;
use crate::core::authority;
use crate::core::failsafe::Failsafe;
use crate::core::local::{About, DataDir, Job, LocalState, Postgres};
use crate::core::observation::{DcsOutage, Event, FinishedJob, JobResult, Observation};
use crate::core::policy::Mode;
use crate::core::units::Instant;
use crate::core::view::{ClusterView, Initialize};
use crate::dcs::{Dcs, DcsError, LeaseToken, Snapshot};
use crate::postgres::{Force, Instance, Probe};

/// A probe is local: it takes milliseconds or something is wrong.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

impl<D: Dcs, I: Instance> Agent<D, I> {
    /// What came in between two cycles and must be known before the next decision.
    pub(super) async fn begin_cycle(&mut self) {
        let (reload, force, of_watchdog) = {
            let inbox = &mut *self.shared.inbox();
            let of_watchdog = std::mem::take(&mut inbox.watchdog);
            (std::mem::take(&mut inbox.reload), std::mem::take(&mut inbox.force), of_watchdog)
        };
        of_watchdog.into_iter().for_each(|state| self.watchdog.heard(state, &self.settings.timing));
        self.watchdog.check(self.shared.now());
        match reload {
            Reload::NotAsked => {}
            Reload::Asked => self.reload(),
        }
        let stops = self.jobs.running().is_some_and(|running| matches!(running.job, Job::Stop { .. }));
        let ended = match force {
            ForceOut::CancelJob if !stops => self.jobs.cancel(self.shared.now()).await,
            ForceOut::CancelJob | ForceOut::No => self.jobs.take_finished(self.shared.now()),
        };
        if let Some(ended) = ended {
            self.job_ended(ended);
        }
        self.take_reports().await;
    }

    async fn take_reports(&mut self) {
        for report in self.background.collect() {
            self.take_report(report);
        }
    }

    fn reload(&mut self) {
        match (self.reread)() {
            Ok(config) => {
                config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                self.settings.reload(config);
                self.watchdog.reloaded(&self.settings.config.watchdog);
                self.shared.instance.set_config(self.settings.config.clone());
                self.shared.dcs.set_credentials(&self.settings.config.dcs);
                tracing::info!("configuration read again");
            }
            Err(error) => tracing::error!("the configuration is not usable, the old one stays in force: {error}"),
        }
    }

    pub(super) fn job_ended(&mut self, ended: FinishedJob) {
        self.publisher.job_ended(&ended);
        if replaces_data(&ended.job) {
            // The files beside the data may be another member's now.
            self.settings.saved = 0;
            self.kept.data_replaced();
            self.branch.data_replaced();
        }
        self.memory.note(&Event::JobEnded(ended));
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Peers(reports) => self.answers.take_peers(reports),
            Report::Vouchers(vouchers) => self.answers.take_vouchers(vouchers),
            Report::Divergence(report) => self.answers.take_divergence(report),
            Report::Checkpointed => {
                self.memory.note(&Event::CheckpointDone);
            }
            Report::SlotsBrought(slots) => self.memory.note(&Event::SlotsBrought(slots)),
            Report::SlotsCopied(names) => self.memory.note(&Event::SlotsCopied(names)),
            Report::RolesEnsured => self.memory.note(&Event::RolesEnsured),
            Report::Configured(generation) => self.settings.configured = generation,
            Report::DynamicSaved(generation) => self.settings.saved = generation,
            Report::LeaseSaved(token) => self.kept.lease_saved(token),
            Report::ClusterSaved(known) => self.kept.cluster_saved(known),
            Report::Branch { replaced, branch } => self.branch.take(replaced, branch),
            Report::Done | Report::Failed(_) => {}
        }
    }

    pub(super) async fn observe(&mut self) -> Observation {
        let limit = self.patience();
        let (read, probe) = join(self.read_store(limit), self.probe_server(limit.min(PROBE_LIMIT))).await;
        let cluster = self.take_snapshot(read);
        // What came in during a slow reading would be out of date one cycle later.
        self.take_reports().await;
        self.take_probe(probe);
        self.fence.tell_postmaster(self.server.probe().facts.postmaster_pid);
        self.answer_restart();
        self.fence.tell_lease(self.lease_to_keep());
        self.keep_files();
        self.read_branch();
        let now = self.shared.now();
        let local = LocalState {
            data: self.server.probe().data.clone(),
            postgres: self.server.probe().postgres.clone(),
            job: self.jobs.running().cloned(),
            guard: self.fence.guard(),
            watchdog: self.watchdog.seen(),
            about: self.about(),
            branch: self.branch.get(),
            sync: self.server.probe().facts.sync.clone(),
        };
        let cluster = cluster.map(|snapshot| snapshot.view.clone());
        cluster.iter().for_each(|view| self.publisher.goes_on(now, view));
        let failsafe = self.failsafe(&local, &cluster, now);
        Observation {
            now,
            wall: self.shared.clock.wall(),
            cluster,
            local,
            peers: self.answers.peers(),
            divergence: self.answers.divergence(),
            requests: self.shared.inbox().requests(now),
            failsafe,
            retained_slots: self.publisher.retained(),
            memory: self.memory.clone(),
        }
    }

    /// What binds us in failsafe mode; and whether we may be bound from now on is told.
    fn failsafe(&self, local: &LocalState, cluster: &Result<ClusterView, DcsOutage>, now: Instant) -> Failsafe {
        let holds_lock = cluster.as_ref().is_ok_and(ClusterView::is_ours) || self.memory.lease_valid_until > Some(now);
        let mut inbox = self.shared.inbox();
        inbox.promise.observed(!holds_lock && authority::can_be_bound(local, &self.memory));
        Failsafe {
            vouchers: self.answers.vouchers(),
            promise: inbox.promise.in_force().cloned(),
            unsure_until: self.settings.unsure_until(),
        }
    }

    /// What a request to restart asks of the server.
    fn about(&self) -> About {
        let facts = &self.server.probe().facts;
        About {
            role: self.publisher.role(),
            version: facts.server_version,
            is_restart_pending: !facts.pending_restart.is_empty(),
            started: facts.postmaster_start_time.clone(),
        }
    }

    async fn read_store(&self, limit: Duration) -> Result<Arc<Snapshot>, DcsOutage> {
        match self.shared.bounded(limit, self.shared.dcs.snapshot(limit)).await {
            Some(Ok(snapshot)) => Ok(snapshot),
            Some(Err(error)) => Err(outage(&error)),
            None => Err(DcsOutage { error: "no answer in time".to_owned() }),
        }
    }

    fn take_snapshot(&mut self, read: Result<Arc<Snapshot>, DcsOutage>) -> Result<Arc<Snapshot>, DcsOutage> {
        match &read {
            Ok(snapshot) => {
                let former_ttl = self.settings.timing.ttl;
                let former = self.settings.config.clone();
                match self.settings.take_in(snapshot, self.shared.now()) {
                    TimingChange::Same => {}
                    TimingChange::Changed => self.change_timing(),
                }
                if !Arc::ptr_eq(&former, &self.settings.config) {
                    self.shared.instance.set_config(self.settings.config.clone());
                }
                self.note_losses(snapshot, former_ttl);
                self.reading.took(snapshot.clone(), self.shared.clock.wall());
            }
            Err(_) => self.reading.failed(),
        }
        read
    }

    /// The ttl of a store that was restored may be shorter than that which a living leader goes by.
    fn note_losses(&mut self, snapshot: &Snapshot, former_ttl: Duration) {
        let known = self.reading.last().map_or(0, |last| last.losses);
        if snapshot.losses > known {
            let ttl = former_ttl.max(self.settings.timing.ttl);
            let event = Event::StoreForgot { at: self.shared.now(), ttl, lock: snapshot.view.lock_revision };
            self.memory.note(&event);
        }
    }

    /// The store moves the lock to a lease of the new ttl, at the earliest now; a shorter one ends earlier than the one
    /// that was renewed last.
    fn change_timing(&mut self) {
        let (at, timing) = (self.shared.now(), self.settings.timing);
        self.memory.note(&Event::TtlChanged { at, ttl: timing.ttl });
        self.shorten_guard();
        self.shared.dcs.set_timing(timing);
    }

    /// `None`: no answer.
    async fn probe_server(&self, limit: Duration) -> Option<Probe> {
        // Its own bound is the probe's; ours holds if that one does not.
        timeout(limit * 5 / 4, self.shared.instance.probe(limit)).await.ok()
    }

    pub(super) fn take_probe(&mut self, probe: Option<Probe>) {
        let job = self.jobs.running().map(|running| &running.job);
        self.server.take_probe(probe, job, self.shared.now());
    }

    /// How a requested restart ended, once the server has been looked at after it.
    fn answer_restart(&mut self) {
        if self.jobs.running().is_some() {
            return;
        }
        let Some(restart) = self.jobs.take_restart() else { return };
        let starts = |finished: &&FinishedJob| matches!(finished.job, Job::Start(_) | Job::Restart(_));
        let result = match self.memory.finished.as_ref().filter(starts).map(|finished| &finished.result) {
            Some(JobResult::Done(_)) => RestartResult::Restarted,
            Some(JobResult::Failed(_)) if matches!(self.server.probe().postgres, Postgres::Starting { .. }) => {
                RestartResult::StillStarting
            }
            Some(JobResult::Failed(_) | JobResult::Refused(_) | JobResult::Cancelled) | None => RestartResult::Failed,
        };
        restart.answer(result);
    }

    /// What is kept in files and in the server's configuration follows what is in force, beside the loop.
    fn keep_files(&mut self) {
        if self.is_foreign() {
            return;
        }
        let generation = self.settings.generation;
        if self.settings.configured != generation && !self.background.is_running(BackgroundTask::Configure) {
            let desired = self.settings.desired();
            let force = std::mem::replace(&mut self.settings.force, Force::No);
            let shared = self.shared.clone();
            // Taken here, not in the task: a start that this cycle decides on must not come before it.
            let configuring = shared.configuring.clone().try_lock_owned().ok();
            let work = async move {
                let _configuring = match configuring {
                    Some(configuring) => configuring,
                    None => shared.configuring.clone().lock_owned().await,
                };
                let configured = shared.instance.configure(&desired, force).await;
                Report::of(configured, |()| Report::Configured(generation))
            };
            // What waits for a restart now is shown at once; a failure begins no cycle, since each begins the next try.
            let at_end = match self.background.has_failed(BackgroundTask::Configure) {
                true => AtEnd::Wait,
                false => AtEnd::Wake,
            };
            self.background.begin(BackgroundTask::Configure, at_end, work);
        }
        self.keep_cluster();
        if self.settings.mode() == Mode::Single || !self.has_the_clusters_data() {
            return;
        }
        let known = self.reading.last().is_some_and(|snapshot| snapshot.documents.config.is_some());
        if known && self.settings.saved != generation {
            let document = self.settings.document.clone();
            let shared = self.shared.clone();
            let work = async move {
                let saved = shared.instance.save_dynamic(&document).await;
                Report::of(saved, |()| Report::DynamicSaved(generation))
            };
            self.background.begin(BackgroundTask::SaveDynamic, AtEnd::Wait, work);
        }
        if let Some(lease) = self.lease_to_keep() {
            self.kept.keep_lease(lease, &mut self.background);
        }
    }

    /// A wait after a loss of the store's data does not end with this process (ADR 10).
    fn lease_to_keep(&self) -> Option<LeaseToken> {
        match self.memory.amnesia {
            Some(_) => self.shared.dcs.lease_after_loss(),
            None => self.shared.dcs.lease(),
        }
    }

    /// Data of another cluster are not touched. Until the store was read only what is kept beside the data tells whose they
    /// are.
    fn is_foreign(&self) -> bool {
        let Some(snapshot) = self.reading.last() else {
            let (cluster, own) = (self.memory.cluster, self.server.probe().data.system_id());
            return self.settings.mode() == Mode::Cluster && (own.is_none() || cluster != own);
        };
        match (&snapshot.view.initialize, self.server.probe().data.system_id()) {
            (Initialize::Done(cluster), Some(own)) => *cluster != own,
            (Initialize::Done(_), None) => false,
            (Initialize::Absent | Initialize::InProgress(_) | Initialize::Invalid(_), _) => false,
        }
    }

    /// Whether the data directory is in place and the cluster's own: nothing is put beside another cluster's data.
    fn has_the_clusters_data(&self) -> bool {
        let own = match &self.server.probe().data {
            DataDir::Present(data) => data.system_id,
            DataDir::Empty | DataDir::Unusable(_) => return false,
        };
        let is_ours = self.reading.last().is_some_and(|snapshot| match &snapshot.view.initialize {
            Initialize::Done(cluster) => *cluster == own,
            Initialize::Absent => true,
            Initialize::InProgress(_) | Initialize::Invalid(_) => false,
        });
        is_ours && self.jobs.running().is_none()
    }

    /// What is known of the cluster, whether or not there are data.
    fn keep_cluster(&mut self) {
        let is_fit = self.jobs.running().is_none() && !matches!(self.server.probe().data, DataDir::Unusable(_));
        if let Some(id) = self.memory.cluster.filter(|_| is_fit) {
            let known = Known {
                id,
                abandoned: self.memory.abandoned,
                outlived: self.memory.outlived.clone(),
                failsafe_key: self.memory.failsafe_key.clone(),
            };
            self.kept.keep_cluster(known, &mut self.background);
        }
    }
}

fn replaces_data(job: &Job) -> bool {
    match job {
        Job::Bootstrap | Job::Clone { .. } | Job::Reinitialize { .. } | Job::Rewind { .. } => true,
        Job::Recover | Job::Start(_) | Job::Stop { .. } | Job::Restart(_) | Job::Promote | Job::Follow(_) => false,
    }
}

fn outage(error: &DcsError) -> DcsOutage {
    DcsOutage { error: error.to_string() }
}
