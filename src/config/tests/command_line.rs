//! The command line where no member is.

use std::fs;
use std::path::Path;

use super::super::*;
use super::host;

fn load(text: &str) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("patronictl.yaml");
    fs::write(&file, text).unwrap();
    let host = HostFacts { host_name: "0123456789ab".to_owned(), ..host(FoundData::None) };
    Config::for_command_line(std::iter::empty(), Some(&file), &host)
}

#[test]
fn it_needs_the_dcs_and_the_scope_only() {
    let config = load("scope: main\netcd3: {hosts: ['e1:2379']}\n").unwrap();
    assert_eq!((config.scope.as_str(), config.postgres.data_dir.as_path()), ("main", Path::new("")));
    assert_eq!(config.dcs.mode(), crate::core::policy::Mode::Cluster);
    let with_api = "scope: main\nnamespace: /db/\netcd3: {url: 'http://u:p@e1:2379'}\n\
                    ctl: {insecure: true, authentication: {username: a, password: b}}\n";
    let config = load(with_api).unwrap();
    assert_eq!((config.namespace.as_str(), config.ctl.insecure), ("db", true));
    assert_eq!(config.ctl.auth.unwrap().username, "a");
}

#[test]
fn what_it_needs_is_asked_for() {
    let lines = |text: &str| load(text).unwrap_err().to_string();
    assert!(lines("etcd3: {host: e}").starts_with("PATRONI_SCOPE: not set"));
    assert!(lines("scope: main").starts_with("PATRONI_ETCD3_HOSTS: not set, although scope is set"));
    assert!(lines("scope: main\nconsul: {host: x}").contains("Consul"));
    let nothing = Config::for_command_line(std::iter::empty(), None, &host(FoundData::None)).unwrap_err();
    assert_eq!(nothing.errors.len(), 2, "{nothing}");
    assert!(
        nothing.to_string().starts_with("PATRONI_ETCD3_HOSTS: not set; expected: the DCS of the cluster"),
        "{nothing}"
    );
}
