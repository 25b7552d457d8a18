//! A member of a cluster: defaults, variables of the cluster, tags, policy.

use serde_json::{Value, json};

use super::super::*;
use super::{cluster, error_lines, host, load_on};
use crate::core::policy::{ClusterKind, Floor, Mode, RewindPolicy, Synchronous};
use crate::core::upstream::{Remote, Source};
use crate::core::view::Tags;

#[test]
fn variables_alone_make_a_cluster_with_the_defaults() {
    let config = cluster(&[]).unwrap();
    assert_eq!((config.name.as_str(), config.scope.as_str(), config.namespace.as_str()), ("n1", "main", "service"));
    let DcsConfig::Etcd3(etcd) = &config.dcs else { panic!("{:?}", config.dcs) };
    let endpoints: Vec<String> = etcd.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["e1:2379", "e2:2379"]);
    assert_eq!((config.postgres.listen_addresses.as_str(), config.postgres.port), ("0.0.0.0", 5432));
    assert_eq!(config.postgres.connect_address.to_string(), "box:5432");
    assert_eq!(config.rest.listen.to_string(), "0.0.0.0:8008");
    assert_eq!(config.rest.connect_address.to_string(), "box:8008");
    assert_eq!(config.postgres.data_dir, PathBuf::from("/data/pg"));
    assert_eq!(config.postgres.superuser.username, "postgres");
    assert_eq!(config.postgres.superuser.password, Some(Secret::new("su-pw")));
    assert_eq!(config.postgres.replication.username, "replicator");
    assert!(config.postgres.rewind.is_none());
    assert_eq!(config.bootstrap.initdb, ["--data-checksums", "--auth-local=peer", "--auth-host=scram-sha-256"]);
    assert_eq!(
        Value::Object(config.bootstrap.dcs.clone()),
        json!({"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "maximum_lag_on_failover": 1048576,
               "postgresql": {"remove_data_directory_on_diverged_timelines": true,
                              "remove_data_directory_on_rewind_failure": true,
                              "use_pg_rewind": true, "use_slots": true}})
    );
    assert!(config.bootstrap.may_initialise.is_on());
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn pod_ip_is_the_default_of_both_connect_addresses() {
    for (ip, expected) in [("10.1.2.3", "10.1.2.3"), ("fd00::7", "[fd00::7]")] {
        let config = cluster(&[("POD_IP", ip), ("PATRONI_POSTGRESQL_LISTEN", "*:6432")]).unwrap();
        assert_eq!(config.postgres.connect_address.to_string(), format!("{expected}:6432"));
        assert_eq!(config.rest.connect_address.to_string(), format!("{expected}:8008"));
        assert_eq!((config.postgres.listen_addresses.as_str(), config.postgres.port), ("*", 6432));
    }
}

#[test]
fn listen_addresses_are_split_from_their_port() {
    let cases = [
        ("127.0.0.11:5433", "127.0.0.11", 5433, "127.0.0.11:5433"),
        ("a,b:5433", "a,b", 5433, "box:5433"),
        ("[::]:5433", "::", 5433, "box:5433"),
        ("0.0.0.0,[::]", "0.0.0.0,::", 5432, "box:5432"),
        ("::", "::", 5432, "box:5432"),
        ("db", "db", 5432, "db:5432"),
    ];
    for (listen, addresses, port, connect) in cases {
        let config = cluster(&[("PATRONI_POSTGRESQL_LISTEN", listen)]).unwrap();
        assert_eq!((config.postgres.listen_addresses.as_str(), config.postgres.port), (addresses, port), "{listen}");
        assert_eq!(config.postgres.connect_address.to_string(), connect, "{listen}");
    }
}

#[test]
fn variables_of_the_cluster_become_its_first_configuration() {
    let config = cluster(&[
        ("PATRONI_TTL", "20"),
        ("PATRONI_MEMBER_SLOTS_TTL", "30min"),
        ("PATRONI_CHECK_TIMELINE", "YES"),
        ("PATRONI_SYNCHRONOUS_MODE", "off"),
        ("PATRONI_POSTGRESQL_PARAMETERS", "max_connections: 200, shared_buffers: 1GB"),
        ("PATRONI_POSTGRESQL_PG_HBA", "local all all peer\nhost all all all md5"),
        ("PATRONI_POSTGRESQL_USE_PG_REWIND", "off"),
    ])
    .unwrap();
    assert_eq!(
        Value::Object(config.bootstrap.dcs.clone()),
        json!({
            "ttl": 20, "loop_wait": 10, "retry_timeout": 10, "maximum_lag_on_failover": 1048576,
            "member_slots_ttl": 1800, "check_timeline": true, "synchronous_mode": false,
            "postgresql": {"parameters": {"max_connections": 200, "shared_buffers": "1GB"},
                           "pg_hba": ["local all all peer", "host all all all md5"],
                           "use_pg_rewind": false, "use_slots": true,
                           "remove_data_directory_on_diverged_timelines": true,
                           "remove_data_directory_on_rewind_failure": true},
        })
    );
}

