//! Former primaries that come back: those whose WAL fits, and those that must be rewound.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tamada::core::local::{CloneFrom, CloneSource, DataDir, RecoverySignal, StartAs, StopMode, Upstream};
use tamada::core::observation::Divergence;
use tamada::core::units::{Lsn, Timeline};
use tamada::postgres::{Force, Instance};

use crate::support::{
    LIMIT, Node, desired, eventually, logged, on_every_version, pair, process_titled, progress, slots_for,
};

async fn divergence(of: &Node, from: &Node) -> Divergence {
    of.postgres.divergence(&from.address(), LIMIT).await
}

async fn comes_back(old: &Node, new: &Node) {
    new.postgres.sync_slots(&slots_for(&["n1"])).await.expect("slots");
    old.postgres.start(&StartAs::Standby(new.as_upstream()), LIMIT).await.expect("started");
    new.sql("INSERT INTO t VALUES (100)");
    eventually("the former primary has what the new one wrote", async || {
        old.psql("postgres", "SELECT count(*) FROM t WHERE a = 100") == (true, "1".to_owned())
    })
    .await;
}

async fn crash(node: &Node) {
    let pid = node.probe().await.facts.postmaster_pid.expect("runs");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
    node.postgres.wait_exit().await;
    node.probe().await;
}

/// Another standby of the pair's primary.
async fn third(bin: &Path, primary: &Node) -> Node {
    let third = Node::new("n3", bin);
    primary.postgres.sync_slots(&slots_for(&["n2", "n3"])).await.expect("slots");
    third.configure().await;
    let source = CloneSource { name: "n1".into(), address: primary.address(), kind: CloneFrom::Leader };
    third.postgres.clone_from(&source, progress()).await.expect("copied");
    third.postgres.start(&StartAs::Standby(Upstream::None), LIMIT).await.expect("started");
    third.postgres.follow(&primary.as_upstream()).await.expect("follows");
    third
}

#[test]
fn a_primary_that_stopped_cleanly_before_the_promotion_fits() {
    on_every_version(|bin| async move {
        let (old, new) = pair(&bin).await;
        let end = old.postgres.stop(StopMode::CheckpointThenFast, LIMIT).await.expect("stopped").expect("clean");
        eventually("the replica has everything", async || new.standby_facts().await.position() >= end).await;
        assert_eq!(divergence(&old, &new).await, Divergence::Undecided, "the other is no primary yet");
        new.postgres.promote(LIMIT).await.expect("promoted");
        assert_eq!(divergence(&old, &new).await, Divergence::None);
        comes_back(&old, &new).await;
        let history = new.postgres.history(Timeline(2)).await.expect("read");
        assert_eq!(history.iter().map(|entry| entry.left).collect::<Vec<_>>(), [Timeline(1)]);
        assert!(history[0].time.as_ref().is_some_and(|time| time.ends_with("+00:00")), "{history:?}");
        assert_eq!(divergence(&old, &new).await, Divergence::None, "a standby that streams fits as well");
    });
}

#[test]
fn a_primary_that_wrote_after_the_promotion_is_rewound() {
    on_every_version(|bin| async move {
        let (old, new) = pair(&bin).await;
        new.postgres.promote(LIMIT).await.expect("promoted");
        old.sql("INSERT INTO t VALUES (2)");
        new.sql("INSERT INTO t VALUES (3)");
        new.postgres.checkpoint().await.expect("checkpoint");
        old.stop().await;
        assert_eq!(divergence(&old, &new).await, Divergence::Diverged);
        std::fs::write(new.data_dir().join("tamada.lease"), "1").expect("written");
        old.postgres.rewind(&new.address(), progress()).await.expect("rewound");
        assert!(!old.data_dir().join("tamada.lease").exists(), "a lease is its member's own");
        comes_back(&old, &new).await;
        assert_eq!(old.sql("SELECT string_agg(a::text, ' ' ORDER BY a) FROM t"), "1 3 100");
        assert_eq!(old.sql("SHOW port"), old.config.postgres.port.to_string());
    });
}

