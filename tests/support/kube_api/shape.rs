//! What the fields of an object are: a server keeps typed objects, so a field that it does not know is dropped, a value of
//! the wrong type is refused, and what is empty is left out of answers. The same tables say how strategic merge patches
//! treat a list.

use serde_json::{Map, Value};

/// What a value must be.
pub enum Shape {
    /// Kept as it is given.
    Any,
    Text,
    Int,
    Bool,
    /// RFC 3339, in whole seconds.
    Time,
    /// RFC 3339 with exactly six digits of a second.
    MicroTime,
    /// Keys to texts: labels, annotations.
    TextMap,
    Object(&'static [Field]),
    List(&'static Shape, Merge),
}

/// What a strategic merge patch does with a list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    Replace,
    /// A set of plain values.
    Union,
    /// Elements are objects, known by this field.
    By(&'static str),
}

pub struct Field {
    pub name: &'static str,
    pub shape: Shape,
    keep: Keep,
}

/// When a field stands in an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Go's `omitempty`: unless it is empty.
    Filled,
    /// A pointer: whenever it was given.
    Given,
    Always,
}

pub const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, keep: Keep::Filled }
}

/// A field that distinguishes empty from absent.
pub const fn pointer(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, keep: Keep::Given }
}

/// A field that stands in every answer.
pub const fn always(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, keep: Keep::Always }
}

const OWNER: [Field; 6] = [
    always("apiVersion", Shape::Text),
    always("kind", Shape::Text),
    always("name", Shape::Text),
    always("uid", Shape::Text),
    pointer("controller", Shape::Bool),
    pointer("blockOwnerDeletion", Shape::Bool),
];

pub const METADATA: [Field; 14] = [
    field("name", Shape::Text),
    field("generateName", Shape::Text),
    field("namespace", Shape::Text),
    field("selfLink", Shape::Text),
    field("uid", Shape::Text),
    field("resourceVersion", Shape::Text),
    field("generation", Shape::Int),
    pointer("creationTimestamp", Shape::Time),
    pointer("deletionTimestamp", Shape::Time),
    pointer("deletionGracePeriodSeconds", Shape::Int),
    field("labels", Shape::TextMap),
    field("annotations", Shape::TextMap),
    field("ownerReferences", Shape::List(&Shape::Object(&OWNER), Merge::By("uid"))),
    field("finalizers", Shape::List(&Shape::Text, Merge::Union)),
];

impl Shape {
    /// The shape of a field of an object of this shape.
    pub fn of(&self, name: &str) -> &Shape {
        match self {
            Shape::Object(fields) => fields.iter().find(|field| field.name == name).map_or(&Shape::Any, |f| &f.shape),
            _ => &Shape::Any,
        }
    }

    /// How a list of this shape is merged. Where the shape says nothing, the field's name and its elements do: the lists
    /// of a pod's or a service's specification.
    pub fn merge(&self, name: &str, elements: &[Value]) -> Merge {
        let has = |key: &str| !elements.is_empty() && elements.iter().all(|element| element.get(key).is_some());
        match (self, name) {
            (Shape::List(_, merge), _) => *merge,
            (_, "containers" | "initContainers" | "ephemeralContainers" | "volumes" | "env" | "imagePullSecrets") => {
                Merge::By("name")
            }
            (_, "volumeMounts") => Merge::By("mountPath"),
            (_, "conditions") => Merge::By("type"),
            (_, "podIPs") => Merge::By("ip"),
            (_, "ports") if has("containerPort") => Merge::By("containerPort"),
            (_, "ports") if has("port") => Merge::By("port"),
            _ => Merge::Replace,
        }
    }

    /// The shape of a list's elements.
    pub fn element(&self) -> &Shape {
        match self {
            Shape::List(element, _) => element,
            _ => &Shape::Any,
        }
    }

    fn go_type(&self) -> &'static str {
        match self {
            Shape::Int => "int32",
            Shape::Bool => "bool",
            Shape::Text | Shape::Time | Shape::MicroTime => "string",
            Shape::TextMap => "map[string]string",
            Shape::List(..) => "[]interface {}",
            Shape::Object(_) | Shape::Any => "struct",
        }
    }
}

/// The object as a server would keep it; `Err` is the decoder's complaint.
pub fn typed(kind: &str, fields: &'static [Field], object: &Value) -> Result<Value, String> {
    let shape = Shape::Object(fields);
    let Some(value) = read(kind, "", &shape, object)? else { return Err(format!("{kind} is null")) };
    Ok(value)
}

