//! Who may be a primary, and for how long: the rules that keep a cluster from having two. They stand here alone; the
//! agent, the model and the simulator call them.
//!
//! - PID 1 has a deadline whenever PostgreSQL may be a primary. It is set by a renewal, and lifted by a fact of one
//!   observation alone: PostgreSQL is stopped, or a standby without the lock (`guard_after`).
//! - PostgreSQL is made a primary only while the lock is ours beyond the time that a stop takes, and PID 1 knows until
//!   when (`may_begin`).
//! - No call to the store outlasts the moment at which a primary that could not renew has to stop (`call_limit`).

use std::time::Duration;

use super::decision::PostgresStep;
use super::lease;
use super::local::{Guard, Job, LastRole, LocalState, Postgres, Running, StartAs, StopMode};
use super::observation::{JobResult, LeaseOutcome, Memory, Observation};
use super::policy::{ClusterKind, Mode, Pause, Policy, Timing};
use super::units::Instant;
use super::view::ClusterView;

/// A call to the store gets at least so much, however little time is left.
const CALL_MIN: Duration = Duration::from_millis(100);
/// How long a primary lives for which nothing is known of a lease, if the agent does not stop it: no longer than any stop's
/// margin, so that this deadline is taken by nobody for that of a lease (`stop_begins`).
const WITHOUT_LEASE: Duration = Duration::from_millis(500);

/// What a PostgreSQL step does to this node's authority, and the job that carries it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    /// Begins before the lease is touched.
    TakesAway(Job),
    /// Must not begin before the lease is settled.
    Gives(Job),
    ResumesReplay,
}

impl PostgresStep {
    pub fn effect(&self) -> Effect {
        match self.clone() {
            PostgresStep::Leave => Effect::Nothing,
            PostgresStep::Stop { mode, why, limit: _ } => Effect::TakesAway(Job::Stop { mode, why }),
            PostgresStep::Reinitialize { from, why } => Effect::TakesAway(Job::Reinitialize { from, why }),
            PostgresStep::Start(role) => Effect::Gives(Job::Start(role)),
            PostgresStep::Restart(role) => Effect::Gives(Job::Restart(role)),
            PostgresStep::Promote => Effect::Gives(Job::Promote),
            PostgresStep::Follow(upstream) => Effect::Gives(Job::Follow(upstream)),
            PostgresStep::Bootstrap => Effect::Gives(Job::Bootstrap),
            PostgresStep::Clone(from) => Effect::Gives(Job::Clone { from }),
            PostgresStep::Rewind { from } => Effect::Gives(Job::Rewind { from }),
            PostgresStep::Recover => Effect::Gives(Job::Recover),
            PostgresStep::ResumeReplay => Effect::ResumesReplay,
        }
    }
}

impl Job {
    /// Whether it makes PostgreSQL a primary of a cluster that may have another. A bootstrap does not: it has just won
    /// the right to make a new cluster, and takes the lock before anybody can follow it.
    pub fn needs_lock(&self) -> bool {
        match self {
            Job::Promote | Job::Start(StartAs::Primary) | Job::Restart(StartAs::Primary) => true,
            Job::Start(StartAs::Standby(_)) | Job::Restart(StartAs::Standby(_)) => false,
            Job::Bootstrap | Job::Clone { .. } | Job::Reinitialize { .. } | Job::Rewind { .. } => false,
            Job::Recover | Job::Stop { .. } | Job::Follow(_) => false,
        }
    }

    /// Whether PostgreSQL may be a primary once it has begun.
    pub fn may_make_primary(&self) -> bool {
        self.needs_lock() || *self == Job::Bootstrap
    }

    /// Whether PostgreSQL may accept writes of this cluster while or after it runs.
    pub fn takes_writes(&self) -> bool {
        // Clients go on writing until the checkpoint is made.
        let checkpoints = matches!(self, Job::Stop { mode: StopMode::CheckpointThenFast, .. });
        self.needs_lock() || checkpoints
    }
}

/// Whether this server may be a primary by what was seen of it. Only `Stopped` and a standby's answer say that it is
/// none; a running job is not looked at.
pub fn may_be_primary(postgres: &Postgres) -> bool {
    match postgres {
        Postgres::Running(Running::Primary(_)) | Postgres::Stopping => true,
        Postgres::Starting { role, .. } | Postgres::Unresponsive { role, .. } => *role == LastRole::Primary,
        Postgres::Running(Running::Standby(_)) | Postgres::Stopped => false,
    }
}

