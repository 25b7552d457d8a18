//! Each health check against each role, state and query, as Patroni answers it.

use serde_json::json;

use super::*;
use crate::api::fixture::{self, LATER};
use crate::core::units::Lsn;
use std::time::Duration;

const NOW: Instant = Instant::from_millis(1_000_000);

fn ok(status: &Status, target: &str) -> bool {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    check(status, path, &Query::parse(query), NOW) == Verdict::Healthy
}

/// Asserts which of `paths` are healthy; `expected` has one letter each: `y` or `n`.
fn assert_all(what: &str, status: &Status, paths: &[&str], expected: &str) {
    assert_eq!(paths.len(), expected.len());
    let found: String = paths.iter().map(|path| if ok(status, path) { 'y' } else { 'n' }).collect();
    assert_eq!(found, expected, "{what}: {paths:?}");
}

fn named(mut status: Status, name: &str) -> Status {
    status.name = name.into();
    status
}

fn synchronous(status: Status, standbys: &[&str]) -> Status {
    fixture::with_sync(fixture::with_config(status, "synchronous_mode", json!(true)), standbys)
}

fn quorum(status: Status, voters: &[&str]) -> Status {
    fixture::with_sync(fixture::with_config(status, "synchronous_mode", json!("quorum")), voters)
}

const MATRIX: [&str; 17] = [
    "/",
    "/primary",
    "/master",
    "/read-write",
    "/leader",
    "/replica",
    "/read-only",
    "/health",
    "/sync",
    "/synchronous",
    "/async",
    "/asynchronous",
    "/quorum",
    "/read-only-sync",
    "/read-only-synchronous",
    "/read-only-quorum",
    "/standby-leader",
];

#[test]
fn answers_as_in_the_verified_matrix() {
    let primary = synchronous(fixture::primary(), &["n2"]);
    let asynchronous = synchronous(fixture::replica(), &["n2"]);
    let sync_standby = synchronous(named(fixture::replica(), "n2"), &["N2"]);
    let voter = quorum(named(fixture::replica(), "n2"), &["n1", "n2"]);
    assert_all("primary", &primary, &MATRIX, "yyyyynyynnnnnyyyn");
    assert_all("asynchronous", &asynchronous, &MATRIX, "nnnnnyyynnyynnnnn");
    assert_all("synchronous", &sync_standby, &MATRIX, "nnnnnyyyyynnnyynn");
    assert_all("voter", &voter, &MATRIX, "nnnnnyyynnnnynnyn");
}

#[test]
fn without_synchronous_mode_every_replica_is_asynchronous() {
    assert_all("primary", &fixture::primary(), &MATRIX, "yyyyynyynnnnnyyyn");
    assert_all("replica", &fixture::replica(), &MATRIX, "nnnnnyyynnyynnnnn");
    // A sync key left behind does not count while the mode is off.
    let left_behind = fixture::with_sync(fixture::replica(), &["n1"]);
    assert_all("left behind", &left_behind, &MATRIX, "nnnnnyyynnyynnnnn");
}

#[test]
fn a_standby_leader_is_neither_primary_nor_replica() {
    let mut leader = fixture::with_config(fixture::replica(), "standby_cluster", json!({"host": "elsewhere"}));
    leader.leader_until = Some(LATER);
    for role in [MemberRole::StandbyLeader, MemberRole::Replica] {
        leader.role = role;
        let paths = [
            "/leader",
            "/standby-leader",
            "/standby_leader",
            "/read-only",
            "/read-only-sync",
            "/primary",
            "/",
            "/replica",
            "/async",
        ];
        assert_all("standby leader", &leader, &paths, "yyyyynnnn");
    }
}

#[test]
fn a_section_that_names_nothing_to_follow_makes_no_standby_leader() {
    for section in [json!({"host": null, "port": 0, "restore_command": ""}), json!({"host": null}), json!(null)] {
        let mut leader = fixture::with_config(fixture::primary(), "standby_cluster", section);
        leader.leader_until = Some(LATER);
        assert_all("primary", &leader, &["/primary", "/standby-leader"], "yn");
    }
}

#[test]
fn paths_match_by_substring_up_to_health_and_exactly_after() {
    let paths = [
        "/xstandby_leaderx",
        "/my-leader/replica",
        "/primary/abc",
        "/masters",
        "/a-read-write",
        "/replica/",
        "/xreplica",
        "/primary-replica",
        "/read-only/",
        "/healthz",
        "/sync/",
        "/async/",
        "/quorum/",
        "/read-only-sync/",
        "/read-only-quorum/",
        "/nothing",
        "//",
        "/Primary",
    ];
    assert_all("primary", &fixture::primary(), &paths, "nyyyynnyyynnnnnnnn");
    assert_all("replica", &fixture::replica(), &paths, "nnnnnyynyynnnnnnnn");
}

