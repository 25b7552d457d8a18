//! Tags: who may lead, and whom others copy from.

use std::os::unix::fs::PermissionsExt;

use crate::member::Member;
use crate::wait::{always, seconds, until};
use crate::world::{Cluster, SOON, join};

#[test]
fn tags_decide_who_leads_and_who_is_copied() {
    let mut cluster = Cluster::prepare(2);
    cluster.members[1].set("PATRONI_TAGS", "{nofailover: true, clonefrom: true, rack: 7}");
    cluster.start_all();
    assert_eq!(cluster.whole(seconds(40)).0, 0, "a member that may not lead does not initialise");
    assert_eq!(cluster.seen(0, "m2")["tags"]["rack"], 7);

    let third = join(Member::new(cluster.folder.path(), "m3"), &cluster.store);
    cluster.members.push(third);
    cluster.members[2].start();
    cluster.whole(seconds(40));
    cluster.members[2].wait_log(SOON, "is a copy of replica 'm2'");

    cluster.members[2].kill();
    cluster.members[0].kill();
    always(seconds(8), "it may not lead", || {
        cluster.members[1].value("SELECT pg_is_in_recovery()").is_ok_and(|value| value == "t")
    });
    cluster.members[2].start();
    assert_eq!(cluster.whole(SOON).0, 2);
}

#[test]
fn a_nostream_member_has_its_wal_from_the_archive_and_no_slot() {
    let mut cluster = Cluster::prepare(2);
    let archive = cluster.folder.path().join("archive");
    std::fs::create_dir(&archive).expect("a folder");
    // The servers' own account writes there.
    std::fs::set_permissions(&archive, std::fs::Permissions::from_mode(0o777)).expect("its mode");
    let place = archive.display();
    cluster.set(
        "PATRONI_POSTGRESQL_PARAMETERS",
        &format!(
            "{{shared_buffers: 16MB, max_connections: 40, fsync: off, archive_mode: on, \
             archive_command: 'cp %p {place}/%f', restore_command: 'cp {place}/%f %p'}}"
        ),
    );
    cluster.members[1].set("PATRONI_TAGS", "{nofailover: true, nostream: true}");
    cluster.start_all();
    cluster.members[0].wait_writable(seconds(40));
    until(seconds(40), "the other member runs", || cluster.members[1].value("SELECT 1").is_ok());
    cluster.members[0].must("CREATE TABLE archived AS SELECT 7 AS a");
    cluster.members[0].must("SELECT pg_switch_wal()");
    let restored = || cluster.members[1].value("SELECT a FROM archived").is_ok_and(|value| value == "7");
    until(SOON, "it is restored", restored);
    assert_eq!(cluster.members[1].must("SELECT current_setting('primary_conninfo')"), "");
    assert_eq!(cluster.members[0].must("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'm2'"), "0");
    assert_eq!(cluster.members[0].must("SELECT count(*) FROM pg_stat_replication"), "0");
}
