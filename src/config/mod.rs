//! Configuration: from environment variables, a YAML document or a file to one checked `Config`, with all errors at
//! once; and the cluster-wide settings of the `config` key to one checked `Dynamic`. Deliberately not here: what a setting does. Secrets never show in `Debug`, `Display` or serialized output.

mod addresses;
mod bootstrap;
mod cluster_keys;
mod compose;
mod document;
mod dynamic;
mod effective;
mod error;
mod etcd;
mod given;
mod initdb;
mod kubernetes;
mod lenient;
mod load;
mod log;
mod log_layout;
mod machine;
mod manual;
mod merge;
mod mode;
mod node;
mod node_settings;
mod options;
mod origin;
mod policy;
mod problem;
mod raw;
mod reader;
mod redact;
mod reload;
mod roles;
mod secret;
mod server;
mod settings_manual;
mod settings_table;
mod slots;
mod sources;
mod standby_cluster;
mod synchronous;
mod tls_not_required;
pub mod units;
mod unknown;
mod unsupported;
mod watchdog;
pub mod words;
mod yaml;

pub use document::ClusterVariable;
pub use dynamic::{Dynamic, is_standby_cluster};
pub use effective::{Effective, EffectiveLine};
pub use error::{ConfigError, ConfigErrors};
pub use given::{
    Account, CheckTls, CommandOptions, FoundData, HostFacts, KubernetesAccess, Unusable, Weight, inspect_data_dir,
};
pub use kubernetes::{EndpointPort, KubernetesConfig, KubernetesCredentials, StateObjects};
pub use log_layout::{Attribute, LogLayout, Piece};
pub use manual::manual;
pub use merge::{CONTROLLED, Patched, is_controlled, is_same_document, patch, server_settings};
pub use node_settings::NodeSettings;
pub use origin::Origin;
pub use policy::{corrected_timers, policy};
pub use reader::as_switch;
pub use redact::{HIDDEN, redacted};
pub use secret::Secret;
pub use server::default_pg_hba;
pub use settings_manual::settings_manual;
pub use slots::{concerns_slots, problems_of_slots};
pub use standby_cluster::{StandbyCluster, StandbyRecovery, objections as objections_to_document};
pub use synchronous::synchronous_mode;
pub use tls_not_required::clear_text_warning;
pub use watchdog::{DEVICE_MAX as WATCHDOG_DEVICE_MAX, WatchdogConfig, WatchdogMode};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::core::policy::{Mode, Switch};
use crate::core::units::MemberName;
use crate::core::view::Tags;

/// What one node is told. Checked: whatever holds a `Config` need not check again.
#[derive(Clone, Debug)]
pub struct Config {
    pub name: MemberName,
    /// `TAMADA_STOP_TIMEOUT`: how long a stop of the container may take in all.
    pub stop_timeout: Duration,
    /// `TAMADA_KEEP_DISCARDED`: how long WAL that a clone has discarded stays beside the data.
    pub keep_discarded: Duration,
    /// Empty on the command line alone, where Kubernetes is to tell which clusters there are.
    pub scope: String,
    /// Without slashes at its ends.
    pub namespace: String,
    pub dcs: DcsConfig,
    pub postgres: PostgresConfig,
    pub rest: RestConfig,
    pub ctl: CtlConfig,
    pub log: LogConfig,
    pub watchdog: WatchdogConfig,
    pub tags: Tags,
    /// All effective tags as they are published, own ones with their YAML type.
    pub published_tags: Map<String, Value>,
    pub bootstrap: BootstrapConfig,
    /// What a person should know at start: unknown variables, overridden values, settings not implemented yet.
    pub warnings: Vec<String>,
    /// The variables that gave a part of `bootstrap.dcs`.
    pub cluster_variables: Vec<ClusterVariable>,
    /// `MALLOC_ARENA_MAX` for PostgreSQL's processes, from PG_MALLOC_ARENA_MAX.
    pub malloc_arena_max: Option<String>,
    /// Whether PostgreSQL's account has a name, so that `peer` can work on the socket.
    pub account: Account,
    effective: Effective,
}

