//! What members read of the store, and what they make of it where nothing expires by itself.

use tamada::core::note;
use tamada::core::observation::{DcsOutage, Event};
use tamada::core::policy::Pause;
use tamada::core::view::{ClusterView, Holder};

use super::node::{Server, at};
use super::store::{Expiry, Store};
use super::world::World;

/// What a member has seen change, and when (ms): by that alone it judges what has run out where expiry is observed.
#[derive(Clone, Default)]
pub struct Eye {
    /// The version of the lock, since when it is known, and the ttl that was written with it.
    lock: (u64, u64, u64),
}

impl Eye {
    fn look(&mut self, store: &Store, now: u64) {
        if self.lock.0 != store.leader_revision {
            self.lock = (store.leader_revision, now, store.lock_ttl);
        }
    }

    /// When the lock runs out by what was seen of it.
    fn end(&self) -> u64 {
        let (_, since, ttl) = self.lock;
        since + ttl
    }

    /// A lock that has run out is nobody's.
    fn judge(&self, view: &mut ClusterView, now: u64) {
        if self.end() <= now {
            view.lock_ran_out = view.leader.take().is_some();
        }
    }
}

impl World {
    pub(super) fn read(&self, index: usize) -> Result<ClusterView, DcsOutage> {
        if !self.connected(index) {
            return Err(DcsOutage { error: "cut".to_owned() });
        }
        let mut view = self.store.view(self.nodes[index].lease);
        let is_misread = !self.layers.lease && self.nodes[index].server == Server::Standby;
        if let Some(leader) = view.leader.as_mut().filter(|_| is_misread) {
            leader.holder = Holder::Us;
        }
        Ok(view)
    }

    /// Its watch shows it the store at this moment.
    pub(super) fn look(&mut self, index: usize) {
        if self.layers.expiry == Expiry::Observed {
            self.nodes[index].eye.look(&self.store, self.now);
        }
    }

    /// Whether somebody leads, as far as this member has seen it.
    pub(super) fn is_led(&self, index: usize) -> bool {
        let is_over = self.layers.expiry == Expiry::Observed && self.nodes[index].eye.end() <= self.now;
        self.store.leader.is_some() && !is_over
    }

    /// What it reads, as old as its cache is, and when that was so; the cluster's settings and a loss of the store's data
    /// are noticed with it.
    pub(super) fn observe_store(&mut self, index: usize) -> (Result<ClusterView, DcsOutage>, u64) {
        let (read, since) = self.read_or_stale(index);
        let now = self.now;
        let judged = read.map(|mut view| {
            if self.layers.expiry == Expiry::Observed {
                self.nodes[index].eye.judge(&mut view, now);
            }
            view
        });
        (judged, since)
    }

    fn read_or_stale(&mut self, index: usize) -> (Result<ClusterView, DcsOutage>, u64) {
        let read = self.read(index);
        let now = self.now;
        let is_paused = self.store.is_paused;
        let is_in_standby_cluster = self.says_standby_cluster();
        let timing = self.store.timing.unwrap_or(self.nodes[index].timing);
        let store = &self.store;
        let node = &mut self.nodes[index];
        let Ok(view) = &read else { return (read, now) };
        if let Some((_, since, view)) = &node.stale {
            return (Ok((**view).clone()), *since);
        }
        node.eye.look(store, now);
        (node.history_seen, node.initialize_seen) = (store.history_written_at, store.initialize_version());
        let former = node.timing.ttl;
        if timing != node.timing {
            node.timing = timing;
            node.take_in_ttl(now);
        }
        self.in_standby_cluster[index] = is_in_standby_cluster;
        node.pause = if is_paused { Pause::Paused } else { Pause::Running };
        if node.losses != store.losses {
            node.losses = store.losses;
            let event = Event::StoreForgot { at: at(now), ttl: former.max(timing.ttl), lock: view.lock_revision };
            node.memory = note(std::mem::take(&mut node.memory), &event);
        }
        (read, now)
    }
}
