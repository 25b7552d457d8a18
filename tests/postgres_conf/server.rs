//! Real servers for these tests: each in a folder and on a port of its own, ended with its value.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tamada::config::Secret;

use crate::installations::installations;

const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes that no value in these tests contains.
const FIELD: &str = "\u{1f}";
const RECORD: &str = "\u{1e}";

/// The user that PostgreSQL runs as: ourselves, or `postgres` when we are root, as which it refuses to run.
fn user() -> Option<(u32, u32)> {
    nix::unistd::geteuid().is_root().then(|| {
        let user = nix::unistd::User::from_name("postgres").expect("readable").expect("there is a user postgres");
        (user.uid.as_raw(), user.gid.as_raw())
    })
}

/// A program of the newest version installed.
pub fn program(name: &str) -> Command {
    program_in(&installations().pop().expect("there is one"), name)
}

pub fn program_in(bin_dir: &Path, name: &str) -> Command {
    let mut command = Command::new(bin_dir.join(name));
    command.env("LC_ALL", "C").env("LANG", "C").current_dir("/");
    if let Some((uid, gid)) = user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// Its output; a failure is the test's.
pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

pub struct Server {
    dir: tempfile::TempDir,
    pub port: u16,
    postmaster: Option<Child>,
}

impl Server {
    fn new() -> Server {
        let dir = tempfile::tempdir().expect("a temporary folder");
        if let Some((uid, gid)) = user() {
            chown(dir.path(), Some(uid), Some(gid)).expect("ours to give");
        }
        Server { dir, port: free_port(), postmaster: None }
    }

    pub fn init() -> Server {
        let server = Server::new();
        let initdb = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--pgdata"];
        run(program("initdb").args(initdb).arg(server.data()));
        server
    }

    pub fn clone_of(primary: &Server, conninfo: &str, passfile: &Secret) -> Server {
        let server = Server::new();
        let path = server.dir().join("pass file");
        write_secret(&path, passfile);
        let mut command = program("pg_basebackup");
        command.args(["--no-sync", "--checkpoint=fast", "--wal-method=stream", "--dbname", conninfo, "--pgdata"]);
        run(command.arg(server.data()).env("PGPASSFILE", &path));
        assert_ne!(server.port, primary.port);
        server
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn data(&self) -> PathBuf {
        self.dir().join("data")
    }

    pub fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.data().join(from), self.data().join(to)).expect("renamed");
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        std::fs::write(&path, text).expect("written");
        if let Some((uid, gid)) = user() {
            chown(&path, Some(uid), Some(gid)).expect("ours to give");
        }
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.data().join(name)).expect("readable")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir().join("log")).expect("readable")
    }

    /// Starts a postmaster and waits until it takes connections.
    pub fn start(&mut self, options: &[String]) {
        let open = || std::fs::File::options().create(true).append(true).open(self.dir().join("log"));
        let mut command = program("postgres");
        command.arg("-D").arg(self.data()).args(options).stdin(Stdio::null());
        command.stdout(open().expect("a log")).stderr(open().expect("a log"));
        self.postmaster = Some(command.spawn().expect("started"));
        let deadline = Instant::now() + LIMIT;
        while !self.ready().success() {
            let ended = self.postmaster.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}: {}", self.log());
            std::thread::sleep(PAUSE);
        }
    }

    fn ready(&self) -> std::process::ExitStatus {
        let mut command = program("pg_isready");
        command.arg("-h").arg(self.dir()).args(["-p", &self.port.to_string(), "-d", "postgres"]);
        command.stdout(Stdio::null()).status().expect("pg_isready runs")
    }

    pub fn stop(&mut self) {
        run(program("pg_ctl").args(["stop", "--mode=fast", "--wait", "--pgdata"]).arg(self.data()));
        if let Some(mut child) = self.postmaster.take() {
            child.wait().expect("ours to wait for");
        }
    }

    pub fn reload(&self) {
        run(program("pg_ctl").args(["reload", "--pgdata"]).arg(self.data()));
    }

    pub fn promote(&self) {
        run(program("pg_ctl").args(["promote", "--wait", "--pgdata"]).arg(self.data()));
    }

    fn psql(&self, conninfo: &str) -> Command {
        let mut command = program("psql");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-F", FIELD, "-R", RECORD, "-d", conninfo]);
        command
    }

    fn local(&self) -> String {
        format!("host='{}' port={} user=postgres dbname=postgres", self.dir().display(), self.port)
    }

    /// Rows of one query, as superuser.
    pub fn sql(&self, query: &str) -> Vec<Vec<String>> {
        rows(&run(self.psql(&self.local()).args(["-c", query])))
    }

    /// Rows of one query, as whom the connection string says, with this password file.
    pub fn sql_as(&self, conninfo: &str, passfile: &Secret, query: &str) -> Vec<Vec<String>> {
        let path = self.dir().join("pass file");
        write_secret(&path, passfile);
        rows(&run(self.psql(conninfo).args(["-w", "-c", query]).env("PGPASSFILE", path)))
    }

    /// Statements in one session, each sent by itself.
    pub fn session<'a>(&self, statements: impl Iterator<Item = &'a str>) {
        let mut command = self.psql(&self.local());
        for statement in statements {
            command.args(["-c", statement]);
        }
        run(&mut command);
    }

    pub fn wait_until(&self, query: &str, expected: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let found = self.sql(query);
            if found == [[expected]] {
                return;
            }
            assert!(Instant::now() < deadline, "{query} gives {found:?}: {}", self.log());
            std::thread::sleep(PAUSE);
        }
    }
}

/// Below the range that the kernel gives to outgoing connections, so that none of those takes it meanwhile; different
/// for each call and, most likely, each process.
fn free_port() -> u16 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    let candidate = |_| 20_000 + (first.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % 12_000) as u16;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (0..12_000).map(candidate).find(is_free).expect("a free port")
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.postmaster.take() {
            let mut command = program("pg_ctl");
            command.args(["stop", "--mode=immediate", "--pgdata"]).arg(self.data());
            let stopped = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !stopped.is_ok_and(|status| status.success()) {
                child.kill().unwrap_or_default();
            }
            child.wait().map(drop).unwrap_or_default();
        }
    }
}

fn rows(output: &str) -> Vec<Vec<String>> {
    let output = output.strip_suffix('\n').unwrap_or(output);
    let records = output.split(RECORD).filter(|record| !record.is_empty());
    records.map(|record| record.split(FIELD).map(str::to_owned).collect()).collect()
}

fn write_secret(path: &Path, content: &Secret) {
    let mut file =
        std::fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(path).expect("open");
    file.write_all(content.expose().as_bytes()).expect("written");
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).expect("ours");
    if let Some((uid, gid)) = user() {
        chown(path, Some(uid), Some(gid)).expect("ours to give");
    }
}
