//! One cycle's input: everything that `decide` may know, and what is carried from one cycle to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::decision::Question;
use super::local::{HistoryOf, Job, LocalState};
use super::reason::Reason;
use super::slots::SlotsWanted;
use super::standby_names::StandbyNames;
use super::units::{Branch, GivenUp, Instant, Lsn, MemberName, Revision, SystemId, Timeline, WallTime};
use super::view::{AfterPromote, ClusterStatus, ClusterView, Tags};
use super::vouching::Failsafe;

pub use super::requests::{
    ReinitRequest, Requests, RestartConditions, RestartRequest, ScheduledRestart, ShutdownRequest,
};

/// What `decide` sees.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observation {
    /// Monotonic, suspend included: the core's only clock for intervals.
    pub now: Instant,
    /// Civil time, for schedules only.
    pub wall: WallTime,
    /// An outage is information, not an error.
    pub cluster: Result<ClusterView, DcsOutage>,
    pub local: LocalState,
    pub peers: PeerReports,
    pub divergence: Option<DivergenceReport>,
    pub requests: Requests,
    pub failsafe: Failsafe,
    /// The slots of members that are away and that we keep as their leader.
    pub retained_slots: BTreeSet<String>,
    pub memory: Memory,
}

/// The DCS did not answer, or not sensibly. The kind of error is for people; decisions use the lease's time alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DcsOutage {
    pub error: String,
}

