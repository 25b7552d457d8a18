//! The health checks: path x status x query x now -> 200 or 503. Pure; asks nobody.
//!
//! "Is leader" is the lock flag by its local validity, not PostgreSQL's role: `/primary` answers 200 from the moment the
//! lock is won until it is lost or has run out, while the server takes connections. A restart of ours is excused for a
//! short while.

use serde_json::Value;

use super::query::Query;
use super::shown::{shown_role, shown_state};
use crate::agent::status::Status;
use crate::config::{self, units};
use crate::core::policy::{Pause, Switch, SyncMode};
use crate::core::units::Instant;
use crate::core::view::{MemberRole, MemberState, ReplicationState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Healthy,
    Unhealthy,
}

impl Verdict {
    fn when(healthy: bool) -> Self {
        if healthy { Verdict::Healthy } else { Verdict::Unhealthy }
    }
}

/// How the cluster replicates, as `/sync` and `/quorum` need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncDuty {
    None,
    Standby,
    QuorumVoter,
}

/// Any path that is not another endpoint's.
pub fn check(status: &Status, path: &str, query: &Query, now: Instant) -> Verdict {
    let codes = Codes::of(status, query, now);
    let (healthy, filter) = match by_path(path, &codes, status) {
        Some(found) => found,
        None => return Verdict::Unhealthy,
    };
    Verdict::when(healthy && (filter == TagFilter::Ignored || tags_match(status, query)))
}

/// `/liveness`: the loop's next cycle is not overdue.
pub fn liveness(status: &Status, now: Instant) -> Verdict {
    let is_primary = status.role == MemberRole::Primary && status.state == MemberState::Running;
    let grace = if is_primary { status.timing.ttl } else { status.timing.ttl * 2 };
    Verdict::when(status.pause == Pause::Paused || status.next_cycle + grace > now)
}

/// `/readiness`.
pub fn readiness(status: &Status, query: &Query, now: Instant) -> Verdict {
    if is_leader(status, now) && takes_connections(status, now) {
        return Verdict::Healthy;
    }
    let postgres = &status.postgres;
    if shown_state(status) != MemberState::Running || postgres.replication_state != Some(ReplicationState::Streaming) {
        return Verdict::Unhealthy;
    }
    if status.cluster.is_none() && postgres.latest_end.is_none() {
        return Verdict::Unhealthy;
    }
    let position = match query.get("mode") {
        Some("write") => postgres.received,
        Some(_) | None => postgres.replayed,
    };
    let lag = query.get("lag").and_then(bytes).unwrap_or(status.maximum_lag_on_failover as i64);
    let behind = i128::from(leader_optime(status)) - i128::from(position.map_or(0, |lsn| lsn.0));
    Verdict::when(behind <= i128::from(lag))
}

pub(super) fn is_leader(status: &Status, now: Instant) -> bool {
    status.leader_until.is_some_and(|until| now < until)
}

/// A server that should run but gave no answer in time is busy, not down.
pub(super) fn takes_connections(status: &Status, now: Instant) -> bool {
    status.postgres.in_recovery.is_some()
        || status.state == MemberState::Running
        || status.restart_until.is_some_and(|until| now < until)
}

/// The duty of this member, from the last view; none while there is no view or the member is no replica.
pub(super) fn sync_duty(status: &Status) -> SyncDuty {
    let Some(cluster) = &status.cluster else { return SyncDuty::None };
    let listed = cluster.view.sync.leader.is_some()
        && cluster.view.sync.standbys.iter().any(|name| name.as_str().eq_ignore_ascii_case(status.name.as_str()));
    if shown_role(status) != MemberRole::Replica || !listed {
        return SyncDuty::None;
    }
    match sync_mode(cluster.config.as_ref()) {
        SyncMode::Off => SyncDuty::None,
        SyncMode::Priority => SyncDuty::Standby,
        SyncMode::Quorum => SyncDuty::QuorumVoter,
    }
}

/// `synchronous_mode` of the cluster's configuration. A standby cluster has none.
pub(super) fn sync_mode(config: Option<&Value>) -> SyncMode {
    let mode = config.filter(|_| !is_standby_cluster(config)).and_then(|config| config.get("synchronous_mode"));
    mode.and_then(config::synchronous_mode).unwrap_or(SyncMode::Off)
}

pub(super) fn is_standby_cluster(config: Option<&Value>) -> bool {
    config::is_standby_cluster(config.and_then(|config| config.get("standby_cluster")))
}

/// A boolean, or one of the words for it, as members read the cluster's configuration.
pub(super) fn is_true(value: &Value) -> bool {
    config::as_switch(value) == Some(Switch::On)
}

