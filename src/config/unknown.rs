//! Variables with one of our prefixes that no table has: typing errors, mostly. Each is warned about with the closest
//! known name; one that may have meant a DCS or a cluster keeps a single server from starting.

use super::raw::{Needs, Variable, known};

/// Section words of a DCS.
const STORES: [&str; 7] = ["ETCD3", "ETCD", "CONSUL", "ZOOKEEPER", "EXHIBITOR", "RAFT", "KUBERNETES"];

/// The known name that is closest, if one is close.
pub(super) fn closest(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    let (known, distance) = nearest(&upper, |_| true)?;
    (distance <= (upper.len() / 4).max(2)).then_some(known)
}

/// The warning about an unknown variable.
pub(super) fn warning(name: &str) -> String {
    match closest(name) {
        Some(known) => format!("{name} is not a known variable and is ignored; did you mean {known}?"),
        None => format!("{name} is not a known variable and is ignored"),
    }
}

/// Whether an unknown variable may have been meant for a DCS or for a cluster.
pub(super) fn may_mean_a_cluster(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let section = upper.strip_prefix("PATRONI_").unwrap_or(&upper).split('_').next().unwrap_or_default();
    is_near_store(section) || nearest(&upper, is_of_cluster).is_some_and(|(_, distance)| distance <= 3)
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
    const PATHS: [&str; 5] =
        ["scope", "namespace", "etcd3", "postgresql.authentication.replication", "postgresql.authentication.rewind"];
    let is_at = |at: &str| path == at || path.strip_prefix(at).is_some_and(|rest| rest.starts_with('.'));
    let is_dcs = path.starts_with("bootstrap.dcs.") && !path.starts_with("bootstrap.dcs.postgresql");
    is_dcs || PATHS.iter().any(|at| is_at(at))
}

fn nearest(upper: &str, is_meant: fn(&Variable) -> bool) -> Option<(String, usize)> {
    let files = known().filter(|variable| variable.kind.accepts_file());
    let names = known().map(|variable| (variable, variable.name()));
    let names = names.chain(files.map(|variable| (variable, format!("{}_FILE", variable.name()))));
    let candidates = names.filter(|(variable, _)| is_meant(variable));
    candidates
        .map(|(_, name)| (strsim::damerau_levenshtein(upper, &name), name))
        .min()
        .map(|(distance, name)| (name, distance))
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
        ];
        for (name, expected) in cases {
            assert_eq!(closest(name).as_deref(), expected, "{name}");
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
