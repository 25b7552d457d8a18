//! Bringing a diverged directory back with pg_rewind, and crash recovery before it.
//!
//! **Invariant:** from a directory in which pg_rewind was cut short no server is started: a mark stands there from
//! before its first change until it has succeeded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::conf::conninfo::Conninfo;
use super::connect::Session;
use super::control::Freshness;
use super::divergence::leader_history;
use super::layout::OWN_FILES;
use super::local::LocalPostgres;
use super::pidfile::{parse_opts, settings_of};
use super::programs::Run;
use super::progress::{LOOK_EVERY, Watch, kept_alive};
use super::{PostgresError, Progress, archive, files, history, rewind_mark};
use crate::config::{Config, Credentials};
use crate::core::local::RecoverySignal;
use crate::core::units::{Seconds, Timeline};
use crate::core::view::{Address, HistoryEntry};

/// How long the leader may take to say whether it is ready.
const PREFLIGHT: Duration = Duration::from_secs(10);
/// How long pg_rewind may read our WAL and compare files, of which it says nothing, before it copies.
const FIRST_BYTES: Duration = Duration::from_secs(1800);

/// Crash recovery of as much WAL as a server can have written since its last checkpoint takes minutes; one that takes
/// longer than this hangs, and is tried anew.
const RECOVERY_LIMIT: Duration = Duration::from_secs(3600);
const RECOVERY_TOLD_EVERY: Duration = Duration::from_secs(60);

/// In the line that pg_rewind (with `--progress`) writes before it changes anything.
const BEGINS_TO_COPY: &str = "need to copy";

impl LocalPostgres {
    pub(super) fn rewind_credentials(config: &Config) -> &Credentials {
        config.postgres.rewind.as_ref().unwrap_or(&config.postgres.superuser)
    }

    pub(super) async fn rewind_data(&self, leader: &Address, progress: &Progress) -> Result<(), PostgresError> {
        self.settle().await?;
        if let Some(running) = self.postmaster() {
            return Err(PostgresError::Refused(format!(
                "cannot rewind {} while PostgreSQL runs on it as process {}",
                self.data_dir.display(),
                running.pid()
            )));
        }
        self.processes.kill_everything().await;
        let control = self.control_data(Freshness::Exact).await?;
        if !control.may_be_rewound() {
            return Err(PostgresError::Refused(format!(
                "cannot rewind {}: it has neither data checksums nor wal_log_hints; clone it anew",
                self.data_dir.display()
            )));
        }
        let config = self.config();
        let credentials = Self::rewind_credentials(&config);
        let ready = tokio::time::timeout(PREFLIGHT, self.require_checkpointed(leader, credentials)).await;
        let history = ready.unwrap_or(Err(PostgresError::too_long(asked(leader), PREFLIGHT)))?;
        archive::archive_ready(self).await;
        let secrets = self.lend_secrets("rewind", leader, credentials)?;
        let conninfo = Conninfo::for_program(leader, credentials, self.programs.version);
        let conninfo = secrets.named_in(kept_alive(conninfo.with("target_session_attrs", "read-write")));
        let mut run = secrets.lend_to(self.program("pg_rewind").in_c_locale());
        run = run.env("PGOPTIONS", "-c statement_timeout=0").arg("-D").arg(&self.data_dir).arg("--progress");
        run = run.arg(format!("--source-server={conninfo}")).args(self.restore_options().await);
        let run = run.args(&config.postgres.rewind_options);
        let was_unfinished = rewind_mark::is_unfinished(&self.data_dir);
        let held = self.hold_lost_wal(&history).await;
        rewind_mark::set(&self.data_dir, control.system_id)?;
        let changes = AtomicBool::new(false);
        let result = self.watch_rewind(run, leader, &changes, progress).await;
        self.forget_server();
        match held {
            Some(held) if changes.load(Ordering::Relaxed) || result.is_ok() => self.keep_held_wal(held).await,
            Some(held) => self.drop_held_wal(held).await,
            None => {}
        }
        if result.is_err() && !was_unfinished && !changes.load(Ordering::Relaxed) {
            rewind_mark::remove(&self.data_dir)?;
        }
        result?;
        self.finish_rewind()
    }

