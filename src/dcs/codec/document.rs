//! The cluster's documents: status, failover, sync, history, failsafe, initialize, config.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::member::integer;
use super::schedule::schedule_of;
use crate::core::decision::SyncKey;
use crate::core::units::{Lsn, MemberName, SystemId, Timeline};
use crate::core::view::{
    ClusterStatus, ConfigKey, History, HistoryEntry, Holder, Initialize, Schedule, SwitchoverRequest, SyncState,
};
use crate::dcs::Document;

/// Our own fields of the status document, which is JSON; Patroni ignores them and drops them with its next write.
pub const OWN_STATUS: [&str; 2] = [RELEASED_BY, GAVE_WAY];
const RELEASED_BY: &str = "tamada_released_by";
const GAVE_WAY: &str = "tamada_gave_way";

/// The shortest text that counts as a system identifier.
const SYSTEM_ID_DIGITS: usize = 10;

/// The `status` document.
pub fn status_document(status: &ClusterStatus) -> Value {
    let mut fields = Map::new();
    fields.insert("optime".to_owned(), status.optime.map_or(0, |optime| optime.0).into());
    if !status.slots.is_empty() {
        let slots = status.slots.iter().map(|(name, position)| (name.clone(), position.0.into())).collect();
        fields.insert("slots".to_owned(), Value::Object(slots));
    }
    if !status.retain_slots.is_empty() {
        fields.insert("retain_slots".to_owned(), json!(status.retain_slots));
    }
    for (field, name) in [(RELEASED_BY, &status.released_by), (GAVE_WAY, &status.gave_way)] {
        if let Some(name) = name {
            fields.insert(field.to_owned(), name.as_str().into());
        }
    }
    Value::Object(fields)
}

/// The `failover` document; `{}`, without a leader and a candidate, is no request.
pub fn switchover_document(leader: Option<&str>, candidate: Option<&str>, scheduled_at: Option<&str>) -> Value {
    let fields = [("leader", leader), ("member", candidate), ("scheduled_at", scheduled_at)];
    Value::Object(fields.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))).collect())
}

/// The `history` document.
pub fn history_document(entries: &[HistoryEntry]) -> Value {
    let item = |entry: &HistoryEntry| {
        let mut fields = vec![entry.left.0.into(), entry.at.0.into(), Value::from(entry.reason.as_str())];
        if let Some(time) = &entry.time {
            fields.push(time.as_str().into());
            fields.extend(entry.new_leader.as_ref().map(|name| Value::from(name.as_str())));
        }
        Value::Array(fields)
    };
    Value::Array(entries.iter().map(item).collect())
}

/// The `failsafe` document: each member's name and `api_url`.
pub fn failsafe_document(members: &BTreeMap<MemberName, String>) -> Value {
    Value::Object(members.iter().map(|(name, url)| (name.to_string(), url.as_str().into())).collect())
}

pub(super) fn initialize_of(text: Option<&str>, claimer: Holder) -> Initialize {
    let Some(text) = text else { return Initialize::Absent };
    if text.is_empty() {
        return Initialize::InProgress(claimer);
    }
    let is_digits = text.len() >= SYSTEM_ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(id) if is_digits => Initialize::Done(SystemId(id)),
        Ok(_) | Err(_) => Initialize::Invalid(text.to_owned()),
    }
}

pub(super) fn config_of(document: Option<&Document>) -> ConfigKey {
    match document.map(|document| &document.value) {
        None => ConfigKey::Missing,
        Some(Value::Object(fields)) if !fields.is_empty() => ConfigKey::Valid,
        Some(_) => ConfigKey::Invalid,
    }
}

/// Also reads a bare position, and maps that are JSON inside a string.
pub(super) fn status_of(text: Option<&str>) -> ClusterStatus {
    let value = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null);
    let Value::Object(fields) = &value else {
        return ClusterStatus { optime: position(&value), ..ClusterStatus::default() };
    };
    let mut status = ClusterStatus { optime: fields.get("optime").and_then(position), ..ClusterStatus::default() };
    if let Some(Value::Object(slots)) = fields.get("slots").map(unwrapped).as_deref() {
        let slots = slots.iter().filter_map(|(name, value)| Some((name.clone(), position(value)?)));
        status.slots = slots.collect();
    }
    if let Some(Value::Array(names)) = fields.get("retain_slots").map(unwrapped).as_deref() {
        status.retain_slots = names.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    }
    status.released_by = name_in(fields, RELEASED_BY);
    status.gave_way = name_in(fields, GAVE_WAY);
    status
}

