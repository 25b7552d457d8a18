//! Whether our WAL is a part of the leader's.
//!
//! The leader is asked over SQL, as the rewind user: its timeline from the name of its current WAL file, its history
//! with the function that pg_rewind reads files with. The replication protocol would say the same.

use std::time::Duration;

use super::PostgresError;
use super::connect::{self, Session};
use super::control::Freshness;
use super::history::{self, LocalPosition};
use super::local::LocalPostgres;
use super::segments;
use crate::core::local::{Postgres, Running};
use crate::core::observation::Divergence;
use crate::core::units::{Lsn, Timeline};
use crate::core::view::{Address, HistoryEntry};

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
/// How far a standby has come that has tried all that it has and waits for its upstream.
const WAITS_AT: &str = "SELECT pg_last_wal_replay_lsn()::text FROM pg_stat_activity WHERE backend_type = 'startup' AND \
    wait_event IN ('RecoveryWalStream', 'RecoveryRetrieveRetryInterval') AND current_setting('restore_command') = ''";
const WALDUMP_LIMIT: Duration = Duration::from_secs(10);

impl LocalPostgres {
    pub(super) async fn divergence_from(&self, leader: &Address) -> Divergence {
        match self.compare_with(leader).await {
            Ok(divergence) => divergence,
            Err(error) => {
                tracing::debug!("cannot compare our WAL with the leader's: {error}");
                Divergence::Undecided
            }
        }
    }

    async fn compare_with(&self, leader: &Address) -> Result<Divergence, PostgresError> {
        let Some(local) = self.local_position().await? else { return Ok(Divergence::Undecided) };
        let session = self.connect_to(leader, Self::rewind_credentials(&self.config())).await?;
        let read = leader_history(&session, local.timeline()).await;
        let read = read.map_err(|cause| {
            PostgresError::failed(format!("read the history of {}:{}", leader.host, leader.port), cause)
        });
        let Some((timeline, entries)) = read? else { return Ok(Divergence::Undecided) };
        // Without the file nothing is known of our branch; a clone or a rewind brings it along.
        let own = self.local_history(local.timeline()).unwrap_or_default();
        if history::branched(&own, &entries) {
            return Ok(Divergence::Diverged);
        }
        let local = match local {
            LocalPosition::ShutDown { timeline: ours, checkpoint, .. } if local.wants_checkpoint_end(timeline) => {
                local.with_checkpoint_end(self.checkpoint_end(ours, checkpoint).await)
            }
            LocalPosition::ShutDown { .. } | LocalPosition::Recovering { .. } => local,
        };
        Ok(match history::divergence(local, timeline, &entries) {
            Divergence::None if self.waits_for_removed_wal(&session).await => Divergence::WalGone,
            divergence => divergence,
        })
    }

    /// Whether we cannot go on without WAL that the leader has removed and no archive may have. Unknown counts as no.
    async fn waits_for_removed_wal(&self, leader: &Session) -> bool {
        let Some(wanted) = self.segment_waited_for().await else { return false };
        // The oldest goes first, and what was removed never comes back.
        let sql = "SELECT min(substr(name, 9)) FROM pg_ls_dir('pg_wal', true, false) AS name \
                   WHERE name ~ '^[0-9A-F]{24}$'";
        match leader.value(sql).await {
            Ok(oldest) => oldest.is_some_and(|oldest| wanted < oldest),
            Err(error) => {
                tracing::debug!("cannot ask the leader for its oldest WAL: {}", connect::explain(&error));
                false
            }
        }
    }

    /// The number of the segment that the server needs and does not have; `None`: it gets on, or there is an archive.
    async fn segment_waited_for(&self) -> Option<String> {
        if self.postmaster().is_some() {
            match self.connect("comparison", STATEMENT_TIMEOUT).await {
                Ok(session) => {
                    let replayed = session.value(WAITS_AT).await.ok()??.parse().ok()?;
                    let size = self.control_data(Freshness::IdentifierOnly).await.ok()?.wal_segment_size?;
                    return Some(segments::number_at(replayed, size));
                }
                Err(error) if error.is_starting_up() => (),
                Err(_) => return None,
            }
        }
        let control = self.control_data(Freshness::Exact).await.ok()?;
        let (redo, size) = control.redo.zip(control.wal_segment_size)?;
        let restores = self.setting_on_disk("restore_command").await?;
        let files = std::fs::read_dir(self.data_dir.join("pg_wal")).ok()?.flatten();
        let files: Vec<String> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
        restores.is_empty().then(|| segments::first_missing(&files, redo, size))
    }

