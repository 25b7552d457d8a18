//! The world: time, faults, what actions do to servers and store, and the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tamada::core::invariants::one_writable;
use tamada::core::local::Guard;
use tamada::core::local::Upstream;
use tamada::core::observation::{DcsOutage, Event, Observation, Requests};
use tamada::core::policy::{Mode, Pause, Policy, RewindPolicy, Switch, Timing};
use tamada::core::units::{MemberName, WallTime};
use tamada::core::view::{ClusterView, Holder, Initialize, Schedule, SwitchoverRequest, Tags};
use tamada::core::{decide, note};

use super::calls::Call;
use super::node::{Node, Phase, Server, at};
use super::rng::Rng;
use super::store::Store;

pub const TICK: u64 = 20;
const BEGIN: u64 = 1_000_000;
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
}

impl Layers {
    pub const ALL: Layers = Layers { guard: true, demotion: true, lease: true };
}

pub struct World {
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
    pub(super) timing: Timing,
    pub reached: BTreeSet<&'static str>,
    /// What an effect broke, for the next look of the oracle.
    pub(super) broken: Option<String>,
    pub(super) log: Vec<String>,
}

impl World {
    pub fn new(seed: u64, layers: Layers) -> Self {
        let seconds = Duration::from_secs;
        World {
            now: BEGIN,
            rng: Rng::new(seed),
            fails_over_at_once: seed % 2 == 1,
            calls_per_fault: [240, 80, 20][(seed % 3) as usize],
            layers,
            nodes: (1..=3).map(Node::new).collect(),
            store: Store::default(),
            store_down_until: 0,
            late: Vec::new(),
            cut_until: BTreeMap::new(),
            timing: Timing { ttl: seconds(5), loop_wait: seconds(1), retry_timeout: seconds(1) },
            reached: BTreeSet::new(),
            broken: None,
            log: Vec::new(),
        }
    }

