//! Settings of nodes that stand in the cluster's configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::member::Member;
use crate::wait::{eventually, seconds, until};
use crate::world::{Cluster, SOON};

fn patch(cluster: &Cluster, at: usize, change: &Value) -> (u16, String) {
    let reply = cluster.members[at].send("PATCH", "/config", change).expect("an answer");
    (reply.code, reply.body)
}

/// Where callbacks note their arguments.
fn notes(member: &Member) -> String {
    fs::read_to_string(member.folder.join("notes")).unwrap_or_default()
}

/// A command that any member of the test can run, and that notes its arguments beside the member's data.
fn script(cluster: &Cluster) -> String {
    let script = cluster.folder.path().join("callback");
    fs::write(&script, "#!/bin/sh\necho \"$@\" >>notes\n").expect("writable");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("ours");
    script.display().to_string()
}

#[test]
fn every_node_takes_the_clusters_word_where_it_has_none_of_its_own() {
    let mut cluster = Cluster::prepare(2);
    let script = script(&cluster);
    let own = cluster.members[1].folder.join("own");
    fs::copy(&script, &own).expect("writable");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).expect("ours");
    cluster.members[1].set("PATRONI_POSTGRESQL_CALLBACKS", &format!("on_reload: {} own", own.display()));
    for member in &mut cluster.members {
        member.unset("PATRONI_POSTGRESQL_BASEBACKUP");
    }
    cluster.start_all();
    let (leader, _) = cluster.whole(seconds(40));
    let replica = 1 - leader;

    // All that is wrong is told, and nothing is changed.
    let before = cluster.members[leader].get("/config").expect("an answer").body;
    let wrong = json!({"ttl": "soon", "postgresql": {
        "pg_ctl_timeout": 0, "use_unix_socket": "maybe", "callbacks": {"on_reload": "/cb 'open"}, "basebackup": 7,
        "bin_name": {"psql": "x"}, "database": ["a"], "krbsrvname": "kept"}});
    let (code, body) = patch(&cluster, leader, &wrong);
    let named =
        ["ttl", "pg_ctl_timeout", "use_unix_socket", "callbacks.on_reload", "basebackup", "bin_name.psql", "database"];
    assert!(code == 422 && named.iter().all(|name| body.contains(name)) && body.lines().count() == 7, "{code} {body}");
    assert_eq!(cluster.members[leader].get("/config").expect("an answer").body, before);

    let custom = cluster.folder.path().join("custom.conf");
    fs::write(&custom, "maintenance_work_mem = '33MB'\n").expect("writable");
    fs::set_permissions(&custom, fs::Permissions::from_mode(0o644)).expect("ours");
    let change = json!({"postgresql": {
        "callbacks": {"on_reload": format!("{script} all")}, "custom_conf": custom, "basebackup": [{"label": "of_all"}],
        "database": "admin", "use_unix_socket": true, "use_unix_socket_repl": true, "pg_ctl_timeout": 70}});
    cluster.members[leader].must("CREATE DATABASE admin");
    let reply = cluster.members[leader].send("PATCH", "/config", &change).expect("an answer");
    assert_eq!(reply.code, 200, "{reply:?}");
    for member in &cluster.members {
        eventually(SOON, "custom_conf", || match member.value("SHOW maintenance_work_mem")?.as_str() {
            "33MB" => Ok(()),
            other => Err(format!("{other} on {}", member.name)),
        });
        member.wait_log(SOON, "WARNING: postgresql.database has changed; that takes effect with the next start");
        let expected = if member.name == "m2" { "own on_reload" } else { "all on_reload" };
        until(SOON, expected, || {
            [notes(member), fs::read_to_string(member.data().join("notes")).unwrap_or_default()]
                .concat()
                .contains(expected)
        });
    }

    // A clone has the options.
    let reply = cluster.members[replica].send("POST", "/reinitialize", &json!({})).expect("an answer");
    assert_eq!(reply.code, 200, "{reply:?}");
    let label = cluster.members[replica].data().join("backup_label.old");
    eventually(seconds(20), "the label", || match fs::read_to_string(&label) {
        Ok(text) if text.contains("LABEL: of_all") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    cluster.whole(seconds(40));

    // What only a start takes over is taken over by a start, from what is kept beside the data.
    assert_eq!(cluster.members[replica].stop(), 0);
    cluster.members[replica].start();
    cluster.whole(seconds(40));
    let ours = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name LIKE 'tamada%' AND datname = 'admin'";
    until(SOON, "sessions in the database", || cluster.members[replica].value(ours).is_ok_and(|value| value == "t"));
}
