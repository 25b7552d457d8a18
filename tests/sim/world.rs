//! The world: time, faults, what actions do to servers and store, and the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tamada::core::decision::{Decision, DocumentStep, LeaseStep, PostgresStep, Question, Wake};
use tamada::core::lease::{call_limit, guard_deadline, stop_deadline};
use tamada::core::local::{Job, Running, StartAs, StopMode, StopWhy, Upstream};
use tamada::core::observation::{
    DcsOutage, Divergence, DivergenceReport, Event, FinishedJob, JobProduct, JobResult, LeaseOutcome, Memory,
    Observation, Outcome, PeerAnswer, PeerReport, Requests,
};
use tamada::core::policy::{Mode, Pause, Policy, RewindPolicy, Switch, Timing};
use tamada::core::units::{Lsn, MemberName, SystemId, Timeline, WallTime};
use tamada::core::view::{HistoryEntry, Initialize, Schedule, SwitchoverRequest, Tags};
use tamada::core::{decide, learn, next_wake, note};

use super::node::{Node, Phase, Server, at};
use super::rng::Rng;
use super::store::Store;

const TICK: u64 = 20;
const FAULTS_UNTIL: u64 = 60_000;
const END: u64 = FAULTS_UNTIL + 90_000;

#[derive(Clone, Copy)]
pub struct Layers {
    /// PID 1 kills at the deadline.
    pub guard: bool,
    /// The agent stops a primary that lost its lock. Without it such stops are not carried out.
    pub demotion: bool,
}

pub struct World {
    now: u64,
    rng: Rng,
    layers: Layers,
    nodes: Vec<Node>,
    store: Store,
    store_down_until: u64,
    cut_until: BTreeMap<MemberName, u64>,
    timing: Timing,
    pub reached: BTreeSet<&'static str>,
    log: Vec<String>,
}

impl World {
    pub fn new(seed: u64, layers: Layers) -> Self {
        let seconds = Duration::from_secs;
        World {
            now: 1_000_000,
            rng: Rng::new(seed),
            layers,
            nodes: (1..=3).map(Node::new).collect(),
            store: Store::default(),
            store_down_until: 0,
            cut_until: BTreeMap::new(),
            timing: Timing { ttl: seconds(5), loop_wait: seconds(1), retry_timeout: seconds(1) },
            reached: BTreeSet::new(),
            log: Vec::new(),
        }
    }

