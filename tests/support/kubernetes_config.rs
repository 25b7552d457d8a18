//! The backend's configuration in tests: Patroni's defaults, and a kubeconfig that says where the API server is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tamada::config::{EndpointPort, KubernetesConfig, KubernetesCredentials, StateObjects};
use tamada::core::policy::Switch;

pub fn by_default(state: StateObjects, kubeconfig: PathBuf) -> KubernetesConfig {
    KubernetesConfig {
        state,
        is_state_given: true,
        is_found: false,
        namespace: None,
        labels: BTreeMap::from([("application".to_owned(), "patroni".to_owned())]),
        scope_label: "cluster-name".to_owned(),
        role_label: "role".to_owned(),
        leader_value: "primary".to_owned(),
        follower_value: "replica".to_owned(),
        standby_leader_value: "primary".to_owned(),
        tmp_role_label: None,
        bootstrap_labels: BTreeMap::new(),
        pod_ip: None,
        ports: vec![EndpointPort { name: None, port: 5432, protocol: "TCP".to_owned() }],
        cacert: None,
        credentials: KubernetesCredentials::Kubeconfig { path: Some(kubeconfig), context: None },
        bypass_api_service: Switch::Off,
        retriable_codes: Vec::new(),
    }
}
