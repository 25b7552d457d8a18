//! A copy of another member's data with pg_basebackup, staged and then put in place.
//!
//! The old data stay complete until the copy is, unless the disk cannot hold both: then they go once the source has
//! sent its first bytes, and the log says so with sizes. Passwords travel in files alone.

use std::path::Path;
use std::time::Duration;

use super::conf::conninfo::Conninfo;
use super::file_system::FileSystem;
use super::layout::OWN_FILES;
use super::local::{LocalPostgres, version_of_data};
use super::programs::Run;
use super::progress::{Copied, LOOK_EVERY, Watch, kept_alive};
use super::staging::Staging;
use super::tablespaces::Tablespace;
use super::{PostgresError, Progress, files};
use crate::core::local::CloneSource;

/// How long the source may take to its first bytes: it does a checkpoint first.
const FIRST_BYTES: Duration = Duration::from_secs(300);
/// Kept free beside the copy, and a 32nd part of it besides: WAL that is streamed meanwhile.
const SPARE_BYTES: u64 = 64 * 1024 * 1024;

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
        let result = self
            .copy(source, &mut staging, progress)
            .await
            .and_then(|()| self.refuse_other_major(&staging.new_dir(), source))
            .and_then(|()| self.finish_copy(&staging.new_dir()));
        if let Err(error) = result {
            self.settle().await?;
            return Err(error);
        }
        if super::contents::has_content(&self.data_dir) {
            self.keep_lost_wal(&staging.new_dir()).await;
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

    async fn copy(
        &self,
        source: &CloneSource,
        staging: &mut Staging,
        progress: &Progress,
    ) -> Result<(), PostgresError> {
        let config = self.config();
        let credentials = &config.postgres.replication;
        let secrets = self.lend_secrets("clone", &source.address, credentials)?;
        let conninfo = Conninfo::for_program(&source.address, credentials, self.programs.version);
        let conninfo = secrets.named_in(kept_alive(conninfo.with("application_name", config.name.as_str())));
        let mut run = secrets.lend_to(self.program("pg_basebackup").in_c_locale());
        run = run.arg("--pgdata").arg(staging.new_dir()).args(["-X", "stream", "--checkpoint=fast", "--progress"]);
        run = run.arg("--no-password").arg(format!("--dbname={conninfo}"));
        let (options, spaces) = self.copy_options(&source.address, staging).await?;
        self.watch(run.args(options), source, staging, &spaces, progress).await
    }

    /// Runs the program with an eye on its progress: the first bytes prove the source.
    async fn watch(
        &self,
        run: Run,
        source: &CloneSource,
        staging: &mut Staging,
        spaces: &[Tablespace],
        progress: &Progress,
    ) -> Result<(), PostgresError> {
        let mut watch = Watch::new(format!("copying from {source}"), FIRST_BYTES, self.now());
        let mut on_line = watch.on_line();
        let running = run.success_with_lines(None, &mut on_line);
        tokio::pin!(running);
        let mut has_begun = false;
        progress(format!("copying from {source}"));
        loop {
            match tokio::time::timeout(LOOK_EVERY, &mut running).await {
                Ok(result) => return result.map(drop),
                Err(_still_running) => (),
            }
            let copied = watch.look(self.now(), progress)?;
            if !has_begun && copied.done > 0 {
                has_begun = true;
                self.make_room(&copied, staging, spaces).await?;
            }
        }
    }

    /// The source has answered. Where a file system cannot hold both, the old data go now.
    async fn make_room(
        &self,
        copied: &Copied,
        staging: &mut Staging,
        spaces: &[Tablespace],
    ) -> Result<(), PostgresError> {
        let short = || {
            let data = FileSystem::below(&staging.new_dir()).ok()?;
            let outside: Vec<(FileSystem, u64)> =
                spaces.iter().filter_map(|space| FileSystem::below(&space.location).ok().zip(space.bytes)).collect();
            shortage(bytes_needed(copied), data, &outside)
        };
        if short().is_some() {
            self.make_room_of_discarded().await;
        }
        let has_old = super::contents::has_content(&self.data_dir);
        let Some(Shortage { needed, free }) = short().filter(|_| has_old) else { return Ok(()) };
        tracing::warn!(
            "removing the old data in {} before the copy is complete, and keeping nothing of their WAL: the copy needs {} MB \
             more and {} MB are free",
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
        memory.applied = None;
        memory.pending_restart = Default::default();
    }
}

/// What the copy will still take on the disk.
fn bytes_needed(copied: &Copied) -> u64 {
    copied.total.saturating_sub(copied.done).saturating_add(copied.total / 32 + SPARE_BYTES)
}

/// Of one file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shortage {
    needed: u64,
    free: u64,
}

/// The first file system that cannot take its part of what is to come. What is not known to go elsewhere comes to the
/// data directory's.
fn shortage(needed: u64, data: FileSystem, outside: &[(FileSystem, u64)]) -> Option<Shortage> {
    let mut parts = vec![(data, needed)];
    for (file_system, bytes) in outside.iter().filter(|(other, _)| other.device != data.device) {
        parts[0].1 = parts[0].1.saturating_sub(*bytes);
        match parts.iter_mut().find(|(known, _)| known.device == file_system.device) {
            Some((_, sum)) => *sum = sum.saturating_add(*bytes),
            None => parts.push((*file_system, *bytes)),
        }
    }
    let short = parts.into_iter().find(|(file_system, needed)| file_system.free < *needed);
    short.map(|(file_system, needed)| Shortage { needed, free: file_system.free })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_system_is_asked_for_its_own_part() {
        let on = |device, free| FileSystem { device, free, size: 100 };
        assert_eq!(shortage(10, on(1, 10), &[]), None);
        assert_eq!(shortage(10, on(1, 9), &[]), Some(Shortage { needed: 10, free: 9 }));
        assert_eq!(shortage(10, on(1, 4), &[(on(2, 6), 6)]), None, "most of it goes elsewhere");
        assert_eq!(shortage(10, on(1, 4), &[(on(1, 4), 6)]), Some(Shortage { needed: 10, free: 4 }));
        let two = [(on(2, 6), 3), (on(2, 6), 4)];
        assert_eq!(shortage(10, on(1, 3), &two), Some(Shortage { needed: 7, free: 6 }));
    }
}
