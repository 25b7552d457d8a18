//! The store inside one process: for a single server without a DCS, for tests and for simulations.
//!
//! Several members may share one `MemoryStore`, each through a `MemoryDcs` of its own. Leases run on tokio's clock, so
//! a paused clock rules them. Each handle has its own injectable `Fault`. Nothing outlives the process.

mod fault;
mod store;

pub use fault::Fault;
pub use store::{Backup, MemoryStore};

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use self::store::{Condition, HandleId, Store, Written};
use super::codec::{self, Own};
use super::{Content, Dcs, DcsError, Expect, Key, LeaseToken, Lock, Seen, Snapshot};
use crate::config::DcsConfig;
use crate::core::lock_seen::{LockSeen, StatusSeen};
use crate::core::policy::Timing;
use crate::core::units::{MemberName, Revision};
use crate::core::view::ClusterStatus;

const STORE: &str = "the in-process store";

/// One member's handle.
pub struct MemoryDcs {
    store: MemoryStore,
    handle: HandleId,
    name: MemberName,
    state: Mutex<State>,
    fault: watch::Sender<Fault>,
}

#[derive(Clone, Copy)]
struct State {
    timing: Timing,
    lease: Option<i64>,
    /// Losses of the store before this handle was made.
    losses_before: u64,
    /// Those that a snapshot has shown.
    losses_shown: u64,
}

/// What a handle leaves to the next one of its member.
#[derive(Clone, Copy)]
struct Kept {
    lease: i64,
    /// The losses that it knew of.
    losses: u64,
}

impl Kept {
    fn read(token: &LeaseToken) -> Option<Self> {
        let (lease, losses) = token.as_str().split_once('-')?;
        Some(Kept { lease: lease.parse().ok()?, losses: losses.parse().ok()? })
    }

    fn token(self) -> Option<LeaseToken> {
        LeaseToken::new(format!("{}-{}", self.lease, self.losses))
    }
}

impl MemoryDcs {
    /// A member of the cluster in `store`.
    pub fn new(store: &MemoryStore, name: MemberName, timing: Timing) -> Self {
        Self::resume(store, name, timing, None)
    }

    /// The same, going on with the lease of a former handle if it still lives, and with what that one knew of losses.
    pub fn resume(store: &MemoryStore, name: MemberName, timing: Timing, token: Option<&LeaseToken>) -> Self {
        let kept = token.and_then(Kept::read);
        let lease = kept.map(|kept| kept.lease);
        let losses = kept.map_or_else(|| store.lock().losses(), |kept| kept.losses);
        MemoryDcs {
            store: store.clone(),
            handle: store.register(name.clone()),
            name,
            state: Mutex::new(State { timing, lease, losses_before: losses, losses_shown: losses }),
            fault: watch::Sender::new(Fault::None),
        }
    }