#[test]
fn a_primary_that_crashed_is_recovered_first() {
    on_every_version(|bin| async move {
        let (old, new) = pair(&bin).await;
        new.postgres.promote(LIMIT).await.expect("promoted");
        old.sql("INSERT INTO t VALUES (2)");
        new.postgres.checkpoint().await.expect("checkpoint");
        crash(&old).await;
        assert_eq!(divergence(&old, &new).await, Divergence::Undecided);
        old.postgres.recover().await.expect("recovered");
        assert_eq!(divergence(&old, &new).await, Divergence::Diverged);
        old.postgres.rewind(&new.address(), progress()).await.expect("rewound");
        comes_back(&old, &new).await;
        assert_eq!(old.sql("SELECT count(*) FROM t WHERE a = 2"), "0");
    });
}

/// Crash recovery ends the segment that it finds, of which nobody had written the rest.
#[test]
fn the_log_tells_what_a_rewind_discards_and_not_what_crash_recovery_has_added() {
    on_every_version(|bin| async move {
        let (old, new) = pair(&bin).await;
        new.postgres.promote(LIMIT).await.expect("promoted");
        old.sql("INSERT INTO t VALUES (2)");
        let written: Lsn = old.sql("SELECT pg_current_wal_flush_lsn()").parse().expect("a position");
        new.postgres.checkpoint().await.expect("checkpoint");
        crash(&old).await;
        old.postgres.recover().await.expect("recovered");
        old.postgres.rewind(&new.address(), progress()).await.expect("rewound");
        let line = logged("pg_rewind has discarded", &old.folder.path().to_string_lossy()).expect("it is told");
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| words.iter().position(|found| *found == word).map(|at| words[at + 1]);
        let [from, to] =
            ["from", "to"].map(|word| after(word).and_then(|at| at.parse::<Lsn>().ok()).expect("a position"));
        assert!(from < written && line.contains(&format!("({} bytes)", to.0 - from.0)), "{line}");
        // What the server wrote by itself until its end, and the checkpoint at the end of the recovery, are there too.
        assert!(to >= written && to.0 - written.0 < 65_536, "up to {written} was written: {line}");
    });
}

#[test]
fn a_standby_ahead_of_the_switch_point_has_diverged() {
    on_every_version(|bin| async move {
        let (primary, replica) = pair(&bin).await;
        let third = third(&bin, &primary).await;
        replica.stop().await;
        primary.sql("INSERT INTO t VALUES (2)");
        eventually("the third has it", async || third.sql("SELECT count(*) FROM t") == "2").await;
        primary.postgres.stop(StopMode::Immediate, LIMIT).await.expect("stopped");
        replica.postgres.start(&StartAs::Standby(Upstream::None), LIMIT).await.expect("started");
        replica.postgres.promote(LIMIT).await.expect("promoted");
        assert_eq!(divergence(&third, &replica).await, Divergence::Diverged);
        third.stop().await;
        assert_eq!(divergence(&third, &replica).await, Divergence::Diverged);
        let error = third.postgres.rewind(&primary.address(), progress()).await.expect_err("nobody is there");
        assert!(error.to_string().starts_with("connect to 127.0.0.1"), "{error}");
    });
}

#[test]
fn a_timeline_of_our_number_that_was_begun_elsewhere_is_another_branch() {
    on_every_version(|bin| async move {
        let (primary, replica) = pair(&bin).await;
        let third = third(&bin, &primary).await;
        third.stop().await;
        primary.sql("INSERT INTO t VALUES (2)");
        eventually("the replica has it", async || replica.sql("SELECT count(*) FROM t") == "2").await;
        primary.postgres.stop(StopMode::Immediate, LIMIT).await.expect("stopped");
        replica.postgres.promote(LIMIT).await.expect("promoted");
        replica.stop().await;
        // It knows nothing of that promotion, and calls its own timeline by the same number.
        third.postgres.start(&StartAs::Standby(Upstream::None), LIMIT).await.expect("started");
        third.postgres.promote(LIMIT).await.expect("promoted");
        third.postgres.checkpoint().await.expect("checkpoint");
        assert_eq!(divergence(&replica, &third).await, Divergence::Diverged);
        let error = replica.postgres.rewind(&third.address(), progress()).await.expect_err("refused");
        assert!(error.to_string().contains("only a clone helps"), "{error}");
    });
}

