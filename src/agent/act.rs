//! Carries a decision out, in one fixed order: (1) what takes authority away, (2) the lease and the guard, (3) the
//! synchronous set (none yet), (4) what gives authority, (5) questions, documents, our record.
//!
//! **Invariant:** jobs are begun here and never waited for. Whatever makes PostgreSQL a primary is begun only after this
//! cycle's lease step, and only if the lock is ours and PID 1 knows the deadline at that moment.

use std::sync::Arc;
use std::time::Duration;

use super::authority::Authority;
use super::cycle::Agent;
use super::documents::Claim;
use super::errand::{AtEnd, Errand, Report};
use super::mailbox::RestartResult;
use super::observe::may_make_primary;
use super::work::{Work, perform};
use crate::core::decision::{Decision, Exit, LeaseStep, PostgresStep, Question};
use crate::core::local::{Job, LastRole, StartAs};
use crate::core::observation::{LeaseOutcome, Observation, Outcome};
use crate::core::units::MemberName;
use crate::core::view::Address;
use crate::dcs::Dcs;
use crate::postgres::Instance;

/// A stop before a new clone: the data are given up anyhow.
const CLONE_STOP_LIMIT: Duration = Duration::from_secs(10);
/// The stop of a restart: nothing hurries it. `primary_stop_timeout` would be for synchronous mode alone.
const RESTART_STOP_LIMIT: Duration = Duration::from_secs(3600);

/// What a PostgreSQL step does to this node's authority.
enum Kind {
    Nothing,
    TakesAway(Job),
    /// Long work that must not begin before the lease is settled.
    Gives(Job),
    ResumesReplay,
}

fn kind(step: &PostgresStep) -> Kind {
    match step.clone() {
        PostgresStep::Leave => Kind::Nothing,
        PostgresStep::Stop { mode, why, limit: _ } => Kind::TakesAway(Job::Stop { mode, why }),
        PostgresStep::Reinitialize { from, why } => Kind::TakesAway(Job::Reinitialize { from, why }),
        PostgresStep::Start(role) => Kind::Gives(Job::Start(role)),
        PostgresStep::Restart(role) => Kind::Gives(Job::Restart(role)),
        PostgresStep::Promote => Kind::Gives(Job::Promote),
        PostgresStep::Follow(upstream) => Kind::Gives(Job::Follow(upstream)),
        PostgresStep::Bootstrap => Kind::Gives(Job::Bootstrap),
        PostgresStep::Clone(from) => Kind::Gives(Job::Clone { from }),
        PostgresStep::Rewind { from } => Kind::Gives(Job::Rewind { from }),
        PostgresStep::Recover => Kind::Gives(Job::Recover),
        PostgresStep::ResumeReplay => Kind::ResumesReplay,
    }
}

/// Whether the job makes PostgreSQL a primary of a cluster that may have another. A bootstrap does not: it has just won
/// the right to make a new cluster, and takes the lock before anybody can follow it.
pub(super) fn needs_authority(job: &Job) -> bool {
    match job {
        Job::Promote | Job::Start(StartAs::Primary) | Job::Restart(StartAs::Primary) => true,
        Job::Start(StartAs::Standby(_))
        | Job::Restart(StartAs::Standby(_))
        | Job::Bootstrap
        | Job::Clone { .. }
        | Job::Reinitialize { .. }
        | Job::Rewind { .. }
        | Job::Recover
        | Job::Stop { .. }
        | Job::Follow(_) => false,
    }
}

/// Where a member's PostgreSQL answers, by its record.
pub(super) fn address_of(member: &MemberName, seen: &Observation) -> Option<Address> {
    seen.cluster.as_ref().ok()?.members.get(member)?.address.clone()
}

impl<D: Dcs, I: Instance> Agent<D, I> {
    pub(super) async fn act(&mut self, decision: &Decision, seen: &Observation) -> Outcome {
        let mut outcome = Outcome {
            now: self.shared.now(),
            lease: LeaseOutcome::None,
            started: None,
            asked: None,
            reason: decision.reason.clone(),
        };
        let kind = kind(&decision.postgres);
        if let Kind::TakesAway(job) = &kind {
            outcome.started = self.take_away(job, decision, seen).await;
        }
        outcome.lease = self.carry_out_lease(&decision.lease, seen).await;
        if outcome.lease == LeaseOutcome::Lost && decision.lease == LeaseStep::Renew {
            // Nothing may come between the loss and the stop that the next cycle decides.
            return outcome;
        }
        match kind {
            Kind::Nothing | Kind::TakesAway(_) => {}
            Kind::Gives(job) => outcome.started = self.give(job, decision, seen, &outcome.lease).await,
            Kind::ResumesReplay => self.resume_replay(),
        }
        // Before anything is written, since the answers are what is waited for.
        outcome.asked = decision.ask.clone().filter(|question| self.ask(question, seen));
        self.write_documents(&decision.documents, seen).await;
        // The next cycle, which follows at once, has more to tell: a promotion, or what the answers lead to.
        let won = matches!((&decision.lease, &outcome.lease), (LeaseStep::Acquire { .. }, LeaseOutcome::Held { .. }));
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
        if let Some(restart) = self.restart.take() {
            restart.answer(RestartResult::Failed);
        }
        self.begin(job.clone(), decision, seen);
        Some(job.clone())
    }

    async fn give(&mut self, job: Job, decision: &Decision, seen: &Observation, lease: &LeaseOutcome) -> Option<Job> {
        if let Some(running) = self.jobs.running() {
            tracing::debug!("not beginning {job}: {} is in progress", running.job);
            return None;
        }
        if needs_authority(&job) && self.authority(lease) == Authority::Missing {
            tracing::info!("not beginning {job}: the leader lock is not ours, or not for long enough");
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
            | PostgresStep::ResumeReplay => RESTART_STOP_LIMIT,
        };
        let leader = if let Job::Rewind { from } = &job { address_of(from, seen) } else { None };
        let start_limit = self.begin_requested(&job).unwrap_or_else(|| self.settings.start_limit(&job));
        tracing::info!("{job}: begun");
        let work = Work { job: job.clone(), start_limit, stop_limit, leader };
        self.shown.refresh(&self.probe.data, &self.probe.postgres, Some(&job), self.settings.dynamic.pause);
        self.shared.steps_up();
        if may_make_primary(&job) {
            self.silent_as = LastRole::Primary;
        }
        self.jobs.start(job, now, self.shared.wake.clone(), perform(self.shared.clone(), work));
    }

    /// A request that this job answers counts as begun; its own limit for the start, if it gave one.
    fn begin_requested(&mut self, job: &Job) -> Option<Duration> {
        let mut inbox = self.shared.inbox();
        match job {
            Job::Start(_) | Job::Restart(_) => {
                self.restart = inbox.restart.take();
                self.restart.as_ref().and_then(|restart| restart.request.timeout)
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

    fn resume_replay(&mut self) {
        let shared = self.shared.clone();
        let work = async move { Report::of(shared.instance.resume_replay().await, |()| Report::Done) };
        self.errands.begin(Errand::ResumeReplay, AtEnd::Wake, &Arc::clone(&self.shared.wake), work);
    }
}