    /// From now on this handle's calls meet this fault.
    pub fn inject(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// The watch breaks off and is there again: whoever waits is woken.
    pub fn lose_watch(&self) {
        self.store.lock().wake(self.handle);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// One request, as this handle's fault has it.
    async fn ask<T>(
        &self,
        deadline: Duration,
        request: impl FnOnce(&mut Store, &mut State) -> Result<T, DcsError>,
    ) -> Result<T, DcsError> {
        let end = Instant::now() + deadline;
        let unreachable = |detail: &str| DcsError::Unreachable { store: STORE, limit: deadline, detail: detail.into() };
        let fault = *self.fault.borrow();
        match fault {
            Fault::None | Fault::AnswerLost => {}
            Fault::Unreachable => return Err(unreachable("connection refused")),
            Fault::Hang => {
                tokio::time::sleep_until(end).await;
                return Err(unreachable("no answer"));
            }
            Fault::Latency(latency) if latency >= deadline => {
                tokio::time::sleep_until(end).await;
                return Err(unreachable("no answer"));
            }
            Fault::Latency(latency) => tokio::time::sleep(latency).await,
        }
        let answer = request(&mut self.store.lock(), &mut self.state());
        if fault == Fault::AnswerLost {
            tokio::time::sleep_until(end).await;
            return Err(unreachable("the answer was lost"));
        }
        answer
    }

    fn snapshot_of(&self, store: &Store, state: &State) -> Arc<Snapshot> {
        let (view, documents) = codec::assemble(store.entries(), &Own { name: self.name.clone(), lease: state.lease });
        let losses = store.losses() - state.losses_before;
        Arc::new(Snapshot { view, documents, version: store.revision(), losses })
    }

    /// Nothing is said of the lock before a reading has shown that the store has lost its data.
    fn recall(store: &Store, state: &State) -> Result<(), DcsError> {
        if store.losses() == state.losses_shown { Ok(()) } else { Err(DcsError::Forgot { store: STORE }) }
    }

    /// Renew our lease or begin a new one; with another ttl, our keys move to a lease of that ttl.
    fn ensure_lease(&self, store: &mut Store, state: &mut State) -> i64 {
        let ttl = state.timing.ttl;
        let lease = match state.lease.filter(|lease| store.renew(*lease)) {
            Some(lease) if store.ttl(lease) == Some(ttl) => lease,
            Some(old) => {
                let new = store.grant(ttl);
                store.move_keys(old, new);
                new
            }
            None => store.grant(ttl),
        };
        state.lease = Some(lease);
        lease
    }

    fn holds(&self, store: &Store, lease: i64) -> bool {
        let entry = store.entries().get(codec::LEADER);
        entry.is_some_and(|entry| entry.lease == lease && entry.value == self.name.as_str().as_bytes())
    }

    fn put_status(&self, store: &mut Store, status: Option<&ClusterStatus>) {
        if let Some(status) = status {
            let value = codec::status_document(status).to_string().into_bytes();
            store.put(self.handle, codec::STATUS, value, 0);
        }
    }

    fn put_record(&self, store: &mut Store, record: &Value, lease: i64) {
        store.put(self.handle, &codec::member_key(&self.name), record.to_string().into_bytes(), lease);
    }
}

impl Dcs for MemoryDcs {
    async fn snapshot(&self, deadline: Duration) -> Result<Arc<Snapshot>, DcsError> {
        let request = |store: &mut Store, state: &mut State| {
            state.losses_shown = store.losses();
            Ok(self.snapshot_of(store, state))
        };
        self.ask(deadline, request).await
    }

    async fn read(&self, deadline: Duration) -> Result<Arc<Snapshot>, DcsError> {
        self.ask(deadline, |store, state| Ok(self.snapshot_of(store, state))).await
    }

    async fn acquire(&self, seen: LockSeen, deadline: Duration) -> Result<Lock, DcsError> {
        let request = |store: &mut Store, state: &mut State| {
            Self::recall(store, state)?;
            let lease = self.ensure_lease(store, state);
            let held = Lock::Held { valid_for: state.timing.ttl };
            if self.holds(store, lease) {
                return Ok(held);
            }
            let name = self.name.as_str().as_bytes().to_vec();
            let status = store.entries().get(codec::STATUS).map(|entry| Revision(entry.revision));
            let is_as_seen = match seen.status {
                StatusSeen::Any => true,
                StatusSeen::Absent => status.is_none(),
                StatusSeen::At(seen) => status == Some(seen),
            };
            if !is_as_seen {
                return Ok(Lock::NotHeld);
            }
            let condition = seen.lock.map_or(Condition::Absent, |seen| Condition::Revision(seen.0));
            let condition = match (condition, store.entries().get(codec::LEADER)) {
                // Whoever held it has given it up.
                (Condition::Revision(_), None) => Condition::Absent,
                (condition, _) => condition,
            };
            match store.put_if(self.handle, codec::LEADER, Some(name), lease, condition) {
                Written::Done => Ok(held),
                Written::Refused => Ok(Lock::NotHeld),
            }
        };
        self.ask(deadline, request).await
    }

    async fn renew(
        &self,
        status: Option<&ClusterStatus>,
        record: Option<&Value>,
        deadline: Duration,
    ) -> Result<Lock, DcsError> {
        let request = |store: &mut Store, state: &mut State| {
            Self::recall(store, state)?;
            let lease = self.ensure_lease(store, state);
            if !self.holds(store, lease) {
                return Ok(Lock::NotHeld);
            }
            self.put_status(store, status);
            record.into_iter().for_each(|record| self.put_record(store, record, lease));
            Ok(Lock::Held { valid_for: state.timing.ttl })
        };
        self.ask(deadline, request).await
    }

    async fn release(
        &self,
        status: Option<&ClusterStatus>,
        record: Option<&Value>,
        deadline: Duration,
    ) -> Result<(), DcsError> {
        let request = |store: &mut Store, state: &mut State| {
            if let Some(lease) = state.lease.filter(|lease| self.holds(store, *lease)) {
                self.put_status(store, status);
                record.into_iter().for_each(|record| self.put_record(store, record, lease));
                store.delete(self.handle, codec::LEADER);
            }
            Ok(())
        };
        self.ask(deadline, request).await
    }

    async fn publish(&self, record: &Value, deadline: Duration) -> Result<(), DcsError> {
        let request = |store: &mut Store, state: &mut State| {
            let lease = self.ensure_lease(store, state);
            self.put_record(store, record, lease);
            Ok(())
        };
        self.ask(deadline, request).await
    }

    async fn replace(&self, key: Key, content: Content, expect: Expect, deadline: Duration) -> Result<(), DcsError> {
        let request = |store: &mut Store, state: &mut State| {
            let now = store.losses() - state.losses_before;
            if expect.losses().is_some_and(|known| known != now) {
                return Err(DcsError::Forgot { store: STORE });
            }
            let lease = if content == Content::Claim { self.ensure_lease(store, state) } else { 0 };
            let seen = match expect {
                Expect::Leading(_) if !state.lease.is_some_and(|lease| self.holds(store, lease)) => {
                    return Err(DcsError::Conflict { key });
                }
                Expect::AsSeen(seen) | Expect::Leading(seen) => Some(seen),
                Expect::Anything => None,
            };
            let condition = match seen {
                Some(Seen { revision: None, .. }) => Condition::Absent,
                Some(Seen { revision: Some(revision), .. }) => Condition::Revision(revision.0),
                None => Condition::None,
            };
            match store.put_if(self.handle, codec::key_path(key), codec::content_bytes(&content), lease, condition) {
                Written::Done => Ok(()),
                Written::Refused => Err(DcsError::Conflict { key }),
            }
        };
        self.ask(deadline, request).await
    }

    async fn remove_cluster(&self, deadline: Duration) -> Result<(), DcsError> {
        let request = |store: &mut Store, _: &mut State| {
            let paths: Vec<String> = store.entries().keys().cloned().collect();
            paths.iter().for_each(|path| store.delete(self.handle, path));
            Ok(())
        };
        self.ask(deadline, request).await
    }

    async fn wait_for_change(&self, version: u64) {
        let mut revisions = self.store.subscribe();
        let mut fault = self.fault.subscribe();
        let began_in_outage = fault.borrow_and_update().is_outage();
        loop {
            let is_outage = fault.borrow_and_update().is_outage();
            revisions.mark_unchanged();
            let (expiry, relevant) = {
                let store = self.store.lock();
                (store.next_expiry(), store.relevant(self.handle))
            };
            if is_outage != began_in_outage || (!is_outage && relevant > version) {
                return;
            }
            let expired = async {
                match expiry {
                    Some(expiry) if !is_outage => tokio::time::sleep_until(expiry).await,
                    Some(_) | None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = revisions.changed() => {}
                _ = fault.changed() => {}
                () = expired => {}
            }
        }
    }

    fn ttl_min(&self) -> Duration {
        Duration::ZERO
    }

    fn set_timing(&self, timing: Timing) {
        self.state().timing = timing;
    }

    fn set_credentials(&self, _config: &DcsConfig) {}

    fn lease(&self) -> Option<LeaseToken> {
        let State { lease, losses_shown, .. } = *self.state();
        lease.and_then(|lease| Kept { lease, losses: losses_shown }.token())
    }

    fn lease_after_loss(&self) -> Option<LeaseToken> {
        let State { lease, losses_shown, .. } = *self.state();
        lease.and_then(|lease| Kept { lease, losses: losses_shown.saturating_sub(1) }.token())
    }
}