#[test]
fn a_standby_whose_wal_the_leader_has_removed_is_told_so() {
    on_every_version(|bin| async move {
        let (primary, replica) = pair(&bin).await;
        let mut thrifty = desired();
        thrifty.server.parameters.insert("wal_keep_size".to_owned(), "16MB".into());
        primary.postgres.configure(&thrifty, Force::No).await.expect("configured");
        replica.stop().await;
        assert_eq!(divergence(&replica, &primary).await, Divergence::None);
        primary.postgres.sync_slots(&slots_for(&[])).await.expect("slots");
        for _ in 0..6 {
            primary.sql("INSERT INTO t VALUES (2); SELECT pg_switch_wal()");
            primary.sql("CHECKPOINT");
        }
        replica.postgres.start(&StartAs::Standby(primary.as_upstream()), LIMIT).await.expect("started");
        eventually("it is told", async || divergence(&replica, &primary).await == Divergence::WalGone).await;
        replica.stop().await;
        let source = CloneSource { name: "n1".into(), address: primary.address(), kind: CloneFrom::Leader };
        replica.postgres.clone_from(&source, progress()).await.expect("copied");
        primary.postgres.sync_slots(&slots_for(&["n2"])).await.expect("slots");
        replica.postgres.start(&StartAs::Standby(primary.as_upstream()), LIMIT).await.expect("started");
        eventually("the replica streams", async || replica.standby_facts().await.replication.is_some()).await;
        assert_eq!(divergence(&replica, &primary).await, Divergence::None);
    });
}

#[test]
fn a_leader_that_crashes_before_its_first_checkpoint_is_on_its_new_timeline() {
    on_every_version(|bin| async move {
        let (_primary, replica) = pair(&bin).await;
        kill(process_titled("checkpointer", &replica), Signal::SIGSTOP).expect("stopped");
        replica.postgres.promote(LIMIT).await.expect("promoted");
        replica.postgres.stop(StopMode::Immediate, LIMIT).await.expect("stopped");
        let control = Command::new(bin.join("pg_controldata")).arg(replica.data_dir()).env("LC_ALL", "C").output();
        let text = String::from_utf8_lossy(&control.expect("runs").stdout).into_owned();
        assert!(text.contains("Latest checkpoint's TimeLineID:       1"), "{text}");
        let DataDir::Present(data) = replica.probe().await.data else { panic!("there are data") };
        assert_eq!(data.control.expect("it is stopped").timeline, Timeline(2));
        replica.postgres.start(&StartAs::Primary, LIMIT).await.expect("started");
        assert_eq!(replica.sql("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"), "00000002");
    });
}

