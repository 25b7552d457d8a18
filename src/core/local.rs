//! What our own node is: its data directory, its PostgreSQL, and the one long job that may be running.

use super::standby_names::StandbyNames;
use super::units::{Branch, Instant, Lsn, SystemId, Timeline};
use super::view::{MemberRole, ReplicationState};

pub use super::upstream::{CloneFrom, CloneSource, HistoryOf, Remote, Source, Upstream};

/// Everything observed on this node in one cycle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalState {
    pub data: DataDir,
    pub postgres: Postgres,
    /// The long job that runs now; while there is one, `postgres` may be mid-way.
    pub job: Option<RunningJob>,
    /// Until when PID 1 lets PostgreSQL run as a primary.
    pub guard: Guard,
    pub watchdog: Watchdog,
    /// The newest timeline of our data whose history was read. It may be older than what `postgres` shows.
    pub branch: Option<Branch>,
    pub about: About,
    pub sync: SyncFacts,
}

/// Synchronous replication as the server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SyncFacts {
    /// `synchronous_standby_names` in force; of a server that does not run, as its next start will have it.
    pub names: StandbyNames,
    pub whose: NamesOf,
    /// The standbys that stream from here. Known of a primary while the synchronous mode is on or there are names.
    pub senders: Vec<Sender>,
}

/// Who has set `synchronous_standby_names`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NamesOf {
    /// The user's own configuration, or nobody.
    #[default]
    User,
    Us,
}

/// A standby that streams from this server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sender {
    /// `application_name`: a member's name, if it is one of ours.
    pub standby: String,
    /// What `synchronous_commit` waits for: written, flushed or replayed.
    pub position: Lsn,
    pub duty: Duty,
}

/// `sync_state`, in the order in which those that have the duty are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Duty {
    Async,
    Potential,
    Quorum,
    Sync,
}

/// What a request to restart asks of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct About {
    pub role: MemberRole,
    /// 150020 for 15.20.
    pub version: Option<u32>,
    /// Some setting waits for it.
    pub is_restart_pending: bool,
    /// When it was started, as PostgreSQL tells it.
    pub started: Option<String>,
}

/// The data directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DataDir {
    /// Absent, or nothing but hidden files and `lost+found`.
    Empty,
    /// Neither empty nor usable: not readable, no valid control file, left half-made. The text says what and what to do.
    Unusable(String),
    Present(Data),
}

impl DataDir {
    pub fn system_id(&self) -> Option<SystemId> {
        match self {
            DataDir::Present(data) => Some(data.system_id),
            DataDir::Empty | DataDir::Unusable(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Data {
    pub system_id: SystemId,
    pub signal: RecoverySignal,
    /// Read only while no postmaster runs; it would be out of date otherwise.
    pub control: Option<Control>,
}

/// What the files of the data directory say about its next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecoverySignal {
    /// Nothing: a primary's data.
    None,
    /// `standby.signal` or `recovery.signal` is there.
    Present,
    /// `backup_label` is there: a base backup, whose control file may show the state of the primary that it was taken
    /// from. Only a standby may be started from it: crash recovery would end anywhere in the middle of its WAL.
    BackupLabel,
    /// pg_rewind was cut short: neither the old data nor the leader's. Nothing may be started from it.
    RewindUnfinished,
}

/// What pg_controldata says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Control {
    pub state: ClusterState,
    /// The newest that it has been on: its latest checkpoint's, or the one that its recovery ended on since.
    pub timeline: Timeline,
    /// `Latest checkpoint location`.
    pub checkpoint: Lsn,
    /// `Minimum recovery ending location`; `None` when it is 0/0.
    pub recovery_end: Option<Lsn>,
    /// `None`: it could not be told.
    pub wal_end: Option<WalEnd>,
}

/// Where the WAL that is there ends, by its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WalEnd {
    /// The end of the last page that was written. The last record ends somewhere in it.
    pub page: Lsn,
    /// The end of its segment: a switch to the next one leaves the rest unwritten.
    pub segment: Lsn,
}

impl WalEnd {
    pub fn reaches(&self, position: Lsn) -> bool {
        position <= self.page || position == self.segment
    }
}

/// `Database cluster state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClusterState {
    StartingUp,
    ShutDown,
    ShutDownInRecovery,
    ShuttingDown,
    InCrashRecovery,
    InArchiveRecovery,
    InProduction,
}

/// The server process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Postgres {
    /// No postmaster and no backend left over.
    Stopped,
    /// A postmaster that does not accept connections yet.
    Starting {
        since: Instant,
        role: LastRole,
    },
    Running(Running),
    /// The postmaster lives but the query failed or took too long.
    Unresponsive {
        since: Instant,
        role: LastRole,
    },
    /// A shutdown is under way that no job of ours is waiting for.
    Stopping,
}

