//! Lists: selectors, pages, versions, and the forms that they may have.

use hyper::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client, LIMIT, core, server, stand_in, version};
use crate::kube_api::KubeApi;
use crate::wait;

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list");
    items.iter().map(|item| item["metadata"]["name"].as_str().expect("a name")).collect()
}

/// The maps a to e; `tier` is set for b (front) and c (back).
fn with_maps() -> KubeApi {
    let api = server();
    for name in ["e", "a", "b", "d", "c"] {
        let tier = match name {
            "b" => json!({"app": "x", "tier": "front"}),
            "c" => json!({"app": "x", "tier": "back"}),
            _ => json!({"app": "x"}),
        };
        api.put("configmaps", "demo", json!({"metadata": {"name": name, "labels": tier}}));
    }
    api.put("configmaps", "default", json!({"metadata": {"name": "other"}}));
    api
}

async fn list(client: &Client, query: &str) -> Answer {
    let query: String = query.replace(' ', "%20").replace('!', "%21").replace('(', "%28").replace(')', "%29");
    client.get(&format!("{}?{query}", core("configmaps"))).await
}

#[tokio::test]
async fn selectors_choose() {
    let api = with_maps();
    let client = Client::admin(&api);
    for (query, expected) in [
        ("", &["a", "b", "c", "d", "e"][..]),
        ("labelSelector=tier=front", &["b"]),
        ("labelSelector=tier==front,app=x", &["b"]),
        ("labelSelector=tier!=front", &["a", "c", "d", "e"]),
        ("labelSelector=tier", &["b", "c"]),
        ("labelSelector=!tier", &["a", "d", "e"]),
        ("labelSelector=tier in (front, back),app in (x)", &["b", "c"]),
        ("labelSelector=tier notin (front)", &["a", "c", "d", "e"]),
        ("labelSelector=app=y", &[]),
        ("fieldSelector=metadata.name=d", &["d"]),
        ("fieldSelector=metadata.name!=d,metadata.namespace=demo", &["a", "b", "c", "e"]),
    ] {
        let answer = list(&client, query).await.ok();
        assert_eq!(names(&answer), expected, "{query}");
    }
    list(&client, "labelSelector=a b c").await.refusal(400, "BadRequest");
    let message = list(&client, "fieldSelector=data.x=y").await.refusal(400, "BadRequest");
    assert_eq!(message, "\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"");
    let pods = client.get(&format!("{}?fieldSelector=spec.x%3Dy", core("pods"))).await.refusal(400, "BadRequest");
    assert_eq!(pods, "field label not supported: spec.x");
    let everywhere = client.get("/api/v1/configmaps").await.ok();
    let mut there = names(&everywhere);
    there.retain(|name| name.len() == 1 || *name == "other");
    assert_eq!(there, ["other", "a", "b", "c", "d", "e"]);
    assert_eq!(everywhere["items"][0].get("kind"), None, "kind stands at the list alone");
}

#[tokio::test]
async fn pages_are_all_of_one_version() {
    let api = with_maps();
    let client = Client::admin(&api);
    let first = list(&client, "limit=2").await.ok();
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a", "b"], &json!(3)));
    // What happens in between is not in it.
    api.delete("configmaps", "demo", "c");
    api.put("configmaps", "demo", json!({"metadata": {"name": "cc"}}));
    let token = first["metadata"]["continue"].as_str().expect("a token").to_owned();
    let second = list(&client, &format!("limit=2&continue={token}")).await.ok();
    assert_eq!((names(&second), version(&second)), (vec!["c", "d"], version(&first)));
    let token = second["metadata"]["continue"].as_str().expect("a token").to_owned();
    let third = list(&client, &format!("limit=2&continue={token}")).await.ok();
    assert_eq!((names(&third), third["metadata"].get("continue")), (vec!["e"], None));
    assert_eq!(names(&list(&client, "").await.ok()), ["a", "b", "cc", "d", "e"]);
    list(&client, "limit=2&continue=nonsense").await.refusal(400, "BadRequest");
}

#[tokio::test]
async fn a_page_of_a_compacted_version_is_expired() {
    let api = with_maps();
    let client = Client::admin(&api);
    let first = list(&client, "limit=2").await.ok();
    let token = first["metadata"]["continue"].as_str().expect("a token").to_owned();
    api.put("configmaps", "demo", json!({"metadata": {"name": "cc"}}));
    api.compact();
    let answer = list(&client, &format!("limit=2&continue={token}")).await;
    let message = answer.refusal(410, "Expired");
    assert!(message.starts_with("The provided continue parameter is too old"), "{message}");
    // It can go on with what is there now.
    let rest = answer.json()["metadata"]["continue"].as_str().expect("a token").to_owned();
    let rest = list(&client, &format!("continue={rest}")).await.ok();
    assert_eq!((names(&rest), version(&rest)), (vec!["c", "cc", "d", "e"], api.revision()));
}

#[tokio::test]
async fn lists_of_a_version() {
    let api = with_maps();
    let client = Client::admin(&api);
    let old = api.revision();
    api.delete("configmaps", "demo", "a");
    let now = api.revision();
    let all = ["b", "c", "d", "e"];
    // From the server's memory, which may be a little late, and has no order of its own on some servers.
    for query in [
        "resourceVersion=0".to_owned(),
        format!("resourceVersion={old}"),
        format!("resourceVersion={old}&resourceVersionMatch=NotOlderThan"),
    ] {
        wait::within(LIMIT, &query, async || {
            let answer = list(&client, &query).await.ok();
            let mut found = names(&answer);
            found.sort_unstable();
            found == all && version(&answer) == now
        })
        .await;
    }
    for (query, version_wanted, expected) in [
        (format!("resourceVersion={old}&resourceVersionMatch=Exact"), old, &["a", "b", "c", "d", "e"][..]),
        (format!("resourceVersion={old}&limit=2"), old, &["a", "b"]),
    ] {
        let answer = list(&client, &query).await.ok();
        assert_eq!((names(&answer), version(&answer)), (expected.to_vec(), version_wanted), "{query}");
    }
    let future = list(&client, "resourceVersion=1000000").await;
    assert_eq!(future.refusal(504, "Timeout"), format!("Timeout: Too large resource version: 1000000, current: {now}"));
    list(&client, "resourceVersionMatch=Exact").await.refusal(422, "Invalid");
    let nonsense = list(&client, "resourceVersion=x").await.code;
    assert_eq!(nonsense, if api.is_since(21) { 400 } else { 500 });
    api.compact();
    let message = list(&client, &format!("resourceVersion={old}&resourceVersionMatch=Exact")).await;
    assert_eq!(message.refusal(410, "Expired"), "The resourceVersion for the provided list is too old.");
}

#[tokio::test]
async fn tables_and_metadata_alone() {
    let api = with_maps();
    let client = Client::admin(&api);
    let accept = |form: &str| format!("application/json;as={form};v=v1;g=meta.k8s.io,application/json");
    let path = core("configmaps");
    let table = client.ask(Method::GET, &path, &[("accept", &accept("Table"))], None).await.ok();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let list = client.ask(Method::GET, &path, &[("accept", &accept("PartialObjectMetadataList"))], None).await.ok();
    assert_eq!((&list["kind"], names(&list).len()), (&json!("PartialObjectMetadataList"), 5));
    // What a real server has and this one not.
    let api = stand_in();
    let client = Client::admin(&api);
    let yaml = client.ask(Method::GET, &path, &[("accept", "application/yaml")], None).await;
    yaml.refusal(406, "NotAcceptable");
}
