//! What a decision's slots do to the store and to the servers, in the order in which the shell carries them out.

use tamada::core::decision::{Decision, DocumentStep, LeaseStep, PostgresStep, Question, Wake};
use tamada::core::lease::{call_limit, guard_deadline, stop_deadline};
use tamada::core::local::{Job, Postgres, Running, StartAs, StopWhy};
use tamada::core::observation::{
    Divergence, DivergenceReport, LeaseOutcome, Memory, Observation, Outcome, PeerAnswer, PeerReport,
};
use tamada::core::units::{Lsn, Timeline};
use tamada::core::view::{HistoryEntry, Initialize};
use tamada::core::{learn, next_wake};

use super::calls::Call;
use super::node::{Phase, Server, at};
use super::world::{TICK, World};

impl World {
    /// (1) what takes authority away, (2) the lease.
    pub(super) fn take_and_lease(&mut self, index: usize, mut decision: Box<Decision>, mut seen: Box<Observation>) {
        let mut started = None;
        if let PostgresStep::Stop { mode, why, limit } = &decision.postgres
            && (self.layers.demotion || *why != StopWhy::LostLock)
        {
            let takes = self.rng.below(300).min(limit.as_millis() as u64).max(20);
            let job = Job::Stop { mode: *mode, why: *why };
            self.nodes[index].abandon_job();
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
        let pause = if self.rng.one_in(200) { self.stall() } else { 0 };
        self.nodes[index].acting = Some((self.now + takes + pause, Phase::Give, decision, seen));
    }

    fn lease_step(&mut self, index: usize, step: &LeaseStep) -> (LeaseOutcome, u64) {
        let begun = self.now;
        let latency = self.rng.below(60);
        let Some(call) = self.lease_call(index, step) else { return (LeaseOutcome::None, 0) };
        let arrives = begun + self.rng.below(latency + 1);
        let answer = self.call(index, call, arrives);
        let node = &mut self.nodes[index];
        let held = match (answer, step) {
            (None, _) => {
                let releases = step.gives_up();
                node.release_pending |= releases;
                let outcome = if releases { LeaseOutcome::ReleaseUnknown } else { LeaseOutcome::Unknown };
                // A new agent goes by what PID 1 knows, as the shell does.
                let told = node.guard.map(|deadline| at(deadline) + self.timing.guard_margin());
                let until = node.memory.lease_valid_until.or(told);
                return (outcome, call_limit(until, &self.timing, at(begun)).as_millis() as u64);
            }
            (Some(_), step) if step.gives_up() => return (LeaseOutcome::Released, latency),
            (Some(held), _) => held,
        };
        if !held && self.layers.lease {
            return (LeaseOutcome::Lost, latency);
        }
        node.release_pending = false;
        let until = at(begun) + self.timing.ttl;
        node.guard = Some(guard_deadline(until, &self.timing).0.as_millis() as u64);
        (LeaseOutcome::Held { until }, latency)
    }

    fn lease_call(&mut self, index: usize, step: &LeaseStep) -> Option<Call> {
        let name = self.nodes[index].name.clone();
        let rewrite = self.nodes[index].release_pending;
        let call = match step {
            LeaseStep::Keep => return None,
            LeaseStep::Acquire { .. } => Call::Acquire { name, lease: self.living_lease(index), rewrite },
            LeaseStep::Renew => {
                let node = &self.nodes[index];
                let optime = (node.server == Server::Primary).then_some(Lsn(node.wal.end));
                Call::Renew { lease: node.lease, rewrite, optime }
            }
            LeaseStep::Release { last_position } => Call::Release {
                name,
                lease: self.nodes[index].lease,
                revision: self.store.leader_revision,
                position: *last_position,
            },
            LeaseStep::ReleaseUnconfirmed { .. } => Call::Release {
                name,
                lease: self.nodes[index].lease,
                revision: self.store.leader_revision,
                position: None,
            },
        };
        Some(call)
    }

    /// (3) what gives authority, documents, questions.
    pub(super) fn give(&mut self, index: usize, decision: &Decision, seen: &Observation) -> Outcome {
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

    pub(super) fn end_cycle(&mut self, index: usize, decision: &Decision, seen: &Observation, outcome: Outcome) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let mut memory = std::mem::take(&mut node.memory);
        if outcome.started.is_some() {
            memory = learn_started_only(memory, seen, &outcome);
        }
        node.memory = memory;
        let standby = matches!(seen.local.postgres, Postgres::Running(Running::Standby(_)));
        if (standby || matches!(node.server, Server::Down { .. })) && node.job.is_none() && seen.cluster.is_ok() {
            node.guard = if node.memory.lease_valid_until.is_some() { node.guard } else { None };
        }
        let record = Box::new(node.record());
        let lease = self.living_lease(index);
        self.call(index, Call::Publish { lease, record }, now);
        self.nodes[index].wake = match decision.wake {
            Wake::Now => now,
            Wake::At(instant) => (instant.0.as_millis() as u64).max(now + TICK),
        };
    }

    /// Whether what it waits for is known to be done.
    fn document(&mut self, index: usize, step: &DocumentStep, seen: &Observation) -> bool {
        let call = match step {
            DocumentStep::ClaimInitialize => Call::Claim { lease: self.living_lease(index) },
            DocumentStep::UnclaimInitialize => Call::Unclaim,
            DocumentStep::SetInitialize(id) => {
                let only_if_absent = seen.cluster.as_ref().is_ok_and(|view| view.initialize == Initialize::Absent);
                Call::SetInitialize { id: *id, only_if_absent }
            }
            DocumentStep::RestoreConfig => return true,
            DocumentStep::ClearSwitchover { seen } => Call::ClearSwitchover { seen: *seen },
            DocumentStep::UpdateHistory => {
                let me = seen.cluster.as_ref().ok().and_then(|view| view.leader.clone()).map(|leader| leader.name);
                let entry = |&(left, end): &(u32, u64)| HistoryEntry {
                    left: Timeline(left),
                    at: Lsn(end),
                    reason: String::new(),
                    time: None,
                    new_leader: me.clone(),
                };
                Call::SetHistory { entries: self.nodes[index].wal.left.iter().map(entry).collect() }
            }
        };
        self.call(index, call, self.now) == Some(true)
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
}

/// The second half of a cycle teaches only what it started; the rest was learnt with the lease.
fn learn_started_only(memory: Memory, seen: &Observation, outcome: &Outcome) -> Memory {
    let unchanged = Observation { memory: memory.clone(), ..seen.clone() };
    let held = memory.lease_valid_until.map_or(LeaseOutcome::None, |until| LeaseOutcome::Held { until });
    learn(memory, &unchanged, &Outcome { lease: held, ..outcome.clone() })
}
