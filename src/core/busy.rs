//! A long job runs: the lock is kept meanwhile, and a job that gives authority ends when the lock does.

use super::context::Ctx;
use super::decision::{Decision, Wake};
use super::lease::{self, Hold};
use super::local::{Job, Postgres, StartAs, StopMode, StopWhy};
use super::policy::{Mode, Pause};
use super::reason::Reason;
use super::serving;

pub fn decide(ctx: &Ctx, job: &Job) -> Decision {
    if let Some(decision) = authority_ends(ctx, job).or_else(|| overdue(ctx, job)) {
        return decision;
    }
    if gives_lock_up(job) {
        return Decision::idle(Reason::JobInProgress { job: job.clone() }, Wake::At(ctx.now() + lease::RETRY));
    }
    match (ctx.hold(), &ctx.seen.local.postgres) {
        (Hold::NotOurs, _) => ctx.idle(Reason::JobInProgress { job: job.clone() }),
        (Hold::Held { .. } | Hold::Unconfirmed, Postgres::Starting { .. }) => {
            ctx.again_after(lease::RETRY * 2, Reason::DuringJob { job: job.clone() })
        }
        (Hold::Held { .. } | Hold::Unconfirmed, _) => ctx.idle(Reason::DuringJob { job: job.clone() }),
    }
}

/// A stop that ends our authority: the lock is not renewed any more, so that it expires should the stop never end.
fn gives_lock_up(job: &Job) -> bool {
    matches!(job, Job::Stop { why: StopWhy::LostLock, .. })
}

/// A stop is what being overdue leads to; any other job ends for it.
fn overdue(ctx: &Ctx, job: &Job) -> Option<Decision> {
    if matches!(job, Job::Stop { .. }) { None } else { serving::overdue(ctx) }
}

/// A job under which PostgreSQL may accept writes ends when the lock does.
pub fn authority_ends(ctx: &Ctx, job: &Job) -> Option<Decision> {
    if !gives_authority(job) || ctx.policy.mode != Mode::Cluster || ctx.policy.pause != Pause::Running {
        return None;
    }
    let ends = match ctx.hold() {
        Hold::NotOurs => true,
        Hold::Held { until } => ctx.now() >= lease::stop_deadline(until, ctx.timing()),
        Hold::Unconfirmed => false,
    };
    ends.then(|| ctx.stop_at_once(Reason::JobLostLock { job: job.clone() }))
}

/// Whether PostgreSQL may accept writes while or after this job runs.
pub fn gives_authority(job: &Job) -> bool {
    match job {
        Job::Promote | Job::Start(StartAs::Primary) | Job::Restart(StartAs::Primary) => true,
        Job::Start(StartAs::Standby(_)) | Job::Restart(StartAs::Standby(_)) => false,
        // A new cluster has no lock yet; the claim on `initialize` keeps others away.
        Job::Bootstrap => false,
        Job::Clone { .. } | Job::Reinitialize { .. } | Job::Rewind { .. } => false,
        // Clients go on writing until the checkpoint is made.
        Job::Stop { mode, .. } => *mode == StopMode::CheckpointThenFast,
        Job::Recover | Job::Follow(_) => false,
    }
}
