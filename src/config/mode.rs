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
use super::{kubernetes, unknown, unsupported};
use crate::core::policy::{Mode, Switch};

/// What the configuration asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    Single,
    Cluster(Store),
    /// A cluster without a DCS that could be used.
    WithoutDcs(Reported),
}

/// The DCS of a cluster, by the section that configures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    Etcd3,
    Kubernetes,
}

impl Store {
    pub const ALL: [Store; 2] = [Store::Etcd3, Store::Kubernetes];

    pub fn section(self) -> &'static str {
        match self {
            Store::Etcd3 => "etcd3",
            Store::Kubernetes => "kubernetes",
        }
    }

    /// What its variables begin with.
    fn prefix(self) -> String {
        format!("PATRONI_{}_", self.section().to_ascii_uppercase())
    }
}

impl Wanted {
    pub fn of(reader: &mut Reader<'_>, raw: &RawEnv, host: &HostFacts, data_dir: Option<&Path>) -> Wanted {
        let Unknown { near_misses, refused } = unknown_variables(reader, raw);
        let refused = unsupported::refuse_stores(reader).or(refused);
        let store = store(reader);
        let signs = signs(reader, raw, host, &near_misses, data_dir);
        if reader.switch_or("environment.standalone", Switch::Off).is_on() {
            signs.iter().for_each(|sign| {
                reader.report.warn(format!("TAMADA_STANDALONE: a single server starts without a DCS although {sign}"));
            });
            return Wanted::Single;
        }
        match store {
            Ok(Some(store)) => return Wanted::Cluster(store),
            Ok(None) => {}
            Err(reported) => return Wanted::WithoutDcs(reported),
        }
        let broken = Store::ALL.iter().find_map(|store| reader.report.broken_section(&store.prefix()));
        let unread = reader.report.unread_document;
        if let Some(reported) = unread.or(refused).or(broken) {
            return Wanted::WithoutDcs(reported);
        }
        let has_folder = data_dir.is_some_and(|dir| dir != Path::new(""));
        if reader.purpose == Purpose::CommandLine {
            let is_beside_server = has_folder && signs.is_empty() && holds_plain_data(host, data_dir);
            let is_sought = reader.document.get("scope").is_some() || !is_beside_server;
            let is_misspelt = !near_misses.is_empty() || !near_stores(reader).is_empty();
            if is_sought && !is_misspelt && kubernetes::is_within_reach(reader, host) {
                return Wanted::Cluster(Store::Kubernetes);
            }
        }
        if signs.is_empty() && reader.purpose == Purpose::CommandLine && !has_folder {
            let accepted = format!(
                "the DCS of the cluster, for example PATRONI_ETCD3_HOSTS=etcd1:2379 with PATRONI_SCOPE, or a file with them \
                 (-c FILE); {}",
                kubernetes::looked_for()
            );
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

    pub fn is_kubernetes(self) -> bool {
        matches!(self, Wanted::Cluster(Store::Kubernetes))
    }

    pub fn mode(self) -> Mode {
        match self {
            Wanted::Single => Mode::Single,
            Wanted::Cluster(_) | Wanted::WithoutDcs(_) => Mode::Cluster,
        }
    }
}

/// Sections of a document that may have been meant for a store's.
fn near_stores<'a>(reader: &Reader<'a>) -> Vec<&'a String> {
    let is_near = |key: &&String| unknown::is_near_store(key) && Store::ALL.iter().all(|store| *key != store.section());
    reader.document.base.iter().flat_map(|base| base.keys()).filter(is_near).collect()
}

fn holds_plain_data(host: &HostFacts, data_dir: Option<&Path>) -> bool {
    data_dir.is_some_and(|dir| (host.inspect)(dir) == FoundData::Plain)
}

/// The store of which anything is configured, or that TAMADA_DCS names. `None`: there is none.
fn store(reader: &mut Reader<'_>) -> Result<Option<Store>, Reported> {
    const DCS: &str = "environment.dcs";
    let configured: Vec<Store> =
        Store::ALL.into_iter().filter(|store| reader.document.get(store.section()).is_some()).collect();
    let named = match reader.text(DCS) {
        None => None,
        Some(name) => match Store::ALL.into_iter().find(|store| name.eq_ignore_ascii_case(store.section())) {
            Some(store) => Some(store),
            None => return Err(reader.wrong(DCS, "etcd3 or kubernetes")),
        },
    };
    let mut places: Vec<String> = configured.iter().map(|store| first_place(reader, *store)).collect();
    if let Some(named) = named.filter(|named| !configured.contains(named)) {
        places.push(format!("TAMADA_DCS={}", named.section()));
    }
    if places.len() > 1 {
        let error = ConfigError::new("the DCS", places.join(" and "), "settings of one DCS");
        return Err(reader.report.error(error));
    }
    Ok(named.or(configured.first().copied()))
}

/// Where the first setting of a store is given.
fn first_place(reader: &Reader<'_>, store: Store) -> String {
    let section = reader.document.get(store.section()).unwrap_or(&Value::Null);
    let path = leaves(store.section(), section).into_iter().map(|(path, _)| path).next();
    reader.document.place(&path.unwrap_or_else(|| store.section().to_owned()))
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
        let near_misses = near_stores(reader).into_iter();
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
