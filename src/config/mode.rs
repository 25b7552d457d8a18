//! Whether this is a member of a cluster or a single server.
//!
//! **Invariant:** a single, writable server is configured only when nothing at all speaks of a cluster, or when
//! TAMADA_STANDALONE says so: two writable servers for one cluster are the worst that a configuration could cause. A
//! cluster whose DCS cannot be used has no configuration at all: `Reported` stands for the error that says why. Held by
//! `src/config/tests/mode.rs`.

use std::path::Path;

use serde_json::Value;

use super::document::leaves;
use super::error::{ConfigError, Reported};
use super::given::{FoundData, HostFacts, Purpose};
use super::raw::{Kind, RawEnv};
use super::reader::Reader;
use super::{unknown, unsupported};
use crate::core::policy::{Mode, Switch};

/// What the configuration asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    Single,
    /// Its DCS has a section `etcd3`.
    Cluster,
    /// A cluster without a DCS that could be used.
    WithoutDcs(Reported),
}

impl Wanted {
    pub fn of(reader: &mut Reader<'_>, raw: &RawEnv, host: &HostFacts, data_dir: Option<&Path>) -> Wanted {
        let Unknown { near_misses, refused } = unknown_variables(reader, raw);
        let refused = unsupported::refuse_stores(reader).or(refused);
        let has_dcs = reader.document.get("etcd3").is_some();
        let signs = signs(reader, raw, host, &near_misses, data_dir);
        if reader.switch_or("environment.standalone", Switch::Off).is_on() {
            signs.iter().for_each(|sign| {
                reader.report.warn(format!("TAMADA_STANDALONE: a single server starts without a DCS although {sign}"));
            });
            return Wanted::Single;
        }
        if has_dcs {
            return Wanted::Cluster;
        }
        let unread = reader.report.unread_document;
        if let Some(reported) = unread.or(refused).or(reader.report.broken_section("PATRONI_ETCD3_")) {
            return Wanted::WithoutDcs(reported);
        }
        if signs.is_empty() && reader.purpose == Purpose::CommandLine && data_dir.is_none_or(|dir| dir == Path::new(""))
        {
            let accepted = "the DCS of the cluster, for example PATRONI_ETCD3_HOSTS=etcd1:2379 with PATRONI_SCOPE, or a \
                            file with them (-c FILE)";
            return Wanted::WithoutDcs(reader.report.error(ConfigError::missing("PATRONI_ETCD3_HOSTS", accepted)));
        }
        if signs.is_empty() {
            return Wanted::Single;
        }
        const ADVICE: &str = "the DCS of the cluster, for example PATRONI_ETCD3_HOSTS=etcd1:2379 with PATRONI_SCOPE; or \
                              TAMADA_STANDALONE=true for a single server that no cluster knows of";
        let given = format!("not set, although {}", signs.join(", "));
        Wanted::WithoutDcs(reader.report.error(ConfigError::new("PATRONI_ETCD3_HOSTS", given, ADVICE)))
    }

    pub fn mode(self) -> Mode {
        match self {
            Wanted::Single => Mode::Single,
            Wanted::Cluster | Wanted::WithoutDcs(_) => Mode::Cluster,
        }
    }
}

/// Variables that nobody knows: each is warned about or refused.
struct Unknown {
    /// Those that may have meant a cluster.
    near_misses: Vec<String>,
    /// One of a DCS that is not supported.
    refused: Option<Reported>,
}

fn unknown_variables(reader: &mut Reader<'_>, raw: &RawEnv) -> Unknown {
    let (mut near_misses, mut refused) = (Vec::new(), None);
    for name in raw.unknown.iter().filter(|name| !is_service_link(name)) {
        if let Some(reported) = unsupported::refuse_variable(reader, name) {
            refused = Some(reported);
            continue;
        }
        unknown::report(name, reader.report);
        if unknown::may_mean_a_cluster(name) {
            near_misses.push(name.clone());
        }
    }
    Unknown { near_misses, refused }
}

/// Kubernetes puts a variable of this form into each pod for a service whose name begins like ours.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || name.contains("_TCP")
}

/// Everything that indicates a cluster.
fn signs(
    reader: &Reader<'_>,
    raw: &RawEnv,
    host: &HostFacts,
    near_misses: &[String],
    data_dir: Option<&Path>,
) -> Vec<String> {
    let mut signs: Vec<String> = raw
        .names()
        .filter(|(variable, _)| unknown::is_of_cluster(variable) && variable.kind != Kind::Document)
        .map(|(_, name)| format!("{name} is set"))
        .collect();
    signs.extend(near_misses.iter().map(|name| match unknown::meant(name) {
        Some(known) => format!("{name} is set (meant {known}?)"),
        None => format!("{name} is set"),
    }));
    if let Some(base) = &reader.document.base {
        let paths = leaves("", &Value::Object(base.clone())).into_iter().filter(|(_, value)| !value.is_null());
        let of_cluster = paths.filter(|(path, _)| unknown::is_cluster_path(path));
        signs.extend(of_cluster.map(|(path, _)| format!("{path} is set in {}", reader.document.origin(&path))));
        let near_misses = base.keys().filter(|key| unknown::is_near_store(key) && *key != "etcd3");
        signs.extend(near_misses.map(|key| format!("{key} is set in {}", reader.document.origin(key))));
    }
    match data_dir.map(|path| (path, (host.inspect)(path))) {
        Some((path, FoundData::ClusterMember)) => {
            signs.push(format!("{} holds the data of a cluster's member (patroni.dynamic.json)", path.display()));
        }
        Some((path, FoundData::Unreadable)) => signs.push(format!("{} cannot be looked into", path.display())),
        Some((_, FoundData::None | FoundData::Plain)) | None => {}
    }
    signs
}
