//! What the loop shows: our record in the store, and the status that the API answers from.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::cycle::Agent;
use super::pace;
use super::publisher::Due;
use super::reading::Outage;
use super::status::{PostgresStatus, Status};
use crate::config::{Config, HostPort, PostgresConfig, RestConfig};
use crate::core::decision::Wake;
use crate::core::local::{Job, Postgres, Running};
use crate::core::observation::{Handover, HandoverStage, LeaseOutcome, Observation};
use crate::core::reason::Reason;
use crate::core::units::{Instant, MemberName};
use crate::core::view::{Address, AfterPromote, MemberState};
use crate::dcs::codec::{self, MemberRecord, member_record};
use crate::dcs::{Dcs, DcsError};
use crate::postgres::Instance;

/// How long a restart of ours may take before its server counts as down: load balancers that keep the leader over a
/// usual restart let clients wait, instead of refusing them.
const RESTART_GRACE: Duration = Duration::from_secs(10);

impl<D: Dcs, I: Instance> Agent<D, I> {
    /// Our member record, after whatever this cycle has begun. The store is not written when nothing has changed.
    pub(super) async fn publish(&mut self, lease: &LeaseOutcome, seen: &Observation) {
        let record = self.record_due(lease, seen);
        if self.reading.outage() == Outage::Yes {
            return;
        }
        let limit = self.short_patience();
        let answer = self.shared.bounded(limit, self.shared.dcs.publish(&record, limit)).await;
        match answer {
            Some(Ok(())) => return self.publisher.record_stands(record, self.shared.now(), leader_of(seen)),
            Some(Err(error)) => tell(&error, format_args!("cannot publish our member record")),
            None => tracing::warn!("cannot publish our member record: no answer in time"),
        }
        self.publisher.record_unknown();
    }

    /// Our record as it is to stand in the store now.
    pub(super) fn record_due(&mut self, lease: &LeaseOutcome, seen: &Observation) -> Value {
        let job = self.jobs.running().map(|running| running.job.clone());
        self.publisher.refresh(&seen.local.data, &seen.local.postgres, job.as_ref(), self.settings.dynamic.pause);
        let record = member_record(&self.record(lease, job.as_ref()));
        let optime = seen.cluster.as_ref().ok().and_then(|view| view.status.optime);
        let due = Due { now: self.shared.now(), leader: leader_of(seen), step: self.step() };
        self.publisher.record_due(record, optime, due)
    }

    /// By how much a position may differ from the published one for a while.
    pub(super) fn step(&self) -> u64 {
        pace::step(self.settings.floor, self.settings.dynamic.maximum_lag_on_failover)
    }

    fn record(&self, lease: &LeaseOutcome, job: Option<&Job>) -> MemberRecord {
        let config = &self.settings.config;
        let (state, role) = (self.publisher.state(), self.publisher.role());
        let pod = self.shared.dcs.own_address();
        let mut record =
            MemberRecord::new(own_address(config, pod.as_deref()), api_url(config, pod.as_deref()), state, role);
        let leads = match lease {
            LeaseOutcome::Held { .. } | LeaseOutcome::Vouched { .. } => true,
            LeaseOutcome::Lost | LeaseOutcome::Released | LeaseOutcome::ReleaseUnknown => false,
            LeaseOutcome::None | LeaseOutcome::Unknown => self.leader_until().is_some(),
        };
        if leads {
            record.checkpoint = self.checkpoint_owed();
        }
        record.proxy = config.postgres.proxy_address.as_ref().map(|proxy| address(proxy, &config.postgres.database));
        record.tags = config.published_tags.clone();
        if self.memory.release_asked.is_some() {
            record.tags.extend([("nosync".to_owned(), true.into()), ("sync_priority".to_owned(), 0.into())]);
        }
        record.pending_restart = self.server.probe().facts.pending_restart.clone();
        record.scheduled_restart = self.scheduled_restart();
        record.pause = self.settings.dynamic.pause;
        let idle = job.is_none_or(|job| *job == Job::Promote);
        if idle && matches!(state, MemberState::Running | MemberState::Restarting | MemberState::Starting) {
            let status = PostgresStatus::of(self.server.probe());
            record.position = status.location.or(status.received.max(status.replayed));
            record.received = status.received;
            record.replayed = status.replayed;
            record.replication = status.replication_state;
            record.timeline = status.timeline;
        }
        record
    }

    /// A node that is being promoted owes its checkpoint already.
    fn checkpoint_owed(&self) -> AfterPromote {
        match &self.server.probe().postgres {
            Postgres::Running(Running::Primary(_)) => self.memory.checkpoint,
            Postgres::Running(Running::Standby(_))
            | Postgres::Stopped
            | Postgres::Starting { .. }
            | Postgres::Unresponsive { .. }
            | Postgres::Stopping => AfterPromote::Pending,
        }
    }

    fn leader_until(&self) -> Option<Instant> {
        self.memory.lease_valid_until.filter(|until| *until > self.shared.now())
    }

