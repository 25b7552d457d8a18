//! One simulated member: its data and server as plain facts, and the agent's memory between cycles.

use tamada::core::decision::Decision;
use tamada::core::failsafe::{Promise, Vouchers};
use tamada::core::lease::guard_deadline;
use tamada::core::local::{
    About, ClusterState, Control, Data, DataDir, Guard, Job, LastRole, LocalState, NamesOf, Postgres, PrimaryFacts,
    RecoverySignal, Replay, Running, RunningJob, StandbyFacts, StartAs, StopWhy, SyncFacts, Upstream, Watchdog,
};
use tamada::core::note;
use tamada::core::observation::{
    DivergenceReport, Event, Memory, Observation, PeerReports, PeerRole, PeerStatus, PeerWatchdog, ShutdownRequest,
};
use tamada::core::policy::{Pause, Timing};
use tamada::core::standby_names::StandbyNames;
use tamada::core::units::{Instant, Lsn, MemberName, SystemId, Timeline};
use tamada::core::view::{
    Address, AfterPromote, ClusterView, Member, MemberKind, MemberRole, MemberState, ReplicationState, Tags,
};

use super::oracles::Raced;
use super::reading::Eye;
use super::slots::ServerSlots;
pub use super::wal::Wal;

/// What a person or an orchestrator asked of this member, and until when (ms) it stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    pub shutdown: Option<ShutdownRequest>,
    /// Whoever asked for the shutdown kills the container then, and begins another one so much later.
    pub killed_at: u64,
    pub back_after: u64,
    pub restart_until: u64,
    pub reinitialize_until: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Server {
    Down {
        clean: bool,
    },
    /// It lets nobody in before `until` (ms).
    Starting {
        role: LastRole,
        since: u64,
        until: u64,
    },
    Primary,
    Standby,
}

/// What is wrong with a data directory, until when (ms).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DataFault {
    Unusable,
    Empty,
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
    pub names: StandbyNames,
    pub names_of: NamesOf,
    pub setting: Option<(u64, StandbyNames, NamesOf)>,
    pub upstream: Upstream,
    pub streaming: bool,
    pub slots: ServerSlots,
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
    /// What it goes by, as it read it last.
    pub timing: Timing,
    pub pause: Pause,
    /// The versions of the documents in its last reading.
    pub history_seen: u64,
    pub initialize_seen: u64,
    /// The losses of the store's data that its readings have shown.
    pub losses: u64,
    /// The reading that it has before its eyes until then (ms), however old.
    pub stale: Option<(u64, u64, Box<ClusterView>)>,
    pub eye: Eye,
    pub asked: Asked,
    pub data_fault: Option<(DataFault, u64)>,
    /// The server does not answer: since, until (ms).
    pub silent: Option<(u64, u64)>,
    /// The agent is new and has never had an answer.
    pub never_probed: bool,
    /// WAL before this position is removed.
    pub oldest: u64,
    /// pg_rewind was cut short: neither the old data nor the leader's.
    pub half_rewound: bool,
    /// It receives no WAL before then (ms).
    pub starved_until: u64,
    pub replay: Replay,
    /// What it has promised to a primary in failsafe mode.
    pub promise: Option<Promise>,
    pub began: u64,
    /// The answers to the last question in failsafe mode, and when they are known (ms).
    pub vouchers: Option<(u64, Vouchers)>,
    /// What peers have answered, which is known then (ms).
    pub asking: Option<(u64, PeerReports)>,
    pub exit_seen: bool,
    /// The last decision's reason.
    pub situation: &'static str,
    /// Since when it has been a standby that nothing disturbs (ms).
    pub steady_since: u64,
    /// When it reached no other member last (ms).
    pub alone_at: u64,
    /// What it knew when it decided to take the lock.
    pub raced: Raced,
    pub was_wanted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    TakeAndLease,
    Give,
}

