//! PostgreSQL: the only door to the server, its data directory and its programs.
//!
//! `Instance` is what the agent sees. Below it: pure text and parsers (`conf`, `controldata`, `history`) and the
//! effects (`postmaster`, `probe`, `initdb`, `clone`, `rewind`, `slots`). Nothing here decides what is to be done.

mod apply;
mod archive;
mod bootstrap;
mod callbacks;
mod clone;
pub mod conf;
mod connect;
mod contents;
mod control;
mod control_cache;
pub mod controldata;
mod discarded;
mod divergence;
mod elsewhere;
mod file_system;
pub(crate) mod files;
mod held_wal;
pub mod history;
mod hooks;
mod host_addresses;
mod instance;
mod kernel;
mod layout;
mod layout_conflicts;
mod local;
mod nss_wrapper;
mod own_passfile;
mod passfile;
pub mod pidfile;
mod postmaster;
mod probe;
mod process;
mod programs;
mod progress;
mod quiet_socket;
mod rewind;
mod rewind_mark;
mod segments;
mod senders;
mod server;
mod slot_memory;
mod slots;
mod sockets;
mod staging;
mod stop;
mod synchronous;
mod tablespaces;
mod tls;
pub mod version;
pub mod volume;
mod wal_end;
mod wal_folder;

pub use hooks::Waits;
pub use instance::kept_dynamic;
pub use local::LocalPostgres;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::{Config, ServerSettings, StandbyRecovery};
use crate::core::local::{CloneSource, DataDir, Postgres, StartAs, StopMode, SyncFacts, Upstream};
use crate::core::observation::Divergence;
use crate::core::policy::Switch;
use crate::core::slots::{Brought, SlotsWanted};
use crate::core::standby_names::StandbyNames;
use crate::core::units::{Lsn, SystemId, Timeline};
use crate::core::view::{Address, HistoryEntry};

/// Everything about the server that one cycle wants to know.
#[derive(Clone, Debug)]
pub struct Probe {
    pub data: DataDir,
    pub postgres: Postgres,
    pub facts: ServerFacts,
}

/// What is published or shown but not decided by. Empty where it is not known.
#[derive(Clone, Debug, Default)]
pub struct ServerFacts {
    /// 150020 for 15.20.
    pub server_version: Option<u32>,
    /// As PostgreSQL prints it in the API's format: `2026-11-22 09:14:12.217476+00:00`.
    pub postmaster_start_time: Option<String>,
    pub postmaster_pid: Option<i32>,
    pub received: Option<Lsn>,
    pub replayed: Option<Lsn>,
    pub latest_end: Option<Lsn>,
    pub replayed_timestamp: Option<String>,
    /// `pg_stat_replication`, as the API shows it; filled by `positions` only.
    pub replication: Vec<Value>,
    /// Slot name to restart_lsn (physical) or confirmed_flush_lsn (logical).
    pub slots: std::collections::BTreeMap<String, Lsn>,
    pub sync: SyncFacts,
    /// Parameter to `{"old_value":…,"new_value":…}`.
    pub pending_restart: Map<String, Value>,
}

/// The cluster's settings and our own, merged: what the server is to run with.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredServer {
    pub server: ServerSettings,
    pub use_slots: Switch,
    /// Whether `synchronous_standby_names` is ours to set.
    pub synchronous: bool,
    /// The recovery settings of a standby cluster, where it is one.
    pub standby_cluster: Option<StandbyRecovery>,
    /// Whether there are logical slots, here or on the primary, whose rows a standby has to report (`hot_standby_feedback`).
    pub logical_slots: bool,
}

/// Before anything is known of the cluster's.
impl Default for DesiredServer {
    fn default() -> Self {
        let server = ServerSettings::default();
        DesiredServer { server, use_slots: Switch::On, synchronous: false, standby_cluster: None, logical_slots: false }
    }
}

