//! The distributed configuration store: one trait, the codec between its documents and `core::view`, and the backends.
//!
//! Backends hold connections and no policy. Every call has a deadline and returns within it whatever the network does:
//! a call that hangs would keep a primary writable for ever.

pub mod codec;
pub mod etcd;
pub mod kubernetes;
pub mod memory;

mod causes;
mod change;
mod connect;
mod losses;
mod token;

pub use connect::{FindError, FoundCluster, Store, connect, find, observe};
pub use token::{LEASE_TOKEN_MAX, LeaseToken};

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::config::DcsConfig;
use crate::core::lock_seen::LockSeen;
use crate::core::policy::Timing;
use crate::core::units::{MemberName, Revision, Seconds};
use crate::core::view::{ClusterStatus, ClusterView};

/// One consistent reading.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub view: ClusterView,
    pub documents: Documents,
    /// Grows with every change that this process has seen; for `wait_for_change`.
    pub version: u64,
    /// How often this process has found that the store had lost data which it, or a former process whose token it goes
    /// on with, had been shown: restored from a backup, or wiped.
    pub losses: u64,
}

impl Snapshot {
    /// That a key must still be as it is in this reading: with this revision, or absent.
    pub fn expect(&self, revision: Option<Revision>) -> Expect {
        Expect::AsSeen(self.seen(revision))
    }

    /// The same of a key that leaders write.
    pub fn expect_leading(&self, revision: Option<Revision>) -> Expect {
        Expect::Leading(self.seen(revision))
    }

    fn seen(&self, revision: Option<Revision>) -> Seen {
        Seen { revision, losses: self.losses }
    }
}

/// The documents as they stand in the store, for those who must pass them on unchanged (the API, PATCH).
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// The revision of `initialize`.
    pub initialize: Option<Revision>,
    pub config: Option<Document>,
    pub switchover: Option<Document>,
    pub history: Option<Document>,
    pub failsafe: Option<Document>,
    /// Member records by name, verbatim. A record that is not an object is left out.
    pub members: std::collections::BTreeMap<MemberName, Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub value: Value,
    pub revision: Revision,
}

/// A document that is written as a whole. Leader, members and status have methods of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Initialize,
    Config,
    Failover,
    History,
    Sync,
}

/// What a reading said of one key. It counts as long as the store has lost nothing since: one that has begun anew counts
/// its revisions again, and a key that it lacks may have been there a moment ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `None`: there was no such key.
    pub revision: Option<Revision>,
    /// Of the reading.
    pub losses: u64,
}

/// The condition of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key must still be as a reading had it.
    AsSeen(Seen),
    /// The same, and the lock must be ours: what a leader writes may arrive when another one leads that has not written yet.
    Leading(Seen),
    /// No condition.
    Anything,
}

impl Expect {
    /// The losses of the store that the decision to write knew of; `None`: it rests on nothing that was read.
    fn losses(&self) -> Option<u64> {
        match self {
            Expect::AsSeen(seen) | Expect::Leading(seen) => Some(seen.losses),
            Expect::Anything => None,
        }
    }
}

/// What a write puts there. `initialize` is plain text, the others are compact JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Empty text on our lease: a claim that does not outlive its claimer. Only for `Key::Initialize`.
    Claim,
    Text(String),
    Json(Value),
    Delete,
}

/// Whether the lock is ours after `acquire` or `renew`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Ours, for so long from the start of the call. The backend says how long: a store may grant less than was asked.
    Held { valid_for: Duration },
    /// Somebody else holds it, or nobody does: an answer of the store, not an outage.
    NotHeld,
}

