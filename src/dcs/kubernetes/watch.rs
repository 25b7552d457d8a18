//! Keeps the cache in step with the API server: a list of each kind, then a watch from its version on, and a list again
//! whenever that ends in a way that leaves a doubt.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::http::Method;
use kube::core::WatchEvent;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::api::{Ask, Heard};
use super::failure::{Failure, refused};
use super::objects::Kind;
use super::session::Session;
use crate::core::units::Seconds;

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A watch that lived this long was a good one.
const GOOD: Duration = Duration::from_secs(5);
/// The server says where it is about once a minute.
const BOOKMARKS: Duration = Duration::from_secs(90);

/// What the log knows of the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Outage,
}

/// Runs until it is aborted.
pub(super) async fn keep_watch(session: Arc<Session>, kind: Kind) {
    let mut pause = PAUSE_MIN;
    let mut told = Told::Nothing;
    loop {
        let began = Instant::now();
        let Err(failure) = session.watch_once(kind, &mut told).await;
        session.cache().lost(kind);
        match told {
            Told::Outage => debug!("the watch of {} ended again: {}", kind.plural(), failure.detail()),
            Told::Nothing => warn!("the watch of {} ended: {}", kind.plural(), failure.detail()),
        }
        told = Told::Outage;
        if began.elapsed() >= GOOD {
            pause = PAUSE_MIN;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// How a watch came to its end.
enum Followed {
    /// The version up to which everything is known.
    To(String),
    /// For so long; what has changed meanwhile is not known.
    Silence(Duration),
}

impl Session {
    async fn watch_once(&self, kind: Kind, told: &mut Told) -> Result<Infallible, Failure> {
        let limit = self.timing().retry_timeout;
        self.api.look_for_servers(limit).await;
        let mut version = self.list(kind, limit).await?;
        self.cache().watching(kind);
        if *told == Told::Outage {
            info!("watching {} again", kind.plural());
        }
        *told = Told::Nothing;
        loop {
            version = match self.follow(kind, version, limit).await? {
                // An end in good order leaves no gap: the next watch goes on from there.
                Followed::To(version) => version,
                Followed::Silence(silence) => {
                    self.cache().lost(kind);
                    debug!("no change of {} was seen for {}; reading them anew", kind.plural(), Seconds(silence));
                    self.api.look_for_servers(limit).await;
                    let version = self.list(kind, limit).await?;
                    self.cache().watching(kind);
                    version
                }
            };
        }
    }

    /// How long the watch of the lock's object may be silent while somebody holds it: it tells of each renewal.
    fn renewal_max(&self) -> Duration {
        let timing = self.timing();
        timing.loop_wait + (timing.loop_wait / 2).max(Duration::from_secs(1))
    }

    /// How long a watch may be silent as things are now.
    fn silence_max(&self, kind: Kind) -> Duration {
        match kind == self.names.lock_kind() {
            true if self.cache().is_lock_held(Instant::now()) => self.renewal_max(),
            true => self.renewal_max().max(self.timing().ttl),
            false => BOOKMARKS,
        }
    }

    async fn follow(&self, kind: Kind, mut version: String, limit: Duration) -> Result<Followed, Failure> {
        let path = kind.path(&self.api.namespace().await?);
        let query = [
            ("watch", "true".to_owned()),
            ("labelSelector", self.names.selector()),
            ("resourceVersion", version.clone()),
            ("allowWatchBookmarks", "true".to_owned()),
        ];
        let ask = Ask { method: Method::GET, path, query: &query, body: None };
        let mut events = self.api.watch(&ask, limit).await?;
        let mut heard = Instant::now();
        loop {
            // The lock may be taken while this watch is dead.
            let wait = if kind == self.names.lock_kind() { self.renewal_max() } else { BOOKMARKS };
            match events.next(wait).await? {
                Heard::Event(event) => {
                    heard = Instant::now();
                    if let Some(newer) = self.take_event(kind, *event)? {
                        version = newer;
                    }
                }
                Heard::End => return Ok(Followed::To(version)),
                Heard::Nothing => {
                    let silence = heard.elapsed();
                    if silence >= self.silence_max(kind) {
                        events.give_up();
                        return Ok(Followed::Silence(silence));
                    }
                }
            }
        }
    }

    /// The version of an event.
    fn take_event(&self, kind: Kind, event: WatchEvent<super::objects::Object>) -> Result<Option<String>, Failure> {
        let now = Instant::now();
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let version = object.metadata.resource_version.clone();
                self.cache().take_in(kind, object, None, now);
                Ok(Some(version))
            }
            WatchEvent::Deleted(object) => {
                self.cache().gone(kind, &object.metadata.name, Some(object.revision()), now);
                Ok(Some(object.metadata.resource_version))
            }
            WatchEvent::Bookmark(bookmark) => {
                self.cache().passed(bookmark.metadata.resource_version.parse().unwrap_or(0));
                Ok(Some(bookmark.metadata.resource_version))
            }
            WatchEvent::Error(status) => {
                let text = format!("watch of {}: {}: {}", kind.plural(), status.code, status.message);
                Err(refused(&status, &[], None, text))
            }
        }
    }
}
