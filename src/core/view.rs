//! What the DCS says about the cluster: one consistent reading of all its keys, in types.
//!
//! `dcs::codec` makes these from the documents in the DCS; nothing here knows how they are stored.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use super::tags::Tags;

use super::units::{GivenUp, Lsn, MemberName, Revision, SystemId, Timeline, WallTime};

/// One reading of the cluster's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClusterView {
    pub leader: Option<Leader>,
    /// The revision of the lock as the store keeps it, held or free; `None`: there is nothing. A store without a key for
    /// each lock (Kubernetes) has one even while nobody holds it.
    pub lock_revision: Option<Revision>,
    /// The same of the status.
    pub status_revision: Option<Revision>,
    /// Whether its last holder let the lock run out, in a store where members' records stay when it does.
    pub lock_ran_out: bool,
    /// Whether the leader has written its member record since it took the lock. Until then the record may be of an earlier
    /// time, as in a store that was restored from a backup.
    pub leader_has_spoken: bool,
    pub members: BTreeMap<MemberName, Member>,
    pub initialize: Initialize,
    pub config: ConfigKey,
    pub status: ClusterStatus,
    pub switchover: Option<SwitchoverRequest>,
    pub sync: SyncState,
    pub history: History,
    /// Names in the `failsafe` key; empty when it is absent.
    pub failsafe: BTreeSet<MemberName>,
}

impl ClusterView {
    /// Whether the leader key exists and hangs on our lease.
    pub fn is_ours(&self) -> bool {
        matches!(&self.leader, Some(Leader { holder: Holder::Us, .. }))
    }

    /// Whether this member's process has been heard of within its ttl. Here a record vanishes with its lease, so it is
    /// the record's presence; in a store where records do not expire (Kubernetes' annotations) it will not be.
    pub fn is_alive(&self, member: &MemberName) -> bool {
        self.members.contains_key(member)
    }

    /// The members that are alive.
    pub fn alive(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| self.is_alive(&member.name))
    }

    /// The record of the member that holds the lock, when that is another member and has one.
    pub fn other_leader(&self) -> Option<&Member> {
        let leader = self.leader.as_ref().filter(|leader| leader.holder == Holder::Other)?;
        self.members.get(&leader.name)
    }
}

/// The leader key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    pub name: MemberName,
    pub holder: Holder,
}

/// Whose lease the leader key hangs on. Our own name on another lease is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    Us,
    Other,
}

/// A member's own record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    pub name: MemberName,
    pub kind: MemberKind,
    /// Where its PostgreSQL answers; from `conn_url`.
    pub address: Option<Address>,
    /// `http[s]://host:port/patroni`.
    pub api_url: Option<String>,
    pub state: MemberState,
    pub role: MemberRole,
    pub timeline: Option<Timeline>,
    /// `xlog_location`: a primary's flush position, a standby's larger one of received and replayed.
    pub position: Option<Lsn>,
    pub replication: Option<ReplicationState>,
    pub checkpoint: AfterPromote,
    pub tags: Tags,
}

impl Member {
    /// A record with nothing in it: what an unreadable member key counts as.
    pub fn empty(name: MemberName) -> Self {
        Member {
            name,
            kind: MemberKind::Patroni,
            address: None,
            api_url: None,
            state: MemberState::Unknown,
            role: MemberRole::Uninitialized,
            timeline: None,
            position: None,
            replication: None,
            checkpoint: AfterPromote::Done,
            tags: Tags::default(),
        }
    }
}

/// Which program a member runs; Patroni's limits hold where one of its members is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberKind {
    Ours,
    Patroni,
}

/// Whether a leader still owes the checkpoint that pg_rewind needs to see its new timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AfterPromote {
    #[default]
    Done,
    Pending,
}

/// Host, port and database of a server. The host is a name or an address, without brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    pub host: String,
    pub port: u16,
    pub database: String,
}

/// `state` of a member key, by Patroni's metric index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    InitializingNewCluster,
    InitdbFailed,
    RunningCustomBootstrap,
    CustomBootstrapFailed,
    CreatingReplica,
    Running,
    Starting,
    StartingAfterCustomBootstrap,
    StartFailed,
    Restarting,
    RestartFailed,
    Stopping,
    Stopped,
    StopFailed,
    Crashed,
    Unknown,
}

impl MemberState {
    const NAMES: [(MemberState, &'static str); 16] = [
        (MemberState::InitializingNewCluster, "initializing new cluster"),
        (MemberState::InitdbFailed, "initdb failed"),
        (MemberState::RunningCustomBootstrap, "running custom bootstrap script"),
        (MemberState::CustomBootstrapFailed, "custom bootstrap failed"),
        (MemberState::CreatingReplica, "creating replica"),
        (MemberState::Running, "running"),
        (MemberState::Starting, "starting"),
        (MemberState::StartingAfterCustomBootstrap, "starting after custom bootstrap"),
        (MemberState::StartFailed, "start failed"),
        (MemberState::Restarting, "restarting"),
        (MemberState::RestartFailed, "restart failed"),
        (MemberState::Stopping, "stopping"),
        (MemberState::Stopped, "stopped"),
        (MemberState::StopFailed, "stop failed"),
        (MemberState::Crashed, "crashed"),
        (MemberState::Unknown, "unknown"),
    ];

    /// The word in the DCS and in the API.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize].1
    }

    /// Never fails: a word that is not known is `Unknown`.
    pub fn from_word(word: &str) -> Self {
        Self::NAMES.iter().find(|(_, name)| *name == word).map_or(MemberState::Unknown, |(state, _)| *state)
    }

