//! The two controllers of Kubernetes that matter here. One writes the addresses of all ready pods that a Service selects
//! into the Endpoints of the Service's name, over whatever stands there. The other one, the garbage collector, deletes what
//! has owners of which none is there, or is there with another uid.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::resources::{Resource, Trait, all, named};
use super::store::{Store, key};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy)]
pub struct Switches {
    pub endpoints: Switch,
    pub garbage: Switch,
}

/// Writes what has to be written; nothing where all is as it should be.
pub fn run(store: &mut Store, switches: Switches) {
    if switches.endpoints == Switch::On {
        fill_endpoints(store);
    }
    if switches.garbage == Switch::On {
        // What is deleted may have been an owner itself.
        while collect(store) > 0 {}
    }
}

/// How many objects were deleted.
fn collect(store: &mut Store) -> usize {
    let mut orphans = Vec::new();
    for resource in all() {
        for (key, object) in store.list(resource, None) {
            let owners = object["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
            if !owners.is_empty() && !owners.iter().any(|owner| is_there(store, owner, &key.1)) {
                orphans.push(key);
            }
        }
    }
    orphans.iter().for_each(|key| drop(store.remove(key)));
    orphans.len()
}

/// Whether the owner of an object in this namespace is there: in it, or in none.
fn is_there(store: &Store, owner: &Value, namespace: &str) -> bool {
    let of_kind =
        |resource: &&Resource| owner["kind"] == resource.kind && owner["apiVersion"] == resource.api_version();
    let Some(resource) = all().iter().find(of_kind) else { return false };
    let namespace = if resource.is(Trait::Cluster) { "" } else { namespace };
    let found = store.get(&key(resource, namespace, owner["name"].as_str().unwrap_or_default()));
    found.is_some_and(|found| found["metadata"]["uid"] == owner["uid"])
}

fn fill_endpoints(store: &mut Store) {
    for ((_, namespace, name), service) in store.list(named("services"), None) {
        let Some(selector) = service["spec"]["selector"].as_object().filter(|selector| !selector.is_empty()) else {
            continue;
        };
        let subsets = subsets(store, &namespace, selector, &service);
        let key = key(named("endpoints"), &namespace, &name);
        let old = store.get(&key);
        if old.as_ref().is_some_and(|old| old.get("subsets").cloned().unwrap_or(json!([])) == subsets) {
            continue;
        }
        let mut endpoints = old.map_or_else(|| new(&namespace, &name, &service), |old| Value::clone(&old));
        endpoints["subsets"] = subsets;
        if let Some(map) = endpoints.as_object_mut() {
            map.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
        }
        store.put(key, endpoints);
    }
}

fn new(namespace: &str, name: &str, service: &Value) -> Value {
    let mut labels = service["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    labels.insert("endpoints.kubernetes.io/managed-by".to_owned(), json!("endpoint-controller"));
    json!({"kind": "Endpoints", "apiVersion": "v1", "metadata": {
        "name": name,
        "namespace": namespace,
        "uid": super::new_uid(),
        "creationTimestamp": super::now_text(),
        "labels": labels,
    }})
}

fn subsets(store: &Store, namespace: &str, selector: &Map<String, Value>, service: &Value) -> Value {
    let pods = store.list(named("pods"), Some(namespace)).into_iter().map(|(_, pod)| pod);
    let is_selected = |pod: &Arc<Value>| selector.iter().all(|(k, v)| pod["metadata"]["labels"].get(k) == Some(v));
    let mut addresses: Vec<Value> = pods.filter(is_selected).filter_map(|pod| address(&pod)).collect();
    addresses.sort_by_key(|address| address["ip"].as_str().and_then(|ip| ip.parse::<std::net::IpAddr>().ok()));
    if addresses.is_empty() {
        return json!([]);
    }
    let mut ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    for port in &mut ports {
        let number = if port["targetPort"].is_i64() { &port["targetPort"] } else { &port["port"] };
        let mut made = json!({"port": number, "protocol": port["protocol"]});
        if let Some(name) = port.get("name") {
            made["name"] = name.clone();
        }
        *port = made;
    }
    json!([{"addresses": addresses, "ports": ports}])
}

/// A ready pod's.
fn address(pod: &Value) -> Option<Value> {
    let conditions = pod["status"]["conditions"].as_array()?;
    conditions.iter().find(|one| one["type"] == "Ready" && one["status"] == "True")?;
    let metadata = &pod["metadata"];
    let target =
        json!({"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]});
    Some(json!({"ip": pod["status"]["podIP"].as_str()?, "targetRef": target}))
}
