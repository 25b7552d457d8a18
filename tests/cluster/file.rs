//! A member that is configured by a YAML file alone, given as the program's argument.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::etcd::Etcd;
use crate::member::{Member, REPLICATOR, bin_dir, password};
use crate::processes;
use crate::wait::{seconds, until};
use crate::world::{SOON, folder};

const FILE: &str = "patroni.yml";

fn document(member: &Member, etcd: &Etcd) -> Value {
    let endpoints: Vec<String> =
        etcd.endpoints().iter().map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port)).collect();
    json!({
        "scope": "demo",
        "name": "m1",
        "etcd3": {"hosts": endpoints},
        "restapi": {"listen": member.rest.to_string(), "connect_address": member.rest.to_string()},
        "bootstrap": {"dcs": {"ttl": 5, "loop_wait": 1, "retry_timeout": 1}},
        "postgresql": {
            "listen": member.sql.to_string(),
            "connect_address": member.sql.to_string(),
            "bin_dir": bin_dir(),
            "pgpass": "/tmp/pgpass0",
            "authentication": {
                "superuser": {"username": "postgres", "password": password("postgres")},
                "replication": {"username": REPLICATOR, "password": password(REPLICATOR)},
            },
        },
    })
}

fn write(member: &Member, text: &str) {
    fs::write(member.folder.join(FILE), text).expect("writable");
}

#[test]
fn a_file_is_all_that_a_member_needs_and_is_read_anew() {
    let etcd = Etcd::start();
    let folder = folder();
    let mut member = Member::new(folder.path(), "m1");
    // What the image sets by itself.
    member.env.retain(|name, _| ["PATH", "LANG", "PGDATA"].contains(&name.as_str()));
    member.arguments = vec![member.folder.join(FILE).display().to_string()];
    let mut document = document(&member, &etcd);
    write(&member, &document.to_string());
    member.start();
    until(seconds(30), "a healthy container", || member.exec(&["health"]).status.success());
    member.env.insert("POSTGRES_PASSWORD".to_owned(), password("postgres"));
    member.wait_writable(SOON);
    member.env.remove("POSTGRES_PASSWORD");

    document["tags"] = json!({"zone": "north"});
    document["postgresql"]["parameters"] = json!({"work_mem": "7MB"});
    let told = member.folder.join("told of the stop");
    document["postgresql"]["before_stop"] = json!(format!("touch '{}'", told.display()));
    write(&member, &document.to_string());
    processes::signal(member.init(), Signal::SIGHUP);
    until(SOON, "the new tag", || member.get("/patroni").is_ok_and(|reply| reply.json()["tags"]["zone"] == "north"));

    // A file that is broken meanwhile changes nothing and makes nobody ill.
    let said = member.log().len();
    write(&member, "scope: [");
    processes::signal(member.init(), Signal::SIGHUP);
    until(SOON, "an error", || member.said_since(said).lines().any(|l| l.contains(" ERROR: ") && l.contains(FILE)));
    assert_eq!(member.get("/patroni").expect("an answer").json()["tags"]["zone"], "north");
    let health = member.exec(&["health"]);
    assert!(health.status.success(), "{health:?}");
    assert!(!told.exists());
    assert_eq!(member.stop(), 0);
    assert!(told.exists(), "what was read anew is in force");
}
