//! The status document: the body of health checks and of `GET /patroni`. Pure.
//!
//! Candidates of an election read it: without `xlog` this member counts as unreachable, so positions that are
//! not known are left out and never invented.

use serde_json::{Map, Value, json};

use super::health::{SyncDuty, sync_duty};
use super::shown::{shown_role, shown_state, shows_postgres};
use crate::agent::status::{PostgresStatus, Status};
use crate::config::redacted;
use crate::core::PATRONI_VERSION;
use crate::core::local::Watchdog;
use crate::core::policy::Pause;
use crate::core::units::Lsn;
use crate::core::view::MemberRole;

/// The document of this status.
pub fn render(status: &Status) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("state".into(), shown_state(status).as_str().into());
    match shows_postgres(status) {
        true => postgres_part(status, &mut document),
        false => drop(document.insert("role".into(), status.role.as_str().into())),
    }
    node_part(status, &mut document);
    document
}

/// This status with freshly probed positions, or with none when the probe had no answer.
pub(super) fn with_positions(status: &Status, fresh: Option<PostgresStatus>) -> Status {
    Status { postgres: fresh.unwrap_or_default(), ..status.clone() }
}

fn postgres_part(status: &Status, document: &mut Map<String, Value>) {
    let postgres = &status.postgres;
    let role = shown_role(status);
    if let Some(started) = &postgres.postmaster_start_time {
        document.insert("postmaster_start_time".into(), started.clone().into());
    }
    document.insert("role".into(), role.as_str().into());
    if let Some(version) = postgres.server_version {
        document.insert("server_version".into(), version.into());
    }
    if let Some(xlog) = xlog(postgres) {
        document.insert("xlog".into(), xlog);
    }
    match sync_duty(status) {
        SyncDuty::None => {}
        SyncDuty::Standby => drop(document.insert("sync_standby".into(), true.into())),
        SyncDuty::QuorumVoter => drop(document.insert("quorum_standby".into(), true.into())),
    }
    document.insert("timeline".into(), postgres.timeline.map_or(Value::Null, |timeline| timeline.0.into()));
    let ours = ours(status);
    if !ours.is_empty() {
        document.insert("tamada".into(), ours.into());
    }
    if let Some(state) = postgres.replication_state.filter(|_| role != MemberRole::Primary) {
        document.insert("replication_state".into(), state.as_str().into());
    }
    if !postgres.replication.is_empty() {
        document.insert("replication".into(), Value::Array(postgres.replication.clone()));
    }
}

/// What elections count that Patroni's members do not say: which of several timelines of this number it is, and whether the
/// cluster is known to have abandoned it.
fn ours(status: &Status) -> Map<String, Value> {
    let timeline = status.postgres.timeline;
    let mut ours = Map::new();
    if let Some(branch) = status.branch.filter(|branch| Some(branch.timeline) == timeline) {
        ours.insert("timeline_began".into(), branch.began.0.into());
    }
    if timeline.is_some() && status.abandoned == timeline {
        ours.insert("timeline_abandoned".into(), true.into());
    }
    ours
}

/// `None`: no position is known.
fn xlog(postgres: &PostgresStatus) -> Option<Value> {
    if postgres.in_recovery == Some(false) {
        return postgres.location.map(|Lsn(location)| json!({ "location": location }));
    }
    if postgres.received.is_none() && postgres.replayed.is_none() {
        return None;
    }
    // Before streaming has begun only the replayed position is known; it then stands for both.
    let replayed = postgres.replayed.map(|lsn| lsn.0);
    Some(json!({
        "received_location": postgres.received.map(|lsn| lsn.0).or(replayed),
        "replayed_location": replayed,
        "replayed_timestamp": postgres.replayed_timestamp,
        "paused": postgres.replay_paused,
    }))
}

/// The old and new values of settings, without those that hold a secret.
pub(super) fn shown_reason(reason: &Value) -> Value {
    let Value::Object(settings) = reason else { return reason.clone() };
    let shown = settings.iter().map(|(name, change)| {
        let path = format!("postgresql.parameters.{name}");
        let Value::Object(values) = change else { return (name.clone(), redacted(&path, change)) };
        let values: Map<_, _> = values.iter().map(|(when, value)| (when.clone(), redacted(&path, value))).collect();
        (name.clone(), Value::Object(values))
    });
    Value::Object(shown.collect())
}

