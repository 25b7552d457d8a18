//! The verbs that make and change objects: create, update, patch.

use std::sync::Arc;

use serde_json::{Value, json};

use super::defaults;
use super::patch;
use super::refusal::{Cause, Refusal};
use super::resources::{Resource, Trait, named};
use super::shape::typed;
use super::store::{Key, Store, key};
use super::validation;

/// The object that a request names.
#[derive(Clone)]
pub struct Target {
    pub resource: &'static Resource,
    /// Empty for what is in no namespace.
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
    pub part: Part,
    pub effect: Effect,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything, but the status only where it is no subresource.
    Main,
    Status,
    /// Everything: what the test itself does.
    Whole,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Commit,
    /// `dryRun=All`.
    Try,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Created,
    Updated,
}

impl Target {
    pub fn key(&self) -> Key {
        key(self.resource, &self.namespace, &self.name)
    }

    pub fn named(&self, name: &str) -> Self {
        Target { name: name.to_owned(), ..self.clone() }
    }
}

/// The body as an object of the resource's kind.
fn decode(target: &Target, body: &[u8]) -> Result<Value, Refusal> {
    let resource = target.resource;
    let mut object: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("couldn't get version/kind; json parse error: {error}")))?;
    if !object.is_object() {
        let message =
            "couldn't get version/kind; json parse error: json: cannot unmarshal into Go value of type struct";
        return Err(Refusal::bad_request(message));
    }
    let (kind, version) = (resource.kind, resource.api_version());
    let is_other = |field: &str, wanted: &str| object[field].as_str().is_some_and(|v| !v.is_empty() && v != wanted);
    if is_other("apiVersion", &version) {
        let message = format!(
            "the API version in the data ({}) does not match the expected API version ({version})",
            text(&object["apiVersion"])
        );
        return Err(Refusal::bad_request(message));
    }
    if is_other("kind", kind) {
        let other = text(&object["kind"]);
        let message = format!("{other} in version {version:?} cannot be handled as a {kind}: no kind {kind} in it");
        return Err(Refusal::bad_request(message));
    }
    object["kind"] = json!(kind);
    object["apiVersion"] = json!(version);
    let object = typed(kind, resource.fields, &object).map_err(|why| {
        Refusal::bad_request(format!("{kind} in version {:?} cannot be handled as a {kind}: {why}", resource.version))
    })?;
    let namespace = text(&object["metadata"]["namespace"]);
    if !namespace.is_empty() && namespace != target.namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Refusal::bad_request(message));
    }
    Ok(object)
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub fn create(store: &mut Store, target: &Target, body: &[u8]) -> Result<Arc<Value>, Refusal> {
    let mut object = decode(target, body)?;
    if text(&object["metadata"]["name"]).is_empty() && !text(&object["metadata"]["generateName"]).is_empty() {
        let name = format!("{}{}", text(&object["metadata"]["generateName"]), super::random_letters(5));
        object["metadata"]["name"] = json!(name);
    }
    if !text(&object["metadata"]["resourceVersion"]).is_empty() {
        return Err(Refusal::internal("resourceVersion should not be set on objects to be created"));
    }
    let name = text(&object["metadata"]["name"]).to_owned();
    insert(store, &target.named(&name), object)
}

/// A new object, checked.
fn insert(store: &mut Store, target: &Target, mut object: Value) -> Result<Arc<Value>, Refusal> {
    let (resource, name) = (target.resource, &target.name);
    if !resource.is(Trait::Cluster) && store.get(&key(named("namespaces"), "", &target.namespace)).is_none() {
        return Err(Refusal::not_found(named("namespaces"), &target.namespace));
    }
    let metadata = object["metadata"].as_object_mut().expect("a typed object has metadata");
    for field in ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        metadata.shift_remove(field);
    }
    if !resource.is(Trait::Cluster) {
        metadata.insert("namespace".to_owned(), json!(target.namespace));
    }
    metadata.insert("uid".to_owned(), json!(super::new_uid()));
    metadata.insert("creationTimestamp".to_owned(), json!(super::now_text()));
    if resource.is(Trait::Generation) {
        metadata.insert("generation".to_owned(), json!(1));
    }
    let status = (target.part == Part::Whole).then(|| object["status"].take()).filter(|status| !status.is_null());
    set_status(&mut object, status.or_else(|| defaults::first_status(resource)));
    defaults::fill(resource, &mut object);
    let causes = validation::object(resource, &object);
    if !causes.is_empty() && target.part != Part::Whole {
        return Err(Refusal::invalid(resource, name, &causes));
    }
    let key = target.key();
    if store.get(&key).is_some() {
        return Err(Refusal::already_exists(resource, name));
    }
    Ok(match target.effect {
        Effect::Commit => store.put(key, object),
        Effect::Try => Arc::new(object),
    })
}

fn set_status(object: &mut Value, status: Option<Value>) {
    let Some(map) = object.as_object_mut() else { return };
    match status {
        Some(status) => map.insert("status".to_owned(), status),
        None => map.shift_remove("status"),
    };
}

fn check_name(target: &Target, object: &Value) -> Result<(), Refusal> {
    let name = text(&object["metadata"]["name"]);
    if name.is_empty() || name == target.name {
        return Ok(());
    }
    let message = format!("the name of the object ({name}) does not match the name on the URL ({})", target.name);
    Err(Refusal::bad_request(message))
}