#[test]
fn a_start_tells_where_the_cluster_has_something_else() {
    let config = cluster(&[
        ("PATRONI_TTL", "20"),
        ("PATRONI_LOOP_WAIT", "5"),
        ("PATRONI_POSTGRESQL_PARAMETERS", "work_mem: 1MB, x.y: it's"),
        ("PATRONI_POSTGRESQL_USE_SLOTS", "on"),
        ("PATRONI_RESTAPI_LISTEN", "10.0.0.1:8008"),
    ])
    .unwrap();
    let held = json!({"ttl": 30, "loop_wait": "5",
                      "postgresql": {"parameters": {"Work_Mem": "1MB"}, "use_slots": "on"}});
    let to = "which holds; to change it: curl -X PATCH http://10.0.0.1:8008/config -d";
    assert_eq!(
        config.differences_from_cluster(&held),
        [
            format!("PATRONI_TTL sets ttl to 20, but the cluster's configuration has 30, {to} '{{\"ttl\":20}}'"),
            format!(
                "PATRONI_POSTGRESQL_PARAMETERS sets postgresql.parameters.x.y to it's, but the cluster's configuration \
                 has nothing, {to} '{{\"postgresql\":{{\"parameters\":{{\"x.y\":\"it'\\''s\"}}}}}}'"
            ),
        ]
    );
}

#[test]
fn a_variable_of_its_own_wins_over_the_clusters_map_and_is_told_once() {
    let config = cluster(&[("PATRONI_BOOTSTRAP_DCS", "ttl: 40, loop_wait: 5"), ("PATRONI_TTL", "30")]).unwrap();
    assert_eq!(config.bootstrap.dcs["ttl"], 30);
    assert_eq!(config.warnings, ["PATRONI_TTL (30) wins over bootstrap.dcs.ttl: 40 of variable PATRONI_BOOTSTRAP_DCS"]);
    let told = config.differences_from_cluster(&json!({"ttl": 20, "loop_wait": 5}));
    assert!(told.len() == 1 && told[0].starts_with("PATRONI_TTL sets ttl to 30"), "{told:?}");
}

#[test]
fn of_a_name_that_comes_twice_the_first_counts() {
    let mut vars = super::CLUSTER.to_vec();
    vars.push(("PATRONI_NAME", "second"));
    assert_eq!(load_on(&vars, None, &host(FoundData::None)).unwrap().name.as_str(), "n1");
}

#[test]
fn initdb_never_gets_its_own_default_authentication() {
    let unnamed = HostFacts { account: Account::Unnamed, ..host(FoundData::None) };
    let named = host(FoundData::None);
    let cases = [
        (
            &named,
            ("PATRONI_BOOTSTRAP_INITDB", "encoding: UTF8, data-checksums"),
            vec!["--encoding=UTF8", "--data-checksums", "--auth-local=peer", "--auth-host=scram-sha-256"],
        ),
        (
            &named,
            ("POSTGRES_INITDB_ARGS", "--locale='C UTF' --auth-host=md5"),
            vec!["--locale=C UTF", "--auth-host=md5", "--auth-local=peer"],
        ),
        (
            &named,
            ("POSTGRES_INITDB_WALDIR", "/wal"),
            vec!["--data-checksums", "--auth-local=peer", "--auth-host=scram-sha-256", "--waldir=/wal"],
        ),
        (&named, ("PATRONI_BOOTSTRAP_INITDB", "{auth: md5}"), vec!["--auth=md5"]),
        (
            &unnamed,
            ("PATRONI_LOG_TYPE", "plain"),
            vec!["--data-checksums", "--auth-local=scram-sha-256", "--auth-host=scram-sha-256"],
        ),
    ];
    for (host, change, expected) in cases {
        let mut vars = super::CLUSTER.to_vec();
        vars.push(change);
        assert_eq!(load_on(&vars, None, host).unwrap().bootstrap.initdb, expected, "{change:?}");
    }
}

