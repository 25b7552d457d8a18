//! Carries a decision out, in one fixed order: (1) what takes authority away, (2) the lease and the guard, (3) the
//! synchronous standbys, (4) what gives authority, (5) questions, documents, our record.
//!
//! **Invariant:** jobs are begun here and never waited for. Whatever makes PostgreSQL a primary is begun only after this
//! cycle's lease step, and only if the lock is ours and PID 1 knows the deadline at that moment.

use std::time::Duration;

use super::background_task::{AtEnd, BackgroundTask, Report};
use super::cycle::Agent;
use super::documents::Claim;
use super::mailbox::RestartResult;
use super::work::{Work, perform};
use crate::core::authority::Effect;
use crate::core::decision::{Decision, Exit, LeaseStep, PostgresStep, Question};
use crate::core::lease;
use crate::core::local::{HistoryOf, Job, Postgres, Source};
use crate::core::observation::{LeaseOutcome, Observation, Outcome};
use crate::core::view::Address;
use crate::dcs::Dcs;
use crate::postgres::{Instance, RoleChange};

/// A stop before a new clone: the data are given up anyhow.
const CLONE_STOP_LIMIT: Duration = Duration::from_secs(10);

impl<D: Dcs, I: Instance> Agent<D, I> {
    /// Where the server answers whose history counts: a member's by its record.
    pub(super) fn address_of(&self, history: &HistoryOf, seen: &Observation) -> Option<Address> {
        match history {
            HistoryOf::Member(name) => seen.cluster.as_ref().ok()?.members.get(name)?.address.clone(),
            HistoryOf::Remote => match self.settings.policy().cluster.source()? {
                Source::Remote(remote) => Some(remote.address()),
                Source::Archive => None,
            },
        }
    }

    pub(super) async fn act(&mut self, decision: &Decision, seen: &Observation) -> Outcome {
        let mut outcome = Outcome {
            now: self.shared.now(),
            lease: LeaseOutcome::None,
            started: None,
            asked: None,
            reason: decision.reason.clone(),
        };
        let effect = decision.postgres.effect();
        if let Effect::TakesAway(job) = &effect {
            outcome.started = self.take_away(job, decision, seen).await;
        }
        outcome.lease = self.carry_out_lease(&decision.lease, seen).await;
        self.tell_demotion(&outcome.lease, seen);
        if outcome.lease == LeaseOutcome::Lost && decision.lease == LeaseStep::Renew {
            // Nothing may come between the loss and the stop that the next cycle decides.
            return outcome;
        }
        let races = matches!(decision.lease, LeaseStep::Acquire { .. });
        let won = races && matches!(outcome.lease, LeaseOutcome::Held { .. });
        self.bring_synchronous(&decision.sync, seen).await;
        if let Some(slots) = decision.slots.clone().filter(|_| won || !races) {
            self.bring_slots(slots);
        }
        match effect {
            Effect::Nothing | Effect::TakesAway(_) => {}
            Effect::Gives(job) => outcome.started = self.give(job, decision, seen, &outcome.lease).await,
            Effect::ResumesReplay => self.resume_replay(),
        }
        // Before anything is written, since the answers are what is waited for.
        outcome.asked = decision.ask.clone().filter(|question| self.ask(question, seen));
        self.ensure_roles(decision.roles);
        self.find_upstream(seen);
        self.settle_schedule(&decision.schedule, seen);
        // What a leader writes is not for one who has lost the race.
        if won || !races {
            self.write_documents(&decision.documents, seen).await;
        }
        // The next cycle, which follows at once, has more to tell: a promotion, or what the answers lead to.
        let asked = matches!(outcome.asked, Some(Question::Peers(_)));
        match decision.exit {
            None if won || asked => {}
            None | Some(Exit::Stopped) => self.publish(&outcome.lease, seen).await,
            // This member has no business in the cluster.
            Some(Exit::Fatal(_) | Exit::FatalLeaveRunning(_)) => return outcome,
        }
        outcome.now = self.shared.now();
        outcome
    }

