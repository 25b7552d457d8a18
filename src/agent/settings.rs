//! The settings in force: the node's own configuration and the cluster's `config` document, merged.
//!
//! **Invariant:** a document that cannot be read changes nothing; the last good one stays in force.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::{self, Config, Dynamic};
use crate::core::local::{Job, StartAs};
use crate::core::policy::{Floor, Mode, PermanentSlot, Policy, SyncMode, Timing};
use crate::core::tree::{self, NotHeeded};
use crate::core::units::{Instant, Revision};
use crate::core::view::ClusterView;
use crate::dcs::Snapshot;
use crate::postgres::{DesiredServer, Force};

pub(super) struct Settings {
    /// With what the cluster says where the node itself says nothing.
    pub(super) config: Arc<Config>,
    /// The node's own.
    own: Arc<Config>,
    pub(super) dynamic: Dynamic,
    /// The last good document, as it stands in the store, in the file beside the data, or in `bootstrap.dcs`.
    pub(super) document: Value,
    /// Of the last document that was looked at, good or bad. `None` before the first.
    revision: Option<Revision>,
    /// When this agent began, or when `failsafe_mode` was switched off since.
    failsafe_changed: Instant,
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
    /// What has changed and waits for the next start.
    waiting: Vec<&'static str>,
    /// The last warnings about the cluster's configuration.
    told: Vec<String>,
    /// Why `replicatefrom` is not heeded, as it was told last.
    told_parent: Option<NotHeeded>,
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
    pub(super) fn new(config: Arc<Config>, kept: Option<Value>, ttl_min: Duration, now: Instant) -> Self {
        let (dynamic, document) = at_start(&config, kept);
        let floor = Floor::Ours;
        let timing = in_force(dynamic.timing, ttl_min, floor);
        let force = Force::No;
        Settings {
            config: Arc::new(config.with_cluster(&dynamic.node)),
            own: config,
            dynamic,
            document,
            revision: None,
            failsafe_changed: now,
            ttl_min,
            floor,
            timing,
            reset_before: Duration::ZERO,
            generation: 1,
            configured: 0,
            saved: 0,
            force,
            waiting: Vec::new(),
            told: Vec::new(),
            told_parent: None,
            told_timing: None,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.config.dcs.mode()
    }

    /// Takes over what this reading of the store says.
    pub(super) fn take_in(&mut self, snapshot: &Snapshot, now: Instant) -> TimingChange {
        let had_failsafe = self.dynamic.failsafe.is_on();
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
        if had_failsafe && !self.dynamic.failsafe.is_on() {
            self.failsafe_changed = now;
        }
        self.floor = Floor::of(&snapshot.view);
        self.tell_parent(&snapshot.view);
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

    /// Whoever leads follows nobody, and need not know.
    fn tell_parent(&mut self, view: &ClusterView) {
        if self.config.tags.replicatefrom.is_none() || view.is_ours() {
            return;
        }
        let told = tree::parent(&self.policy(), view).err();
        if let Some(why) = told.as_ref().filter(|_| told != self.told_parent) {
            tracing::warn!("{why}");
        }
        self.told_parent = told;
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
        let warnings = self.warnings(&dynamic, document);
        for warning in warnings.iter().filter(|warning| !self.told.contains(warning)) {
            tracing::warn!("the cluster's configuration: {warning}");
        }
        self.told = warnings;
        self.dynamic = dynamic;
        self.document = document.clone();
        self.generation += 1;
        self.compose(self.own.clone());
    }

    /// The node's own configuration with the cluster's word. What the process was built on stays as it was until the next
    /// start.
    fn compose(&mut self, own: Arc<Config>) {
        let mut config = own.with_cluster(&self.dynamic.node);
        let waiting = config.keep_until_next_start(&self.config);
        for setting in waiting.iter().filter(|setting| !self.waiting.contains(setting)) {
            tracing::warn!("{setting} has changed; that takes effect with the next start");
        }
        self.waiting = waiting;
        let of_file = |config: &Config| (config.postgres.custom_conf.clone(), config.postgres.krbsrvname.clone());
        if of_file(&config) != of_file(&self.config) {
            // Not part of what the server's parameters are compared by.
            self.force = Force::Yes;
        }
        self.own = own;
        self.config = Arc::new(config);
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

    /// A new local configuration (SIGHUP); the files are rewritten and the server reloaded in any case.
    pub(super) fn reload(&mut self, config: Config) {
        // Told at each reload.
        self.waiting.clear();
        self.compose(Arc::new(config));
        self.generation += 1;
        self.force = Force::Yes;
    }

    /// Until when a promise that this agent does not know may bind this member.
    pub(super) fn unsure_until(&self) -> Option<Instant> {
        Some(self.failsafe_changed + self.timing.ttl)
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
        let standby = self.dynamic.standby_cluster.as_ref();
        let synchronous = standby.is_none() && self.dynamic.synchronous.mode != SyncMode::Off;
        let standby_cluster = standby.map(|standby| standby.recovery.clone());
        let is_logical = |slot: &PermanentSlot| matches!(slot, PermanentSlot::Logical { .. });
        // One that never leads reports too: others may stream from it.
        let logical_slots = self.dynamic.use_slots.is_on()
            && !self.config.tags.nostream
            && self.dynamic.permanent_slots.values().any(is_logical);
        DesiredServer { server, use_slots: self.dynamic.use_slots, synchronous, standby_cluster, logical_slots }
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

/// The cluster's settings before the store has been read: those kept beside the data, else those of `bootstrap.dcs`.
pub fn at_start(config: &Config, kept: Option<Value>) -> (Dynamic, Value) {
    let kept = kept.filter(|document| document.as_object().is_some_and(|fields| !fields.is_empty()));
    let read = |document: Value| Dynamic::parse(&document).ok().map(|dynamic| (dynamic, document));
    kept.and_then(read).unwrap_or_else(|| {
        let document = Value::Object(config.bootstrap.dcs.clone());
        let dynamic = Dynamic::parse(&document).unwrap_or_else(|problems| {
            tracing::error!("bootstrap.dcs is not usable and counts as empty: {}", problems.join("; "));
            Dynamic::default()
        });
        (dynamic, document)
    })
}

fn in_force(given: Timing, ttl_min: Duration, floor: Floor) -> Timing {
    Timing { ttl: given.ttl.max(ttl_min), ..given }.effective(floor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Account, FoundData, HostFacts, KubernetesAccess};
    use crate::dcs::Document;

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
        Settings::new(Arc::new(config), None, Duration::ZERO, Instant::default())
    }

    fn snapshot(revision: u64, document: Value) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.documents.config = Some(Document { value: document, revision: Revision(revision) });
        snapshot
    }

    #[test]
    fn the_clusters_word_counts_where_the_node_says_nothing() {
        let own = "{bootstrap: {dcs: {}}, postgresql: {callbacks: {on_start: /own}, pg_ctl_timeout: 7}}";
        let mut settings = settings(&[("PATRONI_CONFIGURATION", own)]);
        let said = json!({
            "callbacks": {"on_start": "/cluster", "on_stop": "/cluster"}, "pg_ctl_timeout": 9, "krbsrvname": "x",
            "basebackup": ["verbose"], "use_unix_socket": true, "database": "other", "bin_name": {"postgres": "pg"},
        });
        settings.force = Force::No;
        settings.take_in(&snapshot(1, json!({"postgresql": said})), Instant::default());
        let postgres = &settings.config.postgres;
        assert_eq!(
            (&*postgres.callbacks.on_start.join(" "), postgres.callbacks.on_stop.len()),
            ("/own", 0),
            "as a whole"
        );
        assert_eq!((postgres.pg_ctl_timeout, postgres.krbsrvname.as_deref()), (Duration::from_secs(7), Some("x")));
        assert_eq!((postgres.use_unix_socket.is_on(), &*postgres.basebackup), (true, &["--verbose".to_owned()][..]));
        assert_eq!((&*postgres.database, postgres.bin_name.len()), ("postgres", 0), "with the next start");
        assert_eq!(
            (settings.force, &*settings.waiting),
            (Force::Yes, &["postgresql.bin_name", "postgresql.database"][..])
        );
        // What is wrong is as if nothing was said, and nothing else is lost by it.
        let wrong =
            json!({"ttl": 60, "postgresql": {"basebackup": "verbose", "krbsrvname": "y", "pg_ctl_timeout": []}});
        settings.take_in(&snapshot(2, wrong), Instant::default());
        let postgres = &settings.config.postgres;
        assert_eq!((postgres.krbsrvname.as_deref(), postgres.basebackup.len()), (Some("y"), 0));
        assert_eq!((settings.timing.ttl, settings.told.len()), (Duration::from_secs(60), 2), "{:?}", settings.told);
        assert!(settings.waiting.is_empty());
    }

    #[test]
    fn what_is_kept_beside_the_data_counts_from_the_start() {
        let document = json!({"postgresql": {"bin_dir": "/opt/bin", "database": "other"}});
        let kept = Settings::new(settings(&[]).own, Some(document), Duration::ZERO, Instant::default());
        assert_eq!(
            (kept.config.postgres.bin_dir.as_deref(), &*kept.config.postgres.database),
            (Some("/opt/bin".as_ref()), "other")
        );
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
