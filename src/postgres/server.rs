//! Start, promotion and checkpoint of the local server.
//!
//! No program of PostgreSQL's but the server itself is run on these paths, and nothing is waited for by the second:
//! readiness is read from the postmaster's file every ten milliseconds.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Map;

use super::callbacks::Callback;
use super::conf::settings::pending_json;
use super::control::Freshness;
use super::layout::Recovery;
use super::local::LocalPostgres;
use super::postmaster::{left_pid_file, wait_ready};
use super::process::Process;
use super::{PostgresError, RoleChange, archive, rewind_mark};
use crate::core::local::{LastRole, RecoverySignal, StartAs, Upstream};
use crate::core::standby_names::StandbyNames;
use crate::core::view::MemberRole;

const POLL: Duration = Duration::from_millis(10);

/// Whether a callback tells of a start or stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announce {
    Yes,
    No,
}

impl LocalPostgres {
    pub(super) async fn start_server(
        &self,
        role: &StartAs,
        limit: Duration,
        callback: Option<Callback>,
    ) -> Result<(), PostgresError> {
        self.settle().await?;
        self.start_prepared(role, limit, callback).await
    }

    /// The same for a data directory that is known to be settled, or to be in the making.
    pub(super) async fn start_prepared(
        &self,
        role: &StartAs,
        limit: Duration,
        callback: Option<Callback>,
    ) -> Result<(), PostgresError> {
        if let Some(running) = self.postmaster() {
            return Err(PostgresError::Refused(format!(
                "cannot start PostgreSQL: it runs already, as process {}",
                running.pid()
            )));
        }
        // Before anything is written into the directory.
        if let Some(why) = self.unsuitable() {
            return Err(PostgresError::Refused(format!("cannot start PostgreSQL: {why}")));
        }
        rewind_mark::refuse_unfinished(&self.data_dir, "start PostgreSQL")?;
        if !self.processes.kill_everything().await {
            return Err(PostgresError::Refused(
                "cannot start PostgreSQL: processes that its last run left behind cannot be ended".to_owned(),
            ));
        }
        self.close_sessions().await;
        if matches!(role, StartAs::Standby(_)) && self.recovery_signal() == RecoverySignal::None {
            // A former primary's: no standby archives it, and its stop did not wait for the archiver.
            archive::archive_ready(self).await;
        }
        self.put_slots_in_place(role);
        self.memory().slots.safety.clear();
        let left = left_pid_file(&self.data_dir);
        let process = self.spawn(role).await?;
        let ready = wait_ready(&self.data_dir, &process, left, limit).await;
        if ready.is_err() {
            self.memory().socket_dirs = None;
        }
        ready?;
        if !self.is_single() {
            self.save_backups();
        }
        self.announce_start(role, callback);
        Ok(())
    }

    /// Writes what the server reads at its start, and starts it.
    async fn spawn(&self, role: &StartAs) -> Result<Arc<Process>, PostgresError> {
        self.adopt_standby_names();
        if matches!(role, StartAs::Standby(_))
            && let Some(names) = &mut self.memory().standby_names
        {
            // Nobody waits for a standby's standbys, and what they are to be after a promotion is known then.
            *names = StandbyNames::default();
        }
        let mut parameters = self.wanted_parameters();
        let recovery = match role {
            StartAs::Primary => Recovery::Primary,
            StartAs::Standby(upstream) => {
                let control = self.control_data(Freshness::Exact).await?;
                let pending = parameters.raise_for_standby(&control.minimums);
                self.memory().pending_restart = pending_json(&pending);
                self.write_passfile(upstream)?;
                self.look_up(upstream).await;
                Recovery::Standby(self.standby_settings(upstream))
            }
        };
        if !self.is_single() {
            self.write_files(&parameters, &recovery).await?;
            self.write_signal(&recovery)?;
            let upstream = match role {
                StartAs::Primary => Upstream::None,
                StartAs::Standby(upstream) => upstream.clone(),
            };
            self.remember_upstream(&upstream)?;
        }
        self.prepare_sockets().await?;
        let mut env = self.env.clone();
        env.extend(self.config().malloc_arena_max.iter().map(|value| ("MALLOC_ARENA_MAX".into(), value.into())));
        let mut arguments = self.arguments(&parameters);
        if matches!(role, StartAs::Primary) && !self.is_single() {
            arguments.extend(self.quick_recovery(&parameters));
        }
        let process = self.processes.spawn(&self.programs.path("postgres"), &arguments, &env)?;
        let process = Arc::new(process);
        let mut memory = self.memory();
        memory.postmaster = Some(process.clone());
        memory.silent_since = None;
        memory.received_timeline = None;
        memory.applied = Some(memory.desired.clone());
        memory.role = Some(match role {
            StartAs::Primary => LastRole::Primary,
            StartAs::Standby(_) => LastRole::Standby,
        });
        if matches!(role, StartAs::Primary) {
            memory.pending_restart = Map::new();
        }
        Ok(process)
    }

