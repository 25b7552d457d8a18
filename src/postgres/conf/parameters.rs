//! The parameters that a server is started with: the controlled ones, which stand on the command line so that neither
//! a file nor `ALTER SYSTEM` overrides them, and all the others.
//!
//! Controlled parameters must be alike on all members; they come from the cluster's settings alone. That a local value
//! is not looked at is up to whoever merges (`is_controlled`).

use serde_json::Value;

use crate::config::{ServerSettings, units};
use crate::postgres::controldata::StandbyMinimums;
use crate::postgres::version::Version;

use super::rules::{self, Rule};
use super::settings::{PendingRestart, PendingRestarts};
use super::validate::{Done, Warning, check_value};
use super::{Parameters, parameters_of, parse_server_bool, value_text};

/// Whom commits wait for.
pub const STANDBY_NAMES: &str = "synchronous_standby_names";

/// What the node gives every server of its, whatever is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub listen_addresses: String,
    pub port: u16,
    pub cluster_name: String,
}

/// What a server is to run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerParameters {
    /// In the order of the table of controlled parameters.
    controlled: Vec<(&'static str, String)>,
    /// Only ever in the file.
    others: Parameters,
}

impl ServerParameters {
    /// Arguments of `postgres`: `--listen_addresses=… --port=… …`.
    pub fn command_line(&self) -> Vec<String> {
        self.controlled.iter().map(|(name, value)| format!("--{name}={value}")).collect()
    }

    /// Everything, for the file; not yet checked against the server's version.
    pub fn all(&self) -> Parameters {
        let controlled = self.controlled.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        self.others.clone().into_iter().chain(controlled).collect()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let controlled = self.controlled.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        controlled.or_else(|| self.others.get(name)).map(String::as_str)
    }

    /// A value of ours in place of the user's; an empty one leaves PostgreSQL's default.
    pub fn replace(&mut self, name: &str, value: String) {
        self.others.retain(|known, _| !known.eq_ignore_ascii_case(name));
        if !value.is_empty() {
            self.others.insert(name.to_owned(), value);
        }
    }

    /// Before a start as a standby: raises what is less than the primary had. The entries say what the server will run
    /// with and what is configured; they stay until a start with the configured values.
    pub fn raise_for_standby(&mut self, minimums: &StandbyMinimums) -> PendingRestarts {
        let mut pending = PendingRestarts::new();
        for (name, minimum) in minimums.by_name() {
            let Some(minimum) = minimum else { continue };
            let Some((_, value)) = self.controlled.iter_mut().find(|(known, _)| *known == name) else { continue };
            if value.parse::<u32>().is_ok_and(|configured| configured < minimum) {
                let new_value = std::mem::replace(value, minimum.to_string());
                pending.insert(name.to_owned(), PendingRestart { old_value: minimum.to_string(), new_value });
            }
        }
        pending
    }
}

enum Accepts {
    /// Comes from the identity.
    Nothing,
    WalLevel,
    True,
    Bool,
    AtLeast(i64),
}

/// Name, default, what is accepted; in the order of the command line. `wal_keep_size` stands in the file alone and is
/// treated apart.
const CONTROLLED: [(&str, &str, Accepts); 13] = [
    ("listen_addresses", "", Accepts::Nothing),
    ("port", "", Accepts::Nothing),
    ("cluster_name", "", Accepts::Nothing),
    ("wal_level", "replica", Accepts::WalLevel),
    ("hot_standby", "on", Accepts::True),
    ("max_connections", "100", Accepts::AtLeast(25)),
    ("max_wal_senders", "10", Accepts::AtLeast(3)),
    ("max_prepared_transactions", "0", Accepts::AtLeast(0)),
    ("max_locks_per_transaction", "64", Accepts::AtLeast(32)),
    ("track_commit_timestamp", "off", Accepts::Bool),
    ("max_replication_slots", "10", Accepts::AtLeast(4)),
    ("max_worker_processes", "8", Accepts::AtLeast(2)),
    ("wal_log_hints", "on", Accepts::Bool),
];

