//! A state of the world: the store, and of each node the server, the agent's memory and what it has seen but not yet acted
//! upon.

use std::collections::BTreeSet;
use std::sync::Arc;

use tamada::core::decision::Decision;
use tamada::core::failsafe::Failsafe;
use tamada::core::lease;
use tamada::core::local::{
    About, ClusterState, Control, Data, DataDir, Guard, LocalState, Postgres, PrimaryFacts, RecoverySignal, Replay,
    Running, RunningJob, StandbyFacts, SyncFacts, Upstream, Watchdog,
};
use tamada::core::observation::{
    DcsOutage, DivergenceReport, FirstCycle, Memory, Observation, PeerAnswer, PeerReports, PeerRole, PeerStatus,
    PeerWatchdog, Requests,
};
use tamada::core::units::{Instant, Lsn, MemberName, SystemId, Timeline, WallTime};
use tamada::core::view::{
    Address, AfterPromote, ClusterStatus, ClusterView, ConfigKey, History, HistoryEntry, Holder, Initialize, Leader,
    Member, MemberKind, MemberRole, MemberState, ReplicationState, Tags,
};

use super::time::{NOW, TIMING};

pub const NODES: usize = 2;
const ID: SystemId = SystemId(1);
const POSITION: Lsn = Lsn(1_000);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub store: Store,
    pub nodes: [Node; NODES],
    /// How many more things may go wrong.
    pub faults_left: u8,
    /// A server became writable although the leader key did not hang on its node's lease.
    pub unlocked_promotion: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    /// The node on whose lease the leader key hangs.
    pub leader: Option<usize>,
    /// When each node's lease ends.
    pub leases: [Option<Instant>; NODES],
    /// The cluster's timeline, by the history key.
    pub timeline: u32,
    /// A release of the lock that was sent without an answer and may still be carried out.
    pub late_release: [bool; NODES],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    Down { clean: bool },
    Primary,
    Standby,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub server: Server,
    pub timeline: u32,
    /// The data were a primary's: no standby.signal.
    pub was_primary: bool,
    pub upstream: Option<usize>,
    pub memory: Memory,
    pub pending: Option<Arc<Pending>>,
    pub job: Option<RunningJob>,
    /// PostgreSQL was asked to promote, and nobody waits for it any more.
    pub promoting: bool,
    pub guard: Option<Instant>,
    pub peers: PeerReports,
    pub divergence: Option<DivergenceReport>,
    /// The agent has had its cycle since the last tick.
    pub looked: bool,
    /// The agent stands still.
    pub frozen: bool,
    /// Neither the store nor the other node can be reached, but by the WAL's stream.
    pub cut: bool,
}

/// Seen, decided, and not yet carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pending {
    pub seen: Observation,
    pub decision: Decision,
    pub reason: &'static str,
}

pub fn name(index: usize) -> MemberName {
    MemberName::from(["a", "b"][index])
}

pub fn index_of(member: &MemberName) -> usize {
    (0..NODES).find(|index| name(*index) == *member).expect("a member's name")
}

fn address(index: usize) -> Address {
    // By its port alone: every state has copies of it.
    Address { host: String::new(), port: [5432, 5433][index], database: String::new() }
}

impl State {
    /// `a` leads, `b` streams from it, and both have just had a cycle.
    pub fn healthy(faults_left: u8) -> Self {
        let until = NOW + TIMING.ttl;
        let node = |server, guard, memory| Node {
            server,
            timeline: 1,
            was_primary: server == Server::Primary,
            upstream: (server == Server::Standby).then_some(0),
            memory,
            pending: None,
            job: None,
            promoting: false,
            guard,
            peers: PeerReports::new(),
            divergence: None,
            looked: false,
            frozen: false,
            cut: false,
        };
        let first_cycle = FirstCycle::Done;
        let leading = Memory { lease_valid_until: Some(until), first_cycle, ..Memory::default() };
        let following = Memory { first_cycle, ..Memory::default() };
        let guard = lease::guard_deadline(until, &TIMING);
        State {
            store: Store { leader: Some(0), leases: [Some(until); NODES], timeline: 1, late_release: [false; NODES] },
            nodes: [node(Server::Primary, Some(guard), leading), node(Server::Standby, None, following)],
            faults_left,
            unlocked_promotion: false,
        }
    }

