//! The world: time, and what its members see and decide.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tamada::core::decision::LeaseStep;
use tamada::core::local::{Guard, Job, LocalState, StopMode, Upstream};
use tamada::core::observation::{Event, Observation, ReinitRequest, Requests, RestartRequest};
use tamada::core::policy::{Pause, Policy, Switch, Timing};
use tamada::core::reason::Reason;
use tamada::core::units::{MemberName, SystemId, WallTime};
use tamada::core::view::Initialize;
use tamada::core::{decide, note};

use super::calls::Call;
use super::failsafe::Failsafe;
use super::log::{Log, Told};
use super::node::{Node, Phase, Server, TIMING, Wal, at};
use super::oracles::Raced;
use super::policy::policy_of;
use super::rng::Rng;
use super::slots::{Scheduled, slot_settings};
use super::store::{Expiry, Store};

pub const TICK: u64 = 20;
pub const BEGIN: u64 = 1_000_000;
const FAULTS_UNTIL: u64 = BEGIN + 60_000;
const END: u64 = FAULTS_UNTIL + 90_000;

#[derive(Clone, Copy)]
pub struct Layers {
    /// PID 1 kills at the deadline.
    pub guard: bool,
    /// The agent stops a primary that lost its lock. Without it such stops are not carried out.
    pub demotion: bool,
    /// The lock is ours only if the leader key hangs on our lease. Without it any leader key counts as a
    /// standby's own (one without data would never get any).
    pub lease: bool,
    pub expiry: Expiry,
    /// Whether the cluster replicates synchronously: how is the seed's to say.
    pub sync: bool,
    pub failsafe: Failsafe,
    /// Whether the cluster becomes a standby cluster for a while.
    pub standby: bool,
}

impl Layers {
    pub const ALL: Layers = Layers {
        guard: true,
        demotion: true,
        lease: true,
        expiry: Expiry::ByStore,
        sync: false,
        failsafe: Failsafe::Off,
        standby: false,
    };
}

pub struct World {
    pub(super) seed: u64,
    pub(super) now: u64,
    pub(super) rng: Rng,
    /// Of so many calls to the store one comes late, one twice, and one is not answered.
    pub(super) calls_per_fault: u64,
    /// A crashed primary gives the lock up rather than to start in place.
    fails_over_at_once: bool,
    pub(super) layers: Layers,
    pub(super) nodes: Vec<Node>,
    pub(super) store: Store,
    pub(super) store_down_until: u64,
    /// Calls that arrive when nobody waits for their answers any more: when, and what.
    pub(super) late: Vec<(u64, Call)>,
    pub(super) cut_until: BTreeMap<MemberName, u64>,
    /// Cut off from the other members too: nobody is answered, nothing is replicated.
    pub(super) alone_until: BTreeMap<MemberName, u64>,
    pub(super) timing: Timing,
    pub reached: BTreeSet<&'static str>,
    /// Which fault has met which decision's reason.
    pub covered: BTreeSet<(&'static str, &'static str)>,
    /// `maximum_lag_on_failover`.
    pub(super) lag_max: u64,
    pub(super) stop_timeout: Duration,
    pub(super) pause_until: u64,
    /// Since when all members should know of the standby cluster.
    pub(super) standby_since: u64,
    /// Of each member, by the configuration that it read last.
    pub(super) in_standby_cluster: [bool; 3],
    pub(super) scheduled: Option<Scheduled>,
    pub(super) backup: Option<Box<Store>>,
    /// When the store lost its data last.
    pub(super) forgot_at: u64,
    /// Nothing goes wrong before then.
    pub(super) calm_until: u64,
    /// When a person removed the leader key last.
    pub(super) key_removed_at: u64,
    /// The cluster that was initialised first.
    pub(super) cluster: Option<SystemId>,
    /// What clients were told that it is written, as its last primary has it.
    pub(super) acknowledged: Wal,
    /// The last release that said that nothing would be lost: when, and at which position.
    pub(super) released: Option<(u64, u64)>,
    /// What an effect broke, for the next look of the oracle.
    pub(super) broken: Option<String>,
    pub(super) log: Log,
}

impl World {
    pub fn new(seed: u64, layers: Layers, told: Told) -> Self {
        let seconds = Duration::from_secs;
        World {
            seed,
            now: BEGIN,
            rng: Rng::new(seed),
            fails_over_at_once: seed % 2 == 1,
            calls_per_fault: [240, 80, 20][(seed % 3) as usize],
            layers,
            nodes: (1..=3).map(Node::new).collect(),
            store: Store::new(layers.expiry),
            store_down_until: 0,
            late: Vec::new(),
            cut_until: BTreeMap::new(),
            alone_until: BTreeMap::new(),
            timing: TIMING,
            reached: BTreeSet::new(),
            covered: BTreeSet::new(),
            lag_max: [1 << 20, 200, 30][(seed / 2 % 3) as usize],
            stop_timeout: seconds([60, 8][(seed / 6 % 2) as usize]),
            pause_until: 0,
            standby_since: 0,
            in_standby_cluster: [false; 3],
            scheduled: (seed % 5 == 4).then_some(Scheduled { index: 1, at: BEGIN + 45_000, begun: 0, is_over: false }),
            backup: None,
            forgot_at: 0,
            key_removed_at: 0,
            calm_until: 0,
            cluster: None,
            acknowledged: Wal::default(),
            released: None,
            broken: None,
            log: Log::new(told),
        }
    }