/// Table 5.2.
struct Codes {
    leader: bool,
    primary: bool,
    standby_leader: bool,
    replica: bool,
}

impl Codes {
    fn of(status: &Status, query: &Query, now: Instant) -> Self {
        let role = shown_role(status);
        let running = shown_state(status) == MemberState::Running;
        let replica = !status.tags.noloadbalance
            && !is_lagging(status, query)
            && role == MemberRole::Replica
            && running
            && replication_matches(status, query);
        if !takes_connections(status, now) {
            return Codes { leader: false, primary: false, standby_leader: false, replica };
        }
        if status.cluster.is_none() && status.pause == Pause::Paused {
            let primary = role == MemberRole::Primary;
            let standby_leader = role == MemberRole::StandbyLeader;
            return Codes { leader: primary || standby_leader, primary, standby_leader, replica };
        }
        if !is_leader(status, now) {
            return Codes { leader: false, primary: false, standby_leader: false, replica };
        }
        if is_standby_cluster(status.cluster.as_ref().and_then(|cluster| cluster.config.as_ref())) {
            let standby_leader = matches!(role, MemberRole::Replica | MemberRole::StandbyLeader);
            return Codes { leader: true, primary: false, standby_leader, replica: false };
        }
        Codes { leader: true, primary: true, standby_leader: false, replica }
    }

    fn writable_or(&self, replica: bool) -> bool {
        self.primary || self.standby_leader || replica
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TagFilter {
    Applied,
    Ignored,
}

/// Table 5.3; `None`: an unknown path.
fn by_path(path: &str, codes: &Codes, status: &Status) -> Option<(bool, TagFilter)> {
    let has = |word: &str| path.contains(word);
    if has("standby_leader") || has("standby-leader") {
        return Some((codes.standby_leader, TagFilter::Ignored));
    }
    if has("leader") {
        return Some((codes.leader, TagFilter::Ignored));
    }
    if path == "/" || has("master") || has("primary") || has("read-write") {
        return Some((codes.primary, TagFilter::Ignored));
    }
    if has("replica") {
        return Some((codes.replica, TagFilter::Applied));
    }
    if has("read-only") && !has("sync") && !has("quorum") {
        return Some((codes.writable_or(codes.replica), TagFilter::Applied));
    }
    if has("health") {
        return Some((shown_state(status) == MemberState::Running, TagFilter::Applied));
    }
    // Without a view nobody knows who is synchronous.
    status.cluster.as_ref()?;
    let duty = sync_duty(status);
    let healthy = match path {
        "/sync" | "/synchronous" => codes.replica && duty == SyncDuty::Standby,
        "/quorum" => codes.replica && duty == SyncDuty::QuorumVoter,
        "/async" | "/asynchronous" => codes.replica && duty == SyncDuty::None,
        "/read-only-quorum" => codes.writable_or(codes.replica && duty == SyncDuty::QuorumVoter),
        "/read-only-sync" | "/read-only-synchronous" => codes.writable_or(codes.replica && duty == SyncDuty::Standby),
        _ => return None,
    };
    Some((healthy, TagFilter::Applied))
}

/// How far the leader's WAL is known to reach: what it published, and what our WAL receiver has heard since.
fn leader_optime(status: &Status) -> u64 {
    let published = status.cluster.as_ref().and_then(|cluster| cluster.view.status.optime);
    published.max(status.postgres.latest_end).map_or(0, |lsn| lsn.0)
}

/// An amount of bytes as PostgreSQL's own settings are written, `10MB` or `1048576`.
fn bytes(text: &str) -> Option<i64> {
    units::parse_int(text, Some("B"))
}

fn is_lagging(status: &Status, query: &Query) -> bool {
    let Some(lag) = query.get("lag").and_then(bytes) else { return false };
    let optime = i128::from(leader_optime(status));
    let replayed = i128::from(status.postgres.replayed.map_or(0, |lsn| lsn.0));
    optime > 0 && optime > replayed + i128::from(lag)
}

fn replication_matches(status: &Status, query: &Query) -> bool {
    let Some(wanted) = query.get("replication_state") else { return true };
    status.postgres.replication_state.is_some_and(|state| state.as_str() == wanted)
}

/// `tag_NAME=VALUE` in the query: the member has this tag with this value.
fn tags_match(status: &Status, query: &Query) -> bool {
    query.iter().filter_map(|(name, value)| Some((name.strip_prefix("tag_")?, value))).all(|(name, value)| match status
        .published_tags
        .get(name)
    {
        None => false,
        Some(Value::String(tag)) => tag == value,
        Some(other) => other.to_string().to_lowercase() == value,
    })
}

#[cfg(test)]
mod tests;
