//! Copies of a primary, in both staging places, with folders outside, and those that come to nothing.

use std::time::Duration;

use tamada::config::Secret;
use tamada::core::local::{CloneFrom, CloneSource, StartAs, StopMode};
use tamada::postgres::Instance;

use crate::support::{LIMIT, Node, PASSWORD, eventually, on_every_version, processes_in, progress, slots_for};

fn source(of: &Node) -> CloneSource {
    CloneSource { name: of.config.name.clone(), address: of.address(), kind: CloneFrom::Leader }
}

async fn follows(replica: &Node, primary: &Node) {
    primary.postgres.sync_slots(&slots_for(&[replica.config.name.as_str()])).await.expect("slots");
    replica.postgres.start(&StartAs::Standby(primary.as_upstream()), LIMIT).await.expect("started");
    eventually("the replica streams", async || replica.standby_facts().await.replication.is_some()).await;
}

#[test]
fn a_copy_replaces_old_data_where_the_directory_itself_cannot_be_moved() {
    on_every_version(|bin| async move {
        let (primary, replica) = (Node::new("n1", &bin), Node::new("n2", &bin));
        primary.bootstrap().await;
        primary.sql("CREATE TABLE t AS SELECT 7 AS a");
        std::fs::write(primary.data_dir().join("tamada.lease"), "1").expect("written");
        std::fs::write(primary.data_dir().join(".hidden"), "").expect("written");
        replica.bootstrap().await;
        replica.sql("CREATE TABLE old ()");
        replica.postgres.stop(StopMode::Immediate, LIMIT).await.expect("stopped");
        // A hidden file that is not ours is how a directory that must stay where it is looks to us.
        let hidden = replica.data_dir().join(".snapshot");
        std::fs::write(&hidden, "").expect("written");
        replica.postgres.clone_from(&source(&primary), progress()).await.expect("copied");
        assert!(hidden.exists());
        assert!(!replica.data_dir().join("tamada.lease").exists(), "a lease is its member's own");
        assert!(!replica.data_dir().join(".hidden").exists(), "so is what does not count as data");
        assert!(!replica.data_dir().join(".tamada-clone").exists());
        follows(&replica, &primary).await;
        assert_eq!(replica.sql("SELECT a FROM t"), "7");
        assert_eq!(replica.sql("SHOW port"), replica.config.postgres.port.to_string());
    });
}

#[test]
fn tablespaces_and_a_wal_folder_of_old_data_are_replaced_in_their_places() {
    on_every_version(|bin| async move {
        let primary = Node::new("n1", &bin);
        primary.bootstrap().await;
        let space = primary.folder.path().join("space");
        std::fs::create_dir(&space).expect("made");
        primary.sql(&format!("CREATE TABLESPACE s LOCATION '{}'", space.display()));
        primary.sql("CREATE TABLE t TABLESPACE s AS SELECT 8 AS a");
        // Two servers on one machine: the replica's tablespace needs another place than the primary's.
        let own = tempfile::tempdir().expect("a folder");
        let (own_space, wal) = (own.path().join("space=2"), own.path().join("wal"));
        let mapped = own_space.to_string_lossy().replace('=', "\\=");
        let replica = Node::changed("n2", &bin, |config| {
            let mapping = format!("--tablespace-mapping={}={mapped}", space.display());
            config.postgres.basebackup.extend([mapping, format!("--waldir={}", wal.display())]);
        });
        replica.configure().await;
        for round in ["first", "second"] {
            replica.postgres.clone_from(&source(&primary), progress()).await.expect(round);
            let link = std::fs::read_link(replica.data_dir().join("pg_wal")).expect("a link");
            assert_eq!(link, wal);
            let spaces = std::fs::read_dir(replica.data_dir().join("pg_tblspc")).expect("read").flatten();
            let spaces: Vec<_> = spaces.map(|entry| std::fs::read_link(entry.path()).expect("a link")).collect();
            assert_eq!(spaces, std::slice::from_ref(&own_space));
            follows(&replica, &primary).await;
            assert_eq!(replica.sql("SELECT a FROM t"), "8");
            replica.stop().await;
            let mut left: Vec<_> =
                own.path().read_dir().expect("read").flatten().map(|entry| entry.file_name()).collect();
            left.sort();
            assert_eq!(left, ["space=2", "wal"], "no staging place is left after the {round} copy");
        }
        assert_eq!(primary.sql("SELECT a FROM t"), "8");
    });
}