    /// `changes`: whether it has begun to change the data directory.
    async fn watch_rewind(
        &self,
        run: Run,
        leader: &Address,
        changes: &AtomicBool,
        progress: &Progress,
    ) -> Result<(), PostgresError> {
        let what = format!("running pg_rewind from {}:{}", leader.host, leader.port);
        progress(what.clone());
        let mut watch = Watch::new(what, FIRST_BYTES, self.now());
        let mut watched = watch.on_line();
        let mut on_line = |line: &str| {
            if line.contains(BEGINS_TO_COPY) {
                changes.store(true, Ordering::Relaxed);
            }
            watched(line);
        };
        let running = run.success_with_lines(None, &mut on_line);
        tokio::pin!(running);
        loop {
            match tokio::time::timeout(LOOK_EVERY, &mut running).await {
                Ok(result) => return result.map(drop),
                Err(_still_running) => watch.look(self.now(), progress)?,
            };
        }
    }

    /// What came from the leader and is its own, goes; and nothing but a standby may be started from here. The mark last.
    fn finish_rewind(&self) -> Result<(), PostgresError> {
        let failed =
            |cause| PostgresError::failed(format!("clear up {} after the rewind", self.data_dir.display()), cause);
        for name in OWN_FILES.iter().chain(&["promote"]) {
            files::remove_if_there(&self.data_dir.join(name)).map_err(failed)?;
        }
        files::replace(&self.data_dir.join("standby.signal"), b"", files::file_mode(&self.data_dir)).map_err(failed)?;
        rewind_mark::remove(&self.data_dir)
    }

    /// pg_rewind compares the control files' timelines: without a checkpoint since its promotion the leader's still
    /// shows the old one, and nothing would be done.
    /// Returns the leader's timeline and history.
    async fn require_checkpointed(
        &self,
        leader: &Address,
        credentials: &Credentials,
    ) -> Result<Option<(Timeline, Vec<HistoryEntry>)>, PostgresError> {
        let session = self.connect_to(leader, credentials).await?;
        let attempted = || asked(leader);
        let sql = "SELECT pg_is_in_recovery(), CASE WHEN NOT pg_is_in_recovery() THEN \
                   substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END, \
                   (SELECT timeline_id FROM pg_control_checkpoint())";
        let rows = session.rows(sql).await.map_err(|cause| PostgresError::sql(attempted(), &cause))?;
        let row = rows.first().ok_or_else(|| PostgresError::failed(attempted(), "an empty answer"))?;
        let timeline = row.get(1).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let checkpointed = row.get(2).and_then(|text| text.parse::<u32>().ok());
        match (row.get(0), timeline) {
            (Some("f"), Some(timeline)) if Some(timeline) == checkpointed => self.refuse_branch(leader, &session).await,
            (Some("f"), _) => Err(PostgresError::failed(attempted(), "it has not done its checkpoint since promotion")),
            _ => Err(PostgresError::failed(attempted(), "it is in recovery itself")),
        }
    }

    /// pg_rewind takes timelines of one number for the same, and would do nothing.
    async fn refuse_branch(
        &self,
        leader: &Address,
        session: &Session,
    ) -> Result<Option<(Timeline, Vec<HistoryEntry>)>, PostgresError> {
        let ours = self.control_data(Freshness::Exact).await?.control.timeline;
        let theirs =
            leader_history(session, ours).await.map_err(|cause| PostgresError::failed(asked(leader), cause))?;
        let own = self.local_history(ours).unwrap_or_default();
        match theirs {
            Some((timeline, entries)) if timeline == ours && history::branched(&own, &entries) => {
                Err(PostgresError::Refused(format!(
                    "cannot rewind: timeline {ours} here and timeline {ours} of {}:{} were begun at different points; \
                     only a clone helps",
                    leader.host, leader.port
                )))
            }
            theirs => Ok(theirs),
        }
    }

