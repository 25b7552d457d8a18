//! The section `bootstrap`: what the cluster's configuration is at first, and how the first data directory is made.

use serde_json::{Map, Value, json};

use super::given::Account;
use super::mode::Store;
use super::origin::Origin;
use super::policy::corrected_timers;
use super::reader::{Reader, as_switch, remove_nulls};
use super::{BootstrapConfig, Dynamic, slots};
use crate::core::policy::{Floor, Mode, Switch};

/// Keys that every member reads as booleans. Patroni takes the text `off` for true in some of them, so words
/// become booleans before they reach the cluster.
const SWITCHES: [&str; 4] = ["synchronous_mode", "synchronous_mode_strict", "failsafe_mode", "check_timeline"];
const POSTGRESQL_SWITCHES: [&str; 4] = [
    "remove_data_directory_on_diverged_timelines",
    "remove_data_directory_on_rewind_failure",
    "use_pg_rewind",
    "use_slots",
];

pub(super) fn read(reader: &mut Reader<'_>, account: &Account, superuser: &str, mode: Mode) -> BootstrapConfig {
    let post_bootstrap = match reader.command("bootstrap.post_bootstrap") {
        command if command.is_empty() => reader.command("bootstrap.post_init"),
        command => {
            let _is_known_too = reader.value("bootstrap.post_init");
            command
        }
    };
    let mut pg_hba = reader.lines("bootstrap.pg_hba").unwrap_or_default();
    match mode {
        Mode::Single => pg_hba.push(single_server_line(reader)),
        Mode::Cluster => {
            if reader.text("environment.host_auth_method").is_some() {
                reader.report.warn(
                    "POSTGRES_HOST_AUTH_METHOD has no effect with a DCS; PATRONI_POSTGRESQL_PG_HBA says who may connect",
                );
            }
        }
    }
    BootstrapConfig {
        dcs: dcs(reader, mode),
        initdb: super::initdb::arguments(reader, account, superuser),
        pg_hba,
        post_bootstrap,
        may_initialise: may_initialise(reader, mode),
        database: database(reader),
    }
}

/// As the official image has it: POSTGRES_DB, else one named as POSTGRES_USER.
fn database(reader: &mut Reader<'_>) -> Option<String> {
    let name = reader.text("environment.db").or_else(|| reader.text("environment.user"))?;
    if name.contains('\0') {
        reader.wrong("environment.db", "a database's name");
    }
    (name != "postgres").then_some(name)
}

/// What the official image appends to the pg_hba.conf that initdb made.
fn single_server_line(reader: &mut Reader<'_>) -> String {
    const METHODS: [&str; 10] =
        ["scram-sha-256", "md5", "password", "trust", "reject", "cert", "ldap", "radius", "pam", "gss"];
    let method = reader.text_or("environment.host_auth_method", "scram-sha-256");
    if !METHODS.contains(&method.split(' ').next().unwrap_or_default()) || method.contains(['\n', '\0']) {
        reader.wrong("environment.host_auth_method", "a method of pg_hba.conf, such as scram-sha-256");
    }
    if method == "trust" {
        reader.report.warn("POSTGRES_HOST_AUTH_METHOD is trust: whoever reaches the port is let in without a password");
    }
    format!("host all all all {method}")
}

/// A document that names the DCS and has no `bootstrap` section leaves the initialisation to other members, as in
/// Patroni.
fn may_initialise(reader: &mut Reader<'_>, mode: Mode) -> Switch {
    let names_dcs = reader
        .document
        .base
        .as_ref()
        .is_some_and(|base| Store::ALL.iter().any(|store| base.contains_key(store.section())));
    if mode == Mode::Single || !names_dcs || reader.document.get("bootstrap").is_some() {
        return Switch::On;
    }
    if reader.report.unread_document.is_some() {
        return Switch::Off;
    }
    reader.report.warn(
        "the configuration has no bootstrap section: this member joins a cluster but never initialises one (with \
         bootstrap: {} it would)",
    );
    Switch::Off
}

fn dcs(reader: &mut Reader<'_>, mode: Mode) -> Map<String, Value> {
    let in_base = reader.document.base.as_ref().and_then(|base| base.get("bootstrap")?.get("dcs"));
    let mut dcs = reader.map("bootstrap.dcs").cloned().unwrap_or_default();
    if in_base.is_none() {
        add_defaults(reader, &mut dcs);
    }
    for key in SWITCHES {
        normalise(&mut dcs, key);
    }
    if let Some(Value::Object(postgresql)) = dcs.get_mut("postgresql") {
        for key in POSTGRESQL_SWITCHES {
            normalise(postgresql, key);
        }
    }
    for key in Dynamic::unknown_keys(&dcs) {
        reader.warn_unknown(&format!("bootstrap.dcs.{key}"));
    }
    let without_effect = Dynamic::without_effect(&Value::Object(dcs.clone()));
    without_effect.into_iter().for_each(|warning| reader.report.warn(format!("bootstrap.dcs: {warning}")));
    remove_nulls(&mut dcs);
    match Dynamic::read(&dcs) {
        Ok(dynamic) => {
            if mode == Mode::Cluster
                && let Some(warning) = corrected_timers(dynamic.timing, dynamic.timing.effective(Floor::Ours))
            {
                reader.report.warn(format!("bootstrap.dcs: {warning}"));
            }
            for problem in slots::problems(&dcs) {
                let path = format!("bootstrap.dcs.{}", problem.key);
                reader.error(&path, problem.to_string(), "slots as docs/replication.md describes them");
            }
        }
        Err(problems) => {
            for problem in problems {
                let path = format!("bootstrap.dcs.{}", problem.key);
                reader.error(&path, problem.to_string(), "a value that members accept");
            }
        }
    }
    dcs
}

/// What a cluster that was configured by variables alone starts with, where the variables don't say otherwise.
fn add_defaults(reader: &mut Reader<'_>, dcs: &mut Map<String, Value>) {
    let defaults = [("ttl", json!(30)), ("loop_wait", json!(10)), ("retry_timeout", json!(10))];
    let defaults = defaults.into_iter().chain([("maximum_lag_on_failover", json!(1_048_576))]);
    for (key, value) in defaults {
        if !dcs.contains_key(key) {
            reader.note(&format!("bootstrap.dcs.{key}"), &value.to_string(), Origin::Default);
            dcs.insert(key.to_owned(), value);
        }
    }
    let postgresql = dcs.entry("postgresql").or_insert_with(|| json!({}));
    let Value::Object(postgresql) = postgresql else { return };
    for key in POSTGRESQL_SWITCHES {
        if !postgresql.contains_key(key) {
            reader.note(&format!("bootstrap.dcs.postgresql.{key}"), "true", Origin::Default);
            postgresql.insert(key.to_owned(), Value::Bool(true));
        }
    }
}

fn normalise(map: &mut Map<String, Value>, key: &str) {
    if let Some(value) = map.get_mut(key)
        && let Value::String(_) = value
        && let Some(switch) = as_switch(value)
    {
        *value = Value::Bool(switch.is_on());
    }
}
