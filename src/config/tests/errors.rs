//! Everything that can be wrong, each with the line that tells it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::super::*;
use super::{cluster, error_lines, host, load};

/// Changes of a right configuration, and how the line begins.
const WRONG: [(&[(&str, &str)], &str); 58] = [
    (&[("POSTGRES_PASSWORD", "")], "POSTGRES_PASSWORD: not set"),
    (&[("PATRONI_REPLICATION_PASSWORD", "")], "PATRONI_REPLICATION_PASSWORD: not set"),
    (&[("PATRONI_SUPERUSER_PASSWORD", "other")], "POSTGRES_PASSWORD: a different password given"),
    (&[("PATRONI_SUPERUSER_USERNAME", "a"), ("POSTGRES_USER", "b")], "POSTGRES_USER: \"b\" given"),
    (&[("PATRONI_REPLICATION_USERNAME", "postgres")], "PATRONI_REPLICATION_USERNAME: two different passwords"),
    (&[("PATRONI_REWIND_USERNAME", "r")], "PATRONI_REWIND_PASSWORD: not set"),
    (&[("POSTGRES_USER", "pg_x")], "POSTGRES_USER: \"pg_x\" given"),
    (&[("POSTGRES_PASSWORD", "a\nb")], "POSTGRES_PASSWORD: a value with a newline given"),
    (
        &[("POSTGRES_PASSWORD", ""), ("POSTGRES_PASSWORD_FILE", "/nowhere")],
        "POSTGRES_PASSWORD_FILE: \"/nowhere\" given",
    ),
    (&[("POSTGRES_PASSWORD", ""), ("PATRONI_SUPERUSER_PASSWORD", "a\nb")], "PATRONI_SUPERUSER_PASSWORD: a value"),
    (&[("PATRONI_ETCD3_HOSTS", "[e:2379")], "PATRONI_ETCD3_HOSTS: text that is not valid YAML"),
    (&[("PATRONI_SCOPE", "")], "PATRONI_SCOPE: not set"),
    (&[("PATRONI_SCOPE", "a/b")], "PATRONI_SCOPE: \"a/b\" given"),
    (&[("PATRONI_NAME", "__patroni_strict_sync_replica_placeholder__")], "PATRONI_NAME: "),
    (&[("PGDATA", "")], "PGDATA: not set"),
    (&[("PGDATA", "data")], "PGDATA: \"data\" given"),
    (&[("PGDATA", "/")], "PGDATA: \"/\" given"),
    (&[("PATRONI_TTL", "abc")], "PATRONI_TTL: \"abc\" given; expected: whole number"),
    (&[("PATRONI_TTL", "-5")], "PATRONI_TTL: \"-5\" given"),
    (&[("PATRONI_TTL", "30s")], "PATRONI_TTL: \"30s\" given"),
    (&[("PATRONI_MEMBER_SLOTS_TTL", "1week")], "PATRONI_MEMBER_SLOTS_TTL: \"1week\" given"),
    (&[("PATRONI_CHECK_TIMELINE", "maybe")], "PATRONI_CHECK_TIMELINE: \"maybe\" given; expected: on, true"),
    (&[("PATRONI_SYNCHRONOUS_MODE", "some")], "PATRONI_SYNCHRONOUS_MODE: \"some\" given; expected: off, on or quorum"),
    (&[("PATRONI_SYNCHRONOUS_NODE_COUNT", "0")], "PATRONI_SYNCHRONOUS_NODE_COUNT: "),
    (&[("PATRONI_FAILSAFE_MODE", "perhaps")], "PATRONI_FAILSAFE_MODE: \"perhaps\" given; expected: on, true"),
    (&[("PATRONI_STANDBY_CLUSTER", "host: a b")], "PATRONI_STANDBY_CLUSTER: "),
    (&[("PATRONI_STANDBY_CLUSTER", "port: 5432")], "PATRONI_STANDBY_CLUSTER: "),
    (&[("PATRONI_TAGS", "{replicatefrom: [n2]}")], "PATRONI_TAGS: "),
    (&[("PATRONI_SLOTS", "{a: {type: other}}")], "PATRONI_SLOTS: slots.a.type: \"other\" given"),
    (&[("PATRONI_WATCHDOG_MODE", "perhaps")], "PATRONI_WATCHDOG_MODE: \"perhaps\" given"),
    (&[("PATRONI_WATCHDOG_DEVICE", "watchdog0")], "PATRONI_WATCHDOG_DEVICE: \"watchdog0\" given"),
    (&[("PATRONI_WATCHDOG_SAFETY_MARGIN", "-2")], "PATRONI_WATCHDOG_SAFETY_MARGIN: \"-2\" given"),
    (
        &[("PATRONI_CONFIGURATION", "{watchdog: {mode: required, driver: ipmi}}")],
        "watchdog.driver in PATRONI_CONFIGURATION: \"ipmi\" given",
    ),
    (&[("PATRONI_BOOTSTRAP_METHOD", "pitr")], "PATRONI_BOOTSTRAP_METHOD: \"pitr\" given"),
    (&[("PATRONI_POSTGRESQL_PARAMETERS", "{a")], "PATRONI_POSTGRESQL_PARAMETERS: text that is not valid YAML"),
    (&[("PATRONI_POSTGRESQL_PARAMETERS", "bad")], "PATRONI_POSTGRESQL_PARAMETERS: a key without a value"),
    (&[("PATRONI_BOOTSTRAP_INITDB", "pgdata: x")], "PATRONI_BOOTSTRAP_INITDB: the option pgdata may not be set"),
    (&[("POSTGRES_INITDB_ARGS", "'x")], "POSTGRES_INITDB_ARGS: a quote that is not closed"),
    (&[("POSTGRES_INITDB_ARGS", "--pwfile=x")], "POSTGRES_INITDB_ARGS: the option pwfile may not be set"),
    (&[("PATRONI_ETCD3_HOSTS", "e:99999")], "PATRONI_ETCD3_HOSTS: \"e:99999\" given; expected: endpoints"),
    (&[("PATRONI_ETCD3_HOSTS", ""), ("PATRONI_ETCD3_USERNAME", "u")], "PATRONI_ETCD3_HOSTS: not set"),
    (&[("PATRONI_ETCD3_USERNAME", "u")], "PATRONI_ETCD3_PASSWORD: not set"),
    (&[("PATRONI_ETCD3_URL", "ftp://u:pw@e")], "PATRONI_ETCD3_URL: a value that is not shown here given"),
    (&[("PATRONI_ETCD3_URL", "http://u:5%zz@e")], "PATRONI_ETCD3_URL: a value that is not shown here given"),
    (&[("PATRONI_ETCD3_URL", "http://u:100%@e")], "PATRONI_ETCD3_URL: a value that is not shown here given"),
    (&[("PATRONI_ETCD3_PROTOCOL", "ftp")], "PATRONI_ETCD3_PROTOCOL: \"ftp\" given; expected: http or https"),
    (&[("PATRONI_POSTGRESQL_LISTEN", "a:0")], "PATRONI_POSTGRESQL_LISTEN: \"a:0\" given"),
    (&[("PATRONI_POSTGRESQL_CONNECT_ADDRESS", "0.0.0.0:5432")], "PATRONI_POSTGRESQL_CONNECT_ADDRESS: "),
    (&[("PATRONI_RESTAPI_LISTEN", "x:y")], "PATRONI_RESTAPI_LISTEN: \"x:y\" given; expected: host:port"),
    (&[("PATRONI_RESTAPI_HTTP_EXTRA_HEADERS", "{X: \"a\\nb\"}")], "PATRONI_RESTAPI_HTTP_EXTRA_HEADERS: a header"),
    (&[("PATRONI_RESTAPI_HTTP_EXTRA_HEADERS", "{'X Y': a}")], "PATRONI_RESTAPI_HTTP_EXTRA_HEADERS: a header"),
    (&[("POSTGRES_INITDB_ARGS", "-Ume")], "POSTGRES_INITDB_ARGS: the option username is \"me\", but the superuser is"),
    (&[("PATRONI_RESTAPI_USERNAME", "u")], "PATRONI_RESTAPI_PASSWORD: not set"),
    (
        &[
            ("PATRONI_RESTAPI_VERIFY_CLIENT", "maybe"),
            ("PATRONI_RESTAPI_CERTFILE", "/c"),
            ("PATRONI_RESTAPI_CAFILE", "/c"),
        ],
        "PATRONI_RESTAPI_VERIFY_CLIENT: \"maybe\" given",
    ),
    (&[("PATRONI_LOG_LEVEL", "LOUD")], "PATRONI_LOG_LEVEL: \"LOUD\" given"),
    (&[("PATRONI_TAGS", "nofailover: maybe")], "PATRONI_TAGS: \"maybe\" given"),
    (&[("PATRONI_POSTGRESQL_CALLBACKS", "on_start: \"/bin/x 'a\"")], "PATRONI_POSTGRESQL_CALLBACKS: a command"),
    (&[("PATRONI_POSTGRESQL_PRE_PROMOTE", "/bin/x 'a")], "PATRONI_POSTGRESQL_PRE_PROMOTE: a command"),
];

