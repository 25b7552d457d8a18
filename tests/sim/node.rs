//! One simulated member: its data and server as plain facts, and the agent's memory between cycles.

use tamada::core::decision::Decision;
use tamada::core::local::{
    ClusterState, Control, Data, DataDir, Guard, Job, LocalState, Postgres, PrimaryFacts, RecoverySignal, Replay,
    Running, RunningJob, StandbyFacts, Upstream,
};
use tamada::core::observation::{
    DivergenceReport, Memory, Observation, PeerReports, PeerRole, PeerStatus, PeerWatchdog,
};
use tamada::core::units::{Instant, Lsn, MemberName, SystemId, Timeline};
use tamada::core::view::{Address, AfterPromote, Member, MemberKind, MemberRole, MemberState, ReplicationState, Tags};

/// What has been written, as PostgreSQL can tell it: the timeline, its end, and where earlier timelines were left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wal {
    pub timeline: u32,
    pub end: u64,
    pub left: Vec<(u32, u64)>,
}

impl Wal {
    /// Whether all that we have stands in `leader`'s history too.
    pub fn fits(&self, leader: &Wal) -> bool {
        if self.timeline == leader.timeline {
            return self.left == leader.left && self.end <= leader.end;
        }
        let common = leader.left.starts_with(&self.left);
        common && leader.left.get(self.left.len()).is_some_and(|&(left, at)| left == self.timeline && self.end <= at)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Server {
    Down { clean: bool },
    Primary,
    Standby,
}

pub struct Node {
    pub name: MemberName,
    pub lease: u64,
    /// A release was sent and not answered: the next confirmation makes it miss the key.
    pub release_pending: bool,
    pub server: Server,
    pub wal: Wal,
    pub data: Option<SystemId>,
    pub signal: bool,
    pub upstream: Upstream,
    pub streaming: bool,
    pub memory: Memory,
    /// Job, begun at, ends at (ms).
    pub job: Option<(Job, u64, u64)>,
    /// A promotion that nobody waits for any more comes about then.
    pub promotes_at: Option<u64>,
    pub guard: Guard,
    /// The agent does nothing before then: frozen, dead, or blocked in a call.
    pub away_until: u64,
    pub frozen: bool,
    pub wake: u64,
    /// A decision under way: carried out then.
    pub acting: Option<(u64, Phase, Box<Decision>, Box<Observation>)>,
    pub peers: PeerReports,
    pub divergence: Option<DivergenceReport>,
    pub checkpoint_done_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    TakeAndLease,
    Give,
}

pub fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

impl Node {
    pub fn new(number: u64) -> Self {
        Node {
            name: MemberName::new(format!("n{number}")),
            lease: 0,
            release_pending: false,
            server: Server::Down { clean: true },
            wal: Wal::default(),
            data: None,
            signal: false,
            upstream: Upstream::None,
            streaming: false,
            memory: Memory::default(),
            job: None,
            promotes_at: None,
            guard: Guard::NoDeadline,
            away_until: 0,
            frozen: false,
            wake: 0,
            acting: None,
            peers: PeerReports::new(),
            divergence: None,
            checkpoint_done_at: None,
        }
    }

    pub fn address(&self) -> Address {
        Address { host: self.name.to_string(), port: 5432, database: "postgres".to_owned() }
    }

    /// The agent's process is new: it knows nothing but its lease and what PID 1 keeps.
    pub fn restart_agent(&mut self, back_at: u64) {
        self.memory = Memory::default();
        self.abandon_job();
        // The process before may have sent one.
        self.release_pending = true;
        self.acting = None;
        self.frozen = false;
        self.peers.clear();
        self.divergence = None;
        self.checkpoint_done_at = None;
        self.away_until = back_at;
        self.wake = back_at;
    }

    /// Nobody waits for the job any more. PostgreSQL goes on with a promotion that it was asked for.
    pub fn abandon_job(&mut self) {
        if let Some((Job::Promote, _, ends)) = self.job.take() {
            self.promotes_at = Some(ends);
        }
    }

    pub fn crash_server(&mut self) {
        self.promotes_at = None;
        if matches!(self.job, Some((Job::Promote, ..))) {
            self.job = None;
        }
        if self.server != (Server::Down { clean: true }) {
            self.server = Server::Down { clean: false };
        }
        self.streaming = false;
    }

    pub fn observe(&self) -> LocalState {
        let data = match self.data {
            None => DataDir::Empty,
            Some(system_id) => DataDir::Present(Data {
                system_id,
                signal: if self.signal { RecoverySignal::Present } else { RecoverySignal::None },
                control: self.control(),
            }),
        };
        LocalState {
            data,
            postgres: self.postgres(),
            job: self.job.as_ref().map(|(job, since, _)| RunningJob { job: job.clone(), since: at(*since) }),
            guard: self.guard,
        }
    }

    fn control(&self) -> Option<Control> {
        let Server::Down { clean } = self.server else { return None };
        let state = match (clean, self.signal) {
            (true, true) => ClusterState::ShutDownInRecovery,
            (true, false) => ClusterState::ShutDown,
            (false, true) => ClusterState::InArchiveRecovery,
            (false, false) => ClusterState::InProduction,
        };
        let timeline = Timeline(self.wal.timeline);
        Some(Control { state, timeline, checkpoint: Lsn(self.wal.end), recovery_end: None })
    }

    fn postgres(&self) -> Postgres {
        let timeline = Timeline(self.wal.timeline);
        match self.server {
            Server::Down { .. } => Postgres::Stopped,
            Server::Primary => {
                Postgres::Running(Running::Primary(PrimaryFacts { timeline, flushed: Lsn(self.wal.end) }))
            }
            Server::Standby => Postgres::Running(Running::Standby(StandbyFacts {
                timeline: Some(timeline),
                received: Lsn(self.wal.end),
                replayed: Lsn(self.wal.end),
                upstream: self.upstream.clone(),
                replication: self.streaming.then_some(ReplicationState::Streaming),
                replay: Replay::Going,
            })),
        }
    }

    pub fn record(&self) -> Member {
        let (state, role) = match self.server {
            Server::Primary => (MemberState::Running, MemberRole::Primary),
            Server::Standby => (MemberState::Running, MemberRole::Replica),
            Server::Down { .. } => (MemberState::Stopped, MemberRole::Demoted),
        };
        let owes = self.memory.checkpoint == AfterPromote::Pending;
        Member {
            kind: MemberKind::Ours,
            address: Some(self.address()),
            api_url: Some(format!("http://{}:8008/patroni", self.name)),
            state,
            role,
            position: Some(Lsn(self.wal.end)),
            timeline: Some(Timeline(self.wal.timeline)),
            checkpoint: if owes { AfterPromote::Pending } else { AfterPromote::Done },
            ..Member::empty(self.name.clone())
        }
    }

    /// What it answers to a peer; `None`: nothing that counts.
    pub fn answer(&self) -> Option<PeerStatus> {
        let role = match self.server {
            Server::Primary => PeerRole::Primary,
            Server::Standby => PeerRole::Standby,
            Server::Down { .. } => return None,
        };
        Some(PeerStatus {
            role,
            position: Lsn(self.wal.end),
            timeline: Some(Timeline(self.wal.timeline)),
            tags: Tags::default(),
            watchdog: PeerWatchdog::Fine,
        })
    }
}