#[test]
fn a_copy_that_is_given_up_leaves_the_old_data_and_no_process() {
    on_every_version(|bin| async move {
        let primary = Node::new("n1", &bin);
        let replica = Node::changed("n2", &bin, |config| config.postgres.basebackup.push("--max-rate=1M".to_owned()));
        primary.bootstrap().await;
        replica.bootstrap().await;
        replica.sql("CREATE TABLE old ()");
        replica.stop().await;
        let staged = replica.folder.path().join("data.clone/new/base");
        let from = source(&primary);
        tokio::select! {
            result = replica.postgres.clone_from(&from, progress()) => panic!("too fast: {result:?}"),
            () = eventually("files arrive", async || staged.exists()) => (),
        }
        eventually("pg_basebackup has ended", async || processes_named("pg_basebackup", replica.folder.path()) == 0)
            .await;
        let replica = replica.with_new_agent();
        replica.configure().await;
        replica.probe().await;
        assert!(!replica.folder.path().join("data.clone").exists(), "what was staged is removed");
        let run = replica.folder.path().join("run").read_dir().expect("read").flatten();
        let passfiles: Vec<_> = run.map(|file| file.file_name()).filter(|name| name != "pgpass").collect();
        assert_eq!(passfiles, Vec::<std::ffi::OsString>::new(), "and its password file");
        replica.postgres.start(&StartAs::Primary, LIMIT).await.expect("started");
        assert_eq!(replica.sql("SELECT count(*) FROM old"), "0");
        assert!(!processes_in(replica.data_dir()).is_empty());
    });
}

fn processes_named(name: &str, argument: &std::path::Path) -> usize {
    let entries = std::fs::read_dir("/proc").expect("a process table").flatten();
    let lines = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(name) && line.contains(&*argument.to_string_lossy())).count()
}

#[test]
fn a_source_that_refuses_costs_nothing_and_the_error_holds_no_password() {
    on_every_version(|bin| async move {
        let primary = Node::new("n1", &bin);
        let wrong = "not the password";
        let replica = Node::changed("n2", &bin, |config| {
            config.postgres.replication.password = Some(Secret::new(wrong));
        });
        primary.bootstrap().await;
        replica.bootstrap().await;
        replica.sql("CREATE TABLE old ()");
        replica.stop().await;
        let error = replica.postgres.clone_from(&source(&primary), progress()).await.expect_err("refused");
        let text = format!("{error} {error:?}");
        assert!(text.contains("password authentication failed"), "{text}");
        assert!(!text.contains(wrong) && !text.contains(PASSWORD), "{text}");
        let unreachable = CloneSource { address: replica.address(), ..source(&primary) };
        assert!(replica.postgres.clone_from(&unreachable, progress()).await.is_err());
        replica.postgres.start(&StartAs::Primary, LIMIT).await.expect("started");
        assert_eq!(replica.sql("SELECT count(*) FROM old"), "0");
        let left = replica.folder.path().join("run").read_dir().map_or(0, |files| files.count());
        assert_eq!(left, 0, "no password file is left behind");
    });
}

#[test]
fn nothing_is_copied_onto_a_running_server() {
    on_every_version(|bin| async move {
        let primary = Node::new("n1", &bin);
        primary.bootstrap().await;
        let error = primary.postgres.clone_from(&source(&primary), progress()).await.expect_err("refused");
        assert!(error.to_string().contains("while PostgreSQL runs"), "{error}");
        assert_eq!(primary.sql("SELECT 1"), "1");
        let second = primary.postgres.bootstrap(progress()).await.expect_err("refused");
        assert!(second.to_string().contains("not empty"), "{second}");
        tokio::time::timeout(Duration::from_secs(5), primary.probe()).await.expect("answers");
    });
}

fn empty(dir: &std::path::Path) {
    std::fs::remove_dir_all(dir).expect("removed");
    std::fs::create_dir(dir).expect("made");
}

/// A replica with its WAL in a folder outside.
fn with_wal_in(wal: &std::path::Path, bin: &std::path::Path) -> Node {
    Node::changed("n2", bin, |config| {
        let option = format!("--waldir={}", wal.display());
        config.postgres.basebackup.push(option.clone());
        config.bootstrap.initdb.push(option);
    })
}

#[test]
fn wal_that_a_data_directory_emptied_by_hand_has_left_is_no_hindrance() {
    on_every_version(|bin| async move {
        let primary = Node::new("n1", &bin);
        primary.bootstrap().await;
        primary.sql("CREATE TABLE t AS SELECT 7 AS a");
        let volume = tempfile::tempdir().expect("a folder");
        let wal = volume.path().join("data");
        let replica = with_wal_in(&wal, &bin);
        replica.configure().await;
        replica.postgres.clone_from(&source(&primary), progress()).await.expect("copied");
        empty(replica.data_dir());
        replica.postgres.clone_from(&source(&primary), progress()).await.expect("copied again");
        follows(&replica, &primary).await;
        assert_eq!(std::fs::read_link(replica.data_dir().join("pg_wal")).expect("a link"), wal);
        replica.stop().await;
        // Anybody else's is never touched.
        empty(replica.data_dir());
        std::fs::write(wal.join("precious"), "").expect("written");
        let error = replica.postgres.clone_from(&source(&primary), progress()).await.expect_err("refused");
        let text = error.to_string();
        assert!(text.contains(&*wal.to_string_lossy()) && text.contains("holds files that are not WAL"), "{text}");
        assert!(wal.join("precious").exists());
        assert!(wal.read_dir().expect("read").count() > 1, "nor is anything beside it");
    });
}

