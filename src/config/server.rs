//! The section `postgresql`: this node's server and the roles that the agent uses.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::cluster_keys::misplaced;
use super::error::Reported;
use super::given::{Account, HostFacts, Purpose};
use super::machine::NamedFile;
use super::merge::is_controlled;
use super::node_settings::{BASE_NAME, CALLBACKS, DATABASE, NodeSettings, PG_CTL_TIMEOUT, PROGRAMS};
use super::options::{Tool, arguments};
use super::origin::Origin;
use super::reader::{Reader, remove_nulls, scalar, split_port};
use super::{Callbacks, Config, HostPort, PostgresConfig, ServerSettings, roles};
use crate::core::policy::{Mode, Switch};

const PGPASS: &str = "/run/postgresql/tamada.pgpass";

/// Where the data are: the configuration's word, else PGDATA.
pub(super) fn data_dir(reader: &mut Reader<'_>) -> Result<PathBuf, Reported> {
    let pgdata = reader.text("environment.pgdata");
    let text = match reader.text("postgresql.data_dir") {
        Some(text) => text,
        None => {
            let Some(pgdata) = pgdata else {
                if reader.purpose == Purpose::CommandLine {
                    return Ok(PathBuf::new());
                }
                return Err(reader.missing("PGDATA", "the data directory's path (or PATRONI_POSTGRESQL_DATA_DIR)"));
            };
            let origin = reader.document.origin("environment.pgdata");
            reader.note("postgresql.data_dir", &pgdata, origin);
            pgdata
        }
    };
    let path = PathBuf::from(text);
    if !path.is_absolute() || path.parent().is_none() {
        let at = if reader.document.get("postgresql.data_dir").is_some() {
            "postgresql.data_dir"
        } else {
            "environment.pgdata"
        };
        return Err(reader.wrong(at, "an absolute path of a folder of its own"));
    }
    Ok(path)
}

/// Everything else; what is wrong is reported and replaced by a default.
pub(super) fn read(reader: &mut Reader<'_>, host: &HostFacts, mode: Mode, data_dir: PathBuf) -> PostgresConfig {
    let (listen_addresses, port) = listen(reader);
    let (connect_address, connect_by_host_name) = match reader.host_port("postgresql.connect_address", Some(port)) {
        Some(address) => (not_a_wildcard(reader, "postgresql.connect_address", address), false),
        None => own_address(reader, "postgresql.connect_address", host, &listen_addresses, port),
    };
    let found = (host.inspect)(&data_dir);
    let roles = roles::read(reader, mode, found);
    let pgpass = PathBuf::from(reader.text_or("postgresql.pgpass", PGPASS));
    let config = PostgresConfig {
        listen_addresses,
        port,
        connect_address,
        connect_by_host_name,
        proxy_address: reader.host_port("postgresql.proxy_address", Some(port)),
        config_dir: reader.path("postgresql.config_dir"),
        config_base_name: String::new(),
        custom_conf: None,
        bin_dir: None,
        bin_name: BTreeMap::new(),
        pgpass,
        database: String::new(),
        superuser: roles.superuser,
        replication: roles.replication,
        rewind: roles.rewind,
        use_unix_socket: Switch::Off,
        pg_ctl_timeout: Duration::ZERO,
        krbsrvname: None,
        callbacks: Callbacks::default(),
        basebackup: Vec::new(),
        rewind_options: Vec::new(),
        remove_data_directory_on_rewind_failure: reader.switch("postgresql.remove_data_directory_on_rewind_failure"),
        remove_data_directory_on_diverged_timelines: reader
            .switch("postgresql.remove_data_directory_on_diverged_timelines"),
        local: local_settings(reader),
        own: own_settings(reader),
        data_dir,
    };
    config.with_cluster(&NodeSettings::default())
}

