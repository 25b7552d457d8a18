//! The forms in which a client may have objects: plain, their metadata alone, or as the table that kubectl prints.

use std::sync::Arc;

use serde_json::{Value, json};

use super::asked::Query;
use super::read::plain_list;
use super::refusal::Refusal;
use super::resources::Resource;

pub enum Form {
    Plain,
    Metadata,
    Table(Include),
}

/// What a row of a table holds beside its cells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Include {
    Nothing,
    Metadata,
    Object,
}

/// A column: its name and what stands in it.
type Column = (&'static str, fn(&Value) -> Value);

impl Form {
    /// By the header Accept; the first of its alternatives that there is.
    pub fn accepted(accept: &str, query: &Query) -> Result<Form, Refusal> {
        if accept.trim().is_empty() {
            return Ok(Form::Plain);
        }
        for alternative in accept.split(',') {
            let mut parts = alternative.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            if !["application/json", "application/*", "*/*"].contains(&media) {
                continue;
            }
            let (mut form, mut is_v1) = (None, true);
            for (key, value) in parts.filter_map(|part| part.split_once('=')) {
                match key {
                    "as" => form = Some(value),
                    "v" => is_v1 = value == "v1",
                    _ => {}
                }
            }
            match form {
                None => return Ok(Form::Plain),
                Some("Table") if is_v1 => return Ok(Form::Table(Include::read(query.text("includeObject")))),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") if is_v1 => return Ok(Form::Metadata),
                Some(_) => {}
            }
        }
        Err(Refusal::not_acceptable())
    }

    pub fn object(&self, resource: &Resource, object: &Arc<Value>) -> Value {
        match self {
            Form::Plain => Value::clone(object),
            Form::Metadata => metadata(object),
            Form::Table(include) => {
                let version = object["metadata"]["resourceVersion"].clone();
                table(resource, json!({"resourceVersion": version}), std::slice::from_ref(object), *include)
            }
        }
    }

    pub fn list(&self, resource: &Resource, list: Value, objects: &[Arc<Value>]) -> Value {
        match self {
            Form::Plain => plain_list(resource, list, objects),
            Form::Metadata => {
                let items: Vec<Value> = objects.iter().map(|object| metadata(object)).collect();
                let kind = "PartialObjectMetadataList";
                json!({"kind": kind, "apiVersion": "meta.k8s.io/v1", "metadata": list, "items": items})
            }
            Form::Table(include) => table(resource, list, objects, *include),
        }
    }
}

impl Include {
    fn read(text: &str) -> Self {
        match text {
            "None" => Include::Nothing,
            "Object" => Include::Object,
            _ => Include::Metadata,
        }
    }
}

fn metadata(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

fn table(resource: &Resource, list: Value, objects: &[Arc<Value>], include: Include) -> Value {
    let columns = columns(resource);
    let definitions: Vec<Value> = columns
        .iter()
        .map(|(name, _)| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({"name": name, "type": "string", "format": format, "description": name, "priority": 0})
        })
        .collect();
    let row = |object: &Arc<Value>| {
        let cells: Vec<Value> = columns.iter().map(|(_, cell)| cell(object)).collect();
        let object = match include {
            Include::Nothing => Value::Null,
            Include::Metadata => metadata(object),
            Include::Object => Value::clone(object),
        };
        json!({"cells": cells, "object": object})
    };
    let rows: Vec<Value> = objects.iter().map(row).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

fn columns(resource: &Resource) -> Vec<Column> {
    let mut columns: Vec<Column> = vec![("Name", |object| object["metadata"]["name"].clone())];
    let own: &[Column] = match resource.plural {
        "pods" => &[("Ready", ready), ("Status", |pod| pod["status"]["phase"].clone()), ("Restarts", |_| json!("0"))],
        "configmaps" => &[("Data", |map| {
            let count = |field: &str| map[field].as_object().map_or(0, serde_json::Map::len);
            json!((count("data") + count("binaryData")).to_string())
        })],
        "endpoints" => &[("Endpoints", addresses)],
        "services" => &[
            ("Type", |service| service["spec"]["type"].clone()),
            ("Cluster-IP", |service| service["spec"]["clusterIP"].clone()),
        ],
        "leases" => &[("Holder", |lease| json!(lease["spec"]["holderIdentity"].as_str().unwrap_or_default()))],
        "endpointslices" => &[("AddressType", |slice| slice["addressType"].clone())],
        _ => &[],
    };
    columns.extend(own);
    columns.push(("Age", age));
    columns
}

fn age(object: &Value) -> Value {
    let made = object["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let Some(made) = made else { return json!("<unknown>") };
    let seconds = (jiff::Timestamp::now().as_second() - made.as_second()).max(0);
    json!(match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        _ => format!("{}h", seconds / 3600),
    })
}

fn ready(pod: &Value) -> Value {
    let containers = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let statuses = pod["status"]["containerStatuses"].as_array().map_or(&[][..], Vec::as_slice);
    let is_ready = |one: &&Value| one["ready"] == true && one["state"]["running"].is_object();
    json!(format!("{}/{containers}", statuses.iter().filter(is_ready).count()))
}

/// `10.0.0.1:5432,10.0.0.2:5432`.
fn addresses(endpoints: &Value) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut shown = Vec::new();
    for subset in list(&endpoints["subsets"]) {
        for address in list(&subset["addresses"]) {
            let ip = address["ip"].as_str().unwrap_or_default();
            let ports = list(&subset["ports"]);
            shown.extend(ports.iter().map(|port| format!("{ip}:{}", port["port"])));
            if ports.is_empty() {
                shown.push(ip.to_owned());
            }
        }
    }
    json!(if shown.is_empty() { "<none>".to_owned() } else { shown.join(",") })
}
