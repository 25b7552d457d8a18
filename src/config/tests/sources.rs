//! Documents, files, and who wins.

use std::fs;

use serde_json::{Value, json};

use super::super::*;
use super::{cluster, error_lines, host, load, load_on};

/// What a benchmark of such agents gives its members.
const DOCUMENT: &str = r#"{"scope": "lab", "name": "pg1",
    "restapi": {"listen": "127.0.0.11:8008", "connect_address": "127.0.0.11:8008"},
    "etcd3": {"hosts": ["127.0.0.10:2379"]},
    "bootstrap": {"dcs": {"ttl": 30, "postgresql": {"use_pg_rewind": "yes", "parameters": {"max_connections": 100}}},
                  "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"]},
    "postgresql": {"listen": "127.0.0.11:5432", "connect_address": "127.0.0.11:5432", "data_dir": "/d/pg1",
                   "bin_dir": "/usr/lib/postgresql/15/bin", "pgpass": "/d/pgpass",
                   "authentication": {"superuser": {"username": "postgres", "password": "s1"},
                                      "replication": {"username": "replicator", "password": "s2"},
                                      "rewind": {"username": "rewinder", "password": "s3"}}}}"#;

#[test]
fn a_whole_document_is_enough() {
    let config = load(&[("PATRONI_CONFIGURATION", DOCUMENT)]).unwrap();
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.postgres.rewind.unwrap().username, "rewinder");
    assert_eq!(
        Value::Object(config.bootstrap.dcs),
        json!({"ttl": 30, "postgresql": {"use_pg_rewind": true, "parameters": {"max_connections": 100}}})
    );
    let auth = ["--auth-local=peer", "--auth-host=scram-sha-256"];
    assert_eq!(config.bootstrap.initdb[..3], ["--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"]);
    assert_eq!(config.bootstrap.initdb[3..], auth);
}

#[test]
fn single_variables_win_over_a_document_and_say_so() {
    let config = load(&[
        ("PATRONI_CONFIGURATION", DOCUMENT),
        ("PATRONI_NAME", "other"),
        ("PATRONI_SCOPE", "lab"),
        ("PATRONI_TTL", "40"),
        ("PATRONI_POSTGRESQL_PARAMETERS", "work_mem: 1MB"),
        ("PATRONI_REWIND_PASSWORD", "s4"),
    ])
    .unwrap();
    assert_eq!(config.name.as_str(), "other");
    assert_eq!(
        Value::Object(config.bootstrap.dcs.clone()),
        json!({"ttl": 40, "postgresql": {"use_pg_rewind": true,
                                         "parameters": {"max_connections": 100, "work_mem": "1MB"}}})
    );
    assert_eq!(
        config.warnings,
        [
            "PATRONI_NAME (other) wins over name: pg1 of PATRONI_CONFIGURATION",
            "PATRONI_REWIND_PASSWORD (***) wins over postgresql.authentication.rewind.password: *** of \
             PATRONI_CONFIGURATION",
            "PATRONI_TTL (40) wins over bootstrap.dcs.ttl: 30 of PATRONI_CONFIGURATION",
        ]
    );
}

#[test]
fn a_file_is_taken_instead_of_the_variable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("patroni.yml");
    fs::write(&file, DOCUMENT).unwrap();
    let config = load_on(&[("PATRONI_CONFIGURATION", "{scope: x}")], Some(&file), &host(FoundData::None)).unwrap();
    assert_eq!(config.scope, "lab");
    assert_eq!(config.warnings, ["PATRONI_CONFIGURATION is not read, since a configuration file is given"]);
}

