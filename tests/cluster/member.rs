//! One member: the real binary as PID 1 of namespaces of its own, with a /run of its own, as in a container. Configured
//! by its environment only.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{User, chown};
use serde_json::Value;

use crate::etcd::own_address;
use crate::http::{self, Reply};
use crate::pods::Place;
use crate::processes::{self, Process};
use crate::sql::Sql;
use crate::wait::{eventually, seconds, until};

/// Mounts what a container has for itself.
const CONTAINER: &str = "mount -t tmpfs -o mode=755 tmpfs /run && \
                         mount -t tmpfs -o mode=1777 tmpfs /dev/shm";

pub const SUPERUSER: &str = "postgres";
pub const REPLICATOR: &str = "replicator";
pub const REWINDER: &str = "rewinder";

/// Lines of a log that a failure shows.
const LOG_LINES: usize = 150;

pub struct Member {
    pub name: String,
    pub sql: SocketAddr,
    pub rest: SocketAddr,
    /// Belongs to the user postgres; the data directory, the log and what a test puts there are in it.
    pub folder: PathBuf,
    pub env: BTreeMap<String, String>,
    /// Of the program: none, or a YAML file.
    pub arguments: Vec<String>,
    /// A command of the shell before the program begins, as root in the member's namespaces.
    pub before: String,
    /// Where it has an address of its own; else that of the test's thread.
    pub place: Option<Place>,
    process: Option<Child>,
    init: Option<i32>,
}