    fn announce_start(&self, role: &StartAs, callback: Option<Callback>) {
        let now = match role {
            StartAs::Primary => MemberRole::Primary,
            StartAs::Standby(upstream) => upstream.role(),
        };
        let before = self.memory().told_role.replace(now);
        let changed = before.is_some_and(|before| before != now);
        let callback = callback.map(|callback| if changed { Callback::RoleChange } else { callback });
        if let Some(callback) = callback {
            self.fire(callback, now);
        }
    }

    pub(super) fn fire(&self, callback: Callback, role: MemberRole) {
        self.callbacks.fire(callback, role, &self.config(), &self.hook_env);
    }

    /// The role as callbacks tell it.
    pub(super) fn told_role(&self) -> MemberRole {
        let is_demoted = self.memory().told_role == Some(MemberRole::Demoted);
        match self.last_role() {
            LastRole::Primary if is_demoted => MemberRole::Demoted,
            LastRole::Primary => MemberRole::Primary,
            LastRole::Standby => self.upstream_on_disk().map_or(MemberRole::Replica, |upstream| upstream.role()),
        }
    }

    /// Nothing for a standby, nor for one that was told of as demoted already.
    pub(super) fn tell_demoted(&self, change: RoleChange) {
        let was_primary = self.last_role() == LastRole::Primary;
        let told = self.memory().told_role;
        if !was_primary || matches!(told, Some(MemberRole::Demoted) | None) {
            return;
        }
        self.memory().told_role = Some(MemberRole::Demoted);
        match change {
            RoleChange::Told => self.fire(Callback::RoleChange, MemberRole::Demoted),
            RoleChange::WithStop => {}
        }
    }

    /// As `pg_ctl promote` does it: a file, a signal, and waiting until recovery has ended. What was received and not
    /// replayed yet is replayed first, however long that takes: `limit` is for a promotion that does not get on.
    pub(super) async fn promote_server(&self, limit: Duration) -> Result<(), PostgresError> {
        let attempted = "promote PostgreSQL";
        let process = self.postmaster().ok_or_else(|| PostgresError::failed(attempted, "it does not run"))?;
        self.warn_of_unsafe_slots();
        let trigger = self.data_dir.join("promote");
        // Not flushed: after a crash it means nothing.
        std::fs::write(&trigger, b"").map_err(|cause| PostgresError::failed(attempted, cause))?;
        process.signal(Signal::SIGUSR1).map_err(|cause| PostgresError::failed(attempted, cause))?;
        let session = tokio::time::timeout(limit, self.session("promote", Duration::from_secs(2))).await;
        let session = session.unwrap_or(Err(PostgresError::too_long(attempted, limit)))?;
        let mut replayed = None;
        let mut since = self.now();
        loop {
            // Nothing once recovery has ended.
            let asked = session.value("SELECT pg_last_wal_replay_lsn()::text WHERE pg_is_in_recovery()");
            let answer = tokio::time::timeout(limit, asked).await;
            let Ok(answer) = answer else { return Err(PostgresError::too_long(attempted, limit)) };
            match answer.map_err(|cause| PostgresError::sql(attempted, &cause))? {
                None => break,
                position if position != replayed => (replayed, since) = (position, self.now()),
                Some(_) if self.now().since(since) < limit => (),
                Some(_) => return Err(PostgresError::too_long(attempted, limit)),
            }
            if process.ended_within(POLL).await {
                return Err(PostgresError::failed(attempted, "it ended; its log says why"));
            }
        }
        {
            let mut memory = self.memory();
            memory.role = Some(LastRole::Primary);
            memory.told_role = Some(MemberRole::Primary);
        }
        self.remember_upstream(&Upstream::None)?;
        self.fire(Callback::RoleChange, MemberRole::Primary);
        Ok(())
    }

    pub(super) async fn checkpoint_now(&self) -> Result<(), PostgresError> {
        let session = self.session("checkpoint", Duration::ZERO).await?;
        session.run("CHECKPOINT").await.map_err(|cause| PostgresError::sql("checkpoint", &cause))
    }
}
