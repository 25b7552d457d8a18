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

    /// Gives a parameter that is not controlled a value of the agent's, whatever was configured.
    pub fn force(&mut self, name: &str, value: &str) {
        self.others.insert(name.to_owned(), value.to_owned());
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
