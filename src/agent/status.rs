//! What the loop shows to the outside after each cycle. The API answers from the last one; it never waits for a cycle.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::core::policy::{Pause, Timing};
use crate::core::reason::Reason;
use crate::core::units::{Instant, Lsn, MemberName, SystemId, Timeline};
use crate::core::view::{ClusterView, MemberRole, MemberState, ReplicationState, Tags};

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
    /// Until when a restart of ours excuses a server that takes no connections. `None`: none is under way.
    pub restart_until: Option<Instant>,
    /// The view of this cycle; `None` while the DCS does not answer.
    pub cluster: Option<Arc<ClusterStatusDocuments>>,
    pub pause: Pause,
    /// Epoch seconds of the last successful reading of the DCS; 0 before the first.
    pub dcs_last_seen: i64,
    pub system_id: Option<SystemId>,
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
