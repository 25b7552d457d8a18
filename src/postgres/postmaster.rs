//! The server's main process: finding it, starting it, and what is left of it after a crash.
//!
//! It is found through `postmaster.pid`, then, should that file be gone, among all processes. A postmaster of ours has
//! our data directory as its working directory and runs a program named as our server. The file is never deleted:
//! PostgreSQL itself knows when it is out of date.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::PostgresError;
use super::files::{self, Stamp};
use super::kernel::{self, Streams};
use super::pidfile::{PidFile, ServerKind, ServerStatus};
use super::process::{self, Folder, Process};

/// `postmaster.pid`, unless it is absent or makes no sense.
pub(crate) fn read_pid_file(data_dir: &Path) -> Option<PidFile> {
    PidFile::parse(&std::fs::read_to_string(data_dir.join("postmaster.pid")).ok()?)
}

/// The same, unless a single-user server wrote it.
fn read_postmaster_file(data_dir: &Path) -> Option<PidFile> {
    read_pid_file(data_dir).filter(|file| file.kind == ServerKind::Postmaster)
}

/// What a process that works in our data directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Or a child of one that has not set its title yet.
    Postmaster,
    /// A backend or an auxiliary process: it has set its title.
    Backend,
    /// initdb's, a single-user server, `postgres -C`: started by a program of ours.
    Utility,
}

/// Whether the server may be being started at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Starts {
    Possible,
    Impossible,
}

/// The processes of one data directory's server.
#[derive(Clone, Debug)]
pub(crate) struct ServerProcesses {
    data_dir: PathBuf,
    names: [String; 2],
}

impl ServerProcesses {
    pub(crate) fn new(data_dir: &Path, names: [String; 2]) -> Self {
        ServerProcesses { data_dir: data_dir.to_owned(), names }
    }

    /// The running postmaster, if there is one. An error says that it cannot be told.
    pub(crate) fn postmaster(&self) -> io::Result<Option<Process>> {
        match read_postmaster_file(&self.data_dir) {
            // Opened before it is judged, so that both are about the same process. Any other process that looks like a
            // postmaster is a child of a dead one that has not come to setting its title.
            Some(file) => Ok(Process::find(file.pid)?.filter(|_| self.is_postmaster(&file))),
            None => {
                let found = self.all()?.into_iter().find(|(kind, _)| *kind == Kind::Postmaster);
                Ok(found.map(|(_, process)| process))
            }
        }
    }

    fn is_postmaster(&self, file: &PidFile) -> bool {
        match self.kind(file.pid) {
            Some(kind) => kind == Kind::Postmaster,
            // One whose links cannot be read: its time of start has to do. Another user's process is never signalled, not by
            // PID 1 either, whatever the file says: who may write it is not who may end that process.
            None if process::working_directory(file.pid).is_none() && process::is_our_users(file.pid) => {
                process::started_at(file.pid).is_some_and(|started| (started - file.started_at).abs() <= 3)
            }
            None => false,
        }
    }

    /// The number in `postmaster.pid`, if some process has it although no server of ours runs: numbers repeat after
    /// a container's restart, and a zombie that nobody has reaped yet keeps its own.
    fn taken_number(&self) -> Option<i32> {
        let file = read_pid_file(&self.data_dir)?;
        process::parent(file.pid).map(|_| file.pid)
    }

    /// For a server that is about to be started, once nothing works in the data directory any more: PostgreSQL takes a
    /// lock file with this number for its own former one.
    pub(crate) fn own_former_number(&self) -> Option<(&'static str, String)> {
        self.taken_number().map(|pid| ("PG_GRANDPARENT_PID", pid.to_string()))
    }

    /// Ends the processes of a server whose postmaster is gone; `false`: some could not be ended. A busy one goes on,
    /// and may even commit, until its query ends. The children of a postmaster that has just been started are none of
    /// these. `Starts::Impossible` adds those that have not set their titles yet: otherwise one could be a new postmaster.
    pub(crate) async fn kill_orphans(&self, starts: Starts) -> bool {
        let Ok(all) = self.all() else { return false };
        let has_postmaster = |process: &Process| {
            process::parent(process.pid()).is_some_and(|parent| self.kind(parent) == Some(Kind::Postmaster))
        };
        let untitled = all.iter().any(|(kind, _)| *kind == Kind::Postmaster);
        let with_untitled = untitled && starts == Starts::Impossible && matches!(self.postmaster(), Ok(None));
        let is_orphan = |kind: Kind, process: &Process| match kind {
            Kind::Backend => !has_postmaster(process),
            Kind::Postmaster => with_untitled,
            Kind::Utility => false,
        };
        let orphans = all.into_iter().filter(|(kind, process)| is_orphan(*kind, process));
        let orphans: Vec<Process> = orphans.map(|(_, process)| process).collect();
        if orphans.is_empty() {
            return true;
        }
        tracing::warn!("killing {} processes that PostgreSQL left behind when it ended", orphans.len());
        process::kill_all(&orphans).await
    }

    /// Everything that works in the data directory, also what a former agent's programs left. Only while there is no
    /// postmaster.
    pub(crate) async fn kill_everything(&self) -> bool {
        let Ok(all) = self.all() else { return false };
        let all: Vec<Process> = all.into_iter().map(|(_, process)| process).collect();
        process::kill_all(&all).await
    }