    /// Where our WAL ends; `None` while that cannot be said.
    async fn local_position(&self) -> Result<Option<LocalPosition>, PostgresError> {
        if self.postmaster().is_none() {
            return Ok(self.control_data(Freshness::Exact).await?.local_position());
        }
        let answer = self.answer(&self.heartbeat).await;
        Ok(match answer {
            Some(Postgres::Running(Running::Standby(facts))) => {
                facts.timeline.map(|timeline| LocalPosition::Recovering { timeline, at: facts.replayed })
            }
            // One that waits for WAL before it lets anybody in has not replayed more than its control file says.
            Some(Postgres::Starting { .. }) => self.control_data(Freshness::Exact).await?.local_position(),
            Some(
                Postgres::Running(Running::Primary(_))
                | Postgres::Stopped
                | Postgres::Unresponsive { .. }
                | Postgres::Stopping,
            )
            | None => None,
        })
    }

    async fn checkpoint_end(&self, timeline: Timeline, checkpoint: Lsn) -> Option<Lsn> {
        let run = self.program("pg_waldump").in_c_locale().arg("-p").arg(self.data_dir.join("pg_wal"));
        let run = run.args(["-t", &timeline.to_string(), "-s", &checkpoint.to_string(), "-n", "2"]);
        let mut errors = String::new();
        let mut keep = |line: &str| errors.push_str(&format!("{line}\n"));
        let ended = run.run(Some(WALDUMP_LIMIT), &mut keep).await.ok()?;
        history::checkpoint_end(checkpoint, &String::from_utf8_lossy(&ended.stdout), &errors)
    }

    /// The lines of the local history file, the last one with the time of its writing.
    pub(super) fn local_history(&self, timeline: Timeline) -> Result<Vec<HistoryEntry>, PostgresError> {
        if timeline.0 <= 1 {
            return Ok(Vec::new());
        }
        let path = self.data_dir.join(format!("pg_wal/{:08X}.history", timeline.0));
        let failed = |cause: &dyn std::fmt::Display| PostgresError::failed(format!("read {}", path.display()), cause);
        let text = std::fs::read_to_string(&path).map_err(|cause| failed(&cause))?;
        let mut entries = history::parse(&text).map_err(|cause| failed(&cause))?;
        let written = std::fs::metadata(&path).and_then(|file| file.modified()).ok();
        let written = written.and_then(|time| jiff::Timestamp::try_from(time).ok());
        if let (Some(last), Some(time)) = (entries.last_mut(), written) {
            last.time = Some(time.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string());
        }
        Ok(entries)
    }
}

/// The leader's timeline and, unless it is earlier than ours, its history; `None`: it is in recovery itself.
pub(super) async fn leader_history(
    session: &Session,
    ours: Timeline,
) -> Result<Option<(Timeline, Vec<HistoryEntry>)>, String> {
    let failed = |cause| connect::explain(&cause);
    let sql = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";
    let hex = session.value(sql).await.map_err(failed)?;
    let Some(timeline) = hex.and_then(|hex| u32::from_str_radix(&hex, 16).ok()).map(Timeline) else {
        return Ok(None);
    };
    if timeline < ours || timeline.0 == 1 {
        return Ok(Some((timeline, Vec::new())));
    }
    let sql = format!("SELECT encode(pg_read_binary_file('pg_wal/{:08X}.history'), 'escape')", timeline.0);
    let text = session.value(&sql).await.map_err(failed)?.unwrap_or_default();
    let entries = history::parse(&text).map_err(|cause| cause.to_string())?;
    Ok(Some((timeline, entries)))
}
