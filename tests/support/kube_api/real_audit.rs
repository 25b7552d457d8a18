//! The audit log of a real server as records.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::asked::Asked;
use super::server::Record;

/// What a watch's code is until it has been answered, as far as the log tells.
const UNANSWERED: u16 = 0;

/// What was answered, in order. A watch has its place where it was received: some servers tell of its answer only when it ends.
pub fn records(log: &str) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let mut watches: HashMap<String, usize> = HashMap::new();
    for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let id = text(&event["auditID"]);
        let is_watch = event["verb"] == "watch";
        match (is_watch, text(&event["stage"]).as_str()) {
            (true, "RequestReceived") => {
                watches.insert(id, records.len());
                records.extend(record(&event, UNANSWERED));
            }
            (true, "ResponseStarted") => {
                let known = watches.get(&id).and_then(|at| records.get_mut(*at));
                if let (Some(known), Some(code)) = (known, code(&event)) {
                    known.code = code;
                }
            }
            (false, "ResponseComplete") => records.extend(code(&event).and_then(|code| record(&event, code))),
            _ => {}
        }
    }
    records
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn code(event: &Value) -> Option<u16> {
    u16::try_from(event["responseStatus"]["code"].as_u64()?).ok()
}

/// Content types stand in no audit log.
fn record(event: &Value, code: u16) -> Option<Record> {
    let object = &event["objectRef"];
    let uri = text(&event["requestURI"]);
    let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
    let asked = Asked {
        verb: text(&event["verb"]),
        group: text(&object["apiGroup"]),
        version: text(&object["apiVersion"]),
        resource: text(&object["resource"]),
        subresource: text(&object["subresource"]),
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        path: path.to_owned(),
    };
    Some(Record {
        at: instant(event["stageTimestamp"].as_str()?)?,
        user: text(&event["user"]["username"]),
        asked,
        query: query.to_owned(),
        content_type: String::new(),
        user_agent: text(&event["userAgent"]),
        code,
    })
}

/// A time of the wall clock, on the clock of this process.
fn instant(time: &str) -> Option<Instant> {
    let time: jiff::Timestamp = time.parse().ok()?;
    let ago = jiff::Timestamp::now().duration_since(time);
    Instant::now().checked_sub(Duration::try_from(ago).unwrap_or_default())
}
