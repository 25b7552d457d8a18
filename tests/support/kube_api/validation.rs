//! What a server refuses with 422: names, labels, annotations, and the rules of Endpoints, EndpointSlices and Leases.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::refusal::Cause;
use super::resources::Resource;

const ANNOTATIONS_MAX: usize = 256 * 1024;
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
    '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SERVICE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
    and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
    for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const KEY: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
    an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
    'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// All complaints about an object.
pub fn object(resource: &Resource, object: &Value) -> Vec<Cause> {
    let mut causes = metadata(resource, &object["metadata"]);
    match resource.plural {
        "endpoints" => subsets(&object["subsets"], &mut causes),
        "endpointslices" => slice(object, &mut causes),
        "leases" => lease(&object["spec"], &mut causes),
        "configmaps" => {
            keys("data", &object["data"], &mut causes);
            keys("binaryData", &object["binaryData"], &mut causes);
        }
        "pods" if object["spec"]["containers"].as_array().is_none_or(Vec::is_empty) => {
            causes.push(Cause::required("spec.containers", ""));
        }
        _ => {}
    }
    causes
}

/// Complaints about what may not change.
pub fn update(resource: &Resource, old: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut immutable = |path: &str, old: &Value, new: &Value| {
        if old != new {
            causes.push(Cause::invalid(path, new, "field is immutable"));
        }
    };
    for name in ["name", "uid"] {
        immutable(&format!("metadata.{name}"), &old["metadata"][name], &new["metadata"][name]);
    }
    match resource.plural {
        "endpointslices" => immutable("addressType", &old["addressType"], &new["addressType"]),
        "rolebindings" | "clusterrolebindings" if old["roleRef"] != new["roleRef"] => {
            causes.push(Cause::invalid("roleRef", &new["roleRef"], "cannot change roleRef"));
        }
        "pods" if list(&old["spec"]["containers"]).len() != list(&new["spec"]["containers"]).len() => {
            causes.push(Cause::forbidden("spec.containers", "pod updates may not add or remove containers"));
        }
        "configmaps" if old["immutable"] == json!(true) => {
            for field in ["immutable", "data", "binaryData"] {
                if old[field] != new[field] {
                    causes.push(Cause::forbidden(field, "field is immutable when `immutable` is set"));
                }
            }
        }
        _ => {}
    }
    causes
}

