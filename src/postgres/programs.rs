//! PostgreSQL's programs: where they are, which version they have, and how one is run with a bound on everything.
//!
//! A program runs in a session of its own, so that its whole family can be ended at once; dropping the future that runs
//! one kills it. Output is kept to its last lines; passwords never reach an argument list.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;

use super::PostgresError;
use super::kernel::{self, Streams};
use super::version::Version;

/// How many lines of a program's output are kept for an error.
const LINES_KEPT: usize = 12;
/// How long one line may be; longer ones are cut.
const LINE_LENGTH: usize = 500;

/// The programs of one PostgreSQL installation.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    dir: PathBuf,
    names: BTreeMap<String, String>,
    pub(crate) version: Version,
}

impl Programs {
    /// In `bin_dir`; else beside the `postgres` on PATH; else below /usr/lib/postgresql, where the major version of the
    /// existing data is preferred to the newest.
    pub(crate) fn locate(
        bin_dir: Option<&Path>,
        names: &BTreeMap<String, String>,
        path: Option<&OsStr>,
        data_major: Option<u32>,
    ) -> Result<Self, PostgresError> {
        let server = names.get("postgres").map_or("postgres", String::as_str);
        let dir = match bin_dir {
            Some(dir) => Some(dir.to_owned()),
            None => on_path(path, server).or_else(|| installed(data_major)),
        };
        let dir = dir.filter(|dir| dir.join(server).is_file()).ok_or_else(|| {
            PostgresError::Refused(format!(
                "cannot find the program {server} in {}: set PATRONI_POSTGRESQL_BIN_DIR to PostgreSQL's bin folder",
                bin_dir.map_or("PATH or /usr/lib/postgresql/*/bin".to_owned(), |dir| dir.display().to_string())
            ))
        })?;
        let output = Command::new(dir.join(server)).arg("--version").stdin(Stdio::null()).output();
        let output = output.map_err(|cause| PostgresError::failed(format!("run {server} --version"), cause))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = Version::from_program(&text)
            .ok_or_else(|| PostgresError::failed(format!("read the version of {server}"), text.trim()))?;
        Ok(Programs { dir, names: names.clone(), version })
    }

    pub(crate) fn path(&self, program: &str) -> PathBuf {
        self.dir.join(self.names.get(program).map_or(program, String::as_str))
    }

    /// The file names that a process of the server may have.
    pub(crate) fn server_names(&self) -> [String; 2] {
        [self.names.get("postgres").cloned().unwrap_or_else(|| "postgres".to_owned()), "postmaster".to_owned()]
    }
}

fn on_path(path: Option<&OsStr>, server: &str) -> Option<PathBuf> {
    std::env::split_paths(path?).find_map(|dir| {
        // A link on PATH leads to the folder that holds the other programs too.
        let real = std::fs::canonicalize(dir.join(server)).ok()?;
        let dir = real.parent()?;
        dir.join("initdb").is_file().then(|| dir.to_owned())
    })
}

fn installed(data_major: Option<u32>) -> Option<PathBuf> {
    let majors = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let majors = majors.flatten().filter_map(|entry| {
        let major: u32 = entry.file_name().to_str()?.parse().ok()?;
        let dir = entry.path().join("bin");
        dir.join("postgres").is_file().then_some((major, dir))
    });
    majors.max_by_key(|(major, _)| (Some(*major) == data_major, *major)).map(|(_, dir)| dir)
}

/// One run of a program.
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) command: Command,
    keep: Vec<std::os::fd::RawFd>,
}

/// How a program ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: std::process::ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// The last lines of standard error (and of the output, where that is not kept).
    pub(crate) tail: String,
}

/// Called with each line (ended by a newline or, as progress reports are, by a carriage return) of standard error.
pub(crate) type OnLine<'a> = &'a mut (dyn FnMut(&str) + Send);