    /// A leader that stops keeps the lock to the end, but load balancers should go elsewhere from the stop's beginning on.
    pub(super) fn is_stepping_down(&self) -> bool {
        let stops = self.jobs.running().is_some_and(|running| matches!(running.job, Job::Stop { .. }));
        let has_stopped = |handover: &Handover| handover.stage != HandoverStage::Stopping;
        (stops && self.shared.is_stepping_down()) || self.memory.handover.as_ref().is_some_and(has_stopped)
    }

    /// As in the record: the request's fields, when, and for which server.
    fn scheduled_restart(&self) -> Option<Map<String, Value>> {
        let inbox = self.shared.inbox();
        let scheduled = inbox.scheduled.as_ref()?;
        let mut document = scheduled.body.document.clone();
        if let Some(time) = &scheduled.postmaster_start_time {
            document.insert("postmaster_start_time".to_owned(), time.as_str().into());
        }
        Some(document)
    }

    /// The cycle's picture for the API.
    pub(super) fn show(&mut self, reason: &Reason, wake: Wake) {
        let cluster = self.reading.current().map(|reading| self.publisher.cluster_documents(reading));
        let config = &self.settings.config;
        let now = self.shared.now();
        let status = Status {
            name: config.name.clone(),
            scope: config.scope.clone(),
            state: self.publisher.state(),
            role: self.publisher.role(),
            leader_until: self.leader_until().filter(|_| !self.is_stepping_down()),
            postgres: PostgresStatus::of(self.server.probe()),
            branch: self.branch.get(),
            abandoned: self.memory.abandoned.map(|abandoned| abandoned.timeline),
            restart_until: self.restart_until(),
            cluster,
            pause: self.settings.dynamic.pause,
            dcs_last_seen: self.reading.last_seen().0 / 1_000,
            system_id: self.server.probe().data.system_id(),
            watchdog: self.watchdog.seen(),
            tags: config.tags.clone(),
            published_tags: config.published_tags.clone(),
            pending_restart: self.server.probe().facts.pending_restart.clone(),
            scheduled_restart: self.scheduled_restart(),
            timing: self.settings.timing,
            next_cycle: match wake {
                Wake::Now => now,
                Wake::At(at) => at,
            },
            reason: reason.clone(),
            job: self.jobs.running().map(|running| running.job.to_string()),
            maximum_lag_on_failover: self.settings.dynamic.maximum_lag_on_failover,
            failsafe: self.settings.dynamic.failsafe,
            failsafe_until: self.leader_until().filter(|_| *reason == Reason::FailsafeLeading),
        };
        self.shared.status.send_replace(Arc::new(status));
    }

    /// Where other members and tools find this one's API.
    pub(super) fn own_api_url(&self) -> String {
        api_url(&self.settings.config, self.shared.dcs.own_address().as_deref())
    }

    pub(super) fn own_connection_url(&self) -> String {
        codec::connection_url(&own_address(&self.settings.config, self.shared.dcs.own_address().as_deref()))
    }

    fn restart_until(&self) -> Option<Instant> {
        let running = self.jobs.running().filter(|running| matches!(running.job, Job::Restart(_)))?;
        Some(running.since + RESTART_GRACE)
    }
}

/// A store that is full tells so itself, once; every write would repeat it.
pub(super) fn tell(error: &DcsError, what: std::fmt::Arguments<'_>) {
    match error {
        DcsError::Full { .. } => tracing::debug!("{what}: {error}"),
        DcsError::Unreachable { .. }
        | DcsError::Conflict { .. }
        | DcsError::Forgot { .. }
        | DcsError::Unasked { .. }
        | DcsError::Denied { .. }
        | DcsError::Failed { .. } => tracing::warn!("{what}: {error}"),
    }
}

pub(super) fn leader_of(seen: &Observation) -> Option<&MemberName> {
    seen.cluster.as_ref().ok()?.leader.as_ref().map(|leader| &leader.name)
}

/// By the pod's address, where nobody has said another one: nobody else can look up a pod's host name.
fn own_address(config: &Config, pod: Option<&str>) -> Address {
    let PostgresConfig { connect_address, connect_by_host_name, database, .. } = &config.postgres;
    address(&at_pod(connect_address, pod.filter(|_| *connect_by_host_name)), database)
}

fn address(place: &HostPort, database: &str) -> Address {
    Address { host: place.host.clone(), port: place.port, database: database.to_owned() }
}

/// Where our API answers, as other members and tools call it.
fn api_url(config: &Config, pod: Option<&str>) -> String {
    let scheme = if config.rest.tls.is_some() { "https" } else { "http" };
    let RestConfig { connect_address, connect_by_host_name, .. } = &config.rest;
    format!("{scheme}://{}/patroni", at_pod(connect_address, pod.filter(|_| *connect_by_host_name)))
}

fn at_pod(address: &HostPort, pod: Option<&str>) -> HostPort {
    HostPort { host: pod.unwrap_or(&address.host).to_owned(), port: address.port }
}