#[test]
fn each_wrong_value_is_one_line_that_names_it() {
    for (changes, expected) in WRONG {
        let lines = error_lines(cluster(changes));
        assert!(lines.len() == 1 && lines[0].starts_with(expected), "{changes:?} gave {lines:#?}");
    }
}

#[test]
fn endpoints_are_not_discovered() {
    for hosts in ["e:2379", ""] {
        let lines = error_lines(cluster(&[("PATRONI_ETCD3_HOSTS", hosts), ("PATRONI_ETCD3_SRV", "example.org")]));
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(line.starts_with("PATRONI_ETCD3_SRV: \"example.org\" given; expected: PATRONI_ETCD3_HOSTS"), "{line}");
    }
}

#[test]
fn stores_that_are_not_supported_are_refused_by_name() {
    for (name, word) in [
        ("PATRONI_CONSUL_HOST", "Consul"),
        ("PATRONI_ZOOKEEPER_HOSTS", "ZooKeeper"),
        ("PATRONI_EXHIBITOR_HOSTS", "Exhibitor"),
        ("PATRONI_RAFT_SELF_ADDR", "Raft"),
        ("PATRONI_ETCD_HOSTS", "v2 API"),
        ("PATRONI_CITUS_GROUP", "Citus"),
    ] {
        let lines = error_lines(cluster(&[(name, "x")]));
        assert!(lines.len() == 1 && lines[0].starts_with(name) && lines[0].contains(word), "{lines:?}");
        let lines = error_lines(load(&[("PGDATA", "/d"), ("POSTGRES_PASSWORD", "x"), (name, "x")]));
        assert!(lines.iter().any(|line| line.starts_with(name)), "{lines:?}");
    }
    for section in ["consul", "etcd", "raft", "zookeeper", "exhibitor", "citus"] {
        let document = format!("{{{section}: {{host: x}}}}");
        let lines = error_lines(cluster(&[("PATRONI_CONFIGURATION", &document)]));
        let place = format!("{section} in PATRONI_CONFIGURATION: a section {section}");
        assert!(lines.len() == 1 && lines[0].starts_with(&place), "{lines:?}");
    }
}

