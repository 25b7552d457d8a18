//! The verbs that take objects away: delete, deletecollection.

use std::sync::Arc;

use serde_json::{Value, json};

use super::refusal::Refusal;
use super::resources::Trait;
use super::selector::Selector;
use super::store::Store;
use super::write::{Effect, Target, text};

/// What the body of a deletion asks for.
#[derive(Default)]
pub struct DeleteOptions {
    pub uid: String,
    pub version: String,
    pub grace_seconds: Option<i64>,
}

impl DeleteOptions {
    pub fn read(body: &[u8]) -> Result<(Self, Effect), Refusal> {
        if body.is_empty() {
            return Ok((DeleteOptions::default(), Effect::Commit));
        }
        let body: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::bad_request(format!("couldn't get version/kind; json parse error: {error}")))?;
        let conditions = &body["preconditions"];
        let options = DeleteOptions {
            uid: text(&conditions["uid"]).to_owned(),
            version: text(&conditions["resourceVersion"]).to_owned(),
            grace_seconds: body["gracePeriodSeconds"].as_i64(),
        };
        let is_dry = body["dryRun"].as_array().is_some_and(|runs| !runs.is_empty());
        Ok((options, if is_dry { Effect::Try } else { Effect::Commit }))
    }
}

/// The answer to a deletion: the object, or a Status.
pub fn delete(store: &mut Store, target: &Target, options: &DeleteOptions) -> Result<Value, Refusal> {
    let (resource, name) = (target.resource, &target.name);
    let old = store.get(&target.key()).ok_or_else(|| Refusal::not_found(resource, name))?;
    let (uid, version) = (text(&old["metadata"]["uid"]), text(&old["metadata"]["resourceVersion"]));
    let differs = |what: &str, wanted: &str, is: &str, end: &str| {
        let why = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). \
             The object might have been {end}"
        );
        Refusal::conflict(resource, name, &why)
    };
    if !options.uid.is_empty() && options.uid != uid {
        return Err(differs("UID", &options.uid, uid, "deleted and then recreated"));
    }
    if !options.version.is_empty() && options.version != version {
        return Err(differs("ResourceVersion", &options.version, version, "modified"));
    }
    let is_on_node = resource.is(Trait::Graceful) && old["spec"]["nodeName"].is_string();
    let grace = match options.grace_seconds.or(old["spec"]["terminationGracePeriodSeconds"].as_i64()) {
        Some(seconds) if is_on_node => seconds,
        Some(_) | None => 0,
    };
    if grace > 0 || old["metadata"].get("finalizers").is_some() {
        return Ok(Value::clone(&*mark(store, target, &old, grace)));
    }
    let last = match target.effect {
        Effect::Commit => {
            if resource.plural == "namespaces" {
                store.empty(name);
            }
            store.remove(&target.key()).unwrap_or(old)
        }
        Effect::Try => old,
    };
    if resource.is(Trait::ReturnsDeleted) {
        return Ok(Value::clone(&last));
    }
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    status["details"] = json!({"name": name, "kind": resource.plural, "uid": last["metadata"]["uid"]});
    if !resource.group.is_empty() {
        status["details"]["group"] = json!(resource.group);
    }
    Ok(status)
}

/// The first step of a deletion in two.
fn mark(store: &mut Store, target: &Target, old: &Arc<Value>, grace: i64) -> Arc<Value> {
    let mut marked = Value::clone(old);
    if marked["metadata"].get("deletionTimestamp").is_none() {
        marked["metadata"]["deletionTimestamp"] = json!(super::now_text());
    }
    marked["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    if marked == **old || target.effect == Effect::Try {
        return Arc::clone(old);
    }
    store.put(target.key(), marked)
}

/// Deletes what matches; answers with what there was.
pub fn delete_collection(
    store: &mut Store,
    target: &Target,
    selector: &Selector,
    options: &DeleteOptions,
) -> Result<Vec<Arc<Value>>, Refusal> {
    let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
    let mut deleted = Vec::new();
    for ((_, namespace, name), object) in store.list(target.resource, namespace) {
        if selector.matches(&object) {
            let one = Target { namespace, ..target.named(&name) };
            delete(store, &one, options)?;
            deleted.push(object);
        }
    }
    Ok(deleted)
}