#[test]
fn a_diverged_standby_that_crashed_is_recovered_before_it_is_rewound() {
    on_every_version(|bin| async move {
        let (primary, replica) = pair(&bin).await;
        let third = Node::new("n3", &bin);
        third.configure().await;
        let source = CloneSource { name: "n1".into(), address: primary.address(), kind: CloneFrom::Leader };
        third.postgres.clone_from(&source, progress()).await.expect("copied");
        primary.postgres.sync_slots(&slots_for(&["n2", "n3"])).await.expect("slots");
        third.postgres.start(&StartAs::Standby(primary.as_upstream()), LIMIT).await.expect("started");
        replica.stop().await;
        primary.sql("INSERT INTO t VALUES (2)");
        primary.postgres.checkpoint().await.expect("checkpoint");
        eventually("the third has it", async || third.sql("SELECT count(*) FROM t") == "2").await;
        // Its control file then tells how far it has come.
        third.postgres.checkpoint().await.expect("a restart point");
        third.postgres.stop(StopMode::Immediate, LIMIT).await.expect("stopped");
        primary.postgres.stop(StopMode::Immediate, LIMIT).await.expect("stopped");
        replica.postgres.start(&StartAs::Standby(Upstream::None), LIMIT).await.expect("started");
        replica.postgres.promote(LIMIT).await.expect("promoted");
        replica.postgres.checkpoint().await.expect("checkpoint");
        assert_eq!(divergence(&third, &replica).await, Divergence::Diverged);
        let error = third.postgres.rewind(&replica.address(), progress()).await.expect_err("it is not in order");
        assert!(error.to_string().contains("pg_rewind"), "{error}");
        third.postgres.recover().await.expect("recovered");
        third.postgres.rewind(&replica.address(), progress()).await.expect("rewound");
        replica.postgres.sync_slots(&slots_for(&["n3"])).await.expect("slots");
        third.postgres.start(&StartAs::Standby(replica.as_upstream()), LIMIT).await.expect("started");
        eventually("it streams", async || third.standby_facts().await.replication.is_some()).await;
        assert_eq!(third.sql("SELECT count(*) FROM t"), "1");
    });
}

/// A former primary that pg_rewind has a lot to copy to.
async fn diverged_by_much(bin: &Path) -> (Node, Node) {
    let (old, new) = pair(bin).await;
    new.postgres.promote(LIMIT).await.expect("promoted");
    old.sql("INSERT INTO t VALUES (2)");
    old.stop().await;
    new.sql("CREATE TABLE big AS SELECT repeat('x', 1900) AS a FROM generate_series(1, 60000)");
    new.postgres.checkpoint().await.expect("checkpoint");
    (old, new)
}

fn rewinds(of: &Node) -> Vec<Pid> {
    let data = of.data_dir().to_string_lossy().into_owned();
    let pids = std::fs::read_dir("/proc").expect("a process table").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_rewind = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
            line.split('\0').next().is_some_and(|program| program.ends_with("pg_rewind")) && line.contains(&data)
        })
    };
    pids.filter(is_rewind).map(Pid::from_raw).collect()
}

/// Once pg_rewind has written a part of the big table.
async fn half_done(old: &Node, new: &Node) {
    let file = old.data_dir().join(new.sql("SELECT pg_relation_filepath('big')"));
    eventually("a part is copied", async || std::fs::metadata(&file).is_ok_and(|file| file.len() > 1 << 20)).await;
}

fn holds(path: &Path, text: &[u8]) -> bool {
    std::fs::read(path).expect("read").windows(text.len()).any(|window| window == text)
}

#[test]
fn wal_that_nobody_else_has_is_kept_for_a_while_when_a_rewind_discards_it() {
    #[derive(PartialEq)]
    enum Place {
        Beside,
        /// As where the data directory is a mount point.
        Inside,
    }
    on_every_version(|bin| async move {
        for place in [Place::Beside, Place::Inside] {
            let (old, new) = pair(&bin).await;
            new.postgres.promote(LIMIT).await.expect("promoted");
            old.sql("CREATE TABLE lost AS SELECT 'the lost text' AS a");
            // The same segments, with something else in them.
            new.sql("INSERT INTO t SELECT generate_series(1000, 20000)");
            new.postgres.checkpoint().await.expect("checkpoint");
            old.stop().await;
            let inside = old.data_dir().join(".tamada-discarded");
            let mode = |mode| std::fs::set_permissions(old.folder.path(), PermissionsExt::from_mode(mode));
            if place == Place::Inside {
                std::fs::create_dir_all(inside.join("4000000000")).expect("made");
                std::fs::write(inside.join("4000000000/earlier"), "earlier").expect("written");
                // Where the password file goes.
                std::fs::create_dir(old.folder.path().join("run")).expect("made");
                mode(0o555).expect("closed");
            }
            old.postgres.rewind(&new.address(), progress()).await.expect("rewound");
            mode(0o755).expect("opened");
            let folders = match place {
                Place::Beside => old.folder.path().join("data.discarded"),
                Place::Inside => inside.clone(),
            };
            let folders = folders.read_dir().expect("it is kept").flatten().map(|entry| entry.path());
            let files: Vec<_> = folders.flat_map(|folder| folder.read_dir().expect("a folder").flatten()).collect();
            assert!(files.iter().any(|file| holds(&file.path(), b"the lost text")), "{files:?}");
            if place == Place::Inside {
                assert!(holds(&inside.join("4000000000/earlier"), b"earlier"), "what was kept before is kept on");
            }
            comes_back(&old, &new).await;
        }
    });
}

