//! What there is: the paths that clients read before they ask for objects, and the question what one may do.

use bytes::Bytes;
use serde_json::{Value, json};

use super::access::User;
use super::asked::Asked;
use super::refusal::Refusal;
use super::resources::{Resource, Trait, all};
use super::server::State;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const OPENAPI: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The release that this server stands in for.
pub const RELEASE: (&str, &str) = ("1", "36");

/// Media type and body; `None` where there is nothing. `without`: a group that is there in other versions only.
pub fn answer(path: &str, accept: &str, without: &str) -> Option<(&'static str, Bytes)> {
    let found = match path.trim_end_matches('/') {
        "/healthz" | "/livez" | "/readyz" => return Some((TEXT, Bytes::from_static(b"ok"))),
        "/openapi/v2" => return Some(openapi(accept)),
        "/version" => version(),
        "/api" => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        "/apis" => {
            let there = groups().into_iter().filter(|(group, _)| *group != without);
            let groups: Vec<Value> = there.map(|(group, version)| one_group(group, version)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        "/api/v1" => resources("", "v1"),
        path => {
            let mut parts = path.strip_prefix("/apis/")?.split('/');
            let (group, version) = (parts.next()?, parts.next());
            let (group, first) = groups().into_iter().find(|(name, _)| *name == group && *name != without)?;
            match version {
                None => one_group(group, first),
                Some(version) if version == first => resources(group, version),
                Some(_) => return None,
            }
        }
    };
    Some((JSON, Bytes::from(found.to_string())))
}

fn version() -> Value {
    let (major, minor) = RELEASE;
    json!({
        "major": major,
        "minor": minor,
        "gitVersion": format!("v{major}.{minor}.0"),
        "gitCommit": "0000000000000000000000000000000000000000",
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": "go1.25.0",
        "compiler": "gc",
        "platform": "linux/amd64",
    })
}

/// A document without definitions: clients that check against it skip kinds that they don't find.
fn openapi(accept: &str) -> (&'static str, Bytes) {
    if accept.contains("protobuf") {
        // Fields of gnostic's Document: 1 swagger, 2 info (1 title, 2 version).
        let title = b"\x0a\x03api\x12\x011";
        let mut document = b"\x0a\x032.0\x12".to_vec();
        document.push(u8::try_from(title.len()).expect("a short text"));
        document.extend_from_slice(title);
        return (OPENAPI, Bytes::from(document));
    }
    let document = json!({"swagger": "2.0", "info": {"title": "api", "version": "1"}, "paths": {}, "definitions": {}});
    (JSON, Bytes::from(document.to_string()))
}

/// Whether a path lies in a group that is there, in whatever version.
pub fn is_in_group(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/apis/") else { return path.starts_with("/api/v1/") };
    groups().iter().any(|(name, _)| rest.split('/').next() == Some(name))
}

/// The groups beside the core's, each with its one version.
fn groups() -> Vec<(&'static str, &'static str)> {
    let mut groups = vec![("authorization.k8s.io", "v1")];
    for resource in all() {
        if !resource.group.is_empty() && !groups.contains(&(resource.group, resource.version)) {
            groups.push((resource.group, resource.version));
        }
    }
    groups
}

fn one_group(group: &str, version: &str) -> Value {
    let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": [version], "preferredVersion": version})
}

fn resources(group: &str, version: &str) -> Value {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut listed = Vec::new();
    if group == "authorization.k8s.io" {
        for kind in ["SelfSubjectAccessReview", "SubjectAccessReview"] {
            let name = format!("{}s", kind.to_lowercase());
            let entry =
                json!({"name": name, "singularName": "", "namespaced": false, "kind": kind, "verbs": ["create"]});
            listed.push(entry);
        }
    }
    for resource in all().iter().filter(|resource| resource.group == group && resource.version == version) {
        listed.push(entry(
            resource,
            "",
            &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        ));
        if resource.is(Trait::Status) {
            listed.push(entry(resource, "/status", &["get", "patch", "update"]));
        }
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": listed})
}

fn entry(resource: &Resource, suffix: &str, verbs: &[&str]) -> Value {
    let mut entry = json!({
        "name": format!("{}{suffix}", resource.plural),
        "singularName": if suffix.is_empty() { resource.kind.to_lowercase() } else { String::new() },
        "namespaced": !resource.is(Trait::Cluster),
        "kind": resource.kind,
        "verbs": verbs,
    });
    if suffix.is_empty() && ["pods", "services", "statefulsets"].contains(&resource.plural) {
        entry["categories"] = json!(["all"]);
    }
    if suffix.is_empty() && !resource.short.is_empty() {
        entry["shortNames"] = json!(resource.short);
    }
    entry
}

/// What one may oneself, or what somebody else may: SelfSubjectAccessReview (`kubectl auth can-i`), SubjectAccessReview.
pub fn review(state: &State, user: &User, asked: &Asked, body: &[u8]) -> Result<Value, Refusal> {
    let mut review: Value =
        serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("json parse error: {error}")))?;
    let subject = match (asked.verb.as_str(), asked.resource.as_str()) {
        ("create", "selfsubjectaccessreviews") => user.clone(),
        ("create", "subjectaccessreviews") => User {
            name: review["spec"]["user"].as_str().unwrap_or_default().to_owned(),
            groups: strings(&review["spec"]["groups"]),
        },
        _ => return Err(Refusal::unknown_resource()),
    };
    let attributes = &review["spec"]["resourceAttributes"];
    let text = |field: &str| attributes[field].as_str().unwrap_or_default().to_owned();
    let question = Asked {
        verb: text("verb"),
        group: text("group"),
        version: text("version"),
        resource: text("resource"),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
        path: String::new(),
    };
    let is_allowed = question.is_resource() && state.access.is_allowed(&state.store, &subject, &question);
    review["status"] = json!({"allowed": is_allowed});
    Ok(review)
}

fn strings(list: &Value) -> Vec<String> {
    let values = list.as_array().map_or(&[][..], Vec::as_slice);
    values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}
