//! Worlds in which the cluster is a standby cluster for a while, and then has a primary again. What it follows never answers.

use tamada::core::policy::{ClusterKind, Pause};
use tamada::core::upstream::{Remote, Source};

use super::node::Server;
use super::world::{BEGIN, World};

/// From the change on, how long a primary may take to be none any more: a lease and what a stop takes.
const PATIENCE: u64 = 16_000;

impl World {
    /// Whether the cluster's configuration says so now: twice, for longer than it takes to obey.
    pub(super) fn says_standby_cluster(&self) -> bool {
        let since = (self.now - BEGIN).saturating_sub(self.seed % 7 * 1_000);
        self.layers.standby && ((8_000..32_000).contains(&since) || (38_000..48_000).contains(&since))
    }

    pub(super) fn kind(&self, index: usize) -> ClusterKind {
        let remote = Remote { host: "elsewhere".to_owned(), port: 5432, slot: None };
        match self.in_standby_cluster[index] {
            true => ClusterKind::Standby(Source::Remote(remote)),
            false => ClusterKind::Primary,
        }
    }

    /// Nobody is writable once all have had the time to hear of it.
    pub(super) fn none_writable(&mut self) -> Result<(), String> {
        let is_paused = self.store.is_paused || self.nodes.iter().any(|node| node.pause == Pause::Paused);
        if !self.says_standby_cluster() || is_paused || !(self.layers.guard && self.layers.demotion) {
            self.standby_since = self.now;
        }
        let writable = self.nodes.iter().find(|node| node.server == Server::Primary);
        match writable.filter(|_| self.standby_since + PATIENCE < self.now) {
            Some(node) => {
                Err(self.with_log(&format!("{} is writable in a standby cluster at {}", node.name, self.now)))
            }
            None => Ok(()),
        }
    }
}
