//! `GET /metrics`: Patroni's metrics under Patroni's names, in its order, and ours after them. Pure.

use std::fmt::{Display, Write};

use jiff::Timestamp;

use super::health::{SyncDuty, is_leader, sync_duty, takes_connections};
use super::shown::{shown_role, shown_state, shows_postgres};
use crate::agent::status::{PostgresStatus, Status};
use crate::core::PATRONI_VERSION;
use crate::core::policy::Pause;
use crate::core::units::{Instant, Lsn};
use crate::core::view::{MemberRole, MemberState, ReplicationState};

/// The numbers of Patroni's states, with the names that Patroni gives them here.
const STATES: [(MemberState, &str); 15] = [
    (MemberState::InitializingNewCluster, "initdb"),
    (MemberState::InitdbFailed, "initdb_failed"),
    (MemberState::RunningCustomBootstrap, "custom_bootstrap"),
    (MemberState::CustomBootstrapFailed, "custom_bootstrap_failed"),
    (MemberState::CreatingReplica, "creating_replica"),
    (MemberState::Running, "running"),
    (MemberState::Starting, "starting"),
    (MemberState::StartingAfterCustomBootstrap, "bootstrap_starting"),
    (MemberState::StartFailed, "start_failed"),
    (MemberState::Restarting, "restarting"),
    (MemberState::RestartFailed, "restart_failed"),
    (MemberState::Stopping, "stopping"),
    (MemberState::Stopped, "stopped"),
    (MemberState::StopFailed, "stop_failed"),
    (MemberState::Crashed, "crashed"),
];

/// The text exposition format of Prometheus. What is not known is 0.
pub fn render(status: &Status, now: Instant) -> String {
    let labels = format!("scope=\"{}\",name=\"{}\"", escaped(&status.scope), escaped(status.name.as_str()));
    let mut page = Page { text: String::with_capacity(6144), labels };
    let nothing = PostgresStatus::default();
    let postgres = if shows_postgres(status) { &status.postgres } else { &nothing };
    page.gauge("patroni_version", "Patroni semver without periods.", version());
    let running = flag(shown_state(status) == MemberState::Running);
    page.gauge("patroni_postgres_running", "Value is 1 if Postgres is running, 0 otherwise.", running);
    let started = seconds(postgres.postmaster_start_time.as_deref());
    page.gauge("patroni_postmaster_start_time", "Epoch seconds since Postgres started.", started);
    roles_and_positions(&mut page, status, postgres);
    cluster(&mut page, status, postgres, now);
    ours(&mut page, status, postgres, now);
    page.text
}

fn roles_and_positions(page: &mut Page, status: &Status, postgres: &PostgresStatus) {
    let (role, duty) = (shown_role(status), sync_duty(status));
    let position = |lsn: Option<Lsn>| lsn.map_or(0, |lsn| lsn.0);
    let is_primary = role == MemberRole::Primary;
    page.gauge("patroni_primary", "Value is 1 if this node is the leader, 0 otherwise.", flag(is_primary));
    let location = position(postgres.location.filter(|_| postgres.in_recovery == Some(false)));
    page.counter("patroni_xlog_location", "Flush position of a primary, 0 otherwise.", location);
    let is_standby_leader = flag(role == MemberRole::StandbyLeader);
    page.gauge(
        "patroni_standby_leader",
        "Value is 1 if this node is the standby_leader, 0 otherwise.",
        is_standby_leader,
    );
    page.gauge(
        "patroni_replica",
        "Value is 1 if this node is a replica, 0 otherwise.",
        flag(role == MemberRole::Replica),
    );
    let is_sync = flag(duty == SyncDuty::Standby);
    page.gauge("patroni_sync_standby", "Value is 1 if this node is a sync standby, 0 otherwise.", is_sync);
    let is_voter = flag(duty == SyncDuty::QuorumVoter);
    page.gauge("patroni_quorum_standby", "Value is 1 if this node is a quorum standby, 0 otherwise.", is_voter);
    let in_recovery = postgres.in_recovery == Some(true);
    let received = position(postgres.received.or(postgres.replayed).filter(|_| in_recovery));
    page.counter("patroni_xlog_received_location", "Received position of a replica, 0 otherwise.", received);
    let replayed = position(postgres.replayed.filter(|_| in_recovery));
    page.counter("patroni_xlog_replayed_location", "Replayed position of a replica, 0 otherwise.", replayed);
    let replayed_at = seconds(postgres.replayed_timestamp.as_deref());
    page.gauge("patroni_xlog_replayed_timestamp", "Time of the last replayed transaction, 0 if null.", replayed_at);
    let paused = flag(in_recovery && postgres.replay_paused);
    page.gauge("patroni_xlog_paused", "Value is 1 if replay is paused, 0 otherwise.", paused);
}