pub fn update(store: &mut Store, target: &Target, body: &[u8]) -> Result<(Arc<Value>, Outcome), Refusal> {
    let mut object = decode(target, body)?;
    let name = text(&object["metadata"]["name"]);
    if !name.is_empty() && name != target.name {
        let message = format!("the name of the object ({name}) does not match the name on the URL ({})", target.name);
        return Err(Refusal::bad_request(message));
    }
    object["metadata"]["name"] = json!(target.name);
    let uid = text(&object["metadata"]["uid"]).to_owned();
    let old = store.get(&target.key());
    let current = old.as_ref().map_or("", |old| text(&old["metadata"]["uid"]));
    if !uid.is_empty() && uid != current {
        let version = old.as_ref().map_or("0", |old| text(&old["metadata"]["resourceVersion"]));
        let key = format!("/registry/{}/{}/{}", target.resource.plural, target.namespace, target.name);
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: {version}, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {uid}, UID in object meta: {current}"
        );
        return Err(Refusal::conflict(target.resource, &target.name, &why));
    }
    match old {
        Some(old) => Ok((replace(store, target, &old, object)?, Outcome::Updated)),
        None if target.resource.is(Trait::CreateOnUpdate) && target.part != Part::Status => {
            Ok((insert(store, target, object)?, Outcome::Created))
        }
        None => Err(Refusal::not_found(target.resource, &target.name)),
    }
}

pub fn patch(store: &mut Store, target: &Target, kind: patch::Kind, body: &[u8]) -> Result<Arc<Value>, Refusal> {
    let resource = target.resource;
    let old = store.get(&target.key()).ok_or_else(|| Refusal::not_found(resource, &target.name))?;
    let patched = patch::apply(kind, resource, &old, body)?;
    let mut object = typed(resource.kind, resource.fields, &patched).map_err(|why| patch::misfit(body, &why))?;
    check_name(target, &object)?;
    for field in ["kind", "apiVersion"] {
        if object[field] != old[field] {
            let why = format!("{field} does not match the object's: {}", object[field]);
            return Err(Refusal::bad_request(why));
        }
    }
    if text(&object["metadata"]["namespace"]) != target.namespace {
        if !text(&object["metadata"]["namespace"]).is_empty() {
            let message = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Refusal::bad_request(message));
        }
        object["metadata"]["namespace"] = json!(target.namespace);
    }
    replace(store, target, &old, object)
}

/// The new state of an object that is there, checked.
fn replace(store: &mut Store, target: &Target, old: &Value, mut object: Value) -> Result<Arc<Value>, Refusal> {
    let (resource, name) = (target.resource, &target.name);
    let version = text(&object["metadata"]["resourceVersion"]);
    if version.is_empty() && !resource.is(Trait::Unconditional) {
        let cause = Cause::no_version("metadata.resourceVersion");
        // This one names the resource where others name the kind.
        return Err(Refusal::invalid_kind(resource.group, resource.plural, name, &[cause]));
    }
    if !version.is_empty() && version != text(&old["metadata"]["resourceVersion"]) {
        return Err(Refusal::modified(resource, name));
    }
    keep_what_is_the_servers(target, old, &mut object);
    defaults::fill(resource, &mut object);
    let mut causes = validation::update(resource, old, &object);
    causes.extend(validation::object(resource, &object));
    if !causes.is_empty() && target.part != Part::Whole {
        return Err(Refusal::invalid(resource, name, &causes));
    }
    if resource.is(Trait::Generation) && has_new_generation(resource, old, &object) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
        object["metadata"]["generation"] = json!(generation);
    }
    let metadata = &object["metadata"];
    let is_over = metadata.get("deletionTimestamp").is_some()
        && metadata.get("finalizers").is_none()
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() == 0;
    let key = target.key();
    if target.effect == Effect::Try {
        return Ok(Arc::new(object));
    }
    if object == *old {
        return Ok(Arc::new(object));
    }
    if is_over {
        store.remove(&key);
        return Ok(Arc::new(object));
    }
    Ok(store.put(key, object))
}

fn keep_what_is_the_servers(target: &Target, old: &Value, object: &mut Value) {
    let metadata = object["metadata"].as_object_mut().expect("a typed object has metadata");
    if metadata.get("uid").is_none_or(|uid| text(uid).is_empty()) {
        metadata.insert("uid".to_owned(), old["metadata"]["uid"].clone());
    }
    metadata.shift_remove("selfLink");
    let kept = [
        "namespace",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    for field in kept {
        match old["metadata"].get(field) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.shift_remove(field),
        };
    }
    if !target.resource.is(Trait::Status) {
        return;
    }
    match target.part {
        Part::Main => set_status(object, old.get("status").cloned()),
        Part::Status => {
            let status = object.get("status").cloned();
            let metadata = object["metadata"].take();
            *object = old.clone();
            object["metadata"] = metadata;
            set_status(object, status);
        }
        Part::Whole => {}
    }
}

fn has_new_generation(resource: &Resource, old: &Value, new: &Value) -> bool {
    let content = |object: &Value| {
        let mut object = object.clone();
        if let Some(map) = object.as_object_mut() {
            map.shift_remove("metadata");
            map.shift_remove("status");
        }
        object
    };
    let is_relabelled = old["metadata"]["labels"] != new["metadata"]["labels"];
    content(old) != content(new) || resource.plural == "endpointslices" && is_relabelled
}
