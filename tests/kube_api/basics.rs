//! Create, get, update, patch, delete, and their refusals.

use serde_json::json;

use crate::client::{Client, STRATEGIC, core, server, version};

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