    /// WAL that is needed and no longer here can be fetched from an archive.
    async fn restore_options(&self) -> Vec<String> {
        let restores = self.setting_on_disk("restore_command").await.is_some_and(|command| !command.is_empty());
        let in_data_dir = self.config_dir() == self.data_dir;
        match self.programs.version.major() {
            _ if !restores => Vec::new(),
            15.. => vec!["--restore-target-wal".to_owned(), format!("--config-file={}", self.conf_file().display())],
            _ if in_data_dir => vec!["--restore-target-wal".to_owned()],
            _ => Vec::new(),
        }
    }

    /// A parameter as the next start would have it.
    pub(super) async fn setting_on_disk(&self, name: &str) -> Option<String> {
        let run = self.program("postgres").in_c_locale().args(self.arguments(&self.wanted_parameters()));
        let ended = run.args(["-C", name]).success(Some(Duration::from_secs(10))).await.ok()?;
        Some(String::from_utf8_lossy(&ended.stdout).trim_end_matches('\n').to_owned())
    }

    /// Crash recovery without anybody being let in, so that the directory is consistent for what comes next.
    pub(super) async fn recover_data(&self) -> Result<(), PostgresError> {
        self.settle().await?;
        if let Some(running) = self.postmaster() {
            return Err(PostgresError::Refused(format!(
                "cannot recover: PostgreSQL runs as process {}",
                running.pid()
            )));
        }
        rewind_mark::refuse_unfinished(&self.data_dir, "recover")?;
        if self.recovery_signal() == RecoverySignal::BackupLabel {
            return Err(PostgresError::Refused(format!(
                "cannot recover {}: it is a base backup (backup_label is there); start it as a standby",
                self.data_dir.display()
            )));
        }
        self.processes.kill_everything().await;
        archive::archive_ready(self).await;
        archive::forget_markers(&self.data_dir);
        let failed = |cause| PostgresError::failed("prepare a recovery in single-user mode", cause);
        for name in ["standby.signal", "recovery.signal"] {
            files::remove_if_there(&self.data_dir.join(name)).map_err(failed)?;
        }
        let opts = std::fs::read_to_string(self.data_dir.join("postmaster.opts")).unwrap_or_default();
        let mut settings: std::collections::BTreeMap<String, String> =
            settings_of(&parse_opts(&opts)).into_iter().collect();
        settings.insert("archive_mode".to_owned(), "on".to_owned());
        settings.insert("archive_command".to_owned(), "false".to_owned());
        let mut run = self.program("postgres").in_c_locale().arg("--single").arg("-D").arg(&self.data_dir);
        if let Some((name, value)) = self.processes.own_former_number() {
            run = run.env(name, value);
        }
        for (name, value) in &settings {
            run = run.arg("-c").arg(format!("{name}={value}"));
        }
        let tell = |ran: Duration| {
            let (ran, limit) = (Seconds(ran), Seconds(RECOVERY_LIMIT));
            tracing::info!("crash recovery has run for {ran}; it is given up after {limit}");
        };
        let result = within(run.arg("template1"), RECOVERY_LIMIT, RECOVERY_TOLD_EVERY, tell).await;
        self.forget_server();
        result
    }
}

/// A program that says nothing of how far it is: `tell` is told how long it has run.
async fn within(
    run: Run,
    limit: Duration,
    every: Duration,
    mut tell: impl FnMut(Duration),
) -> Result<(), PostgresError> {
    let began = tokio::time::Instant::now();
    let running = run.success(Some(limit));
    tokio::pin!(running);
    loop {
        match tokio::time::timeout(every, &mut running).await {
            Ok(result) => return result.map(drop),
            Err(_still_running) => tell(began.elapsed()),
        }
    }
}

fn asked(leader: &Address) -> String {
    format!("ask {}:{} whether it is ready to be rewound from", leader.host, leader.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_does_not_end_is_told_of_and_ended() {
        let run = Run::new("sleep", std::path::Path::new("/bin/sleep"), &[]).arg("60");
        let mut told = 0;
        let (limit, every) = (Duration::from_millis(250), Duration::from_millis(50));
        let error = within(run, limit, every, |_| told += 1).await.expect_err("it takes too long");
        assert!(error.to_string().contains("sleep"), "{error}");
        assert!(told > 0, "nothing was told");
    }
}
