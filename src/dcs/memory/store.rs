//! Keys, leases and revisions behind one lock. Every change is judged once, for each handle, when it is made.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::core::units::MemberName;
use crate::dcs::codec::{self, Entries, Entry, Own};
use crate::dcs::{Snapshot, change};

/// The store itself; clones share it.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Store>>);

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// Put a key as somebody outside the members would, without a lease.
    pub fn put_raw(&self, path: &str, value: &str) {
        self.lock().change(None, path, Some(value.as_bytes().to_vec()), 0);
    }

    pub fn delete_raw(&self, path: &str) {
        self.lock().change(None, path, None, 0);
    }

    /// The value of a key.
    pub fn get_raw(&self, path: &str) -> Option<String> {
        let store = self.lock();
        store.entries.get(path).map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
    }

    /// What a backup holds.
    pub fn backup(&self) -> Backup {
        let store = self.lock();
        Backup { entries: store.entries.clone(), leases: store.leases.clone() }
    }

    /// The store forgets everything but what is in the backup; leases begin anew with their whole ttl. Whoever has an
    /// eye on it is told that it has lost data.
    pub fn restore(&self, backup: Backup) {
        let mut store = self.lock();
        store.entries = backup.entries;
        store.leases = backup.leases;
        store.leases.values_mut().for_each(|lease| lease.until = Instant::now() + lease.ttl);
        store.losses += 1;
        store.revision += 1;
        let revision = store.revision;
        store.handles.iter_mut().for_each(|handle| handle.relevant = revision);
        store.changed.send_replace(revision);
    }

    pub(super) fn register(&self, name: MemberName) -> HandleId {
        let mut store = self.lock();
        store.handles.push(Handle { name, relevant: 0 });
        HandleId(store.handles.len() - 1)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.lock().changed.subscribe()
    }

    /// The store, leases that have run out already gone.
    pub(super) fn lock(&self) -> MutexGuard<'_, Store> {
        let mut store = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        store.expire();
        store
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct HandleId(usize);

/// The condition of a write.
#[derive(Clone, Copy)]
pub(super) enum Condition {
    None,
    Absent,
    Revision(u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Done,
    Refused,
}

/// What the store held at one moment; the default is an empty store.
#[derive(Clone, Default)]
pub struct Backup {
    entries: Entries,
    leases: BTreeMap<i64, Lease>,
}

#[derive(Default)]
pub(super) struct Store {
    entries: Entries,
    leases: BTreeMap<i64, Lease>,
    granted: i64,
    revision: u64,
    handles: Vec<Handle>,
    changed: watch::Sender<u64>,
    losses: u64,
}

#[derive(Clone)]
struct Lease {
    ttl: Duration,
    until: Instant,
}

struct Handle {
    name: MemberName,
    /// The revision of the last change that this member should act on.
    relevant: u64,
}

impl Store {
    pub(super) fn entries(&self) -> &Entries {
        &self.entries
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn losses(&self) -> u64 {
        self.losses
    }

    pub(super) fn relevant(&self, handle: HandleId) -> u64 {
        self.handles[handle.0].relevant
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.until).min()
    }

    /// Make the handle's waiters return.
    pub(super) fn wake(&mut self, handle: HandleId) {
        self.revision += 1;
        self.handles[handle.0].relevant = self.revision;
        self.changed.send_replace(self.revision);
    }

    pub(super) fn grant(&mut self, ttl: Duration) -> i64 {
        self.granted += 1;
        self.leases.insert(self.granted, Lease { ttl, until: Instant::now() + ttl });
        self.granted
    }

    /// Whether the lease was still there.
    pub(super) fn renew(&mut self, lease: i64) -> bool {
        let Some(lease) = self.leases.get_mut(&lease) else { return false };
        lease.until = Instant::now() + lease.ttl;
        true
    }

    pub(super) fn ttl(&self, lease: i64) -> Option<Duration> {
        self.leases.get(&lease).map(|lease| lease.ttl)
    }

    /// Hang all keys of one lease on another. No member should act on that, so it is not a change.
    pub(super) fn move_keys(&mut self, old: i64, new: i64) {
        for entry in self.entries.values_mut().filter(|entry| entry.lease == old) {
            entry.lease = new;
        }
        self.leases.remove(&old);
    }

    /// Write the key unless it has this value and lease already.
    pub(super) fn put(&mut self, author: HandleId, path: &str, value: Vec<u8>, lease: i64) {
        let is_there = self.entries.get(path).is_some_and(|entry| entry.value == value && entry.lease == lease);
        if !is_there {
            self.change(Some(author), path, Some(value), lease);
        }
    }

    pub(super) fn delete(&mut self, author: HandleId, path: &str) {
        self.change(Some(author), path, None, 0);
    }

    /// Write the key, or delete it with `None`, if the condition holds.
    pub(super) fn put_if(
        &mut self,
        author: HandleId,
        path: &str,
        value: Option<Vec<u8>>,
        lease: i64,
        condition: Condition,
    ) -> Written {
        let holds = match (condition, self.entries.get(path)) {
            (Condition::None, _) | (Condition::Absent, None) => true,
            (Condition::Revision(revision), Some(entry)) => entry.revision == revision,
            (Condition::Absent, Some(_)) | (Condition::Revision(_), None) => false,
        };
        if !holds {
            return Written::Refused;
        }
        self.change(Some(author), path, value, lease);
        Written::Done
    }

    fn change(&mut self, author: Option<HandleId>, path: &str, value: Option<Vec<u8>>, lease: i64) {
        let before: Vec<_> = self.handles.iter().map(|handle| self.seen_by(&handle.name)).collect();
        self.revision += 1;
        match value {
            Some(value) => {
                let revision = self.revision;
                self.entries.insert(path.to_owned(), Entry { value, revision, lease });
            }
            None => {
                self.entries.remove(path);
            }
        }
        for (at, before) in before.into_iter().enumerate() {
            let name = self.handles[at].name.clone();
            if author != Some(HandleId(at)) && change::matters(&before, &self.seen_by(&name), &name) {
                self.handles[at].relevant = self.revision;
            }
        }
        self.changed.send_replace(self.revision);
    }

    fn seen_by(&self, name: &MemberName) -> Snapshot {
        let (view, documents) = codec::assemble(&self.entries, &Own { name: name.clone(), lease: None });
        Snapshot { view, documents, version: self.revision, losses: self.losses }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(lease) = self.leases.iter().find(|(_, lease)| lease.until <= now).map(|(id, _)| *id) {
            self.leases.remove(&lease);
            let dead = |(path, entry): (&String, &Entry)| (entry.lease == lease).then(|| path.clone());
            for path in self.entries.iter().filter_map(dead).collect::<Vec<_>>() {
                self.change(None, &path, None, 0);
            }
        }
    }
}
