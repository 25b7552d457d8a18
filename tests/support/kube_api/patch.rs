//! The three kinds of patches: strategic merge, JSON merge (RFC 7386) and JSON patch (RFC 6902).

use serde_json::{Map, Value};

use super::refusal::{Cause, Refusal};
use super::resources::Resource;
use super::shape::{Merge, Shape};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Strategic,
    Merge,
    Json,
}

/// By the header Content-Type.
pub fn kind(content_type: &str) -> Result<Kind, Refusal> {
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/strategic-merge-patch+json" => Ok(Kind::Strategic),
        "application/merge-patch+json" => Ok(Kind::Merge),
        "application/json-patch+json" => Ok(Kind::Json),
        // Server-side apply is not there, which a client sees as of a server that is too old for it.
        _ => Err(Refusal::unknown_patch()),
    }
}

/// The object with the patch applied; it still has to be read as the typed object that it must be.
pub fn apply(kind: Kind, resource: &Resource, object: &Value, patch: &[u8]) -> Result<Value, Refusal> {
    let patch: Value = serde_json::from_slice(patch)
        .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))?;
    let mut patched = object.clone();
    match (kind, &patch) {
        (Kind::Strategic, Value::Object(map)) => {
            let root = Shape::Object(resource.fields);
            patched = strategic(patched, map, &root);
        }
        (Kind::Merge, Value::Object(_)) => merge(&mut patched, &patch),
        (Kind::Json, Value::Array(operations)) => {
            for operation in operations {
                operate(&mut patched, operation).ok_or_else(Refusal::unprocessable)?;
            }
        }
        (Kind::Strategic | Kind::Merge, _) => {
            let message = "json: cannot unmarshal array into Go value of type map[string]interface {}";
            return Err(Refusal::bad_request(message));
        }
        (Kind::Json, _) => {
            return Err(Refusal::bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch"));
        }
    }
    Ok(patched)
}

/// A patched object that is no object of its kind.
pub fn misfit(patch: &[u8], why: &str) -> Refusal {
    let value = Value::String(String::from_utf8_lossy(patch).into_owned());
    Refusal::invalid_kind("", "", "", &[Cause::invalid("patch", &value, why)])
}

fn strategic(target: Value, patch: &Map<String, Value>, shape: &Shape) -> Value {
    let mut target = match target {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => target.clear(),
        Some("delete") => return Value::Object(Map::new()),
        _ => {}
    }
    if let Some(Value::Array(keys)) = patch.get("$retainKeys") {
        target.retain(|key, _| keys.iter().any(|kept| kept == key));
    }
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            remove_values(target.get_mut(list), value);
        }
    }
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        let inner = shape.of(key);
        let old = target.get(key).cloned();
        match value {
            Value::Null => {
                target.shift_remove(key);
            }
            Value::Object(map) => {
                target.insert(key.clone(), strategic(old.unwrap_or_default(), map, inner));
            }
            Value::Array(values) => {
                let order = patch.get(&format!("$setElementOrder/{key}"));
                let old = old.and_then(|old| old.as_array().cloned()).unwrap_or_default();
                target.insert(key.clone(), Value::Array(list(old, values, order, inner, key)));
            }
            plain => {
                target.insert(key.clone(), plain.clone());
            }
        }
    }
    Value::Object(target)
}

fn remove_values(list: Option<&mut Value>, values: &Value) {
    if let (Some(Value::Array(list)), Value::Array(values)) = (list, values) {
        list.retain(|value| !values.contains(value));
    }
}

fn list(old: Vec<Value>, patch: &[Value], order: Option<&Value>, shape: &Shape, name: &str) -> Vec<Value> {
    let is_directive = |value: &&Value| value.get("$patch").and_then(Value::as_str) == Some("replace");
    if patch.iter().any(|value| is_directive(&value)) {
        return patch.iter().filter(|value| !is_directive(value)).cloned().collect();
    }
    match shape.merge(name, if old.is_empty() { patch } else { &old }) {
        Merge::Replace => patch.to_vec(),
        Merge::Union => {
            let mut merged = old;
            for value in patch {
                if !merged.contains(value) {
                    merged.push(value.clone());
                }
            }
            merged
        }
        Merge::By(key) => {
            let mut merged = by_key(old, patch, shape.element(), key);
            if let Some(Value::Array(order)) = order {
                let place = |value: &Value| order.iter().position(|wanted| wanted[key] == value[key]);
                merged.sort_by_key(|value| place(value).unwrap_or(usize::MAX));
            }
            merged
        }
    }
}

fn by_key(old: Vec<Value>, patch: &[Value], shape: &Shape, key: &str) -> Vec<Value> {
    let mut merged = old;
    for element in patch {
        let Value::Object(map) = element else { continue };
        let same = merged.iter().position(|value| value[key] == element[key]);
        let is_deleted = map.get("$patch").and_then(Value::as_str) == Some("delete");
        match (same, is_deleted) {
            (Some(at), true) => {
                merged.remove(at);
            }
            (None, true) => {}
            (Some(at), false) => merged[at] = strategic(merged[at].take(), map, shape),
            (None, false) => merged.push(strategic(Value::Null, map, shape)),
        }
    }
    merged
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.shift_remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// `None` where it does not apply.
fn operate(document: &mut Value, operation: &Value) -> Option<()> {
    let path = operation["path"].as_str()?;
    let value = || operation.get("value").cloned().unwrap_or_default();
    match operation["op"].as_str()? {
        "add" => add(document, path, value()),
        "remove" => remove(document, path).map(drop),
        "replace" => {
            *document.pointer_mut(path)? = value();
            Some(())
        }
        "move" => {
            let moved = remove(document, operation["from"].as_str()?)?;
            add(document, path, moved)
        }
        "copy" => {
            let copied = document.pointer(operation["from"].as_str()?)?.clone();
            add(document, path, copied)
        }
        // As on the server, what is absent equals null.
        "test" => (document.pointer(path).cloned().unwrap_or_default() == value()).then_some(()),
        _ => None,
    }
}

/// The parent of a path, and the last part.
fn parent<'a>(document: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (above, last) = path.rsplit_once('/')?;
    Some((document.pointer_mut(above)?, last.replace("~1", "/").replace("~0", "~")))
}

fn add(document: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *document = value;
        return Some(());
    }
    let (parent, last) = parent(document, path)?;
    match parent {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(values) if last == "-" => values.push(value),
        Value::Array(values) => {
            let at = last.parse().ok().filter(|at: &usize| *at <= values.len())?;
            values.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(document: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = parent(document, path)?;
    match parent {
        Value::Object(map) => map.shift_remove(&last),
        Value::Array(values) => {
            let at = last.parse().ok().filter(|at: &usize| *at < values.len())?;
            Some(values.remove(at))
        }
        _ => None,
    }
}