#[derive(Clone, Debug)]
pub enum DcsConfig {
    /// No DCS: a single, plain server.
    Single,
    Etcd3(EtcdConfig),
    Kubernetes(Box<KubernetesConfig>),
}

impl DcsConfig {
    pub fn mode(&self) -> Mode {
        match self {
            DcsConfig::Single => Mode::Single,
            DcsConfig::Etcd3(_) | DcsConfig::Kubernetes(_) => Mode::Cluster,
        }
    }
}

#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// `host:port`; at least one.
    pub endpoints: Vec<HostPort>,
    pub scheme: Scheme,
    /// Stick to the endpoints given; do not learn others from the cluster.
    pub use_proxies: Switch,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Set: the server's certificate is verified against it.
    pub cacert: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    /// `None` with a certificate: the key is in the same file.
    pub key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// A host name or address (IPv6 without brackets) and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// Value of `listen_addresses`: comma separated, `*`, `0.0.0.0`, names.
    pub listen_addresses: String,
    pub port: u16,
    pub connect_address: HostPort,
    /// Nobody has said how this node is reached, so that its host name stands there.
    pub connect_by_host_name: bool,
    pub proxy_address: Option<HostPort>,
    pub data_dir: PathBuf,
    pub config_dir: Option<PathBuf>,
    pub config_base_name: String,
    pub custom_conf: Option<PathBuf>,
    /// Empty: searched on PATH, then below /usr/lib/postgresql.
    pub bin_dir: Option<PathBuf>,
    /// Other names of the programs: `pg_ctl`, `initdb` … to file name.
    pub bin_name: BTreeMap<String, String>,
    pub pgpass: PathBuf,
    /// The database that the agent connects to.
    pub database: String,
    pub superuser: Credentials,
    pub replication: Credentials,
    /// `None`: the superuser rewinds.
    pub rewind: Option<Credentials>,
    pub use_unix_socket: Switch,
    pub pg_ctl_timeout: Duration,
    pub krbsrvname: Option<String>,
    pub callbacks: Callbacks,
    /// Options of pg_basebackup and pg_rewind, already as arguments (`--max-rate=100M`).
    pub basebackup: Vec<String>,
    pub rewind_options: Vec<String>,
    /// `None`: off where the one for diverged timelines is off on this node, else as the cluster says, else off.
    pub remove_data_directory_on_rewind_failure: Option<Switch>,
    /// `None`: as the cluster says, else off.
    pub remove_data_directory_on_diverged_timelines: Option<Switch>,
    /// The local part of what may also be cluster-wide; a key present here wins as a whole (parameters: one by one).
    pub local: ServerSettings,
    /// The same of what stands above, where the cluster's word is taken over too.
    pub own: NodeSettings,
}

/// What may stand both in a node's own `postgresql` section and in the cluster's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerSettings {
    /// Names as given; compared case-insensitively. Values are strings, numbers, booleans or null.
    pub parameters: Map<String, Value>,
    pub pg_hba: Option<Vec<String>>,
    pub pg_ident: Option<Vec<String>>,
    pub recovery_conf: Option<Map<String, Value>>,
    pub use_pg_rewind: Option<Switch>,
    /// Command lines, split into words.
    pub pre_promote: Option<Vec<String>>,
    pub before_stop: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
pub struct Credentials {
    pub username: String,
    pub password: Option<Secret>,
    /// The libpq keys `sslmode`, `sslcert` …, `channel_binding`; `sslpassword` apart.
    pub options: BTreeMap<String, String>,
    pub sslpassword: Option<Secret>,
}