    pub fn run(&mut self) -> Result<(), String> {
        while self.now < END {
            self.now += TICK;
            self.store.expire(self.now);
            self.late_arrivals();
            self.faults_end();
            // A member that dies between its initdb and the cluster's `initialize` key needs a person; that is another
            // story than the ones told here.
            if self.is_faulty() && matches!(self.store.initialize, Initialize::Done(_)) {
                self.fault();
            }
            for index in 0..self.nodes.len() {
                self.guard(index);
                self.finish_promotion(index);
                self.finish_start(index);
                self.finish_job(index);
                self.finish_setting(index);
                self.write_and_stream(index);
                self.agent(index);
                self.judge()?;
                self.none_writable()?;
            }
            self.notice_steady();
            if self.now > FAULTS_UNTIL + 30_000 && self.whole().is_ok() {
                return Ok(());
            }
        }
        self.whole().map_err(|what| self.with_log(&what))
    }

    pub(super) fn is_faulty(&self) -> bool {
        self.now < FAULTS_UNTIL
    }

    /// All that happened.
    pub fn story(&self) -> String {
        self.log.last(usize::MAX)
    }

    pub(super) fn with_log(&self, what: &str) -> String {
        format!("{what}\n{}", self.log.last(60))
    }

    pub(super) fn connected(&self, index: usize) -> bool {
        let cut = self.cut_until.get(&self.nodes[index].name).is_some_and(|until| *until > self.now);
        !cut && self.store_down_until <= self.now
    }

    /// Whether two members reach each other.
    pub(super) fn reaches(&self, index: usize, other: usize) -> bool {
        index == other || !(self.is_alone(index) || self.is_alone(other))
    }

    pub(super) fn is_alone(&self, index: usize) -> bool {
        self.alone_until.get(&self.nodes[index].name).is_some_and(|until| *until > self.now)
    }

    /// PID 1: at the deadline everything of this node is killed, and the agent begins anew.
    fn guard(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let expired = matches!(node.guard, Guard::Until(deadline) if deadline <= at(self.now));
        if !expired {
            return;
        }
        // Without this layer it does not kill, but it does not keep a deadline that is over either.
        node.guard = Guard::NoDeadline;
        if self.layers.guard {
            self.log.add(|| format!("{} guard of {} kills", self.now, node.name));
            node.crash_server();
            node.restart_agent(self.now + 300);
        }
    }

    fn write_and_stream(&mut self, index: usize) {
        let wrote = self.rng.below(3);
        let lagging = self.rng.one_in(4);
        let now = self.now;
        let node = &mut self.nodes[index];
        match node.server {
            Server::Primary => {
                let stops =
                    matches!(&node.job, Some((Job::Stop { mode: StopMode::Fast | StopMode::Immediate, .. }, ..)));
                if !stops && wrote > 0 {
                    node.wal.end += wrote;
                    self.acknowledge(index);
                }
            }
            Server::Down { .. } | Server::Starting { .. } => node.streaming = false,
            Server::Standby => {
                let Upstream::Member { name, .. } = &self.nodes[index].upstream else {
                    self.nodes[index].streaming = false;
                    return;
                };
                let found = self.nodes.iter().position(|other| other.name == *name).expect("a member's name");
                let (node, source) = (&self.nodes[index], &self.nodes[found]);
                let is_source = source.server == Server::Primary
                    || (source.server == Server::Standby && source.upstream.is_elsewhere());
                let streams = is_source
                    && self.reaches(index, found)
                    && node.wal.fits(&source.wal)
                    && node.wal.end >= source.oldest;
                let received = streams && !lagging && node.starved_until <= now && node.wal != source.wal;
                let wal = received.then(|| source.wal.clone());
                let node = &mut self.nodes[index];
                node.streaming = streams;
                if let Some(wal) = wal {
                    node.wal = wal;
                }
            }
        }
    }

    /// Since when each member has been a standby that answers and reaches the store.
    fn notice_steady(&mut self) {
        for index in 0..self.nodes.len() {
            let (now, is_alone) = (self.now, self.is_alone(index));
            let connected = self.connected(index) && !is_alone;
            let node = &mut self.nodes[index];
            if is_alone {
                node.alone_at = now;
            }
            let is_quiet = node.away_until <= now && node.silent.is_none() && node.stale.is_none();
            let is_asked = node.asked.shutdown.is_some() || node.data_fault.is_some();
            let is_steady = node.server == Server::Standby && connected && is_quiet && !is_asked;
            // One whose record has expired is passed over (ADR 8).
            let is_there = self.store.members.contains_key(&node.name);
            if !is_steady || !is_there || node.pause == Pause::Paused || self.forgot_at + 8_000 > now {
                node.steady_since = now;
            }
        }
    }

