//! The configuration as a whole: sources in, `Config` or errors out.

mod brought_along;
mod cluster;
mod command_line;
mod errors;
mod etcd;
mod kubernetes;
mod log;
mod mode;
mod secrets;
mod single;
mod sources;

use std::ffi::OsString;
use std::path::Path;

use super::{Account, Config, ConfigErrors, FoundData, HostFacts, KubernetesAccess, manual, settings_manual};

/// The least that a member of a cluster needs.
const CLUSTER: [(&str, &str); 6] = [
    ("PATRONI_SCOPE", "main"),
    ("PATRONI_NAME", "n1"),
    ("PATRONI_ETCD3_HOSTS", "e1:2379,e2"),
    ("PGDATA", "/data/pg"),
    ("POSTGRES_PASSWORD", "su-pw"),
    ("PATRONI_REPLICATION_PASSWORD", "repl-pw"),
];

fn host(found: FoundData) -> HostFacts {
    HostFacts {
        host_name: "box".to_owned(),
        kubernetes: KubernetesAccess { service_account: true, kubeconfig: false },
        account: Account::Named("postgres".to_owned()),
        inspect: Box::new(move |_| found),
        unusable: |_, _| Vec::new(),
    }
}

fn load_on(vars: &[(&str, &str)], file: Option<&Path>, host: &HostFacts) -> Result<Config, ConfigErrors> {
    let vars = vars.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::from_environment(vars, file, host)
}

fn load(vars: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    load_on(vars, None, &host(FoundData::None))
}

/// The least for a cluster with some variables changed; an empty value takes one away.
fn cluster(changes: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let mut vars: Vec<(&str, &str)> = CLUSTER.to_vec();
    vars.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    vars.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
    load(&vars)
}

#[track_caller]
fn error_lines(result: Result<Config, ConfigErrors>) -> Vec<String> {
    result.expect_err("this configuration is wrong").to_string().lines().map(str::to_owned).collect()
}

#[test]
fn the_manual_is_the_generated_one() {
    for (name, text) in [("docs/variables.md", manual()), ("docs/settings.md", settings_manual())] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == text, "{name} is out of date; run `UPDATE=1 cargo test --lib the_manual`");
    }
}

#[test]
fn every_variable_has_its_own_name_and_a_sentence() {
    let mut names: Vec<String> = super::raw::known().map(|variable| variable.name()).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    for variable in super::raw::known() {
        assert!(variable.doc().ends_with('.'), "{}", variable.name());
    }
}