    /// The metric's value; -1 for `Unknown`.
    pub fn index(self) -> i8 {
        if self == MemberState::Unknown { -1 } else { self as i8 }
    }
}

/// `role` of a member key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberRole {
    Primary,
    Promoted,
    StandbyLeader,
    Replica,
    Demoted,
    #[default]
    Uninitialized,
}

impl MemberRole {
    pub fn as_str(self) -> &'static str {
        match self {
            MemberRole::Primary => "primary",
            MemberRole::Promoted => "promoted",
            MemberRole::StandbyLeader => "standby_leader",
            MemberRole::Replica => "replica",
            MemberRole::Demoted => "demoted",
            MemberRole::Uninitialized => "uninitialized",
        }
    }

    /// `master` reads as primary; anything unknown as uninitialized.
    pub fn from_word(word: &str) -> Self {
        match word {
            "primary" | "master" => MemberRole::Primary,
            "promoted" => MemberRole::Promoted,
            "standby_leader" => MemberRole::StandbyLeader,
            "replica" => MemberRole::Replica,
            "demoted" => MemberRole::Demoted,
            _ => MemberRole::Uninitialized,
        }
    }
}

/// How a standby gets its WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReplicationState {
    Streaming,
    InArchiveRecovery,
}

impl ReplicationState {
    pub fn as_str(self) -> &'static str {
        match self {
            ReplicationState::Streaming => "streaming",
            ReplicationState::InArchiveRecovery => "in archive recovery",
        }
    }
}

/// The `initialize` key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Initialize {
    #[default]
    Absent,
    /// Empty: somebody is bootstrapping right now. The claim hangs on the bootstrapper's lease, so that it does not
    /// outlive a bootstrapper that died; Patroni's claims are always `Other` and have no lease.
    InProgress(Holder),
    Done(SystemId),
    /// Not a system identifier.
    Invalid(String),
}

/// What the `config` key holds, as far as decisions need it: the document itself is the configuration's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConfigKey {
    #[default]
    Missing,
    /// Not a JSON object, or an empty one.
    Invalid,
    Valid,
}

/// The `status` key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClusterStatus {
    /// The leader's last published position.
    pub optime: Option<Lsn>,
    pub slots: BTreeMap<String, Lsn>,
    pub retain_slots: BTreeSet<String>,
    /// Our own field: the leader that gave the lock up after a clean shutdown; `optime` is then its last position, and
    /// a candidate behind that would lose acknowledged writes. The next leader's status drops it.
    pub released_by: Option<MemberName>,
    /// Our own field: the leader that gave the lock up because it could not serve, as after a crash. The others go first
    /// and do not wait for it. The next leader's status drops it.
    pub gave_way: Option<MemberName>,
}

impl ClusterStatus {
    pub fn given_up(&self) -> Option<GivenUp> {
        let by = self.released_by.as_ref().or(self.gave_way.as_ref())?.clone();
        Some(GivenUp { by, position: self.optime })
    }

    /// Whether this member has said that it gave the lock up.
    pub fn gave_up(&self, member: &MemberName) -> bool {
        self.released_by.as_ref() == Some(member) || self.gave_way.as_ref() == Some(member)
    }
}

/// The `failover` key when it holds a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SwitchoverRequest {
    /// Set: a switchover away from this leader. Unset: a manual failover.
    pub leader: Option<MemberName>,
    pub candidate: Option<MemberName>,
    pub scheduled_at: Schedule,
    pub revision: Revision,
}

/// When a request is to be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Schedule {
    Now,
    At(WallTime),
    /// Without a time zone or unreadable: never carried out, removed by the leader.
    Invalid(String),
}

/// The `sync` key. Empty (no leader) while synchronous mode is off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SyncState {
    pub leader: Option<MemberName>,
    pub quorum: u32,
    pub standbys: BTreeSet<MemberName>,
    pub revision: Option<Revision>,
}

/// The `history` key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum History {
    /// Absent or unreadable: the cluster's timeline is not known.
    #[default]
    Unknown,
    Known(Vec<HistoryEntry>),
}

impl History {
    /// The cluster's timeline: one more than the last that was left; 1 when none ever was.
    pub fn timeline(&self) -> Option<Timeline> {
        match self {
            History::Unknown => None,
            History::Known(entries) => Some(Timeline(entries.last().map_or(1, |entry| entry.left.0 + 1))),
        }
    }

    /// Where this timeline of the cluster left its parent; `None`: not known, or it was never the cluster's.
    pub fn began(&self, timeline: Timeline) -> Option<Lsn> {
        let History::Known(entries) = self else { return None };
        match entries.iter().position(|entry| entry.left == timeline) {
            Some(index) => index.checked_sub(1).map(|parent| entries[parent].at),
            None => entries.last().filter(|_| self.timeline() == Some(timeline)).map(|entry| entry.at),
        }
    }
}

/// A timeline that was left.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HistoryEntry {
    pub left: Timeline,
    pub at: Lsn,
    pub reason: String,
    /// ISO 8601, as the promoting member wrote it.
    pub time: Option<String>,
    pub new_leader: Option<MemberName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_back_and_has_its_index() {
        for (position, (state, word)) in MemberState::NAMES.iter().enumerate() {
            assert_eq!(*state as usize, position);
            assert_eq!(MemberState::from_word(word), *state);
        }
        assert_eq!(MemberState::Crashed.index(), 14);
        assert_eq!(MemberState::Unknown.index(), -1);
    }
}
