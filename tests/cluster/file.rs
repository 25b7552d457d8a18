//! A member that is configured by a YAML file alone, given as the program's argument.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::etcd::Etcd;
use crate::member::{Member, REPLICATOR, bin_dir, give, password};
use crate::processes;
use crate::wait::{eventually, seconds, until};
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
    let mut member = member_of_a_file(folder.path());
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

/// A member that has a file, what the image sets by itself, and nothing else.
fn member_of_a_file(folder: &Path) -> Member {
    let mut member = Member::new(folder, "m1");
    member.env.retain(|name, _| ["PATH", "LANG", "PGDATA"].contains(&name.as_str()));
    member.arguments = vec![member.folder.join(FILE).display().to_string()];
    member
}

/// Two older files of their size and mode, in the format that was asked for.
fn rotates(logs: &Path) {
    let file = logs.join("patroni.log");
    let name = |number: u32| logs.join(format!("patroni.log.{number}"));
    until(seconds(40), "two older files", || name(2).exists());
    for file in [&file, &name(1), &name(2)] {
        let file = fs::metadata(file).expect("it is there");
        assert!(file.permissions().mode() & 0o777 == 0o640 && file.len() < 60_000, "{file:?}");
    }
    assert!(!name(3).exists());
    let text = || [name(1), file.clone()].map(|file| fs::read_to_string(file).unwrap_or_default()).concat();
    until(SOON, "a debug line of the loop", || text().contains("|DEBUG|tamada::agent::"));
    let layout = |line: &str| line.as_bytes().get(2) == Some(&b'.') && line.split('|').count() >= 4;
    assert!(text().lines().all(layout), "{}", text());
}

#[test]
fn the_log_goes_to_files_of_a_size_and_back() {
    let (etcd, folder) = (Etcd::start(), folder());
    let mut member = member_of_a_file(folder.path());
    let logs = member.folder.join("logs");
    fs::create_dir(&logs).expect("writable");
    let mut document = document(&member, &etcd);
    document["log"] = json!({
        "dir": logs, "mode": "0640", "file_size": 3000, "file_num": 2, "level": "INFO",
        "loggers": {"patroni.ha": "DEBUG"},
        "format": "%(asctime)s|%(levelname)s|%(name)s|%(message)s", "dateformat": "%H.%M",
    });
    write(&member, &document.to_string());
    // It is still root's.
    member.start();
    assert_eq!(member.wait_end(SOON), 64, "{}", member.log());
    assert!(member.log().contains("|ERROR|tamada::run|log.dir: cannot write to "), "{}", member.log());
    give(&logs);
    member.start();
    rotates(&logs);
    let file = logs.join("patroni.log");

    // The heartbeat comes once each loop_wait, however many cycles there are.
    document["log"] = json!({"dir": logs, "file_num": 0});
    write(&member, &document.to_string());
    let reload = |member: &Member| member.send("POST", "/reload", &json!({})).expect("an answer").code;
    let before = fs::metadata(&file).expect("there").len();
    assert_eq!(reload(&member), 202);
    let heartbeats = || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        text.lines().filter(|line| line.ends_with(" INFO: no action. I am (m1), the leader with the lock")).count()
    };
    until(SOON, "a heartbeat in the default format", || heartbeats() > 0);
    let (first, began) = (heartbeats(), std::time::Instant::now());
    eventually(SOON, "five more", || {
        (heartbeats() >= first + 5).then_some(()).ok_or(format!("{} from {before}", heartbeats()))
    });
    let took = began.elapsed().as_secs_f64();
    assert!(took > 3.5, "5 lines in {took} s");

    // A later agent has a server to keep, whatever became of the folder.
    fs::rename(&logs, member.folder.join("gone")).expect("writable");
    let agent = member.agent().expect("it runs");
    processes::signal(agent, Signal::SIGKILL);
    member.wait_log(SOON, " ERROR: log.dir: cannot write to ");
    until(SOON, "its API", || member.get("/primary").is_ok_and(|reply| reply.code == 200));
    fs::rename(member.folder.join("gone"), &logs).expect("writable");
    assert_eq!(reload(&member), 202);
    let before = heartbeats();
    until(SOON, "its lines in the file again", || heartbeats() > before);

    // Fields, on standard error again.
    let said = member.log().len();
    document["log"] = json!({"type": "json", "format": ["message", {"levelname": "severity"}], "static_fields": {"app": "db"},
                             "deduplicate_heartbeat_logs": true});
    write(&member, &document.to_string());
    processes::signal(member.init(), Signal::SIGHUP);
    let is_ours = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        value["severity"] == "INFO" && value["app"] == "db" && value["message"] == "configuration read again"
    };
    until(SOON, "a JSON line", || member.said_since(said).lines().any(is_ours));
    assert_eq!(member.stop(), 0);
    assert!(!member.said_since(said).contains("no action"), "the same one is not told again");
}

