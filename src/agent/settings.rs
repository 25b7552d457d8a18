//! The settings in force: the node's own configuration and the cluster's `config` document, merged.
//!
//! **Invariant:** a document that cannot be read changes nothing; the last good one stays in force.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::{Config, DcsConfig, Dynamic, server_settings};
use crate::core::policy::{Floor, Mode, Policy, RewindPolicy, Switch, Timing};
use crate::core::units::Revision;
use crate::dcs::{Document, Snapshot};
use crate::postgres::{DesiredServer, Force};

pub(super) struct Settings {
    pub(super) config: Arc<Config>,
    pub(super) dynamic: Dynamic,
    /// The last good document, as it stands in the store, in the file beside the data, or in `bootstrap.dcs`.
    pub(super) document: Map<String, Value>,
    /// Of the last document that was looked at, good or bad. `None` before the first.
    revision: Option<Revision>,
    /// The timers in force: those of the document, raised to what the members present can keep.
    pub(super) timing: Timing,
    /// Grows with every change of what the server is to run with.
    pub(super) generation: u64,
    /// The generation that the server was configured with.
    pub(super) configured: u64,
    /// The generation whose document is kept beside the data.
    pub(super) saved: u64,
    /// For the next configuring.
    pub(super) force: Force,
}

/// What a cycle's reading changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimingChange {
    Same,
    Changed,
}

impl Settings {
    /// Before the store has been read: the document kept beside the data, else that of `bootstrap.dcs`.
    pub(super) fn new(config: Arc<Config>, kept: Option<Value>) -> Self {
        let kept = match kept {
            Some(Value::Object(document)) => Dynamic::parse(&document).ok().map(|dynamic| (dynamic, document)),
            Some(_) | None => None,
        };
        let (dynamic, document) = kept.unwrap_or_else(|| {
            let document = config.bootstrap.dcs.clone();
            let dynamic = Dynamic::parse(&document).expect("the configuration's own document was checked with it");
            (dynamic, document)
        });
        let timing = dynamic.timing.effective(Floor::Ours);
        let force = Force::No;
        Settings { config, dynamic, document, revision: None, timing, generation: 1, configured: 0, saved: 0, force }
    }

    pub(super) fn mode(&self) -> Mode {
        match self.config.dcs {
            DcsConfig::Single => Mode::Single,
            DcsConfig::Etcd3(_) => Mode::Cluster,
        }
    }

    /// Takes over what this reading of the store says.
    pub(super) fn take_in(&mut self, snapshot: &Snapshot) -> TimingChange {
        if let Some(document) = &snapshot.documents.config
            && self.revision != Some(document.revision)
        {
            self.revision = Some(document.revision);
            self.take_in_document(document);
        }
        let timing = self.dynamic.timing.effective(Floor::of(&snapshot.view));
        if timing == self.timing {
            return TimingChange::Same;
        }
        let (ttl, loop_wait, retry_timeout) = (timing.ttl, timing.loop_wait, timing.retry_timeout);
        tracing::info!("timers in force: ttl {ttl:?}, loop_wait {loop_wait:?}, retry_timeout {retry_timeout:?}");
        self.timing = timing;
        TimingChange::Changed
    }

    fn take_in_document(&mut self, document: &Document) {
        let Value::Object(fields) = &document.value else {
            tracing::warn!("the cluster's configuration is not an object; the last good one stays in force");
            return;
        };
        if fields.is_empty() {
            return;
        }
        match Dynamic::parse(fields) {
            Ok(dynamic) => self.put_in_force(dynamic, fields),
            Err(errors) => {
                let errors = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                tracing::error!("the cluster's configuration is not usable, the last good one stays in force: {errors}");
            }
        }
    }

    fn put_in_force(&mut self, dynamic: Dynamic, document: &Map<String, Value>) {
        for setting in dynamic.refused.iter().filter(|setting| !self.dynamic.refused.contains(setting)) {
            tracing::error!(
                "the cluster's configuration has {setting}, which this version does not carry out; this member takes \
                 no part in a leader race while it stands there"
            );
        }
        self.dynamic = dynamic;
        self.document = document.clone();
        self.generation += 1;
    }

    /// A new local configuration (SIGHUP); the files are rewritten and the server reloaded in any case.
    pub(super) fn reload(&mut self, config: Config) {
        self.config = Arc::new(config);
        self.generation += 1;
        self.force = Force::Yes;
    }

    pub(super) fn policy(&self) -> Policy {
        let Settings { config, dynamic, .. } = self;
        let use_pg_rewind = config.postgres.local.use_pg_rewind.or(dynamic.server.use_pg_rewind);
        Policy {
            name: config.name.clone(),
            mode: self.mode(),
            timing: self.timing,
            pause: dynamic.pause,
            maximum_lag_on_failover: dynamic.maximum_lag_on_failover,
            check_timeline: dynamic.check_timeline,
            primary_start_timeout: dynamic.primary_start_timeout,
            rewind: match use_pg_rewind {
                Some(Switch::Off) => RewindPolicy::Forbidden,
                Some(Switch::On) | None => RewindPolicy::Allowed,
            },
            remove_diverged_data: config.postgres.remove_data_directory_on_diverged_timelines,
            tags: config.tags,
            bootstrap: Switch::On,
            refused_settings: dynamic.refused.clone(),
        }
    }

    /// What the server is to run with.
    pub(super) fn desired(&self) -> DesiredServer {
        DesiredServer { server: server_settings(&self.config, &self.dynamic), use_slots: self.dynamic.use_slots }
    }

    /// How long the stop of a restart may take before it kills: nothing hurries it.
    pub(super) fn stop_limit(&self) -> Duration {
        match self.dynamic.primary_stop_timeout {
            Duration::ZERO => Duration::from_secs(3600),
            limit => limit,
        }
    }

    /// How long a start may take before it counts as failed; a failover "at once" is no reason to cut a start short.
    pub(super) fn start_limit(&self) -> Duration {
        match self.dynamic.primary_start_timeout {
            Duration::ZERO => Duration::from_secs(300),
            limit => limit,
        }
    }
}