    pub(super) fn policy(&self, index: usize) -> Policy {
        Policy {
            timing: self.nodes[index].timing,
            pause: self.nodes[index].pause,
            cluster: self.kind(index),
            maximum_lag_on_failover: self.lag_max,
            primary_start_timeout: Duration::from_secs(if self.fails_over_at_once { 0 } else { 300 }),
            stop_timeout: self.stop_timeout,
            synchronous: self.synchronous(),
            failsafe: Switch::from(self.layers.failsafe != Failsafe::Off),
            slots: slot_settings(),
            ..policy_of(self.nodes[index].name.clone())
        }
    }

    fn agent(&mut self, index: usize) {
        let node = &self.nodes[index];
        if node.away_until > self.now {
            return;
        }
        self.nodes[index].frozen = false;
        self.take_answers(index);
        if let Some((when, ..)) = &self.nodes[index].acting {
            if *when <= self.now {
                self.act(index);
            }
            return;
        }
        let hears = self.connected(index) && self.nodes[index].stale.is_none();
        let knows_leader = self.nodes[index].memory.unlocked_since.is_none();
        if hears {
            self.look(index);
        }
        let is_led = self.is_led(index);
        let leader_gone = hears && !is_led && knows_leader;
        let leader_new = hears && is_led && !knows_leader;
        let down = matches!(self.nodes[index].server, Server::Down { .. }) && self.nodes[index].job.is_none();
        let down = down && !self.nodes[index].exit_seen;
        if self.nodes[index].wake <= self.now || leader_gone || leader_new || down {
            self.cycle(index);
        }
    }

    /// What peers have answered to the last question.
    fn take_answers(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if let Some((_, reports)) = node.asking.take_if(|(at, _)| *at <= now) {
            node.peers.extend(reports);
            node.wake = now;
        }
    }

    /// How long an agent stands still once in a while. Only the guard can make up for more than the stop's margin, which
    /// at this ttl is half a second; a world without it has agents that run. In a calm none does.
    pub(super) fn stall(&mut self) -> u64 {
        let longest = if self.layers.guard { 3_000 } else { 300 };
        let stall = self.rng.below(longest);
        if self.now < self.calm_until { 0 } else { stall }
    }

    fn cycle(&mut self, index: usize) {
        let (cluster, read_at) = self.observe_store(index);
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.checkpoint_done_at.is_some_and(|done| done <= now) {
            node.checkpoint_done_at = None;
            node.memory = note(std::mem::take(&mut node.memory), &Event::CheckpointDone);
        }
        node.never_probed &= node.silent.is_some();
        node.exit_seen = matches!(node.server, Server::Down { .. });
        // Not only read as ours: believed.
        if !self.layers.lease && cluster.as_ref().is_ok_and(|view| view.leader.is_some()) {
            node.memory.lease_valid_until = Some(at(now) + node.timing.ttl);
        }
        let asked = node.asked;
        let scheduled = self.scheduled_for(index);
        let node = &self.nodes[index];
        let seen = Observation {
            now: at(now),
            wall: WallTime(now as i64),
            cluster,
            local: LocalState { sync: self.sync_facts(index), ..node.observe() },
            peers: node.peers.clone(),
            divergence: node.divergence.clone(),
            requests: Requests {
                shutdown: asked.shutdown,
                restart: (asked.restart_until > now).then_some(RestartRequest { timeout: None }),
                reinitialize: (asked.reinitialize_until > now).then_some(ReinitRequest::AnySource),
                scheduled,
            },
            failsafe: self.failsafe(index),
            retained_slots: BTreeSet::new(),
            memory: node.memory.clone(),
        };
        let policy = self.policy(index);
        let decision = decide(&policy, &seen);
        let node = &mut self.nodes[index];
        // Whoever takes again what is still valid has been judged.
        let races = matches!(decision.lease, LeaseStep::Acquire { .. }) && decision.reason != Reason::StoreForgotMyLock;
        if let (true, Ok(view)) = (races, &seen.cluster) {
            node.raced = Raced::on(view, &seen, read_at, &policy);
            node.was_wanted |= node.raced.by_hand;
        }
        node.situation = decision.reason.code();
        self.reached.insert(decision.reason.code());
        self.log.add(|| format!("{now} {} {} [{:?}]", self.nodes[index].name, decision.reason, decision.lease));
        // Between observing and acting the world goes on; once in a while for long.
        let pause = if self.rng.one_in(200) { self.stall() } else { self.rng.below(30) };
        self.nodes[index].acting = Some((now + pause, Phase::TakeAndLease, Box::new(decision), Box::new(seen)));
    }

    pub(super) fn act(&mut self, index: usize) {
        let Some((_, phase, decision, seen)) = self.nodes[index].acting.take() else { return };
        match phase {
            Phase::TakeAndLease => self.take_and_lease(index, decision, seen),
            Phase::Give => {
                let outcome = self.give(index, &decision, &seen);
                self.end_cycle(index, &decision, &seen, outcome);
            }
        }
    }
}
