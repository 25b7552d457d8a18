//! What is left when a postmaster or an agent dies, and what a new agent makes of it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tamada::core::local::{DataDir, LastRole, Postgres, Running, StartAs, StopMode};
use tamada::postgres::Instance;

use crate::support::{LIMIT, Node, PASSWORD, eventually, on_every_version, processes_in};

/// A client whose query keeps its backend busy without ever looking up.
fn busy_client(node: &Node) -> Child {
    let port = node.config.postgres.port.to_string();
    Command::new("/usr/bin/psql")
        .args(["-X", "-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", "postgres"])
        .args(["-c", "SELECT count(*) FROM generate_series(1, 1000000000000)"])
        .env("PGPASSWORD", PASSWORD)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("psql")
}

async fn postmaster(node: &Node) -> Pid {
    Pid::from_raw(node.probe().await.facts.postmaster_pid.expect("runs"))
}

#[test]
fn a_busy_backend_that_outlives_its_postmaster_is_killed_before_the_next_start() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        node.bootstrap().await;
        let mut client = busy_client(&node);
        eventually("the query runs", async || {
            node.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series(1, 1%' AND pid <> pg_backend_pid()")
                == "1"
        })
        .await;
        let before = postmaster(&node).await;
        kill(before, Signal::SIGKILL).expect("killed");
        node.postgres.wait_exit().await;
        assert_eq!(node.probe().await.postgres, Postgres::Stopped);
        assert_eq!(processes_in(node.data_dir()), Vec::<i32>::new(), "nothing of the server is left");
        client.wait().expect("psql ends");
        node.postgres.start(&StartAs::Primary, LIMIT).await.expect("started");
        assert_ne!(postmaster(&node).await, before);
        assert_eq!(node.sql("SELECT 1"), "1");
    });
}

#[test]
fn a_new_agent_adopts_the_running_server_and_watches_it() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        node.bootstrap().await;
        let before = postmaster(&node).await;
        let node = node.with_new_agent();
        node.configure().await;
        let probe = node.probe().await;
        assert_eq!(probe.facts.postmaster_pid, Some(before.as_raw()));
        assert!(matches!(probe.postgres, Postgres::Running(Running::Primary(_))));
        let exit = node.postgres.wait_exit();
        tokio::pin!(exit);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut exit).await.is_err());
        kill(before, Signal::SIGKILL).expect("killed");
        tokio::time::timeout(Duration::from_secs(5), exit).await.expect("told of the end");
    });
}

#[test]
fn a_lock_file_that_names_somebody_elses_process_is_no_hindrance_and_stays() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        node.bootstrap().await;
        node.postgres.stop(StopMode::Immediate, LIMIT).await.expect("stopped");
        let own = std::process::id();
        let data = node.data_dir().to_owned();
        // A thread's number is no process's.
        let thread = std::thread::spawn(std::thread::park);
        let tasks = std::fs::read_dir("/proc/self/task").expect("threads").flatten();
        let tasks: Vec<u32> = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect();
        for task in tasks.into_iter().filter(|task| *task != own) {
            std::fs::write(data.join("postmaster.pid"), format!("{task}\n{}\n1700000000\n", data.display()))
                .expect("written");
            assert_eq!(node.probe().await.postgres, Postgres::Stopped);
        }
        thread.thread().unpark();
        let stale = format!("{own}\n{}\n1700000000\n5432\n\n\n\nready   \n", data.display());
        std::fs::write(data.join("postmaster.pid"), &stale).expect("written");
        let node = node.with_new_agent();
        node.configure().await;
        assert_eq!(node.probe().await.postgres, Postgres::Stopped);
        let untouched = std::fs::read_to_string(data.join("postmaster.pid")).expect("still there");
        assert_eq!(untouched, stale);
        node.postgres.recover().await.expect("recovered");
        // A recovery that was killed leaves a negative number.
        std::fs::write(data.join("postmaster.pid"), format!("-{stale}")).expect("written");
        node.postgres.start(&StartAs::Primary, LIMIT).await.expect("started");
        assert_ne!(postmaster(&node).await.as_raw(), own as i32);
    });
}

/// When PID 1 started, in seconds since 1970.
fn start_of_pid_1() -> i64 {
    let read = |path: &str| std::fs::read_to_string(path).expect("readable");
    let stat = read("/proc/1/stat");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks: i64 = fields.split_whitespace().nth(19).expect("a start").parse().expect("a number");
    let boot = read("/proc/stat").lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<i64>().ok());
    boot.expect("a time") + ticks / 100
}

#[test]
fn a_lock_file_that_names_another_users_process_is_never_acted_upon() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        node.bootstrap().await;
        node.stop().await;
        let (data, started) = (node.data_dir().to_owned(), start_of_pid_1());
        std::fs::write(data.join("postmaster.pid"), format!("1\n{}\n{started}\n5432\n\n\n", data.display()))
            .expect("written");
        let node = node.with_new_agent();
        node.configure().await;
        assert_eq!(node.probe().await.postgres, Postgres::Stopped);
    });
}

