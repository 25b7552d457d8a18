//! Watches: what they begin with, what they show, and how they end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, LIMIT, Watch, core, server, stand_in, version};
use crate::kube_api::{Ending, KubeApi, Options};

fn put(api: &KubeApi, name: &str, app: &str) -> u64 {
    version(&api.put("configmaps", "demo", json!({"metadata": {"name": name, "labels": {"app": app}}})))
}

async fn watch(client: &Client, query: &str) -> Watch {
    client.watch(&format!("{}?watch=1&{query}", core("configmaps"))).await
}

/// The event as a text and its version.
async fn next(watch: &mut Watch) -> (String, u64) {
    let (kind, name, version) = watch.event().await;
    (format!("{kind} {name}"), version)
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there_or_behind_a_version() {
    let api = server();
    let client = Client::admin(&api);
    let first = put(&api, "a", "x");
    let second = put(&api, "b", "x");
    for query in ["", "resourceVersion=0"] {
        let mut all = watch(&client, query).await;
        let begin = [next(&mut all).await, next(&mut all).await];
        // In whatever order.
        assert!(begin.contains(&("ADDED a".to_owned(), first)) && begin.contains(&("ADDED b".to_owned(), second)));
    }
    let mut later = watch(&client, &format!("resourceVersion={first}")).await;
    assert_eq!(next(&mut later).await, ("ADDED b".to_owned(), second));
    let changed = put(&api, "b", "y");
    assert_eq!(next(&mut later).await, ("MODIFIED b".to_owned(), changed));
    api.delete("configmaps", "demo", "a");
    assert_eq!(next(&mut later).await, ("DELETED a".to_owned(), api.revision()));
    // Of another namespace and of another kind it says nothing.
    api.put("configmaps", "default", json!({"metadata": {"name": "other"}}));
    api.put("endpoints", "demo", json!({"metadata": {"name": "other"}}));
    let last = put(&api, "c", "x");
    assert_eq!(next(&mut later).await, ("ADDED c".to_owned(), last));
}

#[tokio::test]
async fn a_selector_makes_changes_to_additions_and_deletions() {
    let api = server();
    let client = Client::admin(&api);
    put(&api, "a", "y");
    let begin = api.revision();
    let mut watch = watch(&client, &format!("resourceVersion={begin}&labelSelector=app%3Dx")).await;
    let added = put(&api, "a", "x");
    assert_eq!(next(&mut watch).await, ("ADDED a".to_owned(), added));
    let left = put(&api, "a", "y");
    let event = watch.next().await.expect("unbroken").expect("not the end");
    assert_eq!((&event["type"], version(&event["object"])), (&json!("DELETED"), left));
    assert_eq!(event["object"]["metadata"]["labels"]["app"], "x", "as it was when it last matched");
    put(&api, "b", "y");
    let last = put(&api, "c", "x");
    assert_eq!(next(&mut watch).await, ("ADDED c".to_owned(), last));
    let field = format!("resourceVersion={begin}&fieldSelector=metadata.name%3Dc");
    let mut one = self::watch(&client, &field).await;
    assert_eq!(next(&mut one).await, ("ADDED c".to_owned(), last));
}

#[tokio::test]
async fn a_compacted_version_is_said_in_the_stream() {
    let api = server();
    let client = Client::admin(&api);
    let first = put(&api, "a", "x");
    put(&api, "b", "x");
    api.compact();
    let mut late = watch(&client, &format!("resourceVersion={first}")).await;
    let event = late.next().await.expect("unbroken").expect("not the end");
    assert_eq!(event["type"], "ERROR");
    let status = &event["object"];
    assert_eq!(
        (&status["code"], &status["reason"], &status["kind"]),
        (&json!(410), &json!("Expired"), &json!("Status"))
    );
    assert_eq!(late.next().await.expect("unbroken"), None);
}

/// A real server starts anew to compact, which ends it.
#[tokio::test]
async fn a_watch_that_is_up_to_date_goes_on_after_a_compaction() {
    let api = stand_in();
    let client = Client::admin(&api);
    let first = put(&api, "a", "x");
    let mut running = watch(&client, &format!("resourceVersion={first}")).await;
    put(&api, "b", "x");
    assert_eq!(next(&mut running).await.0, "ADDED b");
    api.compact();
    put(&api, "c", "x");
    assert_eq!(next(&mut running).await.0, "ADDED c");
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_over() {
    let api = server();
    let client = Client::admin(&api);
    let mut watch = watch(&client, &format!("resourceVersion={}&timeoutSeconds=1", api.revision())).await;
    assert_eq!(watch.next().await.expect("unbroken"), None);
}

#[tokio::test]
async fn bookmarks_come_only_if_asked() {
    let api = KubeApi::stand_in(Options { bookmark_every: Duration::from_millis(50), ..Options::loopback() });
    let client = Client::admin(&api);
    put(&api, "a", "x");
    let query = format!("resourceVersion={}&timeoutSeconds=1", api.revision());
    let mut without = watch(&client, &query).await;
    let mut with = watch(&client, &format!("{query}&allowWatchBookmarks=true")).await;
    // Versions of other kinds count too.
    api.put("endpoints", "demo", json!({"metadata": {"name": "other"}}));
    let revision = api.revision();
    loop {
        let event = with.next().await.expect("unbroken").expect("not the end");
        assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
        if version(&event["object"]) == revision {
            break;
        }
    }
    assert_eq!(without.next().await.expect("unbroken"), None);
}

#[tokio::test]
async fn a_bookmark_can_end_what_is_there() {
    let api = server();
    if api.predates(32) {
        return;
    }
    let client = Client::admin(&api);
    put(&api, "a", "x");
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = watch(&client, query).await;
    assert_eq!(next(&mut watch).await.0, "ADDED a");
    let event = watch.next().await.expect("unbroken").expect("not the end");
    assert_eq!(event["type"], "BOOKMARK");
    assert_eq!(event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn all_watches_can_be_ended() {
    let api = stand_in();
    let client = Client::admin(&api);
    for how in [Ending::Clean, Ending::Broken, Ending::Expired, Ending::Error] {
        let mut watch = watch(&client, &format!("resourceVersion={}", api.revision())).await;
        api.drop_watches(how);
        match (how, watch.next().await) {
            (Ending::Clean, Ok(None)) | (Ending::Broken, Err(_)) => {}
            (Ending::Expired, Ok(Some(event))) => assert_eq!(event["object"]["code"], 410),
            (Ending::Error, Ok(Some(event))) => assert_eq!(event["object"]["code"], 500),
            (how, other) => panic!("{how:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_watch_of_tables_has_a_row_for_each_event() {
    let api = server();
    let client = Client::admin(&api);
    put(&api, "a", "x");
    let path = format!("{}?watch=true", core("configmaps"));
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let response = client.send(hyper::Method::GET, &path, &accept, None).await.expect("an answer");
    let mut watch = Watch::of(response.into_body());
    let event = watch.next().await.expect("unbroken").expect("not the end");
    assert_eq!((&event["object"]["kind"], &event["object"]["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
}

#[tokio::test]
async fn events_come_at_once_and_in_order() {
    let api = server();
    let client = Client::admin(&api);
    let mut watch = watch(&client, &format!("resourceVersion={}", api.revision())).await;
    let writer = async {
        for round in 0..50 {
            let patch: Value = json!({"metadata": {"name": "a", "annotations": {"round": round.to_string()}}});
            client.update(&core("endpoints/a"), &patch).await.ok();
            put(&api, "a", &format!("r{round}"));
        }
    };
    let reader = async {
        let mut last = 0;
        for round in 0..50 {
            let event = watch.next().await.expect("unbroken").expect("not the end");
            assert_eq!(event["object"]["metadata"]["labels"]["app"], format!("r{round}"));
            assert!(version(&event["object"]) > last);
            last = version(&event["object"]);
        }
    };
    tokio::time::timeout(LIMIT, async { tokio::join!(writer, reader) }).await.expect("in time");
}
