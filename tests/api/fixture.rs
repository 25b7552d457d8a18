//! Statuses to test with: a primary n0 with an asynchronous replica n1 and a second one n2.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tamada::agent::status::{ClusterStatusDocuments, PostgresStatus, Status};
use tamada::config::{HostPort, RestConfig, ServerTokens};
use tamada::core::local::Watchdog;
use tamada::core::policy::{Pause, Switch, Timing};
use tamada::core::reason::Reason;
use tamada::core::units::{Instant, Lsn, MemberName, Revision, SystemId, Timeline};
use tamada::core::view::{
    Address, ClusterStatus, ClusterView, ConfigKey, Holder, Initialize, Leader, Member, MemberKind, MemberRole,
    MemberState, ReplicationState, Schedule, SwitchoverRequest, SyncState, Tags,
};

/// Where everybody's WAL ends.
pub const END: u64 = 67_108_960;

/// Far beyond any machine's time since boot.
pub const LATER: Instant = Instant(Duration::from_secs(1 << 40));

pub fn member(name: &str, role: MemberRole) -> Member {
    let mut member = Member::empty(name.into());
    member.kind = MemberKind::Ours;
    member.address = Some(Address { host: format!("{name}.example"), port: 5432, database: "postgres".into() });
    member.api_url = Some(format!("http://127.0.0.{}:8008/patroni", 10 + name.len()));
    member.state = MemberState::Running;
    member.role = role;
    member.timeline = Some(Timeline(1));
    member.position = Some(Lsn(END));
    if role == MemberRole::Replica {
        member.replication = Some(ReplicationState::Streaming);
    }
    member
}

/// The member record that belongs to `member`.
pub fn record(member: &Member) -> Value {
    let mut record = json!({
        "conn_url": "postgres://unused:5432/postgres", "api_url": member.api_url, "state": member.state.as_str(),
        "role": member.role.as_str(), "version": "4.1.5", "xlog_location": END, "timeline": 1,
    });
    if let Some(replication) = member.replication {
        record["replication_state"] = replication.as_str().into();
        record["receive_lsn"] = END.into();
        record["replay_lsn"] = (END - 16).into();
    }
    record
}

pub fn cluster() -> ClusterStatusDocuments {
    let members =
        [member("n0", MemberRole::Primary), member("n1", MemberRole::Replica), member("n2", MemberRole::Replica)];
    let config = json!({"ttl": 30, "loop_wait": 10, "retry_timeout": 10});
    ClusterStatusDocuments {
        config: Some(config),
        history: None,
        failsafe: None,
        switchover: None,
        members: members.iter().map(|member| (member.name.clone(), record(member))).collect(),
        view: ClusterView {
            leader: Some(Leader { name: "n0".into(), holder: Holder::Other }),
            members: members.into_iter().map(|member| (member.name.clone(), member)).collect(),
            initialize: Initialize::Done(SystemId(7_710_921_647_475_908_793)),
            config: ConfigKey::Valid,
            status: ClusterStatus { optime: Some(Lsn(END)), ..ClusterStatus::default() },
            ..ClusterView::default()
        },
    }
}

pub fn primary() -> Status {
    let walsender = json!({
        "usename": "replicator", "application_name": "n1", "client_addr": "127.0.0.1", "state": "streaming",
        "sync_state": "async", "sync_priority": 0,
    });
    let postgres = PostgresStatus {
        in_recovery: Some(false),
        location: Some(Lsn(END)),
        replication: vec![walsender],
        ..answering()
    };
    Status { role: MemberRole::Primary, leader_until: Some(LATER), postgres, ..blank("n0") }
}

pub fn replica() -> Status {
    let postgres = PostgresStatus {
        in_recovery: Some(true),
        received: Some(Lsn(END)),
        replayed: Some(Lsn(END)),
        replayed_timestamp: Some("2026-11-22 09:18:21.207954+00:00".into()),
        replication_state: Some(ReplicationState::Streaming),
        ..answering()
    };
    Status { role: MemberRole::Replica, postgres, ..blank("n1") }
}

/// The same status in a cluster with this configuration.
pub fn with_config(mut status: Status, name: &str, value: Value) -> Status {
    change_cluster(&mut status, |cluster| {
        cluster.config.get_or_insert_with(|| json!({}))[name] = value;
    });
    status
}

/// The same status with these members in the `sync` key.
pub fn with_sync(mut status: Status, standbys: &[&str]) -> Status {
    change_cluster(&mut status, |cluster| {
        let standbys: BTreeSet<MemberName> = standbys.iter().map(|name| MemberName::from(*name)).collect();
        cluster.view.sync = SyncState { leader: Some("n0".into()), quorum: 0, standbys, revision: None };
    });
    status
}

pub fn change_cluster(status: &mut Status, change: impl FnOnce(&mut ClusterStatusDocuments)) {
    let mut cluster = status.cluster.as_deref().cloned().unwrap_or_else(cluster);
    change(&mut cluster);
    status.cluster = Some(Arc::new(cluster));
}

fn answering() -> PostgresStatus {
    PostgresStatus {
        postmaster_start_time: Some("2026-11-22 09:14:12.217476+00:00".into()),
        server_version: Some(150_020),
        timeline: Some(Timeline(1)),
        ..PostgresStatus::default()
    }
}

fn blank(name: &str) -> Status {
    Status {
        name: name.into(),
        scope: "demo".into(),
        state: MemberState::Running,
        role: MemberRole::Uninitialized,
        leader_until: None,
        postgres: PostgresStatus::default(),
        restart_until: None,
        cluster: Some(Arc::new(cluster())),
        pause: Pause::Running,
        dcs_last_seen: 1_795_338_917,
        watchdog: Watchdog::NotRequired,
        system_id: Some(SystemId(7_710_921_647_475_908_793)),
        tags: Tags::default(),
        published_tags: Map::new(),
        pending_restart: Map::new(),
        scheduled_restart: None,
        timing: Timing::default(),
        next_cycle: LATER,
        reason: Reason::Starting,
        job: None,
        maximum_lag_on_failover: 1_048_576,
        failsafe: Switch::Off,
        failsafe_until: None,
        branch: None,
        abandoned: None,
    }
}

/// The primary while a switchover is asked for.
pub fn with_request() -> Status {
    let mut status = primary();
    change_cluster(&mut status, |cluster| {
        cluster.view.switchover = Some(SwitchoverRequest {
            leader: Some("n0".into()),
            candidate: None,
            scheduled_at: Schedule::Now,
            revision: Revision(7),
        });
    });
    status
}

/// Loopback, any port, no protection.
pub fn open_settings() -> RestConfig {
    let anywhere = HostPort { host: "127.0.0.1".into(), port: 0 };
    RestConfig {
        listen: anywhere.clone(),
        connect_address: anywhere,
        connect_by_host_name: false,
        auth: None,
        tls: None,
        allowlist: Vec::new(),
        allowlist_include_members: Switch::Off,
        http_extra_headers: BTreeMap::new(),
        https_extra_headers: BTreeMap::new(),
        request_queue_size: 5,
        server_tokens: ServerTokens::Original,
    }
}
