//! The manifests under `docker/kubernetes`, as kubectl renders them: every field is one that Kubernetes has, of its type, and
//! the pods pass the restricted Pod Security Standard. Needs kubectl.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const OVERLAYS: [&str; 4] = ["configmaps", "endpoints", "leases", "example"];

fn render(overlay: &str) -> Vec<Value> {
    render_at(&Path::new(MANIFESTS).join("overlays").join(overlay))
}

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/kubernetes");

fn render_at(folder: &Path) -> Vec<Value> {
    let output = Command::new("kubectl").arg("kustomize").arg(folder).output().expect("kubectl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("it is text");
    let documents = serde_norway::Deserializer::from_str(&text);
    documents.map(|document| Value::deserialize(document).expect("it is YAML")).collect()
}

fn check(document: &Value) -> Result<(), String> {
    match document["kind"].as_str().unwrap_or_default() {
        "StatefulSet" => check_as::<StatefulSet>(document),
        "Service" => check_as::<Service>(document),
        "ServiceAccount" => check_as::<ServiceAccount>(document),
        "Secret" => check_as::<Secret>(document),
        "Role" => check_as::<Role>(document),
        "RoleBinding" => check_as::<RoleBinding>(document),
        "NetworkPolicy" => check_as::<NetworkPolicy>(document),
        "PodDisruptionBudget" => check_as::<PodDisruptionBudget>(document),
        other => Err(format!("nobody checks a {other}")),
    }
}

/// A field that the type does not have is gone when it is written again.
fn check_as<T: Serialize + DeserializeOwned>(document: &Value) -> Result<(), String> {
    let typed: T = serde_json::from_value(document.clone()).map_err(|error| error.to_string())?;
    let again = serde_json::to_value(&typed).map_err(|error| error.to_string())?;
    let mut lost = Vec::new();
    compare("", document, &again, &mut lost);
    if lost.is_empty() { Ok(()) } else { Err(format!("no such fields: {}", lost.join(", "))) }
}

fn compare(path: &str, before: &Value, after: &Value, lost: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                let path = format!("{path}.{name}");
                match after.get(name) {
                    Some(after) => compare(&path, value, after, lost),
                    None if value.as_object().is_some_and(serde_json::Map::is_empty) => {}
                    None => lost.push(path),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            before.iter().zip(after).for_each(|(before, after)| compare(&format!("{path}[]"), before, after, lost));
        }
        (before, after) if before == after => {}
        (_, _) => lost.push(path.to_owned()),
    }
}

fn find<'a>(documents: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = documents.iter().find(|document| document["kind"] == kind && document["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn every_field_is_one_that_kubernetes_has() {
    for overlay in OVERLAYS {
        for document in render(overlay) {
            check(&document).unwrap_or_else(|why| {
                panic!("{overlay}: {} {}: {why}", document["kind"], document["metadata"]["name"])
            });
        }
    }
}

#[test]
fn a_misspelt_field_and_a_wrong_type_are_found() {
    let documents = render("example");
    let right = find(&documents, "StatefulSet", "demo");
    let mut misspelt = right.clone();
    misspelt["spec"]["template"]["spec"]["terminationGraceSeconds"] = json!(120);
    assert_eq!(check(&misspelt), Err("no such fields: .spec.template.spec.terminationGraceSeconds".to_owned()));
    let mut wrong = right.clone();
    wrong["spec"]["replicas"] = json!("three");
    assert!(check(&wrong).is_err());
}

#[test]
fn pods_pass_the_restricted_standard() {
    for overlay in OVERLAYS {
        let documents = render(overlay);
        let pod = &find(&documents, "StatefulSet", "demo")["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for container in pod["containers"].as_array().expect("there are some") {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
        }
        for volume in pod["volumes"].as_array().expect("there are some") {
            assert!(volume.get("emptyDir").is_some(), "{volume}");
        }
    }
}

/// With one the Endpoints controller would overwrite the primary's address.
#[test]
fn the_primarys_service_has_a_selector_only_where_a_label_leads() {
    for (overlay, selects) in [("configmaps", true), ("endpoints", false), ("leases", false)] {
        let documents = render(overlay);
        let service = find(&documents, "Service", "demo");
        assert_eq!(service["spec"]["selector"]["role"] == "primary", selects, "{overlay}");
        assert_eq!(service["spec"].get("selector").is_some(), selects, "{overlay}");
    }
}

/// A right that nobody needs every day is nobody's at first.
#[test]
fn who_may_remove_a_cluster_is_not_said() {
    for overlay in OVERLAYS {
        let documents = render(overlay);
        find(&documents, "Role", "demo-remove");
        let bound = documents.iter().filter(|document| document["kind"] == "RoleBinding");
        let roles: Vec<&Value> = bound.map(|binding| &binding["roleRef"]["name"]).collect();
        assert_eq!(roles, [&json!("demo")], "{overlay}");
    }
}

/// As an overlay of a user's: the example beside the policy.
#[test]
fn the_network_policy_lets_members_and_clients_in() {
    let folder = tempfile::tempdir().expect("there is room");
    // kustomize takes relative paths only.
    let root = "../".repeat(folder.path().canonicalize().expect("it is there").components().count() - 1);
    let manifests = format!("{root}{}", MANIFESTS.trim_start_matches('/'));
    let bases = format!("{manifests}/overlays/example, {manifests}/network-policy");
    let text = format!("kind: Kustomization\nbases: [{bases}]\n");
    std::fs::write(folder.path().join("kustomization.yaml"), text).expect("writable");
    let documents = render_at(folder.path());
    let policy = find(&documents, "NetworkPolicy", "demo");
    check(policy).expect("every field is one that Kubernetes has");
    let pods = &find(&documents, "StatefulSet", "demo")["spec"]["template"];
    let labels = &pods["metadata"]["labels"];
    let member = json!({"podSelector": {"matchLabels": labels}});
    assert_eq!(policy["spec"]["podSelector"]["matchLabels"], *labels);
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    let ports = pods["spec"]["containers"][0]["ports"].as_array().expect("there are some").iter();
    let ports: Vec<Value> = ports.map(|port| json!({"protocol": "TCP", "port": port["containerPort"]})).collect();
    let [ingress] = &policy["spec"]["ingress"].as_array().expect("a list")[..] else { panic!("{policy}") };
    assert_eq!(ingress["from"][0], member);
    assert_eq!(ingress["from"][1], json!({"podSelector": {"matchLabels": {"postgresql-client": "demo"}}}));
    assert_eq!(ingress["ports"], json!(ports));
    let egress = policy["spec"]["egress"].as_array().expect("a list");
    assert!(egress.contains(&json!({"to": [member], "ports": ports})), "{policy}");
    let open: Vec<&Value> = egress.iter().filter(|rule| rule.get("to").is_none()).map(|rule| &rule["ports"]).collect();
    let port = |protocol: &str, port: u16| json!({"protocol": protocol, "port": port});
    let (dns, api) = (json!([port("UDP", 53), port("TCP", 53)]), json!([port("TCP", 443), port("TCP", 6443)]));
    assert_eq!(open, [&dns, &api]);
}
