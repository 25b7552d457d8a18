//! A standby cluster of another one: made from its primary, with changes of the leader inside, promoted and demoted again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::member::Member;
use crate::wait::{eventually, seconds, until};
use crate::world::{Cluster, SOON};

/// Waits until one running member leads a standby cluster and the other ones stream from it.
fn standbys(cluster: &mut Cluster, limit: Duration) -> usize {
    let running: Vec<bool> = cluster.members.iter_mut().map(Member::runs).collect();
    let running: Vec<usize> = (0..running.len()).filter(|at| running[*at]).collect();
    let looked = || {
        let document = cluster.members[running[0]].get("/cluster")?.json();
        let mut leaders = Vec::new();
        for at in &running {
            let name = cluster.members[*at].name.as_str();
            let listed = document["members"].as_array().ok_or("/cluster lists no members")?;
            let seen = listed.iter().find(|member| member["name"] == name).ok_or(format!("no {name} in {document}"))?;
            match (seen["role"].as_str(), seen["state"].as_str()) {
                (Some("standby_leader"), Some("streaming")) => leaders.push(*at),
                (Some("replica"), Some("streaming")) => {}
                _ => return Err(format!("{name} is {seen}")),
            }
            if cluster.members[*at].value("SELECT pg_is_in_recovery()")? != "t" {
                return Err(format!("{name} takes writes"));
            }
        }
        let [leader] = leaders[..] else { return Err(format!("{} leaders in {document}", leaders.len())) };
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        match cluster.members[leader].value(sql)? == (running.len() - 1).to_string() {
            true => Ok(leader),
            false => Err("not all stream from the leader".to_owned()),
        }
    };
    eventually(limit, "a standby leader, the others streaming from it", looked).0
}

fn codes(member: &Member, expected: &[(&str, u16)]) {
    for (path, code) in expected {
        until(SOON, &format!("{path} of {} answers {code}", member.name), || {
            member.get(path).is_ok_and(|reply| reply.code == *code)
        });
    }
}

/// What is written to the source arrives at every member.
fn arrives(source: &Member, cluster: &mut Cluster, row: u32) {
    source.must(&format!("INSERT INTO rows VALUES ({row})"));
    for member in &mut cluster.members {
        if member.runs() {
            let sql = format!("SELECT count(*) FROM rows WHERE number = {row}");
            until(SOON, &format!("row {row} at {}", member.name), || {
                member.value(&sql).is_ok_and(|count| count == "1")
            });
        }
    }
}

fn patch(member: &Member, body: &Value, code: u16) -> String {
    let reply = member.send("PATCH", "/config", body).expect("an answer");
    assert_eq!(reply.code, code, "{reply:?}");
    reply.body
}