/// The fields of a document that objects of this shape have not, with their paths. Directives of strategic merge patches
/// are none.
pub fn unknown(shape: &Shape, document: &Value, path: &str, found: &mut Vec<String>) {
    match (shape, document) {
        (Shape::Object(fields), Value::Object(map)) => {
            for (name, value) in map.iter().filter(|(name, _)| !name.starts_with('$')) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match fields.iter().find(|field| field.name == name) {
                    Some(field) => unknown(&field.shape, value, &path, found),
                    // It is a field of every object, which this server does not keep.
                    None if path == "metadata.managedFields" => {}
                    None => found.push(path),
                }
            }
        }
        (Shape::List(element, _), Value::Array(values)) => {
            for (at, value) in values.iter().enumerate() {
                unknown(element, value, &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}

/// `None` where there is nothing to keep.
fn read(kind: &str, path: &str, shape: &Shape, value: &Value) -> Result<Option<Value>, String> {
    let wrong = || {
        let name = type_name(value);
        format!("json: cannot unmarshal {name} into Go struct field {kind}{path} of type {}", shape.go_type())
    };
    Ok(Some(match (shape, value) {
        (_, Value::Null) => return Ok(None),
        (Shape::Any, value) => value.clone(),
        (Shape::Text, Value::String(_)) | (Shape::Bool, Value::Bool(_)) => value.clone(),
        (Shape::Int, Value::Number(number)) if number.is_i64() => value.clone(),
        (Shape::Time, Value::String(text)) => Value::String(time(text, "2006-01-02T15:04:05Z07:00")?),
        (Shape::MicroTime, Value::String(text)) => Value::String(time(text, MICRO)?),
        (Shape::TextMap, Value::Object(map)) => Value::Object(texts(kind, path, map)?),
        (Shape::Object(fields), Value::Object(map)) => Value::Object(object(kind, path, fields, map)?),
        (Shape::List(element, _), Value::Array(values)) => {
            let read = |value| Ok(read(kind, path, element, value)?.unwrap_or(Value::Null));
            Value::Array(values.iter().map(read).collect::<Result<_, String>>()?)
        }
        _ => return Err(wrong()),
    }))
}

fn texts(kind: &str, path: &str, map: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut read = Map::new();
    for (key, value) in map {
        let text = match value {
            // Go leaves the zero value where a document has null.
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => {
                let name = type_name(other);
                return Err(format!("json: cannot unmarshal {name} into Go struct field {kind}{path} of type string"));
            }
        };
        read.insert(key.clone(), Value::String(text));
    }
    Ok(read)
}

fn object(kind: &str, path: &str, fields: &[Field], map: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut kept = Map::new();
    for field in fields {
        let path = format!("{path}.{}", field.name);
        let value = read(kind, &path, &field.shape, map.get(field.name).unwrap_or(&Value::Null))?;
        match (value, field.keep) {
            (Some(value), Keep::Given) => kept.insert(field.name.to_owned(), value),
            (Some(value), Keep::Filled) if !is_empty(&value) => kept.insert(field.name.to_owned(), value),
            (None, Keep::Given) | (_, Keep::Filled) => None,
            (value, Keep::Always) => {
                let value = match (value, &field.shape) {
                    (Some(Value::Array(list)), _) if list.is_empty() => Value::Null,
                    (Some(value), _) => value,
                    (None, Shape::Object(fields)) => Value::Object(object(kind, &path, fields, &Map::new())?),
                    (None, Shape::Text) => Value::String(String::new()),
                    (None, Shape::Int) => Value::from(0),
                    (None, _) => Value::Null,
                };
                kept.insert(field.name.to_owned(), value)
            }
        };
    }
    Ok(kept)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

const MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";

/// The instant as the server writes it, in UTC.
fn time(text: &str, layout: &str) -> Result<String, String> {
    let bad = || format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as {layout:?}");
    let stamp: jiff::Timestamp = text.parse().map_err(|_| bad())?;
    let digits = text.split_once('.').map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).count());
    match (layout == MICRO, digits) {
        (true, Some(6)) => Ok(stamp.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()),
        (true, _) => Err(bad()),
        (false, _) => Ok(stamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
    }
}