impl Member {
    /// Not started yet, with nothing but what any member needs.
    pub fn new(folder: &Path, name: &str) -> Self {
        let folder = folder.join(name);
        fs::create_dir(&folder).expect("the test's folder is writable");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("ours");
        give(&folder);
        let (sql, rest) = (own_address(), own_address());
        let mut member = Self {
            name: name.to_owned(),
            sql,
            rest,
            folder,
            env: BTreeMap::new(),
            arguments: Vec::new(),
            before: "true".to_owned(),
            place: None,
            process: None,
            init: None,
        };
        let data = member.data().display().to_string();
        let vars = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("LANG", "C.UTF-8"),
            ("PATRONI_POSTGRESQL_BIN_DIR", &bin_dir().display().to_string()),
            ("PGDATA", &data),
            ("PATRONI_SUPERUSER_PASSWORD", &password(SUPERUSER)),
        ];
        for (name, value) in vars {
            member.set(name, value);
        }
        member.listen(sql, rest);
        member
    }

    fn listen(&mut self, sql: SocketAddr, rest: SocketAddr) {
        (self.sql, self.rest) = (sql, rest);
        for (name, address) in [("POSTGRESQL", sql), ("RESTAPI", rest)] {
            for what in ["LISTEN", "CONNECT_ADDRESS"] {
                self.set(&format!("PATRONI_{name}_{what}"), &address.to_string());
            }
        }
    }

    /// Into a pod, before its start.
    pub fn move_to(&mut self, place: Place) {
        self.place = Some(place);
        self.listen(place.at(5432), place.at(8008));
    }

    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.env.remove(name);
        self
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(self.folder.join("log")).expect("writable");
        let mut command = match self.place {
            None => Command::new("unshare"),
            Some(place) => {
                let mut command = Command::new("nsenter");
                command.args(["--net", "--target", &place.holder.to_string(), "unshare"]);
                command
            }
        };
        command.args(["--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]);
        let script = format!("{CONTAINER} && {} && exec \"$@\"", self.before);
        command.args(["sh", "-c", &script, "sh"]).arg(program()).args(&self.arguments);
        command.env_clear().envs(&self.env).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        self.process = Some(command.spawn().expect("unshare is there"));
        self.init = None;
    }

    /// PID 1, as the host sees it. Waits for the moment between the start and its being there.
    pub fn init(&mut self) -> i32 {
        if let Some(init) = self.init {
            return init;
        }
        let outer = self.process.as_ref().expect("it was started").id();
        let name = self.name.clone();
        let look = || processes::first_child(outer).ok_or(format!("{name} has no PID 1"));
        let init = eventually(seconds(10), "PID 1 to be there", look).0;
        *self.init.insert(init)
    }

    pub fn processes(&mut self) -> Vec<Process> {
        processes::in_namespace_of(self.init())
    }

    /// The agent's number on the host.
    pub fn agent(&mut self) -> Option<i32> {
        let is_agent = |process: &Process| process.arguments.get(1).is_some_and(|word| word == "agent");
        self.processes().into_iter().find(|process| is_agent(process)).map(|process| process.pid)
    }

    /// The postmaster's number on the host.
    pub fn postmaster(&mut self) -> Option<i32> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        let inside: i32 = file.lines().next()?.parse().ok()?;
        let is_postmaster = |process: &Process| process.inside == inside && process.program == "postgres";
        self.processes().into_iter().find(is_postmaster).map(|process| process.pid)
    }

    /// The node is lost: everything ends at once, without a word.
    pub fn kill(&mut self) {
        if self.process.is_some() {
            processes::signal(self.init(), Signal::SIGKILL);
            self.wait_end(seconds(20));
        }
    }

    /// As an orchestrator stops a container; the exit code.
    pub fn stop(&mut self) -> i32 {
        processes::signal(self.init(), Signal::SIGTERM);
        self.wait_end(seconds(30))
    }

    /// Waits until it has ended by itself; the exit code.
    pub fn wait_end(&mut self, limit: Duration) -> i32 {
        let mut process = self.process.take().expect("it was started");
        self.init = None;
        let mut status = None;
        let name = &self.name;
        let mut look = || {
            status = process.try_wait().expect("our own child");
            status.ok_or_else(|| format!("{name} runs on"))
        };
        let began = std::time::Instant::now();
        loop {
            match look() {
                Ok(status) => return status.code().unwrap_or(-1),
                Err(why) if began.elapsed() > limit => {
                    self.process = Some(process);
                    panic!("{why} after {limit:?}");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    pub fn get(&self, path: &str) -> Result<Reply, String> {
        http::get(self.rest, path)
    }

    pub fn send(&self, method: &str, path: &str, body: &Value) -> Result<Reply, String> {
        http::send(self.rest, method, path, Some(body), seconds(60))
    }

    /// A connection as the superuser.
    pub fn connect(&self) -> Result<Sql, String> {
        let password = self.env.get("PATRONI_SUPERUSER_PASSWORD").or(self.env.get("POSTGRES_PASSWORD"));
        let user = self.env.get("PATRONI_SUPERUSER_USERNAME").map_or(SUPERUSER, String::as_str);
        Sql::connect(self.sql, user, password.map_or("", String::as_str))
    }

    pub fn value(&self, sql: &str) -> Result<String, String> {
        self.connect()?.value(sql)
    }

    pub fn must(&self, sql: &str) -> String {
        self.value(sql).unwrap_or_else(|error| panic!("{sql} on {}: {error}", self.name))
    }

    /// Waits until PostgreSQL takes writes here.
    pub fn wait_writable(&self, limit: Duration) -> Duration {
        let look = || match self.value("SELECT pg_is_in_recovery()")?.as_str() {
            "f" => Ok(()),
            _ => Err(format!("{} is in recovery", self.name)),
        };
        eventually(limit, "a writable server", look).1
    }

    pub fn wait_log(&self, limit: Duration, text: &str) -> Duration {
        until(limit, &format!("{} says: {text}", self.name), || self.log().contains(text))
    }

    /// What was said in the log since then; lines of PostgreSQL's included.
    pub fn said_since(&self, length: usize) -> String {
        self.log().get(length..).unwrap_or_default().to_owned()
    }

    /// The operator's command line, with this member's environment.
    pub fn ctl(&self, words: &[&str]) -> Output {
        let mut command = Command::new(program());
        command.args(words).env_clear().envs(&self.env).stdin(Stdio::null());
        command.output().expect("the program can be executed")
    }

    /// The same in the member's container, as `docker exec` and a health check have it.
    pub fn exec(&mut self, words: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--pid", "--target", &self.init().to_string()]).arg(program()).args(words);
        command.env_clear().envs(&self.env).stdin(Stdio::null());
        command.output().expect("nsenter is there")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(LOG_LINES);
            println!("--- log of {}, its last {LOG_LINES} lines:\n{}", self.name, lines[from..].join("\n"));
        }
        if let Some(mut process) = self.process.take() {
            // With PID 1 goes everything in its namespace. It is ended by itself: that it goes with its parent is not sure.
            let runs = matches!(process.try_wait(), Ok(None));
            if let Some(init) = processes::first_child(process.id()).filter(|_| runs) {
                processes::signal(init, Signal::SIGKILL);
            }
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A secret that can be told from any other text.
pub fn password(role: &str) -> String {
    format!("s3cret-of-{role}")
}

/// Gives a file or a folder to the user that PostgreSQL runs as.
pub fn give(path: &Path) {
    let user = User::from_name("postgres").expect("readable").expect("there is a user postgres");
    chown(path, Some(user.uid), Some(user.gid)).expect("tests run as root");
}

/// The newest PostgreSQL of Debian's that is installed.
pub fn bin_dir() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed").flatten();
    let versions = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let newest = versions.max().expect("PostgreSQL is installed");
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
}

/// A copy of the binary where every user may execute it.
pub fn program() -> &'static Path {
    static COPY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = COPY.get_or_init(|| {
        let folder = tempfile::Builder::new().prefix("tamada-bin-").tempdir().expect("/tmp is writable");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        let path = folder.path().join("tamada");
        fs::copy(env!("CARGO_BIN_EXE_tamada"), &path).expect("room in /tmp");
        (folder, path)
    });
    path
}
