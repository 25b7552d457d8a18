//! What all parts of the etcd backend share: the connection pool, the cache, the lease, and how to read an answer.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use etcd_client::{GetOptions, KeyValue, ResponseHeader, TxnOpResponse, TxnResponse};
use tracing::warn;

use super::cache::{Cache, Change, Mark, Reading};
use super::failure::Failure;
use super::kept::Kept;
use super::lease::Leases;
use super::link::Link;
use super::pool::{Pool, Try};
use super::space::Space;
use crate::core::policy::Timing;
use crate::core::units::MemberName;
use crate::dcs::codec::{self, Entry};
use crate::dcs::{DcsError, Snapshot};

pub(super) struct Session {
    pub(super) pool: Pool,
    pub(super) name: MemberName,
    /// With a slash at its end.
    pub(super) prefix: String,
    pub(super) leases: Mutex<Leases>,
    /// Held while the lease is being renewed, granted or replaced.
    pub(super) lease_turn: tokio::sync::Mutex<()>,
    pub(super) space: Space,
    cache: Mutex<Cache>,
}

/// From where an answer came and up to which revision it reaches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) cluster: u64,
    pub(super) revision: u64,
}

impl Session {
    pub(super) fn new(pool: Pool, base: &str, name: MemberName, kept: Kept) -> Self {
        let Kept { lease, past } = kept;
        Session {
            pool,
            prefix: format!("{base}/"),
            leases: Mutex::new(Leases::resume(lease)),
            lease_turn: tokio::sync::Mutex::default(),
            space: Space::default(),
            cache: Mutex::new(Cache::new(name.clone(), lease, past)),
            name,
        }
    }

    pub(super) fn timing(&self) -> Timing {
        self.pool.timing()
    }

    pub(super) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The full name of a key in etcd.
    pub(super) fn key(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    pub(super) fn leader_key(&self) -> String {
        self.key(codec::LEADER)
    }

    /// A fresh, linearizable reading, taken into the cache.
    pub(super) async fn read(&self, deadline: Duration) -> Result<Arc<Snapshot>, DcsError> {
        let read = |attempt: Try| async move { self.range(&attempt.link).await };
        let answer = self.pool.call(deadline, read).await;
        answer.map(|(_, snapshot)| snapshot).map_err(|failure| failure.into_error(deadline))
    }

    /// The same on this connection, with the revision of the reading.
    pub(super) async fn range(&self, link: &Link) -> Result<(u64, Arc<Snapshot>), Failure> {
        let mark = self.cache().mark();
        let options = GetOptions::new().with_prefix();
        let answer = link.kv().get(self.prefix.as_str(), Some(options)).await?;
        let Origin { cluster, revision } = self.origin(answer.header())?;
        let change = |kv| self.change_of(kv).and_then(|change| Some((change.path, change.entry?)));
        let reading = Reading { cluster, revision, entries: answer.kvs().iter().filter_map(change).collect() };
        let losses = self.cache().losses().count();
        let snapshot = self.cache().install(reading, mark);
        if snapshot.losses != losses {
            warn!("etcd has lost data that it had before: restored from a backup, or wiped");
            self.leases().published = None;
        }
        Ok((revision, snapshot))
    }

    /// Check an answer's header against what is known of the cluster.
    pub(super) fn origin(&self, header: Option<&ResponseHeader>) -> Result<Origin, Failure> {
        let header = header.ok_or_else(|| Failure::Answer("an answer without a header".to_owned()))?;
        self.pool.check(header)?;
        let revision = u64::try_from(header.revision()).unwrap_or(0);
        Ok(Origin { cluster: header.cluster_id(), revision })
    }

    /// The same for the answer to a linearizable request that was sent after `mark`. One from a store that has lost its
    /// data says nothing about the lock; the loss is noted at once.
    pub(super) async fn answered(
        &self,
        link: &Link,
        header: Option<&ResponseHeader>,
        mark: Mark,
    ) -> Result<Origin, Failure> {
        let origin = self.origin(header)?;
        if self.cache().is_lost(origin.cluster, origin.revision, mark) {
            self.cache().distrust();
            self.range(link).await?;
            return Err(Failure::Forgot);
        }
        Ok(origin)
    }

    /// Whether this very moment's reading shows that the store has lost its data.
    pub(super) async fn has_forgotten(&self, link: &Link) -> Result<bool, Failure> {
        let losses = self.cache().losses().count();
        let (_, snapshot) = self.range(link).await?;
        Ok(snapshot.losses != losses)
    }

    /// A key that is there. Keys outside our prefix or not in UTF-8 are nobody's.
    pub(super) fn change_of(&self, kv: &KeyValue) -> Option<Change> {
        let path = kv.key_str().ok()?.strip_prefix(self.prefix.as_str())?.to_owned();
        let revision = u64::try_from(kv.mod_revision()).unwrap_or(0);
        let entry = Entry { value: kv.value().to_vec(), revision, lease: kv.lease() };
        Some(Change { path, revision, entry: Some(entry) })
    }

    /// The key that a transaction read at `at` in its answer, taken into the cache: absent or present, both are news.
    pub(super) fn learn_key(&self, path: &str, answer: &TxnResponse, origin: Origin) -> Option<Entry> {
        let is_it = |change: &Change| change.path == path;
        let found = answer.op_responses().into_iter().find_map(|op| match op {
            TxnOpResponse::Get(get) => get.kvs().iter().find_map(|kv| self.change_of(kv).filter(is_it)),
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
        });
        let absent = || Change { path: path.to_owned(), revision: origin.revision, entry: None };
        let change = found.unwrap_or_else(absent);
        let entry = change.entry.clone();
        self.cache().found(origin.cluster, vec![change]);
        entry
    }

    /// While the guard lives, the watch takes this change for ours.
    pub(super) fn writing(&self, path: &str, value: Option<&[u8]>) -> Writing<'_> {
        self.cache().begin_write(path, value);
        Writing { session: self, path: path.to_owned(), value: value.map(<[u8]>::to_vec) }
    }

    /// Our own write, done with this answer.
    pub(super) fn wrote(&self, origin: Origin, path: &str, value: Option<Vec<u8>>, lease: i64) {
        let revision = origin.revision;
        let entry = value.map(|value| Entry { value, revision, lease });
        self.cache().wrote(origin.cluster, vec![Change { path: path.to_owned(), revision, entry }]);
    }
}

pub(super) struct Writing<'a> {
    session: &'a Session,
    path: String,
    value: Option<Vec<u8>>,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.session.cache().finish_write(&self.path, self.value.as_deref());
    }
}
