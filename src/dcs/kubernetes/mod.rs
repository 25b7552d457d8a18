//! Kubernetes' API as the store: a cluster's state in annotations of Endpoints or ConfigMaps, its members in those of pods.
//!
//! One list and one watch of each kind keep a cache. The lock is one object: each renewal is a conditional write of it, which
//! others see and count ttl from, by their own clocks. An idle leader sends one write a cycle, any other member nothing.
//!
//! Deliberately not here: what an outage means. Every call ends by its deadline with an answer or an error.
//!
//! - `api`: requests · `servers`: to which API server · `failure`: what an answer means · `objects`: names, what is read, what is written
//! - `state`: objects as keys, and what has run out · `cache`, `watch`: the view · `session`: what they share
//! - `lock`, `documents`, `pod`, `remove`: the calls · `modes`: locks of other kinds · `service`, `slice`: what leads clients to the leader · `kept`: what the next process is told
//! - `find`: which clusters there are

mod api;
mod cache;
mod documents;
mod failure;
mod find;
mod kept;
mod lock;
mod modes;
mod objects;
mod pod;
mod remove;
mod servers;
mod service;
mod session;
mod slice;
mod state;
mod watch;

pub use find::find;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::debug;

use self::kept::{Kept, Past};
use self::session::Session;
use super::change::WatchState;
use super::{Content, Dcs, DcsError, Expect, Key, LeaseToken, Lock, Snapshot};
use crate::config::{DcsConfig, KubernetesConfig};
use crate::core::lock_seen::LockSeen;
use crate::core::policy::Timing;
use crate::core::units::MemberName;
use crate::core::view::ClusterStatus;

/// A member's, or an observer's, access to its cluster's objects.
pub struct KubernetesDcs {
    session: Arc<Session>,
    /// Only members watch.
    watches: Vec<JoinHandle<()>>,
}

impl KubernetesDcs {
    /// A member's handle. Goes on with what a former process has kept. Nothing is sent from here; the watches begin in the
    /// background on the current runtime.
    pub fn member(
        config: &KubernetesConfig,
        scope: &str,
        name: MemberName,
        timing: Timing,
        lease: Option<&LeaseToken>,
    ) -> Self {
        let session = Arc::new(Session::new(config, scope, name, timing, Kept::read(lease)));
        let kinds = session.names.watched().into_iter();
        let watches = kinds.map(|kind| tokio::spawn(watch::keep_watch(session.clone(), kind))).collect();
        KubernetesDcs { session, watches }
    }

    /// For the command line: reads and writes documents, has no name and no watch.
    pub fn observer(config: &KubernetesConfig, scope: &str, timing: Timing) -> Self {
        let session = Session::new(config, scope, MemberName::from(""), timing, Kept::read(None));
        KubernetesDcs { session: Arc::new(session), watches: Vec::new() }
    }
}

impl Drop for KubernetesDcs {
    fn drop(&mut self) {
        self.watches.iter().for_each(JoinHandle::abort);
    }
}

impl Dcs for KubernetesDcs {
    async fn snapshot(&self, deadline: Duration) -> Result<Arc<Snapshot>, DcsError> {
        let fresh = self.session.cache().fresh(Instant::now());
        let snapshot = match fresh {
            Some(snapshot) => snapshot,
            None => self.session.read(deadline).await?,
        };
        self.session.cache().shown(&snapshot);
        Ok(snapshot)
    }

    async fn read(&self, deadline: Duration) -> Result<Arc<Snapshot>, DcsError> {
        self.session.read(deadline).await
    }

    async fn acquire(&self, seen: LockSeen, deadline: Duration) -> Result<Lock, DcsError> {
        let lock = self.session.acquire(seen, deadline).await?;
        if lock.is_held() {
            let (session, limit) = (self.session.clone(), self.session.timing().retry_timeout);
            tokio::spawn(async move {
                session.lead_here(limit).await;
                session.unlabel_others(limit).await;
                session.check_service(limit).await;
            });
        }
        Ok(lock)
    }

    async fn renew(
        &self,
        status: Option<&ClusterStatus>,
        record: Option<&Value>,
        deadline: Duration,
    ) -> Result<Lock, DcsError> {
        let lock = self.session.renew(status, deadline).await?;
        if let Some(record) = record.filter(|_| lock.is_held()) {
            // It is another object, and says nothing about the lock.
            let published = self.session.publish(record, deadline).await;
            published.unwrap_or_else(|error| debug!("the record was not written with the renewal: {error}"));
        }
        Ok(lock)
    }

    async fn release(
        &self,
        status: Option<&ClusterStatus>,
        record: Option<&Value>,
        deadline: Duration,
    ) -> Result<(), DcsError> {
        if self.session.holds() {
            self.session.lead_nowhere(deadline / 4).await;
        }
        let was_ours = self.session.release(status, deadline).await?;
        match record.filter(|_| was_ours) {
            Some(record) => self.session.publish(record, deadline).await,
            None => Ok(()),
        }
    }

    async fn publish(&self, record: &Value, deadline: Duration) -> Result<(), DcsError> {
        self.session.publish(record, deadline).await
    }

    async fn replace(&self, key: Key, content: Content, expect: Expect, deadline: Duration) -> Result<(), DcsError> {
        self.session.replace(key, &content, expect, deadline).await
    }

    async fn remove_cluster(&self, deadline: Duration) -> Result<(), DcsError> {
        self.session.remove_cluster(deadline).await
    }

    async fn wait_for_change(&self, version: u64) {
        let mut signals = self.session.cache().subscribe();
        let began = *signals.borrow_and_update();
        loop {
            let signal = *signals.borrow_and_update();
            // During an outage an old version is no news: the end of the outage, or a fresh reading, is.
            let is_told = signal.watch != WatchState::Lost || signal.relevant != began.relevant;
            if began.watch.has_turned(signal.watch) || (is_told && signal.relevant > version) {
                return;
            }
            let end = self.session.cache().next_end(Instant::now());
            let ended = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            // The cache, and with it the sender, lives as long as we do.
            tokio::select! {
                _ = signals.changed() => {}
                () = ended => self.session.cache().tick(Instant::now()),
            }
        }
    }

    fn own_address(&self) -> Option<String> {
        self.session.cache().state().own_pod()?.pod_ip.clone()
    }

    fn ttl_min(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn set_timing(&self, timing: Timing) {
        self.session.set_timing(timing);
    }

    /// They are read from files, and whenever the server refuses them.
    fn set_credentials(&self, _config: &DcsConfig) {}

    fn lease(&self) -> Option<LeaseToken> {
        self.session.cache().kept().token()
    }

    fn lease_after_loss(&self) -> Option<LeaseToken> {
        Kept { past: Some(Past::Lost), ..self.session.cache().kept() }.token()
    }
}
