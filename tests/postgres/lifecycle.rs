//! Bootstrap, start, stop, promotion, and what is left after a crash.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use tamada::core::local::{CloneFrom, CloneSource, DataDir, Postgres, Running, StartAs, StopMode, Upstream};
use tamada::core::view::Address;
use tamada::postgres::Instance;

use crate::support::{LIMIT, Node, eventually, on_every_version, pair, process_titled, progress, slots_for};

#[test]
fn a_new_cluster_is_writable_with_its_roles_when_the_bootstrap_ends() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        assert_eq!(node.probe().await.data, DataDir::Empty);
        node.configure().await;
        let began = Instant::now();
        let id = node.postgres.bootstrap(progress()).await.expect("bootstrapped");
        eprintln!("bootstrap took {:?}", began.elapsed());
        let probe = node.probe().await;
        assert_eq!(probe.data.system_id(), Some(id));
        assert!(matches!(probe.postgres, Postgres::Running(Running::Primary(_))), "{:?}", probe.postgres);
        assert_eq!(node.sql("CREATE TABLE t (); SELECT pg_is_in_recovery()"), "f");
        for user in ["postgres", "replicator", "rewinder"] {
            assert_eq!(node.psql(user, "SELECT current_user"), (true, user.to_owned()));
        }
        node.stop().await;
        assert_eq!(node.probe().await.postgres, Postgres::Stopped);
    });
}

#[test]
fn a_replica_is_cloned_follows_and_is_promoted() {
    on_every_version(|bin| async move {
        let (primary, replica) = (Node::new("n1", &bin), Node::new("n2", &bin));
        primary.bootstrap().await;
        primary.postgres.sync_slots(&slots_for(&["n1", "n2"])).await.expect("slots");
        primary.sql("CREATE TABLE t AS SELECT 1 AS a");
        replica.configure().await;
        let source = CloneSource { name: "n1".into(), address: primary.address(), kind: CloneFrom::Leader };
        replica.postgres.clone_from(&source, progress()).await.expect("cloned");
        replica.postgres.start(&StartAs::Standby(primary.as_upstream()), LIMIT).await.expect("started");
        eventually("the replica streams", async || replica.standby_facts().await.replication.is_some()).await;
        assert_eq!(replica.standby_facts().await.upstream, primary.as_upstream());
        assert_eq!(replica.sql("SELECT a FROM t"), "1");
        let end = primary.postgres.stop(StopMode::CheckpointThenFast, LIMIT).await.expect("stopped").expect("clean");
        assert!(replica.standby_facts().await.position() >= end);
        let began = Instant::now();
        replica.postgres.promote(LIMIT).await.expect("promoted");
        eprintln!("promotion took {:?}", began.elapsed());
        assert_eq!(replica.sql("INSERT INTO t VALUES (2); SELECT count(*) FROM t"), "2");
        primary.postgres.start(&StartAs::Standby(Upstream::None), LIMIT).await.expect("started");
        primary.postgres.follow(&replica.as_upstream()).await.expect("follows");
    });
}

#[test]
fn a_standby_of_a_host_that_has_a_name_is_told_its_address() {
    on_every_version(|bin| async move {
        let (primary, replica) = pair(&bin).await;
        let address = Address { host: "localhost".to_owned(), ..primary.address() };
        let upstream = Upstream::Member { name: primary.config.name.clone(), address };
        replica.postgres.follow(&upstream).await.expect("follows");
        let found = ("localhost", 0).to_socket_addrs().expect("every system knows it");
        let found: BTreeSet<_> = found.map(|found| found.ip()).collect();
        let expected = match found.first() {
            Some(one) if found.len() == 1 => format!(" host=localhost hostaddr={one} port="),
            _ => " host=localhost port=".to_owned(),
        };
        let conninfo = replica.sql("SELECT current_setting('primary_conninfo')");
        assert!(conninfo.contains(&expected), "{conninfo}");
        let receiver = "SELECT status, sender_host, conninfo LIKE '%host=localhost %' FROM pg_stat_wal_receiver";
        eventually("it streams", async || replica.sql(receiver) == "streaming|localhost|t").await;
        assert_eq!(replica.standby_facts().await.upstream, upstream);

        // Nothing has changed, so nothing is loaded: by this agent, and by another one that knows the server alone.
        let loaded = replica.sql("SELECT pg_conf_load_time()");
        replica.postgres.find_upstream().await.expect("found");
        let replica = replica.with_new_agent();
        replica.standby_facts().await;
        replica.configure().await;
        replica.postgres.find_upstream().await.expect("found");
        assert_eq!(replica.sql("SELECT pg_conf_load_time()"), loaded);
        replica.stop().await;
        replica.postgres.start(&StartAs::Standby(upstream), LIMIT).await.expect("started");
        eventually("it streams", async || replica.sql(receiver) == "streaming|localhost|t").await;
        let conninfo = replica.sql("SELECT current_setting('primary_conninfo')");
        assert!(conninfo.contains(&expected), "{conninfo}");
    });
}

#[test]
fn the_end_of_the_postmaster_is_told_at_once() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        node.bootstrap().await;
        let pid = node.probe().await.facts.postmaster_pid.expect("runs");
        let exit = node.postgres.wait_exit();
        tokio::pin!(exit);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut exit).await.is_err());
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("killed");
        let began = Instant::now();
        exit.await;
        assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
        assert_eq!(node.probe().await.postgres, Postgres::Stopped);
        node.postgres.start(&StartAs::Primary, LIMIT).await.expect("restarted");
        eprintln!("restart in place took {:?}", began.elapsed());
        assert_eq!(node.sql("SELECT 1"), "1");
    });
}

#[test]
fn a_standby_that_reads_nothing_does_not_hold_a_stop_up() {
    const SILENT: &str = "SELECT count(*) FROM pg_stat_replication \
        WHERE sent_lsn > flush_lsn AND reply_time < clock_timestamp() - interval '3 s'";
    on_every_version(|bin| async move {
        let (primary, replica) = pair(&bin).await;
        for written in [0, 400_000] {
            let receiver = process_titled("walreceiver", &replica);
            kill(receiver, Signal::SIGSTOP).expect("stopped");
            if written > 0 {
                // More than what the network's buffers hold.
                primary.sql(&format!("INSERT INTO t SELECT generate_series(1, {written})"));
                eventually("its silence shows", async || primary.sql(SILENT) == "1").await;
            }
            let began = Instant::now();
            let end = primary.postgres.stop(StopMode::CheckpointThenFast, LIMIT).await.expect("stopped");
            assert!(began.elapsed() < Duration::from_secs(20), "{:?} with {written} rows", began.elapsed());
            assert!(end.is_some(), "it was clean");
            kill(receiver, Signal::SIGCONT).expect("continued");
            primary.postgres.start(&StartAs::Primary, LIMIT).await.expect("started");
            let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
            eventually("it streams again", async || primary.sql(streaming) == "1").await;
        }
    });
}
