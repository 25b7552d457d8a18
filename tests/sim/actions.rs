//! What a decision's slots do to the store and to the servers, in the order in which the shell carries them out.

use tamada::core::authority::{Effect, Tenure, call_limit};
use tamada::core::decision::{Decision, DocumentStep, LastWord, LeaseStep, PostgresStep, Question, Wake};
use tamada::core::failsafe::{self, Store};
use tamada::core::local::{Job, Replay, StopWhy};
use tamada::core::observation::{
    Divergence, DivergenceReport, JobResult, LeaseOutcome, Memory, Observation, Outcome, PeerAnswer, PeerReport,
    PeerReports,
};
use tamada::core::policy::Policy;
use tamada::core::units::{Lsn, Timeline};
use tamada::core::view::HistoryEntry;
use tamada::core::{learn, next_wake};

use super::calls::Call;
use super::node::{Node, Phase, Server, at};
use super::store::Word;
use super::world::{TICK, World};

impl World {
    /// (1) what takes authority away, (2) the lease.
    pub(super) fn take_and_lease(&mut self, index: usize, mut decision: Box<Decision>, mut seen: Box<Observation>) {
        let mut started = None;
        if let PostgresStep::Stop { mode, why, limit } = &decision.postgres
            && (self.layers.demotion || *why != StopWhy::LostLock || self.was_refused(index))
        {
            let takes = self.rng.below(300).min(limit.as_millis() as u64).max(20);
            let job = Job::Stop { mode: *mode, why: *why };
            self.nodes[index].abandon_job();
            self.nodes[index].job = Some((job.clone(), self.now, self.now + takes));
            started = Some(job);
        }
        let (lease, takes) = self.lease_step(index, &decision.lease);
        self.nodes[index].guard = self.tenure(index, &self.policy(index), &seen, &lease).guard_after();
        // What (2) brought is kept in the memory at once, as the shell does.
        let outcome = Outcome { now: at(self.now), lease, started, asked: None, reason: decision.reason.clone() };
        let node = &mut self.nodes[index];
        node.memory = learn(std::mem::take(&mut node.memory), &seen, &outcome);
        decision.wake = next_wake(decision.wake, &outcome);
        seen.memory = node.memory.clone();
        let gives = matches!(decision.postgres.effect(), Effect::Gives(job) if job.needs_lock());
        let gives = gives && matches!(self.nodes[index].server, Server::Standby | Server::Down { .. });
        let pause = match self.rng.one_in(200) {
            // Long past the lease's end: what gives authority is looked at once more before it begins.
            // But not where nothing else would end a promotion that may still come about.
            _ if gives && self.nodes[index].promotes_at.is_none() && self.rng.one_in(8) => self.rng.below(9_000),
            true => self.stall(),
            false => 0,
        };
        self.nodes[index].acting = Some((self.now + takes + pause, Phase::Give, decision, seen));
    }

    /// Whether its promotion was refused: then what is stopped is no primary that has lost its lock, and nothing but that stop
    /// lets it go on.
    fn was_refused(&self, index: usize) -> bool {
        let last = self.nodes[index].memory.finished.as_ref();
        last.is_some_and(|last| last.job == Job::Promote && matches!(last.result, JobResult::Refused(_)))
    }

