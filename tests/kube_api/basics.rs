//! Create, get, update, patch, delete, and their refusals.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client, LIMIT, STRATEGIC, core, leases, server, stand_in, version};
use crate::kube_api::{KubeApi, Switch};
use crate::wait;

#[tokio::test]
async fn an_object_is_made_read_changed_and_deleted() {
    let api = server();
    let client = Client::admin(&api);
    let made = client.create(&core("configmaps"), &json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let made = made.json();
    assert_eq!((&made["kind"], &made["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    assert_eq!(made["metadata"]["namespace"], "demo");
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string(), "{made}");
    let got = client.get(&core("configmaps/a")).await.ok();
    assert_eq!(got, made);
    let patch = json!({"metadata": {"annotations": {"leader": "x"}}});
    let patched = client.patch(&core("configmaps/a"), STRATEGIC, &patch).await.ok();
    assert!(version(&patched) > version(&made));
    assert_eq!(patched["metadata"]["annotations"], json!({"leader": "x"}));
    let gone = client.delete(&core("configmaps/a"), &json!({})).await.ok();
    assert_eq!(gone["status"], "Success");
    assert_eq!(gone["details"], json!({"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}));
    let message = client.get(&core("configmaps/a")).await.refusal(404, "NotFound");
    assert_eq!(message, "configmaps \"a\" not found");
}

#[tokio::test]
async fn one_counter_runs_over_all_objects() {
    let api = stand_in();
    let client = Client::admin(&api);
    let before = api.revision();
    let map = client.create(&core("configmaps"), &json!({"metadata": {"name": "a"}})).await.version();
    let endpoints = client.create(&core("endpoints"), &json!({"metadata": {"name": "a"}})).await.version();
    let lease = client.create(&leases(""), &json!({"metadata": {"name": "a"}})).await.version();
    assert_eq!([map, endpoints, lease], [before + 1, before + 2, before + 3]);
    let list = client.get(&core("pods")).await.ok();
    assert_eq!(version(&list), before + 3);
    assert_eq!((&list["kind"], &list["items"]), (&json!("PodList"), &json!([])));
}

#[tokio::test]
async fn what_changes_nothing_makes_no_version() {
    let api = stand_in();
    let client = Client::admin(&api);
    let object = json!({"metadata": {"name": "a", "annotations": {"leader": "x"}}});
    let made = client.create(&core("endpoints"), &object).await.ok();
    let same = client.patch(&core("endpoints/a"), STRATEGIC, &object).await;
    assert_eq!((same.code, same.json()), (200, made.clone()));
    let same = client.update(&core("endpoints/a"), &object).await.ok();
    assert_eq!(same, made);
    assert_eq!(api.revision(), version(&made));
    // A version that is given must be the right one all the same.
    let stale = json!({"metadata": {"resourceVersion": "1", "annotations": {"leader": "x"}}});
    client.patch(&core("endpoints/a"), STRATEGIC, &stale).await.refusal(409, "Conflict");
}

#[tokio::test]
async fn a_stale_version_is_a_conflict() {
    let api = server();
    let client = Client::admin(&api);
    let object = json!({"metadata": {"name": "demo-leader"}});
    let made = client.create(&core("configmaps"), &object).await.ok();
    client.patch(&core("configmaps/demo-leader"), STRATEGIC, &json!({"data": {"a": "b"}})).await.ok();
    let expected = "Operation cannot be fulfilled on configmaps \"demo-leader\": the object has been modified; please \
                    apply your changes to the latest version and try again";
    let put = client.update(&core("configmaps/demo-leader"), &made).await;
    assert_eq!(put.refusal(409, "Conflict"), expected);
    assert_eq!(put.json()["details"], json!({"name": "demo-leader", "kind": "configmaps"}));
    let old = json!({"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}});
    let patch = client.patch(&core("configmaps/demo-leader"), STRATEGIC, &old).await;
    assert_eq!(patch.refusal(409, "Conflict"), expected);
    let again = client.create(&core("configmaps"), &object).await;
    assert_eq!(again.refusal(409, "AlreadyExists"), "configmaps \"demo-leader\" already exists");
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}});
    client.create(&leases(""), &lease).await.ok();
    let old = json!({"metadata": {"resourceVersion": "1"}});
    let patch = client.patch(&leases("/l"), STRATEGIC, &old).await;
    assert!(patch.refusal(409, "Conflict").starts_with("Operation cannot be fulfilled on leases.coordination.k8s.io"));
    assert_eq!(patch.json()["details"]["group"], "coordination.k8s.io");
}

#[tokio::test]
async fn put_replaces_and_makes_only_some_kinds() {
    let api = server();
    let client = Client::admin(&api);
    let object = json!({"metadata": {"name": "a"}});
    client.update(&core("configmaps/a"), &object).await.refusal(404, "NotFound");
    assert_eq!(client.update(&core("endpoints/a"), &object).await.code, 201);
    assert_eq!(client.update(&leases("/a"), &object).await.code, 201);
    // A Lease needs the version it replaces, Endpoints do not.
    let message = client.update(&leases("/a"), &object).await.refusal(422, "Invalid");
    assert_eq!(
        message,
        "leases.coordination.k8s.io \"a\" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified \
         for an update"
    );
    let labelled = json!({"metadata": {"name": "a", "labels": {"x": "y"}}});
    let put = client.update(&core("endpoints/a"), &labelled).await.ok();
    assert_eq!(put["metadata"]["labels"], json!({"x": "y"}));
    let bare = client.update(&core("endpoints/a"), &object).await.ok();
    assert_eq!(bare["metadata"]["labels"], Value::Null);
    let other = json!({"metadata": {"name": "b"}});
    let message = client.update(&core("endpoints/a"), &other).await.refusal(400, "BadRequest");
    assert_eq!(message, "the name of the object (b) does not match the name on the URL (a)");
    let elsewhere = json!({"metadata": {"name": "a", "namespace": "default"}});
    for answer in [
        client.update(&core("endpoints/a"), &elsewhere).await,
        client.create(&core("configmaps"), &elsewhere).await,
        client.patch(&core("endpoints/a"), STRATEGIC, &elsewhere).await,
    ] {
        let message = answer.refusal(400, "BadRequest");
        assert!(
            message.starts_with("the namespace of the ") && message.contains(" does not match the namespace "),
            "{message}"
        );
    }
    let with_uid = json!({"metadata": {"name": "a", "uid": "other"}});
    client.update(&core("endpoints/a"), &with_uid).await.refusal(409, "Conflict");
    client.patch(&core("endpoints/a"), STRATEGIC, &with_uid).await.refusal(422, "Invalid");
}

#[tokio::test]
async fn a_namespace_that_is_not_there_takes_nothing() {
    let api = server();
    let client = Client::admin(&api);
    let made = client.create("/api/v1/namespaces/nowhere/configmaps", &json!({"metadata": {"name": "a"}})).await;
    assert_eq!(made.refusal(404, "NotFound"), "namespaces \"nowhere\" not found");
    assert_eq!(client.get("/api/v1/namespaces/nowhere/configmaps").await.ok()["items"], json!([]));
}

/// In a cluster a controller empties and removes it.
#[tokio::test]
async fn a_namespace_goes_with_what_is_in_it() {
    let api = stand_in();
    let client = Client::admin(&api);
    let object = json!({"metadata": {"name": "gone"}});
    client.create("/api/v1/namespaces", &object).await.ok();
    client.create("/api/v1/namespaces/gone/configmaps", &object).await.ok();
    client.delete("/api/v1/namespaces/gone", &json!({})).await.ok();
    let gone = || client.create("/api/v1/namespaces/gone/configmaps", &object);
    wait::within(LIMIT, "the namespace is gone", async || gone().await.code == 404).await;
    client.get("/api/v1/namespaces/gone/configmaps/gone").await.refusal(404, "NotFound");
}

/// What is no resource is told otherwise than an object that is not there, which is named.
#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let api = server();
    let client = Client::admin(&api);
    let answer = client.get(&core("configmaps/a")).await;
    assert_eq!(answer.refusal(404, "NotFound"), "configmaps \"a\" not found");
    assert_eq!(answer.json()["details"], json!({"name": "a", "kind": "configmaps"}));
    for path in [&core("nothings"), "/apis/discovery.k8s.io/v9/namespaces/demo/endpointslices"] {
        let answer = client.get(path).await;
        assert_eq!(answer.refusal(404, "NotFound"), "the server could not find the requested resource");
        assert_eq!(answer.json()["details"], json!({}));
    }
    let answer = client.get("/apis/nowhere.k8s.io/v1/namespaces/demo/nothings").await;
    assert_eq!((answer.code, answer.text.as_str()), (404, "404 page not found\n"));
}

#[tokio::test]
async fn deletions_have_preconditions() {
    let api = server();
    let client = Client::admin(&api);
    let made = client.create(&core("configmaps"), &json!({"metadata": {"name": "a"}})).await.ok();
    let wrong = json!({"preconditions": {"uid": "other"}});
    client.delete(&core("configmaps/a"), &wrong).await.refusal(409, "Conflict");
    let wrong = json!({"preconditions": {"resourceVersion": "1"}});
    client.delete(&core("configmaps/a"), &wrong).await.refusal(409, "Conflict");
    let right = json!({"preconditions": {"uid": made["metadata"]["uid"]}});
    client.delete(&core("configmaps/a"), &right).await.ok();
    client.delete(&core("configmaps/a"), &right).await.refusal(404, "NotFound");
}

#[tokio::test]
async fn a_collection_is_deleted_by_its_labels() {
    let api = server();
    let client = Client::admin(&api);
    for (name, label) in [("a", "x"), ("b", "x"), ("c", "y")] {
        api.put("configmaps", "demo", json!({"metadata": {"name": name, "labels": {"app": label}}}));
    }
    let path = format!("{}?labelSelector=app%3Dx", core("configmaps"));
    let gone = client.ask(Method::DELETE, &path, &[], None).await.ok();
    assert_eq!(gone["items"].as_array().map(Vec::len), Some(2));
    let left: Vec<Value> = api.list("configmaps", "demo").iter().map(|map| map["metadata"]["name"].clone()).collect();
    assert_eq!(left, [json!("c")]);
}

#[tokio::test]
async fn what_has_finalizers_or_a_node_goes_in_two_steps() {
    let api = server();
    let client = Client::admin(&api);
    let held = json!({"metadata": {"name": "a", "finalizers": ["demo/held"]}});
    client.create(&core("configmaps"), &held).await.ok();
    let marked = client.delete(&core("configmaps/a"), &json!({})).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
    let release = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["demo/held"]}});
    client.patch(&core("configmaps/a"), STRATEGIC, &release).await.ok();
    client.get(&core("configmaps/a")).await.refusal(404, "NotFound");
    let spec = json!({"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]});
    api.put("pods", "demo", json!({"metadata": {"name": "p"}, "spec": spec, "status": {"phase": "Running"}}));
    let marked = client.delete(&core("pods/p"), &json!({})).await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    client.delete(&core("pods/p"), &json!({"gracePeriodSeconds": 0})).await.ok();
    client.get(&core("pods/p")).await.refusal(404, "NotFound");
}

#[tokio::test]
async fn a_status_changes_only_through_its_own_path() {
    let api = server();
    let client = Client::admin(&api);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"podIP": "10.0.0.1"}});
    let made = client.create(&core("pods"), &pod).await.ok();
    assert_eq!(made["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    let patch = json!({"metadata": {"labels": {"role": "primary"}}, "status": {"phase": "Running"}});
    let patched = client.patch(&core("pods/p"), STRATEGIC, &patch).await.ok();
    assert_eq!(
        (&patched["status"]["phase"], &patched["metadata"]["labels"]["role"]),
        (&json!("Pending"), &json!("primary"))
    );
    let patched = client.patch(&core("pods/p/status"), STRATEGIC, &json!({"status": {"phase": "Running"}})).await.ok();
    assert_eq!(patched["status"]["phase"], "Running");
    // Pods of older servers have no generation.
    if api.predates(34) {
        return;
    }
    assert_eq!(patched["metadata"]["generation"], 1);
    let changed = json!({"spec": {"containers": [{"name": "c", "image": "other"}]}});
    let patched = client.patch(&core("pods/p"), STRATEGIC, &changed).await.ok();
    assert_eq!(patched["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_trial_changes_nothing() {
    let api = stand_in();
    let client = Client::admin(&api);
    let before = api.revision();
    let object = json!({"metadata": {"name": "a"}});
    let made = client.create(&format!("{}?dryRun=All", core("configmaps")), &object).await;
    assert_eq!((made.code, api.revision()), (201, before));
}

#[tokio::test]
async fn endpoints_are_deprecated() {
    let api = server();
    let client = Client::admin(&api);
    let warning =
        |answer: &Answer| answer.headers.get("warning").and_then(|value| value.to_str().ok().map(str::to_owned));
    let expected = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
    let answer = client.get(&core("endpoints")).await;
    assert_eq!(warning(&answer).as_deref(), Some(expected).filter(|_| api.is_since(33)));
    let answer = client.get(&core("configmaps")).await;
    assert_eq!(warning(&answer), None);
    assert_eq!(answer.headers["content-type"], "application/json");
}

#[tokio::test]
async fn the_endpoints_controller_overwrites_what_a_service_selects() {
    let api: KubeApi = stand_in();
    api.put(
        "services",
        "demo",
        json!({"metadata": {"name": "demo"},
        "spec": {"selector": {"app": "x"}, "ports": [{"port": 5432, "name": "postgresql"}]}}),
    );
    for (name, ip) in [("p0", "10.0.0.2"), ("p1", "10.0.0.1")] {
        api.put_pod("demo", name, ip, &json!({"app": "x"}));
    }
    assert!(api.get("endpoints", "demo", "demo").is_none());
    api.endpoints_controller(Switch::On);
    let ips = |endpoints: Option<&Value>| -> Vec<String> {
        let addresses = endpoints.map(|endpoints| endpoints["subsets"][0]["addresses"].clone()).unwrap_or_default();
        let addresses = addresses.as_array().cloned().unwrap_or_default();
        addresses.iter().filter_map(|address| address["ip"].as_str().map(str::to_owned)).collect()
    };
    let limit = Duration::from_secs(5);
    let at = ("endpoints", "demo", "demo");
    api.wait_for(limit, at, |endpoints| ips(endpoints) == ["10.0.0.1", "10.0.0.2"]);
    let mine = json!({"subsets": [{"addresses": [{"ip": "10.0.0.9"}], "ports": [{"port": 5432}]}]});
    let client = Client::admin(&api);
    client.patch(&core("endpoints/demo"), STRATEGIC, &mine).await.ok();
    api.wait_for(limit, at, |endpoints| ips(endpoints) == ["10.0.0.1", "10.0.0.2"]);
}

#[tokio::test]
async fn the_garbage_collector_deletes_what_has_lost_its_owner() {
    let api = stand_in();
    let lease = api.put("leases", "demo", json!({"metadata": {"name": "demo"}}));
    let owner =
        |uid: &Value| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": "demo", "uid": uid});
    for (name, uid) in [("good", lease["metadata"]["uid"].clone()), ("bad", json!("another"))] {
        let metadata = json!({"name": name, "ownerReferences": [owner(&uid)]});
        api.put("endpointslices", "demo", json!({"metadata": metadata, "addressType": "IPv4"}));
    }
    api.garbage_collector(Switch::On);
    assert!(api.get("endpointslices", "demo", "bad").is_none());
    assert!(api.get("endpointslices", "demo", "good").is_some());
    Client::admin(&api).delete(&leases("/demo"), &json!({})).await.ok();
    assert!(api.get("endpointslices", "demo", "good").is_none());
}
