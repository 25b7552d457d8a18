//! etcd does not answer for longer than a lease lasts.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::load::{Habit, TABLE, Writer, lost};
use crate::member::Member;
use crate::processes;
use crate::wait::{always, eventually, seconds, until};
use crate::world::{Cluster, SOON, Store};

const TTL: u64 = 5;

#[test]
fn a_primary_without_etcd_stops_writing_in_time_and_goes_on_afterwards() {
    a_primary_without_its_store_stops_writing_in_time_and_goes_on_afterwards(Cluster::start(3));
}

pub fn a_primary_without_its_store_stops_writing_in_time_and_goes_on_afterwards<S: Store>(mut cluster: Cluster<S>) {
    let (old, _) = cluster.whole(SOON);
    cluster.members[old].must(TABLE);
    let targets: Vec<&Member> = cluster.members.iter().collect();
    let writer = Writer::start(&targets, Habit::Roams, 1);
    until(SOON, "writes", || cluster.members[old].value("SELECT count(*) > 20 FROM writes").is_ok_and(|t| t == "t"));

    cluster.store.freeze();
    let frozen = Instant::now();
    let writable = |member: &Member| member.value("SELECT pg_is_in_recovery()").is_ok_and(|value| value == "f");
    until(seconds(TTL + 1), "the primary gives up", || !writable(&cluster.members[old]));
    println!("no longer writable after {:?}", frozen.elapsed());
    let read_only = || cluster.members[old].value("SELECT pg_is_in_recovery()");
    let (answer, took) = eventually(SOON, "the old primary answers again", read_only);
    println!("it answers again {took:?} later");
    assert_eq!(answer, "t", "as a standby");
    always(Duration::from_secs(2), "nobody is writable while it is frozen", || !cluster.members.iter().any(writable));
    for member in &cluster.members {
        assert_eq!(member.get("/liveness").expect("an answer").code, 200);
        assert_ne!(member.get("/primary").expect("an answer").code, 200);
    }

    cluster.store.thaw();
    let thawed = Instant::now();
    let (_, took) = cluster.primary(seconds(2 * TTL));
    println!("writable {took:?} after it came back");
    let (new, _) = cluster.whole(SOON);
    std::thread::sleep(Duration::from_millis(200));
    let acks = writer.stop();
    assert!(acks.last().is_some_and(|ack| ack.at > thawed), "writes go on");
    let between = |ack: &&crate::load::Ack| ack.at > frozen + seconds(TTL) && ack.at < thawed;
    assert_eq!(acks.iter().filter(between).count(), 0, "nothing is acknowledged without a lease");
    assert_eq!(lost(&acks, &cluster.members[new]), [0; 0]);
}

/// As after PID 1's deadline: neither a server nor the agent that would start it again is left, and etcd is away.
#[test]
fn a_new_agent_serves_reads_without_etcd_and_with_the_clusters_settings() {
    let mut cluster = Cluster::start(1);
    let change = json!({"postgresql": {"parameters": {"max_connections": 47}}});
    assert_eq!(cluster.members[0].send("PATCH", "/config", &change).expect("an answer").code, 200);
    let data = cluster.members[0].data();
    let kept = || std::fs::read_to_string(data.join("patroni.dynamic.json")).unwrap_or_default().contains("47");
    until(SOON, "it is kept beside the data", kept);
    until(SOON, "so is the cluster's identifier", || data.join(".tamada.cluster").exists());
    cluster.store.freeze(0);
    let member = &mut cluster.members[0];
    let (agent, postmaster) = (member.agent().expect("it runs"), member.postmaster().expect("it runs"));
    processes::signal(agent, Signal::SIGKILL);
    processes::signal(postmaster, Signal::SIGKILL);
    let reads = || member.value("SELECT pg_is_in_recovery()").is_ok_and(|value| value == "t");
    let took = until(SOON, "it serves reads", reads);
    println!("reads after {took:?}");
    assert_eq!(member.must("SHOW max_connections"), "47");
    cluster.store.thaw(0);
    cluster.members[0].wait_writable(SOON);
}