#[test]
fn a_standby_cluster_follows_another_one_and_changes_its_leader_and_its_kind() {
    let source = Cluster::start(1);
    let source_member = &source.members[0];
    source_member.must("CREATE TABLE rows (number int)");
    let mut cluster = Cluster::prepare(2);
    let port = source_member.sql.port();
    let host = source_member.sql.ip().to_string();
    cluster.set("PATRONI_STANDBY_CLUSTER", &format!("{{host: '{host}', port: {port}}}"));
    cluster.start_all();
    let leader = standbys(&mut cluster, seconds(60));
    let replica = 1 - leader;
    arrives(source_member, &mut cluster, 1);
    let of_leader =
        [("/leader", 200), ("/standby-leader", 200), ("/primary", 503), ("/replica", 503), ("/read-only", 200)];
    codes(&cluster.members[leader], &of_leader);
    codes(&cluster.members[replica], &[("/standby_leader", 503), ("/primary", 503), ("/replica", 200)]);
    let document = cluster.members[leader].get("/patroni").expect("an answer").json();
    assert_eq!(document["role"], "standby_leader", "{document}");

    // It may not follow itself.
    let own = cluster.members[replica].sql;
    let itself = json!({"standby_cluster": {"host": own.ip().to_string(), "port": own.port()}});
    let told = patch(&cluster.members[leader], &itself, 422);
    assert!(told.contains("cannot follow itself"), "{told}");

    // A planned change inside, without a stop of either.
    let body = json!({"leader": cluster.members[leader].name, "candidate": cluster.members[replica].name});
    let reply = cluster.members[leader].send("POST", "/switchover", &body).expect("an answer");
    assert_eq!(reply.code, 200, "{reply:?}");
    assert_eq!(standbys(&mut cluster, SOON), replica);
    arrives(source_member, &mut cluster, 2);

    // And one that nobody has planned.
    cluster.members[replica].kill();
    assert_eq!(standbys(&mut cluster, seconds(40)), leader);
    arrives(source_member, &mut cluster, 3);
    cluster.members[replica].start();
    standbys(&mut cluster, seconds(40));

    // An agent that is started anew goes on leading.
    let agent = cluster.members[leader].agent().expect("it runs");
    crate::processes::signal(agent, nix::sys::signal::Signal::SIGKILL);
    until(SOON, "another agent", || cluster.members[leader].agent().is_some_and(|now| now != agent));
    assert_eq!(standbys(&mut cluster, SOON), leader);

    // The whole of it becomes a cluster with a primary, and a standby cluster again: what was written there is given up.
    patch(&cluster.members[leader], &json!({"standby_cluster": null}), 200);
    cluster.members[leader].wait_writable(SOON);
    assert_eq!(cluster.whole(SOON).0, leader);
    codes(&cluster.members[leader], &[("/primary", 200), ("/standby-leader", 503)]);
    cluster.members[leader].must("INSERT INTO rows VALUES (100)");
    source_member.must("INSERT INTO rows VALUES (4)");
    let demoted =
        cluster.members[leader].ctl(&["demote-cluster", "--host", &host, "--port", &port.to_string(), "--force"]);
    let told = String::from_utf8_lossy(&demoted.stdout);
    assert!(demoted.status.success() && told.contains("cluster is successfully demoted"), "{demoted:?}");
    assert!(told.contains("Standby Leader"), "{told}");
    standbys(&mut cluster, seconds(60));
    arrives(source_member, &mut cluster, 5);
    for member in &cluster.members {
        assert_eq!(member.must("SELECT count(*) FROM rows WHERE number = 100"), "0");
    }
    let again = cluster.members[0].ctl(&["demote-cluster", "--host", "elsewhere", "--force"]);
    assert!(!again.status.success(), "{again:?}");
    let promoted = cluster.members[0].ctl(&["promote-cluster", "--force"]);
    assert!(promoted.status.success(), "{promoted:?}");
    cluster.whole(SOON);
}

#[test]
fn three_levels_of_members_stream_from_each_other() {
    let mut cluster = Cluster::prepare(3);
    cluster.members[1].set("PATRONI_TAGS", "{nofailover: true}");
    cluster.members[2].set("PATRONI_TAGS", "{replicatefrom: m2, nofailover: true}");
    cluster.start_all();
    cluster.members[0].wait_writable(seconds(40));
    let streams = |of: &Member, names: &str| {
        let sql = "SELECT coalesce(string_agg(application_name, ',' ORDER BY 1), '') FROM pg_stat_replication";
        until(seconds(40), &format!("{names} from {}", of.name), || of.value(sql).is_ok_and(|found| found == names));
    };
    streams(&cluster.members[0], "m2");
    streams(&cluster.members[1], "m3");
    let slots = "SELECT string_agg(slot_name || ' ' || active, ',' ORDER BY 1) FROM pg_replication_slots";
    until(SOON, "its slot is used where it streams from", || {
        cluster.members[1].value(slots).is_ok_and(|found| found == "m3 true")
    });
    // Without the one in the middle it follows the leader.
    cluster.members[1].kill();
    streams(&cluster.members[0], "m3");
    cluster.members[2].wait_log(SOON, "the tag replicatefrom names m2, which is not there");
    cluster.members[1].start();
    streams(&cluster.members[1], "m3");
    streams(&cluster.members[0], "m2");
}