/// What a job of the server's reports while it runs, for the log and the member's record.
pub type Progress = std::sync::Arc<dyn Fn(String) + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// What was attempted on which object, with the cause.
    #[error("{attempted}: {cause}")]
    Failed { attempted: String, cause: String },
    /// A program of PostgreSQL's failed; its last lines of output, passwords never among them.
    #[error("{program} failed with {status}: {output}")]
    Program { program: String, status: String, output: String },
    #[error("{attempted} took longer than {limit:?}")]
    TooLong { attempted: String, limit: Duration },
    /// The data directory is not what the operation needs; says what to do.
    #[error("{0}")]
    Refused(String),
}

/// One server. Methods that take long are run in the agent's job slot; dropping their future ends what they started
/// (child processes are killed, staged files removed or left for the next try), never a running postmaster.
pub trait Instance: Send + Sync + 'static {
    /// Cheap and bounded by `deadline`: the data directory's state, the postmaster, at most one SQL query. Never fails.
    fn probe(&self, deadline: Duration) -> impl Future<Output = Probe> + Send;

    /// A fresh reading of positions and walsenders for one REST request, on a connection of its own.
    fn positions(&self, deadline: Duration) -> impl Future<Output = Option<Probe>> + Send;

    /// Returns when the running postmaster has exited (at once when none runs).
    fn wait_exit(&self) -> impl Future<Output = ()> + Send;

    /// The node's own configuration, read again; `configure` brings it into force. The data directory stays.
    fn set_config(&self, config: Arc<Config>);

    /// What the server is to run with from now on: rewrites the files and reloads when something differs and a server
    /// runs; otherwise kept for the next start.
    fn configure(
        &self,
        desired: &DesiredServer,
        force: Force,
    ) -> impl Future<Output = Result<(), PostgresError>> + Send;

    /// initdb, first start as a primary, roles; the new cluster's identifier. Nothing is left behind on failure.
    fn bootstrap(&self, progress: Progress) -> impl Future<Output = Result<SystemId, PostgresError>> + Send;

    /// Create the replication and rewind roles that are missing on the running primary; existing ones stay as they are.
    fn ensure_roles(&self) -> impl Future<Output = Result<(), PostgresError>> + Send;

    /// pg_basebackup into a staging place, then put in place of whatever was there; not started.
    fn clone_from(
        &self,
        source: &CloneSource,
        progress: Progress,
    ) -> impl Future<Output = Result<(), PostgresError>> + Send;

    /// pg_rewind from this leader; the server must be stopped. Not started afterwards.
    fn rewind(&self, leader: &Address, progress: Progress) -> impl Future<Output = Result<(), PostgresError>> + Send;

    /// Crash recovery in single-user mode.
    fn recover(&self) -> impl Future<Output = Result<(), PostgresError>> + Send;

    /// Start and wait until connections are accepted.
    fn start(&self, role: &StartAs, limit: Duration) -> impl Future<Output = Result<(), PostgresError>> + Send;

    /// Stop and wait until no process of the server is left; escalates after `limit`. `Some`: a primary that was shut
    /// down cleanly ended at this position.
    fn stop(&self, mode: StopMode, limit: Duration) -> impl Future<Output = Result<Option<Lsn>, PostgresError>> + Send;

    /// The same for a lock that is about to end: nothing is asked of the server first, and nobody is waited for.
    fn demote(&self, mode: StopMode, limit: Duration) -> impl Future<Output = Result<(), PostgresError>> + Send
    where
        Self: Sync,
    {
        async move { self.stop(mode, limit).await.map(drop) }
    }

    /// Stop (checkpoint, then fast) and start in this role, as one event for the callbacks.
    fn restart(
        &self,
        role: &StartAs,
        stop_limit: Duration,
        start_limit: Duration,
    ) -> impl Future<Output = Result<(), PostgresError>> + Send {
        async move {
            self.stop(StopMode::CheckpointThenFast, stop_limit).await?;
            self.start(role, start_limit).await
        }
    }

    /// The user's word on a promotion, before it: `Err` is no.
    fn pre_promote(&self, _limit: Duration) -> impl Future<Output = Result<(), PostgresError>> + Send {
        async { Ok(()) }
    }

    /// The user's command before a stop that may take `limit` in all; returns when the stop is to go on.
    fn before_stop(&self, _limit: Duration, _waits: Waits) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Callbacks are told from now on that a primary was demoted, if this server was one. `RoleChange::Told`: they are
    /// told at once, of one that will not be stopped any more.
    fn demoted(&self, _change: RoleChange) {}

    /// Promote and wait until the server accepts writes.
    fn promote(&self, limit: Duration) -> impl Future<Output = Result<(), PostgresError>> + Send;

    /// Stream from there from now on, by reload or, where the version needs it, by restart.
    fn follow(&self, upstream: &Upstream) -> impl Future<Output = Result<(), PostgresError>> + Send;

    /// For a standby that does not stream: looks its upstream's name up, and reloads where the address is another one.
    fn find_upstream(&self) -> impl Future<Output = Result<(), PostgresError>> + Send {
        async { Ok(()) }
    }

    fn resume_replay(&self) -> impl Future<Output = Result<(), PostgresError>> + Send;

    /// A checkpoint; may take minutes.
    fn checkpoint(&self) -> impl Future<Output = Result<(), PostgresError>> + Send;

    /// A checkpoint within `limit`, which makes the stop that follows short; without one it only takes longer.
    fn checkpoint_before_stop(&self, limit: Duration) -> impl Future<Output = ()> + Send {
        async move {
            match tokio::time::timeout(limit, self.checkpoint()).await {
                Ok(Ok(())) => (),
                Ok(Err(error)) => tracing::warn!("cannot checkpoint before the stop: {error}"),
                Err(_) => tracing::warn!("the checkpoint before the stop took longer than {limit:?}"),
            }
        }
    }

    /// How our WAL relates to the history of the leader there. Works on a stopped and on a running standby.
    fn divergence(&self, leader: &Address, deadline: Duration) -> impl Future<Output = Divergence> + Send;

    /// The timeline history of the running or stopped server, oldest first, as `history` wants it (without leaders).
    fn history(&self, timeline: Timeline) -> impl Future<Output = Result<Vec<HistoryEntry>, PostgresError>> + Send;

    /// Brings the replication slots to this, but for what takes long.
    fn sync_slots(&self, wanted: &SlotsWanted) -> impl Future<Output = Result<Brought, PostgresError>> + Send;

    /// Creates the logical slots that a primary lacks, moves those of a standby on, and copies what it lacks from the primary;
    /// may take minutes. The names of the copies, which are put in place with the next start as a standby.
    fn tend_logical_slots(
        &self,
        _wanted: &SlotsWanted,
    ) -> impl Future<Output = Result<BTreeSet<String>, PostgresError>> + Send {
        async { Ok(BTreeSet::new()) }
    }

    /// Whom commits wait for from now on, by `synchronous_standby_names`; `None`: whom the user's configuration names. Returns
    /// when a running server goes by it.
    fn set_standby_names(&self, names: Option<&StandbyNames>)
    -> impl Future<Output = Result<(), PostgresError>> + Send;

    /// Returns when one of the standbys that the last probe has shown streams no longer.
    fn wait_standby_lost(&self) -> impl Future<Output = ()> + Send;

    /// The cluster's `config` document, kept beside the data (`patroni.dynamic.json`).
    fn save_dynamic(&self, config: &Value) -> impl Future<Output = Result<(), PostgresError>> + Send;
    fn load_dynamic(&self) -> Option<Value>;
}

/// Whether a change of the role is an event of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleChange {
    Told,
    /// A stop follows, which tells.
    WithStop,
}

/// Whether files are rewritten and the server reloaded although nothing differs (SIGHUP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    Yes,
    No,
}
