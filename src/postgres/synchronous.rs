//! The synchronous standbys of the running server: whom its commits wait for, and what becomes of those that stream.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use serde_json::Value;

use super::PostgresError;
use super::conf::parameters::STANDBY_NAMES;
use super::layout::Recovery;
use super::local::LocalPostgres;
use super::process::Process;
use crate::core::local::{Duty, NamesOf, Sender, SyncFacts};
use crate::core::standby_names::StandbyNames;

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// PostgreSQL lets those go that wait for a standby when that one confirms something, and not when the setting changes: what it
/// has confirmed before, it confirms again with a commit of ours. The second one is for a sender that had not read the
/// setting yet.
const NUDGES: u32 = 2;
const BETWEEN_NUDGES: Duration = Duration::from_millis(30);

/// What the heartbeat's statement asks besides: the setting, and the standbys if somebody wants to know.
pub(super) const SETTING: &str = ", current_setting('synchronous_standby_names') AS standby_names";
pub(super) const SENDERS: &str = ", CASE WHEN NOT r.recovery THEN (SELECT json_agg(json_build_array(application_name,\
 sync_state, write_lsn, flush_lsn, replay_lsn, pid)) FROM pg_stat_replication WHERE state = 'streaming') END AS senders";

/// Which of a standby's positions a commit waits for, by `synchronous_commit`: a column of `SENDERS`.
fn column(synchronous_commit: &str) -> usize {
    match synchronous_commit {
        "remote_write" => 2,
        "remote_apply" => 4,
        _flushed => 3,
    }
}

/// The standbys that `SENDERS` has found, with the processes that serve them.
pub(super) fn senders(json: &str, synchronous_commit: &str) -> Vec<(Sender, i32)> {
    let rows: Vec<Vec<Value>> = serde_json::from_str(json).unwrap_or_default();
    let text = |row: &[Value], at: usize| row.get(at).and_then(Value::as_str).map(str::to_owned);
    let sender = |row: Vec<Value>| {
        let duty = match text(&row, 1)?.as_str() {
            "sync" => Duty::Sync,
            "quorum" => Duty::Quorum,
            "potential" => Duty::Potential,
            _async => Duty::Async,
        };
        let position = text(&row, column(synchronous_commit))?.parse().ok()?;
        let pid = row.get(5).and_then(Value::as_i64).and_then(|pid| i32::try_from(pid).ok())?;
        Some((Sender { standby: text(&row, 0)?, position, duty }, pid))
    };
    rows.into_iter().filter_map(sender).collect()
}

impl LocalPostgres {
    /// The statement's columns for what is known of synchronous replication.
    pub(super) fn sync_columns(&self) -> String {
        let memory = self.memory();
        let asks = memory.desired.synchronous || memory.standby_names.is_some();
        format!("{SETTING}{}", if asks { SENDERS } else { "" })
    }

    pub(super) fn sync_facts(&self, setting: Option<&str>, found: Option<&str>) -> SyncFacts {
        let mut memory = self.memory();
        let commit = memory.desired.server.parameters.get("synchronous_commit").and_then(Value::as_str);
        let found = senders(found.unwrap_or_default(), commit.unwrap_or("on"));
        memory.standby_processes.retain(|process| found.iter().any(|(_, pid)| *pid == process.pid()));
        for (_, pid) in &found {
            if !memory.standby_processes.iter().any(|process| process.pid() == *pid) {
                memory.standby_processes.extend(Process::open(*pid).map(Arc::new));
            }
        }
        let known = memory.standby_names.clone();
        let whose = if known.is_some() { NamesOf::Us } else { NamesOf::User };
        SyncFacts {
            names: setting.map(StandbyNames::parse).or(known).unwrap_or_default(),
            whose,
            senders: found.into_iter().map(|(sender, _)| sender).collect(),
        }
    }

    /// In synchronous mode the setting is ours. A new agent goes on with what the former one has written: a primary that
    /// waited for nobody for a moment would confirm what its standbys lack.
    pub(super) fn adopt_standby_names(&self) {
        let wants = self.memory().desired.synchronous;
        if !wants || self.memory().standby_names.is_some() || self.is_single() {
            return;
        }
        let text = std::fs::read_to_string(self.conf_file()).unwrap_or_default();
        let value = text.lines().rev().find_map(|line| {
            let value = line.strip_prefix(STANDBY_NAMES)?.trim_start().strip_prefix('=')?.trim();
            Some(value.trim_matches('\'').replace("''", "'"))
        });
        self.memory().standby_names = Some(StandbyNames::parse(&value.unwrap_or_default()));
    }

    /// From now on commits wait for these; `None`: for whom the user's configuration says. Returns when the server goes by it.
    pub(super) async fn put_standby_names(&self, names: Option<&StandbyNames>) -> Result<(), PostgresError> {
        self.memory().standby_names = names.cloned();
        let Some(process) = self.postmaster() else { return Ok(()) };
        let attempted = "set synchronous_standby_names";
        let session = self.session("synchronous", STATEMENT_TIMEOUT).await?;
        let recovery: Recovery = self.recovery_in_force(&session).await?;
        self.write_files(&self.wanted_parameters(), &recovery).await?;
        self.reload(&session, &process).await?;
        let Some(names) = names else { return Ok(()) };
        let in_force = session.value("SELECT current_setting('synchronous_standby_names')").await;
        let in_force = in_force.map_err(|cause| PostgresError::sql(attempted, &cause))?.unwrap_or_default();
        if StandbyNames::parse(&in_force) != *names {
            return Err(PostgresError::Refused(format!(
                "cannot {attempted} to '{names}': the server goes by '{in_force}'. If ALTER SYSTEM has set it, run: \
                 ALTER SYSTEM RESET synchronous_standby_names"
            )));
        }
        for _ in 0..NUDGES {
            let nudged = session.run("SELECT CASE WHEN NOT pg_is_in_recovery() THEN txid_current() END").await;
            nudged.map_err(|cause| PostgresError::sql(attempted, &cause))?;
            tokio::time::sleep(BETWEEN_NUDGES).await;
        }
        Ok(())
    }

    /// Returns when one of the standbys that were last seen to stream is served no longer.
    pub(super) async fn a_standby_ended(&self) {
        let processes = self.memory().standby_processes.clone();
        if processes.is_empty() {
            return std::future::pending().await;
        }
        let ends = processes.iter().map(|process| Box::pin(process.ended()));
        if let (Err(error), ..) = select_all(ends).await {
            tracing::warn!("cannot watch the standbys' processes: {error}");
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::units::Lsn;

    #[test]
    fn the_position_is_that_which_a_commit_waits_for() {
        let json = r#"[["n1","sync","0/3","0/2","0/1",17],["n2","async",null,null,null,18]]"#;
        let position = |commit: &str| {
            let found = senders(json, commit);
            assert_eq!(found.len(), 1, "one that has told no position yet is not counted");
            (found[0].0.position, found[0].1)
        };
        assert_eq!(position("on"), (Lsn(2), 17));
        assert_eq!(position("remote_write"), (Lsn(3), 17));
        assert_eq!(position("remote_apply"), (Lsn(1), 17));
        assert!(senders("", "on").is_empty());
    }
}
