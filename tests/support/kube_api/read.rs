//! Get and list: versions, pages, and the forms in which objects are shown.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::asked::Query;
use super::refusal::{Cause, Refusal};
use super::resources::Resource;
use super::store::{Key, Store};
use super::table::Form;
use super::write::Target;

/// What a list is to be of.
struct Wanted {
    /// `None`: the latest.
    version: Option<u64>,
    /// The key behind which it begins.
    after: Option<(String, String)>,
    limit: usize,
}

pub fn get(store: &Store, target: &Target, query: &Query) -> Result<Arc<Value>, Refusal> {
    if let Some(asked) = version(query.text("resourceVersion"))?
        && asked > store.revision()
    {
        return Err(Refusal::too_large_version(asked, store.revision()));
    }
    store.get(&target.key()).ok_or_else(|| Refusal::not_found(target.resource, &target.name))
}

/// A resourceVersion as a request gives it; absent and 0 are `None`.
pub fn version(text: &str) -> Result<Option<u64>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = |_| {
        let detail = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        Refusal::bad_request(format!("resourceVersion: Invalid value: {text:?}: {detail}"))
    };
    Ok(Some(text.parse::<u64>().map_err(invalid)?).filter(|version| *version > 0))
}

pub fn list(store: &Store, target: &Target, query: &Query, form: &Form) -> Result<Value, Refusal> {
    let resource = target.resource;
    let selector = query.selector().map_err(Refusal::bad_request)?;
    if let Some(complaint) = selector.complaint(resource.kind) {
        return Err(Refusal::bad_request(complaint));
    }
    let wanted = wanted(store, query)?;
    let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
    let objects = match wanted.version {
        None => store.list(resource, namespace),
        Some(version) => store.list_at(resource, namespace, version).map_err(|_| {
            if query.text("continue").is_empty() {
                Refusal::expired("The resourceVersion for the provided list is too old.")
            } else {
                expired_token(store, query)
            }
        })?,
    };
    let version = wanted.version.unwrap_or(store.revision());
    let is_behind =
        |key: &Key| wanted.after.as_ref().is_none_or(|(namespace, name)| (&key.1, &key.2) > (namespace, name));
    let mut left = objects.into_iter().filter(|(key, object)| is_behind(key) && selector.matches(object));
    let page: Vec<(Key, Arc<Value>)> = left.by_ref().take(wanted.limit).collect();
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
    let remaining = left.count();
    if let (Some((key, _)), true) = (page.last(), remaining > 0) {
        metadata.insert("continue".to_owned(), json!(token(version, &key.1, &key.2)));
        if selector.is_empty() {
            metadata.insert("remainingItemCount".to_owned(), json!(remaining));
        }
    }
    let objects: Vec<Arc<Value>> = page.into_iter().map(|(_, object)| object).collect();
    Ok(form.list(resource, Value::Object(metadata), &objects))
}

fn wanted(store: &Store, query: &Query) -> Result<Wanted, Refusal> {
    let asked = query.text("resourceVersion");
    let limit = query.number("limit").filter(|limit| *limit > 0);
    let mut wanted = Wanted { version: None, after: None, limit: usize::MAX };
    if let Some(limit) = limit {
        wanted.limit = usize::try_from(limit).unwrap_or(usize::MAX);
    }
    let exact = query.text("resourceVersionMatch");
    check_match(asked, exact, query)?;
    let token = query.text("continue");
    if !token.is_empty() {
        if !asked.is_empty() && asked != "0" {
            return Err(Refusal::bad_request("specifying resource version is not allowed when using continue"));
        }
        let (version, namespace, name) = read_token(token)?;
        wanted.after = Some((namespace, name));
        wanted.version = version;
        return Ok(wanted);
    }
    if asked == "0" {
        // Whatever is at hand, which is all of it.
        wanted.limit = usize::MAX;
    }
    let Some(version) = version(asked)? else { return Ok(wanted) };
    if version > store.revision() {
        return Err(Refusal::too_large_version(version, store.revision()));
    }
    if exact == "Exact" || exact.is_empty() && limit.is_some() {
        wanted.version = Some(version);
    }
    Ok(wanted)
}

fn check_match(asked: &str, exact: &str, query: &Query) -> Result<(), Refusal> {
    let refuse = |cause| Err(Refusal::invalid_kind("meta.k8s.io", "ListOptions", "", &[cause]));
    let forbidden = |detail: &str| refuse(Cause::forbidden("resourceVersionMatch", detail));
    match exact {
        "" => Ok(()),
        _ if asked.is_empty() => forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"),
        _ if !query.text("continue").is_empty() => {
            forbidden("resourceVersionMatch is forbidden when continue is provided")
        }
        "Exact" if asked == "0" => forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""),
        "Exact" | "NotOlderThan" => Ok(()),
        other => refuse(Cause::unsupported("resourceVersionMatch", other, &["Exact", "NotOlderThan", ""])),
    }
}

/// Where the next page begins, and of which version; -1 is whatever is the latest then.
fn token(version: impl std::fmt::Display, namespace: &str, name: &str) -> String {
    let text = format!("{{\"v\":\"meta.k8s.io/v1\",\"rv\":{version},\"start\":\"{namespace}/{name}\\u0000\"}}");
    URL_SAFE_NO_PAD.encode(text)
}

fn read_token(token: &str) -> Result<(Option<u64>, String, String), Refusal> {
    let invalid = || Refusal::bad_request("continue key is not valid: encoded value is malformed");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
    let content: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let start = content["start"].as_str().map(|start| start.trim_end_matches('\0')).ok_or_else(invalid)?;
    let (namespace, name) = start.split_once('/').ok_or_else(invalid)?;
    let version = content["rv"].as_i64().ok_or_else(invalid)?;
    Ok((u64::try_from(version).ok(), namespace.to_owned(), name.to_owned()))
}

fn expired_token(store: &Store, query: &Query) -> Refusal {
    let mut refusal = Refusal::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    if let Ok((_, namespace, name)) = read_token(query.text("continue")) {
        refusal.status["metadata"] =
            json!({"resourceVersion": store.revision().to_string(), "continue": token(-1, &namespace, &name)});
    }
    refusal
}

/// An object in a list: there, kind and version stand at the list alone.
pub fn item(object: &Value) -> Value {
    let mut item = object.clone();
    if let Some(map) = item.as_object_mut() {
        map.shift_remove("kind");
        map.shift_remove("apiVersion");
    }
    item
}

/// A list in its plain form.
pub fn plain_list(resource: &Resource, metadata: Value, objects: &[Arc<Value>]) -> Value {
    let items: Vec<Value> = objects.iter().map(|object| item(object)).collect();
    json!({
        "kind": format!("{}List", resource.kind),
        "apiVersion": resource.api_version(),
        "metadata": metadata,
        "items": items,
    })
}
