//! The agent was asked to end: hand over, stop, release, exit.

use super::amnesia;
use super::busy;
use super::context::Ctx;
use super::decision::{Decision, DocumentStep, Exit, PostgresStep, Wake};
use super::lease::{self, Hold};
use super::local::{ClusterState, DataDir, Job, Postgres, Running, StopMode, StopWhy};
use super::observation::{HandoverStage, Observation, ShutdownRequest};
use super::outage;
use super::policy::{Mode, Pause, Policy};
use super::reason::Reason;
use super::switchover;
use super::sync;
use super::view::{Holder, Initialize};
use std::time::Duration;

/// What of the time for a stop is left for what follows PostgreSQL's end: the confirmation, the release, the exit.
const AFTER_STOP: Duration = Duration::from_secs(2);

pub fn decide(policy: &Policy, seen: &Observation, how: ShutdownRequest) -> Decision {
    let view = seen.cluster.as_ref().ok().map(|view| amnesia::when_ending(policy, seen, view));
    let ctx = view.as_ref().map(|view| Ctx { policy, seen, view });
    if policy.pause == Pause::Paused && policy.mode == Mode::Cluster {
        return Decision { exit: Some(Exit::Stopped), ..Decision::idle(Reason::LeftRunning, Wake::Now) };
    }
    if let Some(running) = &seen.local.job {
        let ends = match (&ctx, &seen.cluster) {
            (Some(ctx), _) => busy::authority_ends(ctx, &running.job),
            (None, Err(why)) if running.job.takes_writes() => Some(outage::decide(policy, seen, why)),
            (None, _) => None,
        };
        if let Some(decision) = ends {
            return decision;
        }
        return match &running.job {
            Job::Stop { mode, .. }
                if how == ShutdownRequest::Graceful || strength(*mode) >= strength(stop_mode(how, seen)) =>
            {
                keep_lock(&ctx, seen)
            }
            Job::Stop { .. } | Job::Bootstrap | Job::Clone { .. } | Job::Reinitialize { .. } | Job::Rewind { .. } => {
                stop(policy, &ctx, seen, how)
            }
            Job::Recover | Job::Start(_) | Job::Restart(_) | Job::Promote | Job::Follow(_) => {
                stop(policy, &ctx, seen, how)
            }
        };
    }
    match &seen.local.postgres {
        Postgres::Stopped => match ctx {
            Some(ctx) => stopped(&ctx, how),
            // Whoever ends now leaves the others to wait for the end of the lease.
            None if how == ShutdownRequest::Graceful && outage::handing_over(seen) => keep_lock(&None, seen),
            None => exit(Vec::new()),
        },
        Postgres::Starting { .. } | Postgres::Running(_) | Postgres::Unresponsive { .. } | Postgres::Stopping => {
            let released = ctx.as_ref().filter(|_| how == ShutdownRequest::Graceful).and_then(sync::ask_for_release);
            released.unwrap_or_else(|| stop(policy, &ctx, seen, how))
        }
    }
}

fn exit(documents: Vec<DocumentStep>) -> Decision {
    Decision { documents, exit: Some(Exit::Stopped), ..Decision::idle(Reason::Stopped, Wake::Now) }
}

/// While PostgreSQL stops, the lock stays ours: nobody may promote before our last WAL is written.
fn keep_lock(ctx: &Option<Ctx>, seen: &Observation) -> Decision {
    match ctx {
        Some(ctx) => ctx.idle(Reason::ShuttingDown),
        None => Decision::idle(Reason::ShuttingDown, Wake::At(seen.now + lease::RETRY)),
    }
}

fn stop(policy: &Policy, ctx: &Option<Ctx>, seen: &Observation, how: ShutdownRequest) -> Decision {
    let limit = policy.stop_timeout.saturating_sub(AFTER_STOP).max(policy.stop_timeout / 2).min(policy.stop_limit);
    let step = PostgresStep::Stop { mode: stop_mode(how, seen), why: StopWhy::Shutdown, limit };
    Decision { postgres: step, ..keep_lock(ctx, seen) }
}

/// A checkpoint beforehand makes the gap short; only a primary has one.
fn stop_mode(how: ShutdownRequest, seen: &Observation) -> StopMode {
    match (how, &seen.local.postgres) {
        (ShutdownRequest::Graceful, Postgres::Running(Running::Primary(_))) => StopMode::CheckpointThenFast,
        (ShutdownRequest::Graceful | ShutdownRequest::Fast, _) => StopMode::Fast,
        (ShutdownRequest::Immediate, _) => StopMode::Immediate,
    }
}

/// By how hard they are; a running stop is replaced only by a harder one. A graceful request is met by any stop.
fn strength(mode: StopMode) -> u8 {
    match mode {
        StopMode::CheckpointThenFast => 0,
        StopMode::Fast => 1,
        StopMode::Immediate => 2,
    }
}

fn stopped(ctx: &Ctx, how: ShutdownRequest) -> Decision {
    let bootstrapping = ctx.view.initialize == Initialize::InProgress(Holder::Us)
        && ctx.seen.memory.finished.as_ref().is_some_and(|last| last.job == Job::Bootstrap);
    if bootstrapping {
        return exit(vec![DocumentStep::UnclaimInitialize]);
    }
    if ctx.hold() == Hold::NotOurs {
        return exit(Vec::new());
    }
    let handover = ctx.seen.memory.handover.as_ref();
    let confirming = handover.filter(|handover| matches!(handover.stage, HandoverStage::Confirming { .. }));
    match (how, confirming) {
        (ShutdownRequest::Graceful, Some(handover)) => {
            switchover::after_stop(ctx, handover).unwrap_or_else(|| exit(Vec::new()))
        }
        (ShutdownRequest::Fast | ShutdownRequest::Immediate, Some(_)) | (_, None) => {
            ctx.give_up(if is_clean(&ctx.seen.local.data) { Reason::Released } else { unclean(ctx) })
        }
    }
}

/// Whether PostgreSQL has made its last checkpoint, or there is nothing to be checkpointed.
fn is_clean(data: &DataDir) -> bool {
    match data {
        DataDir::Present(data) => data
            .control
            .as_ref()
            .is_none_or(|control| matches!(control.state, ClusterState::ShutDown | ClusterState::ShutDownInRecovery)),
        DataDir::Empty | DataDir::Unusable(_) => true,
    }
}

fn unclean(ctx: &Ctx) -> Reason {
    Reason::ReleasedUnclean { own: ctx.policy.name.clone() }
}
