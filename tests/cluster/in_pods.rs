//! Members that are told as little as a pod's specification can say, and commands that are told no more than how members let
//! them in.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::kubernetes::{Kubernetes, Objects, address_of};
use crate::member::program;
use crate::wait::until;
use crate::world::{Cluster, SOON};

/// Of the REST API, which lets only members in without one.
const OPERATOR: [(&str, &str); 2] =
    [("PATRONI_RESTAPI_USERNAME", "operator"), ("PATRONI_RESTAPI_PASSWORD", "operators-password")];

/// A command with a kubeconfig, and what a person types.
fn command(store: &Kubernetes, words: &[&str], input: &str) -> Output {
    use std::io::Write;
    let mut command = Command::new(program());
    command.args(words).env_clear().env("KUBECONFIG", store.kubeconfig()).envs(OPERATOR);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be executed");
    // Whoever needs no answers does not read them.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("our own child");
    println!("{words:?}: {output:?}");
    output
}

/// Name, host and role of each member.
fn listed(store: &Kubernetes) -> Vec<[String; 3]> {
    let output = command(store, &["list", "-f", "json"], "");
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let rows = rows.as_array().cloned().unwrap_or_default();
    rows.iter().map(|row| ["Member", "Host", "Role"].map(|field| text(row, field))).collect()
}

#[test]
fn members_and_commands_find_out_the_rest() {
    let mut cluster = Cluster::prepare_on(Kubernetes::start(Objects::ConfigMaps), 2);
    for member in &mut cluster.members {
        let name = member.name.clone();
        for said in ["NAME", "KUBERNETES_LABELS", "POSTGRESQL_CONNECT_ADDRESS", "RESTAPI_CONNECT_ADDRESS"] {
            member.unset(&format!("PATRONI_{said}"));
        }
        let [sql, rest] = [member.sql, member.rest].map(|address| format!("0.0.0.0:{}", address.port()));
        for (variable, value) in OPERATOR {
            member.set(variable, value);
        }
        member.set("HOSTNAME", &name).set("PATRONI_POSTGRESQL_LISTEN", &sql).set("PATRONI_RESTAPI_LISTEN", &rest);
    }
    cluster.start_all();
    let (leader, _) = cluster.whole(SOON * 2);
    // The usual port is not shown.
    let hosts: Vec<(String, String)> =
        cluster.members.iter().map(|member| (member.name.clone(), address_of(member))).collect();
    let rows = listed(&cluster.store);
    let shown: Vec<(String, String)> = rows.iter().map(|[name, host, _]| (name.clone(), host.clone())).collect();
    assert_eq!(shown, hosts);
    assert_eq!(rows[leader][2], "Leader");

    assert_eq!(command(&cluster.store, &["switchover", "--force"], "").status.code(), Some(0));
    let other = 1 - leader;
    assert_eq!(cluster.whole(SOON).0, other);
    let name = cluster.members[other].name.clone();
    let answers = format!("demo\nYes I am aware\n{name}\n");
    let refused = command(&cluster.store, &["remove", "demo"], &answers);
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains(&format!("{name} leads cluster demo and runs")), "{told}");
    assert_eq!(cluster.store.holder(), Some(name));

    for member in &mut cluster.members {
        member.stop();
    }
    until(SOON, "the lock is released", || cluster.store.holder().is_none());
    let removed = command(&cluster.store, &["remove", "demo"], "demo\nYes I am aware\n");
    assert_eq!(removed.status.code(), Some(0));
    assert_eq!(cluster.store.config_maps(), [""; 0]);
    assert_eq!(command(&cluster.store, &["remove", "demo"], "").status.code(), Some(1));
}
