//! Keeps the cache in step with etcd: a whole reading, then a watch from the next revision on, and again from the start
//! whenever that ends for whatever reason.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::cache::Change;
use super::failure::Failure;
use super::link::Link;
use super::pool::Try;
use super::session::Session;

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// After a refusal: logging in is costly for etcd.
const PAUSE_DENIED: Duration = Duration::from_secs(5);
/// A watch that lived this long was a good one.
const GOOD: Duration = Duration::from_secs(5);

/// Runs until it is aborted.
pub(super) async fn keep_watch(session: Arc<Session>) {
    let mut pause = PAUSE_MIN;
    let mut is_known = false;
    loop {
        let began = Instant::now();
        let Err(failure) = session.watch_once(&mut is_known).await;
        session.cache().lost();
        if is_known {
            debug!("the watch on etcd ended again: {}", failure.detail());
        } else {
            warn!("the watch on etcd ended: {}", failure.detail());
            is_known = true;
        }
        if began.elapsed() >= GOOD {
            pause = PAUSE_MIN;
        }
        let pause_now = if matches!(failure, Failure::Denied(_) | Failure::Token(_)) { PAUSE_DENIED } else { pause };
        tokio::time::sleep(pause_now).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

impl Session {
    /// `is_known`: an outage has been logged and its end has not.
    async fn watch_once(&self, is_known: &mut bool) -> Result<Infallible, Failure> {
        let limit = self.timing().retry_timeout;
        let read = |attempt: Try| async move { Ok((self.range(&attempt.link).await?.0, attempt.link)) };
        let (revision, link) = self.pool.call(limit, read).await?;
        let from = i64::try_from(revision).unwrap_or(i64::MAX - 1) + 1;
        let limit = self.pool.share_of(limit);
        let late = || Failure::Gone(format!("no watch within {limit:?}"));
        let opened = timeout(limit, self.open_watch(&link, from)).await.unwrap_or_else(|_| Err(late()));
        let ended = match opened {
            Ok(stream) => {
                self.cache().watching(link.clone());
                if std::mem::take(is_known) {
                    info!("the watch on etcd is alive again");
                }
                self.follow(&link, stream).await
            }
            Err(failure) => Err(failure),
        };
        if matches!(ended, Err(Failure::Gone(_))) {
            self.pool.retire(&link);
        }
        ended
    }

    async fn open_watch(&self, link: &Link, from: i64) -> Result<WatchStream, Failure> {
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        let mut stream = link.watch().watch(self.prefix.as_str(), Some(options)).await?;
        let first = stream.message().await?.ok_or_else(|| Failure::Gone("the watch ended at once".to_owned()))?;
        if first.canceled() && is_refusal(first.cancel_reason()) {
            link.log_in_again().await?;
        }
        self.take_in(link, &first)?;
        Ok(stream)
    }

    async fn follow(&self, link: &Link, mut stream: WatchStream) -> Result<Infallible, Failure> {
        let mut retired = std::pin::pin!(link.retired());
        loop {
            tokio::select! {
                message = stream.message() => {
                    let message = message?.ok_or_else(|| Failure::Gone("the watch's stream ended".to_owned()))?;
                    self.take_in(link, &message)?;
                }
                () = &mut retired => return Err(Failure::Gone("its connection was given up".to_owned())),
            }
        }
    }

    fn take_in(&self, link: &Link, message: &WatchResponse) -> Result<(), Failure> {
        if message.canceled() {
            return Err(Failure::Answer(format!("the watch was cancelled: {}", message.cancel_reason())));
        }
        self.origin(message.header())?;
        link.touch();
        let changes = message.events().iter().filter_map(|event| {
            let change = self.change_of(event.kv()?)?;
            Some(match event.event_type() {
                EventType::Put => change,
                EventType::Delete => Change { entry: None, ..change },
            })
        });
        self.cache().observe(changes.collect());
        Ok(())
    }
}

fn is_refusal(reason: &str) -> bool {
    ["permission denied", "auth token", "user name is empty"].iter().any(|text| reason.contains(text))
}
