//! A copy of another member's data with pg_basebackup, staged and then put in place.
//!
//! The old data stay complete until the copy is, unless the disk cannot hold both: then they go once the source has
//! sent its first bytes, and the log says so with sizes. Passwords travel in a password file alone.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::conf::conninfo::Conninfo;
use super::layout::OWN_FILES;
use super::local::{LocalPostgres, version_of_data};
use super::programs::Run;
use super::staging::Staging;
use super::{PostgresError, Progress, files};
use crate::core::local::CloneSource;

/// How long the source may take to its first bytes: it does a checkpoint first.
const FIRST_BYTES: Duration = Duration::from_secs(300);
/// How long a copy may then stand still.
const STALL: Duration = Duration::from_secs(300);
/// Kept free beside the copy, and a 32nd part of it besides: WAL that is streamed meanwhile.
const SPARE_BYTES: u64 = 64 * 1024 * 1024;
const REPORT_EVERY: Duration = Duration::from_secs(10);

impl LocalPostgres {
    pub(super) async fn clone_data(&self, source: &CloneSource, progress: &Progress) -> Result<(), PostgresError> {
        self.settle().await?;
        if let Some(running) = self.postmaster() {
            return Err(PostgresError::Refused(format!(
                "cannot replace {} while PostgreSQL runs on it as process {}",
                self.data_dir.display(),
                running.pid()
            )));
        }
        let dir = self.data_dir.display();
        self.processes.kill_everything().await;
        let attempted = format!("prepare a copy for {dir}");
        let mut staging = Staging::begin(&self.data_dir).map_err(|cause| PostgresError::failed(&attempted, cause))?;
        self.memory().settled = false;
        let passfile = self.job_passfile("clone");
        let result = self.copy(source, &mut staging, &passfile, progress).await;
        let _ = files::remove_if_there(&passfile);
        let result = result
            .and_then(|()| self.refuse_other_major(&staging.new_dir(), source))
            .and_then(|()| self.finish_copy(&staging.new_dir()));
        if let Err(error) = result {
            self.settle().await?;
            return Err(error);
        }
        let attempted = format!("put the copy in place in {dir}");
        staging.place().map_err(|cause| PostgresError::failed(&attempted, cause))?;
        self.forget_server();
        self.restore_backups();
        // The data are in place; removing the old ones may take long, and where it fails the next agent tries it again.
        if let Err(cause) = self.on_disk(move || staging.clean()).await {
            tracing::warn!("cannot remove what the copy for {dir} has replaced: {cause}");
        }
        self.memory().settled = true;
        progress(format!("{dir} is a copy of {source} now"));
        Ok(())
    }

    /// A password file for one run of a program.
    pub(super) fn job_passfile(&self, job: &str) -> PathBuf {
        files::beside(&self.config().postgres.pgpass, job)
    }

    async fn copy(
        &self,
        source: &CloneSource,
        staging: &mut Staging,
        passfile: &Path,
        progress: &Progress,
    ) -> Result<(), PostgresError> {
        let config = self.config();
        let credentials = &config.postgres.replication;
        self.write_passfile_at(passfile, &source.address, credentials)?;
        let conninfo = Conninfo::for_program(&source.address, credentials, self.programs.version);
        let conninfo = conninfo.with("application_name", config.name.as_str()).with("connect_timeout", "10");
        // A source that falls silent is noticed by the kernel.
        let conninfo =
            conninfo.with("keepalives_idle", "30").with("keepalives_interval", "10").with("keepalives_count", "3");
        let mut run = self.program("pg_basebackup").in_c_locale().env("PGPASSFILE", passfile);
        run = run.arg("--pgdata").arg(staging.new_dir()).args(["-X", "stream", "--checkpoint=fast", "--progress"]);
        run = run.arg("--no-password").arg(format!("--dbname={conninfo}"));
        run = run.args(self.copy_options(&source.address, staging).await?);
        self.watch(run, source, staging, progress).await
    }

    /// Runs the program with an eye on its progress: the first bytes prove the source.
    async fn watch(
        &self,
        run: Run,
        source: &CloneSource,
        staging: &mut Staging,
        progress: &Progress,
    ) -> Result<(), PostgresError> {
        let copied = Arc::new(Mutex::new(Copied::default()));
        let seen = copied.clone();
        let mut on_line = move |line: &str| {
            if let Some(now) = Copied::parse(line) {
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
            }
        };
        let running = run.success_with_lines(None, &mut on_line);
        tokio::pin!(running);
        let mut last = Copied::default();
        let mut moved_at = self.now();
        let mut reported_at = moved_at;
        progress(format!("copying from {source}"));
        loop {
            match tokio::time::timeout(Duration::from_millis(100), &mut running).await {
                Ok(result) => return result.map(drop),
                Err(_still_running) => (),
            }
            let now = copied.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if last.done == 0 && now.done > 0 {
                self.make_room(&now, staging).await?;
            }
            if now != last {
                moved_at = self.now();
            } else if self.now().since(moved_at) > if now.done == 0 { FIRST_BYTES } else { STALL } && !now.is_complete()
            {
                let limit = if now.done == 0 { FIRST_BYTES } else { STALL };
                return Err(PostgresError::too_long(format!("copy from {source} without a byte"), limit));
            }
            if now.done > 0 && self.now().since(reported_at) >= REPORT_EVERY {
                reported_at = self.now();
                progress(format!("copying from {source}: {now}"));
            }
            last = now;
        }
    }

