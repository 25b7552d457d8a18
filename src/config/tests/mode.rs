//! Two writable servers for one cluster are the worst that a configuration could cause: whatever is wrong about a DCS
//! never makes a single server.

use std::fs;

use super::super::error::{ConfigError, Report, Reported};
use super::super::raw::known;
use super::super::*;
use super::{cluster, error_lines, host, load, load_on};

/// What a variable might be given by mistake.
const VALUES: [&str; 12] =
    ["x", "", "[", "{", "a: [", "null", "~", "[]", "{}", "http://e:x", "!tag x", "host:99999999999999999999"];

#[test]
fn no_mistake_in_a_setting_of_the_dcs_makes_a_single_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("patroni.yml");
    for variable in known().filter(|variable| variable.path.starts_with("etcd3.")) {
        let name = variable.name();
        let key = variable.path.trim_start_matches("etcd3.");
        for value in VALUES {
            let alone = [("PGDATA", "/d"), ("POSTGRES_PASSWORD", "p"), (&name, value)];
            let single = matches!(load(&alone).map(|config| config.dcs), Ok(DcsConfig::Single));
            assert!(!single || value.is_empty(), "{name}={value} alone is a single server");
            let with_rest = cluster(&[("PATRONI_ETCD3_HOSTS", ""), (&name, value)]);
            assert!(!matches!(with_rest.map(|config| config.dcs), Ok(DcsConfig::Single)), "{name}={value}");
            fs::write(&file, format!("etcd3:\n  {key}: {value}\n")).unwrap();
            let vars = [("PGDATA", "/d"), ("POSTGRES_PASSWORD", "p")];
            let in_file = load_on(&vars, Some(&file), &host(FoundData::None)).map(|config| config.dcs);
            assert!(!matches!(in_file, Ok(DcsConfig::Single)), "{key}: {value} in a file is a single server");
        }
    }
}

#[test]
fn a_cluster_without_a_dcs_has_no_configuration() {
    for data in [FoundData::ClusterMember, FoundData::Unreadable] {
        let vars = [("PGDATA", "/d"), ("POSTGRES_PASSWORD", "p"), ("PATRONI_REPLICATION_PASSWORD", "r")];
        let lines = error_lines(load_on(&vars, None, &host(data)));
        assert!(lines.iter().any(|line| line.starts_with("PATRONI_ETCD3_HOSTS: not set, although")), "{lines:?}");
    }
}

/// A reading without a value has an error beside it: there is no other way to make a `Reported`.
#[test]
fn whoever_returns_no_value_has_reported_why() {
    let mut report = Report::default();
    assert!(report.broken_section("PATRONI_ETCD3_").is_none());
    assert!(report.broken_variable("PATRONI_ETCD3_URL").is_none());
    let _: Reported = report.broken("PATRONI_ETCD3_URL", ConfigError::new("PATRONI_ETCD3_URL", "x", "y"));
    assert!(report.broken_section("PATRONI_ETCD3_").is_some());
    assert_eq!(report.errors.len(), 1);
}
