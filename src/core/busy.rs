//! A long job runs: the lock is kept meanwhile, and a job that gives authority ends when the lock does.

use super::context::Ctx;
use super::decision::Decision;
use super::lease::{self, Hold};
use super::local::{Job, LastRole, Postgres, StartAs, StopMode};
use super::policy::{Mode, Pause};
use super::reason::Reason;
use super::rejoin;

pub fn decide(ctx: &Ctx, job: &Job) -> Decision {
    if let Some(decision) = authority_ends(ctx, job).or_else(|| start_takes_too_long(ctx)) {
        return decision;
    }
    match (ctx.hold(), &ctx.seen.local.postgres) {
        (Hold::NotOurs, _) => ctx.idle(Reason::JobInProgress { job: job.clone() }),
        (Hold::Held { .. } | Hold::Unconfirmed, Postgres::Starting { .. }) => {
            ctx.again_after(lease::RETRY * 2, Reason::DuringJob { job: job.clone() })
        }
        (Hold::Held { .. } | Hold::Unconfirmed, _) => ctx.idle(Reason::DuringJob { job: job.clone() }),
    }
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

/// A primary under our lock that does not come up within `primary_start_timeout` gives way to a member that can take
/// over, whoever started it and whether or not that start is still waited for. `None`: it has time, or nobody can.
pub fn start_takes_too_long(ctx: &Ctx) -> Option<Decision> {
    let Postgres::Starting { since, role: LastRole::Primary } = ctx.seen.local.postgres else { return None };
    let held = matches!(ctx.hold(), Hold::Held { .. });
    if !held || ctx.policy.pause == Pause::Paused || ctx.now() < since + ctx.policy.primary_start_timeout {
        return None;
    }
    let mut asked = ctx.electorate();
    asked.retain(|name, _| ctx.view.members.contains_key(name));
    let missing = ctx.unanswered(&asked, ctx.answers_count_from());
    if !missing.is_empty() {
        return Some(ctx.ask(missing, Reason::Sweeping));
    }
    rejoin::somebody_can_take_over(ctx, &asked).then(|| ctx.stop_at_once(Reason::StartTimeout))
}
