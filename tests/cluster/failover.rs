//! The primary goes: by a fault, by request, by its own stop. Who leads afterwards, after how long, with which data.

use serde_json::json;

use crate::load::{Habit, TABLE, Writer, longest_gap, lost};
use crate::member::Member;
use crate::wait::{seconds, until};
use crate::world::{Cluster, SOON};

/// What is left of the lease at most, and what an election takes.
const NODE_LOSS: u64 = 5 + 5;
const PLANNED: u64 = 3;

fn roaming(cluster: &Cluster, first: usize) -> Writer {
    let order = (0..cluster.members.len()).map(|at| (first + at) % cluster.members.len());
    let targets: Vec<&Member> = order.map(|at| &cluster.members[at]).collect();
    Writer::start(&targets, Habit::Roams, 1)
}

#[test]
fn a_lost_node_is_replaced_and_comes_back_as_a_replica() {
    let mut cluster = Cluster::start(3);
    let (old, _) = cluster.whole(SOON);
    cluster.members[old].must(TABLE);
    let writer = roaming(&cluster, old);
    until(SOON, "writes", || cluster.members[old].value("SELECT count(*) > 50 FROM writes").is_ok_and(|t| t == "t"));
    cluster.members[old].kill();
    let (new, took) = cluster.primary(seconds(NODE_LOSS));
    println!("a new primary after {took:?}");
    assert_ne!(new, old);
    cluster.whole(SOON);
    cluster.members[old].start();
    let (leader, took) = cluster.whole(SOON);
    println!("whole again {took:?} after the old primary's start");
    assert_eq!(leader, new, "the old primary does not take over");
    let acks = writer.stop();
    println!("{} acknowledged writes, longest gap {:?}", acks.len(), longest_gap(&acks));
    assert!(longest_gap(&acks) < seconds(NODE_LOSS));
    let kept: Vec<_> = acks.iter().filter(|ack| ack.by != 0).copied().collect();
    assert!(!kept.is_empty(), "writes go on");
    assert_eq!(lost(&kept, &cluster.members[new]), [0; 0], "what the new primary acknowledged");
    cluster.replayed(new, old);
}

#[test]
fn planned_changes_lose_nothing_and_take_little_time() {
    let mut cluster = Cluster::start(3);
    let (first, _) = cluster.whole(SOON);
    cluster.members[first].must(TABLE);
    let writer = roaming(&cluster, first);

    // By the REST API, to a member that is named.
    let second = (first + 1) % 3;
    let (from, to) = (cluster.members[first].name.clone(), cluster.members[second].name.clone());
    let reply = cluster.members[first].send("POST", "/switchover", &json!({"leader": from, "candidate": to}));
    let reply = reply.expect("an answer");
    assert_eq!((reply.code, reply.body.as_str()), (200, format!("Successfully switched over to \"{to}\"").as_str()));
    assert_eq!(cluster.whole(SOON).0, second);

    // By the command line, to any member.
    let output = cluster.members[first].ctl(&["switchover", "--leader", &to, "--force"]);
    assert!(output.status.success(), "{output:?}");
    let (third, _) = cluster.whole(SOON);
    assert_ne!(third, second);

    // By the stop of the primary's container.
    assert_eq!(cluster.members[third].stop(), 0);
    let (fourth, took) = cluster.primary(seconds(PLANNED));
    println!("a new primary {took:?} after the old one's end");
    assert_ne!(fourth, third);
    cluster.members[third].start();
    assert_eq!(cluster.whole(SOON).0, fourth);

    let acks = writer.stop();
    println!("{} acknowledged writes, longest gap {:?}", acks.len(), longest_gap(&acks));
    assert!(longest_gap(&acks) < seconds(PLANNED));
    for member in 0..3 {
        if member != fourth {
            cluster.replayed(fourth, member);
        }
        assert_eq!(lost(&acks, &cluster.members[member]), [0; 0], "on {}", cluster.members[member].name);
    }
    let history = cluster.members[fourth].get("/history").expect("an answer").json();
    assert_eq!(history.as_array().map(Vec::len), Some(3), "{history}");
}

#[test]
fn a_killed_postmaster_is_started_again_in_place() {
    let mut cluster = Cluster::start(2);
    let (leader, _) = cluster.whole(SOON);
    cluster.members[leader].must(TABLE);
    let writer = roaming(&cluster, leader);
    until(SOON, "writes", || cluster.members[leader].value("SELECT count(*) > 20 FROM writes").is_ok_and(|t| t == "t"));
    let postmaster = cluster.members[leader].postmaster().expect("it runs");
    crate::processes::signal(postmaster, nix::sys::signal::Signal::SIGKILL);
    until(SOON, "another postmaster", || cluster.members[leader].postmaster().is_some_and(|new| new != postmaster));
    assert_eq!(cluster.whole(SOON).0, leader);
    let acks = writer.stop();
    println!("{} acknowledged writes, longest gap {:?}", acks.len(), longest_gap(&acks));
    assert!(longest_gap(&acks) < seconds(5));
    assert_eq!(lost(&acks, &cluster.members[leader]), [0; 0]);
    assert_eq!(cluster.seen(leader, &cluster.members[leader].name)["timeline"], 1, "nobody was promoted");
}

#[test]
fn members_that_all_lost_power_go_on_without_the_last_primary() {
    let mut cluster = Cluster::start(3);
    let (first, _) = cluster.whole(SOON);
    cluster.members[first].must(TABLE);
    let name = cluster.members[first].name.clone();
    let output = cluster.members[first].ctl(&["switchover", "--leader", &name, "--force"]);
    assert!(output.status.success(), "{output:?}");
    let (last, _) = cluster.whole(SOON);
    cluster.members[last].must("INSERT INTO writes VALUES (1)");
    let others: Vec<usize> = (0..3).filter(|at| *at != last).collect();
    others.iter().for_each(|at| cluster.replayed(last, *at));
    cluster.members.iter_mut().for_each(Member::kill);
    others.iter().for_each(|at| cluster.members[*at].start());
    let (new, took) = cluster.whole(seconds(20));
    println!("whole {took:?} after the start");
    assert_eq!(cluster.members[new].must("SELECT seq FROM writes"), "1");
    cluster.members[last].start();
    assert_eq!(cluster.whole(SOON).0, new);
}
