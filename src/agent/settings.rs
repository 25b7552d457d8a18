//! The settings in force: the node's own configuration and the cluster's `config` document, merged.
//!
//! **Invariant:** a document that cannot be read changes nothing; the last good one stays in force.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::{self, Config, Dynamic};
use crate::core::local::{Job, StartAs};
use crate::core::policy::{Floor, Mode, Policy, SyncMode, Timing};
use crate::core::units::Revision;
use crate::dcs::Snapshot;
use crate::postgres::{DesiredServer, Force};

pub(super) struct Settings {
    pub(super) config: Arc<Config>,
    pub(super) dynamic: Dynamic,
    /// The last good document, as it stands in the store, in the file beside the data, or in `bootstrap.dcs`.
    pub(super) document: Value,
    /// Of the last document that was looked at, good or bad. `None` before the first.
    revision: Option<Revision>,
    /// What the store can keep.
    ttl_min: Duration,
    /// What the members present allow.
    pub(super) floor: Floor,
    /// The timers in force: those of the document, raised to what the store and the members present can keep.
    pub(super) timing: Timing,
    /// How long before the lease's end the watchdog that is armed ends.
    pub(super) reset_before: Duration,
    /// Grows with every change of what the server is to run with.
    pub(super) generation: u64,
    /// The generation that the server was configured with.
    pub(super) configured: u64,
    /// The generation whose document is kept beside the data.
    pub(super) saved: u64,
    /// For the next configuring.
    pub(super) force: Force,
    /// The settings of the cluster that were logged as not implemented.
    told_refused: Vec<String>,
    /// The last warnings about the cluster's configuration.
    told: Vec<String>,
    /// The timers that were told last, as configured and as in force.
    told_timing: Option<(Timing, Timing)>,
}

/// What a cycle's reading changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimingChange {
    Same,
    Changed,
}