impl Run {
    pub(crate) fn new(name: &str, program: &Path, env: &[(OsString, OsString)]) -> Self {
        let mut command = Command::new(program);
        command.env_clear().envs(env.iter().map(|(key, value)| (key, value)));
        Run { name: name.to_owned(), command, keep: Vec::new() }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    pub(crate) fn in_folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Messages in English and numbers as C writes them, for what is parsed.
    pub(crate) fn in_c_locale(self) -> Self {
        self.env("LANG", "C").env("LC_ALL", "C")
    }

    /// The child finds this descriptor under the same number.
    pub(crate) fn keeping(mut self, fd: std::os::fd::RawFd) -> Self {
        self.keep.push(fd);
        self
    }

    /// Runs it to its end. An exit status other than 0 is an error.
    pub(crate) async fn success(self, limit: Option<Duration>) -> Result<Ended, PostgresError> {
        self.success_with_lines(limit, &mut |_| ()).await
    }

    pub(crate) async fn success_with_lines(
        self,
        limit: Option<Duration>,
        on_line: OnLine<'_>,
    ) -> Result<Ended, PostgresError> {
        let name = self.name.clone();
        let ended = self.run(limit, on_line).await?;
        if ended.status.success() {
            return Ok(ended);
        }
        Err(PostgresError::Program { program: name, status: ended.status.to_string(), output: ended.tail })
    }

    /// Runs it to its end, however that is; killed with its whole family at the limit or when this is dropped.
    pub(crate) async fn run(mut self, limit: Option<Duration>, on_line: OnLine<'_>) -> Result<Ended, PostgresError> {
        kernel::detach(&mut self.command, Streams::AsSet, std::mem::take(&mut self.keep));
        kernel::end_with_us(&mut self.command);
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let attempted = format!("run {}", self.name);
        let child = tokio::process::Command::from(self.command).spawn();
        let mut child = KilledOnDrop(child.map_err(|cause| PostgresError::failed(&attempted, cause))?);
        let (stdout, stderr) = (child.0.stdout.take(), child.0.stderr.take());
        let all = async {
            let mut kept = Vec::new();
            let mut tail = Tail::default();
            let (output, _) = tokio::join!(read_all(stdout, &mut kept), read_lines(stderr, &mut tail, on_line));
            let status = child.0.wait().await;
            output.and(status).map(|status| (status, kept, tail))
        };
        let result = match limit {
            None => all.await,
            Some(limit) => match tokio::time::timeout(limit, all).await {
                Ok(result) => result,
                Err(_) => return Err(PostgresError::TooLong { attempted, limit }),
            },
        };
        let (status, stdout, mut tail) = result.map_err(|cause| PostgresError::failed(&attempted, cause))?;
        if tail.0.is_empty() {
            String::from_utf8_lossy(&stdout).lines().for_each(|line| tail.push(line));
        }
        Ok(Ended { status, stdout, tail: tail.text() })
    }
}

async fn read_all(stream: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> std::io::Result<()> {
    let Some(mut stream) = stream else { return Ok(()) };
    tokio::io::AsyncReadExt::read_to_end(&mut stream, into).await.map(drop)
}

async fn read_lines(stream: Option<impl AsyncRead + Unpin>, tail: &mut Tail, on_line: OnLine<'_>) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while let Ok(chunk) = reader.fill_buf().await {
        if chunk.is_empty() {
            break;
        }
        let end = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        line.extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() || line.len() > 64 * 1024 {
            let text = String::from_utf8_lossy(&line).into_owned();
            on_line(&text);
            tail.push(&text);
            line.clear();
        }
    }
    let text = String::from_utf8_lossy(&line).into_owned();
    on_line(&text);
    tail.push(&text);
}

/// The last lines of a program's output.
#[derive(Default)]
struct Tail(std::collections::VecDeque<String>);

impl Tail {
    fn push(&mut self, line: &str) {
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        if self.0.len() == LINES_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(line.chars().take(LINE_LENGTH).collect());
    }

    fn text(self) -> String {
        Vec::from(self.0).join("; ")
    }
}

/// A child that leads a session: all of its family in that session is killed when this is dropped before its end.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // `id` is none once it was reaped, so the number cannot mean another process.
        if let Some(pid) = self.0.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