#[test]
fn a_bootstrap_that_was_cut_short_leaves_no_wal_in_its_folder() {
    on_every_version(|bin| async move {
        let volume = tempfile::tempdir().expect("a folder");
        let wal = volume.path().join("data");
        let node = with_wal_in(&wal, &bin);
        node.configure().await;
        let written = || std::fs::read_dir(volume.path()).is_ok_and(|mut names| names.next().is_some());
        tokio::select! {
            result = node.postgres.bootstrap(progress()) => panic!("too fast: {result:?}"),
            () = eventually("WAL is written", async || written()) => (),
        }
        let node = node.with_new_agent();
        node.bootstrap().await;
        assert_eq!(std::fs::read_link(node.data_dir().join("pg_wal")).expect("a link"), wal);
        assert_eq!(std::fs::read_dir(volume.path()).expect("read").count(), 1);
    });
}

#[test]
fn a_copy_that_was_cut_short_leaves_nothing_in_a_tablespace() {
    on_every_version(|bin| async move {
        let primary = Node::new("n1", &bin);
        primary.bootstrap().await;
        let space = primary.folder.path().join("space");
        std::fs::create_dir(&space).expect("made");
        primary.sql(&format!("CREATE TABLESPACE s LOCATION '{}'", space.display()));
        primary.sql("CREATE TABLE t TABLESPACE s AS SELECT repeat('x', 1900) AS a FROM generate_series(1, 2000)");
        let own = tempfile::tempdir().expect("a folder");
        let own_space = own.path().join("space");
        let mapping = format!("--tablespace-mapping={}={}", space.display(), own_space.display());
        let mut replica = Node::changed("n2", &bin, |config| {
            config.postgres.basebackup = vec![mapping.clone(), "--max-rate=1M".to_owned()];
        });
        replica.configure().await;
        let written = || std::fs::read_dir(own.path()).is_ok_and(|mut names| names.next().is_some());
        let from = source(&primary);
        tokio::select! {
            result = replica.postgres.clone_from(&from, progress()) => panic!("too fast: {result:?}"),
            () = eventually("the tablespace arrives", async || written()) => (),
        }
        let mut config = (*replica.config).clone();
        config.postgres.basebackup = vec![mapping];
        replica.config = config.into();
        let replica = replica.with_new_agent();
        replica.configure().await;
        replica.postgres.clone_from(&from, progress()).await.expect("copied");
        follows(&replica, &primary).await;
        assert_eq!(replica.sql("SELECT count(*) FROM t"), "2000");
        replica.stop().await;
        // Without our data's word for it, nobody knows whose this is.
        empty(replica.data_dir());
        let error = replica.postgres.clone_from(&from, progress()).await.expect_err("refused");
        assert!(error.to_string().contains(&*own_space.to_string_lossy()), "{error}");
        assert!(own_space.read_dir().expect("read").next().is_some());
    });
}

fn discarded(of: &Node) -> Vec<std::path::PathBuf> {
    let places = std::fs::read_dir(of.folder.path().join("data.discarded")).into_iter().flatten().flatten();
    places.map(|entry| entry.path()).collect()
}

/// The one folder of kept WAL, which holds this text.
fn kept_with(of: &Node, text: &[u8]) -> Vec<std::path::PathBuf> {
    let kept = discarded(of);
    assert_eq!(kept.len(), 1, "{kept:?}");
    let holds_it = |path: std::path::PathBuf| {
        let bytes = std::fs::read(path).expect("read");
        bytes.windows(text.len()).any(|window| window == text)
    };
    assert!(kept[0].read_dir().expect("read").flatten().any(|entry| holds_it(entry.path())));
    kept
}

/// Where its WAL ends only crash recovery could tell, and that has failed.
#[test]
fn the_wal_of_a_crashed_primary_is_kept_when_a_clone_discards_it() {
    on_every_version(|bin| async move {
        let (old, new) = crate::support::pair(&bin).await;
        new.postgres.promote(LIMIT).await.expect("promoted");
        old.sql("CREATE TABLE lost AS SELECT 'the lost text' AS a");
        old.postgres.stop(StopMode::Immediate, LIMIT).await.expect("stopped");
        old.postgres.clone_from(&source(&new), progress()).await.expect("copied");
        kept_with(&old, b"the lost text");
    });
}

#[test]
fn wal_that_nobody_else_has_is_kept_for_a_while_when_a_clone_discards_it() {
    on_every_version(|bin| async move {
        let (old, new) = crate::support::pair(&bin).await;
        new.postgres.promote(LIMIT).await.expect("promoted");
        old.sql("CREATE TABLE lost AS SELECT 'the lost text' AS a");
        old.stop().await;
        old.postgres.clone_from(&source(&new), progress()).await.expect("copied");
        let kept = kept_with(&old, b"the lost text");
        // A second copy of the same discards nothing.
        old.postgres.clone_from(&source(&new), progress()).await.expect("copied");
        old.probe().await;
        assert_eq!(discarded(&old), kept);
        let mut old = old;
        let mut config = (*old.config).clone();
        config.keep_discarded = Duration::ZERO;
        old.config = config.into();
        let old = old.with_new_agent();
        old.probe().await;
        assert!(!old.folder.path().join("data.discarded").exists());
    });
}