#[test]
fn a_role_may_do_without_a_password_where_somebody_has_said_so() {
    let none = [("POSTGRES_PASSWORD", ""), ("PATRONI_REPLICATION_PASSWORD", "")];
    assert_eq!(error_lines(cluster(&none)).len(), 2, "it may have been forgotten");
    for (name, value) in [
        ("PATRONI_POSTGRESQL_PG_HBA", "local all all peer\nhost all all 10.0.0.0/8 trust"),
        ("PATRONI_BOOTSTRAP_PG_HBA", "host replication all 10.0.0.0/8 trust"),
        ("PATRONI_CONFIGURATION", "{bootstrap: {dcs: {postgresql: {pg_hba: ['local all all peer']}}}}"),
    ] {
        let config = cluster(&[&none[..], &[(name, value)]].concat()).unwrap();
        assert!(config.postgres.superuser.password.is_none() && config.postgres.replication.password.is_none());
        assert_eq!(config.warnings, [""; 0], "{name}");
    }
    let brought = "{postgresql: {authentication: {superuser: {username: postgres}, replication: {username: r}}}}";
    let config = cluster(&[&none[..], &[("PATRONI_CONFIGURATION", brought)]].concat()).unwrap();
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    // What is made without rules of somebody's own lets in nobody more.
    let lines = default_pg_hba(&config);
    assert!(lines.iter().all(|line| line.ends_with(" peer") || line.ends_with(" scram-sha-256")), "{lines:?}");
    let other = "{postgresql: {authentication: {superuser: {username: postgres}}}}";
    let lines = error_lines(cluster(&[&none[..], &[("PATRONI_CONFIGURATION", other)]].concat()));
    assert!(lines.len() == 1 && lines[0].starts_with("PATRONI_REPLICATION_PASSWORD"), "{lines:?}");
}

#[test]
fn the_default_pg_hba_trusts_nobody() {
    let mut config = cluster(&[("PATRONI_BOOTSTRAP_PG_HBA", "host all all 10.0.0.0/8 md5")]).unwrap();
    let lines = default_pg_hba(&config);
    assert_eq!(
        lines,
        [
            "local all all peer",
            "local replication \"replicator\" scram-sha-256",
            "host all all 10.0.0.0/8 md5",
            "host replication \"replicator\" all scram-sha-256",
            "host all all all scram-sha-256",
        ]
    );
    config.account = Account::Unnamed;
    assert_eq!(default_pg_hba(&config)[0], "local all all scram-sha-256");
}

#[test]
fn tags_are_interpreted_and_published() {
    let tags = |failover_priority| Tags { failover_priority, ..Tags::default() };
    let cases = [
        ("nofailover: yes", tags(0), json!({"nofailover": true})),
        ("nofailover: off", tags(1), json!({})),
        ("failover_priority: 0", tags(0), json!({"failover_priority": 0})),
        ("failover_priority: '5'", tags(5), json!({"failover_priority": "5"})),
        ("nofailover: false, failover_priority: 0", tags(1), json!({"nofailover": false, "failover_priority": 0})),
        (
            "noloadbalance: on, clonefrom: 1",
            Tags { noloadbalance: true, clonefrom: true, ..tags(1) },
            json!({"noloadbalance": true, "clonefrom": true}),
        ),
        ("sync_priority: 0", Tags { sync_priority: 0, ..tags(1) }, json!({"sync_priority": 0})),
        ("foo: Bar, num: 5", tags(1), json!({"foo": "Bar", "num": 5})),
    ];
    for (text, expected, published) in cases {
        let config = cluster(&[("PATRONI_TAGS", text)]).unwrap();
        assert_eq!(config.tags, expected, "{text}");
        assert_eq!(Value::Object(config.published_tags), published, "{text}");
    }
}

