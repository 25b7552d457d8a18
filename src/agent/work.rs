//! What each job does, step by step. A job is a plain future: dropping it ends what it started.

use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use crate::core::local::{Job, StopMode, StopWhy};
use crate::core::observation::{JobProduct, JobResult};
use crate::core::view::Address;
use crate::dcs::Dcs;
use crate::postgres::{Instance, PostgresError, Progress, RoleChange, Waits};

/// A job with all that it needs to know.
pub(super) struct Work {
    pub(super) job: Job,
    /// For a start, and for a promotion.
    pub(super) start_limit: Duration,
    /// After this a stop kills.
    pub(super) stop_limit: Duration,
    /// After this `pre_promote` counts as failed.
    pub(super) pre_promote_limit: Duration,
    /// Of the leader that is rewound from.
    pub(super) leader: Option<Address>,
}

pub(super) async fn perform<D: Dcs, I: Instance>(shared: Arc<Shared<D, I>>, work: Work) -> JobResult {
    if starts_server(&work.job) {
        // Wait for the pending write of the configuration files, so that this start sees it.
        drop(shared.configuring.lock().await);
    }
    let job = work.job.clone();
    let work = match work.job {
        Job::Stop { mode, why } => {
            let began = shared.now();
            if why != StopWhy::Shutdown {
                shared.instance.demoted(RoleChange::WithStop);
            }
            let waits = match (mode, why) {
                (_, StopWhy::LostLock) => Waits::Never,
                (StopMode::CheckpointThenFast, _) => Waits::Always,
                (StopMode::Fast | StopMode::Immediate, _) => Waits::AsStandby,
            };
            let mode = prepare_stop(&shared, mode, work.stop_limit / 2).await;
            let left = work.stop_limit.saturating_sub(shared.now().since(began));
            shared.instance.before_stop(left, waits).await;
            let stop_limit = work.stop_limit.saturating_sub(shared.now().since(began));
            Work { job: Job::Stop { mode, why }, stop_limit, ..work }
        }
        Job::Promote => {
            if let Some(refusal) = ask_to_promote(&shared, work.pre_promote_limit).await {
                return refusal;
            }
            work
        }
        _ => work,
    };
    match carry_out(&shared.instance, work).await {
        Ok(product) => {
            tracing::info!("{job}: done");
            JobResult::Done(product)
        }
        // The agent ends with it.
        Err(error) if job == Job::Bootstrap => JobResult::Failed(error.to_string()),
        Err(error) => {
            tracing::error!("{job}: {error}");
            JobResult::Failed(error.to_string())
        }
    }
}

/// The user's word on a promotion, and then the lock's: it may have been lost while the user's command ran.
async fn ask_to_promote<D: Dcs, I: Instance>(shared: &Shared<D, I>, limit: Duration) -> Option<JobResult> {
    if let Err(error) = shared.instance.pre_promote(limit).await {
        tracing::error!("not promoting: {error}");
        return Some(JobResult::Refused(error.to_string()));
    }
    if shared.may_lead() {
        return None;
    }
    tracing::warn!("not promoting: lost leader before promote");
    Some(JobResult::Cancelled)
}

/// What is dirty goes to disk while clients still work, so that the stop itself is short. Load balancers are told at its
/// end, when the stop begins: not earlier, since a checkpoint may take long.
async fn prepare_stop<D: Dcs, I: Instance>(shared: &Shared<D, I>, mode: StopMode, limit: Duration) -> StopMode {
    let after = match mode {
        StopMode::CheckpointThenFast => {
            shared.instance.checkpoint_before_stop(limit).await;
            StopMode::Fast
        }
        StopMode::Fast | StopMode::Immediate => mode,
    };
    shared.steps_down();
    after
}

/// A stop, above all, waits for nothing.
fn starts_server(job: &Job) -> bool {
    match job {
        Job::Bootstrap | Job::Recover | Job::Start(_) | Job::Restart(_) | Job::Follow(_) => true,
        Job::Clone { .. } | Job::Reinitialize { .. } | Job::Rewind { .. } | Job::Stop { .. } | Job::Promote => false,
    }
}

async fn carry_out<I: Instance>(instance: &I, work: Work) -> Result<JobProduct, PostgresError> {
    let Work { job, start_limit, stop_limit, pre_promote_limit: _, leader } = work;
    let progress: Progress = Arc::new(|line| tracing::info!("{line}"));
    match job {
        Job::Bootstrap => return instance.bootstrap(progress).await.map(JobProduct::Initialized),
        Job::Clone { from } => instance.clone_from(&from, progress).await?,
        Job::Reinitialize { from, why: _ } => {
            instance.before_stop(stop_limit, Waits::AsStandby).await;
            instance.stop(StopMode::Immediate, stop_limit).await?;
            instance.clone_from(&from, progress).await?;
        }
        Job::Rewind { from } => match leader {
            Some(address) => instance.rewind(&address, progress).await?,
            None => return Err(PostgresError::Refused(format!("cannot rewind: the address of {from} is not known"))),
        },
        Job::Recover => instance.recover().await?,
        Job::Start(role) => instance.start(&role, start_limit).await?,
        Job::Stop { mode, why: StopWhy::LostLock } => instance.demote(mode, stop_limit).await?,
        Job::Stop {
            mode,
            why: StopWhy::Shutdown | StopWhy::Handover | StopWhy::Refused | StopWhy::Rejoin | StopWhy::StandbyCluster,
        } => {
            let ended_at = instance.stop(mode, stop_limit).await?;
            return Ok(ended_at.map_or(JobProduct::Nothing, JobProduct::StoppedAt));
        }
        Job::Restart(role) => instance.restart(&role, stop_limit, start_limit).await?,
        Job::Promote => instance.promote(start_limit).await?,
        Job::Follow(upstream) => instance.follow(&upstream).await?,
    }
    Ok(JobProduct::Nothing)
}
