//! Whether our WAL is a part of the leader's.
//!
//! The leader is asked over SQL, as the rewind user: its timeline from the name of its current WAL file, its history
//! with the function that pg_rewind reads files with. The replication protocol would say the same.

use std::time::Duration;

use super::PostgresError;
use super::control::Freshness;
use super::history::{self, LocalPosition};
use super::local::LocalPostgres;
use crate::core::local::{Postgres, Running};
use crate::core::observation::Divergence;
use crate::core::units::{Lsn, Timeline};
use crate::core::view::{Address, HistoryEntry};

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
        let Some((timeline, entries)) = self.leader_history(leader, local.timeline()).await? else {
            return Ok(Divergence::Undecided);
        };
        let local = match local {
            LocalPosition::ShutDown { timeline: ours, checkpoint, .. } if local.wants_checkpoint_end(timeline) => {
                local.with_checkpoint_end(self.checkpoint_end(ours, checkpoint).await)
            }
            LocalPosition::ShutDown { .. } | LocalPosition::Recovering { .. } => local,
        };
        Ok(history::divergence(local, timeline, &entries))
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

    /// The leader's timeline and, where it is later than ours, its history.
    async fn leader_history(
        &self,
        leader: &Address,
        ours: Timeline,
    ) -> Result<Option<(Timeline, Vec<HistoryEntry>)>, PostgresError> {
        let config = self.config();
        let session = self.connect_to(leader, Self::rewind_credentials(&config)).await?;
        let failed = |cause| PostgresError::sql(format!("read the history of {}:{}", leader.host, leader.port), &cause);
        let sql =
            "SELECT CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";
        let hex = session.value(sql).await.map_err(failed)?;
        let Some(timeline) = hex.and_then(|hex| u32::from_str_radix(&hex, 16).ok()).map(Timeline) else {
            return Ok(None);
        };
        if timeline <= ours || timeline.0 == 1 {
            return Ok(Some((timeline, Vec::new())));
        }
        let sql = format!("SELECT encode(pg_read_binary_file('pg_wal/{:08X}.history'), 'escape')", timeline.0);
        let text = session.value(&sql).await.map_err(failed)?.unwrap_or_default();
        let entries = history::parse(&text).map_err(|cause| {
            PostgresError::failed(format!("read the history of {}:{}", leader.host, leader.port), cause)
        })?;
        Ok(Some((timeline, entries)))
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
