//! Constructors: member `a` is ours; `b` and `c` are others. Now is second 1,000.

use std::collections::BTreeSet;
use std::time::Duration;

use tamada::core::decision::Decision;
use tamada::core::failsafe::Failsafe;
use tamada::core::local::{
    About, ClusterState, Control, Data, DataDir, Guard, LocalState, Postgres, PrimaryFacts, RecoverySignal, Replay,
    Running, StandbyFacts, SyncFacts, Upstream, Watchdog,
};
use tamada::core::lock_seen::{LockSeen, StatusSeen};
use tamada::core::observation::{
    DcsOutage, Event, Memory, Observation, PeerAnswer, PeerReport, PeerReports, PeerRole, PeerStatus, PeerWatchdog,
    Requests,
};
use tamada::core::policy::Policy;
use tamada::core::units::{Instant, Lsn, MemberName, Revision, SystemId, Timeline, WallTime};
use tamada::core::view::{
    Address, ClusterStatus, ClusterView, ConfigKey, History, HistoryEntry, Holder, Initialize, Leader, Member,
    MemberKind, MemberRole, MemberState, ReplicationState, Schedule, SwitchoverRequest, Tags,
};
use tamada::core::{decide, note};

use super::policy::policy_of;

pub const ID: SystemId = SystemId(7_710_921_647_475_908_793);

/// We hold the lock, or b does.
pub const OURS: Option<(&str, Holder)> = Some(("a", Holder::Us));
pub const THEIRS: Option<(&str, Holder)> = Some(("b", Holder::Other));

/// What was seen of a lock that nobody holds, in a store without a status.
pub const FREE: LockSeen = LockSeen { lock: None, status: StatusSeen::Absent };

pub fn second(seconds: u64) -> Instant {
    Instant(Duration::from_secs(seconds))
}

pub fn now() -> Instant {
    second(1_000)
}

pub fn policy() -> Policy {
    policy_of("a".into())
}

pub fn address(name: &str) -> Address {
    Address { host: name.to_owned(), port: 5432, database: "postgres".to_owned() }
}

pub fn member(name: &str, role: MemberRole) -> Member {
    Member {
        kind: MemberKind::Ours,
        address: Some(address(name)),
        api_url: Some(format!("http://{name}:8008/patroni")),
        state: MemberState::Running,
        role,
        ..Member::empty(name.into())
    }
}

/// An initialised cluster of a, b and c with this leader.
pub fn view(leader: Option<(&str, Holder)>) -> ClusterView {
    let role = |name: &str| match leader {
        Some((leader, _)) if leader == name => MemberRole::Primary,
        Some(_) | None => MemberRole::Replica,
    };
    ClusterView {
        leader: leader.map(|(name, holder)| Leader { name: name.into(), holder }),
        leader_has_spoken: leader.is_some(),
        members: ["a", "b", "c"].into_iter().map(|name| (name.into(), member(name, role(name)))).collect(),
        initialize: Initialize::Done(ID),
        config: ConfigKey::Valid,
        history: History::Known(Vec::new()),
        status: ClusterStatus { optime: Some(Lsn(0)), ..ClusterStatus::default() },
        ..ClusterView::default()
    }
}

pub fn data(state: ClusterState, signal: RecoverySignal) -> DataDir {
    let control = Control { state, timeline: Timeline(1), checkpoint: Lsn(1_000), recovery_end: None, wal_end: None };
    DataDir::Present(Data { system_id: ID, signal, control: Some(control) })
}

pub fn primary() -> Postgres {
    Postgres::Running(Running::Primary(PrimaryFacts { timeline: Timeline(1), flushed: Lsn(1_000) }))
}

pub fn standby_at(position: u64, of: &str) -> Postgres {
    Postgres::Running(Running::Standby(StandbyFacts {
        timeline: Some(Timeline(1)),
        received: Lsn(position),
        replayed: Lsn(position),
        upstream: Upstream::Member { name: of.into(), address: address(of) },
        replication: Some(ReplicationState::Streaming),
        replay: Replay::Going,
    }))
}

pub fn seen(cluster: ClusterView, postgres: Postgres) -> Observation {
    let data = match postgres {
        Postgres::Running(Running::Standby(_)) => data(ClusterState::InArchiveRecovery, RecoverySignal::Present),
        _ => data(ClusterState::InProduction, RecoverySignal::None),
    };
    Observation {
        now: now(),
        wall: WallTime(1_800_000_000_000),
        cluster: Ok(cluster),
        local: LocalState {
            watchdog: Watchdog::NotRequired,
            data,
            postgres,
            job: None,
            guard: Guard::NoDeadline,
            branch: None,
            about: About::default(),
            sync: SyncFacts::default(),
        },
        peers: PeerReports::new(),
        divergence: None,
        requests: Requests::default(),
        failsafe: Failsafe::default(),
        retained_slots: BTreeSet::new(),
        memory: Memory::default(),
    }
}

pub fn stopped(leader: Option<(&str, Holder)>, state: ClusterState, signal: RecoverySignal) -> Observation {
    let mut observation = seen(view(leader), Postgres::Stopped);
    observation.local.data = data(state, signal);
    observation
}

/// The lock is ours, renewed this many seconds ago.
pub fn renewed(mut seen: Observation, ago: u64) -> Observation {
    seen.memory.lease_valid_until = Some(second(1_000 - ago + 30));
    seen
}

pub fn outage(mut seen: Observation) -> Observation {
    seen.cluster = Err(DcsOutage { error: "no answer".to_owned() });
    seen
}

/// No leader since a second ago, and these standbys have answered since.
pub fn answers(mut seen: Observation, positions: &[(&str, u64)]) -> Observation {
    seen.memory.unlocked_since = Some(second(999));
    for (name, position) in positions {
        let status = PeerStatus {
            role: PeerRole::Standby,
            position: Lsn(*position),
            timeline: Some(Timeline(1)),
            began: None,
            is_abandoned: false,
            tags: Tags::default(),
            watchdog: PeerWatchdog::Fine,
        };
        let report = PeerReport { asked_at: now(), answer: PeerAnswer::Status(status) };
        seen.peers.insert(MemberName::from(*name), report);
    }
    seen
}

pub fn unreachable(mut seen: Observation, name: &str) -> Observation {
    seen.peers.insert(name.into(), PeerReport { asked_at: now(), answer: PeerAnswer::Unreachable });
    seen
}

pub fn left_timeline(view: &mut ClusterView, left: u32) {
    let entry = HistoryEntry {
        left: Timeline(left),
        at: Lsn(900),
        reason: String::new(),
        time: None,
        new_leader: Some("b".into()),
    };
    view.history = History::Known(vec![entry]);
}

pub fn request(view: &mut ClusterView, leader: Option<&str>, candidate: Option<&str>) {
    view.switchover = Some(SwitchoverRequest {
        leader: leader.map(MemberName::from),
        candidate: candidate.map(MemberName::from),
        scheduled_at: Schedule::Now,
        revision: Revision(7),
    });
}

/// Slots and roles are as they should be.
pub fn kept_up(mut seen: Observation) -> Observation {
    if let Some(slots) = decided(&seen).slots {
        seen.memory = note(seen.memory, &Event::SlotsBrought(slots));
    }
    seen.memory = note(seen.memory, &Event::RolesEnsured);
    seen
}

pub fn decided(seen: &Observation) -> Decision {
    decide(&policy(), seen)
}
