//! Variables with one of our prefixes that no table has: typing errors, mostly. Each is warned about with the closest
//! known name; one that may have meant a DCS or a cluster keeps a single server from starting, and one that was meant for
//! a setting that data depend on ends any start.

use super::error::{ConfigError, Report};
use super::raw::{Kind, Needs, Variable, known};

/// Section words of a DCS.
const STORES: [&str; 7] = ["ETCD3", "ETCD", "CONSUL", "ZOOKEEPER", "EXHIBITOR", "RAFT", "KUBERNETES"];

/// Settings of the cluster and of PostgreSQL that data depend on: a misspelt one is an error, since the cluster would run
/// without it and nobody would notice.
const DATA_DEPEND_ON: [&str; 9] = [
    "synchronous_mode",
    "synchronous_mode_strict",
    "synchronous_node_count",
    "failsafe_mode",
    "maximum_lag_on_failover",
    "maximum_lag_on_syncnode",
    "standby_cluster",
    "slots",
    "ignore_slots",
];
const DATA_DEPEND_ON_PARAMETERS: [&str; 9] = [
    "archive_command",
    "archive_library",
    "archive_mode",
    "fsync",
    "full_page_writes",
    "restore_command",
    "synchronous_commit",
    "synchronous_standby_names",
    "wal_level",
];

/// What an unknown name was probably meant for.
struct Meant {
    variable: &'static Variable,
    /// The known name; with `_FILE` where that was meant.
    name: String,
    /// An entry of a variable that is a map, in lower case.
    key: Option<String>,
}

impl Meant {
    fn of(name: &str) -> Option<Meant> {
        let upper = name.to_ascii_uppercase();
        let upper = upper.strip_suffix("_FILE").unwrap_or(&upper);
        by_path(upper).or_else(|| entry_of_a_map(upper)).or_else(|| close(name))
    }

    /// As it would be written.
    fn notation(&self) -> String {
        match &self.key {
            Some(key) => format!("{}='{key}: VALUE'", self.name),
            None => self.name.clone(),
        }
    }

    fn is_of_cluster(&self) -> bool {
        is_of_cluster(self.variable) && !self.key.as_ref().is_some_and(|key| key.starts_with("postgresql"))
    }

    fn has_data_depending_on_it(&self) -> bool {
        let setting = self.key.as_deref().unwrap_or(self.variable.path.rsplit('.').next().unwrap_or_default());
        let is_dcs = self.variable.path.starts_with("bootstrap.dcs");
        is_dcs && (DATA_DEPEND_ON.contains(&setting) || DATA_DEPEND_ON_PARAMETERS.contains(&setting))
    }
}

/// `PATRONI_BOOTSTRAP_DCS_TTL`: made of the path `bootstrap.dcs.ttl`.
fn by_path(upper: &str) -> Option<Meant> {
    let variable = known().find(|variable| of_path(variable) == upper)?;
    Some(Meant { variable, name: variable.name(), key: None })
}

fn of_path(variable: &Variable) -> String {
    format!("PATRONI_{}", variable.path.to_ascii_uppercase().replace('.', "_"))
}

/// `PATRONI_POSTGRESQL_PARAMETERS_FSYNC`: an entry of `PATRONI_POSTGRESQL_PARAMETERS`.
fn entry_of_a_map(upper: &str) -> Option<Meant> {
    let maps = known().filter(|variable| variable.kind == Kind::Map);
    let entries = maps.flat_map(|variable| [variable.name(), of_path(variable)].map(|prefix| (variable, prefix)));
    let found = entries.filter_map(|(variable, prefix)| {
        let key = upper.strip_prefix(&prefix)?.strip_prefix('_')?;
        Some((prefix.len(), variable, key.to_ascii_lowercase()))
    });
    let (_, variable, key) = found.max_by_key(|(length, ..)| *length)?;
    Some(Meant { variable, name: variable.name(), key: Some(key).filter(|key| !key.is_empty()) })
}

/// A typing error.
fn close(name: &str) -> Option<Meant> {
    let upper = name.to_ascii_uppercase();
    let (variable, known, distance) = nearest(&upper, |_| true)?;
    (distance <= (upper.len() / 4).max(2)).then_some(Meant { variable, name: known, key: None })
}

/// The known name that was probably meant.
pub(super) fn meant(name: &str) -> Option<String> {
    Meant::of(name).map(|meant| meant.notation())
}

/// Warns about an unknown variable; an error where the right one has data depending on it.
pub(super) fn report(name: &str, report: &mut Report) {
    match Meant::of(name) {
        Some(meant) if meant.has_data_depending_on_it() => {
            let given = "set, and not a known variable";
            report.error(ConfigError::new(name, given, format!("{}: its right name", meant.notation())));
        }
        Some(meant) => {
            report.warn(format!("{name} is not a known variable and is ignored; did you mean {}?", meant.notation()));
        }
        None => report.warn(format!("{name} is not a known variable and is ignored")),
    }
}

