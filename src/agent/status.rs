//! What the loop shows to the outside after each cycle. The API answers from the last one; it never waits for a cycle.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::settings::Settings;
use crate::core::local::{About, Postgres, Replay, Running, Watchdog};
use crate::core::policy::{Pause, Switch, Timing};
use crate::core::reason::Reason;
use crate::core::units::{Branch, Instant, Lsn, MemberName, SystemId, Timeline};
use crate::core::view::{ClusterView, MemberRole, MemberState, ReplicationState, Tags};
use crate::dcs::{Document, Snapshot};
use crate::postgres::Probe;

/// One cycle's picture, immutable. Published through a `tokio::sync::watch` channel.
#[derive(Clone, Debug)]
pub struct Status {
    pub name: MemberName,
    pub scope: String,
    pub state: MemberState,
    /// In-memory role.
    pub role: MemberRole,
    /// Until when the lock is ours: "is leader" is `now < leader_until`, so that an answer given between two cycles is
    /// right too. `None`: not the leader.
    pub leader_until: Option<Instant>,
    pub postgres: PostgresStatus,
    /// Where our newest timeline began, as far as it was read.
    pub branch: Option<Branch>,
    /// The timeline of ours that the cluster has abandoned, if any.
    pub abandoned: Option<Timeline>,
    /// Until when a restart of ours excuses a server that takes no connections. `None`: none is under way.
    pub restart_until: Option<Instant>,
    /// The view of this cycle; `None` while the DCS does not answer.
    pub cluster: Option<Arc<ClusterStatusDocuments>>,
    pub pause: Pause,
    /// Epoch seconds of the last successful reading of the DCS; 0 before the first.
    pub dcs_last_seen: i64,
    pub system_id: Option<SystemId>,
    /// What keeps this member from leading, if its watchdog does.
    pub watchdog: Watchdog,
    pub tags: Tags,
    pub published_tags: Map<String, Value>,
    pub pending_restart: Map<String, Value>,
    /// As in the member record: request fields, `schedule`, `postmaster_start_time`.
    pub scheduled_restart: Option<Map<String, Value>>,
    pub timing: Timing,
    /// When the next cycle begins at the latest; for `/liveness`.
    pub next_cycle: Instant,
    pub reason: Reason,
    /// The job that runs, as Patroni names it; for "… already in progress".
    pub job: Option<String>,
    pub maximum_lag_on_failover: u64,
    /// `failsafe_mode`.
    pub failsafe: Switch,
    /// Until when the lock counts as ours by the word of the other members; `None`: not by that.
    pub failsafe_until: Option<Instant>,
}

/// PostgreSQL as last observed.
#[derive(Clone, Debug, Default)]
pub struct PostgresStatus {
    pub in_recovery: Option<bool>,
    pub postmaster_start_time: Option<String>,
    pub server_version: Option<u32>,
    pub timeline: Option<Timeline>,
    /// A primary's flush position.
    pub location: Option<Lsn>,
    pub received: Option<Lsn>,
    pub replayed: Option<Lsn>,
    pub replayed_timestamp: Option<String>,
    pub replay_paused: bool,
    /// The end of the leader's WAL as the WAL receiver last heard; for lag checks.
    pub latest_end: Option<Lsn>,
    pub replication_state: Option<ReplicationState>,
    pub replication: Vec<Value>,
}

/// The cluster as read, with the documents that are passed on verbatim.
#[derive(Clone, Debug)]
pub struct ClusterStatusDocuments {
    pub view: ClusterView,
    pub config: Option<Value>,
    pub history: Option<Value>,
    pub failsafe: Option<Value>,
    pub switchover: Option<Value>,
    /// Member records verbatim.
    pub members: BTreeMap<MemberName, Value>,
}

impl Status {
    /// What the API answers from until there is a cycle.
    pub(super) fn before_first_cycle(settings: &Settings, now: Instant) -> Self {
        let config = &settings.config;
        Status {
            name: config.name.clone(),
            scope: config.scope.clone(),
            state: MemberState::Unknown,
            role: MemberRole::Uninitialized,
            leader_until: None,
            postgres: PostgresStatus::default(),
            branch: None,
            abandoned: None,
            restart_until: None,
            cluster: None,
            pause: settings.dynamic.pause,
            dcs_last_seen: 0,
            system_id: None,
            watchdog: Watchdog::NotRequired,
            tags: config.tags.clone(),
            published_tags: config.published_tags.clone(),
            pending_restart: Map::new(),
            scheduled_restart: None,
            timing: settings.timing,
            next_cycle: now + settings.timing.ttl,
            reason: Reason::NotStarted,
            job: None,
            maximum_lag_on_failover: settings.dynamic.maximum_lag_on_failover,
            failsafe: settings.dynamic.failsafe,
            failsafe_until: None,
        }
    }
}

impl Status {
    /// What a request to restart asks of the server.
    pub(super) fn about(&self) -> About {
        About {
            role: self.role,
            version: self.postgres.server_version,
            is_restart_pending: !self.pending_restart.is_empty(),
            started: self.postgres.postmaster_start_time.clone(),
        }
    }
}

impl PostgresStatus {
    /// PostgreSQL as a probe found it.
    pub(super) fn of(probe: &Probe) -> Self {
        let facts = &probe.facts;
        let mut status = PostgresStatus {
            postmaster_start_time: facts.postmaster_start_time.clone(),
            server_version: facts.server_version,
            replayed_timestamp: facts.replayed_timestamp.clone(),
            latest_end: facts.latest_end,
            replication: facts.replication.clone(),
            ..PostgresStatus::default()
        };
        match &probe.postgres {
            Postgres::Running(Running::Primary(primary)) => {
                status.in_recovery = Some(false);
                status.timeline = Some(primary.timeline);
                status.location = Some(primary.flushed);
            }
            Postgres::Running(Running::Standby(standby)) => {
                status.in_recovery = Some(true);
                status.timeline = standby.timeline;
                status.received = facts.received.or(Some(standby.received)).filter(|position| position.0 > 0);
                status.replayed = facts.replayed.or(Some(standby.replayed)).filter(|position| position.0 > 0);
                status.replay_paused = standby.replay == Replay::Paused;
                status.replication_state = standby.replication;
            }
            Postgres::Stopped | Postgres::Starting { .. } | Postgres::Unresponsive { .. } | Postgres::Stopping => {}
        }
        status
    }
}

impl ClusterStatusDocuments {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let value = |document: &Option<Document>| document.as_ref().map(|document| document.value.clone());
        let documents = &snapshot.documents;
        ClusterStatusDocuments {
            view: snapshot.view.clone(),
            config: value(&documents.config),
            history: value(&documents.history),
            failsafe: value(&documents.failsafe),
            switchover: value(&documents.switchover),
            members: documents.members.clone(),
        }
    }
}
