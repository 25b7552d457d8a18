//! Between the documents in a store and the types of `core::view`. Pure: no store, no clock, no log.
//!
//! The layout is Patroni's, byte for byte, so that Patroni's members and tools can share a cluster with ours.
//! Nothing here ever fails on what somebody else wrote: each unreadable value has a meaning of its own, the one that
//! Patroni gives it.

mod document;
mod member;
mod schedule;

pub use document::{
    OWN_STATUS, failsafe_document, history_document, status_document, switchover_document, sync_document,
};
pub use member::{MemberRecord, PATRONI_VERSION, address_of, connection_url, member_of, member_record};
pub use schedule::schedule_of;

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Content, Document, Documents, Key};
use crate::core::units::{MemberName, Revision};
use crate::core::view::{ClusterView, Holder, Leader, Member};

/// The keys' common prefix without a slash at its end: `/service/demo`. Runs of slashes count as one.
pub fn base_path(namespace: &str, scope: &str) -> String {
    let mut path = String::with_capacity(namespace.len() + scope.len() + 2);
    for c in ["/", namespace, "/", scope].into_iter().flat_map(str::chars) {
        if c != '/' || !path.ends_with('/') {
            path.push(c);
        }
    }
    path
}

/// One key as a store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Vec<u8>,
    pub revision: u64,
    /// 0: no lease.
    pub lease: i64,
}

/// All keys below the base path, by what follows it and its slash: `leader`, `members/n1`.
pub type Entries = BTreeMap<String, Entry>;

pub const LEADER: &str = "leader";
pub const STATUS: &str = "status";
const LEGACY_STATUS: &str = "optime/leader";
const MEMBERS: &str = "members/";

pub fn member_key(name: &MemberName) -> String {
    format!("{MEMBERS}{name}")
}

/// The name of a document's key below the base path.
pub fn key_path(key: Key) -> &'static str {
    match key {
        Key::Initialize => "initialize",
        Key::Config => "config",
        Key::Failover => "failover",
        Key::History => "history",
        Key::Sync => "sync",
    }
}

/// The bytes that a write puts there; `None` deletes the key.
pub fn content_bytes(content: &Content) -> Option<Vec<u8>> {
    match content {
        Content::Claim => Some(Vec::new()),
        Content::Text(text) => Some(text.clone().into_bytes()),
        Content::Json(value) => Some(value.to_string().into_bytes()),
        Content::Delete => None,
    }
}

/// Who reads: decides whose the leader key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    pub name: MemberName,
    pub lease: Option<i64>,
}

impl Own {
    fn holds(&self, name: &str, entry: &Entry) -> bool {
        name == self.name.as_str() && self.lease.is_some_and(|lease| lease == entry.lease)
    }
}

/// One reading of the keys in types, and the documents that are passed on as they are.
pub fn assemble(entries: &Entries, own: &Own) -> (ClusterView, Documents) {
    let text = |path: &str| entries.get(path).map(|entry| String::from_utf8_lossy(&entry.value));
    let document = |path: &str| entries.get(path).map(document_of);
    let lock_revision = entries.get(LEADER).map(|entry| Revision(entry.revision));
    let status_revision = entries.get(STATUS).map(|entry| Revision(entry.revision));
    let leader = leader_of(entries, own);
    let mut view = ClusterView { leader, lock_revision, status_revision, ..ClusterView::default() };
    let mut documents = Documents {
        initialize: entries.get(key_path(Key::Initialize)).map(|entry| Revision(entry.revision)),
        config: document(key_path(Key::Config)),
        switchover: document(key_path(Key::Failover)),
        history: document(key_path(Key::History)),
        failsafe: document("failsafe"),
        members: BTreeMap::new(),
    };
    for (path, entry) in entries.range(MEMBERS.to_owned()..) {
        let Some(name) = path.strip_prefix(MEMBERS) else { break };
        if name.is_empty() || name.contains('/') {
            continue;
        }
        let name = MemberName::new(name);
        let (member, record) = read_member(name.clone(), &entry.value);
        view.members.insert(name.clone(), member);
        documents.members.extend(record.map(|record| (name, record)));
    }
    view.leader_has_spoken = view.leader.as_ref().is_some_and(|leader| {
        let revision_at = |path: &str| entries.get(path).map(|entry| entry.revision);
        revision_at(&member_key(&leader.name)) >= revision_at(LEADER)
    });
    let initialize = entries.get(key_path(Key::Initialize));
    let claimed = initialize.is_some_and(|entry| own.lease.is_some_and(|lease| lease == entry.lease));
    let claimer = if claimed { Holder::Us } else { Holder::Other };
    view.initialize = document::initialize_of(text(key_path(Key::Initialize)).as_deref(), claimer);
    view.config = document::config_of(documents.config.as_ref());
    view.status = document::status_of(text(STATUS).or_else(|| text(LEGACY_STATUS)).as_deref());
    view.switchover = documents.switchover.as_ref().and_then(document::switchover_of);
    view.sync = document::sync_of(document(key_path(Key::Sync)).as_ref());
    view.history = document::history_of(documents.history.as_ref());
    view.failsafe = document::failsafe_of(documents.failsafe.as_ref());
    (view, documents)
}

fn leader_of(entries: &Entries, own: &Own) -> Option<Leader> {
    let entry = entries.get(LEADER)?;
    let name = String::from_utf8_lossy(&entry.value);
    let holder = if own.holds(&name, entry) { Holder::Us } else { Holder::Other };
    (!name.is_empty()).then(|| Leader { name: MemberName::new(name.as_ref()), holder })
}

/// A value that is not JSON is shown as a JSON string.
fn document_of(entry: &Entry) -> Document {
    let value = serde_json::from_slice(&entry.value)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&entry.value).into_owned()));
    Document { value, revision: Revision(entry.revision) }
}

fn read_member(name: MemberName, value: &[u8]) -> (Member, Option<Value>) {
    match serde_json::from_slice::<Value>(value) {
        Ok(record) if record.is_object() => (member_of(name, &record), Some(record)),
        Ok(_) | Err(_) => (member::legacy_member(name, &String::from_utf8_lossy(value)), None),
    }
}

#[cfg(test)]
mod tests;
