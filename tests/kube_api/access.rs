//! Tokens, certificates and rights, and what is recorded.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};

use crate::client::{Client, LIMIT, STRATEGIC, core, leases, server, stand_in};
use crate::kube_api::{Authority, Rule, User};
use crate::wait;

#[tokio::test]
async fn tokens_name_their_user_until_they_expire() {
    let api = stand_in();
    let nobody = Client::anonymous(&api);
    let message = nobody.get(&core("pods")).await.refusal(403, "Forbidden");
    let expected = "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in \
                    the namespace \"demo\"";
    assert_eq!(message, expected);
    let unknown = Client::with_token(&api, "nonsense");
    let answer = unknown.get(&core("pods")).await;
    assert_eq!(answer.refusal(401, "Unauthorized"), "Unauthorized");
    let token = api.service_account("demo", "demo", vec![Rule::new(&["pods"], &["list"])]);
    let client = Client::with_token(&api, &token);
    client.get(&core("pods")).await.ok();
    api.expire(&token, Instant::now() + Duration::from_secs(3600));
    client.get(&core("pods")).await.ok();
    api.expire(&token, Instant::now());
    client.get(&core("pods")).await.refusal(401, "Unauthorized");
    let renewed = api.token(User::service_account("demo", "demo"));
    Client::with_token(&api, &renewed).get(&core("pods")).await.ok();
}

#[tokio::test]
async fn certificates_name_user_and_groups() {
    let api = server();
    let superuser = api.authority().issue_user("root", &["system:masters"]);
    Client::with_certificate(&api, &superuser).get(&core("pods")).await.ok();
    let user = api.authority().issue_user("jo", &["staff"]);
    let client = Client::with_certificate(&api, &user);
    let message = client.get(&core("pods/p")).await.refusal(403, "Forbidden");
    let expected = "pods \"p\" is forbidden: User \"jo\" cannot get resource \"pods\" in API group \"\" in the \
                    namespace \"demo\"";
    assert_eq!(message, expected);
    api.allow("jo", vec![Rule::new(&["pods"], &["get"])]);
    client.get(&core("pods/p")).await.refusal(404, "NotFound");
    let stranger = Authority::new().issue_user("root", &["system:masters"]);
    Client::with_certificate(&api, &stranger).get(&core("pods")).await.refusal(401, "Unauthorized");
}

#[tokio::test]
async fn rights_are_checked_before_existence() {
    let api = server();
    let rules = vec![
        Rule::new(&["configmaps"], &["get", "patch"]).in_namespace("demo").only(&["demo-leader"]),
        Rule::new(&["leases"], &["create"]).of_group("coordination.k8s.io").in_namespace("demo"),
    ];
    let client = Client::account(&api, rules);
    client.get(&core("configmaps/demo-leader")).await.refusal(404, "NotFound");
    client.get(&core("configmaps/other")).await.refusal(403, "Forbidden");
    client.get("/api/v1/namespaces/default/configmaps/demo-leader").await.refusal(403, "Forbidden");
    client.get("/api/v1/namespaces/nowhere/nothings/x").await.refusal(403, "Forbidden");
    client.create(&leases(""), &json!({"metadata": {"name": "l"}})).await.ok();
    let answer = client.patch(&leases("/l"), STRATEGIC, &json!({})).await;
    let message = answer.refusal(403, "Forbidden");
    let expected = "leases.coordination.k8s.io \"l\" is forbidden: User \"system:serviceaccount:demo:demo\" cannot \
                    patch resource \"leases\" in API group \"coordination.k8s.io\" in the namespace \"demo\"";
    assert_eq!(message, expected);
    let details = json!({"name": "l", "group": "coordination.k8s.io", "kind": "leases"});
    assert_eq!(answer.json()["details"], details);
    let message = client.get("/api/v1/pods").await.refusal(403, "Forbidden");
    assert!(message.ends_with("cannot list resource \"pods\" in API group \"\" at the cluster scope"), "{message}");
    let message = client.patch(&core("pods/p/status"), STRATEGIC, &json!({})).await.refusal(403, "Forbidden");
    assert!(message.contains("cannot patch resource \"pods/status\""), "{message}");
    let message = client.get("/metrics").await.refusal(403, "Forbidden");
    let expected = "forbidden: User \"system:serviceaccount:demo:demo\" cannot get path \"/metrics\"";
    assert_eq!(message, expected);
}

