//! A former primary with WAL that nobody else has comes back: by pg_rewind, or by a clone where that is impossible.

use std::fs;

use crate::load::TABLE;
use crate::wait::{seconds, until};
use crate::world::{Cluster, SOON};

/// Stops the replica, writes on the primary, loses the primary, starts the replica: its WAL and the lost one's diverge.
/// Returns (old, new).
fn diverge(cluster: &mut Cluster) -> (usize, usize) {
    let (old, _) = cluster.whole(SOON);
    let new = 1 - old;
    cluster.members[old].must(TABLE);
    cluster.replayed(old, new);
    // Between its death and its next start the replica misses this, but not by too much to lead.
    cluster.members[new].kill();
    cluster.members[old].must("INSERT INTO writes VALUES (-1)");
    cluster.members[old].kill();
    cluster.members[new].start();
    cluster.members[new].wait_writable(seconds(20));
    cluster.members[new].must("INSERT INTO writes VALUES (1)");
    (old, new)
}

fn assert_joined(cluster: &mut Cluster, old: usize, new: usize) {
    assert_eq!(cluster.whole(seconds(40)).0, new);
    cluster.replayed(new, old);
    assert_eq!(cluster.members[old].must("SELECT string_agg(seq::text, ',') FROM writes"), "1");
}

#[test]
fn diverged_wal_is_rewound() {
    let mut cluster = Cluster::start(2);
    let (old, new) = diverge(&mut cluster);
    let inode = |cluster: &Cluster| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(cluster.members[old].data().join("PG_VERSION")).expect("data").ino()
    };
    let before = inode(&cluster);
    cluster.members[old].start();
    assert_joined(&mut cluster, old, new);
    assert!(cluster.members[old].log().contains("running pg_rewind from"), "it was rewound");
    assert_eq!(inode(&cluster), before, "the data directory is the same");
}

#[test]
fn diverged_data_that_cannot_be_rewound_are_cloned() {
    let mut cluster = Cluster::prepare(2);
    // Neither checksums nor wal_log_hints: pg_rewind refuses.
    cluster.set("PATRONI_BOOTSTRAP_INITDB", "[no-sync]");
    cluster.set(
        "PATRONI_POSTGRESQL_PARAMETERS",
        "{shared_buffers: 16MB, max_connections: 40, fsync: off, wal_log_hints: off}",
    );
    cluster.set("PATRONI_POSTGRESQL_USE_PG_REWIND", "off");
    cluster.start_all();
    cluster.whole(seconds(40));
    let (old, new) = diverge(&mut cluster);
    cluster.members[old].start();
    assert_joined(&mut cluster, old, new);
    assert!(!cluster.members[old].log().contains("running pg_rewind from"), "it was not rewound");
    assert!(cluster.members[old].log().contains("is a copy of"), "it was cloned");
}

#[test]
fn a_restarted_container_waits_for_its_own_server_though_numbers_repeat() {
    let mut cluster = Cluster::start(1);
    let member = &mut cluster.members[0];
    // From the second time on postmaster.pid holds the number that the new server gets.
    for _ in 0..3 {
        member.kill();
        let said = member.log().len();
        member.start();
        let place = |text: &str| member.said_since(said).find(text);
        let done = || place("starting as a primary: done");
        until(SOON, "the server was started in place", || done().is_some());
        assert!(place("database system is ready to accept connections") < done(), "{}", member.said_since(said));
    }
}
