//! Builds `Policy` from the node's and the cluster's configuration, and tells where the two differ.

use std::time::Duration;

use serde_json::{Map, Value};

use super::document::{is_same, leaves};
use super::merge::server_settings;
use super::{Config, Dynamic, redact};
use crate::core::policy::{
    ClusterKind, Floor, Policy, RewindPolicy, SlotSettings, Switch, SyncMode, Synchronous, Timing, UNHURRIED,
};

/// What one member decides by.
pub fn policy(config: &Config, dynamic: &Dynamic, floor: Floor) -> Policy {
    let server = server_settings(&dynamic.server, &config.postgres.local);
    let own = &config.postgres;
    let own_diverged = own.remove_data_directory_on_diverged_timelines;
    let diverged = own_diverged.or(dynamic.remove_diverged_data);
    // A node that keeps diverged data keeps them after a failed rewind, too, unless it says otherwise.
    let own_failed_rewind = own.remove_data_directory_on_rewind_failure.or(own_diverged.filter(|own| !own.is_on()));
    let failed_rewind = own_failed_rewind.or(dynamic.remove_data_after_failed_rewind);
    let standby = dynamic.standby_cluster.as_ref();
    // Nothing here writes, so that nobody is waited for, or vouched for.
    let synchronous = standby.map_or(dynamic.synchronous, |_| Synchronous::default());
    let failsafe = standby.map_or(dynamic.failsafe, |_| Switch::Off);
    Policy {
        name: config.name.clone(),
        mode: config.dcs.mode(),
        timing: dynamic.timing.effective(floor),
        pause: dynamic.pause,
        cluster: standby.map_or(ClusterKind::Primary, |standby| ClusterKind::Standby(standby.source.clone())),
        maximum_lag_on_failover: dynamic.maximum_lag_on_failover,
        primary_start_timeout: dynamic.primary_start_timeout,
        stop_timeout: config.stop_timeout,
        stop_limit: match (synchronous.mode, dynamic.primary_stop_timeout) {
            (SyncMode::Off, _) | (_, Duration::ZERO) => UNHURRIED,
            (SyncMode::Priority | SyncMode::Quorum, limit) => limit,
        },
        rewind: match server.use_pg_rewind {
            Some(Switch::On) => RewindPolicy::Allowed,
            Some(Switch::Off) | None => RewindPolicy::Forbidden,
        },
        // Off as in Patroni, so that a cluster that was taken over loses no data that it did not agree to lose. One that
        // was made by variables alone has both in its configuration (`bootstrap`).
        remove_diverged_data: diverged.unwrap_or(Switch::Off),
        remove_data_after_failed_rewind: failed_rewind.unwrap_or(Switch::Off),
        tags: config.tags.clone(),
        bootstrap: config.bootstrap.may_initialise,
        slots: SlotSettings {
            use_slots: dynamic.use_slots,
            keep_for_failover: Switch::from(!dynamic.member_slots_ttl.is_zero()),
            permanent: dynamic.permanent_slots.clone(),
            ignored: dynamic.ignore_slots.clone(),
        },
        synchronous,
        failsafe,
    }
}

/// A warning where the timers as configured cannot be kept together.
pub fn corrected_timers(configured: Timing, in_force: Timing) -> Option<String> {
    (in_force != configured)
        .then(|| format!("timers in force: {in_force}; configured are {configured}, which cannot be kept"))
}

impl Config {
    /// The warnings of a start on a cluster that has a configuration already: which variables say something else than
    /// the cluster, and the command that would change it.
    pub fn differences_from_cluster(&self, document: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        for (index, variable) in self.cluster_variables.iter().enumerate() {
            for (path, value) in leaves(&variable.path, &variable.value) {
                let path = path.trim_start_matches('.');
                // PATRONI_BOOTSTRAP_DCS may say what a variable of its own says otherwise.
                if self.cluster_variables[index + 1..].iter().any(|later| later.path == path) {
                    continue;
                }
                let held = lookup(document, path);
                if held.is_some_and(|held| is_same(held, &value)) {
                    continue;
                }
                let full = format!("bootstrap.dcs.{path}");
                let held = held.map_or("nothing".to_owned(), |held| redact::shown(&full, held));
                let shown = redact::shown(&full, &value);
                let command = match redact::is_hidden(&full, &value) {
                    true => format!("tamada config set {path}=VALUE"),
                    false => self.patch_command(path, value),
                };
                warnings.push(format!(
                    "{} sets {path} to {shown}, but the cluster's configuration has {held}, which holds; to change it: \
                     {command}",
                    variable.name
                ));
            }
        }
        warnings
    }

    fn patch_command(&self, path: &str, value: Value) -> String {
        let body =
            keys(path).into_iter().rfold(value, |value, key| Value::Object(Map::from_iter([(key.to_owned(), value)])));
        let scheme = if self.rest.tls.is_some() { "https" } else { "http" };
        let user = if self.rest.auth.is_some() { " -u USER" } else { "" };
        let body = body.to_string().replace('\'', "'\\''");
        format!("curl -X PATCH{user} {scheme}://{}/config -d '{body}'", self.rest.connect_address)
    }
}

/// The keys of a path below the document. The name of a parameter may have a dot of its own.
fn keys(path: &str) -> Vec<&str> {
    for map in ["postgresql.parameters.", "postgresql.recovery_conf."] {
        if let Some(name) = path.strip_prefix(map) {
            return map.split('.').filter(|key| !key.is_empty()).chain([name]).collect();
        }
    }
    path.split('.').collect()
}

fn lookup<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    let keys = keys(path);
    let any_case = path.starts_with("postgresql.parameters.");
    keys.into_iter().try_fold(document, |value, key| {
        let map = value.as_object()?;
        let same = |known: &&String| any_case && known.eq_ignore_ascii_case(key);
        map.get(key).or_else(|| map.get(map.keys().find(same)?))
    })
}