#[test]
fn an_etcd_whose_certificate_is_not_verified_is_warned_of_by_name() {
    let warned = |changes: &[(&str, &str)]| {
        let warnings = cluster(changes).unwrap().warnings;
        warnings.iter().any(|warning| warning.contains("not verified") && warning.contains("PATRONI_ETCD3_CACERT"))
    };
    assert!(warned(&[("PATRONI_ETCD3_PROTOCOL", "https")]));
    assert!(warned(&[("PATRONI_ETCD3_URL", "https://e:1")]));
    assert!(!warned(&[("PATRONI_ETCD3_PROTOCOL", "https"), ("PATRONI_ETCD3_CACERT", "/etc/ca.pem")]));
    assert!(!warned(&[]));
}

#[test]
fn a_reload_takes_over_what_needs_no_start_and_names_the_rest() {
    let old = cluster(&[("PATRONI_ETCD3_USERNAME", "u"), ("PATRONI_ETCD3_PASSWORD", "old")]).unwrap();
    let mut same = old.clone();
    assert!(same.keep_until_next_start(&old).is_empty());
    let mut new = cluster(&[
        ("PATRONI_NAME", "n2"),
        ("PATRONI_SCOPE", "other"),
        ("PATRONI_NAMESPACE", "other"),
        ("PGDATA", "/other"),
        ("PATRONI_POSTGRESQL_CONFIG_DIR", "/other"),
        ("PATRONI_POSTGRESQL_BIN_DIR", "/other"),
        ("PATRONI_POSTGRESQL_DATABASE", "other"),
        ("PATRONI_ETCD3_HOSTS", "e3:2379"),
        ("PATRONI_ETCD3_PROTOCOL", "https"),
        ("PATRONI_ETCD3_CACERT", "/other"),
        ("PATRONI_ETCD3_USERNAME", "u"),
        ("PATRONI_ETCD3_PASSWORD", "new"),
        ("PATRONI_TAGS", "zone: north"),
    ])
    .unwrap();
    let told = [
        "name",
        "scope",
        "namespace",
        "postgresql.data_dir",
        "postgresql.config_dir",
        "postgresql.bin_dir",
        "postgresql.database",
        "etcd3.hosts",
        "etcd3.protocol",
        "etcd3.cacert",
    ];
    assert_eq!(new.keep_until_next_start(&old), told);
    let DcsConfig::Etcd3(etcd) = &new.dcs else { panic!("{:?}", new.dcs) };
    assert_eq!((etcd.endpoints.len(), etcd.cacert.as_ref()), (2, None));
    assert_eq!(etcd.password.as_ref().map(Secret::expose), Some("new"));
    assert_eq!((new.name.as_str(), new.postgres.bin_dir.as_ref()), ("n1", None));
    assert_eq!(new.published_tags["zone"], "north");
}

#[test]
fn settings_without_effect_are_told_by_name() {
    for (name, value) in [("POSTGRES_HOST_AUTH_METHOD", "md5"), ("PATRONI_CHECK_TIMELINE", "off")] {
        let config = cluster(&[(name, value)]).unwrap();
        let named = name.trim_start_matches("PATRONI_").to_lowercase();
        let [warning] = &config.warnings[..] else { panic!("{name}: {:?}", config.warnings) };
        assert!(warning.to_lowercase().contains(&named) && warning.contains("no effect"), "{warning}");
    }
    assert!(cluster(&[("PATRONI_CHECK_TIMELINE", "on")]).unwrap().warnings.is_empty());
}

#[test]
fn the_server_header_is_read_in_any_case_of_letters() {
    let tokens = |word: &str| cluster(&[("PATRONI_RESTAPI_SERVER_TOKENS", word)]).unwrap();
    assert_eq!(cluster(&[]).unwrap().rest.server_tokens, ServerTokens::Original);
    assert_eq!(tokens("Minimal").rest.server_tokens, ServerTokens::Minimal);
    assert_eq!(tokens("ProductOnly").rest.server_tokens, ServerTokens::ProductOnly);
    let other = tokens("full");
    assert_eq!(other.rest.server_tokens, ServerTokens::Original);
    let [warning] = &other.warnings[..] else { panic!("{:?}", other.warnings) };
    assert!(warning.contains("PATRONI_RESTAPI_SERVER_TOKENS") && warning.contains("productonly"), "{warning}");
}