/// Whether it is a fact of this observation that nothing here is a primary or becomes one: only then may the lock be given
/// up. A standby may have been told to promote by a former agent, but that is done only while PID 1 has a deadline.
pub fn is_no_primary(local: &LocalState) -> bool {
    match &local.postgres {
        Postgres::Stopped => !local.job.as_ref().is_some_and(|running| running.job.may_make_primary()),
        Postgres::Running(Running::Standby(_)) => local.job.is_none() && local.guard == Guard::NoDeadline,
        Postgres::Running(Running::Primary(_)) | Postgres::Starting { .. } => false,
        Postgres::Unresponsive { .. } | Postgres::Stopping => false,
    }
}

/// Whether a promise not to take the lock can be given: nothing here is a primary or becomes one.
pub fn can_be_bound(local: &LocalState, memory: &Memory) -> bool {
    let becomes = local.job.as_ref().is_some_and(|running| running.job.may_make_primary()) || may_still_promote(memory);
    !may_be_primary(&local.postgres) && !becomes && local.guard == Guard::NoDeadline
}

/// Whether a promotion that did not end in time may still come about. After `pre_promote` has refused one too: an agent
/// before this one may have begun it.
pub fn may_still_promote(memory: &Memory) -> bool {
    let last = memory.finished.as_ref().filter(|last| last.job == Job::Promote);
    last.is_some_and(|last| !matches!(last.result, JobResult::Done(_)))
}

/// Whether it accepts writes now or by the job that runs. A server that is stopping accepts none.
pub fn may_take_writes(local: &LocalState) -> bool {
    match &local.job {
        Some(running) => running.job.takes_writes(),
        None => local.postgres != Postgres::Stopping && may_be_primary(&local.postgres),
    }
}

/// When a primary that cannot renew has to begin its stop. After a restart of the agent only PID 1 knows until when the
/// lock was ours. `None`: nothing is known of a lock.
pub fn stop_begins(valid_until: Option<Instant>, guard: Guard, timing: &Timing) -> Option<Instant> {
    match (valid_until, guard) {
        (Some(until), _) => Some(lease::stop_deadline(until, timing)),
        (None, Guard::Until(deadline)) => Some(deadline - timing.stop_margin()),
        (None, Guard::NoDeadline) => None,
    }
}

/// How long one call to the store may take: `retry_timeout`, and never past the moment at which a primary that could not
/// renew has to begin its stop, by the lease or by PID 1's deadline.
pub fn call_limit(valid_until: Option<Instant>, guard: Guard, timing: &Timing, now: Instant) -> Duration {
    let by_lease = stop_begins(valid_until, Guard::NoDeadline, timing);
    let by_guard = stop_begins(None, guard, timing);
    let left = by_lease.into_iter().chain(by_guard).map(|end| end.left(now)).min();
    left.map_or(timing.retry_timeout, |left| left.min(timing.retry_timeout)).max(CALL_MIN)
}

/// What an agent knows of its lock after a cycle's lease step.
pub struct Tenure<'a> {
    pub policy: &'a Policy,
    pub seen: &'a Observation,
    /// The job that runs now; the decision may have begun one since `seen`.
    pub job: Option<&'a Job>,
    /// What PID 1 was told last.
    pub guard: Guard,
    pub valid_until: Option<Instant>,
    pub outcome: &'a LeaseOutcome,
}

