//! A single, plain server: the in-process DCS, nobody to lose the lock to, and a user whose files these are.

use super::bootstrap;
use super::context::Ctx;
use super::decision::{Decision, DocumentStep, Exit, LeaseStep, PostgresStep, Wake};
use super::lease::Hold;
use super::local::{ClusterState, Data, DataDir, Job, LastRole, Postgres, Running, StartAs};
use super::observation::JobResult;
use super::reason::Reason;

pub fn decide(ctx: &Ctx) -> Decision {
    let data = match &ctx.seen.local.data {
        DataDir::Empty => return bootstrap::bootstrap_failed(ctx).unwrap_or_else(|| bootstrap::new_cluster(ctx)),
        DataDir::Unusable(why) => return fatal(ctx, Reason::Unusable { why: why.clone() }, why.clone()),
        DataDir::Present(data) => data,
    };
    match &ctx.seen.local.postgres {
        Postgres::Stopped => stopped(ctx, data),
        Postgres::Starting { role: LastRole::Primary | LastRole::Standby, .. } => ctx.idle(Reason::Starting),
        Postgres::Unresponsive { .. } => ctx.idle(Reason::NotAnswering),
        Postgres::Stopping => ctx.idle(Reason::Stopping),
        Postgres::Running(Running::Primary(_)) if ctx.seen.requests.restart.is_some() => {
            ctx.step(PostgresStep::Restart(StartAs::Primary), Reason::Restarting)
        }
        Postgres::Running(Running::Primary(_)) => serving(ctx, data),
        Postgres::Running(Running::Standby(_)) => ctx.idle(Reason::StandbyAlone),
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
        Some(JobResult::Failed(why)) => fatal(ctx, Reason::Stopped, why.clone()),
        Some(JobResult::Done(_)) if clean => Decision { exit: Some(Exit::Stopped), ..ctx.idle(Reason::Stopped) },
        Some(JobResult::Done(_) | JobResult::Cancelled) | None => {
            ctx.step(PostgresStep::Start(StartAs::Primary), Reason::StartingInPlace)
        }
    }
}

/// The lock of the in-process DCS is what makes the health checks say "primary".
fn serving(ctx: &Ctx, data: &Data) -> Decision {
    match ctx.hold() {
        Hold::NotOurs => {
            let documents = vec![DocumentStep::SetInitialize(data.system_id)];
            Decision { lease: LeaseStep::Acquire, documents, ..Decision::idle(Reason::Serving, Wake::Now) }
        }
        Hold::Held { .. } | Hold::Unconfirmed => ctx.idle(Reason::Serving),
    }
}
