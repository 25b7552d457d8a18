//! The answers that say no, in the words of the API server: objects of the kind Status.

use serde_json::{Map, Value, json};

use super::resources::Resource;

#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: u16,
    pub status: Value,
    /// The header Retry-After, in seconds.
    pub retry_after: Option<u32>,
}

/// One complaint of a validation.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    pub field: String,
    pub reason: &'static str,
    pub message: String,
}

impl Cause {
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        Cause { field: field.into(), reason: "FieldValueRequired", message: format!("Required value{detail}") }
    }

    /// The value is shown as Go prints it.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        let message = format!("Invalid value: {value}: {detail}");
        Cause { field: field.into(), reason: "FieldValueInvalid", message }
    }

    /// A resourceVersion that is left out where there has to be one; Go shows the unsigned number that it has read.
    pub fn no_version(field: &str) -> Self {
        let message = "Invalid value: 0x0: must be specified for an update".to_owned();
        Cause { field: field.to_owned(), reason: "FieldValueInvalid", message }
    }

    pub fn unsupported(field: impl Into<String>, value: &str, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let message = format!("Unsupported value: {value:?}: supported values: {}", supported.join(", "));
        Cause { field: field.into(), reason: "FieldValueNotSupported", message }
    }

    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Cause { field: field.into(), reason: "FieldValueDuplicate", message: format!("Duplicate value: {value}") }
    }

    pub fn too_long(field: impl Into<String>, detail: &str) -> Self {
        Cause { field: field.into(), reason: "FieldValueTooLong", message: format!("Too long: {detail}") }
    }

    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Cause { field: field.into(), reason: "FieldValueForbidden", message: format!("Forbidden: {detail}") }
    }
}

/// What `details` names.
#[derive(Default)]
struct Details<'a> {
    name: &'a str,
    group: &'a str,
    kind: &'a str,
}

impl Details<'_> {
    fn write(&self) -> Map<String, Value> {
        let mut details = Map::new();
        for (key, value) in [("name", self.name), ("group", self.group), ("kind", self.kind)] {
            if !value.is_empty() {
                details.insert(key.to_owned(), value.into());
            }
        }
        details
    }
}

impl Refusal {
    fn new(code: u16, reason: &str, message: String, details: Option<Map<String, Value>>) -> Self {
        let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"});
        status["message"] = message.into();
        if !reason.is_empty() {
            status["reason"] = reason.into();
        }
        if let Some(details) = details {
            status["details"] = Value::Object(details);
        }
        status["code"] = code.into();
        Refusal { code, status, retry_after: None }
    }

    /// `details` with a resource's name, as most have it.
    fn on(code: u16, reason: &str, resource: &Resource, name: &str, message: String) -> Self {
        let details = Details { name, group: resource.group, kind: resource.plural };
        Refusal::new(code, reason, message, Some(details.write()))
    }

    pub fn unauthorized() -> Self {
        Refusal::new(401, "Unauthorized", "Unauthorized".to_owned(), None)
    }

    /// `what` names verb and resource.
    pub fn forbidden(group: &str, resource: &str, name: &str, what: &str) -> Self {
        let qualified = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        let message = match (resource, name) {
            ("", _) => format!("forbidden: {what}"),
            (_, "") => format!("{qualified} is forbidden: {what}"),
            _ => format!("{qualified} {name:?} is forbidden: {what}"),
        };
        Refusal::new(403, "Forbidden", message, Some(Details { name, group, kind: resource }.write()))
    }

    pub fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified());
        Refusal::on(404, "NotFound", resource, name, message)
    }

    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Refusal::on(409, "AlreadyExists", resource, name, message)
    }

    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified());
        Refusal::on(409, "Conflict", resource, name, message)
    }

    /// A stale resourceVersion.
    pub fn modified(resource: &Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Refusal::conflict(resource, name, why)
    }

    pub fn invalid(resource: &Resource, name: &str, causes: &[Cause]) -> Self {
        Refusal::invalid_kind(resource.group, resource.kind, name, causes)
    }

    pub fn invalid_kind(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let errors: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let errors = if errors.len() == 1 { errors[0].clone() } else { format!("[{}]", errors.join(", ")) };
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let mut details = Details { name, group, kind }.write();
        let cause = |cause: &Cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field});
        details.insert("causes".to_owned(), causes.iter().map(cause).collect());
        Refusal::new(422, "Invalid", format!("{qualified} {name:?} is invalid: {errors}"), Some(details))
    }

    /// A JSON patch that cannot be carried out; the server does not say why.
    pub fn unprocessable() -> Self {
        let message = "the server rejected our request due to an error in our request".to_owned();
        Refusal::new(422, "Invalid", message, Some(Map::new()))
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Refusal::new(400, "BadRequest", message.into(), None)
    }

    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Refusal::new(415, "UnsupportedMediaType", message, Some(Map::new()))
    }

    pub fn unknown_patch() -> Self {
        Refusal::new(415, "UnsupportedMediaType", "415: Unsupported Media Type".to_owned(), Some(Map::new()))
    }

    pub fn not_acceptable() -> Self {
        let types = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
        let message = format!("only the following media types are accepted: {types}");
        Refusal::new(406, "NotAcceptable", message, Some(Map::new()))
    }

    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource".to_owned();
        Refusal::new(405, "MethodNotAllowed", message, Some(Map::new()))
    }

    pub fn unknown_resource() -> Self {
        let message = "the server could not find the requested resource".to_owned();
        Refusal::new(404, "NotFound", message, Some(Map::new()))
    }

    pub fn too_large() -> Self {
        let message = "Request entity too large: limit is 3145728".to_owned();
        Refusal::new(413, "RequestEntityTooLarge", message, Some(Map::new()))
    }

    pub fn internal(message: &str) -> Self {
        Refusal::new(500, "", message.to_owned(), None)
    }

    /// A version that is no longer kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Refusal::new(410, "Expired", message.into(), None)
    }

    /// A version that is not there yet.
    pub fn too_large_version(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let mut refusal = Refusal::new(504, "Timeout", message, Some(Map::new()));
        let cause = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
        refusal.status["details"] = json!({"causes": cause, "retryAfterSeconds": 1});
        refusal.retry_after = Some(1);
        refusal
    }
}
