//! From the environment and a file to a checked `Config`, or to everything that is wrong.
//!
//! **Invariant:** a single, writable server is configured only when nothing at all speaks of a cluster, or when
//! TAMADA_STANDALONE says so: two writable servers for one cluster are the worst that a configuration could cause.

use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;

use super::document::{Document, leaves};
use super::effective::Effective;
use super::error::{ConfigError, ConfigErrors, Report};
use super::raw::{Kind, RawEnv};
use super::reader::Reader;
use super::{Config, DcsConfig, bootstrap, etcd, node, server, unbuilt, unknown};
use crate::core::policy::{Mode, Switch};

/// What a configuration depends on besides its sources.
pub struct HostFacts {
    pub host_name: String,
    pub account: Account,
    /// What is in a data directory; `inspect_data_dir`, or something else in a test.
    pub inspect: Box<dyn Fn(&Path) -> FoundData + Send + Sync>,
}

/// The account that PostgreSQL runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    Named(String),
    /// A uid that the system has no name for (`--user 12345`): `peer` cannot work.
    Unnamed,
}

/// What is in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundData {
    None,
    /// Data that were never a cluster's.
    Plain,
    /// `patroni.dynamic.json` is there: a former member of a cluster.
    ClusterMember,
    /// It cannot be looked into.
    Unreadable,
}

/// Looks into a data directory; changes nothing.
pub fn inspect_data_dir(path: &Path) -> FoundData {
    let exists = |name: &str| path.join(name).try_exists();
    match (exists("PG_VERSION"), exists("patroni.dynamic.json")) {
        (Err(_), _) | (_, Err(_)) => FoundData::Unreadable,
        (Ok(_), Ok(true)) => FoundData::ClusterMember,
        (Ok(true), Ok(false)) => FoundData::Plain,
        (Ok(false), Ok(false)) => FoundData::None,
    }
}

impl Config {
    /// The configuration of this node. `file`: the path argument, a YAML file or a folder of them.
    pub fn from_environment(
        vars: impl Iterator<Item = (OsString, OsString)>,
        file: Option<&Path>,
        host: &HostFacts,
    ) -> Result<Config, ConfigErrors> {
        let mut report = Report::default();
        let raw = RawEnv::read(vars, &mut report);
        let document = Document::gather(&raw, file, &mut report);
        let mut reader = Reader::new(&document, &mut report);
        let config = read(&mut reader, &raw, host);
        let mut lines = reader.finish();
        lines.retain(|path, _| !path.starts_with("environment."));
        match config {
            Some(config) if report.errors.is_empty() => Ok(Config {
                warnings: report.warnings,
                cluster_variables: document.cluster_variables,
                effective: Effective(lines),
                ..config
            }),
            _ => Err(ConfigErrors(report.errors)),
        }
    }

    /// Each value in force with its origin, secrets redacted; what `tamada config check` prints.
    pub fn effective(&self) -> &Effective {
        &self.effective
    }
}

fn read(reader: &mut Reader<'_>, raw: &RawEnv, host: &HostFacts) -> Option<Config> {
    let near_misses = unknown_variables(reader, raw);
    let data_dir = server::data_dir(reader);
    let mode = mode(reader, raw, host, &near_misses, data_dir.as_deref());
    let dcs = match mode {
        Mode::Single => Some(DcsConfig::Single),
        Mode::Cluster if reader.document.get("etcd3").is_some() => etcd::read(reader).map(DcsConfig::Etcd3),
        Mode::Cluster => None,
    };
    let _asked = reader.value("etcd3").is_some();
    let rest = node::rest(reader, host, mode);
    let (tags, published_tags) = node::tags(reader);
    let postgres = server::read(reader, host, mode, data_dir.clone().unwrap_or_default());
    unbuilt::check(reader, mode);
    // PID 1 obeys it; it is read here so that a value that is no switch is an error.
    reader.switch_or("environment.no_new_privs", Switch::On);
    let malloc_arena_max = reader.text("environment.malloc_arena_max");
    let config = Config {
        name: node::name(reader, host, mode),
        stop_timeout: node::stop_timeout(reader),
        scope: node::scope(reader, mode),
        namespace: node::namespace(reader),
        dcs: dcs.unwrap_or(DcsConfig::Single),
        postgres,
        ctl: node::ctl(reader, rest.auth.clone()),
        rest,
        log: node::log(reader),
        tags,
        published_tags,
        bootstrap: bootstrap::read(reader, &host.account, mode),
        warnings: Vec::new(),
        cluster_variables: Vec::new(),
        malloc_arena_max,
        account: host.account.clone(),
        effective: Effective::default(),
    };
    // Without a data directory an error has been reported, and so for a cluster without a DCS.
    data_dir.map(|_| config)
}

/// Warn about variables that nobody knows; those that may have meant a cluster.
fn unknown_variables(reader: &mut Reader<'_>, raw: &RawEnv) -> Vec<String> {
    let mut near_misses = Vec::new();
    for name in raw.unknown.iter().filter(|name| !is_service_link(name)) {
        if unbuilt::refuse_variable(reader, name) {
            continue;
        }
        reader.report.warn(unknown::warning(name));
        if unknown::may_mean_a_cluster(name) {
            near_misses.push(name.clone());
        }
    }
    near_misses
}

/// Kubernetes puts a variable of this form into each pod for a service whose name begins like ours.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || name.contains("_TCP")
}

/// Whether this is a member of a cluster or a single server. What speaks of a cluster without a DCS is an error.
fn mode(
    reader: &mut Reader<'_>,
    raw: &RawEnv,
    host: &HostFacts,
    near_misses: &[String],
    data_dir: Option<&Path>,
) -> Mode {
    let is_unbuilt = unbuilt::refuse_stores(reader) || reader.report.errors.iter().any(|error| error.given == "set");
    let has_dcs = reader.document.get("etcd3").is_some();
    let mut signs: Vec<String> = raw
        .names()
        .filter(|(variable, _)| unknown::is_of_cluster(variable) && variable.kind != Kind::Document)
        .map(|(_, name)| format!("{name} is set"))
        .collect();
    signs.extend(near_misses.iter().map(|name| match unknown::closest(name) {
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
    if reader.switch_or("environment.standalone", Switch::Off).is_on() {
        signs.iter().for_each(|sign| {
            reader.report.warn(format!("TAMADA_STANDALONE: a single server starts without a DCS although {sign}"));
        });
        return Mode::Single;
    }
    if has_dcs || is_unbuilt || reader.report.is_section_broken("PATRONI_ETCD3_") {
        return Mode::Cluster;
    }
    if signs.is_empty() {
        return Mode::Single;
    }
    const ADVICE: &str = "the DCS of the cluster, for example PATRONI_ETCD3_HOSTS=etcd1:2379 with PATRONI_SCOPE; or \
                          TAMADA_STANDALONE=true for a single server that no cluster knows of";
    let given = format!("not set, although {}", signs.join(", "));
    reader.report.error(ConfigError::new("PATRONI_ETCD3_HOSTS", given, ADVICE));
    Mode::Cluster
}
