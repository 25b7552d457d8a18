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
use crate::core::units::Seconds;

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// After a refusal: logging in is costly for etcd.
const PAUSE_DENIED: Duration = Duration::from_secs(5);
/// Whether to ask etcd for the addresses of its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discovery {
    On,
    Off,
}

/// A watch that lived this long was a good one.
const GOOD: Duration = Duration::from_secs(5);

/// What the log knows of the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Outage,
}

/// Runs until it is aborted.
pub(super) async fn keep_watch(session: Arc<Session>, discovery: Discovery) {
    let mut pause = PAUSE_MIN;
    let mut told = Told::Nothing;
    let mut discovered = None;
    loop {
        let began = Instant::now();
        let Err(failure) = session.watch_once(&mut told, discovery, &mut discovered).await;
        session.cache().lost();
        match told {
            Told::Outage => debug!("the watch on etcd ended again: {}", failure.detail()),
            Told::Nothing => warn!("the watch on etcd ended: {}", failure.detail()),
        }
        told = Told::Outage;
        if began.elapsed() >= GOOD {
            pause = PAUSE_MIN;
        }
        let pause_now = if matches!(failure, Failure::Denied(_) | Failure::Token(_)) { PAUSE_DENIED } else { pause };
        tokio::time::sleep(pause_now).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

impl Session {
    async fn watch_once(
        &self,
        told: &mut Told,
        discovery: Discovery,
        discovered: &mut Option<Instant>,
    ) -> Result<Infallible, Failure> {
        let limit = self.timing().retry_timeout;
        let read = |attempt: Try| async move { Ok((self.range(&attempt.link).await?.0, attempt.link)) };
        let (revision, link) = self.pool.call(limit, read).await?;
        let from = i64::try_from(revision).unwrap_or(i64::MAX - 1) + 1;
        let limit = self.pool.share_of(limit);
        let late = || Failure::Gone(format!("no watch within {}", Seconds(limit)));
        let opened = timeout(limit, self.open_watch(&link, from)).await.unwrap_or_else(|_| Err(late()));
        let ended = match opened {
            Ok(stream) => {
                self.cache().watching(link.clone());
                *told = Told::Nothing;
                info!("watching the cluster in etcd at {}", link.endpoint);
                let is_due = discovered.is_none_or(|at| at.elapsed() >= 10 * self.timing().ttl);
                if discovery == Discovery::On && is_due {
                    *discovered = Some(Instant::now());
                    self.discover(&link, limit).await;
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

    /// Ask for the other nodes. Without an answer those that are known must do.
    async fn discover(&self, link: &Link, limit: Duration) {
        match timeout(limit, link.members()).await {
            Ok(Ok(urls)) => self.pool.complete(&urls),
            Ok(Err(failure)) => debug!("the nodes of etcd are not known: {}", failure.detail()),
            Err(_) => debug!("the nodes of etcd are not known: no answer within {limit:?}"),
        }
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