    /// The source has answered. Where the disk cannot hold both, the old data go now.
    async fn make_room(&self, copied: &Copied, staging: &mut Staging) -> Result<(), PostgresError> {
        let Ok(free) = free_bytes(&staging.new_dir()) else { return Ok(()) };
        let needed = copied.bytes_needed();
        let has_old = !matches!(super::control::contents(&self.data_dir), super::control::Contents::Empty);
        if free >= needed || !has_old {
            return Ok(());
        }
        tracing::warn!(
            "removing the old data in {} before the copy is complete: it needs {} MB more and {} MB are free",
            self.data_dir.display(),
            needed >> 20,
            free >> 20
        );
        let mut discarding = staging.clone();
        let discarded = self.on_disk(move || discarding.discard_old().map(|()| discarding)).await;
        let attempted = format!("remove the old data in {}", self.data_dir.display());
        *staging = discarded.map_err(|cause| PostgresError::failed(attempted, cause))?;
        Ok(())
    }

    fn refuse_other_major(&self, copy: &Path, source: &CloneSource) -> Result<(), PostgresError> {
        let ours = self.programs.version.major();
        match version_of_data(copy) {
            Some(version) if version.major() == ours => Ok(()),
            Some(version) => Err(PostgresError::Refused(format!(
                "{source} runs PostgreSQL {}, but version {ours} is installed here: use an image with PostgreSQL {}",
                version.major(),
                version.major()
            ))),
            None => Err(PostgresError::failed(format!("copy from {source}"), "the copy has no PG_VERSION")),
        }
    }

    /// Takes out what belongs to the source alone.
    fn finish_copy(&self, copy: &Path) -> Result<(), PostgresError> {
        let failed = |cause| PostgresError::failed(format!("clear up the copy in {}", copy.display()), cause);
        for name in OWN_FILES.iter().chain(&["promote", "standby.signal", "recovery.signal"]) {
            files::remove_if_there(&copy.join(name)).map_err(failed)?;
        }
        let signal = copy.join("standby.signal");
        files::replace(&signal, b"", files::file_mode(copy)).map_err(failed)
    }

    /// Nothing that was known of the former data holds for these.
    pub(super) fn forget_server(&self) {
        let mut memory = self.memory();
        memory.postmaster = None;
        memory.role = None;
        memory.received_timeline = None;
        memory.upstream = None;
        memory.slots = None;
        memory.applied = None;
        memory.pending_restart = Default::default();
    }
}

/// pg_basebackup's progress: `  24595/24594 kB (100%), 1/1 tablespace`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Copied {
    /// In bytes.
    done: u64,
    total: u64,
}

impl Copied {
    fn parse(line: &str) -> Option<Self> {
        let (amounts, _) = line.trim_start().split_once(" kB")?;
        let (done, total) = amounts.split_once('/')?;
        Some(Copied { done: done.trim().parse::<u64>().ok()? * 1024, total: total.trim().parse::<u64>().ok()? * 1024 })
    }

    /// What the copy will still take on the disk.
    fn bytes_needed(&self) -> u64 {
        self.total.saturating_sub(self.done).saturating_add(self.total / 32 + SPARE_BYTES)
    }

    /// What follows is flushing to disk, without a word.
    fn is_complete(&self) -> bool {
        self.total > 0 && self.done >= self.total
    }
}

impl std::fmt::Display for Copied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = (self.done * 100).checked_div(self.total).unwrap_or(0).min(100);
        write!(f, "{} of {} MB ({percent} %)", self.done >> 20, self.total >> 20)
    }
}

fn free_bytes(below: &Path) -> nix::Result<u64> {
    let place = below.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let found = nix::sys::statvfs::statvfs(place)?;
    Ok(found.blocks_available() as u64 * found.fragment_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_pg_basebackup() {
        let copied = Copied::parse("  1024/24594 kB (4%), 0/1 tablespace").expect("a progress line");
        assert_eq!(copied, Copied { done: 1024 * 1024, total: 24594 * 1024 });
        assert_eq!(copied.to_string(), "1 of 24 MB (4 %)");
        assert!(!copied.is_complete());
        assert_eq!(Copied::parse("pg_basebackup: error: connection failed"), None);
    }
}
