//! The handle of a real server, as far as it can be tried without one: what it asks over HTTP, asked of the server in this
//! process, and what it makes of an audit log.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Client, LIMIT, core};
use crate::kube_api::backing::Backing;
use crate::kube_api::real::Real;
use crate::kube_api::{KubeApi, Options, Rule, real_audit};

#[tokio::test]
async fn objects_are_written_over_http() {
    let api = KubeApi::stand_in(Options::loopback());
    let real = Real::beside(api.address(), api.authority(), api.admin());
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1"}});
    for _ in 0..2 {
        let put = real.put("pods", "demo", pod.clone());
        assert_eq!((&put["status"]["podIP"], &put["metadata"]["namespace"]), (&json!("10.0.0.1"), &json!("demo")));
    }
    let patch = json!({"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Failed"}});
    let patched = real.patch("pods", "demo", "p", &patch);
    assert_eq!((&patched["status"]["phase"], &patched["metadata"]["labels"]), (&json!("Failed"), &json!({"a": "b"})));
    assert_eq!(real.get("pods", "demo", "p").as_deref(), Some(&*patched));
    assert_eq!((real.list("pods", "demo").len(), real.revision()), (1, api.revision()));
    real.put("configmaps", "demo", json!({"metadata": {"name": "held", "finalizers": ["demo/x"]}}));
    assert!(real.delete("configmaps", "demo", "held") && !real.delete("configmaps", "demo", "held"));
    assert!(real.wait(LIMIT, &mut || real.get("configmaps", "demo", "held").is_none()));
    assert!(!real.wait(Duration::ZERO, &mut || false));
}

#[tokio::test]
async fn rights_are_roles_and_tokens_are_requested() {
    let api = KubeApi::stand_in(Options::loopback());
    let real = Real::beside(api.address(), api.authority(), api.admin());
    let token = real.service_account("demo", "demo");
    let client = Client::with_token(&api, &token);
    client.get(&core("pods")).await.refusal(403, "Forbidden");
    let user = "system:serviceaccount:demo:demo";
    let rules = vec![
        Rule::new(&["pods"], &["list"]).in_namespace("demo"),
        Rule::new(&["endpoints"], &["get"]).in_namespace("default").only(&["kubernetes"]),
        Rule::new(&["namespaces"], &["list"]),
    ];
    real.set_rules(user, rules);
    client.get(&core("pods")).await.ok();
    client.get("/api/v1/namespaces/default/endpoints/kubernetes").await.ok();
    client.get("/api/v1/namespaces").await.ok();
    client.get("/api/v1/namespaces/default/pods").await.refusal(403, "Forbidden");
    // What is no longer there is taken away.
    real.set_rules(user, vec![Rule::new(&["configmaps"], &["list"]).in_namespace("demo")]);
    client.get(&core("configmaps")).await.ok();
    for path in [&core("pods"), "/api/v1/namespaces/default/endpoints/kubernetes", "/api/v1/namespaces"] {
        client.get(path).await.refusal(403, "Forbidden");
    }
}

#[test]
fn an_audit_log_has_the_records() {
    let time = "2026-11-22T09:28:53.723670Z";
    let event = |id: &str, verb: &str, stage: &str, code: u16| {
        let object = json!({"resource": "pods", "namespace": "demo", "name": "p", "apiVersion": "v1"});
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "stage": stage, "verb": verb,
            "auditID": id, "requestURI": "/api/v1/namespaces/demo/pods/p?watch=1", "user": {"username": "jo"},
            "userAgent": "x", "objectRef": object, "responseStatus": {"metadata": {}, "code": code},
            "requestReceivedTimestamp": time, "stageTimestamp": time,
        })
        .to_string()
    };
    let path = json!({"stage": "ResponseComplete", "verb": "get", "requestURI": "/readyz", "stageTimestamp": time,
        "responseStatus": {"code": 200}});
    let log = [
        event("a", "watch", "RequestReceived", 0),
        event("b", "patch", "ResponseStarted", 200),
        event("b", "patch", "ResponseComplete", 200),
        "nonsense".to_owned(),
        event("c", "watch", "RequestReceived", 0),
        event("a", "watch", "ResponseStarted", 403),
        event("a", "watch", "ResponseComplete", 403),
        path.to_string(),
    ];
    let records = real_audit::records(&log.join("\n"));
    let asked: Vec<_> = records.iter().map(|record| (record.asked.verb.as_str(), record.code)).collect();
    // A watch that runs has no code yet on some servers.
    assert_eq!(asked, [("watch", 403), ("patch", 200), ("watch", 0), ("get", 200)]);
    let (patch, get) = (&records[1], &records[3].asked);
    assert_eq!((patch.user.as_str(), patch.query.as_str()), ("jo", "watch=1"));
    assert_eq!((patch.asked.resource.as_str(), patch.asked.name.as_str()), ("pods", "p"));
    assert!(patch.at < Instant::now());
    assert_eq!((get.is_resource(), get.path.as_str()), (false, "/readyz"));
}
