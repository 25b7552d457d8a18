//! Synchronous replication: whom commits wait for, what becomes of a standby that dies, and that no acknowledged write is
//! ever missing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::load::{Habit, TABLE, Writer, longest_gap, lost};
use crate::member::Member;
use crate::wait::{seconds, until};
use crate::world::{Cluster, SOON, Store};

/// How long commits may stand still when the standby that they wait for dies. Measured: 0.3 s at most.
const STALL: Duration = Duration::from_secs(1);

fn roaming<S: Store>(cluster: &Cluster<S>, first: usize) -> Writer {
    let order = (0..cluster.members.len()).map(|at| (first + at) % cluster.members.len());
    let targets: Vec<&Member> = order.map(|at| &cluster.members[at]).collect();
    Writer::start(&targets, Habit::Roams, 1)
}

/// The names of those whose role this is, by `/cluster`.
fn with_role<S: Store>(cluster: &Cluster<S>, by: usize, role: &str) -> Vec<String> {
    let document = cluster.cluster_document(by);
    let members = document["members"].as_array().cloned().unwrap_or_default();
    let found = members.iter().filter(|member| member["role"] == role);
    found.filter_map(|member| member["name"].as_str().map(str::to_owned)).collect()
}

fn waits_for<S: Store>(cluster: &Cluster<S>, at: usize) -> String {
    cluster.members[at].value("SHOW synchronous_standby_names").unwrap_or_default()
}

fn patch<S: Store>(cluster: &Cluster<S>, at: usize, body: &Value) {
    let reply = cluster.members[at].send("PATCH", "/config", body).expect("an answer");
    assert_eq!(reply.code, 200, "{}", reply.body);
}

/// Waits until so many have this role, and the leader waits for them.
fn settled<S: Store>(cluster: &Cluster<S>, leader: usize, role: &str, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    until(SOON, "the synchronous standbys are chosen", || {
        names = with_role(cluster, leader, role);
        let setting = waits_for(cluster, leader);
        names.len() == count && names.iter().all(|name| setting.contains(name.as_str()))
    });
    names
}

