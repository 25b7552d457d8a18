//! When a single server may start, and when not.

use super::super::*;
use super::{error_lines, host, load, load_on};

const SINGLE: [(&str, &str); 2] = [("PGDATA", "/data/pg"), ("POSTGRES_PASSWORD", "pw")];

fn single(changes: &[(&'static str, &'static str)], found: FoundData) -> Result<Config, ConfigErrors> {
    let mut vars = SINGLE.to_vec();
    vars.extend(changes);
    load_on(&vars, None, &host(found))
}

#[test]
fn a_password_and_a_data_directory_make_a_single_server() {
    let config = single(&[], FoundData::None).unwrap();
    assert!(matches!(config.dcs, DcsConfig::Single));
    assert_eq!(config.rest.listen.to_string(), "127.0.0.1:8008");
    assert_eq!(config.bootstrap.pg_hba, ["host all all all scram-sha-256"]);
    assert_eq!(config.name.as_str(), "box");
    assert!(config.warnings.is_empty());
}

#[test]
fn the_rest_api_of_a_single_server_stays_on_loopback() {
    for (listen, expected, warnings) in [
        ("0.0.0.0:9000", "127.0.0.1:9000", 1),
        ("127.0.0.5:9000", "127.0.0.5:9000", 0),
        ("[::1]:9000", "[::1]:9000", 0),
    ] {
        let config = single(&[("PATRONI_RESTAPI_LISTEN", listen)], FoundData::None).unwrap();
        assert_eq!((config.rest.listen.to_string().as_str(), config.warnings.len()), (expected, warnings));
    }
}

#[test]
fn whatever_speaks_of_a_cluster_keeps_a_single_server_from_starting() {
    let cases = [
        ("PATRONI_SCOPE", "main"),
        ("PATRONI_SCOPE", ""),
        ("PATRONI_NAMESPACE", "x"),
        ("PATRONI_REPLICATION_PASSWORD", "x"),
        ("PATRONI_REPLICATION_PASSWORD_FILE", ""),
        ("PATRONI_TTL", "30"),
        ("PATRONI_ETCD3_HOSTS", ""),
        ("PATRONI_ETC3_HOSTS", "e:2379"),
        ("PATRONI_etcd3_HOSTS", "e:2379"),
        ("PATRONI_ETCD3_ENDPOINTS", "e:2379"),
        ("PATRONI_CONFIGURATION", "{scope: main}"),
        ("PATRONI_CONFIGURATION", "{etc3: {host: x}}"),
        ("PATRONI_CONFIGURATION", "{bootstrap: {dcs: {ttl: 30}}}"),
    ];
    for (name, value) in cases {
        let lines = error_lines(single(&[(name, value)], FoundData::None));
        let line = lines.iter().find(|line| line.starts_with("PATRONI_ETCD3_HOSTS: not set, although")).unwrap();
        assert!(line.contains(name) && line.contains("TAMADA_STANDALONE=true"), "{name}: {line}");
        let config = single(&[(name, value), ("TAMADA_STANDALONE", "true")], FoundData::None).unwrap();
        assert!(matches!(config.dcs, DcsConfig::Single), "{name}");
        assert!(config.warnings.iter().any(|warning| warning.starts_with("TAMADA_STANDALONE: ")), "{name}");
    }
}

#[test]
fn settings_of_the_server_make_sense_for_a_single_one() {
    let config = single(
        &[("PATRONI_POSTGRESQL_PARAMETERS", "work_mem: 1MB"), ("PATRONI_NAME", "n"), ("PATRONI_LOG_LEVELS", "x")],
        FoundData::None,
    )
    .unwrap();
    assert_eq!(
        config.warnings,
        ["PATRONI_LOG_LEVELS is not a known variable and is ignored; did you mean PATRONI_LOG_LEVEL?"]
    );
}

#[test]
fn settings_that_only_members_of_a_cluster_have_are_told() {
    let told = |name: &'static str, value: &'static str| single(&[(name, value)], FoundData::None).unwrap().warnings;
    for (name, value) in [
        ("PATRONI_POSTGRESQL_PG_HBA", "local all all peer"),
        ("PATRONI_POSTGRESQL_PG_IDENT", "a b c"),
        ("PATRONI_POSTGRESQL_RECOVERY_CONF", "restore_command: x"),
        ("PATRONI_POSTGRESQL_USE_SLOTS", "off"),
        ("PATRONI_POSTGRESQL_USE_PG_REWIND", "on"),
    ] {
        let [warning] = &told(name, value)[..] else { panic!("{name}") };
        assert!(warning.starts_with(&format!("{name} has no effect on a single server")), "{warning}");
    }
    let document = "{postgresql: {pg_hba: [local all all peer], use_pg_rewind: null}}";
    let [warning] = &told("PATRONI_CONFIGURATION", document)[..] else { panic!("not one warning") };
    assert!(warning.contains("postgresql.pg_hba") && warning.contains("no effect on a single server"), "{warning}");
}

#[test]
fn data_of_a_clusters_member_are_not_started_alone() {
    for found in [FoundData::ClusterMember, FoundData::Unreadable] {
        let lines = error_lines(single(&[], found));
        assert!(lines[0].starts_with("PATRONI_ETCD3_HOSTS: not set, although /data/pg "), "{lines:?}");
        assert!(single(&[("TAMADA_STANDALONE", "true")], found).is_ok());
    }
    assert!(single(&[], FoundData::Plain).is_ok());
}

#[test]
fn a_password_is_needed_only_for_new_data() {
    let vars = [("PGDATA", "/data/pg")];
    let lines = error_lines(load(&vars));
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("POSTGRES_PASSWORD: not set; expected: the superuser's password"), "{lines:?}");
    assert!(load_on(&vars, None, &host(FoundData::Plain)).is_ok());
    assert!(load(&[("PGDATA", "/data/pg"), ("PATRONI_SUPERUSER_PASSWORD", "x")]).is_ok());
    let trust = load(&[("PGDATA", "/data/pg"), ("POSTGRES_HOST_AUTH_METHOD", "trust")]).unwrap();
    assert_eq!(trust.bootstrap.pg_hba, ["host all all all trust"]);
    assert_eq!(trust.warnings.len(), 1);
}

#[test]
fn a_container_id_is_no_name_for_a_member() {
    let vars: Vec<(&str, &str)> = super::CLUSTER.into_iter().filter(|(name, _)| *name != "PATRONI_NAME").collect();
    let container = HostFacts { host_name: "0123456789ab".to_owned(), ..host(FoundData::None) };
    let lines = error_lines(load_on(&vars, None, &container));
    assert!(lines.len() == 1 && lines[0].starts_with("PATRONI_NAME: not set; expected: a name that"), "{lines:?}");
    assert_eq!(load_on(&SINGLE, None, &container).unwrap().name.as_str(), "0123456789ab");
    assert_eq!(load(&vars).unwrap().name.as_str(), "box");
}

#[test]
fn a_data_directory_is_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("pg");
    assert_eq!(inspect_data_dir(&inside), FoundData::None);
    std::fs::create_dir(&inside).unwrap();
    assert_eq!(inspect_data_dir(&inside), FoundData::None);
    std::fs::write(inside.join("PG_VERSION"), "17").unwrap();
    assert_eq!(inspect_data_dir(&inside), FoundData::Plain);
    std::fs::write(inside.join("patroni.dynamic.json"), "{}").unwrap();
    assert_eq!(inspect_data_dir(&inside), FoundData::ClusterMember);
    assert_eq!(inspect_data_dir(&inside.join("PG_VERSION")), FoundData::Unreadable);
}
