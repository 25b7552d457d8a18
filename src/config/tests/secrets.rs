//! No secret that is given anywhere appears in an error, a warning, `Debug` or the effective configuration.

use std::fs;

use serde_json::json;

use super::super::raw::known;
use super::super::*;
use super::{cluster, host, load, load_on};

const SECRET: &str = "hunter2-Zq9";

/// Everything that could be shown of a result.
fn everything(result: &Result<Config, ConfigErrors>) -> String {
    match result {
        Ok(config) => {
            let other = json!({"ttl": 1, "postgresql": {"parameters": {"archive_command": "x"}}});
            let differences = config.differences_from_cluster(&other);
            format!("{config:?}\n{}\n{}\n{}", config.effective(), config.warnings.join("\n"), differences.join("\n"))
        }
        Err(errors) => format!("{errors}\n{errors:?}"),
    }
}

#[track_caller]
fn shows_nothing(result: &Result<Config, ConfigErrors>, what: &str) {
    let shown = everything(result);
    assert!(!shown.contains(SECRET), "{what} shows its secret:\n{shown}");
}

#[test]
fn every_secret_variable_stays_hidden_right_or_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    for variable in known().filter(|variable| variable.kind.is_secret()) {
        let name = variable.name();
        let values = [
            SECRET.to_owned(),
            format!("http://user:{SECRET}@e:2379"),
            format!("http://user:{SECRET}@e:bad"),
            format!("{SECRET}\nmore"),
            format!("{{{SECRET}"),
            format!("{{postgresql: {SECRET}}}"),
            format!("{{restapi: {{authentication: {SECRET}}}, etcd3: {{password: [{SECRET}]}}}}"),
            format!("{{postgresql: {{authentication: {{superuser: {{passwort: {SECRET}}}, rewind: {SECRET}}}}}}}"),
            format!("{{postgresql: {{authentication: {{replication: {{password: {{x: {SECRET}}}}}}}}}}}"),
        ];
        for value in &values {
            shows_nothing(&cluster(&[(&name, value)]), &format!("{name}={value}"));
            shows_nothing(&load(&[(&name, value)]), &format!("{name}={value} alone"));
            fs::write(&file, value).unwrap();
            let in_file = format!("{name}_FILE");
            let result = cluster(&[(&name, ""), (&in_file, file.to_str().unwrap())]);
            shows_nothing(&result, &format!("{in_file} with {value}"));
            shows_nothing(&cluster(&[(&in_file, value)]), &format!("{in_file}={value}"));
            let typo = format!("{name}X");
            shows_nothing(&cluster(&[(&typo, value)]), &typo);
        }
    }
}

#[test]
fn secrets_inside_other_settings_stay_hidden() {
    let cases = [
        ("PATRONI_POSTGRESQL_PARAMETERS", format!("{{archive_command: 'AWS_SECRET_ACCESS_KEY={SECRET} wal-g %p'}}")),
        ("PATRONI_POSTGRESQL_PARAMETERS", format!("{{ssl_passphrase_command: 'echo {SECRET}'}}")),
        ("PATRONI_POSTGRESQL_PARAMETERS", format!("{{x.url: 'https://u:{SECRET}@store/'}}")),
        ("PATRONI_POSTGRESQL_RECOVERY_CONF", format!("{{primary_conninfo: 'host=a password={SECRET}'}}")),
        ("PATRONI_RESTAPI_HTTP_EXTRA_HEADERS", format!("{{X-Auth-Token: {SECRET}}}")),
        ("PATRONI_BOOTSTRAP_DCS", format!("{{standby_cluster: {{host: a, password: {SECRET}}}}}")),
        ("PATRONI_STANDBY_CLUSTER", format!("{{host: 'x password={SECRET}'}}")),
        ("PATRONI_TAGS", format!("{{{SECRET}")),
    ];
    for (name, value) in cases {
        let result = cluster(&[(name, &value)]);
        let shown = match &result {
            // The structures hold these values as settings, not as secrets; only what is printed for people counts.
            Ok(config) => {
                let differences = config.differences_from_cluster(&json!({}));
                format!("{}\n{}\n{}", config.effective(), config.warnings.join("\n"), differences.join("\n"))
            }
            Err(errors) => errors.to_string(),
        };
        assert!(!shown.contains(SECRET), "{name}={value} shows its secret:\n{shown}");
    }
}

#[test]
fn a_document_in_a_file_hides_its_secrets_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yml");
    for text in [
        format!("postgresql:\n  authentication:\n    superuser: {{password: {SECRET}, password: b}}\n"),
        format!("etcd3: {{url: 'http://u:{SECRET}@e:1', hosts: ['http://u:{SECRET}@e']}}\n"),
        format!("bootstrap: {{users: {{admin: {{password: {SECRET}}}}}}}\n"),
        format!("ctl: {{authentication: {{username: u, password: {SECRET}}}}}\n"),
        format!("unknown_section: {{something: {SECRET}}}\n"),
        format!("{SECRET}: [\n"),
    ] {
        fs::write(&file, &text).unwrap();
        shows_nothing(&load_on(&super::CLUSTER, Some(&file), &host(FoundData::None)), &text);
    }
}
