//! Permanent replication slots: where they are, what becomes of a logical consumer when the primary changes, and of a slot
//! whose WAL is gone.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::load::{Habit, TABLE, Writer, lost};
use crate::member::{Member, SUPERUSER, bin_dir, password};
use crate::single::plain;
use crate::wait::{seconds, until};
use crate::world::{Cluster, SOON};

const SLOTS: &str = "{backup: {type: physical}, reader: {type: logical, database: postgres, plugin: test_decoding}, \
                     subscriber: {database: postgres, plugin: pgoutput}}";
const NAMES: &str = "SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots";

fn prepared(members: usize) -> Cluster {
    let mut cluster = Cluster::prepare(members);
    cluster.set("PATRONI_SLOTS", SLOTS);
    let parameters = "{shared_buffers: 16MB, max_connections: 40, fsync: off, wal_level: logical, \
                      wal_receiver_status_interval: 1s}";
    cluster.set("PATRONI_POSTGRESQL_PARAMETERS", parameters);
    cluster
}

/// How far the consumer of a slot has confirmed, as this member knows it.
fn confirmed(member: &Member, slot: &str) -> Result<u64, String> {
    let sql = format!("SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = '{slot}'");
    member.value(&sql)?.parse().map_err(|_| format!("{} has no slot {slot}", member.name))
}

fn others(cluster: &Cluster, leader: usize) -> impl Iterator<Item = &Member> {
    cluster.members.iter().enumerate().filter(move |(at, _)| *at != leader).map(|(_, member)| member)
}

/// Waits until each standby may take over: it has the slots, and what they need is protected on the primary.
fn all_ready(cluster: &mut Cluster) -> usize {
    let (leader, _) = cluster.whole(seconds(60));
    let ready = |member: &Member| {
        let sql = "SELECT count(*) FROM pg_replication_slots WHERE slot_name IN ('backup', 'reader', 'subscriber')";
        member.value(sql).is_ok_and(|count| count == "3")
    };
    until(seconds(60), "the slots are everywhere", || cluster.members.iter().all(ready));
    cluster.whole(seconds(60)).0.max(leader)
}

/// `pg_recvlogical`, which goes on by itself after an error, to whoever takes writes.
struct Reader {
    process: Child,
    output: PathBuf,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn conninfo(members: &[Member]) -> String {
    let hosts: Vec<String> = members.iter().map(|member| member.sql.ip().to_string()).collect();
    let ports: Vec<String> = members.iter().map(|member| member.sql.port().to_string()).collect();
    format!(
        "host={} port={} user={SUPERUSER} password={} dbname=postgres target_session_attrs=read-write connect_timeout=2",
        hosts.join(","),
        ports.join(","),
        password(SUPERUSER)
    )
}

impl Reader {
    fn start(cluster: &Cluster) -> Self {
        let output = cluster.folder.path().join("changes");
        let errors = File::create(cluster.folder.path().join("reader")).expect("writable");
        let process = Command::new(bin_dir().join("pg_recvlogical"))
            .args([
                "--start",
                "--slot",
                "reader",
                "--status-interval=1",
                "--fsync-interval=1",
                "-o",
                "skip-empty-xacts=1",
            ])
            .args(["-d", &conninfo(&cluster.members), "-f"])
            .arg(&output)
            .stderr(Stdio::from(errors))
            .spawn()
            .expect("pg_recvlogical");
        Reader { process, output }
    }

