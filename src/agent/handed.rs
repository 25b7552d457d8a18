//! Work on another runtime whose result is there before the loop is woken: whoever is woken finds it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::task::JoinHandle;
use tokio::time::timeout;

#[derive(Debug)]
pub(super) struct Handed<T> {
    task: JoinHandle<()>,
    result: oneshot::Receiver<T>,
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    Cancelled,
    Panicked,
    /// Cancelled, but something blocks it.
    Blocked,
}

impl<T: Send + 'static> Handed<T> {
    /// `wake`: whom its end wakes.
    pub(super) fn begin<F>(runtime: &Handle, wake: Option<Arc<Notify>>, work: F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let task = runtime.spawn(async move {
            // Refused only by a loop that has gone.
            let _ = done.send(work.await);
            wake.iter().for_each(|wake| wake.notify_one());
        });
        Handed { task, result }
    }

    /// `None`: it has not ended yet.
    pub(super) fn take(&mut self) -> Option<Result<T, Lost>> {
        match self.result.try_recv() {
            Ok(result) => Some(Ok(result)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Closed) => Some(Err(Lost::Panicked)),
        }
    }

    /// Ends it and drops what it holds, within this time. One that had ended before keeps its result.
    pub(super) async fn cancel(mut self, limit: Duration) -> Result<T, Lost> {
        self.task.abort();
        let ended = timeout(limit, &mut self.task).await;
        match (self.result.try_recv(), ended) {
            (Ok(result), _) => Ok(result),
            (Err(_), Ok(Ok(()))) => Err(Lost::Panicked),
            (Err(_), Ok(Err(error))) if error.is_cancelled() => Err(Lost::Cancelled),
            (Err(_), Ok(Err(_))) => Err(Lost::Panicked),
            (Err(_), Err(_)) => Err(Lost::Blocked),
        }
    }
}

impl<T> Handed<T> {
    pub(super) fn abort(&self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On two runtimes, as in the agent's process: a wake-up that comes before the result would now and then be lost.
    #[test]
    fn whoever_is_woken_finds_the_result() {
        let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let runtime = other.handle().clone();
        // Ends with the test's process.
        std::thread::spawn(move || other.block_on(std::future::pending::<()>()));
        let here = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        here.block_on(async {
            for round in 0..2_000 {
                let wake = Arc::new(Notify::new());
                let mut handed = Handed::begin(&runtime, Some(wake.clone()), async move { round });
                wake.notified().await;
                assert_eq!(handed.take(), Some(Ok(round)));
            }
        });
    }
}