#[test]
fn being_leader_is_a_matter_of_the_lease_and_not_of_the_server() {
    let mut status = fixture::primary();
    let paths = ["/primary", "/leader", "/health", "/replica"];
    for (until, expected) in [
        (None, "nnyn"),
        (Some(NOW), "nnyn"),
        (Some(Instant(NOW.0 + Duration::from_nanos(1))), "yyyn"),
        (Some(NOW + Duration::from_secs(30)), "yyyn"),
    ] {
        status.leader_until = until;
        assert_all("lease", &status, &paths, expected);
    }
    // The lock is won and the promotion under way: a replica that is leader already.
    let mut promoting = fixture::replica();
    promoting.leader_until = Some(LATER);
    assert_all("promoting", &promoting, &paths, "yyyy");
    // It gives no answer for a moment.
    status.postgres = Default::default();
    assert_all("busy", &status, &paths, "yynn");
}

#[test]
fn a_leader_whose_server_takes_no_connections_is_no_primary() {
    let paths = ["/", "/primary", "/leader", "/read-write", "/master", "/read-only", "/read-only-sync"];
    let mut status = fixture::primary();
    status.postgres = Default::default();
    for state in [
        MemberState::Stopped,
        MemberState::Crashed,
        MemberState::Starting,
        MemberState::StartFailed,
        MemberState::Stopping,
        MemberState::Restarting,
        MemberState::RestartFailed,
    ] {
        status.state = state;
        assert_all(state.as_str(), &status, &paths, "nnnnnnn");
        assert_eq!(readiness(&status, &Query::default(), NOW), Verdict::Unhealthy, "{state:?}");
        let mut paused = status.clone();
        (paused.cluster, paused.pause) = (None, Pause::Paused);
        assert_all(state.as_str(), &paused, &paths, "nnnnnnn");
        let standby = fixture::with_config(status.clone(), "standby_cluster", json!({"host": "h"}));
        assert_all(state.as_str(), &standby, &["/leader", "/standby-leader"], "nn");
    }
    // A restart of ours is excused for a while.
    status.state = MemberState::Restarting;
    for (until, expected) in [(NOW, "nnnnnnn"), (NOW + Duration::from_secs(1), "yyyyyyy")] {
        status.restart_until = Some(until);
        assert_all("restarting", &status, &paths, expected);
    }
}

#[test]
fn paused_without_a_view_the_role_decides() {
    let paths = ["/primary", "/leader", "/standby-leader", "/replica"];
    for (role, expected) in
        [(MemberRole::Primary, "yynn"), (MemberRole::StandbyLeader, "nyyn"), (MemberRole::Replica, "nnny")]
    {
        let mut status = if role == MemberRole::Primary { fixture::primary() } else { fixture::replica() };
        status.role = role;
        status.leader_until = None;
        status.cluster = None;
        status.pause = Pause::Paused;
        assert_all(role.as_str(), &status, &paths, expected);
        status.pause = Pause::Running;
        assert_all(role.as_str(), &status, &paths[..3], "nnn");
    }
}

#[test]
fn without_a_view_the_synchronous_checks_fail_and_the_others_work() {
    let mut primary = fixture::primary();
    primary.cluster = None;
    let mut replica = fixture::replica();
    replica.cluster = None;
    assert_all("primary", &primary, &MATRIX, "yyyyynyynnnnnnnnn");
    assert_all("replica", &replica, &MATRIX, "nnnnnyyynnnnnnnnn");
}

#[test]
fn replicas_need_a_running_server() {
    for (state, healthy) in [
        (MemberState::Running, true),
        (MemberState::Starting, false),
        (MemberState::Stopping, false),
        (MemberState::CreatingReplica, false),
    ] {
        let mut status = fixture::replica();
        status.state = state;
        assert_eq!(ok(&status, "/replica"), healthy, "{state:?}");
        assert_eq!(ok(&status, "/health"), healthy, "{state:?}");
    }
    let mut silent = fixture::replica();
    silent.postgres = Default::default();
    assert_all("no answer", &silent, &["/replica", "/health", "/read-only"], "nnn");
}

#[test]
fn noloadbalance_takes_a_replica_out_but_not_its_health() {
    let mut status = fixture::replica();
    status.tags.noloadbalance = true;
    let paths = ["/replica", "/read-only", "/async", "/health"];
    assert_all("noloadbalance", &status, &paths, "nnny");
    let mut sync = synchronous(named(fixture::replica(), "n2"), &["n2"]);
    sync.tags.noloadbalance = true;
    assert_all("sync", &sync, &["/sync", "/read-only-sync"], "nn");
    let mut primary = fixture::primary();
    primary.tags.noloadbalance = true;
    assert_all("primary", &primary, &["/primary", "/leader", "/read-only"], "yyy");
}

