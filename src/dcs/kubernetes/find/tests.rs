//! What the objects of a namespace say, whatever else lies among them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::config::{EndpointPort, KubernetesCredentials};
use crate::core::policy::Switch;

fn config() -> KubernetesConfig {
    KubernetesConfig {
        state: StateObjects::ConfigMaps,
        is_state_given: false,
        is_found: true,
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
        credentials: KubernetesCredentials::Pod,
        bypass_api_service: Switch::Off,
        retriable_codes: Vec::new(),
    }
}

fn object(kind: Kind, scope: &str, name: &str, annotations: Value) -> (Kind, Object) {
    let labels = json!({"application": "patroni", "cluster-name": scope});
    let object = json!({"metadata": {"name": name, "labels": labels, "annotations": annotations}});
    (kind, serde_json::from_value(object).expect("an object"))
}

fn lock(kind: Kind, scope: &str, name: &str, renewed: &str) -> (Kind, Object) {
    object(kind, scope, name, json!({"leader": "n1", "renewTime": renewed}))
}

fn lease(scope: &str, renewed: &str) -> (Kind, Object) {
    let labels = json!({"application": "patroni", "cluster-name": scope});
    let spec = json!({"holderIdentity": "n1", "renewTime": renewed});
    let lease = json!({"metadata": {"name": scope, "labels": labels}, "spec": spec});
    (Kind::Leases, serde_json::from_value(lease).expect("a Lease"))
}

fn configuration(kind: Kind, scope: &str) -> (Kind, Object) {
    object(kind, scope, &format!("{scope}-config"), json!({"config": "{}"}))
}

fn found(objects: Vec<(Kind, Object)>, hidden: &[Kind]) -> Vec<(String, Option<StateObjects>)> {
    let hidden = hidden.iter().map(|kind| (*kind, "may not".to_owned())).collect();
    let clusters = Seen { objects, hidden }.clusters(&config());
    clusters.into_iter().map(|cluster| (cluster.scope, cluster.objects.ok())).collect()
}

const THEN: &str = "2026-01-01T00:00:00.000000+00:00";
const NOW: &str = "2026-01-01T00:10:00.000000Z";

#[test]
fn each_mode_is_told_by_its_lock() {
    let objects = vec![
        lock(Kind::Endpoints, "a", "a", NOW),
        configuration(Kind::Endpoints, "a"),
        lock(Kind::ConfigMaps, "b", "b-leader", NOW),
        configuration(Kind::ConfigMaps, "b"),
        lease("c", NOW),
        configuration(Kind::ConfigMaps, "c"),
    ];
    let expected = [
        ("a".to_owned(), Some(StateObjects::Endpoints)),
        ("b".to_owned(), Some(StateObjects::ConfigMaps)),
        ("c".to_owned(), Some(StateObjects::Leases)),
    ];
    assert_eq!(found(objects, &[]), expected);
}

#[test]
fn without_a_lock_the_configuration_tells() {
    let of = |kind| found(vec![configuration(kind, "a")], &[]);
    assert_eq!(of(Kind::Endpoints), [("a".to_owned(), Some(StateObjects::Endpoints))]);
    assert_eq!(of(Kind::ConfigMaps), [("a".to_owned(), Some(StateObjects::ConfigMaps))]);
    let both = vec![configuration(Kind::ConfigMaps, "a"), configuration(Kind::Endpoints, "a")];
    assert_eq!(found(both, &[]), [("a".to_owned(), None)]);
    // There may be a Lease.
    let config = vec![configuration(Kind::ConfigMaps, "a")];
    assert_eq!(found(config, &[Kind::Leases]), [("a".to_owned(), None)]);
}

#[test]
fn of_two_locks_the_one_that_was_renewed_last_counts() {
    let former = || lock(Kind::ConfigMaps, "a", "a-leader", THEN);
    let now = vec![former(), lease("a", NOW)];
    assert_eq!(found(now, &[]), [("a".to_owned(), Some(StateObjects::Leases))]);
    let same = vec![former(), lease("a", THEN)];
    assert_eq!(found(same, &[]), [("a".to_owned(), None)]);
}

#[test]
fn what_is_labelled_alike_and_holds_no_state_is_no_cluster() {
    // Endpoints of a Service with a selector; a ConfigMap and a pod of the application.
    let objects = vec![
        object(Kind::Endpoints, "a", "a", json!({})),
        object(Kind::ConfigMaps, "a", "a-settings", json!({"leader": "x"})),
        object(Kind::ConfigMaps, "a", "b-leader", json!({"leader": "x"})),
        object(Kind::Pods, "a", "a-0", json!({})),
    ];
    assert_eq!(found(objects, &[]), []);
    let member = vec![object(Kind::Pods, "a", "a-0", json!({"status": "{}"}))];
    assert_eq!(found(member, &[]), [("a".to_owned(), Some(StateObjects::ConfigMaps))]);
}