#[test]
fn nothing_is_started_where_pg_rewind_was_cut_short() {
    enum Cut {
        Killed,
        Cancelled,
    }
    on_every_version(|bin| async move {
        for cut in [Cut::Killed, Cut::Cancelled] {
            let (old, new) = diverged_by_much(&bin).await;
            let address = new.address();
            let mut rewind = Box::pin(old.postgres.rewind(&address, progress()));
            tokio::select! {
                result = &mut rewind => panic!("too fast: {result:?}"),
                () = half_done(&old, &new) => (),
            }
            match cut {
                Cut::Killed => {
                    rewinds(&old).into_iter().for_each(|pid| kill(pid, Signal::SIGKILL).expect("killed"));
                    rewind.await.expect_err("it was killed");
                }
                Cut::Cancelled => drop(rewind),
            }
            eventually("it has ended", async || rewinds(&old).is_empty()).await;
            let old = old.with_new_agent();
            old.configure().await;
            match old.probe().await.data {
                DataDir::Present(data) => assert_eq!(data.signal, RecoverySignal::RewindUnfinished),
                other => panic!("{other:?}"),
            }
            for role in [StartAs::Primary, StartAs::Standby(Upstream::None)] {
                let error = old.postgres.start(&role, LIMIT).await.expect_err("refused");
                assert!(error.to_string().contains("pg_rewind was interrupted"), "{error}");
            }
            assert!(old.postgres.recover().await.is_err());
            // A source that does not answer makes nothing better.
            assert!(old.postgres.rewind(&old.address(), progress()).await.is_err());
            assert!(old.postgres.start(&StartAs::Primary, LIMIT).await.is_err());
            if let Err(error) = old.postgres.rewind(&new.address(), progress()).await {
                eprintln!("a second pg_rewind does not work: {error}");
                let source = CloneSource { name: "n2".into(), address: new.address(), kind: CloneFrom::Leader };
                old.postgres.clone_from(&source, progress()).await.expect("copied");
            }
            comes_back(&old, &new).await;
            assert_eq!(old.sql("SELECT count(*) FROM big"), "60000");
            assert_eq!(old.sql("SELECT count(*) FROM t WHERE a = 2"), "0");
        }
    });
}

#[test]
fn a_rewind_that_fails_before_it_changes_anything_leaves_the_data_as_they_are() {
    on_every_version(|bin| async move {
        let (_old, new) = pair(&bin).await;
        new.postgres.promote(LIMIT).await.expect("promoted");
        new.postgres.checkpoint().await.expect("checkpoint");
        let odd = Node::changed("n3", &bin, |config| config.postgres.rewind_options = vec!["--no-such".to_owned()]);
        odd.configure().await;
        let source = CloneSource { name: "n2".into(), address: new.address(), kind: CloneFrom::Leader };
        odd.postgres.clone_from(&source, progress()).await.expect("copied");
        odd.postgres.start(&StartAs::Standby(Upstream::None), LIMIT).await.expect("started");
        odd.stop().await;
        odd.postgres.rewind(&new.address(), progress()).await.expect_err("an unknown option");
        let DataDir::Present(data) = odd.probe().await.data else { panic!("there are data") };
        assert_eq!(data.signal, RecoverySignal::Present);
    });
}
