//! The log of a member that runs.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::processes;
use crate::wait::{seconds, until};
use crate::world::{Cluster, SOON};

#[test]
fn every_line_is_an_object_where_json_is_asked_for() {
    let mut cluster = Cluster::prepare(1);
    // PostgreSQL's own log goes to standard output, in PostgreSQL's format.
    let member = &mut cluster.members[0];
    member.set("PATRONI_LOG_TYPE", "JSON").set("PATRONI_LOG_LEVEL", "DEBUG");
    member.before = format!("exec >{}", member.folder.join("postgresql.log").display());
    member.start();
    member.wait_log(seconds(30), "the leader with the lock");
    let agent = member.agent().expect("it runs");
    processes::signal(agent, Signal::SIGKILL);
    until(SOON, "another agent", || member.agent().is_some_and(|next| next != agent));
    until(SOON, "its API", || member.get("/primary").is_ok_and(|reply| reply.code == 200));
    assert_eq!(member.stop(), 0);

    let log = member.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.iter().all(|line| line["level"].is_string() && line["message"].is_string()), "{log}");
    let says = |text: &str| lines.iter().any(|line| line["message"].as_str().is_some_and(|said| said.contains(text)));
    assert!(says("agent was killed by signal 9") && says("the leader with the lock"), "{log}");
    let postgresql = fs::read_to_string(member.folder.join("postgresql.log")).expect("written");
    assert!(postgresql.contains("database system is ready to accept connections"));
}
