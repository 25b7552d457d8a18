//! etcd, version 3 of its API (3.4 and later).
//!
//! One connection to one node at a time, one lease for all keys that are to vanish with us, one watch that keeps a
//! cache of the cluster's keys. An idle leader sends one keepalive and one transaction a cycle, any other member one
//! keepalive in half a ttl.
//!
//! Deliberately not here: what an outage means. Every call ends by its deadline with an answer or an error, and only
//! the time of the last proven renewal counts for the lock.
//!
//! - `failure`: what an answer means · `dial`, `tls`: byte streams · `link`: one connection · `pool`: endpoints, retries
//! - `lease`, `renew`, `ops`, `remove`: the requests · `space`: an etcd that is full · `kept`: what the next process is told · `cache`, `watch`: the view · `session`: what they share

mod acquire;
mod cache;
mod dial;
mod failure;
mod kept;
mod lease;
mod link;
mod ops;
mod patience;
mod pool;
mod remove;
mod renew;
mod session;
mod space;
mod tls;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;

use self::cache::Past;
use self::dial::{Dialer, Endpoint};
use self::failure::STORE;
use self::kept::Kept;
use self::link::Login;
use self::pool::Pool;
use self::session::Session;
use self::tls::Tls;
use self::watch::Discovery;
use super::change::WatchState;
use super::{Content, Dcs, DcsError, Expect, Key, LeaseToken, Lock, Snapshot, codec};
use crate::config::{DcsConfig, EtcdConfig, Scheme};
use crate::core::lock_seen::LockSeen;
use crate::core::policy::Timing;
use crate::core::units::MemberName;
use crate::core::view::ClusterStatus;

/// A member's, or an observer's, access to its cluster's keys in etcd.
pub struct EtcdDcs {
    session: Arc<Session>,
    /// Only members watch.
    watch: Option<JoinHandle<()>>,
}

impl EtcdDcs {
    /// A member's handle; `base` is `codec::base_path`. Goes on with the lease of a former process if one is given and
    /// still lives. Nothing is sent from here; the watch begins in the background on the current runtime.
    pub fn member(
        config: &EtcdConfig,
        base: &str,
        name: MemberName,
        timing: Timing,
        lease: Option<&LeaseToken>,
    ) -> Result<Self, DcsError> {
        let session = Arc::new(Session::new(pool(config, timing)?, base, name, Kept::read(lease)));
        let discovery = if config.use_proxies.is_on() { Discovery::Off } else { Discovery::On };
        let watch = tokio::spawn(watch::keep_watch(session.clone(), discovery));
        Ok(EtcdDcs { session, watch: Some(watch) })
    }

    /// For the command line: reads and writes documents, has no name, no lease and no watch.
    pub fn observer(config: &EtcdConfig, base: &str, timing: Timing) -> Result<Self, DcsError> {
        let session = Session::new(pool(config, timing)?, base, MemberName::from(""), Kept::default());
        Ok(EtcdDcs { session: Arc::new(session), watch: None })
    }
}

fn pool(config: &EtcdConfig, timing: Timing) -> Result<Pool, DcsError> {
    let refused = |detail: &str| Err(DcsError::Failed { store: STORE, detail: detail.to_owned() });
    if config.endpoints.is_empty() {
        return refused("no endpoint is configured");
    }
    let tls = match config.scheme {
        Scheme::Http => None,
        Scheme::Https => Some(Tls::new(config)),
    };
    let endpoints = config.endpoints.iter().cloned().map(Endpoint).collect();
    Ok(Pool::new(endpoints, Dialer::new(tls), Login::of(config), timing))
}

impl Drop for EtcdDcs {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

fn status_text(status: Option<&ClusterStatus>) -> Option<String> {
    status.map(|status| codec::status_document(status).to_string())
}

impl Dcs for EtcdDcs {
    async fn snapshot(&self, deadline: Duration) -> Result<Arc<Snapshot>, DcsError> {
        let fresh = self.session.cache().fresh(&self.session.timing());
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
        self.session.acquire(seen, deadline).await
    }

    async fn renew(
        &self,
        status: Option<&ClusterStatus>,
        record: Option<&Value>,
        deadline: Duration,
    ) -> Result<Lock, DcsError> {
        let record = record.map(|record| record.to_string().into_bytes());
        self.session.renew(status_text(status).as_deref(), record.as_deref(), deadline).await
    }

    async fn release(
        &self,
        status: Option<&ClusterStatus>,
        record: Option<&Value>,
        deadline: Duration,
    ) -> Result<(), DcsError> {
        let record = record.map(|record| record.to_string().into_bytes());
        self.session.release(status_text(status).as_deref(), record.as_deref(), deadline).await
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
        let changed = signals.wait_for(|signal| {
            // During an outage an old version is no news: the end of the outage, or a fresh reading, is.
            let is_told = signal.watch != WatchState::Lost || signal.relevant != began.relevant;
            began.watch.has_turned(signal.watch) || (is_told && signal.relevant > version)
        });
        // The cache, and with it the sender, lives as long as we do.
        let _ = changed.await;
    }

    /// Leases are granted in whole seconds. A node with a long election timeout grants more than it was asked for, which
    /// makes a failover later and nothing unsafe.
    fn ttl_min(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn set_timing(&self, timing: Timing) {
        self.session.pool.set_timing(timing);
    }

    fn set_credentials(&self, config: &DcsConfig) {
        match config {
            DcsConfig::Single | DcsConfig::Kubernetes(_) => {}
            DcsConfig::Etcd3(config) => self.session.pool.login.set(Login::of(config)),
        }
    }

    fn lease(&self) -> Option<LeaseToken> {
        let lease = self.session.leases().id();
        Kept { lease, past: self.session.cache().past() }.token()
    }

    fn lease_after_loss(&self) -> Option<LeaseToken> {
        Kept { lease: self.session.leases().id(), past: Some(Past::Lost) }.token()
    }
}
