//! A long job runs: the lock is kept meanwhile, and a job that gives authority ends when the lock does.

use super::context::Ctx;
use super::decision::Decision;
use super::lease::{self, Hold};
use super::local::{Job, StartAs};
use super::policy::{Mode, Pause};
use super::reason::Reason;
use super::rejoin;
use super::units::Instant;

pub fn decide(ctx: &Ctx, job: &Job, since: Instant) -> Decision {
    if gives_authority(job) && ctx.policy.mode == Mode::Cluster && ctx.policy.pause == Pause::Running {
        match ctx.hold() {
            Hold::NotOurs => return ctx.stop_at_once(Reason::JobLostLock { job: job.clone() }),
            Hold::Held { until } if ctx.now() >= lease::stop_deadline(until, ctx.timing()) => {
                return ctx.stop_at_once(Reason::JobLostLock { job: job.clone() });
            }
            Hold::Held { .. } | Hold::Unconfirmed => {}
        }
        if let Some(decision) = start_takes_too_long(ctx, job, since) {
            return decision;
        }
    }
    match ctx.hold() {
        Hold::NotOurs => ctx.idle(Reason::JobInProgress { job: job.clone() }),
        Hold::Held { .. } | Hold::Unconfirmed => ctx.idle(Reason::DuringJob { job: job.clone() }),
    }
}

/// Whether PostgreSQL may accept writes while or after this job runs.
pub fn gives_authority(job: &Job) -> bool {
    match job {
        Job::Promote | Job::Start(StartAs::Primary) | Job::Restart(StartAs::Primary) => true,
        Job::Start(StartAs::Standby(_)) | Job::Restart(StartAs::Standby(_)) => false,
        // A new cluster has no lock yet; the claim on `initialize` keeps others away.
        Job::Bootstrap => false,
        Job::Clone { .. } | Job::Reinitialize { .. } | Job::Rewind { .. } => false,
        Job::Recover | Job::Stop { .. } | Job::Follow(_) => false,
    }
}

/// A crashed primary that does not come up within `primary_start_timeout` gives way to a member that can take over.
fn start_takes_too_long(ctx: &Ctx, job: &Job, since: Instant) -> Option<Decision> {
    let limit = ctx.policy.primary_start_timeout;
    if *job != Job::Start(StartAs::Primary) || limit.is_zero() || since + limit > ctx.now() {
        return None;
    }
    let mut asked = ctx.electorate();
    asked.retain(|name, _| ctx.view.members.contains_key(name));
    let missing = ctx.unanswered(&asked, ctx.answers_count_from());
    if !missing.is_empty() {
        return Some(ctx.ask(missing, Reason::DuringJob { job: job.clone() }));
    }
    rejoin::somebody_can_take_over(ctx, &asked).then(|| ctx.stop_at_once(Reason::StartTimeout))
}