/// Whether an unknown variable may have been meant for a DCS or for a cluster.
pub(super) fn may_mean_a_cluster(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let section = upper.strip_prefix("PATRONI_").unwrap_or(&upper).split('_').next().unwrap_or_default();
    is_near_store(section)
        || nearest(&upper, is_of_cluster).is_some_and(|(.., distance)| distance <= 3)
        || Meant::of(name).is_some_and(|meant| meant.is_of_cluster())
}

/// Whether this is a DCS's name, or nearly so.
pub(super) fn is_near_store(section: &str) -> bool {
    let section = section.to_ascii_uppercase();
    STORES.iter().any(|store| {
        let allowed = if store.len() > 4 { 2 } else { 1 };
        strsim::damerau_levenshtein(&section, store) <= allowed
    })
}

/// Whether setting this variable means that a cluster is wanted. PostgreSQL's own settings make sense for a single
/// server too.
pub(super) fn is_of_cluster(variable: &Variable) -> bool {
    let path = variable.path;
    let is_server = path.starts_with("bootstrap.dcs.postgresql.");
    (variable.needs == Needs::Cluster && !is_server) || is_cluster_path(path)
}

/// The same for paths of a document.
pub(super) fn is_cluster_path(path: &str) -> bool {
    const PATHS: [&str; 7] = [
        "scope",
        "namespace",
        "etcd3",
        "kubernetes",
        "environment.dcs",
        "postgresql.authentication.replication",
        "postgresql.authentication.rewind",
    ];
    let is_at = |at: &str| path == at || path.strip_prefix(at).is_some_and(|rest| rest.starts_with('.'));
    let is_dcs = path.starts_with("bootstrap.dcs.") && !path.starts_with("bootstrap.dcs.postgresql");
    is_dcs || PATHS.iter().any(|at| is_at(at))
}

fn nearest(upper: &str, is_meant: fn(&Variable) -> bool) -> Option<(&'static Variable, String, usize)> {
    let files = known().filter(|variable| variable.kind.accepts_file());
    let names = known().map(|variable| (variable, variable.name()));
    let names = names.chain(files.map(|variable| (variable, format!("{}_FILE", variable.name()))));
    let candidates = names.filter(|(variable, _)| is_meant(variable));
    candidates
        .map(|(variable, name)| (strsim::damerau_levenshtein(upper, &name), variable, name))
        .min_by(|one, other| (one.0, &one.2).cmp(&(other.0, &other.2)))
        .map(|(distance, variable, name)| (variable, name, distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_told_with_what_was_meant() {
        let cases = [
            ("PATRONI_NAEM", Some("PATRONI_NAME")),
            ("PATRONI_ETC3_HOSTS", Some("PATRONI_ETCD3_HOSTS")),
            ("patroni_scope", Some("PATRONI_SCOPE")),
            ("PATRONI_SUPERUSER_PASSWORD_FIEL", Some("PATRONI_SUPERUSER_PASSWORD_FILE")),
            ("TAMADA_STANDALON", Some("TAMADA_STANDALONE")),
            ("PATRONI_SOMETHING_ELSE_ALTOGETHER", None),
            ("PATRONI_BOOTSTRAP_DCS_TTL", Some("PATRONI_TTL")),
            ("PATRONI_BOOTSTRAP_DCS_POSTGRESQL_USE_SLOTS", Some("PATRONI_POSTGRESQL_USE_SLOTS")),
            ("PATRONI_POSTGRESQL_AUTHENTICATION_SUPERUSER_PASSWORD", Some("PATRONI_SUPERUSER_PASSWORD")),
            ("PATRONI_RESTAPI_AUTHENTICATION_USERNAME", Some("PATRONI_RESTAPI_USERNAME")),
            (
                "PATRONI_POSTGRESQL_PARAMETERS_MAX_CONNECTIONS",
                Some("PATRONI_POSTGRESQL_PARAMETERS='max_connections: VALUE'"),
            ),
            ("PATRONI_BOOTSTRAP_DCS_PAUSE", Some("PATRONI_BOOTSTRAP_DCS='pause: VALUE'")),
            ("PATRONI_TAGS_NOFAILOVER", Some("PATRONI_TAGS='nofailover: VALUE'")),
        ];
        for (name, expected) in cases {
            assert_eq!(meant(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn near_misses_of_a_dcs_or_a_cluster_are_told() {
        for name in [
            "PATRONI_ETC3_HOSTS",
            "PATRONI_ECTD3_HOST",
            "PATRONI_ETCD3_ENDPOINTS",
            "PATRONI_etcd3_hosts",
            "PATRONI_SCOP",
            "PATRON_ETCD3_HOSTS",
            "PATRONI_REPLICATON_PASSWORD",
            "PATRONI_CONSOL_HOST",
        ] {
            assert!(may_mean_a_cluster(name), "{name}");
        }
        for name in ["PATRONI_SOMETHING_ELSE", "PATRONI_LOG_LEVELS", "PATRONI_WEBHOOK"] {
            assert!(!may_mean_a_cluster(name), "{name}");
        }
    }
}
