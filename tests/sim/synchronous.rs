//! Synchronous replication in the simulator: what a server waits for, what its clients are told of, and the `sync` key.

use tamada::core::decision::SyncStep;
use tamada::core::local::{Duty, NamesOf, Sender, SyncFacts, Upstream};
use tamada::core::policy::{Switch, SyncMode, Synchronous};
use tamada::core::standby_names::{Method, StandbyNames};
use tamada::core::units::Lsn;

use super::calls::Call;
use super::node::{Node, Server};
use super::world::{BEGIN, World};

/// When a world that changes its mode does so.
const CHANGE: u64 = BEGIN + 30_000;

impl World {
    /// What this world's cluster is configured with.
    pub(super) fn synchronous(&self) -> Synchronous {
        let seed = self.seed;
        let mut mode = [SyncMode::Priority, SyncMode::Quorum][(seed % 2) as usize];
        if seed % 7 == 6 && self.now > CHANGE {
            mode = if mode == SyncMode::Quorum { SyncMode::Priority } else { SyncMode::Quorum };
        }
        Synchronous {
            mode: if self.layers.sync { mode } else { SyncMode::Off },
            strict: Switch::from(seed / 2 % 2 == 1),
            node_count: 1 + (seed / 4 % 2) as usize,
            maximum_lag: None,
        }
    }

    /// The standbys that this server serves now, by name.
    fn served(&self, index: usize) -> impl Iterator<Item = (&Node, u64)> {
        let source = &self.nodes[index];
        let is_served = move |other: &usize| {
            let node = &self.nodes[*other];
            let follows = matches!(&node.upstream, Upstream::Member { name, .. } if *name == source.name);
            *other != index
                && follows
                && node.server == Server::Standby
                && node.streaming
                && self.reaches(index, *other)
        };
        (0..self.nodes.len()).filter(is_served).map(|other| {
            let node = &self.nodes[other];
            (node, node.wal.agrees_until(&source.wal))
        })
    }

    pub(super) fn sync_facts(&self, index: usize) -> SyncFacts {
        let node = &self.nodes[index];
        let named = |other: &Node| node.names.names.contains(&other.name);
        let first: Vec<&str> = self
            .served(index)
            .filter(|(other, _)| named(other))
            .take(node.names.count)
            .map(|(other, _)| other.name.as_str())
            .collect();
        let sender = |(other, position): (&Node, u64)| Sender {
            standby: other.name.to_string(),
            position: Lsn(position),
            duty: match node.names.method {
                _ if !named(other) => Duty::Async,
                Method::Any => Duty::Quorum,
                Method::First if first.contains(&other.name.as_str()) => Duty::Sync,
                Method::First => Duty::Potential,
            },
        };
        let senders =
            if node.server == Server::Primary { self.served(index).map(sender).collect() } else { Vec::new() };
        SyncFacts { names: node.names.clone(), whose: node.names_of, senders }
    }

    /// Up to where this primary's commits are confirmed. `None`: they wait.
    pub(super) fn confirmed(&self, index: usize) -> Option<u64> {
        let StandbyNames { method, count, names } = &self.nodes[index].names;
        if names.is_empty() {
            return Some(self.nodes[index].wal.end);
        }
        let mut positions: Vec<u64> =
            self.served(index).filter(|(other, _)| names.contains(&other.name)).map(|(_, position)| position).collect();
        if *method == Method::Any {
            positions.sort_by_key(|position| std::cmp::Reverse(*position));
        }
        positions.truncate(*count);
        positions.iter().min().copied().filter(|_| positions.len() == *count)
    }

    pub(super) fn sync_step(&mut self, index: usize, step: &SyncStep) {
        let now = self.now;
        let lease = self.nodes[index].lease;
        let call = match step {
            SyncStep::Leave => return,
            SyncStep::Set(names) => return self.set_names(index, names.clone(), NamesOf::Us),
            SyncStep::GiveBack => return self.set_names(index, StandbyNames::default(), NamesOf::User),
            SyncStep::Publish { key, seen } => Call::SetSync { lease, key: Some(key.clone()), seen: *seen },
            SyncStep::Unpublish { seen } => Call::SetSync { lease, key: None, seen: Some(*seen) },
        };
        self.call(index, call, now);
    }

    fn set_names(&mut self, index: usize, names: StandbyNames, whose: NamesOf) {
        if self.nodes[index].setting.is_none() {
            let takes = 20 + self.rng.below(200);
            self.nodes[index].setting = Some((self.now + takes, names, whose));
        }
    }

    /// The server has been told whom to wait for.
    pub(super) fn finish_setting(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if let Some((_, names, whose)) = node.setting.take_if(|(at, ..)| *at <= now) {
            self.log.add(|| format!("{now} {} waits for '{names}'", node.name));
            (node.names, node.names_of) = (names, whose);
            node.wake = now;
        }
    }
}
