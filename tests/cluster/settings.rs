//! The cluster's configuration and its members, changed while they run. Everything here is configured by variables alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::member::{Member, give};
use crate::wait::{always, eventually, seconds, until};
use crate::world::{Cluster, SOON};

fn all_warn(cluster: &Cluster, text: &str) {
    for member in &cluster.members {
        member.wait_log(SOON, &format!(" WARNING: {text}"));
    }
}

#[test]
fn changes_of_the_configuration_reach_every_member() {
    let mut cluster = Cluster::start(2);
    let (leader, _) = cluster.whole(SOON);
    let replica = 1 - leader;
    let config = cluster.members[replica].get("/config").expect("an answer").json();
    assert_eq!(
        (config["ttl"].as_u64(), config["loop_wait"].as_u64(), config["retry_timeout"].as_u64()),
        (Some(5), Some(1), Some(1))
    );

    let change = json!({"ttl": 6, "postgresql": {"parameters": {"work_mem": "5MB", "max_connections": 50}}});
    let reply = cluster.members[replica].send("PATCH", "/config", &change).expect("an answer");
    assert_eq!((reply.code, reply.json()["ttl"].as_u64()), (200, Some(6)));
    for member in &cluster.members {
        eventually(SOON, "a reload", || match member.value("SHOW work_mem")?.as_str() {
            "5MB" => Ok(()),
            other => Err(format!("work_mem is {other} on {}", member.name)),
        });
        let pending = || member.get("/patroni").is_ok_and(|reply| reply.json()["pending_restart"] == true);
        until(SOON, &format!("a pending restart on {}", member.name), pending);
        assert_eq!(member.must("SHOW max_connections"), "40");
    }
    // A parameter that a standby needs at least as large: first the primary may not, then both.
    for at in [replica, leader] {
        let reply = cluster.members[at].send("POST", "/restart", &json!({})).expect("an answer");
        assert_eq!(reply.code, 200, "{reply:?}");
    }
    assert_eq!(cluster.whole(SOON).0, leader, "a restart is no failover");
    for at in [replica, leader] {
        let member = &cluster.members[at];
        until(SOON, "the new value", || member.value("SHOW max_connections").is_ok_and(|value| value == "50"));
        until(SOON, "nothing is pending", || {
            member.get("/patroni").is_ok_and(|reply| reply.json()["pending_restart"].is_null())
        });
    }
    let refused = cluster.members[leader]
        .send("PATCH", "/config", &json!({"standby_cluster": {"host": "x", "port": 0}}))
        .expect("an answer");
    assert!(refused.code == 422 && refused.body.contains("standby_cluster"), "{refused:?}");
    let removed = cluster.members[leader].send("PATCH", "/config", &json!({"ttl": null})).expect("an answer").json();
    assert!(removed.get("ttl").is_none(), "{removed}");

    // Timers that cannot be kept together: what is in force is told beside what is configured.
    let reply =
        cluster.members[leader].send("PATCH", "/config", &json!({"ttl": 6, "loop_wait": 30})).expect("an answer");
    assert_eq!(reply.code, 200);
    all_warn(
        &cluster,
        "timers in force: ttl 6s, loop_wait 4s, retry_timeout 1s; configured are ttl 6s, loop_wait 30s, retry_timeout \
         1s, which cannot be kept",
    );
    // Settings that have no effect are told with the change, too.
    let change = json!({"loop_wait": 1, "ttll": 1, "postgresql": {"create_replica_methods": ["x"]}});
    assert_eq!(cluster.members[leader].send("PATCH", "/config", &change).expect("an answer").code, 200);
    all_warn(&cluster, "the cluster's configuration: postgresql.create_replica_methods has no effect");
    all_warn(&cluster, "the cluster's configuration: ttll is not a known setting and has no effect");

    // A start whose variables say otherwise: the configuration holds, and the difference is told.
    assert_eq!(cluster.members[replica].stop(), 0);
    let said = cluster.members[replica].log().len();
    cluster.members[replica].set("PATRONI_LOOP_WAIT", "3").start();
    cluster.whole(SOON);
    let log = cluster.members[replica].said_since(said);
    let command = format!("curl -X PATCH http://{}/config -d '{{\"loop_wait\":3}}'", cluster.members[replica].rest);
    let told = format!(
        " WARNING: PATRONI_LOOP_WAIT sets loop_wait to 3, but the cluster's configuration has 1, which holds; to change \
         it: {command}"
    );
    assert!(log.lines().any(|line| line.ends_with(&told)), "{told} is not in {log}");
}