    /// The numbers that it was sent, in their order.
    fn received(&self) -> Vec<i64> {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        let number = |line: &str| line.strip_prefix("table public.writes: INSERT: seq[bigint]:")?.parse().ok();
        text.lines().filter_map(number).collect()
    }
}

/// A server of its own with a subscription to whoever takes writes.
fn subscriber(cluster: &Cluster) -> Member {
    let mut member = plain(cluster.folder.path());
    member.start();
    member.wait_writable(SOON);
    // It tries again so soon.
    member.must("ALTER SYSTEM SET wal_retrieve_retry_interval = '500ms'");
    member.must("SELECT pg_reload_conf()");
    member.must(TABLE);
    member.must(&format!(
        "CREATE SUBSCRIPTION subscriber CONNECTION '{}' PUBLICATION writes \
         WITH (create_slot = false, slot_name = 'subscriber', copy_data = false)",
        conninfo(&cluster.members).replace('\'', "''")
    ));
    member
}

fn numbers(member: &Member) -> BTreeSet<i64> {
    let rows = member.connect().and_then(|sql| sql.rows("SELECT seq FROM writes")).unwrap_or_default();
    rows.iter().filter_map(|row| row[0].parse().ok()).collect()
}

/// Both consumers go through as many changes of the primary, half of them with the loss of its node, and are sent every
/// committed change once.
fn consumers_survive(rounds: usize) {
    let mut cluster = prepared(3);
    cluster.set("PATRONI_SYNCHRONOUS_MODE", "on");
    cluster.start_all();
    let mut leader = all_ready(&mut cluster);
    cluster.members[leader].must(TABLE);
    cluster.members[leader].must("CREATE PUBLICATION writes FOR TABLE writes");
    let subscriber = subscriber(&cluster);
    let reader = Reader::start(&cluster);
    let order: Vec<&Member> = (0..3).map(|at| &cluster.members[(leader + at) % 3]).collect();
    let writer = Writer::start(&order, Habit::Roams, 1);
    for round in 0..rounds {
        let before = reader.received().len();
        until(seconds(60), "both consumers receive", || {
            reader.received().len() > before + 20 && numbers(&subscriber).len() > before
        });
        let primary = &cluster.members[leader];
        let floor: i64 = primary.must("SELECT max(seq) FROM writes").parse().expect("a number");
        let at: u64 = primary.must("SELECT pg_current_wal_lsn() - '0/0'").parse().expect("a number");
        for name in ["reader", "subscriber"] {
            until(seconds(60), "all know that the consumers have come so far", || {
                cluster.members.iter().all(|member| confirmed(member, name).is_ok_and(|there| there >= at))
            });
        }
        let known = reader.received().len();
        let old = leader;
        if round % 2 == 0 {
            let body = json!({"leader": cluster.members[old].name});
            let reply = cluster.members[old].send("POST", "/switchover", &body).expect("an answer");
            assert_eq!(reply.code, 200, "{}", reply.body);
        } else {
            cluster.members[old].kill();
            until(seconds(30), "another primary", || {
                others(&cluster, old)
                    .any(|member| member.value("SELECT pg_is_in_recovery()").is_ok_and(|value| value == "f"))
            });
            cluster.members[old].start();
        }
        leader = all_ready(&mut cluster);
        assert_ne!(leader, old);
        // `pg_recvlogical` begins where the slot is: only what it had not confirmed may come again.
        until(seconds(60), "the reader goes on", || reader.received().len() > known);
        let again: Vec<i64> = reader.received()[known..].iter().copied().filter(|seq| *seq <= floor).collect();
        assert_eq!(again, [0; 0], "confirmed before the change of the primary");
    }
    let acks = writer.stop();
    assert_eq!(lost(&acks, &cluster.members[leader]), [0; 0]);
    let committed = numbers(&cluster.members[leader]);
    let missing = |there: &BTreeSet<i64>| committed.iter().filter(|seq| !there.contains(seq)).count();
    until(seconds(60), "the reader has all", || missing(&reader.received().into_iter().collect()) == 0);
    until(seconds(60), "the subscriber has all", || missing(&numbers(&subscriber)) == 0);
    let received: BTreeSet<i64> = reader.received().into_iter().collect();
    println!("{rounds} rounds, {} changes, {} sent to the reader", committed.len(), reader.received().len());
    // The subscriber's table has a primary key: what is sent twice would have stopped it.
    let acked: BTreeSet<i64> = acks.iter().map(|ack| ack.seq).collect();
    assert_eq!(received.difference(&committed).filter(|seq| acked.contains(seq)).count(), 0);
}

#[test]
fn logical_consumers_survive_a_switchover_and_a_failover() {
    consumers_survive(2);
}

#[test]
#[ignore = "takes minutes: tests/e2e"]
fn logical_consumers_survive_twenty_changes_of_the_primary() {
    consumers_survive(20);
}

#[test]
fn permanent_slots_are_everywhere_and_move_on() {
    let mut cluster = prepared(2);
    cluster.start_all();
    let leader = all_ready(&mut cluster);
    let standby = 1 - leader;
    assert_eq!(cluster.members[standby].must("SHOW hot_standby_feedback"), "on");
    let said = cluster.members[standby].log();
    assert!(said.contains("Copying logical slots ['reader', 'subscriber'] from the primary"), "{said}");
    cluster.members[standby]
        .wait_log(SOON, "the logical replication slot reader can be used after a failover to this member");
    // A slot that somebody reads from.
    cluster.members[leader].must(TABLE);
    cluster.members[leader].must("INSERT INTO writes SELECT generate_series(1, 1000)");
    let moved = "SELECT pg_replication_slot_advance('backup', pg_current_wal_lsn()) IS NOT NULL \
                 AND pg_replication_slot_advance('reader', pg_current_wal_lsn()) IS NOT NULL";
    assert_eq!(cluster.members[leader].must(moved), "t");
    let at = confirmed(&cluster.members[leader], "reader").expect("there");
    until(SOON, "the standby's slots follow", || {
        let physical = "SELECT restart_lsn - '0/0' >= {} FROM pg_replication_slots WHERE slot_name = 'backup'";
        let physical = physical.replace("{}", &(at - (2 << 20)).to_string());
        confirmed(&cluster.members[standby], "reader").is_ok_and(|there| there >= at)
            && cluster.members[standby].value(&physical).is_ok_and(|is_there| is_there == "t")
    });
    // What the configuration names no longer goes, on both.
    let patch = json!({"slots": {"reader": null, "subscriber": null}});
    assert_eq!(cluster.members[leader].send("PATCH", "/config", &patch).map(|reply| reply.code), Ok(200));
    let names = |at: usize, other: usize| {
        let expected = format!("backup {}", cluster.members[other].name);
        cluster.members[at].value(NAMES).is_ok_and(|names| names == expected)
    };
    until(SOON, "they are gone", || names(leader, standby) && names(standby, leader));
    // Without logical slots nobody needs it.
    until(SOON, "feedback is off", || {
        cluster.members[standby].value("SHOW hot_standby_feedback").is_ok_and(|v| v == "off")
    });
}

#[test]
fn a_member_that_streams_from_another_standby_takes_slots_over_from_the_primary() {
    let mut cluster = prepared(3);
    cluster.members[2].set("PATRONI_TAGS", "{replicatefrom: m2}");
    cluster.members[0].start();
    cluster.members[0].wait_writable(seconds(40));
    cluster.members[1].start();
    cluster.members[2].start();
    let ready = "the logical replication slot reader can be used after a failover to this member";
    for at in [1, 2] {
        cluster.members[at].wait_log(seconds(60), ready);
    }
    // The restart of one interrupts the stream of the other.
    let through = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'm3' AND state = 'streaming'";
    until(SOON, "m3 streams from m2", || cluster.members[1].value(through).is_ok_and(|count| count == "1"));
    let restarts = cluster.members[2].log().matches("restart: begun").count();
    assert_eq!(restarts, 1, "{}", cluster.members[2].log());
}

#[test]
fn in_pause_no_slot_is_touched() {
    let mut cluster = prepared(2);
    cluster.start_all();
    let leader = all_ready(&mut cluster);
    let patch = |body: Value| {
        assert_eq!(cluster.members[leader].send("PATCH", "/config", &body).map(|reply| reply.code), Ok(200));
    };
    patch(json!({"pause": true}));
    cluster.members[leader].wait_log(SOON, "PAUSE");
    cluster.members[leader].must("SELECT pg_create_physical_replication_slot('by_hand')");
    patch(json!({"slots": {"reader": null}}));
    let standby = 1 - leader;
    let before = cluster.members[standby].log().matches("PAUSE: no action").count();
    until(SOON, "some cycles", || {
        cluster.members[standby].log().matches("PAUSE: no action").count() > before + 2
            || cluster.members[standby].value(NAMES).is_ok_and(|names| !names.contains("reader"))
    });
    for (at, expected) in [(leader, "by_hand"), (leader, "reader"), (standby, "reader")] {
        let names = cluster.members[at].must(NAMES);
        assert!(names.contains(expected), "{names}");
    }
    patch(json!({"pause": null}));
    let gone =
        |at: usize| cluster.members[at].value(NAMES).is_ok_and(|n| !n.contains("reader") && !n.contains("by_hand"));
    until(SOON, "they are dropped after the pause", || gone(leader) && gone(standby));
}

#[test]
fn a_member_whose_slot_has_lost_its_wal_is_cloned_anew() {
    let mut cluster = Cluster::prepare(2);
    let parameters = "{shared_buffers: 16MB, max_connections: 40, fsync: off, wal_level: logical, \
                      max_slot_wal_keep_size: 32MB, wal_keep_size: 0, max_wal_size: 32MB, min_wal_size: 32MB}";
    cluster.set("PATRONI_POSTGRESQL_PARAMETERS", parameters);
    cluster.set("PATRONI_SLOTS", "{reader: {type: logical, database: postgres, plugin: test_decoding}}");
    cluster.start_all();
    let (leader, _) = cluster.whole(seconds(60));
    let standby = 1 - leader;
    let has = |at: usize| confirmed(&cluster.members[at], "reader").is_ok();
    until(seconds(60), "the logical slot is on both", || has(leader) && has(standby));
    cluster.members[standby].stop();
    let name = cluster.members[standby].name.clone();
    let primary = &cluster.members[leader];
    let created = confirmed(primary, "reader").expect("there");
    until(seconds(60), "the slots have lost their WAL and are made again", || {
        let _ = primary.value("SELECT pg_switch_wal(), txid_current()");
        let _ = primary.value("CHECKPOINT");
        primary.log().contains("dropping the replication slot reader: its WAL is gone")
            && primary.log().contains(&format!("dropping the replication slot {name}: its WAL is gone"))
            && confirmed(primary, "reader").is_ok_and(|at| at > created)
    });
    assert!(primary.log().contains("its consumer has missed changes and has to begin anew"));
    cluster.members[standby].start();
    cluster.whole(seconds(60));
    cluster.members[standby].wait_log(SOON, "the leader no longer has the WAL that follows ours; reinitializing");
    let (primary, standby) = (&cluster.members[leader], &cluster.members[standby]);
    until(seconds(60), "both slots are in order", || {
        let sql = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{name}' AND active");
        primary.value(&sql).is_ok_and(|status| status == "reserved" || status == "extended")
            && confirmed(standby, "reader").is_ok()
    });
}

#[test]
fn slots_that_cannot_be_are_refused_with_all_that_is_wrong() {
    let cluster = Cluster::start(2);
    let name = &cluster.members[0].name;
    let before = cluster.members[0].get("/config").expect("an answer").body;
    let body = json!({"slots": {
        name: {"type": "logical", "database": "postgres", "plugin": "pgoutput"}, "x".repeat(64): {},
        "a": {"type": "logical", "database": "postgres", "plugin": "/tmp/evil"}, "b": {"type": "logical"}, "c": "physical",
    }, "ignore_slots": {"name": "x"}, "member_slots_ttl": [], "loop_wait": "x"});
    let reply = cluster.members[0].send("PATCH", "/config", &body).expect("an answer");
    assert_eq!(reply.code, 422, "{}", reply.body);
    let told = [
        format!("slots.{name}: this is a member's own slot"),
        format!("slots.{}: no name of a slot", "x".repeat(64)),
        "slots.a.plugin: ".to_owned(),
        "slots.b.database: nothing given".to_owned(),
        "slots.b.plugin: nothing given".to_owned(),
        "slots.c: ".to_owned(),
        "ignore_slots: ".to_owned(),
        "member_slots_ttl: ".to_owned(),
        "loop_wait: ".to_owned(),
    ];
    assert!(told.iter().all(|text| reply.body.contains(text)), "{}", reply.body);
    assert_eq!(cluster.members[0].get("/config").expect("an answer").body, before);
    // A member's own physical slot may be named, so that it survives the member.
    let reply = cluster.members[0].send("PATCH", "/config", &json!({"slots": {name: {"type": "physical"}}}));
    assert_eq!(reply.map(|reply| reply.code), Ok(200));
    // A part of an entry that stands there already may be changed alone.
    for entry in
        [json!({"type": "logical", "database": "postgres", "plugin": "pgoutput"}), json!({"plugin": "test_decoding"})]
    {
        let reply = cluster.members[0].send("PATCH", "/config", &json!({"slots": {"d": entry}})).expect("an answer");
        assert_eq!(reply.code, 200, "{}", reply.body);
    }
}