impl Settings {
    /// Before the store has been read: the document kept beside the data, else that of `bootstrap.dcs`.
    pub(super) fn new(config: Arc<Config>, kept: Option<Value>, ttl_min: Duration) -> Self {
        let kept = kept.filter(|document| document.as_object().is_some_and(|fields| !fields.is_empty()));
        let read = |document: Value| Dynamic::parse(&document).ok().map(|dynamic| (dynamic, document));
        let (dynamic, document) = kept.and_then(read).unwrap_or_else(|| {
            let document = Value::Object(config.bootstrap.dcs.clone());
            let dynamic = Dynamic::parse(&document).unwrap_or_else(|problems| {
                tracing::error!("bootstrap.dcs is not usable and counts as empty: {}", problems.join("; "));
                Dynamic::default()
            });
            (dynamic, document)
        });
        let floor = Floor::Ours;
        let timing = in_force(dynamic.timing, ttl_min, floor);
        let force = Force::No;
        Settings {
            config,
            dynamic,
            document,
            revision: None,
            ttl_min,
            floor,
            timing,
            reset_before: Duration::ZERO,
            generation: 1,
            configured: 0,
            saved: 0,
            force,
            told_refused: Vec::new(),
            told: Vec::new(),
            told_timing: None,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.config.dcs.mode()
    }

    /// Takes over what this reading of the store says.
    pub(super) fn take_in(&mut self, snapshot: &Snapshot) -> TimingChange {
        if let Some(document) = &snapshot.documents.config
            && self.revision != Some(document.revision)
        {
            if self.revision.is_none() {
                let differences = self.config.differences_from_cluster(&document.value);
                differences.iter().for_each(|difference| tracing::warn!("{difference}"));
            }
            self.revision = Some(document.revision);
            self.take_in_document(&document.value);
        }
        self.floor = Floor::of(&snapshot.view);
        let given = self.dynamic.timing;
        let timing = in_force(given, self.ttl_min, self.floor);
        if self.told_timing != Some((given, timing)) {
            if let Some(warning) = config::corrected_timers(given, timing) {
                tracing::warn!("{warning}");
            } else if timing != self.timing {
                tracing::info!("timers in force: {timing}");
            }
            self.told_timing = Some((given, timing));
        }
        if timing == self.timing {
            return TimingChange::Same;
        }
        self.timing = timing;
        TimingChange::Changed
    }

    fn take_in_document(&mut self, document: &Value) {
        // A leader writes an empty one anew.
        if document.as_object().is_some_and(Map::is_empty) {
            return;
        }
        match Dynamic::parse(document) {
            Ok(dynamic) => self.put_in_force(dynamic, document),
            Err(problems) => {
                let problems = problems.join("; ");
                tracing::error!(
                    "the cluster's configuration is not usable, the last good one stays in force: {problems}"
                );
            }
        }
    }

    fn put_in_force(&mut self, dynamic: Dynamic, document: &Value) {
        for setting in dynamic.refused.iter().filter(|setting| !self.told_refused.contains(setting)) {
            tracing::error!(
                "the cluster's configuration has {setting}, which this version does not implement; this member takes \
                 no part in a leader race while it stands there"
            );
        }
        self.told_refused.clone_from(&dynamic.refused);
        let warnings = self.warnings(&dynamic, document);
        for warning in warnings.iter().filter(|warning| !self.told.contains(warning)) {
            tracing::warn!("the cluster's configuration: {warning}");
        }
        self.told = warnings;
        self.dynamic = dynamic;
        self.document = document.clone();
        self.generation += 1;
    }

    fn warnings(&self, dynamic: &Dynamic, document: &Value) -> Vec<String> {
        let server = config::server_settings(&dynamic.server, &self.config.postgres.local);
        // The files of a single server are the user's.
        let clear_text = match self.mode() {
            Mode::Cluster => config::clear_text_warning(&self.config.postgres, &server),
            Mode::Single => None,
        };
        document.as_object().map(Dynamic::warnings).unwrap_or_default().into_iter().chain(clear_text).collect()
    }

    /// A new local configuration (SIGHUP); the files are rewritten and the server reloaded in any case. What the process
    /// was built on stays as it was until the next start.
    pub(super) fn reload(&mut self, mut config: Config) {
        for setting in config.keep_until_next_start(&self.config) {
            tracing::warn!("{setting} has changed; that takes effect with the next start");
        }
        self.config = Arc::new(config);
        self.generation += 1;
        self.force = Force::Yes;
    }

    pub(super) fn policy(&self) -> Policy {
        Policy { timing: self.guarded_timing(), ..config::policy(&self.config, &self.dynamic, self.floor) }
    }

    /// The timers in force, with what a watchdog makes of them.
    pub(super) fn guarded_timing(&self) -> Timing {
        self.timing.with_watchdog(self.reset_before)
    }

    /// What the server is to run with.
    pub(super) fn desired(&self) -> DesiredServer {
        let server = config::server_settings(&self.dynamic.server, &self.config.postgres.local);
        let synchronous = self.dynamic.synchronous.mode != SyncMode::Off;
        DesiredServer { server, use_slots: self.dynamic.use_slots, synchronous }
    }

    /// How long a start may take before it counts as failed; a failover "at once" is no reason to cut a start short.
    /// Only a primary's start in place has the operator's limit: while a job is waited for, the member takes no part in
    /// an election, so a standby that needs longer goes on starting without one, and a promotion that hangs gives way.
    pub(super) fn start_limit(&self, job: &Job) -> Duration {
        let in_place = matches!(job, Job::Start(StartAs::Primary) | Job::Restart(_) | Job::Bootstrap);
        match self.dynamic.primary_start_timeout {
            Duration::ZERO if in_place => Duration::from_secs(300),
            limit if in_place => limit,
            _standby_or_promotion => self.config.postgres.pg_ctl_timeout,
        }
    }
}

fn in_force(given: Timing, ttl_min: Duration, floor: Floor) -> Timing {
    Timing { ttl: given.ttl.max(ttl_min), ..given }.effective(floor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Account, FoundData, HostFacts, KubernetesAccess};

    fn settings(variables: &[(&str, &str)]) -> Settings {
        let host = HostFacts {
            host_name: "n1".to_owned(),
            kubernetes: KubernetesAccess::default(),
            account: Account::Named("postgres".to_owned()),
            inspect: Box::new(|_| FoundData::None),
            unusable: |_, _| Vec::new(),
        };
        let least = [("PGDATA", "/nowhere"), ("POSTGRES_PASSWORD", "a")];
        let variables = least.iter().chain(variables).map(|(name, value)| ((*name).into(), (*value).into()));
        let config = Config::from_environment(variables, None, &host).expect("a configuration");
        Settings::new(Arc::new(config), None, Duration::ZERO)
    }

    #[test]
    fn the_clusters_configuration_is_warned_about_with_the_nodes_own() {
        let document =
            json!({"ttll": 1, "postgresql": {"parameters": {"ssl": "on"}, "pg_hba": ["host all all all md5"]}});
        let dynamic = Dynamic::parse(&document).expect("right");
        let unknown = "ttll is not a known setting and has no effect";
        let member = [("PATRONI_SCOPE", "main"), ("PATRONI_ETCD3_HOSTS", "e"), ("PATRONI_REPLICATION_PASSWORD", "b")];
        let told = settings(&member).warnings(&dynamic, &document);
        assert!(told.len() == 2 && told[0] == unknown && told[1].starts_with("ssl is on, but"), "{told:?}");
        let strict = [("PATRONI_REPLICATION_SSLMODE", "verify-full"), ("PATRONI_SUPERUSER_SSLMODE", "verify-full")];
        let own =
            ("PATRONI_CONFIGURATION", "{bootstrap: {dcs: {}}, postgresql: {pg_hba: ['hostssl all all all md5']}}");
        let told = settings(&[&member[..], &strict, &[own]].concat()).warnings(&dynamic, &document);
        assert_eq!(told, [unknown]);
        assert_eq!(
            settings(&[]).warnings(&dynamic, &document),
            [unknown],
            "the files of a single server are the user's"
        );
    }
}