const WAL_KEEP_SIZE: &str = "wal_keep_size";
const WAL_KEEP_SEGMENTS: &str = "wal_keep_segments";
/// In MB, as the default and for `wal_keep_segments`.
const SEGMENT_MB: i64 = 16;
const WAL_KEEP_MB_DEFAULT: i64 = 8 * SEGMENT_MB;

/// Whether only the cluster's settings may give this parameter a value.
pub fn is_controlled(name: &str) -> bool {
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    CONTROLLED.iter().any(|(known, ..)| is(known)) || is(WAL_KEEP_SIZE) || is(WAL_KEEP_SEGMENTS)
}

/// What a server of this version is to run with, and what of the settings could not be taken. The defaults stand where
/// a controlled parameter has no value or one that it may not have.
pub fn server_parameters(
    settings: &ServerSettings,
    identity: &Identity,
    version: Version,
) -> (ServerParameters, Vec<Warning>) {
    let given = |name: &str| settings.parameters.iter().rfind(|(key, _)| key.eq_ignore_ascii_case(name));
    let mut warnings = Vec::new();
    let mut controlled = Vec::with_capacity(CONTROLLED.len());
    for (name, default, accepts) in &CONTROLLED {
        let value = match given(name) {
            None => identity.value(name).unwrap_or_else(|| (*default).to_owned()),
            Some((_, value)) => taken(name, value, default, accepts, identity, version, &mut warnings),
        };
        controlled.push((*name, value));
    }
    let mut others = parameters_of(&settings.parameters);
    others.retain(|name, _| !is_controlled(name));
    let size = given(WAL_KEEP_SIZE).map(|(_, value)| value);
    let segments = given(WAL_KEEP_SEGMENTS).map(|(_, value)| value);
    others.insert(WAL_KEEP_SIZE.to_owned(), wal_keep_size(size, segments, &mut warnings));
    (ServerParameters { controlled, others }, warnings)
}

impl Identity {
    fn value(&self, name: &str) -> Option<String> {
        match name {
            "listen_addresses" => Some(self.listen_addresses.clone()),
            "port" => Some(self.port.to_string()),
            "cluster_name" => Some(self.cluster_name.clone()),
            _ => None,
        }
    }
}

/// The value to use for one that was given.
fn taken(
    name: &str,
    value: &Value,
    default: &str,
    accepts: &Accepts,
    identity: &Identity,
    version: Version,
    warnings: &mut Vec<Warning>,
) -> String {
    let text = value_text(value);
    let mut warn = |done| {
        let value = text.clone().unwrap_or_else(|| value.to_string());
        warnings.push(Warning { name: name.to_owned(), value, done });
    };
    if let Some(own) = identity.value(name) {
        warn(Done::Ignored);
        return own;
    }
    let Some(accepted) = text.as_deref().and_then(|text| accepted(text, accepts)) else {
        warn(Done::Defaulted(default.to_owned()));
        return default.to_owned();
    };
    let limits = rules::rule(name, version).filter(|rule| matches!(rule, Rule::Number { .. }));
    match limits.map(|rule| check_value(&accepted, rule)) {
        Some(Err(Done::Clamped(used))) => {
            warn(Done::Clamped(used.clone()));
            used
        }
        None | Some(Ok(()) | Err(Done::Defaulted(_) | Done::Ignored | Done::DroppedName | Done::DroppedValue)) => {
            accepted
        }
    }
}

/// The normal form of a value that the parameter may have.
fn accepted(text: &str, accepts: &Accepts) -> Option<String> {
    match accepts {
        Accepts::Nothing => None,
        Accepts::WalLevel => match text.to_ascii_lowercase().as_str() {
            "hot_standby" | "replica" => Some("replica".to_owned()),
            "logical" => Some("logical".to_owned()),
            _ => None,
        },
        Accepts::True => parse_server_bool(text).filter(|on| *on).map(|_| "on".to_owned()),
        Accepts::Bool => parse_server_bool(text).map(|on| if on { "on" } else { "off" }.to_owned()),
        Accepts::AtLeast(least) => {
            units::parse_int(text, None).filter(|number| number >= least).map(|number| number.to_string())
        }
    }
}

