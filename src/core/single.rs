//! A single, plain server: the in-process DCS, nobody to lose the lock to, and a user whose files these are.

use super::context::Ctx;
use super::decision::{Decision, DocumentStep, Exit, LeaseStep, PostgresStep, Wake};
use super::lease::Hold;
use super::local::{ClusterState, Data, DataDir, Job, LastRole, Postgres, Running, StartAs};
use super::observation::JobResult;
use super::reason::Reason;
use super::{bootstrap, rejoin};

pub fn decide(ctx: &Ctx) -> Decision {
    match (&ctx.seen.local.postgres, &ctx.seen.local.data) {
        (Postgres::Stopped, DataDir::Empty) => {
            bootstrap::bootstrap_failed(ctx).unwrap_or_else(|| bootstrap::new_cluster(ctx))
        }
        (Postgres::Stopped, DataDir::Unusable(why)) => fatal(ctx, ctx.broken_data(), why.clone()),
        (Postgres::Stopped, DataDir::Present(data)) => stopped(ctx, data),
        (Postgres::Starting { role: LastRole::Primary | LastRole::Standby, .. }, _) => ctx.idle(Reason::Starting),
        (Postgres::Unresponsive { .. }, _) => ctx.idle(Reason::NotAnswering),
        (Postgres::Stopping, _) => ctx.idle(Reason::Stopping),
        (Postgres::Running(Running::Standby(_)), _) => ctx.idle(Reason::StandbyAlone),
        (Postgres::Running(Running::Primary(_)), DataDir::Empty | DataDir::Unusable(_)) => ctx.idle(ctx.broken_data()),
        (Postgres::Running(Running::Primary(_)), DataDir::Present(_)) if ctx.seen.requests.restart.is_some() => {
            ctx.step(PostgresStep::Restart(StartAs::Primary), Reason::Restarting)
        }
        (Postgres::Running(Running::Primary(_)), DataDir::Present(data)) => serving(ctx, data),
    }
}

fn fatal(ctx: &Ctx, reason: Reason, why: String) -> Decision {
    Decision { exit: Some(Exit::Fatal(why)), ..ctx.idle(reason) }
}

/// A crash is repaired by a start; a failed start and a stop by somebody else end the container, as with any server.
fn stopped(ctx: &Ctx, data: &Data) -> Decision {
    let last = ctx.seen.memory.finished.as_ref().filter(|last| match last.job {
        Job::Start(_) | Job::Restart(_) | Job::Bootstrap => true,
        Job::Clone { .. } | Job::Reinitialize { .. } | Job::Rewind { .. } | Job::Recover => false,
        Job::Stop { .. } | Job::Promote | Job::Follow(_) => false,
    });
    let state = data.control.as_ref().map(|control| control.state);
    let clean = matches!(state, Some(ClusterState::ShutDown | ClusterState::ShutDownInRecovery));
    match last.map(|last| &last.result) {
        Some(JobResult::Failed(why) | JobResult::Refused(why)) => fatal(ctx, Reason::Stopped, why.clone()),
        Some(JobResult::Done(_)) if clean => Decision { exit: Some(Exit::Stopped), ..ctx.idle(Reason::Stopped) },
        Some(JobResult::Done(_) | JobResult::Cancelled) | None => {
            ctx.step(PostgresStep::Start(StartAs::Primary), rejoin::in_place(data))
        }
    }
}

/// The lock of the in-process DCS is what makes the health checks say "primary".
fn serving(ctx: &Ctx, data: &Data) -> Decision {
    match ctx.hold() {
        Hold::NotOurs => {
            let documents = vec![DocumentStep::SetInitialize(data.system_id)];
            Decision {
                lease: LeaseStep::Acquire { seen: ctx.view.lock_seen() },
                documents,
                ..Decision::idle(Reason::Serving, Wake::Now)
            }
        }
        Hold::Held { .. } | Hold::Unconfirmed => ctx.idle(Reason::Serving),
    }
}