fn metadata(resource: &Resource, metadata: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = metadata["name"].as_str().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let wrong = match resource.plural {
        // Its names may hold anything that a path may.
        "roles" | "rolebindings" | "clusterroles" | "clusterrolebindings" => None,
        "services" if !is_label(name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) => Some(SERVICE),
        "namespaces" if !is_label(name) => Some(LABEL),
        _ if name.len() > 253 => Some("must be no more than 253 bytes"),
        _ if !name.split('.').all(|part| {
            part.starts_with(is_plain) && part.ends_with(is_plain) && part.chars().all(|c| is_plain(c) || c == '-')
        }) =>
        {
            Some(SUBDOMAIN)
        }
        _ => None,
    };
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Some(detail) = wrong {
        causes.push(Cause::invalid("metadata.name", &metadata["name"], detail));
    }
    let none = Map::new();
    for (key, value) in metadata["labels"].as_object().unwrap_or(&none) {
        qualified_key("metadata.labels", key, &mut causes);
        let text = value.as_str().unwrap_or_default();
        if text.len() > 63 {
            causes.push(Cause::invalid("metadata.labels", value, "must be no more than 63 bytes"));
        }
        if !text.is_empty() && !is_word(text) {
            causes.push(Cause::invalid("metadata.labels", value, VALUE));
        }
    }
    let annotations = metadata["annotations"].as_object().unwrap_or(&none);
    let mut size = 0;
    for (key, value) in annotations {
        qualified_key("metadata.annotations", &key.to_lowercase(), &mut causes);
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > ANNOTATIONS_MAX {
        causes.push(Cause::too_long("metadata.annotations", "may not be more than 262144 bytes"));
    }
    causes
}

fn qualified_key(field: &str, key: &str, causes: &mut Vec<Cause>) {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let shown = json!(key);
    if let Some(prefix) = prefix
        && !prefix.split('.').all(is_label)
    {
        let detail = if prefix.is_empty() {
            "prefix part must be non-empty".to_owned()
        } else {
            format!("prefix part {SUBDOMAIN}")
        };
        causes.push(Cause::invalid(field, &shown, &detail));
    }
    if name.is_empty() {
        causes.push(Cause::invalid(field, &shown, "name part must be non-empty"));
    } else if name.len() > 63 {
        causes.push(Cause::invalid(field, &shown, "name part must be no more than 63 bytes"));
    }
    if !is_word(name) {
        causes.push(Cause::invalid(field, &shown, KEY));
    }
}

/// A DNS label.
fn is_label(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 63
        && text.starts_with(is_plain)
        && text.ends_with(is_plain)
        && text.chars().all(|c| is_plain(c) || c == '-')
}

/// A label's value or the last part of its key.
fn is_word(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(is_plain) && text.ends_with(is_plain) && text.chars().all(|c| is_plain(c) || "-_.".contains(c))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn subsets(subsets: &Value, causes: &mut Vec<Cause>) {
    for (at, subset) in list(subsets).iter().enumerate() {
        let path = format!("subsets[{at}]");
        if list(&subset["addresses"]).is_empty() && list(&subset["notReadyAddresses"]).is_empty() {
            causes.push(Cause::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for kind in ["addresses", "notReadyAddresses"] {
            for (index, one) in list(&subset[kind]).iter().enumerate() {
                let path = format!("{path}.{kind}[{index}]");
                address(&format!("{path}.ip"), &one["ip"], causes);
                hostname(&format!("{path}.hostname"), &one["hostname"], causes);
            }
        }
        let ports = list(&subset["ports"]);
        for (index, port) in ports.iter().enumerate() {
            let path = format!("{path}.ports[{index}]");
            match port["name"].as_str().unwrap_or_default() {
                "" if ports.len() > 1 => causes.push(Cause::required(format!("{path}.name"), "")),
                "" => {}
                name if !is_label(name) => causes.push(Cause::invalid(format!("{path}.name"), &port["name"], LABEL)),
                _ => {}
            }
            if !(1..=65535).contains(&port["port"].as_i64().unwrap_or_default()) {
                let detail = "must be between 1 and 65535, inclusive";
                causes.push(Cause::invalid(format!("{path}.port"), &port["port"], detail));
            }
            protocol(&path, port, causes);
        }
    }
}

fn protocol(path: &str, port: &Value, causes: &mut Vec<Cause>) {
    let protocol = port["protocol"].as_str().unwrap_or_default();
    if !["TCP", "UDP", "SCTP"].contains(&protocol) {
        causes.push(Cause::unsupported(format!("{path}.protocol"), protocol, &["SCTP", "TCP", "UDP"]));
    }
}

fn hostname(path: &str, value: &Value, causes: &mut Vec<Cause>) {
    if value.as_str().is_some_and(|name| !name.is_empty() && !is_label(name)) {
        causes.push(Cause::invalid(path, value, LABEL));
    }
}

/// An address to which a service may lead.
fn address(path: &str, value: &Value, causes: &mut Vec<Cause>) -> Option<IpAddr> {
    let text = value.as_str().unwrap_or_default();
    let Ok(ip) = text.parse::<IpAddr>() else {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        causes.push(Cause::invalid(path, value, detail));
        return None;
    };
    let ip = ip.to_canonical();
    let (is_local, is_local_group) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    let mut refuse = |detail: &str| causes.push(Cause::invalid(path, value, detail));
    if ip.is_unspecified() {
        refuse(&format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        refuse("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if is_local {
        refuse("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if is_local_group {
        refuse("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
    Some(ip)
}

fn slice(slice: &Value, causes: &mut Vec<Cause>) {
    let kind = slice["addressType"].as_str().unwrap_or_default();
    match kind {
        "" => causes.push(Cause::required("addressType", "")),
        "IPv4" | "IPv6" | "FQDN" => {}
        other => causes.push(Cause::unsupported("addressType", other, &["FQDN", "IPv4", "IPv6"])),
    }
    for (at, endpoint) in list(&slice["endpoints"]).iter().enumerate() {
        let path = format!("endpoints[{at}]");
        let addresses = list(&endpoint["addresses"]);
        if addresses.is_empty() {
            causes.push(Cause::required(format!("{path}.addresses"), "must contain at least 1 address"));
        }
        for (index, value) in addresses.iter().enumerate().filter(|_| kind.starts_with("IP")) {
            let path = format!("{path}.addresses[{index}]");
            match address(&path, value, causes) {
                Some(IpAddr::V6(_)) if kind == "IPv4" => {
                    causes.push(Cause::invalid(path, value, "must be an IPv4 address"));
                }
                Some(IpAddr::V4(_)) if kind == "IPv6" => {
                    causes.push(Cause::invalid(path, value, "must be an IPv6 address"));
                }
                _ => {}
            }
        }
        hostname(&format!("{path}.hostname"), &endpoint["hostname"], causes);
    }
    let mut names: Vec<&str> = Vec::new();
    for (at, port) in list(&slice["ports"]).iter().enumerate() {
        let path = format!("ports[{at}]");
        let name = port["name"].as_str().unwrap_or_default();
        if !name.is_empty() && !is_label(name) {
            causes.push(Cause::invalid(format!("{path}.name"), &port["name"], LABEL));
        }
        if names.contains(&name) {
            causes.push(Cause::duplicate(format!("{path}.name"), &json!(name)));
        }
        names.push(name);
        // A number is not looked at.
        protocol(&path, port, causes);
    }
}

/// Of a ConfigMap's texts.
fn keys(field: &str, texts: &Value, causes: &mut Vec<Cause>) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    for key in texts.as_object().into_iter().flatten().map(|(key, _)| key) {
        if key.is_empty() || !key.chars().all(is_plain) {
            causes.push(Cause::invalid(format!("{field}[{key}]"), &json!(key), CONFIG_KEY));
        }
    }
}

fn lease(spec: &Value, causes: &mut Vec<Cause>) {
    if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
        let (path, value) = ("spec.leaseDurationSeconds", &spec["leaseDurationSeconds"]);
        causes.push(Cause::invalid(path, value, "must be greater than 0"));
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|count| count < 0) {
        let (path, value) = ("spec.leaseTransitions", &spec["leaseTransitions"]);
        causes.push(Cause::invalid(path, value, "must be greater than or equal to 0"));
    }
}