    pub fn run(&mut self) -> Result<(), String> {
        let begun = self.now;
        while self.now - begun < END {
            self.now += TICK;
            self.store.expire(self.now);
            // A member that dies between its initdb and the cluster's `initialize` key needs a person; that is another
            // story than the ones told here.
            if self.now - begun < FAULTS_UNTIL && matches!(self.store.initialize, Initialize::Done(_)) {
                self.fault();
            }
            for index in 0..self.nodes.len() {
                self.guard(index);
                self.finish_job(index);
                self.write_and_stream(index);
                self.agent(index);
                self.one_primary()?;
            }
            if self.now - begun > FAULTS_UNTIL + 30_000 && self.whole().is_ok() {
                return Ok(());
            }
        }
        self.whole().map_err(|what| self.with_log(&what))
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
        let primaries: Vec<_> = self.nodes.iter().filter(|node| node.server == Server::Primary).collect();
        if primaries.len() > 1 {
            let names: Vec<_> = primaries.iter().map(|node| node.name.as_str()).collect();
            return Err(self.with_log(&format!("two writable primaries {names:?} at {}", self.now)));
        }
        Ok(())
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

    fn connected(&self, index: usize) -> bool {
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
                self.nodes[index].guard = None;
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
        if self.layers.guard && node.guard.is_some_and(|deadline| deadline <= self.now) {
            self.log.push(format!("{} guard of {} kills", self.now, node.name));
            node.crash_server();
            node.guard = None;
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

    fn policy(&self, index: usize) -> Policy {
        Policy {
            name: self.nodes[index].name.clone(),
            mode: Mode::Cluster,
            timing: self.timing,
            pause: Pause::Running,
            maximum_lag_on_failover: 1 << 20,
            check_timeline: Switch::Off,
            primary_start_timeout: Duration::from_secs(300),
            rewind: RewindPolicy::Allowed,
            remove_diverged_data: Switch::On,
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

    fn cycle(&mut self, index: usize) {
        let cluster = if self.connected(index) {
            Ok(self.store.view(self.nodes[index].lease))
        } else {
            Err(DcsOutage { error: "cut".to_owned() })
        };
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
        let pause = if self.rng.one_in(200) { self.rng.below(2_000) } else { self.rng.below(30) };
        self.nodes[index].acting = Some((now + pause, Phase::TakeAndLease, Box::new(decision), Box::new(seen)));
    }

    fn act(&mut self, index: usize) {
        let Some((_, phase, decision, seen)) = self.nodes[index].acting.take() else { return };
        match phase {
            Phase::TakeAndLease => self.take_and_lease(index, decision, seen),
            Phase::Give => {
                let outcome = self.give(index, &decision, &seen);
                self.end_cycle(index, &decision, &seen, outcome);
            }
        }
    }

    /// (1) what takes authority away, (2) the lease.
    fn take_and_lease(&mut self, index: usize, mut decision: Box<Decision>, mut seen: Box<Observation>) {
        let mut started = None;
        if let PostgresStep::Stop { mode, why, limit } = &decision.postgres
            && (self.layers.demotion || *why != StopWhy::LostLock)
        {
            let takes = self.rng.below(300).min(limit.as_millis() as u64).max(20);
            let job = Job::Stop { mode: *mode, why: *why };
            self.nodes[index].job = Some((job.clone(), self.now, self.now + takes));
            started = Some(job);
        }
        let (lease, takes) = self.lease_step(index, &decision.lease);
        // What (2) brought is kept in the memory at once, as the shell does.
        let outcome = Outcome { now: at(self.now), lease, started, asked: None, reason: decision.reason.clone() };
        let node = &mut self.nodes[index];
        node.memory = learn(std::mem::take(&mut node.memory), &seen, &outcome);
        decision.wake = next_wake(decision.wake, &outcome);
        seen.memory = node.memory.clone();
        let pause = if self.rng.one_in(200) { self.rng.below(3_000) } else { 0 };
        self.nodes[index].acting = Some((self.now + takes + pause, Phase::Give, decision, seen));
    }

    fn lease_step(&mut self, index: usize, step: &LeaseStep) -> (LeaseOutcome, u64) {
        let begun = self.now;
        let latency = self.rng.below(60);
        let ttl = self.timing.ttl.as_millis() as u64;
        let connected = self.connected(index);
        let (name, lease) = (self.nodes[index].name.clone(), self.nodes[index].lease);
        let held = match step {
            LeaseStep::Keep => return (LeaseOutcome::None, 0),
            LeaseStep::Acquire | LeaseStep::Renew | LeaseStep::Release { .. } if !connected => {
                let until = self.nodes[index].memory.lease_valid_until;
                return (LeaseOutcome::Unknown, call_limit(until, &self.timing, at(begun)).as_millis() as u64);
            }
            LeaseStep::Acquire => {
                self.store.keep(lease, begun + self.rng.below(latency + 1), ttl);
                self.store.acquire(&name, lease)
            }
            LeaseStep::Renew => {
                self.store.keep(lease, begun + self.rng.below(latency + 1), ttl);
                if self.store.holds(lease) && self.nodes[index].server == Server::Primary {
                    self.store.status.optime = Some(Lsn(self.nodes[index].wal.end));
                    self.store.status.released_by = None;
                }
                self.store.holds(lease)
            }
            LeaseStep::Release { last_position } => {
                self.store.release(&name, lease, *last_position);
                return (LeaseOutcome::Released, latency);
            }
        };
        if !held {
            return (LeaseOutcome::Lost, latency);
        }
        let until = at(begun) + self.timing.ttl;
        self.nodes[index].guard = Some(guard_deadline(until, &self.timing).0.as_millis() as u64);
        (LeaseOutcome::Held { until }, latency)
    }

    /// (3) what gives authority, documents, questions.
    fn give(&mut self, index: usize, decision: &Decision, seen: &Observation) -> Outcome {
        let mut claimed = true;
        for document in &decision.documents {
            claimed &= self.document(index, document, seen);
        }
        let started = self.start_job(decision, seen).filter(|_| claimed);
        if let Some(job) = &started {
            let takes = 40 + self.rng.below(600);
            self.nodes[index].job = Some((job.clone(), self.now, self.now + takes));
        }
        if let Some(question) = &decision.ask {
            self.ask(index, question);
        }
        Outcome {
            now: at(self.now),
            lease: LeaseOutcome::None,
            started,
            asked: decision.ask.clone(),
            reason: decision.reason.clone(),
        }
    }

    fn start_job(&self, decision: &Decision, seen: &Observation) -> Option<Job> {
        let job = match &decision.postgres {
            PostgresStep::Leave | PostgresStep::Stop { .. } | PostgresStep::ResumeReplay => return None,
            PostgresStep::Start(role) => Job::Start(role.clone()),
            PostgresStep::Restart(role) => Job::Restart(role.clone()),
            PostgresStep::Promote => Job::Promote,
            PostgresStep::Follow(upstream) => Job::Follow(upstream.clone()),
            PostgresStep::Bootstrap => Job::Bootstrap,
            PostgresStep::Clone(from) => Job::Clone { from: from.clone() },
            PostgresStep::Reinitialize { from, why } => Job::Reinitialize { from: from.clone(), why: *why },
            PostgresStep::Rewind { from } => Job::Rewind { from: from.clone() },
            PostgresStep::Recover => Job::Recover,
        };
        // The shell looks at the clock once more before it gives authority.
        let authority = matches!(job, Job::Promote | Job::Start(StartAs::Primary));
        let until = seen.memory.lease_valid_until;
        if authority && until.is_none_or(|until| at(self.now) >= stop_deadline(until, &self.timing)) {
            return None;
        }
        Some(job)
    }

    fn end_cycle(&mut self, index: usize, decision: &Decision, seen: &Observation, outcome: Outcome) {
        let connected = self.connected(index);
        let ttl = self.timing.ttl.as_millis() as u64;
        let now = self.now;
        let node = &mut self.nodes[index];
        let mut memory = std::mem::take(&mut node.memory);
        if outcome.started.is_some() {
            memory = learn_started_only(memory, seen, &outcome);
        }
        node.memory = memory;
        let standby = matches!(seen.local.postgres, tamada::core::local::Postgres::Running(Running::Standby(_)));
        if (standby || matches!(node.server, Server::Down { .. })) && node.job.is_none() && seen.cluster.is_ok() {
            node.guard = if node.memory.lease_valid_until.is_some() { node.guard } else { None };
        }
        if connected {
            let (name, lease, record) = (node.name.clone(), node.lease, node.record());
            self.store.keep(lease, now, ttl);
            self.store.members.insert(name, (record, lease));
        }
        self.nodes[index].wake = match decision.wake {
            Wake::Now => now,
            Wake::At(instant) => (instant.0.as_millis() as u64).max(now + TICK),
        };
    }

    fn document(&mut self, index: usize, step: &DocumentStep, seen: &Observation) -> bool {
        if !self.connected(index) {
            return false;
        }
        match step {
            DocumentStep::ClaimInitialize => {
                let free = self.store.initialize == Initialize::Absent && self.store.claim.is_none();
                if free {
                    let lease = self.nodes[index].lease;
                    self.store.keep(lease, self.now, self.timing.ttl.as_millis() as u64);
                    self.store.claim = Some(lease);
                }
                return free;
            }
            DocumentStep::UnclaimInitialize => self.store.claim = None,
            DocumentStep::SetInitialize(id) => self.store.set_initialize(*id),
            DocumentStep::RestoreConfig => {}
            DocumentStep::ClearSwitchover { seen } => {
                self.store.switchover = self.store.switchover.take().filter(|request| request.revision != *seen);
            }
            DocumentStep::UpdateHistory => {
                let me = seen.cluster.as_ref().ok().and_then(|view| view.leader.clone()).map(|leader| leader.name);
                let entry = |&(left, end): &(u32, u64)| HistoryEntry {
                    left: Timeline(left),
                    at: Lsn(end),
                    reason: String::new(),
                    time: None,
                    new_leader: me.clone(),
                };
                self.store.set_history(self.nodes[index].wal.left.iter().map(entry).collect());
            }
        }
        true
    }

    fn ask(&mut self, index: usize, question: &Question) {
        let now = at(self.now);
        match question {
            Question::Checkpoint => self.nodes[index].checkpoint_done_at = Some(self.now + 300),
            Question::Peers(peers) => {
                let mut soon = self.now + 20;
                for (peer, limit) in peers {
                    let found = self.nodes.iter().position(|other| other.name == *peer).expect("a member's name");
                    let reachable = self.nodes[found].away_until <= self.now;
                    let status = self.nodes[found].answer().filter(|_| reachable);
                    if !reachable {
                        soon = self.now + limit.as_millis() as u64;
                    }
                    let answer = status.map_or(PeerAnswer::Unreachable, PeerAnswer::Status);
                    self.nodes[index].peers.insert(peer.clone(), PeerReport { asked_at: now, answer });
                }
                self.nodes[index].away_until = soon;
                self.nodes[index].wake = soon;
            }
            Question::Divergence { leader } => {
                let source = self.nodes.iter().find(|other| other.name == *leader).expect("a member's name");
                let divergence = match (source.server, self.nodes[index].wal.fits(&source.wal)) {
                    (Server::Primary, true) => Divergence::None,
                    (Server::Primary, false) => Divergence::Diverged,
                    (Server::Standby | Server::Down { .. }, _) => Divergence::Undecided,
                };
                self.nodes[index].divergence =
                    Some(DivergenceReport { leader: leader.clone(), asked_at: now, divergence });
                self.nodes[index].wake = self.now + 20;
            }
        }
    }

    fn finish_job(&mut self, index: usize) {
        let Some((job, _, ends)) = self.nodes[index].job.clone() else { return };
        if ends > self.now {
            return;
        }
        self.nodes[index].job = None;
        let result = self.job_effect(index, &job);
        self.log.push(format!("{} {} job {job}: {result:?}", self.now, self.nodes[index].name));
        let ended = FinishedJob { job, at: at(self.now), result };
        let node = &mut self.nodes[index];
        node.memory = note(std::mem::take(&mut node.memory), &Event::JobEnded(ended));
        node.wake = self.now;
    }

    fn job_effect(&mut self, index: usize, job: &Job) -> JobResult {
        let done = JobResult::Done(JobProduct::Nothing);
        let failed = |why: &str| JobResult::Failed(why.to_owned());
        let source = |name: &MemberName| self.nodes.iter().find(|other| other.name == *name).expect("a member");
        match job {
            Job::Bootstrap => {
                let id = SystemId(1_000_000_000 + self.rng.below(1 << 40));
                let node = &mut self.nodes[index];
                node.data = Some(id);
                node.wal.timeline = 1;
                node.wal.end = 1_000;
                node.server = Server::Primary;
                JobResult::Done(JobProduct::Initialized(id))
            }
            Job::Clone { from } | Job::Reinitialize { from, .. } => {
                let source = source(&from.name);
                if matches!(source.server, Server::Down { .. }) {
                    return failed("the source does not run");
                }
                let (data, wal) = (source.data, source.wal.clone());
                let node = &mut self.nodes[index];
                (node.data, node.wal, node.signal) = (data, wal, true);
                node.server = Server::Down { clean: true };
                done
            }
            Job::Rewind { from } => {
                let source = source(from);
                if source.server != Server::Primary {
                    return failed("the source is no primary");
                }
                self.nodes[index].wal = source.wal.clone();
                done
            }
            Job::Recover => {
                self.nodes[index].server = Server::Down { clean: true };
                done
            }
            Job::Start(role) | Job::Restart(role) => {
                let node = &mut self.nodes[index];
                match role {
                    StartAs::Primary => (node.server, node.signal) = (Server::Primary, false),
                    StartAs::Standby(upstream) => {
                        (node.server, node.signal, node.upstream) = (Server::Standby, true, upstream.clone());
                    }
                }
                done
            }
            Job::Stop { mode, .. } => self.stop_effect(index, *mode),
            Job::Promote => {
                let node = &mut self.nodes[index];
                if node.server != Server::Standby {
                    return failed("no standby runs");
                }
                node.wal.left.push((node.wal.timeline, node.wal.end));
                node.wal.timeline += 1;
                (node.server, node.signal, node.streaming) = (Server::Primary, false, false);
                done
            }
            Job::Follow(upstream) => {
                self.nodes[index].upstream = upstream.clone();
                done
            }
        }
    }

    fn stop_effect(&mut self, index: usize, mode: StopMode) -> JobResult {
        let clean = mode != StopMode::Immediate;
        let was = self.nodes[index].server;
        if clean && was == Server::Primary {
            // A fast shutdown sends everything to the standbys that stream.
            let (name, wal) = (self.nodes[index].name.clone(), self.nodes[index].wal.clone());
            for other in &mut self.nodes {
                let streams = matches!(&other.upstream, Upstream::Member { name: from, .. } if *from == name);
                if streams && other.streaming && other.server == Server::Standby {
                    other.wal = wal.clone();
                }
            }
        }
        let node = &mut self.nodes[index];
        node.streaming = false;
        let already = matches!(was, Server::Down { .. });
        if !already {
            node.server = Server::Down { clean };
        }
        let position = Lsn(node.wal.end);
        match clean && was == Server::Primary {
            true => JobResult::Done(JobProduct::StoppedAt(position)),
            false => JobResult::Done(JobProduct::Nothing),
        }
    }
}

/// The second half of a cycle teaches only what it started; the rest was learnt with the lease.
fn learn_started_only(memory: Memory, seen: &Observation, outcome: &Outcome) -> Memory {
    let unchanged = Observation { memory: memory.clone(), ..seen.clone() };
    let held = memory.lease_valid_until.map_or(LeaseOutcome::None, |until| LeaseOutcome::Held { until });
    learn(memory, &unchanged, &Outcome { lease: held, ..outcome.clone() })
}
