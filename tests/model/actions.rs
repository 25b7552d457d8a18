//! What a decision does to the world, in the shell's order, and what ends by itself.

use std::sync::Arc;

use tamada::core::authority::{Effect, Tenure};
use tamada::core::decision::{DocumentStep, LeaseStep, PostgresStep, Question};
use tamada::core::local::{Guard, Job, RunningJob, StartAs, StopMode, StopWhy, Upstream};
use tamada::core::observation::{
    Divergence, DivergenceReport, Event, FinishedJob, JobProduct, JobResult, LeaseOutcome, Observation, Outcome,
    PeerReport,
};
use tamada::core::policy::Policy;
use tamada::core::reason::Reason;
use tamada::core::units::{Instant, Lsn};
use tamada::core::{learn, note};

use super::Layers;
use super::state::{Pending, Server, State, index_of};
use super::time::{NOW, TIMING};

/// What becomes of the calls to the store that a decision makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Calls {
    Answered,
    /// They never arrive.
    Missed,
    /// They are carried out; nobody hears of it.
    Unanswered,
    /// A release that arrives some time later, if nothing makes it miss.
    Late,
}

impl State {
    /// Carry out what was decided, on an observation that may be out of date by now.
    pub fn act(&mut self, index: usize, calls: Calls, layers: Layers, policy: &Policy) {
        let Some(pending) = self.nodes[index].pending.take() else { return };
        let Pending { seen, decision, .. } = Arc::unwrap_or_clone(pending);
        self.nodes[index].peers.clear();
        self.nodes[index].divergence = None;
        let mut started = None;
        if let PostgresStep::Stop { mode, why, limit: _ } = decision.postgres
            && (layers.demotion || why != StopWhy::LostLock)
        {
            self.begin(index, Job::Stop { mode, why });
            started = Some(Job::Stop { mode, why });
        }
        let lease = self.lease(index, &decision.lease, calls, layers);
        self.nodes[index].guard = match self.tenure(index, policy, &seen, &lease).guard_after() {
            Guard::NoDeadline => None,
            Guard::Until(deadline) => Some(deadline),
        };
        let lost = lease == LeaseOutcome::Lost && decision.lease == LeaseStep::Renew;
        let given = if let Effect::Gives(job) = decision.postgres.effect() { Some(job) } else { None };
        if let Some(job) = given.filter(|_| !lost && self.nodes[index].job.is_none())
            && self.tenure(index, policy, &seen, &lease).may_begin(&job, NOW)
        {
            self.begin(index, job.clone());
            started = Some(job);
        }
        if matches!(calls, Calls::Answered | Calls::Unanswered) && !lost {
            self.store.leases[index] = Some(NOW + TIMING.ttl);
            if decision.documents.contains(&DocumentStep::UpdateHistory) {
                self.store.timeline = self.nodes[index].timeline;
            }
        }
        let outcome = Outcome { now: NOW, lease, started, asked: decision.ask.clone(), reason: Reason::NotStarted };
        let node = &mut self.nodes[index];
        node.memory = learn(std::mem::take(&mut node.memory), &seen, &outcome);
        node.looked = true;
        if let Some(question) = decision.ask.filter(|_| !lost) {
            self.ask(index, &question);
        }
    }

    fn begin(&mut self, index: usize, job: Job) {
        let node = &mut self.nodes[index];
        let abandoned = node.job.replace(RunningJob { job, since: NOW });
        node.promoting |= abandoned.is_some_and(|running| running.job == Job::Promote);
    }