    pub fn run(&mut self) -> Result<(), String> {
        while self.now < END {
            self.now += TICK;
            self.store.expire(self.now);
            self.late_arrivals();
            // A member that dies between its initdb and the cluster's `initialize` key needs a person; that is another
            // story than the ones told here.
            if self.is_faulty() && matches!(self.store.initialize, Initialize::Done(_)) {
                self.fault();
            }
            for index in 0..self.nodes.len() {
                self.guard(index);
                self.finish_promotion(index);
                self.finish_job(index);
                self.write_and_stream(index);
                self.agent(index);
                self.one_primary()?;
                if let Some(what) = self.broken.take() {
                    return Err(self.with_log(&what));
                }
            }
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
        self.log.join("\n")
    }

    fn with_log(&self, what: &str) -> String {
        let tail = &self.log[self.log.len().saturating_sub(60)..];
        format!("{what}\n{}", tail.join("\n"))
    }

    fn one_primary(&self) -> Result<(), String> {
        let primaries = self.nodes.iter().filter(|node| node.server == Server::Primary);
        one_writable(primaries.map(|node| node.name.as_str()))
            .map_err(|what| self.with_log(&format!("{what} at {}", self.now)))
    }

    /// A server becomes writable by a promotion or a start: then the leader key must hang on this node's living lease.
    ///
    /// Two ways to be writable are no business of this oracle. A bootstrap makes a primary before there is a lock: its
    /// cluster has no other member yet, and the claim on `initialize` keeps a second one from being made. And a primary
    /// may outlive its lock for a while, as long as nobody else is one: that is for `one_primary` to judge.
    pub(super) fn becomes_writable(&mut self, index: usize, how: &str) {
        let node = &self.nodes[index];
        if !self.store.holds(node.lease) {
            let holder = self.store.leader.as_ref().map(|(name, _)| name.as_str());
            self.broken = Some(format!(
                "{} became a primary without the lock by a {how} at {}, the holder is {holder:?}",
                node.name, self.now
            ));
        }
    }

    /// Everybody streams from the holder of the lock.
    fn whole(&self) -> Result<(), String> {
        let Some((leader, _)) = &self.store.leader else { return Err("no leader in the end".to_owned()) };
        for node in &self.nodes {
            let fine = if node.name == *leader { node.server == Server::Primary } else { node.streaming };
            if !fine {
                return Err(format!(
                    "{} is {:?}, streaming: {}, leader {leader}",
                    node.name, node.server, node.streaming
                ));
            }
        }
        Ok(())
    }

    pub(super) fn connected(&self, index: usize) -> bool {
        let cut = self.cut_until.get(&self.nodes[index].name).is_some_and(|until| *until > self.now);
        !cut && self.store_down_until <= self.now
    }

    fn fault(&mut self) {
        if !self.rng.one_in(60) {
            return;
        }
        let index = self.rng.below(self.nodes.len() as u64) as usize;
        let long = self.rng.below(9_000);
        let what = self.rng.below(7);
        self.log.push(format!("{} fault {what} on n{} for {long}", self.now, index + 1));
        let (now, until) = (self.now, self.now + long);
        match what {
            0 => {
                // The node dies; the container comes back, with the lease id on its volume.
                self.nodes[index].crash_server();
                self.nodes[index].guard = Guard::NoDeadline;
                self.nodes[index].restart_agent(until);
            }
            1 => self.nodes[index].crash_server(),
            2 if self.layers.guard => {
                self.nodes[index].away_until = until;
                self.nodes[index].frozen = true;
            }
            2 | 3 => {
                self.cut_until.insert(self.nodes[index].name.clone(), until);
            }
            4 => self.store_down_until = now + long / 2,
            5 => self.nodes[index].restart_agent(now + long / 10),
            _ => self.ask_for_switchover(index),
        }
    }

    fn ask_for_switchover(&mut self, candidate: usize) {
        let Some((leader, _)) = self.store.leader.clone() else { return };
        let candidate = self.nodes[candidate].name.clone();
        let scheduled_at = Schedule::Now;
        self.store.request(|revision| SwitchoverRequest {
            leader: Some(leader),
            candidate: Some(candidate),
            scheduled_at,
            revision,
        });
        for node in &mut self.nodes {
            node.wake = self.now;
        }
    }

    /// PID 1: at the deadline everything of this node is killed, and the agent begins anew.
    fn guard(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let expired = matches!(node.guard, Guard::Until(deadline) if deadline <= at(self.now));
        if self.layers.guard && expired {
            self.log.push(format!("{} guard of {} kills", self.now, node.name));
            node.crash_server();
            node.guard = Guard::NoDeadline;
            node.restart_agent(self.now + 300);
        }
    }

    fn write_and_stream(&mut self, index: usize) {
        let wrote = self.rng.below(3);
        let node = &mut self.nodes[index];
        match node.server {
            Server::Primary => node.wal.end += wrote,
            Server::Down { .. } => node.streaming = false,
            Server::Standby => {
                let Upstream::Member { name, .. } = node.upstream.clone() else {
                    node.streaming = false;
                    return;
                };
                let source = self.nodes.iter().find(|other| other.name == name).expect("a member's name");
                let streams = source.server == Server::Primary && self.nodes[index].wal.fits(&source.wal);
                let wal = source.wal.clone();
                let lagging = self.rng.one_in(4);
                let node = &mut self.nodes[index];
                node.streaming = streams;
                if streams && !lagging {
                    node.wal = wal;
                }
            }
        }
    }

    pub(super) fn policy(&self, index: usize) -> Policy {
        Policy {
            name: self.nodes[index].name.clone(),
            mode: Mode::Cluster,
            timing: self.timing,
            pause: Pause::Running,
            maximum_lag_on_failover: 1 << 20,
            primary_start_timeout: Duration::from_secs(if self.fails_over_at_once { 0 } else { 300 }),
            stop_timeout: Duration::from_secs(60),
            rewind: RewindPolicy::Allowed,
            remove_diverged_data: Switch::On,
            remove_data_after_failed_rewind: Switch::On,
            tags: Tags::default(),
            bootstrap: Switch::On,
            refused_settings: Vec::new(),
        }
    }

    fn agent(&mut self, index: usize) {
        let node = &self.nodes[index];
        if node.away_until > self.now {
            return;
        }
        if node.frozen {
            self.nodes[index].frozen = false;
        }
        if let Some((when, ..)) = &self.nodes[index].acting {
            if *when <= self.now {
                self.act(index);
            }
            return;
        }
        let leader_gone = self.store.leader.is_none() && self.nodes[index].memory.unlocked_since.is_none();
        let leader_new = self.store.leader.is_some() && self.nodes[index].memory.unlocked_since.is_some();
        let down = matches!(self.nodes[index].server, Server::Down { .. }) && self.nodes[index].job.is_none();
        if self.nodes[index].wake <= self.now || leader_gone || leader_new || down {
            self.cycle(index);
        }
    }

    /// How long an agent stands still once in a while. Only the guard can make up for more than the stop's margin, which
    /// at this ttl is half a second; a world without it has agents that run.
    pub(super) fn stall(&mut self) -> u64 {
        let longest = if self.layers.guard { 3_000 } else { 300 };
        self.rng.below(longest)
    }

    fn read(&self, index: usize) -> Result<ClusterView, DcsOutage> {
        if !self.connected(index) {
            return Err(DcsOutage { error: "cut".to_owned() });
        }
        let mut view = self.store.view(self.nodes[index].lease);
        let is_misread = !self.layers.lease && self.nodes[index].server == Server::Standby;
        if let Some(leader) = view.leader.as_mut().filter(|_| is_misread) {
            leader.holder = Holder::Us;
        }
        Ok(view)
    }

    fn cycle(&mut self, index: usize) {
        let cluster = self.read(index);
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.checkpoint_done_at.is_some_and(|done| done <= now) {
            node.checkpoint_done_at = None;
            node.memory = note(std::mem::take(&mut node.memory), &Event::CheckpointDone);
        }
        let seen = Observation {
            now: at(now),
            wall: WallTime(now as i64),
            cluster,
            local: node.observe(),
            peers: node.peers.clone(),
            divergence: node.divergence.clone(),
            requests: Requests::default(),
            memory: node.memory.clone(),
        };
        let decision = decide(&self.policy(index), &seen);
        self.reached.insert(decision.reason.code());
        self.log.push(format!("{now} {} {} [{:?}]", self.nodes[index].name, decision.reason, decision.lease));
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
