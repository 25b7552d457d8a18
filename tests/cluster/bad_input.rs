//! What people get wrong: one clear message each, no data touched, and an end or a wait as fits.

use std::fs;
use std::path::Path;

use etcd_client::Client;
use serde_json::{Value, json};

use crate::adoption::foreign_data;
use crate::etcd::{Etcd, own_address};
use crate::fingerprint::Fingerprint;
use crate::member::{Member, give};
use crate::single::plain;
use crate::wait::{always, eventually, seconds};
use crate::world::{SOON, folder, join};

const CONFIGURATION: i32 = 64;
const FAILED: i32 = 1;

/// The lines that a person should look at: neither warnings, nor what is only told.
fn complaints(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.contains(" INFO: ") && !line.contains(" WARNING: ")).collect()
}

/// Starts it, expects its end with this code and one complaint with these words, and its data as they were.
fn refused(member: &mut Member, code: i32, words: &[&str]) {
    let before = Fingerprint::of(&member.data());
    let said = member.log().len();
    member.start();
    assert_eq!(member.wait_end(SOON), code, "{}", member.said_since(said));
    let log = member.said_since(said);
    let complaints = complaints(&log);
    let [complaint] = complaints[..] else { panic!("{} complaints: {complaints:#?}", complaints.len()) };
    for word in words {
        assert!(complaint.contains(word), "{word:?} is not in: {complaint}");
    }
    before.assert_untouched();
}

/// Starts it, expects one complaint with these words, a wait, a good end when it is asked to, and its data as they were.
fn waits_for_help(member: &mut Member, words: &[&str]) {
    let before = Fingerprint::of(&member.data());
    member.start();
    member.wait_log(SOON, " ERROR: ");
    always(seconds(3), "it waits", || member.runs());
    // Not even on request is anything done to such data.
    let answered = member.send("POST", "/restart", &json!({})).expect("an answer");
    assert_eq!((answered.code, answered.body.trim()), (503, "restart failed"));
    assert_eq!(member.stop(), 0, "{}", member.log());
    let log = member.log();
    let [complaint] = complaints(&log)[..] else { panic!("not one complaint: {log}") };
    for word in words {
        assert!(complaint.contains(word), "{word:?} is not in: {complaint}");
    }
    before.assert_untouched();
}

/// Starts it, expects it to wait with such a message, and to end well when it is asked to.
fn waits(member: &mut Member, words: &[&str]) {
    let said = member.log().len();
    member.start();
    for word in words {
        crate::wait::until(SOON, word, || member.said_since(said).contains(word));
    }
    assert!(member.runs());
    assert_eq!(member.stop(), 0, "{}", member.said_since(said));
    assert!(fs::read_dir(member.data()).is_ok_and(|mut entries| entries.next().is_none()), "no data were made");
}

fn empty_data(member: &Member) {
    fs::create_dir(member.data()).expect("writable");
    give(&member.data());
}