/// `wal_keep_size` of servers from 13 on; `wal_keep_segments`, which older ones had, is converted.
fn wal_keep_size(size: Option<&Value>, segments: Option<&Value>, warnings: &mut Vec<Warning>) -> String {
    let default = format!("{WAL_KEEP_MB_DEFAULT}MB");
    let mut warn = |name: &str, value: &Value| {
        let value = value_text(value).unwrap_or_else(|| value.to_string());
        warnings.push(Warning { name: name.to_owned(), value, done: Done::Defaulted(default.clone()) });
        default.clone()
    };
    if let Some(value) = size {
        let text = value_text(value).map(|text| text.trim().to_owned());
        return match text.filter(|text| units::parse_int(text, Some("MB")).is_some_and(|mb| mb >= SEGMENT_MB)) {
            Some(text) => text,
            None => warn(WAL_KEEP_SIZE, value),
        };
    }
    let Some(value) = segments else { return default };
    match value_text(value).and_then(|text| units::parse_int(&text, None)).filter(|segments| *segments >= 1) {
        Some(segments) => format!("{}MB", segments.saturating_mul(SEGMENT_MB)),
        None => warn(WAL_KEEP_SEGMENTS, value),
    }
}

/// Arguments of `postgres` for a plain single server: its files are the user's, ours is only what was asked for by
/// variables. Parameters are passed in the order of their names.
pub fn single_mode_options(
    listen_addresses: Option<&str>,
    port: Option<u16>,
    parameters: &serde_json::Map<String, Value>,
) -> Vec<String> {
    let mut options = parameters_of(parameters);
    options.extend(listen_addresses.map(|value| ("listen_addresses".to_owned(), value.to_owned())));
    options.extend(port.map(|value| ("port".to_owned(), value.to_string())));
    options.into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    const V15: Version = Version::new(15, 18);

    fn built(parameters: Value) -> (ServerParameters, Vec<Warning>) {
        let parameters: Map<String, Value> = parameters.as_object().expect("a map").clone();
        let identity =
            Identity { listen_addresses: "10.0.0.1,::1".to_owned(), port: 5433, cluster_name: "demo".to_owned() };
        server_parameters(&ServerSettings { parameters, ..ServerSettings::default() }, &identity, V15)
    }

    fn done(warnings: &[Warning]) -> Vec<(&str, &str, Done)> {
        warnings.iter().map(|warning| (warning.name.as_str(), warning.value.as_str(), warning.done.clone())).collect()
    }

    #[test]
    fn without_settings_the_defaults_stand_on_the_command_line_in_the_tables_order() {
        let (server, warnings) = built(json!({}));
        let expected = "--listen_addresses=10.0.0.1,::1 --port=5433 --cluster_name=demo --wal_level=replica \
                        --hot_standby=on --max_connections=100 --max_wal_senders=10 --max_prepared_transactions=0 \
                        --max_locks_per_transaction=64 --track_commit_timestamp=off --max_replication_slots=10 \
                        --max_worker_processes=8 --wal_log_hints=on";
        assert_eq!(server.command_line().join(" "), expected);
        assert_eq!(server.all().len(), 14);
        assert_eq!((server.get("wal_keep_size"), server.get("port")), (Some("128MB"), Some("5433")));
        assert_eq!(warnings, []);
    }

    #[test]
    fn good_values_are_taken_in_their_normal_form() {
        let (server, warnings) = built(json!({
            "WAL_LEVEL": "Logical", "max_connections": "30.4", "hot_standby": "yes", "wal_log_hints": false,
            "max_worker_processes": 16, "wal_keep_size": "1GB", "Work_Mem": "9MB", "my.knob": true,
        }));
        let expected = [
            ("wal_level", "logical"),
            ("max_connections", "30"),
            ("hot_standby", "on"),
            ("wal_log_hints", "off"),
            ("max_worker_processes", "16"),
            ("wal_keep_size", "1GB"),
            ("work_mem", "9MB"),
            ("my.knob", "on"),
        ];
        for (name, value) in expected {
            assert_eq!(server.get(name), Some(value), "{name}");
        }
        assert_eq!(warnings, []);
        assert_eq!(built(json!({"wal_level": "hot_standby"})).0.get("wal_level"), Some("replica"));
    }

    #[test]
    fn bad_values_give_the_default_and_a_warning() {
        let cases = [
            ("max_wal_senders", json!(1), "10"),
            ("wal_level", json!("minimal"), "replica"),
            ("hot_standby", json!("off"), "on"),
            ("max_connections", json!(null), "100"),
            ("max_connections", json!([100]), "100"),
            ("max_connections", json!("100kB"), "100"),
            ("track_commit_timestamp", json!("maybe"), "off"),
            ("wal_keep_size", json!("15MB"), "128MB"),
            ("wal_keep_segments", json!(0), "128MB"),
        ];
        for (name, value, default) in cases {
            let (server, warnings) = built(json!({ name: value }));
            let kept = if name.starts_with("wal_keep") { "wal_keep_size" } else { name };
            assert_eq!(server.get(kept), Some(default), "{name}");
            let [warning] = &warnings[..] else { panic!("one warning for {name}: {warnings:?}") };
            assert_eq!((warning.name.as_str(), &warning.done), (name, &Done::Defaulted(default.to_owned())));
        }
    }

    #[test]
    fn the_address_is_nobody_elses_to_set() {
        let (server, warnings) = built(json!({"port": 1, "cluster_name": "x"}));
        assert_eq!((server.get("port"), server.get("cluster_name")), (Some("5433"), Some("demo")));
        assert_eq!(done(&warnings), [("port", "1", Done::Ignored), ("cluster_name", "x", Done::Ignored)]);
    }

    #[test]
    fn a_value_too_large_is_clamped_on_the_command_line_too() {
        let (server, warnings) = built(json!({"max_connections": 300_000}));
        assert!(server.command_line().contains(&"--max_connections=262143".to_owned()));
        assert_eq!(done(&warnings), [("max_connections", "300000", Done::Clamped("262143".to_owned()))]);
    }

    #[test]
    fn segments_to_keep_are_converted() {
        let size = |parameters| built(parameters).0.all();
        let converted = size(json!({"wal_keep_segments": 10}));
        assert_eq!(converted.get("wal_keep_size").map(String::as_str), Some("160MB"));
        assert_eq!(converted.get("wal_keep_segments"), None);
        let both = size(json!({"wal_keep_segments": 10, "wal_keep_size": 64}));
        assert_eq!(both.get("wal_keep_size").map(String::as_str), Some("64"));
    }

    #[test]
    fn a_standby_has_no_less_than_its_primary_had() {
        let (mut server, _) = built(json!({"max_connections": 50, "max_worker_processes": 20}));
        let minimums = StandbyMinimums {
            max_connections: Some(120),
            max_prepared_transactions: Some(0),
            max_locks_per_transaction: None,
            max_worker_processes: Some(8),
            max_wal_senders: Some(10),
        };
        let pending = server.raise_for_standby(&minimums);
        let entry = PendingRestart { old_value: "120".to_owned(), new_value: "50".to_owned() };
        assert_eq!(pending, PendingRestarts::from([("max_connections".to_owned(), entry)]));
        assert!(server.command_line().contains(&"--max_connections=120".to_owned()));
        assert_eq!(server.all().get("max_connections").map(String::as_str), Some("120"));
        assert_eq!(server.get("max_worker_processes"), Some("20"));
        assert_eq!(server.raise_for_standby(&minimums), PendingRestarts::new());
    }

    #[test]
    fn a_single_server_gets_only_what_was_asked_for() {
        let parameters = json!({"fsync": false, "Work_Mem": "9MB", "log_line_prefix": "it's %m"});
        let parameters = parameters.as_object().expect("a map");
        let expected =
            ["--fsync=off", "--listen_addresses=*", "--log_line_prefix=it's %m", "--port=5433", "--work_mem=9MB"];
        assert_eq!(single_mode_options(Some("*"), Some(5433), parameters), expected);
        assert_eq!(single_mode_options(None, None, &Map::new()), Vec::<String>::new());
    }

    #[test]
    fn controlled_parameters_are_known_in_any_case() {
        assert!(is_controlled("Max_Connections") && is_controlled("wal_keep_segments") && is_controlled("port"));
        assert!(!is_controlled("work_mem"));
    }
}