#[test]
fn lag_counts_replayed_bytes_and_units() {
    let mut status = fixture::replica();
    status.postgres.replayed = Some(Lsn(fixture::END - 1024));
    for (query, expected) in [
        ("lag=1024", true),
        ("lag=1023", false),
        ("lag=1kB", true),
        ("lag=0x400", true),
        ("lag=0x3ff", false),
        ("lag=10MB", true),
        ("lag=1KB", true),
        ("lag=nonsense", true),
        ("lag=", true),
        ("lag=0", false),
    ] {
        assert_eq!(ok(&status, &format!("/replica?{query}")), expected, "{query}");
        assert_eq!(ok(&status, &format!("/async?{query}")), expected, "{query}");
    }
    let level = fixture::replica();
    assert!(ok(&level, "/replica?lag=0"));
    assert!(!ok(&level, "/replica?lag=-1"));
    // What the WAL receiver has heard counts when it is more than what was published.
    let mut behind = fixture::replica();
    behind.postgres.latest_end = Some(Lsn(fixture::END + 100));
    assert!(!ok(&behind, "/replica?lag=99"));
    assert!(ok(&behind, "/replica?lag=100"));
    // Nothing known of the leader: nobody lags.
    fixture::change_cluster(&mut status, |cluster| cluster.view.status.optime = None);
    assert!(ok(&status, "/replica?lag=0"));
}

#[test]
fn replication_state_must_match_when_it_is_asked_for() {
    let mut status = fixture::replica();
    assert!(ok(&status, "/replica?replication_state=streaming"));
    assert!(!ok(&status, "/replica?replication_state=in+archive+recovery"));
    status.postgres.replication_state = Some(ReplicationState::InArchiveRecovery);
    assert!(ok(&status, "/replica?replication_state=in%20archive%20recovery"));
    status.postgres.replication_state = None;
    assert!(!ok(&status, "/replica?replication_state=streaming"));
}

#[test]
fn tags_filter_replicas_but_not_leaders() {
    let mut replica = fixture::replica();
    let tags = json!({"foo": "Bar", "num": 5, "on": true, "none": null});
    replica.published_tags = tags.as_object().cloned().expect("an object");
    for (query, expected) in [
        ("tag_foo=Bar", true),
        ("tag_foo=bar", false),
        ("tag_num=5", true),
        ("tag_num=6", false),
        ("tag_on=true", true),
        ("tag_on=True", false),
        ("tag_x=1", false),
        ("tag_foo=Bar&tag_num=5", true),
        ("tag_foo=Bar&tag_num=4", false),
        ("other=1", true),
    ] {
        for path in ["/replica", "/read-only", "/health", "/async"] {
            assert_eq!(ok(&replica, &format!("{path}?{query}")), expected, "{path} {query}");
        }
    }
    let primary = fixture::primary();
    assert_all("primary", &primary, &["/primary?tag_x=1", "/leader?tag_x=1", "/?tag_x=1", "/health?tag_x=1"], "yyyn");
}

#[test]
fn liveness_follows_the_loop() {
    let mut replica = fixture::replica();
    let mut primary = fixture::primary();
    let ttl = Duration::from_secs(30);
    for (late, primary_lives, replica_lives) in
        [(29, true, true), (30, false, true), (59, false, true), (60, false, false)]
    {
        let next = NOW - Duration::from_secs(late);
        primary.next_cycle = next;
        replica.next_cycle = next;
        assert_eq!(primary.timing.ttl, ttl);
        assert_eq!(liveness(&primary, NOW) == Verdict::Healthy, primary_lives, "{late}");
        assert_eq!(liveness(&replica, NOW) == Verdict::Healthy, replica_lives, "{late}");
    }
    replica.pause = Pause::Paused;
    assert_eq!(liveness(&replica, NOW), Verdict::Healthy);
}

#[test]
fn readiness_follows_the_table() {
    let ready = |status: &Status, query: &str| readiness(status, &Query::parse(Some(query)), NOW) == Verdict::Healthy;
    assert!(ready(&fixture::primary(), ""));
    assert!(ready(&fixture::replica(), ""));

    let mut starting_leader = fixture::primary();
    starting_leader.state = MemberState::Starting;
    assert!(ready(&starting_leader, ""), "1: a leader whatever its server does");

    let mut starting = fixture::replica();
    starting.state = MemberState::Starting;
    assert!(!ready(&starting, ""), "2");

    let mut archive = fixture::replica();
    archive.postgres.replication_state = Some(ReplicationState::InArchiveRecovery);
    assert!(!ready(&archive, ""), "3");

    let mut alone = fixture::replica();
    alone.cluster = None;
    assert!(!ready(&alone, ""), "4");
    alone.postgres.latest_end = Some(Lsn(fixture::END));
    assert!(ready(&alone, ""), "4: the WAL receiver has heard the leader");

    let mut behind = fixture::replica();
    behind.postgres.replayed = Some(Lsn(fixture::END - 1_048_577));
    assert!(!ready(&behind, ""), "5: beyond the default");
    assert!(ready(&behind, "lag=2MB"), "6");
    assert!(ready(&behind, "mode=write"), "6: received, not replayed");
    assert!(!ready(&behind, "mode=apply"), "5");
    behind.postgres.replayed = Some(Lsn(fixture::END - 1_048_576));
    assert!(ready(&behind, ""), "6");
}