#[test]
fn the_files_of_a_folder_are_laid_over_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("10.yml", DOCUMENT);
    write("20.yaml", "scope: second\npostgresql:\n  authentication:\n    rewind: null\n");
    write("30.txt", "scope: [");
    fs::create_dir(folder.path().join("40.yml")).unwrap();
    let config = load_on(&[], Some(folder.path()), &host(FoundData::None)).unwrap();
    assert_eq!(config.scope, "second");
    assert!(config.postgres.rewind.is_none());
    let shown = config.effective().to_string();
    let line = shown.lines().find(|line| line.starts_with("scope: ")).unwrap();
    assert!(line.contains("second") && line.ends_with("/20.yaml"), "{line}");
    write("50.yml", "- a list");
    let lines = error_lines(load_on(&[], Some(folder.path()), &host(FoundData::None)));
    assert!(lines[0].contains("50.yml: a document that is not a map"), "{lines:?}");
}

#[test]
fn documents_that_cannot_be_used_are_errors() {
    for text in ["just a string", "[1]", "a: [", "a: !tag b", "~"] {
        let lines = error_lines(cluster(&[("PATRONI_CONFIGURATION", text)]));
        assert!(lines.len() == 1 && lines[0].starts_with("PATRONI_CONFIGURATION: "), "{text}: {lines:?}");
    }
    let missing = std::path::Path::new("/nowhere/patroni.yml");
    let lines = error_lines(load_on(&super::CLUSTER, Some(missing), &host(FoundData::None)));
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("/nowhere/patroni.yml: no such file; expected: "), "{lines:?}");
}

#[test]
fn secrets_come_from_files_and_only_newlines_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pw");
    let path = file.to_str().unwrap();
    for (content, password) in [("pw\n\n", "pw"), (" p w \r\n", " p w "), ("pw", "pw")] {
        fs::write(&file, content).unwrap();
        let config = cluster(&[("POSTGRES_PASSWORD", ""), ("POSTGRES_PASSWORD_FILE", path)]).unwrap();
        assert_eq!(config.postgres.superuser.password, Some(Secret::new(password)));
    }
    let both = error_lines(cluster(&[("POSTGRES_PASSWORD_FILE", path)]));
    assert!(both[0].starts_with("POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE: both set"), "{both:?}");
    fs::write(&file, "\n").unwrap();
    for wrong in [path, "/nowhere/pw"] {
        let lines = error_lines(cluster(&[("POSTGRES_PASSWORD", ""), ("POSTGRES_PASSWORD_FILE", wrong)]));
        assert!(lines[0].starts_with("POSTGRES_PASSWORD_FILE: "), "{lines:?}");
    }
}

#[test]
fn a_document_with_a_dcs_and_no_bootstrap_initialises_nothing() {
    let without = "{scope: s, etcd3: {host: e}}";
    let vars = [
        ("PATRONI_CONFIGURATION", without),
        ("PGDATA", "/d"),
        ("PATRONI_SUPERUSER_PASSWORD", "a"),
        ("PATRONI_REPLICATION_PASSWORD", "b"),
    ];
    let config = load(&vars).unwrap();
    assert!(!config.bootstrap.may_initialise.is_on());
    assert_eq!(config.warnings.len(), 1);
    let with_one = [("PATRONI_TTL", "20")].into_iter().chain(vars).collect::<Vec<_>>();
    assert!(load(&with_one).unwrap().bootstrap.may_initialise.is_on());
}

#[test]
fn the_effective_configuration_shows_every_origin() {
    let config = cluster(&[("PATRONI_CONFIGURATION", "{log: {type: json}}"), ("PATRONI_TTL", "20")]).unwrap();
    let shown = config.effective().to_string();
    for expected in [
        "scope: main|# variable PATRONI_SCOPE",
        "log.type: json|# PATRONI_CONFIGURATION",
        "bootstrap.dcs.ttl: 20|# variable PATRONI_TTL",
        "bootstrap.dcs.loop_wait: 10|# default",
        "postgresql.connect_address: box:5432|# host name",
        "postgresql.data_dir: /data/pg|# variable PGDATA",
        "postgresql.authentication.superuser.password: ***|# variable POSTGRES_PASSWORD",
    ] {
        let (value, origin) = expected.split_once('|').unwrap();
        let found = shown.lines().any(|line| line.starts_with(&format!("{value} ")) && line.ends_with(origin));
        assert!(found, "{expected} is not in\n{shown}");
    }
}