fn own_settings(reader: &mut Reader<'_>) -> NodeSettings {
    // Nothing here connects for replication to its own server: what is asked for holds.
    reader.switch("postgresql.use_unix_socket_repl");
    let (bin_dir, bin_name) = programs(reader);
    NodeSettings {
        config_base_name: optional(reader, "postgresql.config_base_name", BASE_NAME),
        custom_conf: reader.path("postgresql.custom_conf"),
        bin_dir,
        bin_name,
        database: optional(reader, "postgresql.database", DATABASE),
        use_unix_socket: reader.switch("postgresql.use_unix_socket"),
        pg_ctl_timeout: seconds(reader, "postgresql.pg_ctl_timeout", PG_CTL_TIMEOUT),
        krbsrvname: reader.text("postgresql.krbsrvname"),
        callbacks: callbacks(reader),
        basebackup: tool_options(reader, "postgresql.basebackup", Tool::Basebackup),
        rewind: tool_options(reader, "postgresql.rewind", Tool::Rewind),
    }
}

/// The default is shown, and stands back behind the cluster's word.
fn optional(reader: &mut Reader<'_>, path: &str, default: &str) -> Option<String> {
    let text = reader.text(path);
    if text.is_none() {
        reader.note(path, default, Origin::Default);
    }
    text
}

/// The folder of PostgreSQL's programs and their names.
fn programs(reader: &mut Reader<'_>) -> (Option<PathBuf>, Option<BTreeMap<String, String>>) {
    let dir = reader.path("postgresql.bin_dir");
    let names = bin_name(reader);
    if let Some(dir) = &dir {
        let server = names.as_ref().and_then(|names| names.get("postgres")).map_or("postgres", String::as_str);
        let place = reader.document.place("postgresql.bin_dir");
        reader.files.push(NamedFile { place, path: dir.join(server) });
    }
    (dir, names)
}

fn bin_name(reader: &mut Reader<'_>) -> Option<BTreeMap<String, String>> {
    reader.value("postgresql.bin_name")?;
    let names = reader.texts("postgresql.bin_name");
    for name in names.keys().filter(|name| !PROGRAMS.contains(&name.as_str())) {
        reader.warn_unknown(&format!("postgresql.bin_name.{name}"));
    }
    Some(names)
}

fn seconds(reader: &mut Reader<'_>, path: &str, default: i64) -> Option<Duration> {
    let number = reader.whole(path, 1..=i64::from(i32::MAX));
    if number.is_none() {
        reader.note(path, &default.to_string(), Origin::Default);
    }
    number.map(|number| Duration::from_secs(number.unsigned_abs()))
}

fn listen(reader: &mut Reader<'_>) -> (String, u16) {
    let text = reader.text_or("postgresql.listen", "0.0.0.0:5432");
    parse_listen(&text).unwrap_or_else(|| {
        reader.wrong("postgresql.listen", "addr[,addr…][:port] with a port of 1 to 65535");
        ("0.0.0.0".to_owned(), 5432)
    })
}

fn parse_listen(text: &str) -> Option<(String, u16)> {
    let mut addresses: Vec<&str> = text.split(',').map(str::trim).collect();
    let (last, port) = split_port(addresses.pop()?)?;
    addresses.push(last);
    let addresses: Vec<&str> = addresses.iter().map(|address| address.trim_matches(['[', ']'])).collect();
    let is_address =
        |address: &&str| !address.is_empty() && !address.contains(|c: char| c.is_whitespace() || "'\"\\/@".contains(c));
    addresses.iter().all(is_address).then(|| (addresses.join(","), port.unwrap_or(5432)))
}

/// The default of a connect address: what we listen on if that is one address, else POD_IP, else the host name.
pub(super) fn own_address(
    reader: &mut Reader<'_>,
    path: &str,
    host: &HostFacts,
    listen: &str,
    port: u16,
) -> (HostPort, bool) {
    let is_everything = listen.split(',').any(is_wildcard) || listen.contains(',');
    let given = ["environment.pod_ip", "kubernetes.pod_ip"].map(|path| (path, reader.text(path)));
    let pod_ip = given.into_iter().find_map(|(path, address)| Some((path, address?)));
    let (address, origin) = match pod_ip {
        _ if !is_everything => (listen.to_owned(), Origin::Machine("the listen address")),
        Some((path, address)) => (address.trim_matches(['[', ']']).to_owned(), reader.document.origin(path)),
        None => (host.host_name.clone(), Origin::Machine("host name")),
    };
    if address.is_empty() || address.contains(char::is_whitespace) {
        reader.missing_of_member(path, "an address that others reach this node at, since the host name is empty");
    }
    let is_host_name = origin == Origin::Machine("host name");
    let address = HostPort { host: address, port };
    reader.note(path, &address.to_string(), origin);
    (address, is_host_name)
}

