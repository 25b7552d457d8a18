//! The user's commands: `pre_promote`, `before_stop` and the callbacks, with a real server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tamada::core::local::{StartAs, StopMode, Upstream};
use tamada::postgres::{DesiredServer, Force, Instance, RoleChange, Waits};

use crate::support::{LIMIT, Node, desired, eventually, logged, on_every_version};

const SHORT: Duration = Duration::from_millis(700);

/// A script below the node's folder.
fn script(node: &Node, name: &str, text: &str) -> PathBuf {
    let path = node.folder.path().join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("ours");
    path
}

fn words(path: &Path) -> Option<Vec<String>> {
    Some(vec![path.display().to_string(), "a word".to_owned()])
}

fn with(pre_promote: Option<Vec<String>>, before_stop: Option<Vec<String>>) -> DesiredServer {
    let mut desired = desired();
    (desired.server.pre_promote, desired.server.before_stop) = (pre_promote, before_stop);
    desired
}

async fn ask(node: &Node, pre_promote: Option<Vec<String>>, limit: Duration) -> Result<(), String> {
    node.postgres.configure(&with(pre_promote, None), Force::No).await.expect("configured");
    node.postgres.pre_promote(limit).await.map_err(|error| error.to_string())
}

fn is_alive(pid_file: &Path) -> bool {
    let pid = fs::read_to_string(pid_file).unwrap_or_default();
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn pre_promote_agrees_by_its_exit_status_alone() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        assert_eq!(ask(&node, None, LIMIT).await, Ok(()));
        let noted = node.folder.path().join("noted");
        let note = format!("echo \"$*\" > {}", noted.display());
        assert_eq!(ask(&node, words(&script(&node, "agrees", &note)), LIMIT).await, Ok(()));
        assert_eq!(fs::read_to_string(&noted).expect("it ran"), "a word\n");

        let refuses = script(&node, "refuses", "exit 3");
        let expected = format!("run pre_promote {}: it ended with exit status: 3", refuses.display());
        assert_eq!(ask(&node, words(&refuses), LIMIT).await, Err(expected));
        let killed = ask(&node, words(&script(&node, "dies", "kill -9 $$")), LIMIT).await.expect_err("refused");
        assert!(killed.contains("signal: 9"), "{killed}");
        let missing = ask(&node, words(Path::new("/nowhere/fence")), LIMIT).await.expect_err("refused");
        assert_eq!(missing, "run pre_promote /nowhere/fence: No such file or directory (os error 2)");
        fs::set_permissions(&refuses, fs::Permissions::from_mode(0o600)).expect("ours");
        let barred = ask(&node, words(&refuses), LIMIT).await.expect_err("refused");
        assert!(barred.ends_with("Permission denied (os error 13)"), "{barred}");
    });
}

#[test]
fn a_pre_promote_that_hangs_is_ended_with_all_that_it_has_started() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        let pids = ["child", "orphan", "itself"].map(|name| node.folder.path().join(name));
        let [child, orphan, itself] = &pids;
        let hangs = format!(
            "sleep 1000 & echo $! > {}\n(sleep 1000 & echo $! > {})\necho $$ > {}\nwait",
            child.display(),
            orphan.display(),
            itself.display()
        );
        let hangs = words(&script(&node, "hangs", &hangs));
        let began = Instant::now();
        let error = ask(&node, hangs.clone(), SHORT).await.expect_err("refused");
        assert!(error.contains("no end within") && error.ends_with("; it was killed"), "{error}");
        assert!(began.elapsed() < SHORT + Duration::from_secs(3));
        assert!(pids.iter().all(|pid| pid.exists() && !is_alive(pid)));

        // The job is cancelled.
        pids.iter().for_each(|pid| fs::remove_file(pid).expect("there"));
        node.postgres.configure(&with(hangs, None), Force::No).await.expect("configured");
        {
            let asking = node.postgres.pre_promote(LIMIT);
            tokio::pin!(asking);
            let began = eventually("it runs", async || itself.exists());
            tokio::select! {
                answer = &mut asking => panic!("{answer:?}"),
                () = began => {}
            }
        }
        eventually("all have ended", async || !pids.iter().any(|pid| is_alive(pid))).await;

        let leaves = format!("sleep 1000 & echo $! > {}", child.display());
        assert_eq!(ask(&node, words(&script(&node, "leaves", &leaves)), LIMIT).await, Ok(()));
        assert!(!is_alive(child));
        assert!(logged("pre_promote left 1 processes behind", "killed").is_some());
    });
}