    /// All that works in the data directory, by one look at all processes.
    fn all(&self) -> io::Result<Vec<(Kind, Process)>> {
        let data = Folder::find(&self.data_dir)?;
        let found = process::all_pids()?.into_iter().filter_map(|pid| Some((self.kind_below(pid, data)?, pid)));
        let opened = found.map(|(kind, pid)| Ok(Process::find(pid)?.map(|process| (kind, process))));
        opened.filter_map(Result::transpose).collect()
    }

    fn kind(&self, pid: i32) -> Option<Kind> {
        self.kind_below(pid, Folder::find(&self.data_dir).ok()?)
    }

    fn kind_below(&self, pid: i32, data: Option<Folder>) -> Option<Kind> {
        let is_there = data.is_some() && process::working_directory(pid) == data;
        let is_there = is_there || process::works_in_removed(pid, &self.data_dir);
        let program = process::executable(pid)?;
        let program = program.file_name()?.to_str()?.to_owned();
        if !self.names.contains(&program) {
            return None;
        }
        let arguments = process::arguments(pid);
        if !is_there && !self.was_started_on(pid, &arguments) {
            return None;
        }
        if arguments.first().is_some_and(|title| title.starts_with("postgres: ")) {
            return Some(Kind::Backend);
        }
        let utility = arguments.iter().skip(1).any(|arg| {
            matches!(arg.as_str(), "--single" | "--boot" | "--check" | "--describe-config" | "-C") || arg == "--version"
        });
        Some(if utility { Kind::Utility } else { Kind::Postmaster })
    }

    /// Whether it was started on our data directory, which was renamed since.
    fn was_started_on(&self, pid: i32, arguments: &[String]) -> bool {
        let names_it = arguments.windows(2).any(|pair| pair[0] == "-D" && Path::new(&pair[1]) == self.data_dir);
        names_it && process::sees_our_files(pid)
    }

    /// Starts the server and returns at once. It leads a session of its own and outlives the agent.
    pub(crate) fn spawn(
        &self,
        program: &Path,
        args: &[String],
        env: &[(std::ffi::OsString, std::ffi::OsString)],
    ) -> Result<Process, PostgresError> {
        let mut command = Command::new(program);
        command.args(args).env_clear().envs(env.iter().map(|(key, value)| (key, value)));
        command.envs(self.own_former_number());
        command.stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        kernel::detach(&mut command, Streams::ErrorToOutput, Vec::new());
        let attempted = format!("start {}", program.display());
        let mut child =
            tokio::process::Command::from(command).spawn().map_err(|c| PostgresError::failed(&attempted, c))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let process = pid.and_then(Process::open);
        // Somebody must reap it; when it is not our child any more, PID 1 does.
        tokio::spawn(async move {
            match child.wait().await {
                Ok(status) if status.success() => tracing::debug!("PostgreSQL has ended"),
                Ok(status) => tracing::warn!("PostgreSQL ended with {status}"),
                Err(error) => tracing::warn!("cannot wait for PostgreSQL: {error}"),
            }
        });
        process.ok_or_else(|| PostgresError::failed(&attempted, "it ended at once; its log says why"))
    }
}

/// What an earlier server has left as `postmaster.pid`, if anything.
pub(crate) fn left_pid_file(data_dir: &Path) -> Option<Stamp> {
    files::stamp(&data_dir.join("postmaster.pid"))
}

/// Whether `postmaster.pid` says that this server accepts connections. Numbers repeat after a container's restart: what
/// an earlier server has `left` says nothing about one that has the same.
fn says_ready(data_dir: &Path, left: Option<Stamp>, pid: i32) -> bool {
    let file = read_pid_file(data_dir).filter(|file| file.pid == pid && left_pid_file(data_dir) != left);
    match file.and_then(|file| file.status) {
        Some(ServerStatus::Ready | ServerStatus::Standby) => true,
        Some(ServerStatus::Starting | ServerStatus::Stopping) | None => false,
    }
}

/// Waits until the postmaster says in its file that it accepts connections. `left`: what stood there before its start.
pub(crate) async fn wait_ready(
    data_dir: &Path,
    process: &Process,
    left: Option<Stamp>,
    limit: Duration,
) -> Result<(), PostgresError> {
    let attempted = "wait for PostgreSQL to accept connections";
    let ready = async {
        loop {
            if says_ready(data_dir, left, process.pid()) {
                return Ok(());
            }
            // Ten milliseconds: nothing tells of a change in this file sooner, and reading it costs next to nothing.
            if process.ended_within(Duration::from_millis(10)).await {
                return Err(PostgresError::failed(attempted, "it ended; its log says why"));
            }
        }
    };
    tokio::time::timeout(limit, ready).await.unwrap_or(Err(PostgresError::too_long(attempted, limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_server_with_the_same_number_has_left_makes_no_other_ready() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        let write = |status: &str| {
            let text = format!("14\n/data\n1000\n5432\n/run\n*\n  1 2\n{status}\n");
            std::fs::write(dir.join("new"), text).expect("written");
            std::fs::rename(dir.join("new"), dir.join("postmaster.pid")).expect("replaced");
        };
        write("ready   ");
        // Some time ago: the kernel's clock for files is a coarse one.
        let file = std::fs::File::options().append(true).open(dir.join("postmaster.pid")).expect("there");
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(10)).expect("ours");
        assert!(says_ready(dir, None, 14));
        let left = left_pid_file(dir);
        assert!(!says_ready(dir, left, 14));
        write("starting");
        assert!(!says_ready(dir, left, 14));
        write("ready   ");
        assert!(says_ready(dir, left, 14), "begun in the same second");
        assert!(!says_ready(dir, left, 15));
    }
}
