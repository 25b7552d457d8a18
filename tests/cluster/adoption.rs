//! Data that exist before the cluster does: the member that has them must come first.

use std::process::Command;

use serde_json::json;

use crate::etcd::Etcd;
use crate::fingerprint::Fingerprint;
use crate::member::{Member, bin_dir, give, password};
use crate::wait::{eventually, seconds};
use crate::world::{Cluster, SOON, folder, join};

/// A data directory that somebody else's initdb made, with a table in it.
pub fn foreign_data(member: &Member) {
    let pwfile = member.folder.join("pwfile");
    std::fs::write(&pwfile, password("postgres")).expect("writable");
    give(&pwfile);
    let initdb = bin_dir().join("initdb").display().to_string();
    let (data, pwfile) = (member.data().display().to_string(), format!("--pwfile={}", pwfile.display()));
    as_postgres(&[&initdb, "-N", "-U", "postgres", "-A", "scram-sha-256", &pwfile, "-D", &data]);
    // Through single-user mode, so that no server has to be waited for.
    let postgres = bin_dir().join("postgres").display().to_string();
    let statement = "CREATE TABLE kept AS SELECT 42 AS answer";
    as_postgres(&["sh", "-c", &format!("echo '{statement}' | {postgres} --single -D {data} postgres")]);
}

fn as_postgres(words: &[&str]) {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).args(words).current_dir("/tmp");
    let output = command.output().expect("setpriv is there");
    assert!(output.status.success(), "{words:?}: {output:?}");
}

#[test]
fn data_that_come_first_are_adopted() {
    let mut cluster = Cluster::prepare(2);
    foreign_data(&cluster.members[0]);
    cluster.members[0].start();
    cluster.members[0].wait_writable(SOON);
    assert_eq!(cluster.members[0].must("SELECT answer FROM kept"), "42");
    cluster.members[1].start();
    let (leader, took) = cluster.whole(seconds(40));
    println!("whole {took:?} after the empty member's start");
    assert_eq!(leader, 0);
    assert_eq!(cluster.members[1].must("SELECT answer FROM kept"), "42");
    // The roles that were missing were made: both ways of a switchover work.
    let reply = cluster.members[0].send("POST", "/switchover", &json!({"leader": "m1", "candidate": "m2"}));
    assert_eq!(reply.expect("an answer").code, 200);
    assert_eq!(cluster.whole(SOON).0, 1);
}

#[test]
fn data_that_come_too_late_are_refused_and_kept() {
    let folder = folder();
    let etcd = Etcd::start();
    let mut first = join(Member::new(folder.path(), "m1"), &etcd);
    first.start();
    first.wait_writable(SOON);
    let mut late = join(Member::new(folder.path(), "m2"), &etcd);
    foreign_data(&late);
    let before = Fingerprint::of(&late.data());
    late.start();
    let code = late.wait_end(SOON);
    assert_ne!(code, 0);
    let log = late.log();
    assert!(log.contains("system ID mismatch, node m2 belongs to a different cluster"), "{log}");
    assert!(log.contains("Nothing was changed") && log.contains("PATRONI_SCOPE"), "what to do: {log}");
    before.assert_untouched();
    // As the member that it was meant to be, with the foreign data out of the way, it joins.
    std::fs::rename(late.data(), late.folder.join("kept")).expect("ours");
    late.start();
    let answers = || late.value("SELECT pg_is_in_recovery()");
    assert_eq!(eventually(seconds(40), "a replica", answers).0, "t");
}
