//! The section `postgresql`: this node's server and the roles that the agent uses.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::cluster_keys::misplaced;
use super::error::Reported;
use super::given::{Account, FoundData, HostFacts, Purpose};
use super::machine::NamedFile;
use super::merge::is_controlled;
use super::options::{Tool, arguments};
use super::origin::Origin;
use super::reader::{Reader, remove_nulls, scalar, split_port};
use super::tls_not_required::authorities_without_use;
use super::{Callbacks, Config, Credentials, HostPort, PostgresConfig, Secret, ServerSettings};
use crate::core::policy::{Mode, Switch};

const PGPASS: &str = "/run/postgresql/tamada.pgpass";

const PROGRAMS: [&str; 7] =
    ["initdb", "pg_basebackup", "pg_controldata", "pg_ctl", "pg_isready", "pg_rewind", "postgres"];

const ROLE_OPTIONS: [&str; 9] = [
    "sslmode",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "gssencmode",
    "channel_binding",
    "sslnegotiation",
];

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
    let roles = roles(reader, mode, found);
    let (bin_dir, bin_name) = programs(reader);
    let pgpass = PathBuf::from(reader.text_or("postgresql.pgpass", PGPASS));
    PostgresConfig {
        listen_addresses,
        port,
        connect_address,
        connect_by_host_name,
        proxy_address: reader.host_port("postgresql.proxy_address", Some(port)),
        config_dir: reader.path("postgresql.config_dir"),
        config_base_name: reader.text_or("postgresql.config_base_name", "postgresql"),
        custom_conf: reader.path("postgresql.custom_conf"),
        bin_dir,
        bin_name,
        pgpass,
        database: reader.text_or("postgresql.database", "postgres"),
        superuser: roles.superuser,
        replication: roles.replication,
        rewind: roles.rewind,
        use_unix_socket: reader.switch_or("postgresql.use_unix_socket", Switch::Off),
        pg_ctl_timeout: seconds(reader, "postgresql.pg_ctl_timeout", 60),
        krbsrvname: reader.text("postgresql.krbsrvname"),
        callbacks: callbacks(reader),
        basebackup: tool_options(reader, "postgresql.basebackup", Tool::Basebackup),
        rewind_options: tool_options(reader, "postgresql.rewind", Tool::Rewind),
        remove_data_directory_on_rewind_failure: reader.switch("postgresql.remove_data_directory_on_rewind_failure"),
        remove_data_directory_on_diverged_timelines: reader
            .switch("postgresql.remove_data_directory_on_diverged_timelines"),
        local: local_settings(reader),
        data_dir,
    }
}

/// The folder of PostgreSQL's programs and their names.
fn programs(reader: &mut Reader<'_>) -> (Option<PathBuf>, BTreeMap<String, String>) {
    let dir = reader.path("postgresql.bin_dir");
    let names = bin_name(reader);
    if let Some(dir) = &dir {
        let server = names.get("postgres").map_or("postgres", String::as_str);
        let place = reader.document.place("postgresql.bin_dir");
        reader.files.push(NamedFile { place, path: dir.join(server) });
    }
    (dir, names)
}

fn bin_name(reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    let names = reader.texts("postgresql.bin_name");
    for name in names.keys().filter(|name| !PROGRAMS.contains(&name.as_str())) {
        reader.warn_unknown(&format!("postgresql.bin_name.{name}"));
    }
    names
}

