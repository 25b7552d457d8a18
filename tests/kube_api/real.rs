//! The handle of a real server, as far as it can be tried without one: what it asks over HTTP, asked of the server in this
//! process, and what it makes of an audit log.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

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
    let event = |verb: &str, stage: &str| {
        let object = json!({"resource": "pods", "namespace": "demo", "name": "p", "apiVersion": "v1"});
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "stage": stage, "verb": verb,
            "requestURI": "/api/v1/namespaces/demo/pods/p?watch=1", "user": {"username": "jo"}, "userAgent": "x",
            "objectRef": object, "responseStatus": {"metadata": {}, "code": 200},
            "requestReceivedTimestamp": "2026-11-22T09:28:53.723670Z", "stageTimestamp": "2026-11-22T09:28:53.723670Z",
        })
        .to_string()
    };
    let record = real_audit::record(&event("patch", "ResponseComplete")).expect("a record");
    let asked = &record.asked;
    assert_eq!((record.user.as_str(), record.code, record.query.as_str()), ("jo", 200, "watch=1"));
    assert_eq!((asked.verb.as_str(), asked.resource.as_str(), asked.name.as_str()), ("patch", "pods", "p"));
    assert!(record.at < Instant::now());
    let stages = [("patch", "ResponseStarted"), ("watch", "ResponseComplete")];
    assert!(stages.iter().all(|(verb, stage)| real_audit::record(&event(verb, stage)).is_none()));
    assert!(real_audit::record(&event("watch", "ResponseStarted")).is_some());
    assert!(real_audit::record("nonsense").is_none());
    let path: Value = json!({"stage": "ResponseComplete", "verb": "get", "requestURI": "/readyz",
        "stageTimestamp": "2026-11-22T09:28:53Z", "responseStatus": {"code": 200}});
    let asked = real_audit::record(&path.to_string()).expect("a record").asked;
    assert_eq!((asked.is_resource(), asked.path.as_str()), (false, "/readyz"));
}