/// As it stands in etcd; empty where there is none.
fn key(cluster: &Cluster) -> String {
    let output = cluster.store.etcdctl(&["get", "--print-value-only", "/service/demo/sync"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn index<S: Store>(cluster: &Cluster<S>, name: &str) -> usize {
    cluster.members.iter().position(|member| member.name == name).expect("a member")
}

fn start(mode: &str, strict: &str) -> Cluster {
    let mut cluster = Cluster::prepare(3);
    cluster.set("PATRONI_SYNCHRONOUS_MODE", mode).set("PATRONI_SYNCHRONOUS_MODE_STRICT", strict);
    cluster
}

#[test]
fn commits_go_on_at_once_when_a_synchronous_standby_dies() {
    let mut cluster = start("on", "off");
    // A leader with the usual timers looks every ten seconds only.
    for (name, value) in [("PATRONI_TTL", "30"), ("PATRONI_LOOP_WAIT", "10"), ("PATRONI_RETRY_TIMEOUT", "10")] {
        cluster.set(name, value);
    }
    cluster.start_all();
    let (leader, _) = cluster.whole(seconds(60));
    cluster.members[leader].must(TABLE);
    let mut first = 1;
    for _ in 0..3 {
        let standby = settled(&cluster, leader, "sync_standby", 1).remove(0);
        let standby = index(&cluster, &standby);
        let writer = Writer::start(&[&cluster.members[leader]], Habit::Stays, first);
        until(SOON, "writes", || {
            cluster.members[leader].value("SELECT count(*) > 20 FROM writes").is_ok_and(|t| t == "t")
        });
        cluster.members[standby].kill();
        let killed = Instant::now();
        until(seconds(5), "writes go on", || killed.elapsed() > STALL * 2);
        let acks = writer.stop();
        println!("commits stood still for {:?}", longest_gap(&acks));
        assert!(longest_gap(&acks) < STALL, "{:?}", longest_gap(&acks));
        assert!(acks.last().is_some_and(|last| last.at > killed + STALL), "writes go on");
        first = acks.last().map_or(first, |last| last.seq) + 1_000;
        cluster.members[standby].start();
        cluster.whole(seconds(60));
    }
}

/// In each mode, with the node of the leader gone at once.
fn nothing_is_lost(mode: &str, strict: &str, role: &str, count: usize) {
    let mut cluster = start(mode, strict);
    cluster.start_all();
    let (first, _) = cluster.whole(seconds(60));
    cluster.members[first].must(TABLE);
    settled(&cluster, first, role, count);
    let writer = roaming(&cluster, first);
    until(SOON, "writes", || cluster.members[first].value("SELECT count(*) > 50 FROM writes").is_ok_and(|t| t == "t"));
    cluster.members[first].kill();
    let (second, took) = cluster.primary(seconds(12));
    println!("{mode}: a new primary after {took:?}");
    cluster.members[first].start();
    cluster.whole(SOON);
    let (from, to) = (cluster.members[second].name.clone(), settled(&cluster, second, role, count).remove(0));
    let reply = cluster.members[second].send("POST", "/switchover", &json!({"leader": from, "candidate": to}));
    assert_eq!(reply.map(|reply| reply.code), Ok(200));
    let (third, _) = cluster.whole(SOON);
    assert_eq!(cluster.members[third].name, to);
    settled(&cluster, third, role, count);
    let acks = writer.stop();
    println!("{mode}: {} acknowledged writes, longest gap {:?}", acks.len(), longest_gap(&acks));
    assert_eq!(lost(&acks, &cluster.members[third]), [0; 0]);
}

#[test]
fn nothing_is_lost_in_synchronous_mode() {
    nothing_is_lost("on", "off", "sync_standby", 1);
}

#[test]
fn nothing_is_lost_in_strict_synchronous_mode() {
    nothing_is_lost("on", "on", "sync_standby", 1);
}

#[test]
fn nothing_is_lost_with_quorum_commit() {
    nothing_is_lost("quorum", "off", "quorum_standby", 2);
}

#[test]
fn the_mode_is_changed_while_writes_go_on() {
    let mut cluster = Cluster::prepare(3);
    cluster.start_all();
    let (leader, _) = cluster.whole(seconds(60));
    cluster.members[leader].must(TABLE);
    let writer = Writer::start(&[&cluster.members[leader]], Habit::Stays, 1);
    for _ in 0..2 {
        patch(&cluster, leader, &json!({"synchronous_mode": true}));
        let standby = settled(&cluster, leader, "sync_standby", 1).remove(0);
        assert_eq!(waits_for(&cluster, leader), standby);
        let reply = cluster.members[index(&cluster, &standby)].get("/sync").expect("an answer");
        assert_eq!(reply.code, 200, "{}", reply.body);
        patch(&cluster, leader, &json!({"synchronous_node_count": 2}));
        settled(&cluster, leader, "sync_standby", 2);
        assert!(waits_for(&cluster, leader).starts_with("2 ("), "{}", waits_for(&cluster, leader));
        patch(&cluster, leader, &json!({"synchronous_mode": "quorum", "synchronous_node_count": null}));
        settled(&cluster, leader, "quorum_standby", 2);
        until(SOON, "one of both confirms", || waits_for(&cluster, leader).starts_with("ANY 1 ("));
        until(SOON, "the quorum is published", || key(&cluster).contains("\"quorum\":1"));
        patch(&cluster, leader, &json!({"synchronous_mode": "off"}));
        until(SOON, "nobody is waited for", || waits_for(&cluster, leader).is_empty());
        until(SOON, "the key is gone", || key(&cluster).is_empty());
    }
    let refused = json!({"synchronous_mode": "maybe", "synchronous_node_count": -1});
    let reply = cluster.members[leader].send("PATCH", "/config", &refused).expect("an answer");
    assert_eq!(reply.code, 422, "{}", reply.body);
    assert!(reply.body.contains("synchronous_mode") && reply.body.contains("synchronous_node_count"), "{}", reply.body);
    let acks = writer.stop();
    assert!(longest_gap(&acks) < seconds(2), "{:?}", longest_gap(&acks));
    assert_eq!(lost(&acks, &cluster.members[leader]), [0; 0]);
}

#[test]
fn in_strict_mode_commits_wait_for_a_standby_to_come_back() {
    let mut cluster = start("on", "on");
    cluster.members.truncate(2);
    cluster.start_all();
    let (leader, _) = cluster.whole(seconds(60));
    cluster.members[leader].must(TABLE);
    settled(&cluster, leader, "sync_standby", 1);
    cluster.members[1 - leader].kill();
    let waits = || {
        cluster.members[leader]
            .value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
            .unwrap_or_default()
    };
    let writer = Writer::start(&[&cluster.members[leader]], Habit::Stays, 1);
    until(SOON, "a commit waits", || waits() == "1");
    assert!(cluster.members[leader].get("/primary").is_ok_and(|reply| reply.code == 200), "reads and the lock go on");
    assert!(writer.stop().is_empty(), "no commit is confirmed that nobody else has");
    cluster.members[1 - leader].start();
    cluster.whole(SOON);
    settled(&cluster, leader, "sync_standby", 1);
    cluster.members[leader].must("INSERT INTO writes VALUES (-1)");
}

/// An agent that begins anew beside a running primary must not let it confirm a commit without its standby.
#[test]
fn an_agent_that_begins_anew_changes_nothing() {
    let mut cluster = start("on", "off");
    cluster.start_all();
    let (leader, _) = cluster.whole(seconds(60));
    let standby = settled(&cluster, leader, "sync_standby", 1).remove(0);
    let loaded = cluster.members[leader].must("SELECT pg_conf_load_time()");
    let agent = cluster.members[leader].agent().expect("an agent");
    crate::processes::signal(agent, nix::sys::signal::Signal::SIGKILL);
    until(SOON, "another agent", || cluster.members[leader].agent().is_some_and(|now| now != agent));
    until(SOON, "it answers", || cluster.members[leader].get("/primary").is_ok_and(|reply| reply.code == 200));
    assert_eq!(waits_for(&cluster, leader), standby);
    assert_eq!(with_role(&cluster, leader, "sync_standby"), [standby]);
    println!("configuration loaded at {loaded}, now {}", cluster.members[leader].must("SELECT pg_conf_load_time()"));
}
