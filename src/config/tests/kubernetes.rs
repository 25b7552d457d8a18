//! Kubernetes as the DCS: when it is chosen, and what its settings are.

use std::net::IpAddr;

use super::super::*;
use super::{cluster, error_lines};

/// A member on Kubernetes with further variables.
fn kubernetes(changes: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let mut vars = vec![("PATRONI_ETCD3_HOSTS", ""), ("PATRONI_KUBERNETES_LABELS", "application: spilo, team: a")];
    vars.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    vars.extend(changes);
    cluster(&vars)
}

#[track_caller]
fn read(changes: &[(&str, &str)]) -> KubernetesConfig {
    match kubernetes(changes).expect("it is right").dcs {
        DcsConfig::Kubernetes(config) => *config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn any_setting_of_kubernetes_chooses_it() {
    let config = read(&[]);
    assert_eq!(config.state, StateObjects::ConfigMaps);
    assert_eq!(config.labels["application"], "spilo");
    assert_eq!((config.scope_label.as_str(), config.role_label.as_str()), ("cluster-name", "role"));
    assert_eq!((config.leader_value.as_str(), config.follower_value.as_str()), ("primary", "replica"));
    assert_eq!(config.ports, [EndpointPort { name: None, port: 5432, protocol: "TCP".to_owned() }]);
    assert_eq!(config.credentials, KubernetesCredentials::Kubeconfig { path: None, context: None });
    let chosen = cluster(&[("PATRONI_ETCD3_HOSTS", ""), ("TAMADA_DCS", "kubernetes")]).expect("it is right");
    let DcsConfig::Kubernetes(config) = &chosen.dcs else { panic!("{:?}", chosen.dcs) };
    assert_eq!(config.labels["application"], "patroni");
    let etcd = cluster(&[("TAMADA_DCS", "etcd3")]).expect("it is right");
    assert!(matches!(etcd.dcs, DcsConfig::Etcd3(_)));
}

#[test]
fn settings_of_two_stores_are_an_error_that_names_both() {
    let lines = error_lines(cluster(&[("PATRONI_KUBERNETES_USE_ENDPOINTS", "true")]));
    let told = lines.join("\n");
    assert!(told.contains("PATRONI_ETCD3_HOSTS") && told.contains("PATRONI_KUBERNETES_USE_ENDPOINTS"), "{told}");
    let told = error_lines(cluster(&[("TAMADA_DCS", "kubernetes")])).join("\n");
    assert!(told.contains("PATRONI_ETCD3_HOSTS") && told.contains("TAMADA_DCS=kubernetes"), "{told}");
    let told = error_lines(cluster(&[("TAMADA_DCS", "consul")])).join("\n");
    assert!(told.contains("TAMADA_DCS") && told.contains("etcd3 or kubernetes"), "{told}");
}

#[test]
fn every_setting_is_read() {
    let config = read(&[
        ("PATRONI_KUBERNETES_USE_ENDPOINTS", "true"),
        ("PATRONI_KUBERNETES_NAMESPACE", "pg"),
        ("PATRONI_KUBERNETES_SCOPE_LABEL", "cluster"),
        ("PATRONI_KUBERNETES_ROLE_LABEL", "spilo-role"),
        ("PATRONI_KUBERNETES_LEADER_LABEL_VALUE", "master"),
        ("PATRONI_KUBERNETES_FOLLOWER_LABEL_VALUE", "slave"),
        ("PATRONI_KUBERNETES_STANDBY_LEADER_LABEL_VALUE", "master"),
        ("PATRONI_KUBERNETES_TMP_ROLE_LABEL", "role-new"),
        ("PATRONI_KUBERNETES_BOOTSTRAP_LABELS", "{booting: 'yes'}"),
        ("PATRONI_KUBERNETES_POD_IP", "10.1.2.3"),
        ("PATRONI_KUBERNETES_PORTS", "[{name: postgresql, port: 5433}, {name: rest, port: 8008, protocol: tcp}]"),
        ("PATRONI_KUBERNETES_BYPASS_API_SERVICE", "on"),
        ("PATRONI_KUBERNETES_RETRIABLE_HTTP_CODES", "502, 520"),
        ("PATRONI_KUBERNETES_CONTEXT", "prod"),
        ("KUBECONFIG", "/etc/kubeconfig"),
    ]);
    assert_eq!((config.state, config.namespace.as_deref()), (StateObjects::Endpoints, Some("pg")));
    assert_eq!((config.scope_label.as_str(), config.role_label.as_str()), ("cluster", "spilo-role"));
    assert_eq!((config.leader_value.as_str(), config.follower_value.as_str()), ("master", "slave"));
    assert_eq!((config.standby_leader_value.as_str(), config.tmp_role_label.as_deref()), ("master", Some("role-new")));
    assert_eq!(config.bootstrap_labels["booting"], "yes");
    assert_eq!(config.pod_ip, "10.1.2.3".parse::<IpAddr>().ok());
    let ports: Vec<_> = config.ports.iter().map(|port| (port.name.as_deref(), port.port)).collect();
    assert_eq!(ports, [(Some("postgresql"), 5433), (Some("rest"), 8008)]);
    assert_eq!(config.ports[1].protocol, "TCP");
    assert!(config.bypass_api_service.is_on());
    assert_eq!(config.retriable_codes, [502, 520]);
    let credentials =
        KubernetesCredentials::Kubeconfig { path: Some("/etc/kubeconfig".into()), context: Some("prod".to_owned()) };
    assert_eq!(config.credentials, credentials);
    let in_pod = read(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBECONFIG", "/etc/kubeconfig")]);
    assert_eq!(in_pod.credentials, KubernetesCredentials::Pod);
    assert_eq!(read(&[("POD_IP", "10.1.2.4")]).pod_ip, "10.1.2.4".parse::<IpAddr>().ok());
    assert_eq!(read(&[("PATRONI_KUBERNETES_RETRIABLE_HTTP_CODES", "502")]).retriable_codes, [502]);
}

#[test]
fn what_the_api_server_would_refuse_is_refused_at_start() {
    let long = "x".repeat(64);
    for (name, value, word) in [
        ("PATRONI_KUBERNETES_LABELS", "{a: 'b c'}", "labels"),
        ("PATRONI_KUBERNETES_LABELS", "{'a/b/c': d}", "labels"),
        ("PATRONI_KUBERNETES_ROLE_LABEL", "a b", "label"),
        ("PATRONI_KUBERNETES_LEADER_LABEL_VALUE", "-x", "label"),
        ("PATRONI_KUBERNETES_FOLLOWER_LABEL_VALUE", &long, "63"),
        ("PATRONI_KUBERNETES_POD_IP", "pod.example.com", "address"),
        ("PATRONI_KUBERNETES_PORTS", "[{port: 5432}, {name: rest, port: 8008}]", "name for each port"),
        ("PATRONI_KUBERNETES_PORTS", "[{port: 0}]", "port, name and protocol"),
        ("PATRONI_KUBERNETES_PORTS", "5432", "port, name and protocol"),
        ("PATRONI_KUBERNETES_PORTS", "[{port: 5432, protocol: ICMP}]", "port, name and protocol"),
        ("PATRONI_KUBERNETES_RETRIABLE_HTTP_CODES", "200", "400 to 599"),
    ] {
        let told = error_lines(kubernetes(&[(name, value)])).join("\n");
        assert!(told.contains(name) && told.contains(word), "{name}={value}: {told}");
    }
}

#[test]
fn the_environment_of_any_pod_is_no_unknown_setting() {
    let config = cluster(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBECONFIG", "/x")]).expect("it is right");
    assert!(matches!(config.dcs, DcsConfig::Etcd3(_)));
    assert!(!config.warnings.iter().any(|warning| warning.contains("KUBE")), "{:?}", config.warnings);
}

#[test]
fn a_pod_without_a_word_of_them_has_its_name_and_its_address() {
    let pod = [("PATRONI_NAME", ""), ("HOSTNAME", "demo-0")];
    let member = kubernetes(&pod).expect("it is right");
    assert_eq!(member.name.as_str(), "demo-0");
    // The host name, until the pod says where it is.
    assert!(member.postgres.connect_by_host_name && member.rest.connect_by_host_name);
    let named = kubernetes(&[("HOSTNAME", "demo-0")]).expect("it is right");
    assert_eq!(named.name.as_str(), "n1");
    for variable in ["POD_IP", "PATRONI_KUBERNETES_POD_IP"] {
        let member = kubernetes(&[(variable, "10.1.2.3")]).expect("it is right");
        assert_eq!(member.postgres.connect_address.host, "10.1.2.3", "{variable}");
        assert!(!member.postgres.connect_by_host_name && !member.rest.connect_by_host_name);
    }
    let etcd = cluster(&pod).expect("it is right");
    assert_eq!(etcd.name.as_str(), "box", "HOSTNAME is any container's");
}
