//! The kinds of patches.

use serde_json::{Value, json};

use crate::client::{Client, JSON_PATCH, MERGE, STRATEGIC, core, server, stand_in};
use crate::kube_api::KubeApi;

fn with_map(annotations: &Value) -> KubeApi {
    let api = server();
    api.put("configmaps", "demo", json!({"metadata": {"name": "a", "annotations": annotations}}));
    api
}

#[tokio::test]
async fn maps_are_merged_and_null_removes() {
    let api = with_map(&json!({"leader": "x", "ttl": "30", "empty": ""}));
    let client = Client::admin(&api);
    for kind in [STRATEGIC, MERGE] {
        let patch = json!({"metadata": {"annotations": {"leader": null, "optime": kind, "none": null}}});
        let patched = client.patch(&core("configmaps/a"), kind, &patch).await.ok();
        assert_eq!(patched["metadata"]["annotations"], json!({"ttl": "30", "empty": "", "optime": kind}));
        let all = json!({"metadata": {"annotations": null}});
        let patched = client.patch(&core("configmaps/a"), kind, &all).await.ok();
        assert_eq!(patched["metadata"].get("annotations"), None);
        let again = json!({"metadata": {"annotations": {"leader": "x", "ttl": "30", "empty": ""}}});
        client.patch(&core("configmaps/a"), kind, &again).await.ok();
    }
}

#[tokio::test]
async fn subsets_are_replaced_whole() {
    let api = server();
    let client = Client::admin(&api);
    let subset = |ip: &str| json!({"addresses": [{"ip": ip, "hostname": "demo-0"}], "ports": [{"port": 5432}]});
    let object = json!({"metadata": {"name": "demo"}, "subsets": [subset("10.0.0.1")]});
    let made = client.create(&core("endpoints"), &object).await.ok();
    let stored = json!([{"addresses": [{"ip": "10.0.0.1", "hostname": "demo-0"}],
        "ports": [{"port": 5432, "protocol": "TCP"}]}]);
    assert_eq!(made["subsets"], stored);
    let patch = json!({"subsets": [subset("10.0.0.2")]});
    let patched = client.patch(&core("endpoints/demo"), STRATEGIC, &patch).await.ok();
    assert_eq!(patched["subsets"][0]["addresses"], json!([{"ip": "10.0.0.2", "hostname": "demo-0"}]));
    let patched = client.patch(&core("endpoints/demo"), STRATEGIC, &json!({"subsets": []})).await.ok();
    assert_eq!(patched.get("subsets"), None);
}

#[tokio::test]
async fn subsets_stay_as_they_are_written() {
    let api = server();
    let client = Client::admin(&api);
    let subset = |ip: &str| json!({"addresses": [{"ip": ip}], "ports": [{"port": 5432}]});
    let subsets = json!([subset("10.0.0.9"), subset("10.0.0.10"), subset("10.0.0.9")]);
    let made = client.create(&core("endpoints"), &json!({"metadata": {"name": "demo"}, "subsets": subsets})).await.ok();
    let written = made["subsets"].as_array().cloned().unwrap_or_default();
    let addresses: Vec<&Value> = written.iter().map(|subset| &subset["addresses"][0]["ip"]).collect();
    assert_eq!(addresses, ["10.0.0.9", "10.0.0.10", "10.0.0.9"]);
}

#[tokio::test]
async fn owners_are_merged_by_uid_and_finalizers_as_a_set() {
    let api = with_map(&json!({}));
    let client = Client::admin(&api);
    let owner = |uid: &str, name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid});
    for (uid, name, count) in [("1", "a", 1), ("2", "b", 2), ("1", "c", 2)] {
        let patch = json!({"metadata": {"ownerReferences": [owner(uid, name)], "finalizers": ["demo/x"]}});
        let patched = client.patch(&core("configmaps/a"), STRATEGIC, &patch).await.ok();
        assert_eq!(patched["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(count));
        assert_eq!(patched["metadata"]["finalizers"], json!(["demo/x"]));
    }
    let remove = json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": "1"}]}});
    let patched = client.patch(&core("configmaps/a"), STRATEGIC, &remove).await.ok();
    assert_eq!(patched["metadata"]["ownerReferences"], json!([owner("2", "b")]));
}

#[tokio::test]
async fn containers_are_merged_by_name() {
    let api = server();
    let client = Client::admin(&api);
    let container = |name: &str, image: &str| json!({"name": name, "image": image});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container("a", "1"), container("b", "1")]}});
    client.create(&core("pods"), &pod).await.ok();
    let patch = json!({"spec": {"containers": [container("b", "2")]}});
    let patched = client.patch(&core("pods/p"), STRATEGIC, &patch).await.ok();
    let containers = |pod: &Value| -> Vec<(Value, Value)> {
        let all = pod["spec"]["containers"].as_array().cloned().unwrap_or_default();
        all.iter().map(|one| (one["name"].clone(), one["image"].clone())).collect()
    };
    assert_eq!(containers(&patched), [(json!("a"), json!("1")), (json!("b"), json!("2"))]);
    // A JSON merge patch knows no keys, and no container may go.
    let message = client.patch(&core("pods/p"), MERGE, &patch).await.refusal(422, "Invalid");
    assert!(message.contains("pod updates may not add or remove containers"), "{message}");
}

