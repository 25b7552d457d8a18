//! Replication slots: those of members, on primaries and standbys, and those that somebody else has made.

use serde_json::json;
use tamada::core::local::{CloneFrom, CloneSource, LastRole, StartAs, Upstream};
use tamada::core::policy::{IgnoredSlot, Pause};
use tamada::core::slots::{Brought, LogicalWanted, SlotWanted, SlotsWanted, Source};
use tamada::core::units::Lsn;
use tamada::postgres::{Force, Instance};

use crate::support::{LIMIT, Node, PASSWORD, desired, eventually, on_every_version, pair, progress, slots_for};

/// On a standby, for members that stream from elsewhere, each up to a position.
fn kept(slots: &[(&str, Option<Lsn>)]) -> SlotsWanted {
    let physical = slots.iter().map(|(name, at)| ((*name).to_owned(), SlotWanted::Kept(*at))).collect();
    SlotsWanted { role: LastRole::Standby, physical, ..slots_for(&[]) }
}

async fn logical(name: &str, bin: &std::path::Path) -> Node {
    let node = Node::new(name, bin);
    let mut wanted = desired();
    wanted.server.parameters.insert("wal_level".to_owned(), json!("logical"));
    node.postgres.configure(&wanted, Force::No).await.expect("configured");
    node.postgres.bootstrap(progress()).await.expect("bootstrapped");
    node
}

fn names(node: &Node) -> String {
    node.sql("SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots")
}

#[test]
fn slots_follow_the_members_and_spare_what_is_not_ours_to_drop() {
    on_every_version(|bin| async move {
        let node = logical("n1", &bin).await;
        node.sql("SELECT pg_create_logical_replication_slot('decoder', 'pgoutput')");
        let bring = async |wanted: SlotsWanted| {
            node.postgres.sync_slots(&wanted).await.expect("synced");
            names(&node)
        };
        assert_eq!(bring(slots_for(&["n-2", "n3"])).await, "n3 n_2", "nobody uses the other");
        let mut retained = slots_for(&["n3"]);
        retained.physical.extend(kept(&[("n_2", None), ("n5", None), ("no name", None)]).physical);
        assert_eq!(bring(retained).await, "n3 n5 n_2", "a new leader makes those of absent members");
        node.sql("SELECT pg_create_physical_replication_slot('barman')");
        let ignored = IgnoredSlot { name: Some("barman".to_owned()), ..IgnoredSlot::default() };
        assert_eq!(bring(SlotsWanted { ignored: vec![ignored], ..slots_for(&[]) }).await, "barman");
        node.sql("SELECT pg_create_logical_replication_slot('decoder', 'pgoutput')");
        assert_eq!(bring(SlotsWanted { pause: Pause::Paused, ..slots_for(&["n4"]) }).await, "barman decoder n4");
        assert_eq!(bring(slots_for(&[])).await, "");
        node.stop().await;
        node.postgres.start(&StartAs::Primary, LIMIT).await.expect("started");
        assert_eq!(bring(slots_for(&["n4"])).await, "n4");
    });
}

#[test]
fn a_standby_keeps_slots_for_the_others_and_moves_them_on() {
    on_every_version(|bin| async move {
        let (primary, replica) = pair(&bin).await;
        primary.sql("INSERT INTO t VALUES (2)");
        replica.postgres.checkpoint().await.expect("a restart point");
        replica.postgres.sync_slots(&kept(&[("n1", None), ("n3", None)])).await.expect("synced");
        let restart = |name: &str| -> Lsn {
            let sql = format!("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '{name}'");
            replica.sql(&sql).parse().expect("a position")
        };
        let before = restart("n3");
        for _ in 0..3 {
            primary.sql("INSERT INTO t SELECT generate_series(1, 1000)");
        }
        let position: Lsn = primary.sql("SELECT pg_current_wal_flush_lsn()").parse().expect("a position");
        eventually("it is replayed", async || replica.standby_facts().await.replayed >= position).await;
        replica.postgres.sync_slots(&kept(&[("n1", Some(position)), ("n3", None)])).await.expect("synced");
        assert_eq!((restart("n1"), restart("n3")), (position, before));
        // It goes with a restart, but not with the slots.
        replica.stop().await;
        replica.postgres.start(&StartAs::Standby(primary.as_upstream()), LIMIT).await.expect("started");
        assert_eq!(names(&replica), "n1 n3");
    });
}

fn with_logical(role: LastRole, confirmed: Option<Lsn>, source: Option<&Node>) -> SlotsWanted {
    let slot = LogicalWanted { database: "postgres".to_owned(), plugin: "pgoutput".to_owned(), confirmed };
    let logical = [("decoder".to_owned(), slot)].into();
    SlotsWanted {
        role,
        logical,
        source: source.map(|node| Source { address: node.address(), slot: "n2".to_owned() }),
        ..slots_for(&["n2"])
    }
}