#[test]
fn wrong_variables_end_the_start() {
    let folder = folder();
    let etcd = Etcd::start();
    // Each changes one variable, empty for none.
    let cases = [
        ("PATRONI_SUPERUSER_PASSWORD", "", "POSTGRES_PASSWORD: not set"),
        ("PATRONI_REPLICATION_PASSWORD", "", "PATRONI_REPLICATION_PASSWORD: not set"),
        ("POSTGRES_PASSWORD", "other", "POSTGRES_PASSWORD: a different password given"),
        ("PATRONI_SUPERUSER_PASSWORD_FILE", "/nowhere", "PATRONI_SUPERUSER_PASSWORD"),
        ("PATRONI_POSTGRESQL_LISTEN", "127.0.0.1:99999", "PATRONI_POSTGRESQL_LISTEN"),
        ("PATRONI_ETCD3_HOSTS", "etcd:port", "PATRONI_ETCD3_HOSTS"),
        ("PATRONI_SCOPE", "", "PATRONI_SCOPE: not set"),
        ("PATRONI_SYNCHRONOUS_MODE", "maybe", "PATRONI_SYNCHRONOUS_MODE"),
        ("PATRONI_ETCD3_SRV", "example.org", "PATRONI_ETCD3_SRV"),
        (
            "PATRONI_POSTGRESQL_BIN_DIR",
            "/nowhere",
            "PATRONI_POSTGRESQL_BIN_DIR: \"/nowhere/postgres\" given, no such file",
        ),
        ("PATRONI_RESTAPI_CERTFILE", "/nowhere", "PATRONI_RESTAPI_CERTFILE: \"/nowhere\" given, no such file"),
        ("PATRONI_CTL_CACERT", "/nowhere", "PATRONI_CTL_CACERT: \"/nowhere\" given, no such file"),
        ("PATRONI_BOOTSTRAP_DCS_SYNCHRONOUS_MODE", "true", "PATRONI_SYNCHRONOUS_MODE: its right name"),
        ("PATRONI_CONFIGURATION", "/etc/patroni.yml", "PATRONI_CONFIGURATION: holds a path"),
    ];
    for (at, (name, value, told)) in cases.into_iter().enumerate() {
        let mut member = join(Member::new(folder.path(), &format!("m{at}")), &etcd);
        empty_data(&member);
        refused(member.set(name, value), CONFIGURATION, &[told]);
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_the_logs_format() {
    let folder = folder();
    let mut member = join(Member::new(folder.path(), "m1"), &Etcd::start());
    let wrong = [
        ("PATRONI_SUPERUSER_PASSWORD", ""),
        ("PATRONI_SUPERUSER_PASSWRD", "secret"),
        ("PATRONI_TTL", "soon"),
        ("PATRONI_LOG_TYPE", "Json"),
        ("PATRONI_POSTGRESQL_BIN_DIR", "/nowhere"),
        ("PATRONI_RESTAPI_CERTFILE", "/nowhere"),
    ];
    for (name, value) in wrong {
        member.set(name, value);
    }
    member.start();
    assert_eq!(member.wait_end(SOON), CONFIGURATION);
    let log = member.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let told = |level: &str| -> Vec<&str> {
        let lines = lines.iter().filter(|line| line["level"] == level);
        lines.filter_map(|line| line["message"].as_str()).collect()
    };
    let errors = told("ERROR");
    let names: Vec<&str> = errors.iter().filter_map(|error| error.split(": ").next()).collect();
    let expected = ["PATRONI_TTL", "POSTGRES_PASSWORD", "PATRONI_RESTAPI_CERTFILE", "PATRONI_POSTGRESQL_BIN_DIR"];
    assert_eq!(names, expected, "{log}");
    // What explains one of them.
    assert!(told("WARNING").iter().any(|line| line.ends_with("did you mean PATRONI_SUPERUSER_PASSWORD?")), "{log}");
    // The command says the same.
    let check = member.ctl(&["config", "check"]);
    assert_eq!(check.status.code(), Some(CONFIGURATION));
    let check = String::from_utf8_lossy(&check.stderr);
    for line in errors.iter().chain(&told("WARNING")) {
        assert!(check.contains(line), "{line} is not in {check}");
    }
}

#[test]
fn the_command_line_needs_no_member_where_it_is() {
    let folder = folder();
    let etcd = Etcd::start();
    let mut member = join(Member::new(folder.path(), "m1"), &etcd);
    member.start();
    member.wait_writable(SOON);
    let file = folder.path().join("patronictl.yaml");
    let (scope, hosts) = (&member.env["PATRONI_SCOPE"], &member.env["PATRONI_ETCD3_HOSTS"]);
    fs::write(&file, format!("scope: {scope}\netcd3:\n  hosts: {hosts}\n")).expect("writable");
    let file = file.to_str().expect("UTF-8");
    let listed = || {
        for words in [["-c", file, "list"], ["list", "-c", file]] {
            let output = elsewhere(&words);
            let shown = String::from_utf8_lossy(&output.stdout);
            if output.status.code() != Some(0) || !shown.contains("m1") || !shown.contains("Leader") {
                return Err(format!("{words:?}: {output:?}"));
            }
        }
        Ok(())
    };
    eventually(SOON, "the member is listed", listed);
    let nothing = elsewhere(&["list"]);
    assert_eq!(nothing.status.code(), Some(CONFIGURATION));
    let told = String::from_utf8_lossy(&nothing.stderr);
    assert!(told.contains("PATRONI_ETCD3_HOSTS: not set") && !told.contains("PGDATA"), "{told}");
}

/// The command line without any variable.
fn elsewhere(words: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(crate::member::program());
    command.args(words).env_clear().stdin(std::process::Stdio::null()).output().expect("the program can be executed")
}

#[test]
fn a_store_that_cannot_be_reached_is_waited_for() {
    let folder = folder();
    let mut etcd = Etcd::start();
    let mut member = join(Member::new(folder.path(), "m1"), &etcd);
    empty_data(&member);
    let right = member.env["PATRONI_ETCD3_HOSTS"].clone();

    let nobody = own_address().to_string();
    waits(member.set("PATRONI_ETCD3_HOSTS", &nobody), &["waiting on etcd", &nobody]);
    waits(member.set("PATRONI_ETCD3_HOSTS", "etcd.invalid:2379"), &["waiting on etcd", "etcd.invalid"]);

    etcd.kill(0);
    member.set("PATRONI_ETCD3_HOSTS", &right).start();
    member.wait_log(SOON, "waiting on etcd");
    etcd.restart(0);
    let took = member.wait_writable(seconds(30));
    println!("writable {took:?} after etcd came");
}

#[test]
fn wrong_credentials_for_etcd_are_told_without_the_password() {
    let folder = folder();
    let etcd = Etcd::start();
    lock_up(&etcd);
    let mut member = join(Member::new(folder.path(), "m1"), &etcd);
    empty_data(&member);
    member.set("PATRONI_ETCD3_USERNAME", "tamada").set("PATRONI_ETCD3_PASSWORD", "not the right one");
    waits(&mut member, &["cannot read the cluster", "etcd"]);
    assert!(!member.log().contains("not the right one"));
    member.set("PATRONI_ETCD3_PASSWORD", "the right one").start();
    member.wait_writable(SOON);
}

/// etcd lets nobody in but `tamada` with its password.
fn lock_up(etcd: &Etcd) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client: Client = etcd.client().await;
        for name in ["root", "tamada"] {
            client.user_add(name, "the right one", None).await.expect("etcd answers");
        }
        client.role_add("root").await.expect("etcd answers");
        for name in ["root", "tamada"] {
            client.user_grant_role(name, "root").await.expect("etcd answers");
        }
        client.auth_enable().await.expect("etcd answers");
    });
}