#[test]
fn where_nothing_can_be_read_there_is_nothing_unknown() {
    let errors = load(&[("PATRONI_TTL", "soon")]).expect_err("no number");
    assert_eq!(errors.warnings, [""; 0]);
}

#[test]
fn all_errors_come_at_once() {
    let lines = error_lines(load(&[
        ("PATRONI_ETCD3_HOSTS", "e"),
        ("PATRONI_TTL", "x"),
        ("PATRONI_LOG_TYPE", "xml"),
        ("PATRONI_RESTAPI_LISTEN", "y:z"),
        ("PATRONI_FAILSAFE_MODE", "perhaps"),
    ]));
    for expected in [
        "PATRONI_TTL",
        "PATRONI_LOG_TYPE",
        "PATRONI_RESTAPI_LISTEN",
        "PATRONI_FAILSAFE_MODE",
        "PGDATA",
        "PATRONI_SCOPE",
        "POSTGRES_PASSWORD",
        "PATRONI_REPLICATION_PASSWORD",
    ] {
        assert!(lines.iter().filter(|line| line.starts_with(&format!("{expected}: "))).count() == 1, "{lines:#?}");
    }
    assert_eq!(lines.len(), 8);
}

#[test]
fn what_is_not_utf8_is_an_error_only_in_our_variables() {
    let bad = || OsString::from_vec(vec![b'x', 0xff]);
    let with = |name: OsString| {
        let vars = super::CLUSTER.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Config::from_environment(vars.into_iter().chain([(name, bad())]), None, &host(FoundData::None))
    };
    assert!(with("LANG".into()).is_ok());
    assert!(with(bad()).is_ok());
    let name = OsString::from_vec(b"PATRONI_\xff".to_vec());
    for (name, shown) in [("PATRONI_LOG_LEVEL".into(), "PATRONI_LOG_LEVEL"), (name, "PATRONI_\u{fffd}")] {
        assert_eq!(error_lines(with(name)), [format!("{shown}: text that is not UTF-8; expected: UTF-8 text")]);
    }
}