/// A value that may be JSON inside a string.
fn unwrapped(value: &Value) -> Cow<'_, Value> {
    match value.as_str().and_then(|text| serde_json::from_str(text).ok()) {
        Some(inner) => Cow::Owned(inner),
        None => Cow::Borrowed(value),
    }
}

/// A position; 0 stands for one that is not known.
fn position(value: &Value) -> Option<Lsn> {
    integer(value).and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0).map(Lsn)
}

fn name_in(fields: &Map<String, Value>, field: &str) -> Option<MemberName> {
    let name = fields.get(field)?.as_str()?.trim();
    (!name.is_empty()).then(|| MemberName::new(name))
}

/// `None`: the key holds no request.
pub(super) fn switchover_of(document: &Document) -> Option<SwitchoverRequest> {
    let (leader, candidate, scheduled_at) = match &document.value {
        Value::Object(fields) => {
            let scheduled_at = match fields.get("scheduled_at") {
                None | Some(Value::Null) => Schedule::Now,
                Some(Value::String(text)) if text.is_empty() => Schedule::Now,
                Some(Value::String(text)) => schedule_of(text),
                Some(other) => Schedule::Invalid(other.to_string()),
            };
            (name_in(fields, "leader"), name_in(fields, "member"), scheduled_at)
        }
        Value::String(text) => {
            let (leader, candidate) = text.split_once(':').unwrap_or((text, ""));
            let name = |text: &str| (!text.trim().is_empty()).then(|| MemberName::new(text.trim()));
            (name(leader), name(candidate), Schedule::Now)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => return None,
    };
    let is_request = leader.is_some() || candidate.is_some();
    is_request.then_some(SwitchoverRequest { leader, candidate, scheduled_at, revision: document.revision })
}

/// Without a leader the key counts as empty, whatever else it holds; its revision is kept for the next write.
pub(super) fn sync_of(document: Option<&Document>) -> SyncState {
    let Some(document) = document else { return SyncState::default() };
    let mut sync = SyncState { revision: Some(document.revision), ..SyncState::default() };
    let Value::Object(fields) = &document.value else { return sync };
    sync.leader = name_in(fields, "leader");
    if sync.leader.is_none() {
        return sync;
    }
    sync.quorum = fields.get("quorum").and_then(integer).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let names = fields.get("sync_standby").and_then(Value::as_str).unwrap_or("");
    sync.standbys = names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(MemberName::new).collect();
    sync
}

/// The key in Patroni's form and order of fields.
pub fn sync_document(key: &SyncKey) -> Value {
    let names: Vec<&str> = key.standbys.iter().map(MemberName::as_str).collect();
    let standbys = if names.is_empty() { Value::Null } else { names.join(",").into() };
    json!({"leader": key.leader.as_str(), "quorum": key.quorum, "sync_standby": standbys})
}

/// Unreadable items are passed over, but without a readable last one the cluster's timeline is not known.
pub(super) fn history_of(document: Option<&Document>) -> History {
    let Some(Value::Array(items)) = document.map(|document| &document.value) else { return History::Unknown };
    if items.last().is_some_and(|item| history_entry(item).is_none()) {
        return History::Unknown;
    }
    History::Known(items.iter().filter_map(history_entry).collect())
}

fn history_entry(item: &Value) -> Option<HistoryEntry> {
    let fields = item.as_array()?;
    let text = |at: usize| fields.get(at).and_then(Value::as_str).map(str::to_owned);
    let left = u32::try_from(integer(fields.first()?)?).ok().filter(|left| *left < u32::MAX)?;
    Some(HistoryEntry {
        left: Timeline(left),
        at: Lsn(u64::try_from(integer(fields.get(1)?)?).ok()?),
        reason: text(2).unwrap_or_default(),
        time: text(3),
        new_leader: text(4).map(MemberName::new),
    })
}

pub(super) fn failsafe_of(document: Option<&Document>) -> BTreeSet<MemberName> {
    let Some(Value::Object(fields)) = document.map(|document| &document.value) else { return BTreeSet::new() };
    fields.keys().map(|name| MemberName::new(name.as_str())).collect()
}
