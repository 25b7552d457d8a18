//! One server without a DCS, and its way into a cluster.

use crate::etcd::Etcd;
use crate::fingerprint::Fingerprint;
use crate::member::{Member, bin_dir, password};
use crate::processes::zombies_of;
use crate::sql::Sql;
use crate::wait::{seconds, until};
use crate::world::{SOON, folder, join};

/// What `docker run -e POSTGRES_PASSWORD=…` gives, and what keeps tests apart.
pub fn plain(folder: &std::path::Path) -> Member {
    let mut member = Member::new(folder, "alone");
    for name in ["PATRONI_POSTGRESQL_CONNECT_ADDRESS", "PATRONI_RESTAPI_CONNECT_ADDRESS", "PATRONI_SUPERUSER_PASSWORD"]
    {
        member.unset(name);
    }
    member.set("POSTGRES_PASSWORD", &password("postgres"));
    member.set("POD_IP", &member.sql.ip().to_string());
    member
}

/// Each second process ends while its child, with status 0, 1 or 2, is left to PID 1.
const ORPHANS: &str = "i=0; while [ $i -lt 10000 ]; do ( (exit $((i % 3))) & ); i=$((i + 1)); done; echo all of them";

#[test]
fn ten_thousand_orphans_leave_no_zombie_and_disturb_no_backend() {
    let folder = folder();
    let mut member = plain(folder.path());
    member.start();
    member.wait_writable(SOON);
    let session = member.connect().expect("it answers");
    let who =
        || session.value("SELECT pg_backend_pid() || ' since ' || pg_postmaster_start_time()").expect("an answer");
    let before = who();
    let maker = Sql::connect_within(seconds(300), member.sql, "postgres", &password("postgres")).expect("it answers");
    maker.value("CREATE TABLE said (words text)").expect("made");
    maker.value(&["COPY said FROM PROGRAM '", ORPHANS, "'"].concat()).expect("they were made");
    assert_eq!(member.must("SELECT words FROM said"), "all of them");
    let init = member.init();
    until(SOON, "no zombie", || zombies_of(init) == 0);
    assert_eq!(who(), before);
    assert!(!member.log().contains("terminating any other active server processes"));
    assert_eq!(member.stop(), 0);
}

#[test]
fn a_single_server_becomes_the_first_member_of_a_cluster() {
    let folder = folder();
    let mut member = plain(folder.path());
    member.set("PATRONI_POSTGRESQL_PG_HBA", "local all all peer").start();
    member.wait_writable(SOON);
    assert!(member.log().contains("PATRONI_POSTGRESQL_PG_HBA has no effect on a single server"));
    let hba = std::fs::read_to_string(member.data().join("pg_hba.conf")).expect("initdb made it");
    assert!(hba.lines().any(|line| line == "host all all all scram-sha-256"), "{hba}");
    member.unset("PATRONI_POSTGRESQL_PG_HBA");
    assert!(member.log().contains("no DCS is configured: this is a single server"));
    member.must("CREATE TABLE kept AS SELECT 42 AS answer");
    assert_eq!(member.must("SELECT count(*) FROM pg_replication_slots"), "0");
    assert_eq!(member.must("SELECT count(*) FROM pg_roles WHERE rolname NOT LIKE 'pg\\_%'"), "1", "no roles of ours");
    assert_eq!(member.get("/primary").expect("an answer").code, 200);
    let patch = member.send("PATCH", "/config", &serde_json::json!({"ttl": 20})).expect("an answer");
    assert!(patch.code >= 400, "{patch:?}");
    let postmaster = member.postmaster().expect("it runs");

    // A crash of PostgreSQL is repaired, the server goes on as it was: same timeline.
    crate::processes::signal(postmaster, nix::sys::signal::Signal::SIGKILL);
    until(SOON, "a new server", || member.postmaster().is_some_and(|new| new != postmaster));
    member.wait_writable(SOON);
    assert_eq!(member.must("SELECT timeline_id FROM pg_control_checkpoint()"), "1");
    assert_eq!(member.stop(), 0);

    // The same volume, now with a DCS.
    let system = system_identifier(&member);
    let etcd = Etcd::start();
    let mut member = join(member, &etcd);
    member.set("PATRONI_NAME", "m1").unset("POD_IP");
    member.set("PATRONI_POSTGRESQL_CONNECT_ADDRESS", &member.sql.to_string());
    member.set("PATRONI_RESTAPI_CONNECT_ADDRESS", &member.rest.to_string());
    member.start();
    member.wait_writable(SOON);
    assert_eq!(member.must("SELECT answer FROM kept"), "42");
    assert_eq!(system_identifier(&member), system);
    let mut second = join(Member::new(folder.path(), "m2"), &etcd);
    second.start();
    let look = || second.value("SELECT answer FROM kept");
    assert_eq!(crate::wait::eventually(seconds(40), "the second member has the data", look).0, "42");
    assert_eq!(second.stop(), 0);
    assert_eq!(member.stop(), 0);

    // A cluster's member is not started as a single server by leaving the DCS out.
    for name in ["PATRONI_ETCD3_HOSTS", "PATRONI_SCOPE", "PATRONI_TTL", "PATRONI_LOOP_WAIT", "PATRONI_RETRY_TIMEOUT"] {
        member.unset(name);
    }
    for name in ["PATRONI_REPLICATION_USERNAME", "PATRONI_REPLICATION_PASSWORD"] {
        member.unset(name);
    }
    member.unset("PATRONI_POSTGRESQL_PARAMETERS");
    let before = Fingerprint::of(&member.data());
    member.start();
    assert_eq!(member.wait_end(SOON), 64);
    assert!(member.log().contains("TAMADA_STANDALONE"), "it says how to do it all the same");
    before.assert_untouched();
}

fn system_identifier(member: &Member) -> String {
    let output = std::process::Command::new(bin_dir().join("pg_controldata"))
        .arg(member.data())
        .env("LC_ALL", "C")
        .output()
        .expect("pg_controldata is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("Database system identifier")).expect("a line");
    line.rsplit(' ').next().expect("a word").to_owned()
}

#[test]
fn a_misspelt_store_does_not_start_a_second_primary() {
    let folder = folder();
    let mut member = plain(folder.path());
    member.start();
    member.wait_writable(SOON);
    assert_eq!(member.stop(), 0);
    let before = Fingerprint::of(&member.data());
    let cases = [
        ("PATRONI_ETC3_HOSTS", "127.0.0.1:2379", "PATRONI_ETCD3_HOSTS"),
        ("PATRONI_SCOPE", "demo", "PATRONI_SCOPE"),
        ("PATRONI_REPLICATION_PASSWORD", "x", "PATRONI_REPLICATION_PASSWORD"),
        ("PATRONI_TTL", "30", "PATRONI_TTL"),
        ("PATRONI_ETCD_HOSTS", "127.0.0.1:2379", "PATRONI_ETCD3_"),
        ("PATRONI_CONSUL_HOST", "127.0.0.1:8500", "PATRONI_CONSUL_HOST"),
    ];
    for (name, value, told) in cases {
        member.set(name, value);
        let said = member.log().len();
        member.start();
        assert_eq!(member.wait_end(SOON), 64, "with {name}");
        assert!(member.log()[said..].contains(told), "with {name}: {}", &member.log()[said..]);
        member.unset(name);
    }
    before.assert_untouched();
    member.set("PATRONI_SCOPE", "demo").set("TAMADA_STANDALONE", "true").start();
    member.wait_writable(SOON);
}