fn seconds(reader: &mut Reader<'_>, path: &str, default: i64) -> Duration {
    let number = reader.whole_or(path, 1..=i64::from(i32::MAX), default);
    Duration::from_secs(number.unsigned_abs())
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

fn callbacks(reader: &mut Reader<'_>) -> Callbacks {
    let mut command = |event: &str| reader.command(&format!("postgresql.callbacks.{event}"));
    Callbacks {
        on_start: command("on_start"),
        on_stop: command("on_stop"),
        on_restart: command("on_restart"),
        on_reload: command("on_reload"),
        on_role_change: command("on_role_change"),
    }
}

/// `None`: not given, so that the cluster's counts.
fn hook(reader: &mut Reader<'_>, path: &str) -> Option<Vec<String>> {
    let words = reader.command(path);
    (!words.is_empty()).then_some(words)
}

/// Options that cannot be used are left out with a warning, as Patroni does.
fn tool_options(reader: &mut Reader<'_>, path: &str, tool: Tool) -> Vec<String> {
    let Some(value) = reader.value(path) else { return Vec::new() };
    let (arguments, problems) = arguments(value, tool);
    let place = reader.document.place(path);
    problems.iter().for_each(|problem| reader.report.warn(format!("{place}: {problem}; this option is left out")));
    arguments
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

struct Roles {
    superuser: Credentials,
    replication: Credentials,
    rewind: Option<Credentials>,
}

fn roles(reader: &mut Reader<'_>, mode: Mode, found: FoundData) -> Roles {
    let superuser = superuser(reader);
    let replication = role(reader, "replication", "replicator");
    let has_rewind = ["username", "password", "sslcert"]
        .iter()
        .any(|key| reader.document.get(&format!("postgresql.authentication.rewind.{key}")).is_some());
    let rewind = has_rewind.then(|| role(reader, "rewind", "rewind_user"));
    // Without a role of its own these have no effect, and are known all the same.
    for key in ROLE_OPTIONS.iter().chain(&["username", "password", "sslpassword"]) {
        let _asked = reader.value(&format!("postgresql.authentication.rewind.{key}"));
    }
    let superuser_needed = match (mode, found) {
        (Mode::Cluster, _) => Some("the superuser's password (or PATRONI_SUPERUSER_PASSWORD)"),
        (Mode::Single, FoundData::None) if !trusts_everybody(reader) => {
            Some("the superuser's password, since there is no data directory yet (or POSTGRES_PASSWORD_FILE)")
        }
        (Mode::Single, _) => None,
    };
    let is_broken = reader.report.broken_variable("PATRONI_SUPERUSER_PASSWORD").is_some();
    if let Some(accepted) = superuser_needed.filter(|_| !can_log_in(&superuser) && !is_broken) {
        reader.missing_of_member("POSTGRES_PASSWORD", accepted);
    }
    if mode == Mode::Cluster && !can_log_in(&replication) {
        reader.missing_of_member("PATRONI_REPLICATION_PASSWORD", "the replication role's password");
    }
    if mode == Mode::Cluster && rewind.as_ref().is_some_and(|rewind| !can_log_in(rewind)) {
        reader.missing_of_member("PATRONI_REWIND_PASSWORD", "the password of the role that rewinds");
    }
    let all = [("superuser", Some(&superuser)), ("replication", Some(&replication)), ("rewind", rewind.as_ref())];
    check_same_names(reader, &all);
    Roles { superuser, replication, rewind }
}

fn trusts_everybody(reader: &mut Reader<'_>) -> bool {
    reader.text("environment.host_auth_method").is_some_and(|method| method == "trust")
}

fn can_log_in(role: &Credentials) -> bool {
    role.password.is_some() || role.options.contains_key("sslcert")
}

fn check_same_names(reader: &mut Reader<'_>, roles: &[(&str, Option<&Credentials>)]) {
    let given =
        |role: Option<&Credentials>| role.and_then(|role| Some((role.username.clone(), role.password.clone()?)));
    let roles: Vec<_> = roles.iter().filter_map(|(role, given_role)| Some((role, given(*given_role)?))).collect();
    for (index, (_, (name, password))) in roles.iter().enumerate() {
        for (role, (other_name, other)) in &roles[index + 1..] {
            if name == other_name && password != other {
                let given = format!("two different passwords given for the role {name}");
                let path = format!("postgresql.authentication.{role}.username");
                reader.error(&path, given, "one password a role, or different names");
            }
        }
    }
}

/// The superuser: the configuration's word, else that of the container's conventions. Both, and different, is an error.
fn superuser(reader: &mut Reader<'_>) -> Credentials {
    let mut credentials = role(reader, "superuser", "postgres");
    let path = |key: &str| format!("postgresql.authentication.superuser.{key}");
    if let Some(name) = reader.text("environment.user") {
        if reader.document.get(&path("username")).is_some() && credentials.username != name {
            let other = reader.document.place(&path("username"));
            reader.wrong("environment.user", &format!("the same name as {other}, or only one of them"));
        } else {
            let origin = reader.document.origin("environment.user");
            reader.note(&path("username"), &name, origin);
            credentials.username = name;
        }
    }
    if let Some(password) = reader.secret("environment.password") {
        if credentials.password.as_ref().is_some_and(|given| *given != password) {
            let other = reader.document.place(&path("password"));
            let both = format!("the same password as {other}, or only one of them");
            reader.error("environment.password", "a different password given", both);
        } else {
            let origin = reader.document.origin("environment.password");
            reader.note(&path("password"), "***", origin);
            credentials.password = Some(password);
        }
    }
    let is_refused = |name: &str| name.starts_with("pg_") || name.contains(['"', '\'', '$', '\\', '\n']);
    if is_refused(&credentials.username) {
        let given = format!("{:?} given", credentials.username);
        let own = path("username");
        let at = if reader.document.get(&own).is_some() { own.as_str() } else { "environment.user" };
        reader.error(at, given, "a name without quotes, $ and \\ that does not begin with pg_");
    }
    credentials
}

fn role(reader: &mut Reader<'_>, role: &str, default_name: &str) -> Credentials {
    let path = |key: &str| format!("postgresql.authentication.{role}.{key}");
    let username = reader.text_or(&path("username"), default_name);
    let password: Option<Secret> = reader.secret(&path("password"));
    let sslpassword = reader.secret(&path("sslpassword"));
    let mut options = BTreeMap::new();
    for key in ROLE_OPTIONS {
        options.extend(reader.text(&path(key)).map(|value| (key.to_owned(), value)));
    }
    for key in ["sslcert", "sslkey", "sslrootcert", "sslcrl"] {
        // The authorities may be those of the system, by that word.
        if let Some(file) = options.get(key).filter(|file| *file != "system") {
            let place = reader.document.place(&path(key));
            reader.files.push(NamedFile { place, path: PathBuf::from(file) });
        }
    }
    authorities_without_use(role, &options).into_iter().for_each(|warning| reader.report.warn(warning));
    Credentials { username, password, options, sslpassword }
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