    fn lease(&mut self, index: usize, step: &LeaseStep, calls: Calls, layers: Layers) -> LeaseOutcome {
        let release = step.gives_up();
        let unknown = if release { LeaseOutcome::ReleaseUnknown } else { LeaseOutcome::Unknown };
        match (step, calls) {
            (LeaseStep::Keep, _) => return LeaseOutcome::None,
            (_, Calls::Missed) => return unknown,
            (_, Calls::Late) => {
                self.store.late_release[index] = release && self.holds(index);
                return unknown;
            }
            (_, Calls::Answered | Calls::Unanswered) => {}
        }
        let alive = self.store.leases[index].is_some();
        let held = match step {
            LeaseStep::Keep => return LeaseOutcome::None,
            LeaseStep::Vouched { until } => return LeaseOutcome::Vouched { until: *until },
            LeaseStep::Release { .. } | LeaseStep::ReleaseUnconfirmed { .. } | LeaseStep::GiveBack { .. } => {
                if self.holds(index) {
                    self.store.leader = None;
                }
                return if calls == Calls::Answered { LeaseOutcome::Released } else { unknown };
            }
            LeaseStep::Acquire { .. } => *self.store.leader.get_or_insert(index) == index,
            LeaseStep::Renew => alive && self.holds(index),
        };
        if held {
            // The key is rewritten, so a release that is still on its way misses it.
            self.store.late_release[index] = false;
            self.store.leases[index] = Some(NOW + TIMING.ttl);
        }
        match (calls, held || !layers.lease) {
            (Calls::Answered, true) => LeaseOutcome::Held { until: NOW + TIMING.ttl },
            (Calls::Answered, false) => LeaseOutcome::Lost,
            (Calls::Unanswered | Calls::Missed | Calls::Late, _) => unknown,
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
        let job = node.job.as_ref().map(|running| &running.job);
        let guard = node.guard.map_or(Guard::NoDeadline, Guard::Until);
        Tenure { policy, seen, job, guard, valid_until: node.memory.lease_valid_until, outcome }
    }

    /// Answers come at once and serve the next cycle alone.
    fn ask(&mut self, index: usize, question: &Question) {
        match question {
            // The model has no failsafe mode.
            Question::Vouch { .. } => {}
            Question::Checkpoint => {
                let node = &mut self.nodes[index];
                node.memory = note(std::mem::take(&mut node.memory), &Event::CheckpointDone);
            }
            Question::Peers(peers) => {
                for peer in peers.keys() {
                    let report = PeerReport { asked_at: NOW, answer: self.answer(index_of(peer)) };
                    self.nodes[index].peers.insert(peer.clone(), report);
                }
            }
            Question::Divergence { leader } => {
                let (own, source) = (&self.nodes[index], &self.nodes[index_of(leader.member().expect("a member"))]);
                let divergence = match (source.server, own.was_primary && own.timeline < source.timeline) {
                    (Server::Primary, true) => Divergence::Diverged,
                    (Server::Primary, false) => Divergence::None,
                    (Server::Standby | Server::Down { .. }, _) => Divergence::Undecided,
                };
                let report = DivergenceReport { leader: leader.clone(), asked_at: NOW, divergence };
                self.nodes[index].divergence = Some(report);
            }
        }
    }

    /// The job's end.
    pub fn finish(&mut self, index: usize) {
        let Some(running) = self.nodes[index].job.take() else { return };
        let result = self.effect(index, &running.job);
        let ended = FinishedJob { job: running.job, at: NOW, result };
        let memory = std::mem::take(&mut self.nodes[index].memory);
        let mut memory = note(memory, &Event::JobEnded(ended));
        // Failures beyond these change nothing but the length of a pause.
        memory.failed_rewinds = memory.failed_rewinds.min(2);
        memory.backoff.iter_mut().for_each(|backoff| backoff.failures = backoff.failures.min(2));
        self.nodes[index].memory = memory;
    }

    fn effect(&mut self, index: usize, job: &Job) -> JobResult {
        let failed = || JobResult::Failed(String::new());
        match job {
            Job::Promote => return if self.promote(index) { done() } else { failed() },
            Job::Start(StartAs::Primary) | Job::Restart(StartAs::Primary) => self.become_primary(index),
            Job::Start(StartAs::Standby(upstream)) | Job::Restart(StartAs::Standby(upstream)) => {
                let node = &mut self.nodes[index];
                (node.server, node.was_primary, node.upstream) = (Server::Standby, false, followed(upstream));
            }
            Job::Follow(upstream) => self.nodes[index].upstream = followed(upstream),
            Job::Recover => self.nodes[index].server = Server::Down { clean: true },
            Job::Rewind { from } => {
                let source = self.nodes[index_of(from.member().expect("a member"))].clone();
                if source.server != Server::Primary {
                    return failed();
                }
                self.nodes[index].timeline = source.timeline;
            }
            Job::Clone { from } | Job::Reinitialize { from, .. } => {
                let source = self.nodes[index_of(&from.name)].clone();
                let node = &mut self.nodes[index];
                node.kill();
                (node.server, node.was_primary) = (Server::Down { clean: true }, false);
                node.timeline = source.timeline;
            }
            Job::Stop { mode, .. } => return self.stop(index, *mode),
            Job::Bootstrap => {}
        }
        done()
    }

    fn stop(&mut self, index: usize, mode: StopMode) -> JobResult {
        let node = &mut self.nodes[index];
        let was_primary = node.server == Server::Primary;
        let clean = mode != StopMode::Immediate;
        node.promoting = false;
        if !matches!(node.server, Server::Down { .. }) {
            node.server = Server::Down { clean };
        }
        match clean && was_primary {
            true => JobResult::Done(JobProduct::StoppedAt(Lsn(1_000))),
            false => done(),
        }
    }

    /// Whether there was a standby to be promoted.
    pub fn promote(&mut self, index: usize) -> bool {
        self.nodes[index].promoting = false;
        let stands_by = self.nodes[index].server == Server::Standby;
        if stands_by {
            self.nodes[index].timeline += 1;
            self.become_primary(index);
        }
        stands_by
    }

    fn become_primary(&mut self, index: usize) {
        self.unlocked_promotion |= !self.holds(index);
        let node = &mut self.nodes[index];
        (node.server, node.was_primary, node.upstream) = (Server::Primary, true, None);
    }

    /// What a tick brings by itself: leases run out, and PID 1 kills.
    pub fn expire(&mut self, layers: Layers) {
        let past = |instant: Instant| instant <= NOW;
        for index in 0..self.nodes.len() {
            if self.store.leases[index].is_some_and(past) {
                self.store.leases[index] = None;
                self.store.late_release[index] = false;
                self.store.leader = self.store.leader.filter(|leader| *leader != index);
            }
            let node = &mut self.nodes[index];
            if layers.guard && node.guard.is_some_and(past) {
                node.guard = None;
                node.kill();
                self.restart_agent(index);
            }
        }
    }

    /// The agent's process is new and knows what PID 1 keeps.
    pub fn restart_agent(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.memory = Default::default();
        node.pending = None;
        node.peers.clear();
        node.divergence = None;
        node.looked = false;
        node.frozen = false;
        let abandoned = node.job.take();
        let runs = node.server == Server::Standby;
        node.promoting |= runs && abandoned.is_some_and(|running| running.job == Job::Promote);
    }
}

fn done() -> JobResult {
    JobResult::Done(JobProduct::Nothing)
}

fn followed(upstream: &Upstream) -> Option<usize> {
    match upstream {
        Upstream::Member { name, .. } => Some(index_of(name)),
        Upstream::None | Upstream::Remote(_) | Upstream::Archive | Upstream::Foreign => None,
    }
}