/// The role that a server without an answer was last seen or started in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LastRole {
    Primary,
    Standby,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Running {
    Primary(PrimaryFacts),
    Standby(StandbyFacts),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrimaryFacts {
    pub timeline: Timeline,
    /// The flush position.
    pub flushed: Lsn,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StandbyFacts {
    /// The timeline being received, else the one being replayed.
    pub timeline: Option<Timeline>,
    /// The larger one of received and written. What was replayed from an archive or from local WAL is not in it.
    pub received: Lsn,
    pub replayed: Lsn,
    /// Where the standby is configured to stream from.
    pub upstream: Upstream,
    pub replication: Option<ReplicationState>,
    pub replay: Replay,
}

impl StandbyFacts {
    /// The position that elections compare: the larger one of received and replayed.
    pub fn position(&self) -> Lsn {
        self.received.max(self.replayed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replay {
    Going,
    Paused,
}

/// PID 1's fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guard {
    /// PID 1 lets PostgreSQL run for ever: a standby, a single server, a paused cluster.
    NoDeadline,
    /// PID 1 kills PostgreSQL at this instant.
    Until(Instant),
}

/// The watchdog device, as far as a member must not lead without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Watchdog {
    /// The member leads with one or without.
    #[default]
    NotRequired,
    /// PID 1 has not said yet whether it could be armed.
    Unknown,
    /// Not armed; nothing is known that would keep it from being.
    Usable,
    Active,
    /// It cannot be armed.
    Failed,
}

/// The long work in the one job slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunningJob {
    pub job: Job,
    pub since: Instant,
}

/// Long work. Its `Display` is Patroni's action text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// initdb (or a custom method), first start, roles.
    Bootstrap,
    /// Stage a clone and put it in place; the old data go when the source has answered.
    Clone {
        from: CloneSource,
    },
    /// The same on request or because of divergence: stops PostgreSQL first.
    Reinitialize {
        from: CloneSource,
        why: Reinit,
    },
    Rewind {
        from: HistoryOf,
    },
    /// Crash recovery in single-user mode, so that pg_rewind and a standby start find a consistent directory.
    Recover,
    Start(StartAs),
    Stop {
        mode: StopMode,
        why: StopWhy,
    },
    Restart(StartAs),
    Promote,
    /// New replication settings; reloads, or restarts where the version needs it.
    Follow(Upstream),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reinit {
    Requested,
    Diverged,
    /// The leader no longer has the WAL that follows ours.
    WalGone,
    /// Crash recovery fails again and again.
    Unrecovered,
}

/// The role a server is started in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StartAs {
    /// Without standby.signal, on the timeline it has. Only with the lock held at this moment, or in single mode.
    Primary,
    Standby(Upstream),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopMode {
    /// A checkpoint while clients still work, then `fast`: short, and all standbys receive everything.
    CheckpointThenFast,
    Fast,
    /// No checkpoint, no waiting: what is left is killed.
    Immediate,
}

/// What a stop is for; decides what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopWhy {
    /// The agent ends.
    Shutdown,
    /// A planned switchover or a manual failover from a living leader.
    Handover,
    /// The lock is lost or cannot be renewed in time.
    LostLock,
    /// The data directory does not belong to this cluster, or may not run here.
    Refused,
    /// Before pg_rewind or a start in another role.
    Rejoin,
    /// The cluster has become a standby cluster: the lock is kept.
    StandbyCluster,
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Job::Bootstrap => f.write_str("bootstrap"),
            Job::Clone { from } => write!(f, "bootstrap from {from}"),
            Job::Reinitialize { why: Reinit::Requested, .. } => f.write_str("reinitialize"),
            Job::Reinitialize { why: Reinit::Diverged, .. } => f.write_str("reinitializing due to diverged timelines"),
            Job::Reinitialize { why: Reinit::WalGone, .. } => f.write_str("reinitializing because WAL is gone"),
            Job::Reinitialize { why: Reinit::Unrecovered, .. } => {
                f.write_str("reinitializing because crash recovery fails")
            }
            Job::Rewind { from } => write!(f, "running pg_rewind from {from}"),
            Job::Recover => f.write_str("doing crash recovery in a single user mode"),
            Job::Start(StartAs::Primary) => f.write_str("starting as a primary"),
            Job::Start(StartAs::Standby(_)) => f.write_str("starting as a standby"),
            Job::Stop { why: StopWhy::Shutdown, .. } => f.write_str("shutdown"),
            Job::Stop { why: StopWhy::Handover, .. } => f.write_str("switchover: demote"),
            Job::Stop { why: StopWhy::LostLock, .. } => f.write_str("demoting"),
            Job::Stop { why: StopWhy::StandbyCluster, .. } => f.write_str("demoting to a standby cluster"),
            Job::Stop { why: StopWhy::Refused | StopWhy::Rejoin, .. } => f.write_str("stopping"),
            Job::Restart(_) => f.write_str("restart"),
            Job::Promote => f.write_str("promote"),
            Job::Follow(_) => f.write_str("changing primary_conninfo"),
        }
    }
}
