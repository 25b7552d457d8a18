//! Before the first cycle: wait for the store, and make sure that no other node has our name.
//!
//! Nothing here touches PostgreSQL. If a server runs already, nothing is waited for: the loop has its lease to renew
//! before PID 1's deadline. Nor does an agent wait that follows another one: its name is known to be its own.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::cycle::{Agent, Incarnation};
use crate::core::local::Postgres;
use crate::core::policy::Mode;
use crate::dcs::{Dcs, DcsError, Snapshot};
use crate::postgres::Instance;

/// How often an unreachable store is tried.
const RETRY: Duration = Duration::from_secs(2);
/// How long one try may take before it is told that we wait.
const READING_LIMIT: Duration = Duration::from_secs(3);
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// How long a node with our name may take to answer.
const NAMESAKE_LIMIT: Duration = Duration::from_secs(3);

impl<D: Dcs, I: Instance> Agent<D, I> {
    /// `Some`: the agent is to end with this code without having begun.
    pub(super) async fn start(&mut self) -> Option<u8> {
        if self.settings.mode() == Mode::Single {
            return None;
        }
        // A shutdown that comes meanwhile is the loop's to carry out: a server may be running.
        let found = self.shared.bounded(PROBE_LIMIT * 2, self.shared.instance.probe(PROBE_LIMIT)).await;
        self.take_probe(found);
        match &self.server.probe().postgres {
            Postgres::Stopped => {}
            Postgres::Running(_) | Postgres::Starting { .. } | Postgres::Stopping => {
                tracing::info!("PostgreSQL is running already; going on with it");
                return None;
            }
            Postgres::Unresponsive { .. } => {
                tracing::warn!("it cannot be told whether PostgreSQL is running; going on as if it were");
                return None;
            }
        }
        // In an outage the loop starts it for reads, as it would have if the agent had lived on.
        if self.incarnation == Incarnation::Later {
            return None;
        }
        let snapshot = tokio::select! {
            biased;
            () = self.shared.shutdown_asked(Duration::ZERO) => return Some(0),
            snapshot = self.first_reading() => snapshot,
        };
        let url = self.other_record(&snapshot)?;
        tokio::select! {
            biased;
            () = self.shared.shutdown_asked(Duration::ZERO) => Some(0),
            reply = self.shared.peers.get(&url, NAMESAKE_LIMIT) => reply.map(|_| {
                let name = &self.settings.config.name;
                tracing::error!("Can't start; there is already a node named '{name}' running");
                1
            }),
        }
    }

    async fn first_reading(&self) -> std::sync::Arc<Snapshot> {
        let mut told = String::new();
        loop {
            let limit = self.settings.timing.retry_timeout.min(READING_LIMIT);
            let error = match self.shared.dcs.snapshot(limit).await {
                Ok(snapshot) => return snapshot,
                Err(error) => error,
            };
            let text = error.to_string();
            match &error {
                _ if text == told => tracing::debug!("still no answer: {text}"),
                DcsError::Unreachable { store, .. } => tracing::info!("waiting on {store}: {text}"),
                DcsError::Denied { .. }
                | DcsError::Unasked { .. }
                | DcsError::Conflict { .. }
                | DcsError::Forgot { .. }
                | DcsError::Full { .. }
                | DcsError::Failed { .. } => {
                    tracing::error!("cannot read the cluster: {text}");
                }
            }
            told = text;
            sleep(RETRY).await;
        }
    }

    /// Where the node answers that has published a record under our name.
    fn other_record(&self, snapshot: &Snapshot) -> Option<String> {
        let record = snapshot.documents.members.get(&self.settings.config.name)?;
        let url = record.get("api_url").and_then(Value::as_str)?;
        let (scheme, rest) = url.split_once("://")?;
        let place = rest.split('/').next()?;
        Some(format!("{scheme}://{place}/liveness"))
    }
}
