//! Against what patronictl prints for the same cluster.

use serde_json::json;

use super::*;

fn cluster() -> ClusterDocument {
    let document = json!({"members": [
        {"name": "n0", "role": "leader", "state": "running", "host": "127.0.0.1", "port": 15430, "timeline": 1},
        {"name": "n1", "role": "replica", "state": "creating replica", "host": "127.0.0.1", "port": 15431,
         "receive_lsn": "unknown", "receive_lag": "unknown", "replay_lsn": "unknown", "replay_lag": "unknown"},
        {"name": "n2", "role": "sync_standby", "state": "streaming", "host": "127.0.0.1", "port": 15432, "timeline": 1,
         "receive_lag": 0, "receive_lsn": "0/4042A38", "replay_lag": 3_145_728, "replay_lsn": "0/4042A38"},
    ], "scope": "demo"});
    serde_json::from_value(document).expect("a document")
}

fn extended() -> ClusterDocument {
    let mut cluster = cluster();
    cluster.members[0].pending_restart = Some(json!(true));
    cluster.members[0].pending_restart_reason =
        Some(json!({"max_connections": {"old_value": "100", "new_value": "120"}}));
    cluster.members[0].scheduled_restart =
        Some(json!({"schedule": "2030-01-01T00:00:00+01:00", "postgres_version": "15.99"}));
    cluster.members[2].tags = Some(json!({"num": 5, "clonefrom": true}));
    cluster
}

#[test]
fn tsv_has_all_columns() {
    let expected = "\
Cluster\tMember\tHost\tRole\tState\tTL\tReceive LSN\tReceive Lag\tReplay LSN\tReplay Lag\tTags
demo\tn0\t127.0.0.1:15430\tLeader\trunning\t1\t\t\t\t\t
demo\tn1\t127.0.0.1:15431\tReplica\tcreating replica\t\tunknown\t\tunknown\t\t
demo\tn2\t127.0.0.1:15432\tSync Standby\tstreaming\t1\t0/4042A38\t0\t0/4042A38\t3\t{clonefrom: true, num: 5}";
    let mut cluster = cluster();
    cluster.members[2].tags = Some(json!({"num": 5, "clonefrom": true}));
    assert_eq!(tsv(&[&cluster], Extended::IfUsed), expected);
    let titles = tsv(&[&cluster], Extended::Always);
    let titles = titles.lines().next().unwrap_or_default();
    assert!(titles.ends_with("Pending restart\tPending restart reason\tScheduled restart\tTags"), "{titles}");
}

#[test]
fn json_leaves_out_what_is_empty() {
    let expected = json!([
        {"Cluster": "demo", "Member": "n0", "Host": "127.0.0.1:15430", "Role": "Leader", "State": "running", "TL": 1,
         "Pending restart": "*", "Pending restart reason": "max_connections: 100->120",
         "Scheduled restart": "2030-01-01T00:00:00+01:00 if version < 15.99"},
        {"Cluster": "demo", "Member": "n1", "Host": "127.0.0.1:15431", "Role": "Replica", "State": "creating replica",
         "Receive LSN": "unknown", "Replay LSN": "unknown"},
        {"Cluster": "demo", "Member": "n2", "Host": "127.0.0.1:15432", "Role": "Sync Standby", "State": "streaming",
         "TL": 1, "Receive LSN": "0/4042A38", "Receive Lag": 0, "Replay LSN": "0/4042A38", "Replay Lag": 3,
         "Tags": {"num": 5, "clonefrom": true}},
    ]);
    assert_eq!(Value::from(objects(&[&extended()])), expected);
}

#[test]
fn hosts_show_ports_only_where_they_are_needed() {
    let mut cluster = cluster();
    for (member, host) in cluster.members.iter_mut().zip(["a", "b", "c"]) {
        member.host = Some(host.into());
        member.port = Some(5432);
    }
    let hosts = |cluster: &ClusterDocument| rows(cluster).into_iter().map(|row| row.host).collect::<Vec<_>>();
    assert_eq!(hosts(&cluster), ["a", "b", "c"]);
    cluster.members[1].host = Some("a".into());
    assert_eq!(hosts(&cluster), ["a:5432", "a:5432", "c:5432"]);
}

#[test]
fn the_table_has_its_footer() {
    let mut cluster = cluster();
    cluster.pause = Some(true);
    cluster.scheduled_switchover =
        serde_json::from_value(json!({"at": "2030-01-01T00:00:00+02:00", "from": "n0", "to": "n2"})).ok();
    let expected = [
        " Maintenance mode: on",
        " Switchover scheduled at: 2030-01-01T00:00:00+02:00",
        "                    from: n0",
        "                      to: n2",
    ];
    assert_eq!(footer(&cluster), expected);
    assert_eq!(footer(&extended()), [""; 0]);
}

#[test]
fn long_reasons_are_hidden_in_tables() {
    let long = format!("archive_command: {}->x", "y".repeat(50));
    assert_eq!(shortened(&long), "archive_command: [hidden - too long]");
    assert_eq!(shortened("max_connections: 100->120"), "max_connections: 100->120");
}