    fn lease_step(&mut self, index: usize, step: &LeaseStep) -> (LeaseOutcome, u64) {
        let begun = self.now;
        if let LeaseStep::Renew = step {
            self.retune(index);
        }
        if let LeaseStep::Vouched { until } = step {
            if !self.store.holds(self.nodes[index].lease) {
                self.reached.insert("a primary outlives its lease");
            }
            return (LeaseOutcome::Vouched { until: *until }, 0);
        }
        if matches!(step, LeaseStep::Acquire { .. }) && self.is_bound(index) {
            return (LeaseOutcome::None, 0);
        }
        let policy = self.policy(index);
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
                let limit = call_limit(node.memory.lease_valid_until, node.guard, &node.timing, at(begun));
                let limit = failsafe::call_limit(&policy, node.memory.lease_valid_until, Store::Answers, limit);
                return (outcome, limit.as_millis() as u64);
            }
            (Some(_), step) if step.gives_up() => return (LeaseOutcome::Released, latency),
            (Some(held), _) => held,
        };
        if !held && self.layers.lease {
            // The refusal says who holds it.
            node.stale = None;
            return (LeaseOutcome::Lost, latency);
        }
        node.release_pending = false;
        let until = at(begun) + self.nodes[index].timing.ttl;
        (LeaseOutcome::Held { until }, latency)
    }

    /// With another ttl the lock moves to another lease.
    fn retune(&mut self, index: usize) {
        let node = &self.nodes[index];
        if self.connected(index) && node.losses == self.store.losses {
            self.store.retune(node.lease, self.now, node.timing.ttl.as_millis() as u64);
        }
    }

    fn lease_call(&mut self, index: usize, step: &LeaseStep) -> Option<Call> {
        let name = self.nodes[index].name.clone();
        let rewrite = self.nodes[index].release_pending;
        let call = match step {
            LeaseStep::Keep | LeaseStep::Vouched { .. } => return None,
            LeaseStep::Acquire { seen } => {
                Call::Acquire { name, lease: self.living_lease(index), seen: *seen, rewrite }
            }
            LeaseStep::Renew => {
                let node = &self.nodes[index];
                let optime = (node.server == Server::Primary).then_some(Lsn(node.wal.end));
                Call::Renew { lease: node.lease, revision: self.store.leader_revision, rewrite, optime }
            }
            LeaseStep::Release { last_position } => {
                self.release(index, last_position.map_or(Some(Word::GaveWay), |at| Some(Word::HandedOver(at))))
            }
            LeaseStep::ReleaseUnconfirmed { last_position } => {
                self.release(index, Some(Word::Unconfirmed(*last_position)))
            }
            LeaseStep::GiveBack { word: LastWord::Stands } => self.release(index, None),
            LeaseStep::GiveBack { word: LastWord::IsOver } => self.release(index, Some(Word::Nothing)),
        };
        Some(call)
    }

    fn release(&self, index: usize, word: Option<Word>) -> Call {
        let Node { name, lease, .. } = &self.nodes[index];
        Call::Release { name: name.clone(), lease: *lease, revision: self.store.leader_revision, word }
    }

    /// (3) what gives authority, documents, questions.
    pub(super) fn give(&mut self, index: usize, decision: &Decision, seen: &Observation) -> Outcome {
        self.sync_step(index, &decision.sync);
        self.keep_up(index, decision);
        let mut claimed = true;
        for document in &decision.documents {
            claimed &= self.document(index, document, seen);
        }
        let started = self.start_job(index, decision, seen).filter(|_| claimed);
        if let Some(job) = &started {
            let takes = 40 + self.rng.below(600);
            let asked = &mut self.nodes[index].asked;
            match job {
                Job::Start(_) | Job::Restart(_) => asked.restart_until = 0,
                Job::Reinitialize { .. } => asked.reinitialize_until = 0,
                _ => {}
            }
            self.nodes[index].job = Some((job.clone(), self.now, self.now + takes));
        }
        if decision.postgres == PostgresStep::ResumeReplay {
            self.nodes[index].replay = Replay::Going;
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

    fn tenure<'a>(
        &'a self,
        index: usize,
        policy: &'a Policy,
        seen: &'a Observation,
        outcome: &'a LeaseOutcome,
    ) -> Tenure<'a> {
        let node = &self.nodes[index];
        let job = node.job.as_ref().map(|(job, ..)| job);
        Tenure { policy, seen, job, guard: node.guard, valid_until: node.memory.lease_valid_until, outcome }
    }

    /// The shell looks at the clock once more before it gives authority.
    fn start_job(&self, index: usize, decision: &Decision, seen: &Observation) -> Option<Job> {
        let (Effect::Gives(job) | Effect::TakesAway(job @ Job::Reinitialize { .. })) = decision.postgres.effect()
        else {
            return None;
        };
        if self.nodes[index].job.is_some() {
            return None;
        }
        let policy = self.policy(index);
        let may = self.tenure(index, &policy, seen, &LeaseOutcome::None).may_begin(&job, at(self.now));
        may.then_some(job)
    }

    pub(super) fn end_cycle(&mut self, index: usize, decision: &Decision, seen: &Observation, outcome: Outcome) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let mut memory = std::mem::take(&mut node.memory);
        if outcome.started.is_some() {
            memory = learn_started_only(memory, seen, &outcome);
        }
        node.memory = memory;
        let record = Box::new(node.record());
        let lease = self.living_lease(index);
        let seen = self.store.record_version(&record.name);
        self.call(index, Call::Publish { lease, record, seen }, now);
        self.nodes[index].wake = match decision.wake {
            Wake::Now => now,
            Wake::At(instant) => (instant.0.as_millis() as u64).max(now + TICK),
        };
        if decision.exit.is_some() {
            self.exit(index);
        }
    }

    /// The container ends, and another one comes.
    fn exit(&mut self, index: usize) {
        self.log.add(|| format!("{} {} exits", self.now, self.nodes[index].name));
        let back_after = self.nodes[index].asked.back_after;
        self.node_dies(index, self.now + 500 + back_after);
    }

    /// Whether what it waits for is known to be done.
    fn document(&mut self, index: usize, step: &DocumentStep, seen: &Observation) -> bool {
        let call = match step {
            DocumentStep::ClaimInitialize => Call::Claim { lease: self.living_lease(index) },
            DocumentStep::UnclaimInitialize => Call::Unclaim,
            DocumentStep::SetInitialize(id) => Call::SetInitialize { id: *id, seen: self.nodes[index].initialize_seen },
            DocumentStep::RestoreConfig => return true,
            DocumentStep::ClearSwitchover { seen } => Call::ClearSwitchover { seen: *seen },
            DocumentStep::SetFailsafe { members } => {
                let known = seen.cluster.as_ref().map(|view| view.failsafe.clone()).unwrap_or_default();
                Call::SetFailsafe { lease: self.nodes[index].lease, members: members.clone(), seen: known }
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
                Call::SetHistory {
                    lease: self.nodes[index].lease,
                    entries: self.nodes[index].wal.left.iter().map(entry).collect(),
                    seen: self.nodes[index].history_seen,
                }
            }
        };
        self.call(index, call, self.now) == Some(true)
    }

    fn ask(&mut self, index: usize, question: &Question) {
        let now = at(self.now);
        match question {
            Question::Checkpoint => self.nodes[index].checkpoint_done_at = Some(self.now + 300),
            // One that is still out is not sent twice.
            Question::Peers(_) if self.nodes[index].asking.is_some() => {}
            Question::Peers(peers) => {
                let mut soon = self.now + 20;
                let mut reports = PeerReports::new();
                for (peer, limit) in peers {
                    let found = self.nodes.iter().position(|other| other.name == *peer).expect("a member's name");
                    let reachable = self.nodes[found].away_until <= self.now && self.reaches(index, found);
                    let status = self.nodes[found].answer().filter(|_| reachable);
                    if !reachable {
                        soon = self.now + limit.as_millis() as u64;
                    }
                    let answer = status.map_or(PeerAnswer::Unreachable, PeerAnswer::Status);
                    reports.insert(peer.clone(), PeerReport { asked_at: now, answer });
                }
                self.nodes[index].asking = Some((soon, reports));
            }
            Question::Vouch { members, limit } => self.ask_to_vouch(index, members, *limit),
            Question::Divergence { leader } => {
                let Some(found) = self.nodes.iter().position(|other| Some(&other.name) == leader.member()) else {
                    let divergence = Divergence::Undecided;
                    self.nodes[index].divergence =
                        Some(DivergenceReport { leader: leader.clone(), asked_at: now, divergence });
                    self.nodes[index].wake = self.now + 20;
                    return;
                };
                let (source, own) = (&self.nodes[found], &self.nodes[index].wal);
                let divergence = match (source.server, own.fits(&source.wal)) {
                    _ if !self.reaches(index, found) => Divergence::Undecided,
                    (Server::Primary, true) if own.end < source.oldest => Divergence::WalGone,
                    (Server::Primary, true) => Divergence::None,
                    (Server::Primary, false) => Divergence::Diverged,
                    (Server::Standby | Server::Starting { .. } | Server::Down { .. }, _) => Divergence::Undecided,
                };
                self.nodes[index].divergence =
                    Some(DivergenceReport { leader: leader.clone(), asked_at: now, divergence });
                self.nodes[index].wake = self.now + 20;
            }
        }
    }
}

/// The second half of a cycle teaches only what it started; the rest was learnt with the lease. That the lock counts as held
/// for it is no word of the store's: what was known of a loss of its data stands.
fn learn_started_only(memory: Memory, seen: &Observation, outcome: &Outcome) -> Memory {
    let unchanged = Observation { memory: memory.clone(), ..seen.clone() };
    let held = memory.lease_valid_until.map_or(LeaseOutcome::None, |until| LeaseOutcome::Held { until });
    let amnesia = memory.amnesia;
    let learned = learn(memory, &unchanged, &Outcome { lease: held, ..outcome.clone() });
    Memory { amnesia, ..learned }
}