/// The timers of a new cluster.
pub const TIMING: Timing = Timing {
    ttl: std::time::Duration::from_secs(5),
    loop_wait: std::time::Duration::from_secs(1),
    retry_timeout: std::time::Duration::from_secs(1),
    reset_before: std::time::Duration::ZERO,
};

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
            names: StandbyNames::default(),
            names_of: NamesOf::User,
            setting: None,
            upstream: Upstream::None,
            streaming: false,
            slots: ServerSlots::default(),
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
            timing: TIMING,
            pause: Pause::Running,
            history_seen: 0,
            initialize_seen: 0,
            losses: 0,
            stale: None,
            eye: Eye::default(),
            asked: Asked::default(),
            data_fault: None,
            silent: None,
            never_probed: true,
            oldest: 0,
            half_rewound: false,
            starved_until: 0,
            replay: Replay::Going,
            promise: None,
            began: 0,
            vouchers: None,
            asking: None,
            exit_seen: false,
            situation: "not_started",
            steady_since: 0,
            alone_at: 0,
            raced: Raced::default(),
            was_wanted: false,
        }
    }

    pub fn address(&self) -> Address {
        Address { host: self.name.to_string(), port: 5432, database: "postgres".to_owned() }
    }

    /// The agent's process is new: it knows nothing but its lease and what PID 1 keeps.
    pub fn restart_agent(&mut self, back_at: u64) {
        // What is kept for the next process lets it notice again a loss after which this one still waits.
        if self.memory.amnesia.is_some() {
            self.losses = self.losses.saturating_sub(1);
        }
        // A file beside the data keeps these.
        let Memory { cluster, abandoned, outlived, failsafe_key, .. } = std::mem::take(&mut self.memory);
        self.memory = Memory { cluster, abandoned, outlived, failsafe_key, ..Memory::default() };
        self.abandon_job();
        self.stale = None;
        self.eye = Eye::default();
        self.never_probed = true;
        (self.promise, self.vouchers) = (None, None);
        self.began = back_at;
        self.asking = None;
        self.exit_seen = false;
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

    /// The ttl is another one: the lock may hang on a lease of that from now on.
    pub fn take_in_ttl(&mut self, now: u64) {
        let event = Event::TtlChanged { at: at(now), ttl: self.timing.ttl };
        self.memory = note(std::mem::take(&mut self.memory), &event);
        let until = self.memory.lease_valid_until.map(|until| guard_deadline(until, &self.timing));
        if let (Guard::Until(deadline), Some(until)) = (self.guard, until) {
            self.guard = Guard::Until(deadline.min(until));
        }
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
            _ if matches!(self.data_fault, Some((DataFault::Empty, _))) => DataDir::Empty,
            _ if self.data_fault.is_some() => DataDir::Unusable("it is not readable".to_owned()),
            None => DataDir::Empty,
            Some(system_id) => DataDir::Present(Data {
                system_id,
                signal: match (self.half_rewound, self.signal) {
                    (true, _) => RecoverySignal::RewindUnfinished,
                    (false, true) => RecoverySignal::Present,
                    (false, false) => RecoverySignal::None,
                },
                control: self.control(),
            }),
        };
        LocalState {
            watchdog: Watchdog::NotRequired,
            data,
            postgres: self.postgres(),
            job: self.job.as_ref().map(|(job, since, _)| RunningJob { job: job.clone(), since: at(*since) }),
            guard: self.guard,
            about: About::default(),
            branch: self.wal.branch(),
            sync: SyncFacts::default(),
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
        Some(Control { state, timeline, checkpoint: Lsn(self.wal.end), recovery_end: None, wal_end: None })
    }

    /// The role that a server without an answer has to be taken for.
    fn silent_as(&self) -> LastRole {
        let becomes = self.promotes_at.is_some() || self.job.as_ref().is_some_and(|(job, ..)| job.may_make_primary());
        match self.server {
            _ if becomes || self.never_probed => LastRole::Primary,
            Server::Starting { role, .. } => role,
            Server::Primary => LastRole::Primary,
            Server::Standby | Server::Down { .. } => LastRole::Standby,
        }
    }

    fn postgres(&self) -> Postgres {
        let timeline = Timeline(self.wal.timeline);
        if let Some((since, _)) = self.silent {
            return Postgres::Unresponsive { since: at(since), role: self.silent_as() };
        }
        match self.server {
            Server::Down { .. } => Postgres::Stopped,
            Server::Starting { role, since, .. } => Postgres::Starting { since: at(since), role },
            Server::Primary => {
                Postgres::Running(Running::Primary(PrimaryFacts { timeline, flushed: Lsn(self.wal.end) }))
            }
            Server::Standby => Postgres::Running(Running::Standby(StandbyFacts {
                timeline: Some(timeline),
                received: Lsn(self.wal.end),
                replayed: Lsn(self.wal.end),
                upstream: self.upstream.clone(),
                replication: self.streaming.then_some(ReplicationState::Streaming),
                replay: self.replay,
            })),
        }
    }

    pub fn record(&self) -> Member {
        let (rest, role) = match self.server {
            Server::Primary => (MemberState::Running, MemberRole::Primary),
            Server::Starting { role: LastRole::Primary, .. } => (MemberState::Starting, MemberRole::Primary),
            Server::Starting { role: LastRole::Standby, .. } => (MemberState::Starting, MemberRole::Replica),
            Server::Standby if matches!(self.job, Some((Job::Promote, ..))) => {
                (MemberState::Running, MemberRole::Promoted)
            }
            Server::Standby => (MemberState::Running, MemberRole::Replica),
            Server::Down { clean: true } => (MemberState::Stopped, MemberRole::Demoted),
            Server::Down { clean: false } => (MemberState::Crashed, MemberRole::Demoted),
        };
        let job = self.job.as_ref().map(|(job, ..)| job);
        let role = match job {
            Some(Job::Start(StartAs::Primary) | Job::Restart(StartAs::Primary)) => MemberRole::Primary,
            Some(Job::Stop { why, .. }) if *why != StopWhy::Shutdown && role == MemberRole::Primary => {
                MemberRole::Demoted
            }
            Some(_) | None => role,
        };
        let state = match job {
            Some(Job::Stop { .. }) if rest != MemberState::Stopped => MemberState::Stopping,
            Some(Job::Restart(_)) => MemberState::Restarting,
            Some(Job::Start(_)) => MemberState::Starting,
            Some(_) | None => rest,
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
        if self.silent.is_some() {
            return None;
        }
        let role = match self.server {
            Server::Primary => PeerRole::Primary,
            Server::Standby => PeerRole::Standby,
            Server::Down { .. } | Server::Starting { .. } => return None,
        };
        Some(PeerStatus {
            role,
            position: Lsn(self.wal.end),
            timeline: Some(Timeline(self.wal.timeline)),
            began: self.wal.branch().map(|branch| branch.began),
            is_abandoned: self.memory.abandoned.is_some_and(|abandoned| abandoned.timeline.0 == self.wal.timeline),
            tags: Tags::default(),
            watchdog: PeerWatchdog::Fine,
        })
    }
}
