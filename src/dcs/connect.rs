//! The one place that chooses a backend by the configuration.
//!
//! A new backend is one more variant here; nobody else names one but tests.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::etcd::EtcdDcs;
use super::kubernetes::{KubernetesDcs, find as kubernetes_find};
use super::memory::{MemoryDcs, MemoryStore};
use super::{Content, Dcs, DcsError, Expect, Key, LeaseToken, Lock, Snapshot, codec};
use crate::config::{Config, DcsConfig, StateObjects};
use crate::core::lock_seen::LockSeen;
use crate::core::policy::Timing;
use crate::core::view::ClusterStatus;

/// The store of a configuration.
pub enum Store {
    /// A single server: the lock and the documents live in this process.
    InProcess(MemoryDcs),
    Etcd(Box<EtcdDcs>),
    Kubernetes(Box<KubernetesDcs>),
}

/// A member's handle, going on with the lease of a former process if one is given and still lives. Nothing is sent from
/// here. Needs the runtime that it is to live on.
pub fn connect(config: &Config, timing: Timing, lease: Option<&LeaseToken>) -> Result<Store, DcsError> {
    let name = config.name.clone();
    match &config.dcs {
        DcsConfig::Single => Ok(Store::InProcess(MemoryDcs::new(&MemoryStore::new(), name, timing))),
        DcsConfig::Etcd3(etcd) => {
            let base = codec::base_path(&config.namespace, &config.scope);
            Ok(Store::Etcd(Box::new(EtcdDcs::member(etcd, &base, name, timing, lease)?)))
        }
        DcsConfig::Kubernetes(kubernetes) => {
            let dcs = KubernetesDcs::member(kubernetes, &config.scope, name, timing, lease);
            Ok(Store::Kubernetes(Box::new(dcs)))
        }
    }
}

/// For the command line: reads and writes documents, has no name, no lease and no watch. `None`: a single server, whose
/// store is another process's.
pub fn observe(config: &Config) -> Result<Option<Store>, DcsError> {
    match &config.dcs {
        DcsConfig::Single => Ok(None),
        DcsConfig::Etcd3(etcd) => {
            let base = codec::base_path(&config.namespace, &config.scope);
            Ok(Some(Store::Etcd(Box::new(EtcdDcs::observer(etcd, &base, Timing::default())?))))
        }
        DcsConfig::Kubernetes(kubernetes) => {
            let dcs = KubernetesDcs::observer(kubernetes, &config.scope, Timing::default());
            Ok(Some(Store::Kubernetes(Box::new(dcs))))
        }
    }
}

/// A cluster that a store knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundCluster {
    pub scope: String,
    /// Or why that cannot be told.
    pub objects: Result<StateObjects, String>,
}

/// Why no cluster was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is none; what was looked for, and what to set.
    #[error("{0}")]
    Nothing(String),
    #[error("{0}")]
    Dcs(#[from] DcsError),
}

/// The clusters that the store knows of: those of this configuration's scope, where it has one. `None`: they cannot be
/// looked for, since only a configuration says where they are.
pub async fn find(config: &Config, deadline: Duration) -> Result<Option<Vec<FoundCluster>>, FindError> {
    match &config.dcs {
        DcsConfig::Single | DcsConfig::Etcd3(_) => Ok(None),
        DcsConfig::Kubernetes(kubernetes) => {
            let scope = Some(config.scope.as_str()).filter(|scope| !scope.is_empty());
            kubernetes_find(kubernetes, scope, deadline).await.map(Some)
        }
    }
}

/// The same call on whichever backend it is.
macro_rules! on_each {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Store::InProcess($store) => $call,
            Store::Etcd($store) => $call,
            Store::Kubernetes($store) => $call,
        }
    };
}

impl Dcs for Store {
    async fn snapshot(&self, deadline: Duration) -> Result<Arc<Snapshot>, DcsError> {
        on_each!(self, store => store.snapshot(deadline).await)
    }

    async fn read(&self, deadline: Duration) -> Result<Arc<Snapshot>, DcsError> {
        on_each!(self, store => store.read(deadline).await)
    }

    async fn acquire(&self, seen: LockSeen, deadline: Duration) -> Result<Lock, DcsError> {
        on_each!(self, store => store.acquire(seen, deadline).await)
    }

    async fn renew(
        &self,
        status: Option<&ClusterStatus>,
        record: Option<&Value>,
        deadline: Duration,
    ) -> Result<Lock, DcsError> {
        on_each!(self, store => store.renew(status, record, deadline).await)
    }

    async fn release(
        &self,
        status: Option<&ClusterStatus>,
        record: Option<&Value>,
        deadline: Duration,
    ) -> Result<(), DcsError> {
        on_each!(self, store => store.release(status, record, deadline).await)
    }

    async fn publish(&self, record: &Value, deadline: Duration) -> Result<(), DcsError> {
        on_each!(self, store => store.publish(record, deadline).await)
    }

    async fn replace(&self, key: Key, content: Content, expect: Expect, deadline: Duration) -> Result<(), DcsError> {
        on_each!(self, store => store.replace(key, content, expect, deadline).await)
    }

    async fn remove_cluster(&self, deadline: Duration) -> Result<(), DcsError> {
        on_each!(self, store => store.remove_cluster(deadline).await)
    }

    async fn wait_for_change(&self, version: u64) {
        on_each!(self, store => store.wait_for_change(version).await)
    }

    fn own_address(&self) -> Option<String> {
        on_each!(self, store => store.own_address())
    }

    fn ttl_min(&self) -> Duration {
        on_each!(self, store => store.ttl_min())
    }

    fn set_timing(&self, timing: Timing) {
        on_each!(self, store => store.set_timing(timing));
    }

    fn set_credentials(&self, config: &DcsConfig) {
        on_each!(self, store => store.set_credentials(config));
    }

    fn lease(&self) -> Option<LeaseToken> {
        on_each!(self, store => store.lease())
    }

    fn lease_after_loss(&self) -> Option<LeaseToken> {
        on_each!(self, store => store.lease_after_loss())
    }
}