#[tokio::test]
async fn one_name_is_enough_for_a_list_of_it() {
    let api = server();
    let client = Client::account(&api, vec![Rule::new(&["configmaps"], &["list"]).only(&["a"])]);
    client.get(&format!("{}?fieldSelector=metadata.name%3Da", core("configmaps"))).await.ok();
    client.get(&core("configmaps")).await.refusal(403, "Forbidden");
}

#[tokio::test]
async fn a_right_can_be_withheld() {
    let api = server();
    let client = Client::account(&api, vec![Rule::new(&["pods"], &["list", "watch"])]);
    client.get(&core("pods")).await.ok();
    api.withhold("list", "pods");
    client.get(&core("pods")).await.refusal(403, "Forbidden");
    client.watch(&format!("{}?watch=true", core("pods"))).await;
    Client::admin(&api).get(&core("pods")).await.ok();
    api.give_back();
    client.get(&core("pods")).await.ok();
}

#[tokio::test]
async fn stored_roles_count() {
    let api = server();
    let client = Client::account(&api, Vec::new());
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/demo";
    let admin = Client::admin(&api);
    let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]});
    admin.create(&format!("{rbac}/roles"), &json!({"metadata": {"name": "r"}, "rules": [rule]})).await.ok();
    client.get(&core("pods")).await.refusal(403, "Forbidden");
    let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"});
    let subjects = json!([{"kind": "ServiceAccount", "name": "demo"}]);
    let binding = json!({"metadata": {"name": "b"}, "roleRef": reference, "subjects": subjects});
    admin.create(&format!("{rbac}/rolebindings"), &binding).await.ok();
    wait::within(LIMIT, "the right counts", async || client.get(&core("pods")).await.code == 200).await;
    client.get(&core("endpoints")).await.refusal(403, "Forbidden");
    client.get("/api/v1/namespaces/default/pods").await.refusal(403, "Forbidden");
}

#[tokio::test]
async fn everybody_may_ask_what_there_is_and_what_they_may() {
    let api = server();
    let client = Client::account(&api, vec![Rule::new(&["pods"], &["list"])]);
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(Client::anonymous(&api).get(path).await.text, "ok");
    }
    Client::anonymous(&api).get("/apis").await.refusal(403, "Forbidden");
    assert_eq!(client.get("/version").await.ok()["major"], "1");
    assert_eq!(client.get("/api").await.ok()["versions"], json!(["v1"]));
    let groups = client.get("/apis").await.ok();
    let groups: Vec<&str> =
        groups["groups"].as_array().expect("groups").iter().filter_map(|g| g["name"].as_str()).collect();
    assert!(groups.contains(&"coordination.k8s.io") && groups.contains(&"discovery.k8s.io"), "{groups:?}");
    let listed = client.get("/apis/coordination.k8s.io/v1").await.ok();
    assert_eq!((&listed["kind"], &listed["resources"][0]["name"]), (&json!("APIResourceList"), &json!("leases")));
    let review =
        |verb: &str| json!({"spec": {"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": "demo"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(client.create(path, &review("list")).await.ok()["status"]["allowed"], true);
    assert_eq!(client.create(path, &review("get")).await.ok()["status"]["allowed"], false);
}

#[tokio::test]
async fn every_request_is_recorded() {
    let api = stand_in();
    let client = Client::account(&api, vec![Rule::new(&["pods"], &["list", "watch", "patch"])]);
    api.clear_records();
    client.get(&core("pods")).await.ok();
    client.watch(&format!("{}?watch=true", core("pods"))).await;
    client.patch(&core("pods/p"), STRATEGIC, &json!({})).await.refusal(404, "NotFound");
    client.ask(Method::DELETE, &leases("/l"), &[], None).await.refusal(403, "Forbidden");
    let records = api.records();
    let seen: Vec<Value> = records
        .iter()
        .map(|record| {
            let asked = &record.asked;
            json!([asked.verb, asked.group, asked.resource, asked.namespace, asked.name, record.code])
        })
        .collect();
    let expected = [
        json!(["list", "", "pods", "demo", "", 200]),
        json!(["watch", "", "pods", "demo", "", 200]),
        json!(["patch", "", "pods", "demo", "p", 404]),
        json!(["delete", "coordination.k8s.io", "leases", "demo", "l", 403]),
    ];
    assert_eq!(seen, expected);
    assert!(records.iter().all(|record| record.user == "system:serviceaccount:demo:demo"));
    assert_eq!(records[2].content_type, STRATEGIC);
    assert!(records.windows(2).all(|pair| pair[0].at <= pair[1].at));
}