fn cluster(page: &mut Page, status: &Status, postgres: &PostgresStatus, now: Instant) {
    if postgres.server_version.is_some() {
        let is = |state| flag(postgres.replication_state == Some(state));
        let streaming = is(ReplicationState::Streaming);
        page.gauge("patroni_postgres_streaming", "Value is 1 if Postgres is streaming, 0 otherwise.", streaming);
        let archive = is(ReplicationState::InArchiveRecovery);
        let help = "Value is 1 if Postgres is replicating from archive, 0 otherwise.";
        page.gauge("patroni_postgres_in_archive_recovery", help, archive);
    }
    let server_version = postgres.server_version.unwrap_or(0);
    page.gauge("patroni_postgres_server_version", "Version of Postgres, 0 if it is not running.", server_version);
    let unlocked = status.cluster.as_ref().is_none_or(|cluster| cluster.view.leader.is_none());
    page.gauge("patroni_cluster_unlocked", "Value is 1 if the cluster is unlocked, 0 if locked.", flag(unlocked));
    let help = "Value is 1 if failsafe mode is active, 0 if inactive.";
    let active = status.failsafe_until.is_some_and(|until| until > now);
    page.gauge("patroni_failsafe_mode_is_active", help, flag(active));
    let timeline = postgres.timeline.map_or(0, |timeline| timeline.0);
    page.gauge("patroni_postgres_timeline", "Postgres timeline of this node, 0 if it is not running.", timeline);
    let help = "Epoch timestamp when DCS was last contacted successfully.";
    page.gauge("patroni_dcs_last_seen", help, status.dcs_last_seen);
    let pending = flag(!status.pending_restart.is_empty());
    page.gauge("patroni_pending_restart", "Value is 1 if the node needs a restart, 0 otherwise.", pending);
    let paused = flag(status.pause == Pause::Paused);
    page.gauge("patroni_is_paused", "Value is 1 if auto failover is disabled, 0 otherwise.", paused);
    let state = STATES.iter().position(|(state, _)| *state == shown_state(status));
    let state = state.and_then(|number| i32::try_from(number).ok()).unwrap_or(-1);
    let values: Vec<String> = STATES.iter().enumerate().map(|(number, (_, name))| format!("{number}={name}")).collect();
    let help = format!("Numeric representation of Postgres state.\n# Values: {}", values.join(", "));
    page.gauge("patroni_postgres_state", &help, state);
}

/// What Patroni does not tell.
fn ours(page: &mut Page, status: &Status, postgres: &PostgresStatus, now: Instant) {
    let left = status.leader_until.filter(|until| now < *until).map_or(0.0, |until| (until.0 - now.0).as_secs_f64());
    page.gauge(
        "tamada_leader",
        "Value is 1 if this node holds the leader lock, 0 otherwise.",
        flag(is_leader(status, now)),
    );
    page.gauge("tamada_leader_lock_remaining_seconds", "How long the leader lock lasts unless it is renewed.", left);
    let serving = flag(takes_connections(status, now));
    page.gauge(
        "tamada_postgres_accepts_connections",
        "Value is 1 if Postgres takes connections, 0 otherwise.",
        serving,
    );
    let senders = postgres.replication.len();
    page.gauge("tamada_replication_connections", "Number of WAL senders of this node.", senders);
    let working = flag(status.job.is_some());
    page.gauge("tamada_job_running", "Value is 1 while a start, stop, clone or the like is under way.", working);
    page.labels = format!("{},version=\"{}\"", page.labels, env!("CARGO_PKG_VERSION"));
    page.gauge("tamada_info", "Version of tamada.", 1);
}

struct Page {
    text: String,
    labels: String,
}

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, help, "gauge", value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, help, "counter", value);
    }

    fn metric(&mut self, name: &str, help: &str, kind: &str, value: impl Display) {
        let labels = &self.labels;
        let written = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{{{labels}}} {value}");
        written.expect("a string takes whatever is written");
    }
}

fn flag(holds: bool) -> u8 {
    u8::from(holds)
}

/// `4.1.4` is `040104`.
fn version() -> String {
    PATRONI_VERSION.split('.').map(|part| format!("{part:0>2}")).collect()
}