fn node_part(status: &Status, document: &mut Map<String, Value>) {
    if status.pause == Pause::Paused {
        document.insert("pause".into(), true.into());
    }
    if status.cluster.as_ref().is_none_or(|cluster| cluster.view.leader.is_none()) {
        document.insert("cluster_unlocked".into(), true.into());
    }
    if status.failsafe_until.is_some_and(|until| until > crate::boottime::now()) {
        document.insert("failsafe_mode_is_active".into(), true.into());
    }
    document.insert("dcs_last_seen".into(), status.dcs_last_seen.into());
    if !status.published_tags.is_empty() {
        document.insert("tags".into(), Value::Object(status.published_tags.clone()));
    }
    if let Some(id) = status.system_id {
        document.insert("database_system_identifier".into(), id.to_string().into());
    }
    if !status.pending_restart.is_empty() {
        document.insert("pending_restart".into(), true.into());
        let reason = shown_reason(&Value::Object(status.pending_restart.clone()));
        document.insert("pending_restart_reason".into(), reason);
    }
    let identity = json!({
        "version": PATRONI_VERSION,
        "scope": status.scope,
        "name": status.name.as_str(),
        "tamada": env!("CARGO_PKG_VERSION"),
    });
    document.insert("patroni".into(), identity);
    if status.watchdog == Watchdog::Failed {
        document.insert("watchdog_failed".into(), true.into());
    }
    if let Some(scheduled) = &status.scheduled_restart {
        let mut shown = scheduled.clone();
        shown.remove("postmaster_start_time");
        document.insert("scheduled_restart".into(), Value::Object(shown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture;
    use crate::core::units::{Branch, Timeline};
    use crate::core::view::MemberState;

    fn keys(document: &Map<String, Value>) -> Vec<&str> {
        document.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_primary_shows_its_flush_position() {
        let mut status = fixture::primary();
        status.pending_restart.insert("max_connections".into(), json!({"old_value": "100", "new_value": "120"}));
        let document = render(&status);
        let expected = [
            "state",
            "postmaster_start_time",
            "role",
            "server_version",
            "xlog",
            "timeline",
            "replication",
            "dcs_last_seen",
            "database_system_identifier",
            "pending_restart",
            "pending_restart_reason",
            "patroni",
        ];
        assert_eq!(keys(&document), expected);
        assert_eq!(document["xlog"], json!({"location": 67_108_960}));
        assert_eq!(document["patroni"]["version"], "4.1.5");
        assert_eq!(document["patroni"]["tamada"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_replica_shows_what_it_received_and_replayed() {
        let document = render(&fixture::replica());
        let xlog = json!({
            "received_location": 67_108_960, "replayed_location": 67_108_960,
            "replayed_timestamp": "2026-11-22 09:18:21.207954+00:00", "paused": false,
        });
        assert_eq!(document["xlog"], xlog);
        assert_eq!(document["replication_state"], "streaming");
        assert_eq!(document["role"], "replica");
    }

    #[test]
    fn a_timeline_is_shown_with_where_it_began_once_that_is_known() {
        let mut status = fixture::replica();
        let timeline = status.postgres.timeline.expect("it runs");
        assert!(!render(&status).contains_key("tamada"));
        status.branch = Some(Branch { timeline, began: Lsn(90) });
        assert_eq!(render(&status)["tamada"], json!({"timeline_began": 90}));
        status.branch = Some(Branch { timeline: Timeline(timeline.0 + 1), began: Lsn(90) });
        assert!(!render(&status).contains_key("tamada"), "that of another timeline says nothing");
    }

    #[test]
    fn an_abandoned_timeline_is_told() {
        let mut status = fixture::replica();
        let timeline = status.postgres.timeline.expect("it runs");
        status.abandoned = Some(timeline);
        assert_eq!(render(&status)["tamada"], json!({"timeline_abandoned": true}));
        status.abandoned = Some(Timeline(timeline.0 + 1));
        assert!(!render(&status).contains_key("tamada"), "another timeline was");
    }

    #[test]
    fn without_an_answer_there_is_no_position() {
        let document = render(&with_positions(&fixture::replica(), None));
        let expected = ["state", "role", "dcs_last_seen", "database_system_identifier", "patroni"];
        assert_eq!(keys(&document), expected);
        assert_eq!(document["state"], "unknown");
    }

    #[test]
    fn a_server_that_cannot_answer_shows_state_and_role_only() {
        let mut status = fixture::replica();
        status.state = MemberState::CreatingReplica;
        status.role = MemberRole::Uninitialized;
        status.system_id = None;
        status.cluster = None;
        status.pause = Pause::Paused;
        let document = render(&status);
        assert_eq!(keys(&document), ["state", "role", "pause", "cluster_unlocked", "dcs_last_seen", "patroni"]);
        assert_eq!(document["state"], "creating replica");
        assert_eq!(document["role"], "uninitialized");
    }

    #[test]
    fn settings_that_wait_for_a_restart_show_no_secret() {
        let mut status = fixture::primary();
        let secret = json!({"old_value": "", "new_value": "host=a password=s3cret"});
        status.pending_restart.insert("cluster_name".into(), secret);
        status.pending_restart.insert("password_encryption".into(), json!({"old_value": "md5", "new_value": "x"}));
        let expected = json!({
            "cluster_name": {"old_value": "", "new_value": "***"},
            "password_encryption": {"old_value": "md5", "new_value": "x"},
        });
        assert_eq!(render(&status)["pending_restart_reason"], expected);
    }

    #[test]
    fn a_scheduled_restart_is_shown_without_the_start_time() {
        let mut status = fixture::primary();
        let scheduled = json!({"schedule": "2030-01-01T00:00:00+01:00", "postmaster_start_time": "x"});
        status.scheduled_restart = scheduled.as_object().cloned();
        assert_eq!(render(&status)["scheduled_restart"], json!({"schedule": "2030-01-01T00:00:00+01:00"}));
    }
}