impl Tenure<'_> {
    /// What PID 1 is to know now.
    pub fn guard_after(&self) -> Guard {
        let timing = &self.policy.timing;
        match (self.policy.mode, self.policy.pause, self.outcome) {
            (Mode::Single, _, _) | (Mode::Cluster, Pause::Paused, _) => Guard::NoDeadline,
            (Mode::Cluster, Pause::Running, _) if self.holds_for_standbys() => Guard::NoDeadline,
            (Mode::Cluster, Pause::Running, LeaseOutcome::Held { until } | LeaseOutcome::Vouched { until }) => {
                Guard::Until(lease::guard_deadline(*until, timing))
            }
            (Mode::Cluster, Pause::Running, _) if self.is_harmless() => Guard::NoDeadline,
            (Mode::Cluster, Pause::Running, _) => match (self.guard, self.valid_until) {
                // It was lifted while the lock was ours, by a pause or an outage: it holds again at once, not from the
                // next renewal on.
                (Guard::NoDeadline, Some(until)) if self.may_lead() => {
                    Guard::Until(lease::guard_deadline(until, timing))
                }
                // A new cluster: a call whose answer was lost may have taken the lock, which then lasts at least so long.
                (Guard::NoDeadline, None) if self.leads_new_cluster() => {
                    Guard::Until(lease::guard_deadline(self.seen.now + timing.ttl, timing))
                }
                // The lock was lost meanwhile: the agent stops it, or PID 1 does.
                (Guard::NoDeadline, None) if self.leads_without_lease() => Guard::Until(self.seen.now + WITHOUT_LEASE),
                (guard, _) => guard,
            },
        }
    }

    /// Whether this job may begin at this moment.
    pub fn may_begin(&self, job: &Job, now: Instant) -> bool {
        !job.needs_lock() || self.may_lead_until().is_some_and(|until| now < until)
    }

    /// Until when PostgreSQL may be made a primary; `None`: it may not.
    pub fn may_lead_until(&self) -> Option<Instant> {
        if self.policy.mode == Mode::Single {
            return Some(Instant(Duration::MAX));
        }
        if self.policy.cluster != ClusterKind::Primary {
            return None;
        }
        let valid_until = match self.outcome {
            LeaseOutcome::Held { until } | LeaseOutcome::Vouched { until } => Some(*until),
            LeaseOutcome::None | LeaseOutcome::Unknown => self.valid_until,
            LeaseOutcome::Lost | LeaseOutcome::Released | LeaseOutcome::ReleaseUnknown => None,
        };
        let ends = lease::stop_deadline(valid_until?, &self.policy.timing);
        match (self.policy.pause, self.guard) {
            // PID 1 has no deadline then, but somebody else may have been given the lock.
            (Pause::Paused, _) => Some(ends),
            (Pause::Running, Guard::Until(deadline)) => Some(ends.min(deadline)),
            (Pause::Running, Guard::NoDeadline) => None,
        }
    }

    /// Whether the key is on our lease by the last reading.
    fn is_locked(&self) -> bool {
        match self.outcome {
            LeaseOutcome::Released | LeaseOutcome::ReleaseUnknown | LeaseOutcome::Lost => false,
            // Confirmed or not: a promotion that a former agent began may be under way.
            LeaseOutcome::None | LeaseOutcome::Unknown | LeaseOutcome::Vouched { .. } | LeaseOutcome::Held { .. } => {
                self.seen.cluster.as_ref().is_ok_and(ClusterView::is_ours)
            }
        }
    }

    /// Whether PostgreSQL is a primary as far as is known, or may become one by the lock or by what is under way.
    fn may_lead(&self) -> bool {
        may_be_primary(&self.seen.local.postgres) || self.job.is_some_and(Job::needs_lock) || self.is_locked()
    }

    /// Whether it is a fact of this observation that the lock, held or not, makes no primary: the cluster is a standby cluster
    /// and nothing here is one. Where PID 1 has a deadline, a promotion may be under way that was begun before the cluster
    /// became one; it ends with a stop.
    fn holds_for_standbys(&self) -> bool {
        let job = self.job.is_some_and(Job::may_make_primary);
        let quiet = match &self.seen.local.postgres {
            Postgres::Stopped => true,
            Postgres::Running(Running::Standby(_)) | Postgres::Starting { role: LastRole::Standby, .. } => {
                self.guard == Guard::NoDeadline && !may_still_promote(&self.seen.memory)
            }
            Postgres::Unresponsive { role: LastRole::Standby, .. } => self.guard == Guard::NoDeadline,
            Postgres::Running(Running::Primary(_)) | Postgres::Starting { role: LastRole::Primary, .. } => false,
            Postgres::Unresponsive { role: LastRole::Primary, .. } | Postgres::Stopping => false,
        };
        self.policy.cluster != ClusterKind::Primary && quiet && !job
    }

    /// Whether PostgreSQL was seen to be a primary for which nothing is known of a lease. A server that does not answer is not
    /// ended on suspicion, nor one that is stopping; and a bootstrap is on its way to its first lock.
    fn leads_without_lease(&self) -> bool {
        let leads = match &self.seen.local.postgres {
            Postgres::Running(Running::Primary(_)) | Postgres::Starting { role: LastRole::Primary, .. } => true,
            Postgres::Running(Running::Standby(_)) | Postgres::Starting { role: LastRole::Standby, .. } => false,
            Postgres::Unresponsive { .. } | Postgres::Stopping | Postgres::Stopped => false,
        };
        leads && self.job != Some(&Job::Bootstrap)
    }

    fn leads_new_cluster(&self) -> bool {
        self.seen.memory.bootstrapped.is_some() && self.leads_without_lease()
    }

    /// Whether it is a fact of this observation that PostgreSQL is no primary and that nothing under way makes it one.
    /// A standby that was told to promote, by this agent or by one before it, may still come to it as long as the lock
    /// may be ours (after a loss of the store's data PID 1's deadline says so, and not the store), or as long as it has not
    /// stopped since that failed; a stopped server does not.
    fn is_harmless(&self) -> bool {
        let quiet = match (&self.seen.local.postgres, &self.seen.cluster) {
            (Postgres::Stopped, _) => true,
            (Postgres::Running(Running::Standby(_)), Ok(_)) => {
                !may_still_promote(&self.seen.memory) && self.seen.memory.amnesia.is_none()
            }
            (Postgres::Running(_) | Postgres::Starting { .. }, _) => false,
            (Postgres::Unresponsive { .. } | Postgres::Stopping, _) => false,
        };
        quiet && !self.is_locked() && self.job.is_none()
    }
}