/// Seconds since the epoch of a time as PostgreSQL writes it.
fn seconds(time: Option<&str>) -> f64 {
    let timestamp = time.and_then(|time| time.parse::<Timestamp>().ok());
    timestamp.map_or(0.0, |timestamp| timestamp.as_microsecond() as f64 / 1e6)
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture;

    const NOW: Instant = Instant::from_millis(1_000_000);

    fn value<'a>(page: &'a str, name: &str) -> Option<&'a str> {
        let start = format!("{name}{{scope=\"demo\",name=");
        page.lines().find(|line| line.starts_with(&start))?.rsplit_once(' ').map(|(_, value)| value)
    }

    fn assert_values(page: &str, expected: &[(&str, &str)]) {
        for (name, expected) in expected {
            assert_eq!(value(page, name), Some(*expected), "{name}");
        }
    }

    #[test]
    fn a_primary_has_patronis_metrics_in_patronis_order() {
        let page = render(&fixture::primary(), NOW);
        let names: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE patroni_")?.split(' ').next()).collect();
        let expected = "version postgres_running postmaster_start_time primary xlog_location standby_leader replica \
                        sync_standby quorum_standby xlog_received_location xlog_replayed_location \
                        xlog_replayed_timestamp xlog_paused postgres_streaming postgres_in_archive_recovery \
                        postgres_server_version cluster_unlocked failsafe_mode_is_active postgres_timeline \
                        dcs_last_seen pending_restart is_paused postgres_state";
        assert_eq!(names.join(" "), expected);
        assert!(page.contains("patroni_version{scope=\"demo\",name=\"n0\"} 040105\n"), "{page}");
        assert!(page.contains("\n# Values: 0=initdb, 1=initdb_failed, "), "{page}");
        assert_values(
            &page,
            &[
                ("patroni_postgres_running", "1"),
                ("patroni_postmaster_start_time", "1795338852.217476"),
                ("patroni_primary", "1"),
                ("patroni_xlog_location", "67108960"),
                ("patroni_replica", "0"),
                ("patroni_postgres_server_version", "150020"),
                ("patroni_postgres_timeline", "1"),
                ("patroni_cluster_unlocked", "0"),
                ("patroni_postgres_state", "5"),
                ("tamada_leader", "1"),
                ("tamada_replication_connections", "1"),
                ("tamada_info", "1"),
            ],
        );
    }

    #[test]
    fn a_replica_shows_what_it_received_and_replayed() {
        let page = render(&fixture::replica(), NOW);
        assert_values(
            &page,
            &[
                ("patroni_primary", "0"),
                ("patroni_replica", "1"),
                ("patroni_xlog_location", "0"),
                ("patroni_xlog_received_location", "67108960"),
                ("patroni_xlog_replayed_location", "67108960"),
                ("patroni_xlog_replayed_timestamp", "1795339101.207954"),
                ("patroni_postgres_streaming", "1"),
                ("tamada_leader", "0"),
                ("tamada_leader_lock_remaining_seconds", "0"),
            ],
        );
    }

    #[test]
    fn a_server_that_gives_no_answer_is_in_no_known_state() {
        let status = Status { postgres: PostgresStatus::default(), ..fixture::primary() };
        let expected =
            [("patroni_postgres_state", "-1"), ("patroni_postgres_running", "0"), ("patroni_xlog_location", "0")];
        assert_values(&render(&status, NOW), &expected);
    }

    #[test]
    fn what_a_person_has_set_or_has_to_do_shows() {
        let mut status = fixture::primary();
        status.pause = Pause::Paused;
        status.pending_restart.insert("max_connections".into(), serde_json::json!({}));
        fixture::change_cluster(&mut status, |cluster| cluster.view.leader = None);
        let expected =
            [("patroni_is_paused", "1"), ("patroni_pending_restart", "1"), ("patroni_cluster_unlocked", "1")];
        assert_values(&render(&status, NOW), &expected);
        let before = [("patroni_is_paused", "0"), ("patroni_pending_restart", "0")];
        assert_values(&render(&fixture::primary(), NOW), &before);
    }

    #[test]
    fn a_server_that_is_down_has_zeros() {
        let mut status = fixture::replica();
        status.state = MemberState::Crashed;
        status.scope = "a\"b\\c".into();
        let page = render(&status, NOW).replace("scope=\"a\\\"b\\\\c\"", "scope=\"demo\"");
        assert_values(
            &page,
            &[
                ("patroni_postgres_running", "0"),
                ("patroni_xlog_replayed_location", "0"),
                ("patroni_postgres_server_version", "0"),
                ("patroni_postgres_state", "14"),
            ],
        );
        assert_eq!(value(&page, "patroni_postgres_streaming"), None);
    }
}