#[test]
fn a_policy_is_made_of_both_configurations() {
    let config = cluster(&[]).unwrap();
    let parsed = |document: &Value| Dynamic::parse(document).unwrap();
    let made = policy(&config, &parsed(&Value::Object(config.bootstrap.dcs.clone())), Floor::Ours);
    assert_eq!((made.mode, made.rewind), (Mode::Cluster, RewindPolicy::Allowed));
    assert!(made.bootstrap.is_on());
    let other = json!({"ttl": 5, "loop_wait": 1, "retry_timeout": 1, "standby_cluster": {"host": "a"},
                       "synchronous_mode": "quorum", "failsafe_mode": true,
                       "postgresql": {"remove_data_directory_on_diverged_timelines": true}});
    let made = policy(&config, &parsed(&other), Floor::Patroni);
    assert_eq!(made.timing.ttl, Duration::from_secs(20));
    assert_eq!((made.rewind, made.remove_diverged_data), (RewindPolicy::Forbidden, Switch::On));
    let remote = Remote { host: "a".into(), port: 5432, slot: None };
    assert_eq!(made.cluster, ClusterKind::Standby(Source::Remote(remote)));
    assert_eq!((made.synchronous, made.failsafe), (Synchronous::default(), Switch::Off), "nothing here writes");
}

#[test]
fn data_are_thrown_away_only_where_somebody_agreed() {
    const DIVERGED: &str = "PATRONI_POSTGRESQL_REMOVE_DATA_DIRECTORY_ON_DIVERGED_TIMELINES";
    const FAILED: &str = "PATRONI_POSTGRESQL_REMOVE_DATA_DIRECTORY_ON_REWIND_FAILURE";
    let removal = |own: &[(&str, &str)], document: &Value| {
        let made = policy(&cluster(own).unwrap(), &Dynamic::parse(document).unwrap(), Floor::Ours);
        (made.remove_diverged_data, made.remove_data_after_failed_rewind)
    };
    let (on, off) = (Switch::On, Switch::Off);
    // A cluster that was taken over, whose configuration does not name them.
    let taken_over = json!({"ttl": 30, "postgresql": {"use_pg_rewind": true}});
    assert_eq!(removal(&[], &taken_over), (off, off));
    assert_eq!(removal(&[(DIVERGED, "on")], &taken_over), (on, off));
    assert_eq!(removal(&[(FAILED, "on")], &taken_over), (off, on));
    // One that was made from a document, which is Patroni's way.
    let from_document = cluster(&[("PATRONI_CONFIGURATION", "{bootstrap: {dcs: {ttl: 30}}}")]).unwrap();
    assert_eq!(removal(&[], &Value::Object(from_document.bootstrap.dcs)), (off, off));
    // One that was made by variables alone.
    let ours = Value::Object(cluster(&[]).unwrap().bootstrap.dcs);
    assert_eq!(removal(&[], &ours), (on, on));
    assert_eq!(removal(&[(DIVERGED, "off")], &ours), (off, off));
    assert_eq!(removal(&[(DIVERGED, "off"), (FAILED, "on")], &ours), (off, on));
    assert_eq!(removal(&[(FAILED, "off")], &ours), (on, off));
    // What the cluster says holds.
    for (diverged, failed) in [(true, false), (false, true)] {
        let said = json!({"postgresql": {"remove_data_directory_on_diverged_timelines": diverged,
                                         "remove_data_directory_on_rewind_failure": failed}});
        assert_eq!(removal(&[], &said), (Switch::from(diverged), Switch::from(failed)));
    }
}

#[test]
fn commands_and_options_are_split_into_words() {
    let config = cluster(&[
        ("PATRONI_POSTGRESQL_CALLBACKS", "on_start: /bin/cb 'a b', on_role_change: /bin/cb"),
        ("PATRONI_BOOTSTRAP_POST_BOOTSTRAP", "/bin/init --x"),
        ("PATRONI_POSTGRESQL_BASEBACKUP", "max-rate: 100M, verbose, host: x"),
        ("PG_MALLOC_ARENA_MAX", "1"),
    ])
    .unwrap();
    assert_eq!(config.postgres.callbacks.on_start, ["/bin/cb", "a b"]);
    assert_eq!(config.postgres.callbacks.on_role_change, ["/bin/cb"]);
    assert_eq!(config.bootstrap.post_bootstrap, ["/bin/init", "--x"]);
    assert_eq!(config.postgres.basebackup, ["--max-rate=100M", "--verbose"]);
    assert_eq!(config.malloc_arena_max.as_deref(), Some("1"));
    let expected = "PATRONI_POSTGRESQL_BASEBACKUP: the option host may not be set; this option is left out";
    assert_eq!(config.warnings, [expected]);
}
