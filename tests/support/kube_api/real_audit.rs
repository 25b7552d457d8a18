//! The audit log of a real server as records.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::asked::Asked;
use super::server::Record;

/// One line; `None` for what is no request's answer. Content types stand in no audit log.
pub fn record(line: &str) -> Option<Record> {
    let event: Value = serde_json::from_str(line).ok()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let verb = text(&event["verb"]);
    // A watch is answered when it begins; everything else when it is done.
    let stage = if verb == "watch" { "ResponseStarted" } else { "ResponseComplete" };
    if event["stage"] != stage {
        return None;
    }
    let object = &event["objectRef"];
    let uri = text(&event["requestURI"]);
    let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
    let asked = Asked {
        verb,
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
        code: u16::try_from(event["responseStatus"]["code"].as_u64()?).ok()?,
    })
}

/// A time of the wall clock, on the clock of this process.
fn instant(time: &str) -> Option<Instant> {
    let time: jiff::Timestamp = time.parse().ok()?;
    let ago = jiff::Timestamp::now().duration_since(time);
    Instant::now().checked_sub(Duration::try_from(ago).unwrap_or_default())
}
