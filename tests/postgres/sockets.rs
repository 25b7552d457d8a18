//! Sockets and lock files that a killed container leaves behind, and those of a server that lives.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tamada::core::local::{Postgres, StartAs};
use tamada::postgres::{DesiredServer, Force, Instance};

use crate::support::{LIMIT, Node, desired, on_every_version, progress};

/// Settings with these folders for sockets.
fn with_sockets(dirs: &[&Path]) -> DesiredServer {
    let mut desired = desired();
    let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    desired.server.parameters.insert("unix_socket_directories".to_owned(), dirs.join(", ").into());
    desired
}

fn socket_of(dir: &Path, node: &Node) -> PathBuf {
    dir.join(format!(".s.PGSQL.{}", node.config.postgres.port))
}

fn lock_of(dir: &Path, node: &Node) -> PathBuf {
    dir.join(format!(".s.PGSQL.{}.lock", node.config.postgres.port))
}

/// Rewrites the number in a lock file.
fn name_process(lock: &Path, number: i32) {
    let text = std::fs::read_to_string(lock).expect("a lock file");
    let (_, rest) = text.split_once('\n').expect("lines");
    std::fs::write(lock, format!("{number}\n{rest}")).expect("written");
}

/// A thread that lives until the result is dropped: its number.
fn thread() -> (i32, mpsc::Sender<()>) {
    let (tell, told) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        tell.send(nix::unistd::gettid().as_raw()).expect("awaited");
        let _ = ended.recv();
    });
    (told.recv().expect("a number"), end)
}

/// What the power's end leaves: no server, and all its files.
async fn crash(node: &Node) {
    let pid = node.probe().await.facts.postmaster_pid.expect("runs");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
    node.postgres.wait_exit().await;
    assert_eq!(node.probe().await.postgres, Postgres::Stopped);
}

fn answers(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

#[test]
fn lock_files_of_a_killed_container_do_not_hinder_a_start() {
    on_every_version(|bin| async move {
        let mut node = Node::new("n1", &bin);
        let dirs = [node.folder.path().join("s1"), node.folder.path().join("s2")];
        let wanted = with_sockets(&[&dirs[0], &dirs[1]]);
        node.postgres.configure(&wanted, Force::No).await.expect("configured");
        node.postgres.bootstrap(progress()).await.expect("bootstrapped");
        let (thread, _end) = thread();
        for only_the_users_file_names_the_folders in [false, true] {
            crash(&node).await;
            name_process(&lock_of(&dirs[0], &node), thread);
            name_process(&lock_of(&dirs[1], &node), std::process::id() as i32);
            node = node.with_new_agent();
            if only_the_users_file_names_the_folders {
                let base = node.data_dir().join("postgresql.base.conf");
                let text = std::fs::read_to_string(&base).expect("read");
                let setting = format!("unix_socket_directories = '{}, {}'", dirs[0].display(), dirs[1].display());
                std::fs::write(&base, format!("{text}\n{setting}\n")).expect("written");
                // It would tell of the first; a recovery in single-user mode removes it.
                std::fs::remove_file(node.data_dir().join("postmaster.pid")).expect("removed");
                node.configure().await;
            } else {
                node.postgres.configure(&wanted, Force::No).await.expect("configured");
            }
            node.postgres.start(&StartAs::Primary, LIMIT).await.expect("started");
            assert!(dirs.iter().all(|dir| answers(&socket_of(dir, &node))));
        }
    });
}

#[test]
fn the_socket_of_another_server_that_lives_stays() {
    on_every_version(|bin| async move {
        let shared = tempfile::tempdir().expect("a folder");
        let other = Node::new("n1", &bin);
        let wanted = with_sockets(&[shared.path()]);
        other.postgres.configure(&wanted, Force::No).await.expect("configured");
        other.postgres.bootstrap(progress()).await.expect("bootstrapped");
        // The same port on another address, as two containers of one pod volume have it.
        let node = Node::changed("n2", &bin, |config| {
            config.postgres.port = other.config.postgres.port;
            config.postgres.listen_addresses = "127.0.0.2".to_owned();
        });
        let lock = lock_of(shared.path(), &other);
        let own = std::fs::read_to_string(&lock).expect("a lock file");
        let (thread, _end) = thread();
        // A number that means something else here is what a server of another container has.
        for number in [own.lines().next().expect("a line").parse().expect("a number"), thread] {
            name_process(&lock, number);
            node.postgres.configure(&wanted, Force::No).await.expect("configured");
            let error = node.postgres.bootstrap(progress()).await.expect_err("the socket is taken");
            assert!(error.to_string().contains("wait for PostgreSQL"), "{error}");
            assert!(answers(&socket_of(shared.path(), &other)) && lock.exists(), "the other's socket is gone");
        }
    });
}