#[test]
fn a_frozen_server_is_unresponsive_in_its_last_role_and_can_be_stopped() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        node.bootstrap().await;
        node.probe().await;
        for pid in processes_in(node.data_dir()) {
            kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("stopped");
        }
        let began = Instant::now();
        let probe = node.postgres.probe(Duration::from_millis(300)).await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(
            matches!(probe.postgres, Postgres::Unresponsive { role: LastRole::Primary, .. }),
            "{:?}",
            probe.postgres
        );
        let stopped = node.postgres.stop(StopMode::Fast, Duration::from_millis(300)).await.expect("stopped");
        assert_eq!(stopped, None, "that was not clean");
        assert_eq!(processes_in(node.data_dir()), Vec::<i32>::new());
    });
}

#[test]
fn a_bootstrap_that_was_cut_short_is_removed_and_begun_anew() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        node.configure().await;
        let mark = node.data_dir().join("tamada.bootstrap");
        let pid_file = node.data_dir().join("postmaster.pid");
        let bootstrap = node.postgres.bootstrap(crate::support::progress());
        tokio::select! {
            result = bootstrap => panic!("it was to be cut short: {result:?}"),
            () = eventually("its first start is under way", async || mark.exists() && pid_file.exists()) => (),
        }
        let node = node.with_new_agent();
        node.configure().await;
        let probe = node.probe().await;
        assert_eq!((probe.data, probe.postgres), (tamada::core::local::DataDir::Empty, Postgres::Stopped));
        assert_eq!(processes_in(node.data_dir()), Vec::<i32>::new());
        node.postgres.bootstrap(crate::support::progress()).await.expect("bootstrapped");
        assert!(!mark.exists());
        assert!(node.psql("replicator", "SELECT 1").0);
    });
}

#[test]
fn a_server_whose_data_directory_was_closed_emptied_or_removed_is_not_stopped() {
    use std::os::unix::fs::PermissionsExt;
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        node.bootstrap().await;
        let before = postmaster(&node).await.as_raw();
        // A server notices the loss of its files and ends; one that hangs does not.
        kill(Pid::from_raw(before), Signal::SIGSTOP).expect("stopped");
        let data = node.data_dir().to_owned();
        let found = async |node: &Node, how: &str| {
            let probe = node.postgres.probe(Duration::from_millis(300)).await;
            assert_ne!(probe.postgres, Postgres::Stopped, "{how}");
            assert!(!matches!(probe.data, DataDir::Present(_)), "{how}: {:?}", probe.data);
            assert_eq!(probe.facts.postmaster_pid, Some(before), "{how}");
        };
        let aside = node.folder.path().join("aside");
        std::fs::rename(&data, &aside).expect("renamed");
        std::fs::create_dir(&data).expect("made anew");
        let node = node.with_new_agent();
        found(&node, "renamed, and another in its place").await;
        std::fs::remove_dir(&data).expect("removed");
        std::fs::rename(&aside, &data).expect("renamed back");
        std::fs::set_permissions(&data, PermissionsExt::from_mode(0o000)).expect("closed");
        let node = node.with_new_agent();
        found(&node, "closed").await;
        std::fs::set_permissions(&data, PermissionsExt::from_mode(0o700)).expect("opened");
        for entry in std::fs::read_dir(&data).expect("there").flatten() {
            let is_dir = entry.file_type().expect("known").is_dir();
            let remove = if is_dir { std::fs::remove_dir_all } else { std::fs::remove_file };
            remove(entry.path()).expect("removed");
        }
        let node = node.with_new_agent();
        found(&node, "emptied").await;
        std::fs::remove_dir(&data).expect("removed");
        let node = node.with_new_agent();
        found(&node, "removed").await;
        std::fs::create_dir(&data).expect("made anew");
        let node = node.with_new_agent();
        found(&node, "made anew").await;
        kill(Pid::from_raw(before), Signal::SIGKILL).expect("killed");
    });
}

/// Whether the WAL of this stopped server reaches a position.
async fn reaches(node: &Node, position: &str) -> bool {
    let DataDir::Present(data) = node.probe().await.data else { panic!("there are data") };
    let end = data.control.and_then(|control| control.wal_end).expect("it can be told");
    end.reaches(position.parse().expect("a position"))
}

#[test]
fn the_wal_of_a_crashed_primary_reaches_what_it_had_flushed_and_an_older_copy_does_not() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        node.bootstrap().await;
        let crash = async |sql: &str| {
            node.sql(sql);
            let flushed = node.sql("SELECT pg_current_wal_flush_lsn()");
            node.postgres.stop(StopMode::Immediate, LIMIT).await.expect("stopped");
            assert!(reaches(&node, &flushed).await, "{flushed} after {sql}");
            flushed
        };
        crash("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a").await;
        let copy = node.folder.path().join("copy");
        crate::support::copy(node.data_dir(), &copy);
        let start = async || node.postgres.start(&StartAs::Primary, LIMIT).await.expect("started");
        start().await;
        let flushed = crash("INSERT INTO t SELECT generate_series(1, 1000)").await;
        start().await;
        crash("SELECT pg_switch_wal()").await;
        start().await;
        crash("INSERT INTO t SELECT generate_series(1, 300000)").await;
        std::fs::remove_dir_all(node.data_dir()).expect("removed");
        std::fs::rename(&copy, node.data_dir()).expect("the copy takes its place");
        assert!(!reaches(&node, &flushed).await);
    });
}