#[tokio::test]
async fn json_patches_have_all_operations() {
    let api = server();
    api.put("configmaps", "demo", json!({"metadata": {"name": "a", "annotations": {"b/c": "2"}}, "data": {"a": "1"}}));
    let client = Client::admin(&api);
    let patch = json!([
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "add", "path": "/data/d", "value": "3"},
        {"op": "replace", "path": "/data/a", "value": "4"},
        {"op": "copy", "from": "/data/a", "path": "/data/e"},
        {"op": "move", "from": "/data/d", "path": "/data/f"},
        {"op": "remove", "path": "/metadata/annotations/b~1c"},
    ]);
    let patched = client.patch(&core("configmaps/a"), JSON_PATCH, &patch).await.ok();
    assert_eq!(patched["data"], json!({"a": "4", "e": "4", "f": "3"}));
    assert_eq!(patched["metadata"].get("annotations"), None);
    let before = api.revision();
    for refused in [
        json!([{"op": "replace", "path": "/data/a", "value": "5"}, {"op": "test", "path": "/data/f", "value": "0"}]),
        json!([{"op": "remove", "path": "/data/nothing"}]),
        json!([{"op": "add", "path": "/nothing/x", "value": "0"}]),
    ] {
        let message = client.patch(&core("configmaps/a"), JSON_PATCH, &refused).await.refusal(422, "Invalid");
        assert_eq!(message, "the server rejected our request due to an error in our request");
    }
    assert_eq!(api.revision(), before);
    let object = json!({"op": "test"});
    client.patch(&core("configmaps/a"), JSON_PATCH, &object).await.refusal(400, "BadRequest");
}

#[tokio::test]
async fn other_kinds_of_patches_are_refused() {
    let api = with_map(&json!({}));
    let client = Client::admin(&api);
    for kind in ["application/json", "text/plain"] {
        let message = client.patch(&core("configmaps/a"), kind, &json!({})).await.refusal(415, "UnsupportedMediaType");
        assert_eq!(message, "415: Unsupported Media Type");
    }
    client.patch(&core("configmaps/b"), STRATEGIC, &json!({})).await.refusal(404, "NotFound");
    // A client sees it as of a server that is too old for it.
    let api = stand_in();
    let path = core("configmaps/a");
    let apply = Client::admin(&api).patch(&path, "application/apply-patch+yaml", &json!({})).await;
    apply.refusal(415, "UnsupportedMediaType");
}

#[tokio::test]
async fn what_is_no_object_of_the_kind_is_refused() {
    let api = with_map(&json!({}));
    let client = Client::admin(&api);
    let wrong = json!({"metadata": {"annotations": {"ttl": 30}}});
    let message = client.patch(&core("configmaps/a"), STRATEGIC, &wrong).await.refusal(422, "Invalid");
    assert!(message.starts_with(" \"\" is invalid: patch: Invalid value: "), "{message}");
    let wrong = json!({"metadata": {"name": "b", "annotations": {"ttl": 30}}});
    let message = client.create(&core("configmaps"), &wrong).await.refusal(400, "BadRequest");
    assert!(message.starts_with("ConfigMap in version \"v1\" cannot be handled as a ConfigMap: "), "{message}");
    let other = json!({"kind": "Pod", "metadata": {"name": "b"}});
    client.create(&core("configmaps"), &other).await.refusal(400, "BadRequest");
    // A field that the kind has not is dropped.
    let extra = json!({"metadata": {"name": "b", "nonsense": 1}, "spec": {"a": 1}, "data": {"k": "v"}});
    let made = client.create(&core("configmaps"), &extra).await.ok();
    assert_eq!((made.get("spec"), made["metadata"].get("nonsense"), &made["data"]["k"]), (None, None, &json!("v")));
}

#[tokio::test]
async fn a_patch_renames_nothing() {
    let api = with_map(&json!({}));
    let client = Client::admin(&api);
    let patch = json!({"metadata": {"name": "b"}});
    let message = client.patch(&core("configmaps/a"), STRATEGIC, &patch).await.refusal(400, "BadRequest");
    assert_eq!(message, "the name of the object (b) does not match the name on the URL (a)");
}

#[tokio::test]
async fn unknown_fields_are_warned_of_or_refused() {
    let api = with_map(&json!({}));
    if api.predates(25) {
        return;
    }
    let client = Client::admin(&api);
    let wrong = json!({"metadata": {"name": "b"}, "spec": {"a": 1}});
    let answer = client.create(&core("configmaps"), &wrong).await;
    assert_eq!(answer.headers["warning"], "299 - \"unknown field \\\"spec\\\"\"");
    answer.ok();
    let path = |name: &str, how: &str| core(&format!("configmaps{name}?fieldValidation={how}"));
    let message = client.create(&path("", "Strict"), &wrong).await.refusal(400, "BadRequest");
    assert!(message.ends_with("strict decoding error: unknown field \"spec\""), "{message}");
    client.patch(&path("/a", "Strict"), STRATEGIC, &wrong).await.refusal(422, "Invalid");
    let answer = client.patch(&path("/a", "Ignore"), MERGE, &json!({"spec": {}})).await;
    assert_eq!((answer.code, answer.headers.get("warning")), (200, None));
}