/// Command lines, already split into words; empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callbacks {
    pub on_start: Vec<String>,
    pub on_stop: Vec<String>,
    pub on_restart: Vec<String>,
    pub on_reload: Vec<String>,
    pub on_role_change: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct RestConfig {
    pub listen: HostPort,
    pub connect_address: HostPort,
    /// As in `PostgresConfig`.
    pub connect_by_host_name: bool,
    pub auth: Option<BasicAuth>,
    pub tls: Option<ServerTls>,
    pub allowlist: Vec<String>,
    pub allowlist_include_members: Switch,
    pub http_extra_headers: BTreeMap<String, String>,
    pub https_extra_headers: BTreeMap<String, String>,
    pub request_queue_size: u32,
    pub server_tokens: ServerTokens,
}

/// What the `Server` header of the REST API tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTokens {
    /// Our own name and version.
    #[default]
    Original,
    /// `Patroni/` and the version of Patroni that this one answers as.
    Minimal,
    /// `Patroni`.
    ProductOnly,
}

#[derive(Clone, Debug)]
pub struct BasicAuth {
    pub username: String,
    pub password: Secret,
}

#[derive(Clone, Debug)]
pub struct ServerTls {
    pub certfile: PathBuf,
    pub keyfile: Option<PathBuf>,
    pub keyfile_password: Option<Secret>,
    pub cafile: Option<PathBuf>,
    /// OpenSSL's cipher string.
    pub ciphers: Option<String>,
    pub verify_client: VerifyClient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyClient {
    None,
    Optional,
    Required,
}

/// How this node calls other members' REST API; also what `tamada list` and its like use.
#[derive(Clone, Debug, Default)]
pub struct CtlConfig {
    pub auth: Option<BasicAuth>,
    pub insecure: bool,
    pub cacert: Option<PathBuf>,
    /// `restapi.cafile`: in force where there is no `cacert`.
    pub cafile_of_api: Option<PathBuf>,
    pub certfile: Option<PathBuf>,
    pub keyfile: Option<PathBuf>,
    pub keyfile_password: Option<Secret>,
}

#[derive(Clone, Debug)]
pub struct LogConfig {
    pub format: LogFormat,
    /// `None`: our own lines, plain or JSON.
    pub layout: Option<LogLayout>,
    /// What `strftime` takes; `None`: as Python's `logging` writes it.
    pub date_format: Option<String>,
    pub level: LogLevel,
    /// Levels of single loggers, by the beginning of a module's path (`tamada::api`).
    pub loggers: BTreeMap<String, LogLevel>,
    pub static_fields: Map<String, Value>,
    /// Lines that may wait to be written.
    pub queue_max: usize,
    /// `None`: standard error.
    pub file: Option<LogFile>,
    pub deduplicate_heartbeats: Switch,
}

/// `patroni.log` in a folder, and the older ones beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub dir: PathBuf,
    /// `None`: as the process's umask leaves it.
    pub mode: Option<u32>,
    /// In bytes; 0: it is never renamed.
    pub size_max: u64,
    /// How many older ones are kept; 0: it is never renamed.
    pub kept: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Plain,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
}

#[derive(Clone, Debug)]
pub struct BootstrapConfig {
    /// Becomes the `config` key when the cluster is initialised: the document given merged with the variables.
    pub dcs: Map<String, Value>,
    /// Arguments for initdb (`--encoding=UTF8`), without user, password and directory.
    pub initdb: Vec<String>,
    /// Lines appended to the pg_hba.conf that initdb made, unless `pg_hba` is configured.
    pub pg_hba: Vec<String>,
    /// Command line of `post_bootstrap`/`post_init`, already split; empty: none.
    pub post_bootstrap: Vec<String>,
    /// May this member initialise a cluster? Not where a document names the DCS and has no `bootstrap` section.
    pub may_initialise: Switch,
    /// A database to be made with a new cluster; `None`: none besides PostgreSQL's own.
    pub database: Option<String>,
}

#[cfg(test)]
mod tests;
