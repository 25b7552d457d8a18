//! What people bring along from Patroni: settings of public configurations and bug reports, each with what is right.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::super::*;
use super::{cluster, error_lines, host, load, load_on};

/// The configuration of a file, beside the least that a cluster needs.
fn in_file(text: &str) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("patroni.yml");
    fs::write(&file, text).unwrap();
    load_on(&super::CLUSTER, Some(&file), &host(FoundData::None))
}

#[track_caller]
fn only_error(result: Result<Config, ConfigErrors>) -> String {
    let lines = error_lines(result);
    let [line] = &lines[..] else { panic!("{lines:#?}") };
    line.clone()
}

#[track_caller]
fn only_warning(result: Result<Config, ConfigErrors>) -> String {
    let warnings = result.unwrap().warnings;
    let [warning] = &warnings[..] else { panic!("{warnings:#?}") };
    warning.clone()
}

#[test]
fn initdb_may_repeat_the_superusers_name() {
    let app = ("PATRONI_SUPERUSER_USERNAME", "app");
    let expected = ["--encoding=UTF8", "--data-checksums", "--auth-local=peer", "--auth-host=scram-sha-256"];
    let config =
        cluster(&[app, ("PATRONI_BOOTSTRAP_INITDB", "encoding: UTF8, data-checksums, username: app")]).unwrap();
    assert_eq!(config.bootstrap.initdb, expected);
    for args in ["-U app", "-Uapp", "--username=app", "--username app"] {
        let args = format!("--encoding=UTF8 {args} --data-checksums");
        assert_eq!(cluster(&[app, ("POSTGRES_INITDB_ARGS", &args)]).unwrap().bootstrap.initdb, expected, "{args}");
    }
    assert_eq!(
        only_error(cluster(&[app, ("PATRONI_BOOTSTRAP_INITDB", "username: other")])),
        "PATRONI_BOOTSTRAP_INITDB: the option username is \"other\", but the superuser is \"app\"; expected: one \
         superuser: drop the option here, or set PATRONI_SUPERUSER_USERNAME to \"other\""
    );
    for args in ["-W", "-D /x", "--pgdata=/x", "--pwfile=/x"] {
        only_error(cluster(&[("POSTGRES_INITDB_ARGS", args)]));
    }
}

#[test]
fn timers_that_cannot_be_kept_are_told_before_the_start() {
    let timers = [("PATRONI_TTL", "45"), ("PATRONI_LOOP_WAIT", "10"), ("PATRONI_RETRY_TIMEOUT", "30")];
    assert_eq!(
        only_warning(cluster(&timers)),
        "bootstrap.dcs: timers in force: ttl 45s, loop_wait 1s, retry_timeout 22s; configured are ttl 45s, loop_wait \
         10s, retry_timeout 30s, which cannot be kept"
    );
}