    /// A stop goes before whatever runs. The same job again goes on.
    async fn take_away(&mut self, job: &Job, decision: &Decision, seen: &Observation) -> Option<Job> {
        if self.jobs.running().is_some_and(|running| running.job == *job) {
            return None;
        }
        let cancelled = self.jobs.cancel(self.shared.now()).await;
        if let Some(cancelled) = cancelled {
            self.job_ended(cancelled);
        }
        // A restart that this stop has ended did not come about, however the stop ends.
        if let Some(restart) = self.jobs.take_restart() {
            restart.answer(RestartResult::Failed);
        }
        self.begin(job.clone(), decision, seen);
        Some(job.clone())
    }

    async fn give(&mut self, job: Job, decision: &Decision, seen: &Observation, lease: &LeaseOutcome) -> Option<Job> {
        if let Some(running) = self.jobs.running() {
            tracing::debug!("not starting {job}: {} is in progress", running.job);
            return None;
        }
        if !self.may_begin(&job, seen, lease) {
            tracing::info!("not starting {job}: lock not held or expiring");
            return None;
        }
        match self.claim(&decision.documents).await {
            Claim::NotAsked | Claim::Won => {}
            Claim::Lost => return None,
        }
        self.begin(job.clone(), decision, seen);
        Some(job)
    }

    fn begin(&mut self, job: Job, decision: &Decision, seen: &Observation) {
        let now = self.shared.now();
        let stop_limit = match decision.postgres {
            PostgresStep::Stop { limit, .. } => limit,
            PostgresStep::Reinitialize { .. } => CLONE_STOP_LIMIT,
            PostgresStep::Leave
            | PostgresStep::Start(_)
            | PostgresStep::Restart(_)
            | PostgresStep::Promote
            | PostgresStep::Follow(_)
            | PostgresStep::Bootstrap
            | PostgresStep::Clone(_)
            | PostgresStep::Rewind { .. }
            | PostgresStep::Recover
            | PostgresStep::ResumeReplay => self.settings.policy().stop_limit,
        };
        let leader = if let Job::Rewind { from } = &job { self.address_of(from, seen) } else { None };
        let start_limit = self.begin_requested(&job).unwrap_or_else(|| self.settings.start_limit(&job));
        tracing::info!("{job}: begun");
        let pre_promote_limit = lease::pre_promote_limit(&self.settings.guarded_timing());
        let work = Work { job: job.clone(), start_limit, stop_limit, pre_promote_limit, leader };
        self.publisher.refresh(
            &self.server.probe().data,
            &self.server.probe().postgres,
            Some(&job),
            self.settings.dynamic.pause,
        );
        self.shared.steps_up();
        self.server.job_begins(&job);
        self.jobs.start(job, now, self.shared.wake.clone(), perform(self.shared.clone(), work));
    }

    /// A request that this job answers counts as begun; its own limit for the start, if it gave one.
    fn begin_requested(&mut self, job: &Job) -> Option<Duration> {
        let mut inbox = self.shared.inbox();
        match job {
            Job::Start(_) | Job::Restart(_) => {
                let restart = inbox.restart.take();
                let limit = restart.as_ref().and_then(|restart| restart.request.timeout);
                self.jobs.carries_out(restart);
                limit
            }
            Job::Reinitialize { .. } => {
                inbox.reinitialize = None;
                None
            }
            Job::Bootstrap
            | Job::Clone { .. }
            | Job::Rewind { .. }
            | Job::Recover
            | Job::Stop { .. }
            | Job::Promote
            | Job::Follow(_) => None,
        }
    }

    /// A leader that has crashed and gives way is told of: no stop of ours does it.
    fn tell_demotion(&self, lease: &LeaseOutcome, seen: &Observation) {
        let is_given_up = matches!(lease, LeaseOutcome::Released | LeaseOutcome::ReleaseUnknown);
        if is_given_up && seen.local.postgres == Postgres::Stopped && seen.requests.shutdown.is_none() {
            self.shared.instance.demoted(RoleChange::Told);
        }
    }

    fn resume_replay(&mut self) {
        let shared = self.shared.clone();
        let work = async move { Report::of(shared.instance.resume_replay().await, |()| Report::Done) };
        self.background.begin(BackgroundTask::ResumeReplay, AtEnd::Wake, work);
    }
}