#[test]
fn a_standby_takes_a_logical_slot_over_with_the_wal_that_it_needs() {
    on_every_version(|bin| async move {
        let mut wanted = desired();
        wanted.logical_slots = true;
        for (name, value) in [("wal_level", "logical"), ("wal_receiver_status_interval", "1s")] {
            wanted.server.parameters.insert(name.to_owned(), json!(value));
        }
        let (primary, replica) = (Node::new("n1", &bin), Node::new("n2", &bin));
        primary.postgres.configure(&wanted, Force::No).await.expect("configured");
        primary.postgres.bootstrap(progress()).await.expect("bootstrapped");
        let of_primary = with_logical(LastRole::Primary, None, None);
        primary.postgres.sync_slots(&of_primary).await.expect("the physical one");
        primary.postgres.tend_logical_slots(&of_primary).await.expect("the logical one");
        assert_eq!(names(&primary), "decoder n2");
        // A copy of the data begins with later WAL than the slot.
        primary.sql("CREATE TABLE t AS SELECT 1 AS a");
        primary.sql("CREATE PUBLICATION all_of_it FOR ALL TABLES");
        primary.sql("SELECT pg_switch_wal()");
        replica.postgres.configure(&wanted, Force::No).await.expect("configured");
        let source = CloneSource { name: "n1".into(), address: primary.address(), kind: CloneFrom::Leader };
        replica.postgres.clone_from(&source, progress()).await.expect("copied");
        let role = StartAs::Standby(primary.as_upstream());
        replica.postgres.start(&role, LIMIT).await.expect("started");
        let confirmed = |node: &Node| -> Option<Lsn> {
            node.sql("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'decoder'").parse().ok()
        };
        let of_standby =
            |at| SlotsWanted { physical: [].into(), ..with_logical(LastRole::Standby, at, Some(&primary)) };
        let copied = replica.postgres.tend_logical_slots(&of_standby(confirmed(&primary))).await.expect("copied");
        assert_eq!(copied.into_iter().collect::<Vec<_>>(), ["decoder"]);
        assert_eq!(confirmed(&replica), None, "PostgreSQL looks at its start alone");
        replica.postgres.restart(&role, LIMIT, LIMIT).await.expect("restarted");
        assert!(confirmed(&replica).is_some_and(|at| Some(at) <= confirmed(&primary)));
        primary.sql("INSERT INTO t VALUES (2)");
        let end: Lsn = primary.sql("SELECT pg_current_wal_flush_lsn()").parse().expect("a position");
        eventually("it is replayed", async || replica.standby_facts().await.replayed >= end).await;
        replica.postgres.tend_logical_slots(&of_standby(Some(end))).await.expect("moved on");
        assert_eq!(confirmed(&replica), Some(end), "by decoding from the first record on");
        eventually("it is safe to use", async || {
            primary.sql("INSERT INTO t VALUES (3)");
            replica.postgres.sync_slots(&of_standby(Some(end))).await.expect("looked at") == Brought::All
        })
        .await;
        assert!(!replica.data_dir().join("pg_wal/tamada.fetched").exists());
        replica.postgres.promote(LIMIT).await.expect("promoted");
        replica.sql("INSERT INTO t VALUES (4)");
        let options = "NULL, NULL, 'proto_version', '1', 'publication_names', 'all_of_it'";
        let decoded = format!("SELECT count(*) > 0 FROM pg_logical_slot_peek_binary_changes('decoder', {options})");
        eventually("it is decoded", async || replica.psql("postgres", &decoded) == (true, "t".to_owned())).await;
    });
}

#[test]
fn a_member_that_lagged_streams_on_from_the_next_leader() {
    on_every_version(|bin| async move {
        let (primary, replica) = pair(&bin).await;
        primary.postgres.sync_slots(&slots_for(&["n2", "n3"])).await.expect("slots");
        let third = Node::new("n3", &bin);
        third.configure().await;
        let source = CloneSource { name: "n1".into(), address: primary.address(), kind: CloneFrom::Leader };
        third.postgres.clone_from(&source, progress()).await.expect("copied");
        let mut thrifty = desired();
        thrifty.server.parameters.insert("wal_keep_size".to_owned(), json!("16MB"));
        for node in [&primary, &replica] {
            node.postgres.configure(&thrifty, Force::No).await.expect("configured");
        }
        replica.postgres.sync_slots(&kept(&[("n1", None), ("n3", None)])).await.expect("synced");
        for _ in 0..8 {
            primary.sql("INSERT INTO t VALUES (2); SELECT pg_switch_wal()");
            primary.sql("CHECKPOINT");
            replica.postgres.checkpoint().await.expect("a restart point");
        }
        let end: Lsn = primary.sql("SELECT pg_current_wal_flush_lsn()").parse().expect("a position");
        eventually("the replica has it", async || replica.standby_facts().await.replayed >= end).await;
        primary.stop().await;
        replica.postgres.promote(LIMIT).await.expect("promoted");
        replica.postgres.sync_slots(&slots_for(&["n1", "n3"])).await.expect("slots");
        replica.postgres.checkpoint().await.expect("checkpoint");
        third.postgres.start(&StartAs::Standby(replica.as_upstream()), LIMIT).await.expect("started");
        eventually("it streams", async || third.standby_facts().await.replication.is_some()).await;
        eventually("it has all", async || third.sql("SELECT count(*) FROM t") == "9").await;
    });
}