pub(super) fn is_wildcard(address: &str) -> bool {
    matches!(address, "*" | "0.0.0.0" | "::")
}

pub(super) fn not_a_wildcard(reader: &mut Reader<'_>, path: &str, address: HostPort) -> HostPort {
    if is_wildcard(&address.host) {
        reader.wrong(path, "one address that others reach this node at");
    }
    address
}

fn callbacks(reader: &mut Reader<'_>) -> Option<Callbacks> {
    let mut callbacks = Callbacks::default();
    for event in CALLBACKS {
        let command = reader.command(&format!("postgresql.callbacks.{event}"));
        callbacks.of_event(event).into_iter().for_each(|callback| callback.clone_from(&command));
    }
    let is_given = reader.document.get("postgresql.callbacks").is_some_and(|value| !value.is_null());
    is_given.then_some(callbacks)
}

/// `None`: not given, so that the cluster's counts.
fn hook(reader: &mut Reader<'_>, path: &str) -> Option<Vec<String>> {
    let words = reader.command(path);
    (!words.is_empty()).then_some(words)
}

/// Options that cannot be used are left out with a warning, as Patroni does.
fn tool_options(reader: &mut Reader<'_>, path: &str, tool: Tool) -> Option<Vec<String>> {
    let value = reader.value(path)?;
    let (arguments, problems) = arguments(value, tool);
    let place = reader.document.place(path);
    problems.iter().for_each(|problem| reader.report.warn(format!("{place}: {problem}; this option is left out")));
    Some(arguments)
}

fn local_settings(reader: &mut Reader<'_>) -> ServerSettings {
    let mut parameters = reader.map("postgresql.parameters").cloned().unwrap_or_default();
    for problem in misplaced(&parameters) {
        let place = reader.document.origin("postgresql.parameters");
        reader.report.warn(format!("{problem} ({place})"));
    }
    parameters.retain(|_, value| scalar(value).is_some());
    let mut recovery_conf = reader.map("postgresql.recovery_conf").cloned();
    recovery_conf.iter_mut().for_each(remove_nulls);
    for name in parameters.keys().filter(|name| is_controlled(name)) {
        let place = reader.document.origin(&format!("postgresql.parameters.{name}"));
        reader.report.warn(format!(
            "postgresql.parameters.{name} of {place} has no effect: only the cluster's configuration sets this parameter"
        ));
    }
    ServerSettings {
        parameters,
        pg_hba: reader.lines("postgresql.pg_hba"),
        pg_ident: reader.lines("postgresql.pg_ident"),
        recovery_conf,
        use_pg_rewind: reader.switch("postgresql.use_pg_rewind"),
        pre_promote: hook(reader, "postgresql.pre_promote"),
        before_stop: hook(reader, "postgresql.before_stop"),
    }
}

/// The `pg_hba.conf` of a cluster that has none configured: the socket, replication for its own role, and everybody
/// else by password. Lines of `bootstrap.pg_hba` come before the last ones. Not for data that bring their own file.
pub fn default_pg_hba(config: &Config) -> Vec<String> {
    let socket = match config.account {
        Account::Named(_) => "peer",
        Account::Unnamed => "scram-sha-256",
    };
    let replication = quoted(&config.postgres.replication.username);
    let mut lines = vec![format!("local all all {socket}"), format!("local replication {replication} scram-sha-256")];
    lines.extend(config.bootstrap.pg_hba.iter().cloned());
    lines.push(format!("host replication {replication} all scram-sha-256"));
    lines.push("host all all all scram-sha-256".to_owned());
    lines
}

/// A role's name as a word of `pg_hba.conf`: quoted, it is no keyword and no group.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
