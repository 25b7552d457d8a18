//! A PID 1 in namespaces of its own, and what can be seen of it from outside.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The name of the copy of this executable that the parts run from.
const PROGRAM: &str = "tamada-test";

/// Whether PID 1 is PID 1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    Own,
    Shared,
}

pub struct World {
    outer: Child,
    /// PID 1 as the host sees it.
    pub init: i32,
    pub folder: tempfile::TempDir,
    namespace: Namespace,
}

impl Drop for World {
    fn drop(&mut self) {
        // The namespace's end is that of all in it; elsewhere the tree is ended by hand.
        for process in self.processes().values() {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        // What a PID 1 that failed its test has let go.
        for pid in self.read("tree").split_whitespace().filter(|_| self.namespace == Namespace::Shared) {
            let ours = fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(PROGRAM));
            if let Some(pid) = pid.parse().ok().filter(|_| ours) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// On the host.
    pub pid: i32,
    pub parent: i32,
    pub state: char,
}

pub struct Setup {
    command: Command,
    folder: tempfile::TempDir,
    namespace: Namespace,
    inner: Vec<String>,
}

impl Setup {
    pub fn new(namespace: Namespace) -> Self {
        let folder = tempfile::Builder::new().prefix("tamada-init-").tempdir().expect("/tmp is writable");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("ours");
        let mut command = Command::new("unshare");
        match namespace {
            Namespace::Own => command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]),
            Namespace::Shared => command.arg("--mount"),
        };
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TAMADA_TEST_FOLDER", folder.path());
        Setup { command, folder, namespace, inner: Vec::new() }
    }

    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Commands that end in the execution of the words that follow them, before PID 1.
    pub fn through(mut self, words: &[&str]) -> Self {
        self.inner.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.command.stderr(stderr);
        self
    }

    /// Starts PID 1 with the agent's script.
    pub fn start(mut self, script: &[&str]) -> World {
        // What root prepares in /run must not reach the host.
        let mount = r#"mount -t tmpfs -o mode=755 tmpfs /run && exec "$@""#;
        self.command.args(["sh", "-c", mount, "sh"]).args(&self.inner).arg(executable()).arg("start").args(script);
        let outer = self.command.stdin(Stdio::null()).spawn().expect("unshare is there");
        let outer_pid = outer.id().cast_signed();
        let init = match self.namespace {
            Namespace::Shared => outer_pid,
            Namespace::Own => eventually("PID 1 to be there", || children(outer_pid).first().copied()),
        };
        World { outer, init, folder: self.folder, namespace: self.namespace }
    }
}

pub fn start(namespace: Namespace, script: &[&str]) -> World {
    Setup::new(namespace).start(script)
}

impl World {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.init), signal).expect("PID 1 runs");
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }

    /// The line that the agent wrote at its `count`th start.
    pub fn agent_start(&self, count: usize) -> AgentStart {
        let line = eventually("the agent to start", || self.read("starts").lines().nth(count - 1).map(str::to_owned));
        AgentStart { words: line.split(' ').map(str::to_owned).collect() }
    }

    /// Postmaster and backends, by their numbers on the host.
    pub fn tree(&self) -> Vec<i32> {
        let line = eventually("the tree", || Some(self.read("tree")).filter(|line| line.ends_with('\n')));
        let inside = line.split_whitespace().map(|word| word.parse().expect("a number"));
        inside.map(|pid| self.outside(pid)).collect()
    }

    /// The number on the host of a process that is known by the one in its namespace.
    pub fn outside(&self, inside: i32) -> i32 {
        self.processes().get(&inside).unwrap_or_else(|| panic!("{inside} has gone")).pid
    }

    /// All processes of PID 1's namespace, or all below it, by the number in the namespace.
    pub fn processes(&self) -> BTreeMap<i32, Process> {
        let us = fs::read_link("/proc/self/ns/pid").ok();
        let namespace = fs::read_link(format!("/proc/{}/ns/pid", self.init)).ok();
        let all = all_processes();
        let is_below = |mut pid: i32| {
            while pid > 1 && pid != self.init {
                pid = all.get(&pid).map_or(0, |process| process.parent);
            }
            pid == self.init
        };
        let mut found = BTreeMap::new();
        for (pid, process) in &all {
            let theirs = fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
            let is_in = if namespace == us { is_below(*pid) } else { theirs.is_some() && theirs == namespace };
            // A zombie has no namespace any more, but its parent has.
            if (is_in || is_below(*pid))
                && let Some(inside) = namespace_pid(*pid)
            {
                found.insert(inside, process.clone());
            }
        }
        found
    }

    /// Waits until PID 1 has ended.
    pub fn end(&mut self) -> ExitStatus {
        eventually("PID 1 to end", || self.outer.try_wait().expect("our child"))
    }
}

pub struct AgentStart {
    words: Vec<String>,
}

impl AgentStart {
    pub fn field(&self, name: &str) -> &str {
        let at = self.words.iter().position(|word| word == name).expect("a field");
        &self.words[at + 1]
    }

    pub fn pid(&self) -> i32 {
        self.field("pid").parse().expect("a number")
    }
}

/// Tries until there is a value; fails after a long time.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    crate::wait::eventually(crate::wait::SOON, what, || attempt().ok_or_else(|| "not yet".to_owned())).0
}

/// Whether a process runs; a zombie does not.
pub fn lives(pid: i32) -> bool {
    stat(pid).is_some_and(|process| process.state != 'Z' && process.state != 'X')
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn stat(pid: i32) -> Option<Process> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = text.rsplit_once(") ")?.1.split(' ');
    let state = words.next()?.chars().next()?;
    Some(Process { pid, parent: words.next()?.parse().ok()?, state })
}

fn all_processes() -> BTreeMap<i32, Process> {
    let entries = fs::read_dir("/proc").expect("mounted").filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

fn namespace_pid(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// Environment, arguments and open files of every process as far as the caller may read them: (pid, file, content).
pub fn visible_to_us() -> Vec<(String, &'static str, String)> {
    let mut seen = Vec::new();
    for entry in fs::read_dir("/proc").expect("mounted").filter_map(Result::ok) {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        for file in ["environ", "cmdline"] {
            if let Ok(content) = fs::read(entry.path().join(file)) {
                let content = String::from_utf8_lossy(&content).replace(['\0', '\n'], " ");
                seen.push((pid.clone(), file, content));
            }
        }
        for open in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            // Memory files alone: pipes and sockets never end.
            if fs::read_link(open.path()).is_ok_and(|file| file.to_string_lossy().contains("memfd")) {
                let content = fs::read(open.path()).unwrap_or_default();
                seen.push((pid.clone(), "fd", String::from_utf8_lossy(&content).replace(['\0', '\n'], " ")));
            }
        }
    }
    seen
}

/// A copy of this executable where every user may execute it.
pub fn executable() -> &'static PathBuf {
    static COPY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = COPY.get_or_init(|| {
        let folder = tempfile::Builder::new().prefix("tamada-init-").tempdir().expect("/tmp is writable");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        let path = folder.path().join(PROGRAM);
        fs::copy(std::env::current_exe().expect("mounted /proc"), &path).expect("room in /tmp");
        (folder, path)
    });
    path
}
