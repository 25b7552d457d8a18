//! A long job runs: the lock is kept meanwhile, and a job that gives authority ends when the lock does.

use super::context::Ctx;
use super::decision::{Decision, Wake};
use super::lease::{self, Hold};
use super::local::{Job, Postgres, StopWhy};
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
        // A call that came late has taken it: nobody was asked who should.
        (Hold::Unconfirmed, _) if ctx.is_taken_unawares() => ctx.give_back(),
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
    if !job.takes_writes() || ctx.policy.mode != Mode::Cluster || ctx.policy.pause != Pause::Running {
        return None;
    }
    let ends = match ctx.hold() {
        Hold::NotOurs => true,
        Hold::Held { until } => ctx.now() >= lease::stop_deadline(until, ctx.timing()),
        Hold::Unconfirmed => false,
    };
    ends.then(|| ctx.stop_at_once(Reason::JobLostLock { job: job.clone() }))
}