#[test]
fn data_directories_that_cannot_be_used_are_left_alone() {
    let folder = folder();
    let etcd = Etcd::start();
    let member = |name: &str| join(Member::new(folder.path(), name), &etcd);

    // They wait, since `tamada reinit` may be what helps.
    // Of another major version.
    let mut old = member("old");
    foreign_data(&old);
    fs::write(old.data().join("PG_VERSION"), "13\n").expect("root may");
    waits_for_help(&mut old, &["made by PostgreSQL 13", &format!("version {} is installed", version())]);

    // Not writable: a volume that is mounted for reading only.
    let mut read_only = member("read-only");
    foreign_data(&read_only);
    let data = read_only.data().display().to_string();
    read_only.before = format!("mount --bind {data} {data} && mount -o remount,ro,bind {data}");
    waits_for_help(&mut read_only, &["is not writable", &data]);

    // Somebody's files.
    let mut diary = member("diary");
    empty_data(&diary);
    fs::write(diary.data().join("diary.txt"), "dear diary").expect("root may");
    give(&diary.data().join("diary.txt"));
    waits_for_help(&mut diary, &["it is not PostgreSQL's"]);
}

fn version() -> String {
    let folder = crate::member::bin_dir();
    let version = folder.parent().and_then(Path::file_name).expect("as Debian names it");
    version.to_string_lossy().into_owned()
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let folder = folder();
    let etcd = Etcd::start();
    let mut first = join(Member::new(folder.path(), "m1"), &etcd);
    first.start();
    first.wait_writable(SOON);
    let known = || match first.get("/cluster")?.json()["members"][0]["name"].as_str() {
        Some("m1") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually(SOON, "the member is known", known);
    let mut second = join(Member::new(folder.path(), "m2"), &etcd);
    empty_data(&second);
    second.set("PATRONI_NAME", "m1");
    refused(&mut second, FAILED, &["there is already a node named 'm1' running"]);
    first.must("SELECT 1");
    // Under a name of its own it joins.
    second.set("PATRONI_NAME", "m2").start();
    let answers = || second.value("SELECT pg_is_in_recovery()");
    assert_eq!(eventually(seconds(40), "a replica", answers).0, "t");
}

#[test]
fn a_port_that_is_taken_is_told() {
    let folder = folder();
    let etcd = Etcd::start();
    let mut member = join(Member::new(folder.path(), "m1"), &etcd);
    let taken = std::net::TcpListener::bind(member.sql).expect("free");
    member.start();
    assert_eq!(member.wait_end(seconds(60)), FAILED, "{}", member.log());
    let log = member.log();
    assert!(log.contains(&member.sql.port().to_string()) && log.contains("in use"), "{log}");
    drop(taken);
    // Before anything is done to the data.
    let taken = std::net::TcpListener::bind(member.rest).expect("free");
    let listen = member.rest.to_string();
    refused(&mut member, FAILED, &["cannot listen on", &listen, "in use"]);
    drop(taken);
    member.start();
    member.wait_writable(seconds(30));
}

#[test]
fn a_single_servers_port_that_is_taken_is_told() {
    let folder = folder();
    let mut member = plain(folder.path());
    let taken = std::net::TcpListener::bind(member.rest).expect("free");
    empty_data(&member);
    let listen = member.rest.to_string();
    refused(&mut member, FAILED, &["cannot listen on", &listen, "in use"]);
    drop(taken);
    member.start();
    member.wait_writable(seconds(30));
}