#[test]
fn logical_slots_of_a_former_primary_hold_no_wal_back() {
    on_every_version(|bin| async move {
        let former = logical("n1", &bin).await;
        former.sql("SELECT pg_create_logical_replication_slot('decoder', 'pgoutput')");
        former.sql("SELECT pg_create_logical_replication_slot('kept', 'pgoutput')");
        former.stop().await;
        former.postgres.start(&StartAs::Standby(Upstream::None), LIMIT).await.expect("started");
        let ignored = IgnoredSlot { name: Some("kept".to_owned()), ..IgnoredSlot::default() };
        let wanted = SlotsWanted { ignored: vec![ignored], ..kept(&[]) };
        former.postgres.sync_slots(&wanted).await.expect("synced");
        assert_eq!(names(&former), "kept");
    });
}

#[test]
fn a_logical_slot_is_dropped_once_nobody_uses_it() {
    on_every_version(|bin| async move {
        let node = logical("n1", &bin).await;
        node.sql("CREATE PUBLICATION all_of_it FOR ALL TABLES");
        node.sql("SELECT pg_create_logical_replication_slot('decoder', 'pgoutput')");
        let mut reader = std::process::Command::new(bin.join("pg_recvlogical"))
            .args(["-h", "127.0.0.1", "-p", &node.config.postgres.port.to_string(), "-U", "postgres", "-d", "postgres"])
            .args(["--slot", "decoder", "--start", "-f", "-", "-o", "proto_version=1", "-o"])
            .arg("publication_names=all_of_it")
            .env("PGPASSWORD", PASSWORD)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("pg_recvlogical");
        let active = async || node.sql("SELECT active FROM pg_replication_slots") == "t";
        eventually("it is read from", active).await;
        node.postgres.sync_slots(&slots_for(&[])).await.expect("synced");
        assert_eq!(names(&node), "decoder");
        reader.kill().expect("killed");
        reader.wait().expect("gone");
        eventually("it is not read from", async || !active().await).await;
        node.postgres.sync_slots(&slots_for(&[])).await.expect("synced");
        assert_eq!(names(&node), "");
    });
}

/// The decision to stream from nobody is the core's (`nostream`); this is what becomes of it.
#[test]
fn a_standby_of_nobody_takes_its_wal_from_the_archive() {
    on_every_version(|bin| async move {
        let (primary, replica) = pair(&bin).await;
        let archive = primary.folder.path().join("archive");
        std::fs::create_dir(&archive).expect("a folder");
        let set = |name: &str, value: String| {
            let mut wanted = desired();
            wanted.server.parameters.insert(name.to_owned(), json!(value));
            wanted.server.parameters.insert("archive_mode".to_owned(), json!("on"));
            wanted
        };
        let archives = set("archive_command", format!("cp %p {}/%f", archive.display()));
        primary.postgres.configure(&archives, Force::No).await.expect("configured");
        let restores = set("restore_command", format!("cp {}/%f %p", archive.display()));
        replica.postgres.configure(&restores, Force::No).await.expect("configured");
        primary.stop().await;
        primary.postgres.start(&StartAs::Primary, LIMIT).await.expect("started");
        eventually("the replica streams", async || replica.standby_facts().await.replication.is_some()).await;

        replica.postgres.follow(&Upstream::None).await.expect("follows nobody");
        assert_eq!(replica.standby_facts().await.upstream, Upstream::None);
        assert_eq!(
            replica.sql("SELECT current_setting('primary_conninfo') || current_setting('primary_slot_name')"),
            ""
        );
        primary.postgres.sync_slots(&slots_for(&[])).await.expect("its slot is not wanted any more");
        primary.sql("INSERT INTO t VALUES (7)");
        primary.sql("SELECT pg_switch_wal()");
        eventually("it is restored", async || replica.sql("SELECT count(*) FROM t WHERE a = 7") == "1").await;
        eventually("no slot is left", async || {
            primary.postgres.sync_slots(&slots_for(&[])).await.expect("synced");
            names(&primary).is_empty()
        })
        .await;
        assert_eq!(primary.sql("SELECT count(*) FROM pg_stat_replication"), "0");
    });
}
