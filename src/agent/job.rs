//! The one slot for long work. A job is a task of another thread's runtime: the loop goes on renewing whatever blocks it,
//! and cancels it by dropping its future.
//!
//! **Invariant:** there is never more than one job. A job's end wakes the loop.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::handed::{Handed, Lost};
use super::inbox::PendingRestart;
use crate::core::local::{Job, RunningJob};
use crate::core::observation::{FinishedJob, JobResult};
use crate::core::units::{Instant, Seconds};

/// How long a cancelled job may take to drop what it holds. It is reached only by one that is blocked, as by a disk.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct JobSlot {
    slot: Option<Slot>,
    /// The request to restart that the job carries out, until its answer is known.
    restart: Option<PendingRestart>,
    runtime: Handle,
}

#[derive(Debug)]
struct Slot {
    running: RunningJob,
    work: Handed<JobResult>,
}

impl JobSlot {
    /// `runtime`: where jobs run.
    pub(super) fn new(runtime: Handle) -> Self {
        JobSlot { slot: None, restart: None, runtime }
    }

    pub(super) fn running(&self) -> Option<&RunningJob> {
        self.slot.as_ref().map(|slot| &slot.running)
    }

    /// Begins `work`, which is what `job` means here. The slot must be free.
    pub(super) fn start<F>(&mut self, job: Job, now: Instant, wake: Arc<Notify>, work: F)
    where
        F: Future<Output = JobResult> + Send + 'static,
    {
        debug_assert!(self.slot.is_none(), "a job is started while another runs");
        let work = Handed::begin(&self.runtime, Some(wake), work);
        self.slot = Some(Slot { running: RunningJob { job, since: now }, work });
    }

    /// The job that is started next, or has been, carries this out.
    pub(super) fn carries_out(&mut self, restart: Option<PendingRestart>) {
        self.restart = restart;
    }

    pub(super) fn take_restart(&mut self) -> Option<PendingRestart> {
        self.restart.take()
    }

    /// The job that has ended since the last call.
    pub(super) fn take_finished(&mut self, now: Instant) -> Option<FinishedJob> {
        let result = self.slot.as_mut()?.work.take()?;
        let slot = self.slot.take()?;
        Some(finished(slot.running.job, now, result))
    }

    /// Ends the running job and what it started. A job that had ended before it could be cancelled keeps its result.
    pub(super) async fn cancel(&mut self, now: Instant) -> Option<FinishedJob> {
        let slot = self.slot.take()?;
        let result = slot.work.cancel(CANCEL_LIMIT).await;
        Some(finished(slot.running.job, now, result))
    }
}

fn finished(job: Job, at: Instant, result: Result<JobResult, Lost>) -> FinishedJob {
    let result = match result {
        Ok(result) => result,
        Err(Lost::Cancelled) => JobResult::Cancelled,
        Err(Lost::Panicked) => JobResult::Failed("the job panicked".to_owned()),
        Err(Lost::Blocked) => {
            JobResult::Failed(format!("the cancelled job did not end within {}", Seconds(CANCEL_LIMIT)))
        }
    };
    FinishedJob { job, at, result }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::observation::JobProduct;

    const NOW: Instant = Instant::from_millis(7);

    fn done() -> JobResult {
        JobResult::Done(JobProduct::Nothing)
    }

    #[tokio::test]
    async fn the_end_of_a_job_wakes_the_loop_and_is_told_once() {
        let wake = Arc::new(Notify::new());
        let mut slot = JobSlot::new(Handle::current());
        slot.start(Job::Recover, NOW, wake.clone(), async { done() });
        assert_eq!(slot.running(), Some(&RunningJob { job: Job::Recover, since: NOW }));
        wake.notified().await;
        let finished = slot.take_finished(NOW);
        assert_eq!(finished, Some(FinishedJob { job: Job::Recover, at: NOW, result: done() }));
        assert_eq!(slot.take_finished(NOW), None);
        assert_eq!(slot.running(), None);
    }

    #[tokio::test]
    async fn cancelling_drops_what_the_job_holds() {
        let held = Arc::new(());
        let inside = held.clone();
        let mut slot = JobSlot::new(Handle::current());
        slot.start(Job::Promote, NOW, Arc::new(Notify::new()), async move {
            std::future::pending::<()>().await;
            drop(inside);
            done()
        });
        tokio::task::yield_now().await;
        let finished = slot.cancel(NOW).await.map(|job| job.result);
        assert_eq!(finished, Some(JobResult::Cancelled));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn a_job_that_ended_before_it_was_cancelled_keeps_its_result() {
        let wake = Arc::new(Notify::new());
        let mut slot = JobSlot::new(Handle::current());
        slot.start(Job::Recover, NOW, wake.clone(), async { done() });
        wake.notified().await;
        assert_eq!(slot.cancel(NOW).await.map(|job| job.result), Some(done()));
    }
}