#[test]
fn before_stop_is_waited_for_a_limited_time_and_never_where_the_lock_is_lost() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        node.bootstrap().await;
        let (began, ended) = (node.folder.path().join("began"), node.folder.path().join("ended"));
        let slow = format!("touch {}\nsleep 0.3\ntouch {}\nexit 1", began.display(), ended.display());
        let slow = words(&script(&node, "slow", &slow));
        node.postgres.configure(&with(None, slow), Force::No).await.expect("configured");
        node.postgres.before_stop(LIMIT, Waits::Always).await;
        assert!(ended.exists());
        assert!(logged("run before_stop", "exit status: 1; PostgreSQL is stopped all the same").is_some());

        for waits in [Waits::Never, Waits::AsStandby] {
            [&began, &ended].into_iter().for_each(|file| fs::remove_file(file).expect("there"));
            node.postgres.before_stop(LIMIT, waits).await;
            assert!(!ended.exists(), "{waits:?}");
            eventually("it runs beside the stop", async || ended.exists()).await;
        }
        let hangs = words(&script(&node, "hangs", "sleep 1000"));
        node.postgres.configure(&with(None, hangs), Force::No).await.expect("configured");
        let since = Instant::now();
        node.postgres.before_stop(SHORT * 2, Waits::Always).await;
        assert!(since.elapsed() >= SHORT && since.elapsed() < SHORT * 6, "{:?}", since.elapsed());

        // A restart is a stop too.
        fs::remove_file(&ended).expect("there");
        let slow = words(&node.folder.path().join("slow"));
        node.postgres.configure(&with(None, slow), Force::No).await.expect("configured");
        node.postgres.restart(&StartAs::Primary, LIMIT, LIMIT).await.expect("restarted");
        assert!(ended.exists());
        node.stop().await;
        fs::remove_file(&ended).expect("there");
        node.postgres.before_stop(LIMIT, Waits::Always).await;
        assert!(!ended.exists(), "nothing runs that could be stopped");
    });
}

/// A node whose callbacks write their arguments to a file.
fn telling(bin: &Path, more: &str) -> (Node, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let (file, callback) = (folder.join("told"), folder.join("callback"));
    fs::write(&callback, format!("#!/bin/sh\necho \"$1 $2\" >> {}\n{more}\n", file.display())).expect("written");
    fs::set_permissions(&callback, fs::Permissions::from_mode(0o700)).expect("ours");
    let command = vec![callback.display().to_string()];
    let node = Node::changed("n1", bin, |config| {
        let callbacks = &mut config.postgres.callbacks;
        callbacks.on_start = command.clone();
        callbacks.on_stop = command.clone();
        callbacks.on_role_change = command.clone();
    });
    (node, file)
}

#[test]
fn callbacks_are_told_of_a_demotion() {
    on_every_version(|bin| async move {
        let (node, file) = telling(&bin, "");
        let mut expected = String::new();
        let mut is_told = async |lines: &str| {
            expected += lines;
            eventually(lines, async || fs::read_to_string(&file).unwrap_or_default() == expected).await;
        };
        node.bootstrap().await;
        is_told("on_start primary\n").await;
        // As a switchover does it.
        node.postgres.demoted(RoleChange::WithStop);
        node.stop().await;
        is_told("on_stop demoted\n").await;
        node.postgres.start(&StartAs::Standby(Upstream::None), LIMIT).await.expect("started");
        is_told("on_role_change replica\n").await;
        node.postgres.demoted(RoleChange::Told);
        node.postgres.promote(LIMIT).await.expect("promoted");
        is_told("on_role_change primary\n").await;
        // A crash after which another member leads.
        node.postgres.stop(StopMode::Immediate, LIMIT).await.expect("stopped");
        is_told("on_stop primary\n").await;
        node.postgres.demoted(RoleChange::Told);
        node.postgres.demoted(RoleChange::Told);
        is_told("on_role_change demoted\n").await;
        fs::remove_dir_all(file.parent().expect("a folder")).expect("removed");
    });
}

#[test]
fn a_callback_that_runs_on_or_has_left_something_behind_is_ended_by_the_next() {
    on_every_version(|bin| async move {
        let pids = tempfile::tempdir().expect("a folder");
        let (left, hanging) = (pids.path().join("left"), pids.path().join("hanging"));
        let more = format!(
            "case $1 in\non_start) sleep 1000 & echo $! > {};;\non_stop) sleep 1000 & echo $! > {}; wait;;\nesac",
            left.display(),
            hanging.display()
        );
        let (node, file) = telling(&bin, &more);
        let told = || fs::read_to_string(&file).unwrap_or_default().lines().count();
        node.bootstrap().await;
        eventually("the first callback has ended", async || told() == 1 && is_alive(&left)).await;
        node.stop().await;
        eventually("the second one hangs", async || told() == 2 && is_alive(&hanging)).await;
        assert!(!is_alive(&left));
        node.postgres.start(&StartAs::Standby(Upstream::None), LIMIT).await.expect("started");
        eventually("the third one was started", async || told() == 3).await;
        assert!(!is_alive(&hanging));
        assert!(logged("an earlier callback has left running is killed for", "on_role_change").is_some());
        fs::remove_dir_all(file.parent().expect("a folder")).expect("removed");
    });
}

#[test]
fn hooks_are_told_of_the_pod_that_they_run_in_and_of_no_secret() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        let all = ["PATH=/usr/bin:/bin", "KUBERNETES_SERVICE_HOST=10.0.0.1", "PATRONI_X=1", "MY_PASSWORD=x"];
        let all: Vec<_> = all.iter().filter_map(|one| one.split_once('=')).collect();
        let all: Vec<(std::ffi::OsString, std::ffi::OsString)> =
            all.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let seen = node.folder.path().join("seen");
        let hook = words(&script(&node, "hook", &format!("env > {}", seen.display())));
        let mut node = node;
        node.postgres = tamada::postgres::LocalPostgres::new(node.config.clone(), all.clone())
            .expect("programs")
            .with_hooks_of(&all);
        assert_eq!(ask(&node, hook, LIMIT).await, Ok(()));
        let seen = fs::read_to_string(seen).expect("it ran");
        assert!(seen.contains("KUBERNETES_SERVICE_HOST=10.0.0.1"), "{seen}");
        assert!(!seen.contains("PATRONI_X") && !seen.contains("MY_PASSWORD"), "{seen}");
    });
}