/// What the other members said of themselves when asked (`GET api_url`), by name.
pub type PeerReports = BTreeMap<MemberName, PeerReport>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerReport {
    /// When the question was sent.
    pub asked_at: Instant,
    pub answer: PeerAnswer,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerAnswer {
    /// No answer, a broken one, or one without `xlog`.
    Unreachable,
    Status(PeerStatus),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerStatus {
    pub role: PeerRole,
    /// A primary's `location`; a standby's larger one of received and replayed.
    pub position: Lsn,
    pub timeline: Option<Timeline>,
    /// Where that timeline left its parent; Patroni's members do not say it.
    pub began: Option<Lsn>,
    /// Whether it knows that the cluster has abandoned that timeline.
    pub is_abandoned: bool,
    pub tags: Tags,
    pub watchdog: PeerWatchdog,
}

impl PeerStatus {
    pub fn branch(&self) -> Option<Branch> {
        Some(Branch { timeline: self.timeline?, began: self.began? })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerRole {
    Primary,
    Standby,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerWatchdog {
    Fine,
    Failed,
}

/// How our WAL relates to the leader's, found out on request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DivergenceReport {
    pub leader: HistoryOf,
    pub asked_at: Instant,
    pub divergence: Divergence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Divergence {
    /// Our WAL is a prefix of the leader's: following it is enough.
    None,
    /// Our WAL holds something that the leader's history does not: rewind or clone.
    Diverged,
    /// The same, but the leader no longer has the WAL that follows ours, and there is no archive to have it: clone.
    WalGone,
    /// Could not be told (the leader does not answer, is in recovery itself, still owes its checkpoint): ask again.
    Undecided,
}

/// What one cycle leaves for the next. Changed by `learn` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    /// Until when the lease is ours, counted from the start of the request that renewed it. `None`: not held.
    pub lease_valid_until: Option<Instant>,
    /// Since when the view shows no leader; `None` while there is one.
    pub unlocked_since: Option<Instant>,
    /// `status` as it was then: only leaders write it, so that another one tells of a leader that we have not seen.
    pub unlocked_status: Option<ClusterStatus>,
    /// The leader seen last.
    pub last_leader: Option<MemberName>,
    /// Whether that leader's record has been there ever since.
    pub leader_record: LeaderRecord,
    /// The word of a release that stood while somebody led: it is not that of the last leader.
    pub outlived: Option<GivenUp>,
    /// The members of the last view that had a leader: their keys may expire together with the leader's.
    pub last_members: BTreeMap<MemberName, super::view::Member>,
    /// Since when the lock is ours and PostgreSQL is not known to take writes.
    pub not_serving_since: Option<Instant>,
    /// The request in the `failover` key, and since when this member has seen it as a leader that takes writes.
    pub request: Option<(Revision, Instant)>,
    /// A hand-over of the lock that we began and have not finished.
    pub handover: Option<Handover>,
    pub finished: Option<FinishedJob>,
    /// Failures in a row, and when to try again.
    pub backoff: Option<Backoff>,
    /// The store answered that the lock is not ours while PostgreSQL may still be a primary.
    pub lock_lost: LockLost,
    /// The store has lost its data, and nobody has taken the lock since.
    pub amnesia: Option<Amnesia>,
    /// The cluster that this member belongs to, by what `initialize` said when the store knew it.
    pub cluster: Option<SystemId>,
    /// Our timeline, if the cluster has abandoned it although its number is newer.
    pub abandoned: Option<Abandoned>,
    /// Our branch, since `history` has told of it.
    pub noted: Option<Branch>,
    /// The identifier of the cluster that this member has just initialised, until `initialize` says so too.
    pub bootstrapped: Option<SystemId>,
    /// Starts as a primary tried since it last ran as one under our lock.
    pub primary_starts: u32,
    /// Whether the data directory has been through crash recovery since PostgreSQL last ran.
    pub recovered: Recovered,
    /// Tries of crash recovery that failed, in a row.
    pub failed_recoveries: u32,
    /// Whether this node was promoted and has not made its checkpoint since.
    pub checkpoint: AfterPromote,
    /// Rewinds that ended without success since the last good start.
    pub failed_rewinds: u32,
    /// A rewind has made this directory fit to follow this leader.
    pub cleared_for: Option<Clearance>,
    /// When `pre_promote` last refused a promotion; `None` since one came about.
    pub promotion_refused: Option<Instant>,
    /// The slots as they were last brought about, on this server and this data directory; `None`: not known.
    pub slots: Option<SlotsWanted>,
    /// The same as they were last wanted.
    pub slots_wanted: Option<SlotsWanted>,
    /// Logical slots of which copies wait for a start of the server.
    pub slot_copies: BTreeSet<String>,
    pub roles: Roles,
    /// `synchronous_standby_names` as it was seen to change last, on a primary.
    pub standby_names: Option<NamesSeen>,
    /// Since when this synchronous standby asks to be released, so that it can stop.
    pub release_asked: Option<Instant>,
    /// Whether that validity is the other members' word and not the store's: good for a primary that runs, not for making one.
    pub is_vouched: bool,
    /// A leader's: who would have to vouch for it, as far as it is known where they answer.
    pub vouchers: BTreeMap<MemberName, Option<String>>,
    /// The names of the `failsafe` key as it was seen last: a store that was wiped has none.
    pub failsafe_key: BTreeSet<MemberName>,
    /// Whether a whole cycle with an answering DCS has gone by since this agent began.
    pub first_cycle: FirstCycle,
}

impl Memory {
    /// Whether it was the last leader that said that it gave the lock up: nobody is known to have led since.
    pub fn is_last_word(&self, status: &ClusterStatus) -> bool {
        let given_up = status.given_up();
        given_up.is_some() && given_up != self.outlived
    }
}

/// From when on a standby that was not chosen before counts: what clients were told before then it may lack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamesSeen {
    pub names: StandbyNames,
    pub since: Instant,
    /// Where our WAL ended then.
    pub flushed: Lsn,
}

/// The roles that the members log in with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Roles {
    #[default]
    NotLookedAt,
    Ensured,
}

/// A record that was gone is another one when it comes back, on another lease than the lock was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LeaderRecord {
    #[default]
    There,
    Gone,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FirstCycle {
    #[default]
    Pending,
    Done,
}

/// A timeline of ours that was newer than the leader's while that was a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Abandoned {
    pub timeline: Timeline,
    /// The leader's.
    pub cluster: Timeline,
}

/// A loss of the store's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Amnesia {
    /// When every lock from before has run out.
    pub until: Instant,
    /// The lock as it stood when the loss was noticed.
    pub lock: Option<Revision>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LockLost {
    #[default]
    No,
    Yes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Recovered {
    #[default]
    No,
    Yes,
}

/// Since then our WAL fits this history; earlier comparisons no longer count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Clearance {
    pub leader: HistoryOf,
    pub at: Instant,
}

/// A planned change of the leader, from the decision to stop until another member holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handover {
    pub purpose: HandoverPurpose,
    pub candidate: Option<MemberName>,
    pub since: Instant,
    pub stage: HandoverStage,
    /// The best position that a member which could take over has told since the stop, and since when.
    pub best: Option<(Lsn, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandoverPurpose {
    Switchover,
    Shutdown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandoverStage {
    /// PostgreSQL is being stopped; the lock is ours.
    Stopping,
    /// Stopped with this last position; a candidate is to confirm that it has everything.
    Confirming { position: Lsn, since: Instant },
    /// The lock was given up at this instant.
    Released { at: Instant },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FinishedJob {
    pub job: Job,
    pub at: Instant,
    pub result: JobResult,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JobResult {
    Done(JobProduct),
    /// The text is for people; it is in the log already.
    Failed(String),
    /// A promotion that `pre_promote` did not agree to: PostgreSQL was not told to promote.
    Refused(String),
    Cancelled,
}

/// What a finished job found out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JobProduct {
    Nothing,
    /// A clean stop of a primary: the position of its last record that matters.
    StoppedAt(Lsn),
    /// A new cluster.
    Initialized(SystemId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    pub failures: u32,
    pub until: Instant,
}

/// What one cycle's actions brought, handed to `learn` with the observation they began from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    pub now: Instant,
    pub lease: LeaseOutcome,
    /// The decision's job was started (jobs are started, never awaited, within a cycle).
    pub started: Option<Job>,
    pub asked: Option<Question>,
    pub reason: Reason,
}

/// What happens between two cycles and must be known to the next decision. `note` puts it into the memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    JobEnded(FinishedJob),
    /// From this moment on the lock may hang on a lease of this ttl.
    TtlChanged {
        at: Instant,
        ttl: Duration,
    },
    /// The store has lost data that it had shown before. `ttl`: the longest that a lock from before may last from now on.
    StoreForgot {
        at: Instant,
        ttl: Duration,
        /// The lock as the store has it now.
        lock: Option<Revision>,
    },
    CheckpointDone,
    /// The slots are being brought about: whether it succeeds, and how much of it, is not known.
    SlotsTouched(SlotsWanted),
    /// The server has these slots, and none that should have been dropped.
    SlotsBrought(SlotsWanted),
    /// Copies of these logical slots are ready to be put in place with the server's next start.
    SlotsCopied(BTreeSet<String>),
    RolesEnsured,
}

/// What became of the decision's lease step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseOutcome {
    /// Nothing was asked.
    None,
    /// Ours until then (start of the request + ttl).
    Held {
        until: Instant,
    },
    /// Not renewed, but as good as that: the other members vouch for us until then.
    Vouched {
        until: Instant,
    },
    /// The key is not, or no longer, ours: an answer, not an outage.
    Lost,
    /// No answer to an acquisition or a renewal in time: the old validity stands.
    Unknown,
    Released,
    /// A release without an answer, which may be carried out late: only a renewal, which it then misses, confirms the lock.
    ReleaseUnknown,
}