#[test]
fn a_replica_is_made_anew_on_request() {
    let mut cluster = Cluster::start(2);
    let (leader, _) = cluster.whole(SOON);
    let replica = 1 - leader;
    let refused = cluster.members[leader].send("POST", "/reinitialize", &json!({})).expect("an answer");
    assert_eq!(refused.code, 503, "{refused:?}");
    let mark = cluster.members[replica].data().join("only-here");
    fs::write(&mark, "").expect("root may");
    give(&mark);
    let reply = cluster.members[replica].send("POST", "/reinitialize", &json!({})).expect("an answer");
    assert_eq!((reply.code, reply.body.as_str()), (200, "reinitialize started"));
    until(seconds(40), "the old data are gone", || !mark.exists());
    assert_eq!(cluster.whole(seconds(40)).0, leader);

    let output = cluster.members[leader].ctl(&["reinit", &cluster.members[replica].name.clone(), "--wait", "--force"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(cluster.whole(SOON).0, leader);
}

#[test]
fn a_paused_cluster_is_left_alone_until_it_is_resumed() {
    let mut cluster = Cluster::start(2);
    let (leader, _) = cluster.whole(SOON);
    let output = cluster.members[leader].ctl(&["pause", "--wait"]);
    assert!(output.status.success(), "{output:?}");
    // The server that ends is not started again, nobody else becomes the primary.
    let postmaster = cluster.members[leader].postmaster().expect("it runs");
    crate::processes::signal(postmaster, nix::sys::signal::Signal::SIGKILL);
    until(SOON, "its end", || !crate::processes::lives(postmaster));
    let replica = &cluster.members[1 - leader];
    always(seconds(7), "neither started nor replaced", || {
        replica.value("SELECT pg_is_in_recovery()").is_ok_and(|value| value == "t")
            && cluster.members[leader].connect().is_err()
    });
    let output = cluster.members[leader].ctl(&["resume", "--wait"]);
    assert!(output.status.success(), "{output:?}");
    cluster.whole(SOON);
}

#[test]
fn a_switchover_in_a_pause_leaves_the_former_leader_as_a_replica() {
    let mut cluster = Cluster::start(2);
    let (leader, _) = cluster.whole(SOON);
    let candidate = 1 - leader;
    let output = cluster.members[leader].ctl(&["pause", "--wait"]);
    assert!(output.status.success(), "{output:?}");
    let names = cluster.members.iter().map(|member| member.name.clone()).collect::<Vec<_>>();
    // As Patroni: in a pause somebody has to say to whom.
    let refused = cluster.members[leader].send("POST", "/switchover", &json!({"leader": names[leader]}));
    assert!(refused.is_ok_and(|reply| reply.code >= 400), "no candidate is named");
    let request = json!({"leader": names[leader], "candidate": names[candidate]});
    let reply = cluster.members[leader].send("POST", "/switchover", &request).expect("an answer");
    assert_eq!(reply.code, 200, "{reply:?}");
    assert_eq!(cluster.whole(seconds(40)).0, candidate, "the former leader streams from the new one");
    assert_eq!(cluster.members[leader].get("/patroni").expect("an answer").json()["pause"], true);
    let output = cluster.members[leader].ctl(&["resume", "--wait"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(cluster.whole(SOON).0, candidate);
}

/// A command that notes its arguments.
fn callbacks(member: &mut Member) {
    let script = member.folder.join("callback");
    fs::write(&script, "#!/bin/sh\necho \"$@\" >>\"${0}s\"\n").expect("writable");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("ours");
    let all = ["on_start", "on_stop", "on_restart", "on_reload", "on_role_change"];
    let map: Vec<_> = all.iter().map(|name| format!("{name}: {} given", script.display())).collect();
    member.set("PATRONI_POSTGRESQL_CALLBACKS", &format!("{{{}}}", map.join(", ")));
}

fn called(member: &Member) -> Vec<String> {
    let notes = fs::read_to_string(member.folder.join("callbacks")).unwrap_or_default();
    notes.lines().map(str::to_owned).collect()
}

#[test]
fn callbacks_are_told_what_happened() {
    let mut cluster = Cluster::prepare(2);
    cluster.members.iter_mut().for_each(callbacks);
    cluster.start_all();
    let (first, _) = cluster.whole(seconds(40));
    let second = 1 - first;
    let hears = |cluster: &Cluster, at: usize, from: usize, line: &str| {
        let member = &cluster.members[at];
        let heard = || match called(member).get(from..).is_some_and(|lines| lines.iter().any(|heard| heard == line)) {
            true => Ok(()),
            false => Err(format!("{} heard {:?}", member.name, called(member))),
        };
        eventually(SOON, line, heard);
    };
    hears(&cluster, first, 0, "given on_start primary demo");
    hears(&cluster, second, 0, "given on_start replica demo");

    let (one, two) = (called(&cluster.members[first]).len(), called(&cluster.members[second]).len());
    let reply = cluster.members[second].send("POST", "/reload", &json!({})).expect("an answer");
    assert_eq!(reply.code, 202);
    hears(&cluster, second, two, "given on_reload replica demo");
    let reply = cluster.members[second].send("POST", "/restart", &json!({})).expect("an answer");
    assert_eq!(reply.code, 200);
    hears(&cluster, second, two, "given on_restart replica demo");
    cluster.whole(SOON);

    let leader = cluster.members[first].name.clone();
    let reply = cluster.members[first].send("POST", "/switchover", &json!({"leader": leader})).expect("an answer");
    assert_eq!(reply.code, 200, "{reply:?}");
    hears(&cluster, second, two, "given on_role_change primary demo");
    hears(&cluster, first, one, "given on_stop demoted demo");
    hears(&cluster, first, one, "given on_role_change replica demo");
    cluster.whole(SOON);
    assert_eq!(cluster.members[first].stop(), 0);
    hears(&cluster, first, one, "given on_stop replica demo");
}