#[test]
fn settings_that_have_no_effect_yet_are_warned_about() {
    let cases = [
        ("PATRONI_TAGS", "replicatefrom: n1"),
        ("PATRONI_POSTGRESQL_CREATE_REPLICA_METHODS", "pgbackrest,basebackup"),
        ("PATRONI_CONFIGURATION", "{watchdog: {driver: ipmi}}"),
        ("PATRONI_ETCD3_SRV_SUFFIX", "x"),
        ("PATRONI_WHATEVER_IT_IS", "1"),
        ("TAMADA_WHATEVER", "1"),
        ("PATRONI_CONFIGURATION", "{postgresql: {callbacks: {on_strat: x}}}"),
        ("PATRONI_CONFIGURATION", "{foo: {bar: {baz: 1}, x: 2}}"),
        ("PATRONI_CONFIGURATION", "{ttl: 20}"),
        ("PATRONI_CONFIGURATION", "{postgresql: {parameters: {Max_Connections: 5, work_mem: 1MB}}}"),
        ("PATRONI_BOOTSTRAP_DCS", "{postgresql: {create_replica_methods: [x]}}"),
        ("PATRONI_CONFIGURATION", "{environment: {password: x}}"),
    ];
    for (name, value) in cases {
        let config = cluster(&[(name, value)]).unwrap();
        assert_eq!(config.warnings.len(), 1, "{name}={value} gave {:#?}", config.warnings);
    }
    for (name, value) in [
        ("PATRONI_TAGS", "nostream: off"),
        ("PATRONI_TAGS", "nostream: true"),
        ("PATRONI_THREAD_POOL_SIZE", "5"),
        ("PATRONI_POSTGRESQL_CREATE_REPLICA_METHODS", "basebackup"),
        ("PATRONI_WATCHDOG_MODE", "off"),
        ("PATRONI_WATCHDOG_MODE", "required"),
        (
            "PATRONI_CONFIGURATION",
            "{watchdog: {mode: auto, device: /dev/watchdog1, safety_margin: -1, driver: testing}}",
        ),
        ("PATRONI_POSTGRESQL_PRE_PROMOTE", "/bin/x"),
        ("PATRONI_POSTGRESQL_BEFORE_STOP", "/bin/x"),
        ("PATRONI_MAIN_SERVICE_HOST", "10.0.0.1"),
    ] {
        assert_eq!(cluster(&[(name, value)]).unwrap().warnings, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_switch_that_pid_1_obeys_is_read_here_too() {
    let lines = error_lines(cluster(&[("TAMADA_NO_NEW_PRIVS", "sudo")]));
    assert!(lines.len() == 1 && lines[0].starts_with("TAMADA_NO_NEW_PRIVS: \"sudo\" given"), "{lines:?}");
    assert!(cluster(&[("TAMADA_NO_NEW_PRIVS", "off")]).is_ok());
}
