//! One cycle's output: a form with fixed slots, not a script. `agent::act` carries it out in one fixed order:
//! what takes authority away, the lease, what gives authority, the cluster's documents, questions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::local::{CloneSource, HistoryOf, Reinit, StartAs, StopMode, StopWhy, Upstream};
use super::lock_seen::LockSeen;
use super::reason::Reason;
use super::slots::SlotsWanted;
use super::standby_names::StandbyNames;
use super::units::{Instant, Lsn, MemberName, Revision, SystemId};

#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    pub lease: LeaseStep,
    pub postgres: PostgresStep,
    /// Documents of the cluster to be written; at most a few, each conditional.
    pub documents: Vec<DocumentStep>,
    pub ask: Option<Question>,
    /// Logged, served by the API, counted, kept in history.
    pub reason: Reason,
    pub wake: Wake,
    /// What the server's replication slots are to be; `None`: they stay as they are. With an acquisition only if that won.
    pub slots: Option<SlotsWanted>,
    pub roles: RolesStep,
    /// The next step towards the synchronous standbys that the cluster wants.
    pub sync: SyncStep,
    /// What becomes of the restart that is scheduled.
    pub schedule: ScheduleStep,
    /// Set when the agent is to end.
    pub exit: Option<Exit>,
}

/// One step: the store's word and the server's setting never change together, so that at no moment more is promised than
/// holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SyncStep {
    Leave,
    /// Write the `sync` key, over the one that was seen, while the lock is ours.
    Publish {
        key: SyncKey,
        seen: Option<Revision>,
    },
    /// Remove the key: the synchronous mode is off.
    Unpublish {
        seen: Revision,
    },
    /// `synchronous_standby_names` from now on, whatever the user's configuration says.
    Set(StandbyNames),
    /// The user's own setting is in force again.
    GiveBack,
}

/// What the `sync` key says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SyncKey {
    pub leader: MemberName,
    /// Of how many others a candidate must know that they are not ahead; 0 in priority mode.
    pub quorum: usize,
    pub standbys: BTreeSet<MemberName>,
}

/// The roles that the members log in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RolesStep {
    Leave,
    /// Create those that are missing.
    Ensure,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseStep {
    Keep,
    /// Take the lock if all still is as it was seen.
    Acquire {
        seen: LockSeen,
    },
    Renew,
    /// All members that could take the lock vouch for us until then: it counts as renewed.
    Vouched {
        until: Instant,
    },
    /// Give the lock up. A position is given only after a clean shutdown that ended there.
    Release {
        last_position: Option<Lsn>,
    },
    /// Give the lock up after a clean shutdown whose last WAL no other member has: the position is published, and what
    /// may be lost is decided by `maximum_lag_on_failover`, as after a crash.
    ReleaseUnconfirmed {
        last_position: Lsn,
    },
    /// Give a lock back that a call of ours has taken late.
    GiveBack {
        word: LastWord,
    },
}

/// What becomes of the last leader's word that it gave the lock up in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LastWord {
    Stands,
    /// We have led since.
    IsOver,
}

impl LeaseStep {
    pub fn gives_up(&self) -> bool {
        match self {
            LeaseStep::Release { .. } | LeaseStep::ReleaseUnconfirmed { .. } | LeaseStep::GiveBack { .. } => true,
            LeaseStep::Keep | LeaseStep::Acquire { .. } | LeaseStep::Renew | LeaseStep::Vouched { .. } => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PostgresStep {
    Leave,
    /// A running job is cancelled first. After `limit` the stop escalates until nothing is left.
    Stop {
        mode: StopMode,
        why: StopWhy,
        limit: Duration,
    },
    Start(StartAs),
    Restart(StartAs),
    Promote,
    Follow(Upstream),
    Bootstrap,
    Clone(CloneSource),
    Reinitialize {
        from: CloneSource,
        why: Reinit,
    },
    Rewind {
        from: HistoryOf,
    },
    Recover,
    /// `pg_wal_replay_resume()`.
    ResumeReplay,
}

/// A document of the cluster to be written. A conflict is no failure: the next cycle reads again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DocumentStep {
    /// Create `initialize` empty, on our lease, before the decision's `Bootstrap`: that one is not begun if this fails.
    ClaimInitialize,
    /// Remove our own empty `initialize` after a failed bootstrap.
    UnclaimInitialize,
    SetInitialize(SystemId),
    /// Write the last known configuration back.
    RestoreConfig,
    /// Rewrite the `failover` key to `{}`.
    ClearSwitchover {
        seen: Revision,
    },
    /// Write the timeline history of the local primary.
    UpdateHistory,
    /// Who would have to vouch for a leader that the store does not answer, with their addresses.
    SetFailsafe {
        members: BTreeMap<MemberName, String>,
    },
}

/// What becomes of a scheduled restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ScheduleStep {
    Keep,
    /// It becomes a request, which the next cycle sees.
    Begin,
    Drop(Overtaken),
}

/// Why a scheduled restart is not carried out. Patroni's words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Overtaken {
    ByAnotherRestart {
        at: String,
    },
    /// The time is long over, for example because the cluster was paused.
    ByTime,
    ByConditions,
}

impl std::fmt::Display for Overtaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Overtaken::ByAnotherRestart { at } => {
                write!(f, "Cancelling scheduled restart: postgres restart has already happened at {at}")
            }
            Overtaken::ByTime => f.write_str("Found a stale restart value, cleaning up"),
            Overtaken::ByConditions => f.write_str("Scheduled restart: restart conditions are not satisfied"),
        }
    }
}

/// A costly fact that a decision needs; the answer stands in a later observation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// `GET api_url` of these members, in parallel, each at most so long.
    Peers(BTreeMap<MemberName, Duration>),
    /// Compare our WAL with this history.
    Divergence { leader: HistoryOf },
    /// `POST /failsafe` to these members, at their addresses, each at most so long.
    Vouch { members: BTreeMap<MemberName, Option<String>>, limit: Duration },
    /// A checkpoint in the background: after a promotion, so that pg_rewind sees the new timeline; on a standby, so
    /// that it can tell the timeline that it has replayed.
    Checkpoint,
}

/// When the next cycle begins, at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wake {
    Now,
    /// At this instant, or at a change before it.
    At(Instant),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Status 0.
    Stopped,
    /// Status 1, PostgreSQL stopped first; the text says what is wrong and what to do.
    Fatal(String),
    /// Status 1, PostgreSQL left as it is.
    FatalLeaveRunning(String),
}

impl Decision {
    /// Nothing to do until the timer or a change.
    pub fn idle(reason: Reason, wake: Wake) -> Self {
        Decision {
            lease: LeaseStep::Keep,
            postgres: PostgresStep::Leave,
            documents: Vec::new(),
            ask: None,
            reason,
            wake,
            slots: None,
            roles: RolesStep::Leave,
            sync: SyncStep::Leave,
            schedule: ScheduleStep::Keep,
            exit: None,
        }
    }
}
