//! How the API asks the loop: one bounded wait for one answer; readings are shared by all who asked before they began.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::agent::mailbox::{Mailbox, Request};

/// How many requests may wait for one shared reading; more are refused.
const WAITING_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The loop is alive but did not answer within the limit.
    #[error("the agent did not answer in time")]
    TooLong,
    /// The loop has ended, or dropped the request.
    #[error("the agent is going down")]
    Ended,
}

/// Post a request and wait for its answer, `limit` in total.
pub async fn ask<T>(
    mailbox: &Mailbox,
    limit: Duration,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Result<T, NoAnswer> {
    let (answer, answered) = oneshot::channel();
    let exchange = async {
        mailbox.send(request(answer)).await.map_err(|_| NoAnswer::Ended)?;
        answered.await.map_err(|_| NoAnswer::Ended)
    };
    tokio::time::timeout(limit, exchange).await.unwrap_or(Err(NoAnswer::TooLong))
}

/// Post a request that has no answer.
pub async fn tell(mailbox: &Mailbox, limit: Duration, request: Request) -> Result<(), NoAnswer> {
    match tokio::time::timeout(limit, mailbox.send(request)).await {
        Ok(sent) => sent.map_err(|_| NoAnswer::Ended),
        Err(_) => Err(NoAnswer::TooLong),
    }
}

/// A reading that many may ask for at once. At most one is under way; whoever asks meanwhile shares the next one, so
/// that nobody gets a reading that began before the question.
#[derive(Debug)]
pub struct Shared<T> {
    queue: mpsc::Sender<oneshot::Sender<Arc<T>>>,
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// Spawns the task that reads; it ends when this is dropped.
    pub fn new<R, F>(mut read: R) -> Self
    where
        R: FnMut() -> F + Send + 'static,
        F: Future<Output = T> + Send,
    {
        let (queue, mut questions) = mpsc::channel::<oneshot::Sender<Arc<T>>>(WAITING_MAX);
        tokio::spawn(async move {
            let mut waiting = Vec::new();
            while questions.recv_many(&mut waiting, WAITING_MAX).await > 0 {
                waiting.retain(|answer| !answer.is_closed());
                if waiting.is_empty() {
                    continue;
                }
                let reading = Arc::new(read().await);
                for answer in waiting.drain(..) {
                    // A client that has gone away needs no answer.
                    let _ = answer.send(reading.clone());
                }
            }
        });
        Shared { queue }
    }

    /// `None`: too many are waiting, or it took longer than `limit`.
    pub async fn read(&self, limit: Duration) -> Option<Arc<T>> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(answer).ok()?;
        tokio::time::timeout(limit, answered).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn those_who_ask_while_a_reading_runs_share_the_next_one() {
        let count = Arc::new(AtomicU32::new(0));
        let gate = Arc::new(Semaphore::new(0));
        let (counted, gated) = (count.clone(), gate.clone());
        let shared = Arc::new(Shared::new(move || {
            let (count, gate) = (counted.clone(), gated.clone());
            async move {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                gate.acquire().await.expect("never closed").forget();
                number
            }
        }));
        let ask = || {
            let shared = shared.clone();
            tokio::spawn(async move { shared.read(Duration::from_secs(10)).await })
        };
        let first = ask();
        while count.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let later: Vec<_> = (0..50).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        gate.add_permits(2);
        assert_eq!(first.await.expect("joined").as_deref(), Some(&1));
        for answer in later {
            assert_eq!(answer.await.expect("joined").as_deref(), Some(&2));
        }
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }
}