impl Lock {
    pub fn is_held(self) -> bool {
        matches!(self, Lock::Held { .. })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DcsError {
    /// No answer in time, from any endpoint. What was asked may have happened.
    #[error("no answer from {store} within {}: {detail}", Seconds(*limit))]
    Unreachable { store: &'static str, limit: Duration, detail: String },
    /// The condition of a write did not hold.
    #[error("the key {key:?} was changed by somebody else")]
    Conflict { key: Key },
    /// The store has lost data that it had shown before. It says nothing about the lock until a `snapshot` has told of
    /// it (`Snapshot::losses`): its answer would be taken for news of a store that remembers.
    #[error("{store} has lost data that it had before: restored from a backup, or wiped")]
    Forgot { store: &'static str },
    /// What it takes to ask it is missing or cannot be read.
    #[error("{store} cannot be asked: {detail}")]
    Unasked { store: &'static str, detail: String },
    /// Wrong credentials or missing rights.
    #[error("{store} refuses access: {detail}")]
    Denied { store: &'static str, detail: String },
    /// The store has no room: it refuses writes. The backend has told the log.
    #[error("{store} is out of space and refuses writes")]
    Full { store: &'static str },
    /// Any other answer that makes no sense.
    #[error("{store} answered with an error: {detail}")]
    Failed { store: &'static str, detail: String },
}

/// A backend. All methods may be called concurrently; `deadline` is the time one call may take in total.
pub trait Dcs: Send + Sync + 'static {
    /// The cluster as it stands: from the watch's cache while the watch is alive, else by a fresh reading.
    fn snapshot(&self, deadline: Duration) -> impl Future<Output = Result<Arc<Snapshot>, DcsError>> + Send;

    /// A fresh, linearizable reading (for requests that must see their own effects).
    fn read(&self, deadline: Duration) -> impl Future<Output = Result<Arc<Snapshot>, DcsError>> + Send;

    /// Take the lock, provided that it still is as it was `seen` or has become free since, and that the status is as it was
    /// seen. Whatever makes it ours is renewed first. Refused like `replace`, by what the
    /// last `snapshot` has told of losses.
    fn acquire(&self, seen: LockSeen, deadline: Duration) -> impl Future<Output = Result<Lock, DcsError>> + Send;

    /// Renew our lease and prove, in one conditional request, that the leader key still hangs on it; writes `status`
    /// and our member `record` in the same request where they differ from what stands there.
    fn renew(
        &self,
        status: Option<&ClusterStatus>,
        record: Option<&Value>,
        deadline: Duration,
    ) -> impl Future<Output = Result<Lock, DcsError>> + Send;

    /// Give the lock up, if it hangs on our lease, writing `status` and our member `record` in the same request. The
    /// lease lives on.
    fn release(
        &self,
        status: Option<&ClusterStatus>,
        record: Option<&Value>,
        deadline: Duration,
    ) -> impl Future<Output = Result<(), DcsError>> + Send;

    /// Our own member record, on our lease. Written only when it differs or is not there; the lease is renewed when
    /// about half its ttl has passed, so that one call a cycle keeps the record alive.
    fn publish(&self, record: &Value, deadline: Duration) -> impl Future<Output = Result<(), DcsError>> + Send;

    /// Write, create or delete one document under a condition. What was decided before the store lost its data is refused
    /// (`DcsError::Forgot`), as soon as this process has noticed the loss.
    fn replace(
        &self,
        key: Key,
        content: Content,
        expect: Expect,
        deadline: Duration,
    ) -> impl Future<Output = Result<(), DcsError>> + Send;

    /// Deletes everything that the store has of the cluster, whoever wrote it, and nothing else. Where members' records are
    /// kept in objects of their own (pods), those stay. What is not there any more is no error.
    fn remove_cluster(&self, deadline: Duration) -> impl Future<Output = Result<(), DcsError>> + Send;

    /// Returns when something has changed that a member should act on (leader, config, failover, initialize, a
    /// member's appearance, state or role; `status` only with a Patroni member about), other than by our own writes,
    /// since the snapshot with this version; at once if that has happened already. Never fails: an outage is a change.
    fn wait_for_change(&self, version: u64) -> impl Future<Output = ()> + Send;

    /// Where the store says that this member is: the address in its pod's status. `None`: it says nothing, or was not read yet.
    fn own_address(&self) -> Option<String> {
        None
    }

    /// The shortest ttl that this store can keep; the cluster's timers are raised to it.
    fn ttl_min(&self) -> Duration;

    /// New timers. A changed ttl moves the lock and our record to a lease of that ttl without ever giving them up.
    fn set_timing(&self, timing: Timing);

    /// The user and password of a configuration that was read anew: they are used from the next login on, so that a
    /// mistake in them breaks no connection that works.
    fn set_credentials(&self, config: &DcsConfig);

    /// What a later process of this member needs to go on where this one ends, to be kept across restarts of the agent
    /// and of the container. `None` before there is anything to keep. A later process that goes on with it notices a store
    /// that has lost its data meanwhile.
    fn lease(&self) -> Option<LeaseToken>;

    /// The same for a process that still waits after a loss: the later one notices that loss anew.
    fn lease_after_loss(&self) -> Option<LeaseToken>;
}
