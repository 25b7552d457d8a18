//! The command line where no member is.

use std::fs;
use std::path::Path;

use super::super::*;
use super::host;

/// A command of these variables and options.
fn command(vars: &[(&str, &str)], options: &CommandOptions, host: &HostFacts) -> Result<Config, ConfigErrors> {
    let vars = vars.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Config::for_command_line(vars, None, options, host)
}

#[track_caller]
fn kubernetes(config: Result<Config, ConfigErrors>) -> (String, KubernetesConfig) {
    let config = config.expect("it is right");
    match config.dcs {
        DcsConfig::Kubernetes(kubernetes) => (config.scope, *kubernetes),
        other => panic!("{other:?}"),
    }
}

fn load(text: &str) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("patronictl.yaml");
    fs::write(&file, text).unwrap();
    let host = HostFacts { host_name: "0123456789ab".to_owned(), ..host(FoundData::None) };
    Config::for_command_line(std::iter::empty(), Some(&file), &CommandOptions::default(), &host)
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
    let nothing =
        Config::for_command_line(std::iter::empty(), None, &CommandOptions::default(), &host(FoundData::None))
            .unwrap_err();
    assert_eq!(nothing.errors.len(), 2, "{nothing}");
    assert!(
        nothing.to_string().starts_with("PATRONI_ETCD3_HOSTS: not set; expected: the DCS of the cluster"),
        "{nothing}"
    );
}

const POD: (&str, &str) = ("KUBERNETES_SERVICE_HOST", "10.96.0.1");

#[test]
fn kubernetes_is_chosen_where_it_is_within_reach_and_nothing_else_is_said() {
    let nothing = CommandOptions::default();
    let (scope, config) = kubernetes(command(&[POD], &nothing, &host(FoundData::None)));
    assert_eq!((scope.as_str(), config.is_found, config.is_state_given), ("", true, false));
    assert_eq!(
        (config.credentials, &config.labels["application"]),
        (KubernetesCredentials::Pod, &"patroni".to_owned())
    );
    // The image names a data directory, in which nothing is.
    let (_, config) = kubernetes(command(&[POD, ("PGDATA", "/data")], &nothing, &host(FoundData::None)));
    assert!(config.is_found);
    let outside = [("KUBECONFIG", "/k"), ("PATRONI_SCOPE", "main")];
    let (scope, config) = kubernetes(command(&outside, &nothing, &host(FoundData::None)));
    let credentials = KubernetesCredentials::Kubeconfig { path: Some("/k".into()), context: None };
    assert_eq!((scope.as_str(), config.credentials), ("main", credentials));
    let at_home = KubernetesAccess { service_account: false, kubeconfig: true };
    let home = HostFacts { kubernetes: at_home, ..host(FoundData::None) };
    assert!(kubernetes(command(&[], &nothing, &home)).1.is_found);
    // A pod without a service account.
    let (_, config) = kubernetes(command(&[POD], &nothing, &home));
    assert_eq!(config.credentials, KubernetesCredentials::Kubeconfig { path: None, context: None });
}

#[test]
fn what_is_configured_wins_over_what_is_within_reach() {
    let nothing = CommandOptions::default();
    let etcd = [POD, ("PATRONI_ETCD3_HOSTS", "e1"), ("PATRONI_SCOPE", "main")];
    let config = command(&etcd, &nothing, &host(FoundData::None)).expect("it is right");
    assert!(matches!(config.dcs, DcsConfig::Etcd3(_)));
    let single = command(&[POD, ("PGDATA", "/data")], &nothing, &host(FoundData::Plain)).expect("it is right");
    assert!(matches!(single.dcs, DcsConfig::Single), "a server that runs beside the command");
    let (_, config) =
        kubernetes(command(&[POD, ("PATRONI_KUBERNETES_USE_LEASES", "true")], &nothing, &host(FoundData::None)));
    assert_eq!((config.is_found, config.is_state_given, config.state), (false, true, StateObjects::Leases));
    let misspelt = command(&[POD, ("PATRONI_ETC3_HOSTS", "e1")], &nothing, &host(FoundData::None)).unwrap_err();
    assert!(misspelt.to_string().contains("meant PATRONI_ETCD3_HOSTS?"), "{misspelt}");
    let unread = command(&[POD, ("PATRONI_CONSUL_HOST", "c")], &nothing, &host(FoundData::None)).unwrap_err();
    assert!(unread.to_string().contains("Consul") || unread.to_string().contains("CONSUL"), "{unread}");
}

#[test]
fn options_win_over_variables() {
    let options = CommandOptions {
        scope: Some("other".to_owned()),
        namespace: Some("pg".to_owned()),
        context: Some("prod".to_owned()),
    };
    let vars = [("PATRONI_SCOPE", "main"), ("PATRONI_KUBERNETES_NAMESPACE", "x"), ("KUBECONFIG", "/k")];
    let (scope, config) = kubernetes(command(&vars, &options, &host(FoundData::None)));
    let credentials = KubernetesCredentials::Kubeconfig { path: Some("/k".into()), context: Some("prod".to_owned()) };
    assert_eq!((scope.as_str(), config.namespace.as_deref()), ("other", Some("pg")));
    assert_eq!((config.credentials, config.is_found), (credentials, false));
    let told = |vars: &[(&str, &str)], options: &CommandOptions| {
        command(vars, options, &host(FoundData::None)).unwrap_err().to_string()
    };
    let in_pod = told(&[POD], &options);
    assert!(in_pod.starts_with("--context: ") && in_pod.contains("service account"), "{in_pod}");
    let etcd = told(&[("PATRONI_ETCD3_HOSTS", "e1")], &options);
    assert!(etcd.contains("PATRONI_ETCD3_HOSTS and --"), "{etcd}");
}
