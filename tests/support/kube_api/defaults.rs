//! What a server fills in by itself.

use openssl::sha::sha256;
use serde_json::{Map, Value, json};

use super::resources::Resource;

/// Fills in what the object's author left out.
pub fn fill(resource: &Resource, object: &mut Value) {
    match resource.plural {
        "endpoints" => endpoints(object),
        "endpointslices" => {
            for port in elements(&mut object["ports"]) {
                default(port, "name", json!(""));
                default(port, "protocol", json!("TCP"));
            }
        }
        "services" => service(object),
        "pods" => {
            let spec = part(object, "spec");
            default(spec, "restartPolicy", json!("Always"));
            default(spec, "dnsPolicy", json!("ClusterFirst"));
            default(spec, "terminationGracePeriodSeconds", json!(30));
            default(spec, "schedulerName", json!("default-scheduler"));
            default(spec, "securityContext", json!({}));
        }
        "namespaces" => {
            *part(object, "spec") = json!({"finalizers": ["kubernetes"]});
            *part(object, "status") = json!({"phase": "Active"});
        }
        _ => {}
    }
}

/// The status that a new object has.
pub fn first_status(resource: &Resource) -> Option<Value> {
    match resource.plural {
        "pods" => Some(json!({"phase": "Pending", "qosClass": "BestEffort"})),
        "services" => Some(json!({"loadBalancer": {}})),
        "statefulsets" => Some(json!({"replicas": 0, "availableReplicas": 0})),
        "poddisruptionbudgets" => {
            Some(json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}))
        }
        _ => None,
    }
}

fn part<'a>(object: &'a mut Value, name: &str) -> &'a mut Value {
    if !object[name].is_object() {
        object[name] = Value::Object(Map::new());
    }
    &mut object[name]
}

fn default(object: &mut Value, name: &str, value: Value) {
    if object[name].is_null() {
        object[name] = value;
    }
}

fn elements(list: &mut Value) -> &mut [Value] {
    list.as_array_mut().map_or(&mut [], Vec::as_mut_slice)
}

fn endpoints(object: &mut Value) {
    for subset in elements(&mut object["subsets"]) {
        for port in elements(&mut subset["ports"]) {
            if port["protocol"].as_str().is_none_or(str::is_empty) {
                port["protocol"] = json!("TCP");
            }
        }
        // The indexing above leaves null where there are no ports.
        if let Some(map) = subset.as_object_mut() {
            map.retain(|_, value| !value.is_null());
        }
    }
    if let Some(map) = object.as_object_mut().filter(|map| map["subsets"].as_array().is_none_or(Vec::is_empty)) {
        map.shift_remove("subsets");
    }
}

fn service(object: &mut Value) {
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let spec = part(object, "spec");
    default(spec, "type", json!("ClusterIP"));
    default(spec, "sessionAffinity", json!("None"));
    default(spec, "internalTrafficPolicy", json!("Cluster"));
    for port in elements(&mut spec["ports"]) {
        default(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        default(port, "targetPort", number);
    }
    if spec["ports"].is_null()
        && let Some(map) = spec.as_object_mut()
    {
        map.shift_remove("ports");
    }
    if spec["clusterIP"].as_str().is_none_or(str::is_empty) {
        let digest = sha256(uid.as_bytes());
        spec["clusterIP"] = json!(format!("10.96.{}.{}", digest[0], digest[1].clamp(1, 254)));
    }
    let ip = spec["clusterIP"].clone();
    default(spec, "clusterIPs", json!([ip]));
    default(spec, "ipFamilies", json!(["IPv4"]));
    default(spec, "ipFamilyPolicy", json!("SingleStack"));
}