#[test]
fn placeholders_that_nobody_replaces_are_errors() {
    let text = "
name: ${PATRONI_NAME}
scope: ${SCOPE:-main}
etcd3: {hosts: ['${ETCD}:2379']}
restapi: {listen: '${IP}:8008', authentication: {username: admin, password: '${API_PW}'}}
bootstrap: {dcs: {ttl: '${TTL:-30}'}}
postgresql:
  data_dir: /d
  pg_hba: ['host all all ${NET} md5']
  parameters: {archive_command: 'cp %p ${ARCHIVE}/%f', work_mem: '${WM?}'}
  callbacks: {on_start: \"sh -c 'echo ${HOME}'\"}
  authentication:
    superuser: {password: '${SU_PW}'}
    replication: {password: '${RP_PW-x}'}
";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("patroni.yml");
    fs::write(&file, text).unwrap();
    let mut lines = error_lines(load_on(&[], Some(&file), &host(FoundData::None)));
    let place = format!(" in file {}: ", file.display());
    let mut told: Vec<&str> = lines.iter().filter_map(|line| line.split_once(&place)).map(|(path, _)| path).collect();
    told.sort_unstable();
    let expected = [
        "bootstrap.dcs.ttl",
        "etcd3.hosts",
        "name",
        "postgresql.authentication.replication.password",
        "postgresql.authentication.superuser.password",
        "postgresql.parameters.work_mem",
        "postgresql.pg_hba",
        "restapi.authentication.password",
        "restapi.listen",
        "scope",
    ];
    assert_eq!((told, lines.len()), (expected.to_vec(), expected.len()), "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("variables such as ${NAME} are not replaced here")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("_PW")), "{lines:#?}");
    // What the environment sets is in force, and right.
    lines = error_lines(load_on(&super::CLUSTER, Some(&file), &host(FoundData::None)));
    assert!(!lines.iter().any(|line| line.starts_with("name ") || line.starts_with("scope ")), "{lines:#?}");
    // Dollars that are no placeholder.
    for password in ["a$b", "${", "a${b", "${1}", "$HOME", "{}$", "a${HOME}b", "${HOME}${HOME}"] {
        assert!(cluster(&[("POSTGRES_PASSWORD", password)]).is_ok(), "{password}");
    }
    for password in ["${PW}", "${PW:-postgres}"] {
        assert!(only_error(cluster(&[("POSTGRES_PASSWORD", password)])).starts_with("POSTGRES_PASSWORD: "));
    }
}

#[test]
fn names_made_of_paths_are_told_with_the_right_name() {
    for (name, right) in [
        ("PATRONI_BOOTSTRAP_DCS_TTL", "PATRONI_TTL"),
        ("PATRONI_BOOTSTRAP_DCS_POSTGRESQL_USE_PG_REWIND", "PATRONI_POSTGRESQL_USE_PG_REWIND"),
        ("PATRONI_POSTGRESQL_PARAMETERS_MAX_CONNECTIONS", "PATRONI_POSTGRESQL_PARAMETERS='max_connections: VALUE'"),
        ("PATRONI_POSTGRESQL_AUTHENTICATION_REPLICATION_PASSWORD", "PATRONI_REPLICATION_PASSWORD"),
    ] {
        let warning = only_warning(cluster(&[(name, "x")]));
        assert_eq!(warning, format!("{name} is not a known variable and is ignored; did you mean {right}?"));
    }
    for (name, right) in [
        ("PATRONI_BOOTSTRAP_DCS_SYNCHRONOUS_MODE", "PATRONI_SYNCHRONOUS_MODE"),
        ("PATRONI_SYNCRONOUS_MODE", "PATRONI_SYNCHRONOUS_MODE"),
        ("PATRONI_BOOTSTRAP_DCS_MAXIMUM_LAG_ON_FAILOVER", "PATRONI_MAXIMUM_LAG_ON_FAILOVER"),
        (
            "PATRONI_POSTGRESQL_PARAMETERS_SYNCHRONOUS_COMMIT",
            "PATRONI_POSTGRESQL_PARAMETERS='synchronous_commit: VALUE'",
        ),
        ("PATRONI_BOOTSTRAP_DCS_POSTGRESQL_PARAMETERS_FSYNC", "PATRONI_POSTGRESQL_PARAMETERS='fsync: VALUE'"),
    ] {
        let expected = format!("{name}: set, and not a known variable; expected: {right}: its right name");
        assert_eq!(only_error(cluster(&[(name, "true")])), expected);
    }
    // One of them alone speaks of a cluster.
    let single = [("PGDATA", "/d"), ("POSTGRES_PASSWORD", "p"), ("PATRONI_BOOTSTRAP_DCS_TTL", "20")];
    assert!(error_lines(load(&single)).iter().any(|line| line.contains("PATRONI_BOOTSTRAP_DCS_TTL is set")));
}

#[test]
fn errors_come_with_the_warnings_that_explain_them() {
    let errors = cluster(&[("PATRONI_SCOPE", ""), ("PATRONI_SCOP", "main")]).unwrap_err();
    assert_eq!(errors.errors.len(), 1, "{errors}");
    let expected = "PATRONI_SCOP is not a known variable and is ignored; did you mean PATRONI_SCOPE?";
    assert_eq!(errors.warnings, [expected]);
}

#[test]
fn flags_of_initdb_are_taken_in_every_spelling() {
    for value in ["true", "\"true\"", "null", "'on'"] {
        for text in [format!("{{data-checksums: {value}}}"), format!("[{{data-checksums: {value}}}]")] {
            let config = cluster(&[("PATRONI_BOOTSTRAP_INITDB", &text)]).unwrap();
            assert_eq!(config.bootstrap.initdb[0], "--data-checksums", "{text}");
            let config = in_file(&format!("bootstrap:\n  initdb: {text}\n")).unwrap();
            assert_eq!(config.bootstrap.initdb[0], "--data-checksums", "{text}");
        }
    }
    let config = cluster(&[("PATRONI_BOOTSTRAP_INITDB", "{data-checksums: false, encoding: UTF8}")]).unwrap();
    assert_eq!(config.bootstrap.initdb[0], "--encoding=UTF8");
}

#[test]
fn a_document_that_cannot_be_read_is_the_only_complaint() {
    let alone = |text: &str| only_error(load(&[("PATRONI_CONFIGURATION", text)]));
    assert_eq!(
        alone("/etc/patroni.yml"),
        "PATRONI_CONFIGURATION: holds a path; expected: a YAML or JSON map; give a file as the argument, or its path in \
         PATRONI_CONFIGURATION_FILE"
    );
    assert!(alone("patroni.yaml").contains("holds a path"));
    assert!(alone("etcd3:\n  host: a\n  port: 5\n  host: b\n").contains("duplicate key etcd3.host at line 4"));
    let tag = "postgresql:\n  authentication:\n    superuser:\n      password: !abc\n";
    assert!(
        alone(tag).contains("a YAML tag (a text that begins with ! needs quotes) at line 4, column 17"),
        "{}",
        alone(tag)
    );
    assert!(
        only_error(load(&[("PATRONI_CONFIGURATION_FILE", "/nowhere")])).starts_with("PATRONI_CONFIGURATION_FILE: ")
    );
    let missing = only_error(load_on(&[], Some(Path::new("/nowhere.yml")), &host(FoundData::None)));
    assert!(missing.starts_with("/nowhere.yml: "), "{missing}");
    // What a variable says is known to be wrong all the same.
    let both = error_lines(load(&[("PATRONI_CONFIGURATION", "[1]"), ("PATRONI_LOG_TYPE", "xml")]));
    assert_eq!(both.len(), 2, "{both:#?}");
}

#[test]
fn unknown_keys_are_told_in_every_map() {
    for (text, path) in [
        ("{etcd3: {ca_cert: /x}}", "etcd3.ca_cert"),
        ("{etcd3: {user: x}}", "etcd3.user"),
        ("{bootstrap: {dcs: {ttll: 5}}}", "bootstrap.dcs.ttll"),
        ("{bootstrap: {dcs: {postgresql: {initdb: []}}}}", "bootstrap.dcs.postgresql.initdb"),
        ("{bootstrap: {dcs: {postgresql: {use_pg_rewnid: true}}}}", "bootstrap.dcs.postgresql.use_pg_rewnid"),
        ("{postgresql: {bin_name: {psql: x}}}", "postgresql.bin_name.psql"),
        ("{postgresql: {authentication: {superuser: {user: x}}}}", "postgresql.authentication.superuser.user"),
        ("{postgresql: {authentication: {rewind: {user: x}}}}", "postgresql.authentication.rewind.user"),
        ("{postgresql: {callbacks: {on_strat: x}}}", "postgresql.callbacks.on_strat"),
        ("{restapi: {authentication: {user: x}}}", "restapi.authentication.user"),
        ("{ctl: {cafile: x}}", "ctl.cafile"),
        ("{watchdog: {modus: off}}", "watchdog.modus"),
        ("{log: {file: x}}", "log.file"),
        ("{bootstrap: {postgresql: {}}}", "bootstrap.postgresql"),
    ] {
        // A document that names the DCS has a second warning, about the bootstrap.
        let text = text.replace("{etcd3", "{bootstrap: {dcs: {ttl: 30, loop_wait: 10}}, etcd3");
        let warning = only_warning(cluster(&[("PATRONI_CONFIGURATION", &text)]));
        assert_eq!(warning, format!("{path} of PATRONI_CONFIGURATION is not a known setting and is ignored"));
    }
}

#[test]
fn a_parameter_that_is_no_scalar_is_told_with_its_place() {
    let command = "{recovery_conf: {restore_command: 'cp x'}, work_mem: 1MB}";
    let expected = "postgresql.parameters.recovery_conf: a map given, which is no value of a parameter and is left out; \
                    its place is postgresql.recovery_conf";
    let text = format!("{{postgresql: {{parameters: {command}}}}}");
    let config = cluster(&[("PATRONI_CONFIGURATION", &text)]).unwrap();
    assert_eq!(config.warnings, [format!("{expected} (PATRONI_CONFIGURATION)")]);
    assert_eq!(Value::Object(config.postgres.local.parameters), json!({"work_mem": "1MB"}));
    let of_cluster = only_warning(cluster(&[("PATRONI_POSTGRESQL_PARAMETERS", command)]));
    assert_eq!(of_cluster, format!("bootstrap.dcs: {expected}"));
    for value in ["[a, b]", "null"] {
        let text = format!("{{postgresql: {{parameters: {{shared_preload_libraries: {value}}}}}}}");
        assert!(only_warning(cluster(&[("PATRONI_CONFIGURATION", &text)])).contains("shared_preload_libraries: "));
    }
}

#[test]
fn files_that_are_not_there_are_told_with_everything_else() {
    let vars: Vec<(&str, &str)> = [
        ("PATRONI_TTL", "x"),
        ("PATRONI_POSTGRESQL_BIN_DIR", "/nowhere"),
        ("PATRONI_RESTAPI_CERTFILE", "/nowhere/rest.crt"),
        ("PATRONI_ETCD3_CACERT", "/nowhere/etcd.crt"),
        ("PATRONI_CTL_CACERT", "/"),
        ("PATRONI_SUPERUSER_SSLROOTCERT", "/nowhere/root.crt"),
        ("PATRONI_REPLICATION_SSLROOTCERT", "system"),
    ]
    .into_iter()
    .chain(super::CLUSTER)
    .collect();
    let given = || vars.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let lines = error_lines(Config::for_start(given(), None, &host(FoundData::None)));
    assert_eq!(lines.len(), 6, "{lines:#?}");
    for expected in [
        "PATRONI_TTL: ",
        "PATRONI_POSTGRESQL_BIN_DIR: \"/nowhere/postgres\" given, no such file",
        "PATRONI_RESTAPI_CERTFILE: \"/nowhere/rest.crt\" given, no such file",
        "PATRONI_ETCD3_CACERT: ",
        "PATRONI_CTL_CACERT: \"/\" given, a directory",
        "PATRONI_SUPERUSER_SSLROOTCERT: ",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected} is not in {lines:#?}");
    }
    // A server that runs is not stopped for that.
    assert_eq!(error_lines(Config::from_environment(given(), None, &host(FoundData::None))).len(), 1);
}

#[test]
fn a_version_past_its_end_of_life_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    for (version, is_old) in [("13\n", true), ("14\n", true), ("15\n", false), ("18\n", false)] {
        fs::write(folder.path().join("PG_VERSION"), version).unwrap();
        let vars = super::CLUSTER.map(|(name, value)| (name, if name == "PGDATA" { data } else { value }));
        let vars = vars.into_iter().map(|(name, value)| (name.into(), value.into()));
        let warnings = Config::for_start(vars, None, &host(FoundData::Plain)).unwrap().warnings;
        assert_eq!(warnings.len(), usize::from(is_old), "{warnings:?}");
        assert!(!is_old || warnings[0].starts_with(&format!("PostgreSQL {} gets no", version.trim())), "{warnings:?}");
    }
}

#[test]
fn a_byte_order_mark_and_line_ends_are_no_part_of_a_value() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pw");
    let path = file.to_str().unwrap();
    for content in ["pw", "\u{feff}pw", "pw\r", "pw\r\n", "pw\n\r\n\r", "\u{feff}pw\n"] {
        fs::write(&file, content).unwrap();
        let config = cluster(&[("POSTGRES_PASSWORD", ""), ("POSTGRES_PASSWORD_FILE", path)]).unwrap();
        assert_eq!(config.postgres.superuser.password, Some(Secret::new("pw")), "{content:?}");
    }
    assert_eq!(in_file("\u{feff}log: {type: json}\r\n").unwrap().log.format, LogFormat::Json);
}

#[test]
fn texts_are_taken_as_they_are_written() {
    for text in ["0x1F", "1e3", "0o17", "3.10", "007.50", "12345678901234567890123", "True", "0644", "1_0"] {
        let vars = [("PATRONI_CONFIGURATION_FILE", "")];
        let document = format!(
            "{{name: {text}, tags: {{zone: {text}}}, postgresql: {{authentication: {{superuser: {{password: {text}}}, \
             rewind: {{username: {text}, password: x}}}}, listen: 'a:5432'}}}}"
        );
        let changes = [("PATRONI_NAME", ""), ("POSTGRES_PASSWORD", ""), ("PATRONI_CONFIGURATION", document.as_str())];
        let config = cluster(&[&vars[..], &changes[..]].concat()).unwrap();
        assert_eq!(config.name.as_str(), text);
        assert_eq!(config.postgres.superuser.password, Some(Secret::new(text)));
        assert_eq!(config.postgres.rewind.unwrap().username, text);
        assert_eq!(config.published_tags["zone"], text);
    }
    // Numbers are still numbers where one is wanted.
    let config =
        in_file("bootstrap: {dcs: {maximum_lag_on_failover: 1e6, ttl: 30}}\nrestapi: {request_queue_size: 0x80}");
    assert_eq!(config.unwrap().rest.request_queue_size, 128);
}

#[test]
fn an_empty_section_is_a_known_one() {
    let text = "{bootstrap: {}, restapi: {}, postgresql: {authentication: {}}, log: null}";
    let config = cluster(&[("PATRONI_CONFIGURATION", text)]).unwrap();
    assert_eq!(config.warnings, Vec::<String>::new());
    let line = only_error(cluster(&[("PATRONI_CONFIGURATION", "{restapi: 5}")]));
    assert_eq!(line, "restapi in PATRONI_CONFIGURATION: no map given; expected: a map");
}

#[test]
fn addresses_that_only_this_host_reaches_are_told() {
    for (name, value, told) in [
        ("PATRONI_POSTGRESQL_CONNECT_ADDRESS", "127.0.0.1:5432", "members that connect to it reach themselves"),
        ("PATRONI_RESTAPI_CONNECT_ADDRESS", "localhost:8008", "members that connect to it reach themselves"),
        ("PATRONI_RESTAPI_CONNECT_ADDRESS", "[::1]:8008", "members that connect to it reach themselves"),
        ("PATRONI_POSTGRESQL_LISTEN", "127.0.0.1:5432", "other members cannot connect to it"),
        ("PATRONI_RESTAPI_LISTEN", "127.0.0.1:8008", "other members cannot connect to it"),
    ] {
        let connect = name.replace("LISTEN", "CONNECT_ADDRESS");
        let mut changes = vec![(name, value)];
        if connect != name {
            changes.push((&connect, "n1:1234"));
        }
        let warning = only_warning(cluster(&changes));
        assert!(warning.starts_with(&format!("{name}: ")) && warning.ends_with(told), "{warning}");
        changes.push(("PATRONI_ETCD3_HOSTS", "127.0.0.10:2379,localhost:2379"));
        assert_eq!(cluster(&changes).unwrap().warnings, Vec::<String>::new(), "the whole cluster is on this machine");
    }
    let listens = [("PATRONI_POSTGRESQL_LISTEN", "127.0.0.1,10.0.0.1:5432")];
    assert_eq!(cluster(&listens).unwrap().warnings, Vec::<String>::new());
}

#[test]
fn null_is_absent_in_variables_and_in_files() {
    let config = cluster(&[("PATRONI_TAGS", "{a: 1, nofailover: null, b: ~}")]).unwrap();
    assert_eq!(Value::Object(config.published_tags), json!({"a": 1}));
    for text in [
        "{tags: {failover_priority: null}, restapi: {http_extra_headers: {X: null}, listen: null}}",
        "{bootstrap: {dcs: {ttl: null, slots: null, postgresql: {pg_hba: null, use_slots: null}}}}",
        "{postgresql: {recovery_conf: {restore_command: null}, callbacks: {on_start: null}, bin_name: {postgres: null}}}",
    ] {
        let config = cluster(&[("PATRONI_CONFIGURATION", text)]).unwrap();
        assert_eq!(config.warnings, Vec::<String>::new(), "{text}");
        assert!(!config.bootstrap.dcs.values().any(Value::is_null), "{text}");
    }
    for (name, value) in [("PATRONI_BOOTSTRAP_DCS", "{ttl: null}"), ("PATRONI_LOG_STATIC_FIELDS", "{a: null}")] {
        assert!(cluster(&[(name, value)]).is_ok(), "{name}");
    }
}
