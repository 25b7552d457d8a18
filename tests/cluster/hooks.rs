//! What the log tells of the commands that people give for events.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::wait::until;
use crate::world::{Cluster, SOON};

/// The lines of a log with this text.
fn lines(log: &str, text: &str) -> Vec<String> {
    log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[test]
fn a_post_bootstrap_that_takes_long_is_waited_for_with_one_line_and_its_failure_is_told_once() {
    let mut cluster = Cluster::prepare(1);
    let member = &mut cluster.members[0];
    let script = member.folder.join("hook");
    let (go, began) = (member.folder.join("go"), member.folder.join("began"));
    let text = format!(
        "#!/bin/sh\ntouch {began}\nwhile [ ! -e {go} ]; do sleep 0.1; done\nrm {go}\necho 'the hook says why' >&2\nexit 3\n",
        began = began.display(),
        go = go.display()
    );
    fs::write(&script, text).expect("writable");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("ours");
    member.set("PATRONI_BOOTSTRAP_POST_BOOTSTRAP", &script.display().to_string()).start();
    until(SOON, "the hook has begun", || began.exists());
    member.wait_log(SOON, "waiting for post_bootstrap to end");
    fs::write(&go, "").expect("writable");
    assert_eq!(member.wait_end(SOON), 1, "{}", member.log());
    let log = member.log();
    let told = lines(&log, "the hook says why");
    assert!(told.len() == 1 && told[0].contains(" ERROR: "), "{log}");
    assert_eq!(lines(&log, "waiting for post_bootstrap to end").len(), 1, "{log}");
}

/// An executable script in the member's folder.
fn script(member: &crate::member::Member, name: &str, text: &str) -> String {
    let path = member.folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
    path.display().to_string()
}

#[test]
fn a_member_leads_only_once_its_fencing_succeeds() {
    let mut cluster = Cluster::start(2);
    let (leader, _) = cluster.whole(SOON);
    let other = 1 - leader;
    // In the cluster's configuration, so that it is in force without a restart.
    let command = script(&cluster.members[other], "fence", "echo fencing fails >&2; exit 1");
    let change = serde_json::json!({"postgresql": {"pre_promote": command}});
    assert_eq!(cluster.members[leader].send("PATCH", "/config", &change).expect("an answer").code, 200);
    until(SOON, "the standby has it", || {
        cluster.members[other].get("/config").is_ok_and(|reply| reply.body.contains("fence"))
    });
    cluster.members[leader].kill();
    let member = &cluster.members[other];
    member.wait_log(SOON, "fencing fails");
    member.wait_log(SOON, "Promotion cancelled because the pre-promote script failed");
    member.wait_log(SOON, "backoff: skip leader race after pre_promote script failure");
    assert_eq!(member.value("SELECT pg_is_in_recovery()").as_deref(), Ok("t"));
    let log = member.log();
    assert!(!lines(&log, "not promoting: run pre_promote").is_empty(), "{log}");
    script(member, "fence", "exit 0");
    member.wait_writable(SOON);
}

#[test]
fn before_stop_goes_before_the_stop_of_a_switchover_and_a_bad_command_is_refused() {
    let mut cluster = Cluster::prepare(2);
    for member in &mut cluster.members {
        let text = "echo drained >> \"$0.d\"; echo 'before_stop was here'";
        let command = script(member, "drain", text);
        member.set("PATRONI_POSTGRESQL_BEFORE_STOP", &command);
    }
    cluster.start_all();
    let (leader, _) = cluster.whole(SOON);
    let bad = serde_json::json!({"postgresql": {"pre_promote": "/bin/fence 'a"}});
    let reply = cluster.members[leader].send("PATCH", "/config", &bad).expect("an answer");
    assert_eq!(reply.code, 422, "{}", reply.body);
    assert!(reply.body.contains("postgresql.pre_promote"), "{}", reply.body);

    let name = cluster.members[leader].name.clone();
    let reply = cluster.members[leader].send("POST", "/switchover", &serde_json::json!({"leader": name}));
    assert_eq!(reply.expect("an answer").code, 200);
    let log = cluster.members[leader].log();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in {log}"));
    assert!(at("before_stop was here") < at("received fast shutdown request"));
    assert_eq!(cluster.whole(SOON).0, 1 - leader);
}