#[test]
fn whatever_can_change_while_it_runs_is_read_anew() {
    let (etcd, folder) = (Etcd::start(), folder());
    let mut member = member_of_a_file(folder.path());
    let mut document = document(&member, &etcd);
    let note = member.folder.join("reloaded");
    let script = member.folder.join("callback");
    fs::write(&script, format!("#!/bin/sh\necho \"$@\" >>{}\n", note.display())).expect("writable");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("ours");
    let hba = ["local all all peer", "host all all all scram-sha-256", "host replication all all scram-sha-256"];
    document["postgresql"]["pg_hba"] = json!(hba);
    write(&member, &document.to_string());
    member.start();
    member.env.insert("POSTGRES_PASSWORD".to_owned(), password("postgres"));
    member.wait_writable(seconds(40));

    let rules = "SELECT count(*) FROM pg_hba_file_rules WHERE database = '{of_file}'";
    assert_eq!(member.must(rules), "0");
    let custom = member.folder.join("custom.conf");
    fs::write(&custom, "maintenance_work_mem = '33MB'\n").expect("writable");
    document["name"] = json!("m2");
    document["tags"] = json!({"zone": "north"});
    document["postgresql"]["pg_hba"] = json!([&hba[..], &["host of_file all all reject"]].concat());
    document["postgresql"]["pg_ident"] = json!(["of_file root postgres"]);
    document["postgresql"]["parameters"] = json!({"work_mem": "7MB"});
    document["postgresql"]["callbacks"] = json!({"on_reload": script.display().to_string()});
    document["postgresql"]["custom_conf"] = json!(custom);
    document["restapi"]["http_extra_headers"] = json!({"X-Of-File": "yes"});
    document["restapi"]["authentication"] = json!({"username": "admin", "password": "secret"});
    write(&member, &document.to_string());
    let said = member.log().len();
    assert_eq!(member.send("POST", "/reload", &json!({})).expect("an answer").code, 202);
    let shows = |setting: &str, expected: &str| {
        eventually(SOON, expected, || match member.value(setting)?.as_str() {
            value if value == expected => Ok(()),
            other => Err(format!("{setting} gives {other}")),
        });
    };
    shows("SHOW work_mem", "7MB");
    shows("SHOW maintenance_work_mem", "33MB");
    shows(rules, "1");
    shows("SELECT count(*) FROM pg_read_file('pg_ident.conf') AS text WHERE text LIKE '%of_file%'", "1");
    let reply = member.get("/patroni").expect("an answer");
    assert_eq!(reply.json()["tags"]["zone"], "north");
    until(SOON, "the callback", || fs::read_to_string(&note).is_ok_and(|text| text.contains("on_reload primary demo")));
    assert_eq!(member.send("POST", "/reload", &json!({})).expect("an answer").code, 401, "credentials are asked for");
    let told = "WARNING: name has changed; that takes effect with the next start";
    assert!(member.said_since(said).contains(told), "{}", member.said_since(said));

    // Back again, by the signal.
    for key in ["pg_ident", "parameters", "callbacks", "custom_conf"] {
        document["postgresql"].as_object_mut().expect("a map").remove(key);
    }
    document["postgresql"]["pg_hba"] = json!(hba);
    document["restapi"].as_object_mut().expect("a map").remove("authentication");
    write(&member, &document.to_string());
    processes::signal(member.init(), Signal::SIGHUP);
    let shows = |setting: &str, expected: &str| {
        eventually(SOON, expected, || match member.value(setting)?.as_str() {
            value if value == expected => Ok(()),
            other => Err(format!("{setting} gives {other}")),
        });
    };
    shows("SHOW work_mem", "4MB");
    shows("SHOW maintenance_work_mem", "64MB");
    shows(rules, "0");
    assert_eq!(member.send("POST", "/reload", &json!({})).expect("an answer").code, 202);
    assert_eq!(member.stop(), 0);
}
