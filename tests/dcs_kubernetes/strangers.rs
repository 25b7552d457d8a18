//! Objects of the right name that are not the cluster's, and pods that are not there: each is told by what is wrong with it
//! and what to change, and left as it is.

use serde_json::json;
use tamada::config::StateObjects;
use tamada::core::lock_seen::LockSeen;
use tamada::dcs::kubernetes::KubernetesDcs;
use tamada::dcs::{Content, Dcs, DcsError, Expect, Key};

use super::wait::SOON;
use super::{NAMESPACE, Through, World, kubernetes_config, record, timing};

fn told<T: std::fmt::Debug>(answer: Result<T, DcsError>, words: &[&str]) {
    let told = answer.expect_err("it is refused").to_string();
    assert!(words.iter().all(|word| told.contains(word)), "{told}");
}

#[tokio::test]
async fn another_clusters_objects_of_the_same_scope_are_left_alone() {
    let world = World::open();
    let labels = json!({"application": "spilo", "cluster-name": "demo"});
    for (name, annotations) in [
        ("demo-leader", json!({"leader": "x", "ttl": "1", "renewTime": "2026-01-01T00:00:00+00:00"})),
        ("demo-config", json!({"config": "{}"})),
    ] {
        let metadata = json!({"name": name, "labels": labels, "annotations": annotations});
        world.api.put("configmaps", NAMESPACE, json!({ "metadata": metadata }));
    }
    let before = world.api.list("configmaps", NAMESPACE);
    let member = world.member("n1");
    let snapshot = member.snapshot(SOON).await.expect("the server answers");
    assert_eq!((&snapshot.view.leader, &snapshot.documents.config), (&None, &None));
    let taken = member.acquire(LockSeen::default(), SOON).await;
    told(taken, &["ConfigMap demo-leader", "application=patroni", "application=spilo", "PATRONI_SCOPE"]);
    let claimed = member.replace(Key::Initialize, Content::Claim, Expect::Anything, SOON).await;
    told(claimed, &["ConfigMap demo-config", "application=spilo", "PATRONI_KUBERNETES_LABELS"]);
    assert_eq!(world.api.list("configmaps", NAMESPACE), before);
    // Nor does a removal take them away.
    member.remove_cluster(SOON).await.expect("there is nothing of ours");
    assert_eq!(world.api.list("configmaps", NAMESPACE), before);
}

#[tokio::test]
async fn a_pod_that_is_not_the_members_is_told() {
    let world = World::open();
    world.api.put_pod(NAMESPACE, "n4", "10.244.0.4", &json!({"application": "patroni"}));
    let unlabelled = world.member("n4").publish(&record("running"), SOON).await;
    told(unlabelled, &["Pod n4", "cluster-name=demo", "no such label"]);
    assert_eq!(world.annotation("pods", "n4", "status"), None);
    let absent = world.member("n5").publish(&record("running"), SOON).await;
    told(absent, &["no pod n5 in the namespace demo", "PATRONI_NAME"]);
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_told() {
    let world = World::open();
    let path = world.kubeconfig("n1", world.api.admin(), Through::Nothing);
    let mut config = kubernetes_config::by_default(StateObjects::ConfigMaps, path);
    config.namespace = Some("nowhere".to_owned());
    let member = KubernetesDcs::member(&config, "demo", "n1".into(), timing(30), None);
    let published = member.publish(&record("running"), SOON).await;
    told(published, &["in the namespace nowhere", "PATRONI_KUBERNETES_NAMESPACE"]);
    let taken = member.acquire(LockSeen::default(), timing(30).retry_timeout).await;
    told(taken, &["namespaces \"nowhere\" not found", "PATRONI_KUBERNETES_NAMESPACE"]);
}
