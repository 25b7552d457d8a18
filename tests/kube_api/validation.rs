//! What is refused with 422, in the server's words.

use serde_json::{Value, json};

use crate::client::{Client, core, leases, server, slices};
use crate::kube_api::KubeApi;

async fn refused(api: &KubeApi, path: &str, object: &Value, expected: &[&str]) {
    let message = Client::admin(api).create(path, object).await.refusal(422, "Invalid");
    for part in expected {
        assert!(message.contains(part), "{message}");
    }
}

fn endpoints(ip: &str) -> Value {
    json!({"metadata": {"name": "demo"}, "subsets": [{"addresses": [{"ip": ip}], "ports": [{"port": 5432}]}]})
}

#[tokio::test]
async fn addresses_that_are_local_are_refused() {
    let api = server();
    // Servers differ in what they name behind it.
    let loopback = "may not be in the loopback range (127.0.0.0/8";
    let link_local = "may not be in the link-local range (169.254.0.0/16";
    let multicast = "may not be in the link-local multicast range (224.0.0.0/24";
    let has_slices = !api.lacks("endpointslices");
    for (ip, expected) in [
        ("127.0.0.1", loopback),
        ("127.9.9.9", loopback),
        ("::1", loopback),
        ("169.254.1.1", link_local),
        ("fe80::1", link_local),
        ("224.0.0.1", multicast),
        ("0.0.0.0", "may not be unspecified (0.0.0.0"),
        ("demo-0", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
    ] {
        refused(&api, &core("endpoints"), &endpoints(ip), &[expected]).await;
        if !has_slices {
            continue;
        }
        let kind = if ip.contains(':') { "IPv6" } else { "IPv4" };
        let slice = json!({"metadata": {"name": "demo"}, "addressType": kind, "endpoints": [{"addresses": [ip]}]});
        refused(&api, &slices(""), &slice, &[expected]).await;
    }
    let answer = Client::admin(&api).create(&core("endpoints"), &endpoints("127.0.0.1")).await;
    let message = answer.refusal(422, "Invalid");
    let complaint = message.strip_prefix("Endpoints \"demo\" is invalid: subsets[0].addresses[0].ip: ");
    let complaint = complaint.unwrap_or_else(|| panic!("{message}"));
    assert!(complaint.starts_with(&format!("Invalid value: \"127.0.0.1\": {loopback}")), "{message}");
    let cause = json!({"reason": "FieldValueInvalid", "field": "subsets[0].addresses[0].ip", "message": complaint});
    assert_eq!(answer.json()["details"], json!({"name": "demo", "kind": "Endpoints", "causes": [cause]}));
}

#[tokio::test]
async fn several_ports_need_names() {
    let api = server();
    let with = |ports: Value| json!({"metadata": {"name": "demo"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": ports}]});
    let path = core("endpoints");
    let two = with(json!([{"port": 5432}, {"port": 8008}]));
    refused(
        &api,
        &path,
        &two,
        &["subsets[0].ports[0].name: Required value", "subsets[0].ports[1].name: Required value"],
    )
    .await;
    refused(&api, &path, &with(json!([{"port": 0}])), &["must be between 1 and 65535, inclusive"]).await;
    let protocol = with(json!([{"port": 1, "protocol": "HTTP"}]));
    refused(&api, &path, &protocol, &["supported values: \"SCTP\", \"TCP\", \"UDP\""]).await;
    let none = json!({"metadata": {"name": "demo"}, "subsets": [{"ports": [{"port": 1}]}]});
    refused(&api, &path, &none, &["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"]).await;
    let named = with(json!([{"port": 5432, "name": "postgresql"}, {"port": 8008, "name": "rest"}]));
    Client::admin(&api).create(&path, &named).await.ok();
}

#[tokio::test]
async fn names_labels_and_annotations_have_their_form() {
    let api = server();
    let path = core("configmaps");
    let with = |field: &str, key: &str, value: &str| json!({"metadata": {"name": "a", field: {key: value}}});
    for (object, expected) in [
        (json!({"metadata": {"name": "Demo"}}), "metadata.name: Invalid value: \"Demo\": a "),
        (json!({"metadata": {}}), "metadata.name: Required value: name or generateName is required"),
        (
            with("labels", "role", "a b"),
            "metadata.labels: Invalid value: \"a b\": a valid label must be an empty string",
        ),
        (with("labels", "role", &"x".repeat(64)), "must be no more than 63 "),
        (with("labels", "a b", "x"), "metadata.labels: Invalid value: \"a b\": name part must consist of"),
        (with("labels", "/x", "x"), "prefix part must be non-empty"),
        (with("annotations", "a b", "x"), "metadata.annotations: Invalid value: \"a b\": name part must consist of"),
        (with("annotations", "a", &"x".repeat(262_144)), "metadata.annotations: Too long: "),
    ] {
        refused(&api, &path, &object, &[expected]).await;
    }
    let client = Client::admin(&api);
    client.create(&path, &with("annotations", "a", &"x".repeat(262_143))).await.ok();
    let generated = client.create(&path, &json!({"metadata": {"generateName": "demo-"}})).await.ok();
    let name = generated["metadata"]["name"].as_str().expect("a name");
    assert!(name.starts_with("demo-") && name.len() == 10, "{name}");
    let big = client.create(&path, &json!({"metadata": {"name": "b"}, "data": {"a": "x".repeat(3 << 20)}})).await;
    big.refusal(413, "RequestEntityTooLarge");
}

#[tokio::test]
async fn slices_have_a_type_that_stays() {
    let api = server();
    if api.lacks("endpointslices") {
        return;
    }
    let client = Client::admin(&api);
    let slice = |kind: Value| json!({"metadata": {"name": "a"}, "addressType": kind, "endpoints": [{"addresses": ["10.0.0.1"]}]});
    refused(&api, &slices(""), &slice(Value::Null), &["addressType: Required value"]).await;
    refused(&api, &slices(""), &slice(json!("IPv5")), &["addressType: Unsupported value: \"IPv5\""]).await;
    refused(&api, &slices(""), &slice(json!("IPv6")), &["must be an IPv6 address"]).await;
    let none = json!({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [{"addresses": []}]});
    refused(&api, &slices(""), &none, &["endpoints[0].addresses: Required value"]).await;
    let twice = json!({"metadata": {"name": "a"}, "addressType": "IPv4", "ports": [{"port": 1}, {"port": 2}]});
    refused(&api, &slices(""), &twice, &["ports[1].name: Duplicate value: \"\""]).await;
    let made = client.create(&slices(""), &slice(json!("IPv4"))).await.ok();
    assert_eq!((&made["metadata"]["generation"], &made["ports"]), (&json!(1), &Value::Null));
    let changed = client.update(&slices("/a"), &slice(json!("IPv6"))).await.refusal(422, "Invalid");
    assert!(changed.contains("addressType: Invalid value: \"IPv6\": field is immutable"), "{changed}");
    let patch = json!({"endpoints": [], "ports": [{"port": 5432}]});
    let patched = client.patch(&slices("/a"), crate::client::STRATEGIC, &patch).await.ok();
    assert_eq!((&patched["endpoints"], &patched["metadata"]["generation"]), (&Value::Null, &json!(2)));
    assert_eq!(patched["ports"], json!([{"name": "", "port": 5432, "protocol": "TCP"}]));
}

#[tokio::test]
async fn leases_have_a_duration_and_exact_times() {
    let api = server();
    let client = Client::admin(&api);
    let lease = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    for seconds in [0, -1] {
        let object = lease(json!({"leaseDurationSeconds": seconds}));
        let expected = format!("spec.leaseDurationSeconds: Invalid value: {seconds}: must be greater than 0");
        refused(&api, &leases(""), &object, &[&expected]).await;
    }
    let object = lease(json!({"leaseTransitions": -1}));
    refused(&api, &leases(""), &object, &["spec.leaseTransitions: Invalid value: -1: must "]).await;
    let object = lease(json!({"renewTime": "2026-11-22T09:28:53Z"}));
    let message = client.create(&leases(""), &object).await.refusal(400, "BadRequest");
    assert!(message.contains("parsing time \"2026-11-22T09:28:53Z\""), "{message}");
    let object = lease(json!({"holderIdentity": "", "renewTime": "2026-11-22T10:28:53.723670+01:00"}));
    let made = client.create(&leases(""), &object).await.ok();
    assert_eq!(made["spec"], json!({"holderIdentity": "", "renewTime": "2026-11-22T09:28:53.723670Z"}));
}
