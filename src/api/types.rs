//! The document of `GET /cluster`: what the API answers and what the command line prints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::document::shown_reason;
use super::health::{is_standby_cluster, is_true, sync_mode};
use crate::core::policy::SyncMode;
use crate::core::units::{Lsn, MemberName};
use crate::core::view::{ClusterView, Member, Schedule};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterDocument {
    pub members: Vec<MemberDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_switchover: Option<ScheduledSwitchover>,
    pub scope: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduledSwitchover {
    pub at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// One member. Positions are text (`0/4042A38`), lags bytes, either `"unknown"`; both are absent for the leader.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberDocument {
    pub name: String,
    pub role: String,
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_restart: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_restart_reason: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_restart: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_lag: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_lsn: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_lag: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_lsn: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lsn: Option<Value>,
}

impl MemberDocument {
    pub fn is_leader(&self) -> bool {
        matches!(self.role.as_str(), "leader" | "standby_leader")
    }
}

impl ClusterDocument {
    /// Of one reading of the DCS: `records` are the member records as they stand there.
    pub fn of(
        scope: &str,
        view: &ClusterView,
        records: &BTreeMap<MemberName, Value>,
        config: Option<&Value>,
        switchover: Option<&Value>,
    ) -> Self {
        let member = |member: &Member| {
            let empty = Value::Object(Map::new());
            member_document(member, records.get(&member.name).unwrap_or(&empty), view, config)
        };
        let paused = config.and_then(|config| config.get("pause")).is_some_and(is_true);
        ClusterDocument {
            members: view.members.values().map(member).collect(),
            pause: paused.then_some(true),
            scheduled_switchover: scheduled(view, switchover),
            scope: scope.to_owned(),
        }
    }
}

/// As it was scheduled: the text of the document keeps the offset that a person chose.
fn scheduled(view: &ClusterView, switchover: Option<&Value>) -> Option<ScheduledSwitchover> {
    let request = view.switchover.as_ref().filter(|request| request.scheduled_at != Schedule::Now)?;
    let at = switchover?.get("scheduled_at")?.as_str()?;
    let name = |name: &Option<MemberName>| name.as_ref().map(|name| name.as_str().to_owned());
    Some(ScheduledSwitchover { at: at.to_owned(), from: name(&request.leader), to: name(&request.candidate) })
}

fn member_document(member: &Member, record: &Value, view: &ClusterView, config: Option<&Value>) -> MemberDocument {
    let holds_lock = view.leader.as_ref().is_some_and(|leader| leader.name == member.name);
    let role = role(member, view, config, holds_lock.into());
    let replication = member.replication.filter(|_| role != "leader");
    let verbatim = |field: &str| record.get(field).cloned();
    let mut document = MemberDocument {
        name: member.name.as_str().to_owned(),
        role: role.to_owned(),
        state: replication.map_or(member.state.as_str(), |replication| replication.as_str()).to_owned(),
        api_url: member.api_url.clone(),
        host: member.address.as_ref().map(|address| address.host.clone()),
        port: member.address.as_ref().map(|address| address.port),
        timeline: verbatim("timeline"),
        pending_restart: verbatim("pending_restart"),
        pending_restart_reason: record.get("pending_restart_reason").map(shown_reason),
        scheduled_restart: verbatim("scheduled_restart"),
        tags: verbatim("tags"),
        ..MemberDocument::default()
    };
    if !holds_lock {
        let optime = view.status.optime.unwrap_or_default();
        (document.receive_lsn, document.receive_lag) = position(record, "receive_lsn", optime);
        (document.replay_lsn, document.replay_lag) = position(record, "replay_lsn", optime);
        (document.lsn, document.lag) = position(record, "xlog_location", optime);
    }
    document
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HoldsLock {
    Yes,
    No,
}

impl From<bool> for HoldsLock {
    fn from(holds: bool) -> Self {
        if holds { HoldsLock::Yes } else { HoldsLock::No }
    }
}

fn role(member: &Member, view: &ClusterView, config: Option<&Value>, lock: HoldsLock) -> &'static str {
    let listed = view.sync.leader.is_some()
        && view.sync.standbys.iter().any(|name| name.as_str().eq_ignore_ascii_case(member.name.as_str()));
    match (lock, sync_mode(config)) {
        (HoldsLock::Yes, _) if is_standby_cluster(config) => "standby_leader",
        (HoldsLock::Yes, _) => "leader",
        (HoldsLock::No, SyncMode::Priority) if listed => "sync_standby",
        (HoldsLock::No, SyncMode::Quorum) if listed => "quorum_standby",
        (HoldsLock::No, SyncMode::Off | SyncMode::Priority | SyncMode::Quorum) => "replica",
    }
}

fn position(record: &Value, field: &str, optime: Lsn) -> (Option<Value>, Option<Value>) {
    match record.get(field).and_then(Value::as_u64).filter(|lsn| *lsn > 0).map(Lsn) {
        Some(lsn) => (Some(lsn.to_string().into()), Some(lsn.behind(optime).into())),
        None => (Some(json!("unknown")), Some(json!("unknown"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::status::ClusterStatusDocuments;
    use crate::api::fixture;
    use crate::core::units::{Revision, WallTime};
    use crate::core::view::{MemberState, SwitchoverRequest, SyncState};

    fn document(cluster: &ClusterStatusDocuments) -> Value {
        let switchover = cluster.switchover.as_ref();
        let document =
            ClusterDocument::of("demo", &cluster.view, &cluster.members, cluster.config.as_ref(), switchover);
        serde_json::to_value(document).expect("a document")
    }

    #[test]
    fn shows_leader_and_replicas() {
        let mut cluster = fixture::cluster();
        cluster.members.insert("n2".into(), json!({"tags": {"foo": "Bar"}}));
        if let Some(member) = cluster.view.members.get_mut(&MemberName::from("n2")) {
            member.state = MemberState::CreatingReplica;
            member.replication = None;
            member.address = None;
            member.api_url = None;
        }
        let expected = json!({"members": [
            {"name": "n0", "role": "leader", "state": "running", "api_url": "http://127.0.0.12:8008/patroni",
             "host": "n0.example", "port": 5432, "timeline": 1},
            {"name": "n1", "role": "replica", "state": "streaming", "api_url": "http://127.0.0.12:8008/patroni",
             "host": "n1.example", "port": 5432, "timeline": 1, "receive_lag": 0, "receive_lsn": "0/4000060",
             "replay_lag": 16, "replay_lsn": "0/4000050", "lag": 0, "lsn": "0/4000060"},
            {"name": "n2", "role": "replica", "state": "creating replica", "tags": {"foo": "Bar"},
             "receive_lag": "unknown", "receive_lsn": "unknown", "replay_lag": "unknown", "replay_lsn": "unknown",
             "lag": "unknown", "lsn": "unknown"},
        ], "scope": "demo"});
        assert_eq!(document(&cluster), expected);
    }

    #[test]
    fn shows_pause_schedule_and_synchronous_standbys() {
        let mut cluster = fixture::cluster();
        cluster.config = Some(json!({"pause": true, "synchronous_mode": true}));
        let standbys = [MemberName::from("N1")].into_iter().collect();
        cluster.view.sync = SyncState { leader: Some("n0".into()), quorum: 0, standbys, revision: None };
        cluster.switchover = Some(json!({"leader": "n0", "scheduled_at": "2030-01-01T00:00:00+02:00"}));
        cluster.view.switchover = Some(SwitchoverRequest {
            leader: Some("n0".into()),
            candidate: None,
            scheduled_at: Schedule::At(WallTime(1)),
            revision: Revision(1),
        });
        let shown = document(&cluster);
        assert_eq!(shown["pause"], true);
        assert_eq!(shown["scheduled_switchover"], json!({"at": "2030-01-01T00:00:00+02:00", "from": "n0"}));
        assert_eq!(shown["members"][1]["role"], "sync_standby");
        assert_eq!(shown["members"][2]["role"], "replica");
        cluster.config = Some(json!({"synchronous_mode": "quorum"}));
        assert_eq!(document(&cluster)["members"][1]["role"], "quorum_standby");
    }
}