    pub fn primaries(&self) -> impl Iterator<Item = &'static str> {
        ["a", "b"].into_iter().zip(&self.nodes).filter(|(_, node)| node.server == Server::Primary).map(|(name, _)| name)
    }

    pub fn holds(&self, index: usize) -> bool {
        self.store.leader == Some(index)
    }

    /// `misread`: a standby takes any leader key for its own.
    pub fn view(&self, index: usize, misread: bool) -> ClusterView {
        let holder = |leader| match leader == index || (misread && self.nodes[index].server == Server::Standby) {
            true => Holder::Us,
            false => Holder::Other,
        };
        let left = |left| HistoryEntry {
            left: Timeline(left),
            at: POSITION,
            reason: String::new(),
            time: None,
            new_leader: Some(name(0)),
        };
        let alive = (0..NODES).filter(|index| self.store.leases[*index].is_some());
        ClusterView {
            leader: self.store.leader.map(|leader| Leader { name: name(leader), holder: holder(leader) }),
            leader_has_spoken: self.store.leader.is_some(),
            members: alive.map(|index| (name(index), self.record(index))).collect(),
            initialize: Initialize::Done(ID),
            config: ConfigKey::Valid,
            history: History::Known((1..self.store.timeline).map(left).collect()),
            status: ClusterStatus { optime: Some(POSITION), ..ClusterStatus::default() },
            ..ClusterView::default()
        }
    }

    fn record(&self, index: usize) -> Member {
        let (state, role) = match self.nodes[index].server {
            Server::Primary => (MemberState::Running, MemberRole::Primary),
            Server::Standby => (MemberState::Running, MemberRole::Replica),
            Server::Down { .. } => (MemberState::Stopped, MemberRole::Demoted),
        };
        Member {
            kind: MemberKind::Ours,
            address: Some(address(index)),
            api_url: Some(String::new()),
            state,
            role,
            checkpoint: AfterPromote::Done,
            ..Member::empty(name(index))
        }
    }

    /// What the node answers when a peer asks.
    pub fn answer(&self, index: usize) -> PeerAnswer {
        if self.nodes[index].cut || self.nodes[index].frozen {
            return PeerAnswer::Unreachable;
        }
        let role = match self.nodes[index].server {
            Server::Primary => PeerRole::Primary,
            Server::Standby => PeerRole::Standby,
            Server::Down { .. } => return PeerAnswer::Unreachable,
        };
        PeerAnswer::Status(PeerStatus {
            role,
            position: POSITION,
            timeline: Some(Timeline(self.nodes[index].timeline)),
            began: None,
            is_abandoned: false,
            tags: Tags::default(),
            watchdog: PeerWatchdog::Fine,
        })
    }

    /// What the node's agent sees now.
    pub fn observe(&self, index: usize, cluster: Result<ClusterView, DcsOutage>) -> Observation {
        let node = &self.nodes[index];
        let data = Data { system_id: ID, signal: node.signal(), control: node.control() };
        Observation {
            now: NOW,
            wall: WallTime(0),
            cluster,
            local: LocalState {
                watchdog: Watchdog::NotRequired,
                data: DataDir::Present(data),
                postgres: self.postgres(index),
                job: node.job.clone(),
                guard: node.guard.map_or(Guard::NoDeadline, Guard::Until),
                about: About::default(),
                branch: None,
                sync: SyncFacts::default(),
            },
            peers: node.peers.clone(),
            divergence: node.divergence.clone(),
            requests: Requests::default(),
            failsafe: Failsafe::default(),
            retained_slots: BTreeSet::new(),
            memory: node.memory.clone(),
        }
    }

    fn postgres(&self, index: usize) -> Postgres {
        let node = &self.nodes[index];
        let timeline = Timeline(node.timeline);
        let facts = |upstream, replication| StandbyFacts {
            timeline: Some(timeline),
            received: POSITION,
            replayed: POSITION,
            upstream,
            replication,
            replay: Replay::Going,
        };
        match (node.server, node.upstream) {
            (Server::Down { .. }, _) => Postgres::Stopped,
            (Server::Primary, _) => Postgres::Running(Running::Primary(PrimaryFacts { timeline, flushed: POSITION })),
            (Server::Standby, None) => Postgres::Running(Running::Standby(facts(Upstream::None, None))),
            (Server::Standby, Some(from)) => {
                let streams = self.streams(index).then_some(ReplicationState::Streaming);
                let upstream = Upstream::Member { name: name(from), address: address(from) };
                Postgres::Running(Running::Standby(facts(upstream, streams)))
            }
        }
    }

    pub fn streams(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        node.upstream.is_some_and(|from| from != index && self.nodes[from].server == Server::Primary)
    }
}

impl Node {
    fn signal(&self) -> RecoverySignal {
        if self.was_primary { RecoverySignal::None } else { RecoverySignal::Present }
    }

    fn control(&self) -> Option<Control> {
        let Server::Down { clean } = self.server else { return None };
        let state = match (clean, self.was_primary) {
            (true, true) => ClusterState::ShutDown,
            (true, false) => ClusterState::ShutDownInRecovery,
            (false, true) => ClusterState::InProduction,
            (false, false) => ClusterState::InArchiveRecovery,
        };
        Some(Control {
            state,
            timeline: Timeline(self.timeline),
            checkpoint: POSITION,
            recovery_end: None,
            wal_end: None,
        })
    }

    /// Everything of this node's PostgreSQL is gone at once.
    pub fn kill(&mut self) {
        if !matches!(self.server, Server::Down { .. }) {
            self.server = Server::Down { clean: false };
        }
        self.promoting = false;
    }
}
