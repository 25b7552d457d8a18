//! Start, stop, promotion and checkpoint of the local server.
//!
//! No program of PostgreSQL's but the server itself is run on these paths, and nothing is waited for by the second:
//! readiness is read from the postmaster's file every ten milliseconds, and its end is told by the kernel.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Map;

use super::callbacks::Callback;
use super::conf::settings::pending_json;
use super::control::Freshness;
use super::layout::Recovery;
use super::local::LocalPostgres;
use super::postmaster::{Starts, wait_ready};
use super::process::{self, Process};
use super::{PostgresError, archive, files, history};
use crate::core::local::{ClusterState, LastRole, StartAs, StopMode, Upstream};
use crate::core::policy::Switch;
use crate::core::units::Lsn;
use crate::core::view::MemberRole;

/// How long after each escalation of a stop the next one waits.
const ESCALATION: Duration = Duration::from_secs(5);
/// How long a server whose data directory is in order may still wait for its standbys and its archiver.
const PARTING: Duration = Duration::from_secs(3);
/// How long it may take to let go of standbys that read nothing.
const PREPARATION: Duration = Duration::from_millis(500);
/// A standby that has something to confirm and says nothing for so long reads nothing. One whose network buffers are
/// full keeps its sender from noticing the shutdown, and all of it waits for that one before its last checkpoint.
const LET_GO: &str = "SELECT current_setting('archive_mode'), (SELECT count(pg_terminate_backend(pid)) \
    FROM pg_stat_replication WHERE sent_lsn > flush_lsn AND reply_time < clock_timestamp() - interval '3 s')";
/// Where Debian's builds of the server have their socket, a folder that no setting names.
const PACKAGED_SOCKETS: &str = "/var/run/postgresql";
const POLL: Duration = Duration::from_millis(10);
/// How often a server that is ending is looked at; its end itself is told at once.
const LOOK: Duration = Duration::from_millis(100);

/// How a wait for the server's end ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    Ended,
    /// Its data directory is in order, and what is left of it waits for others.
    InOrder,
    TooLong,
}

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
        if !self.processes.kill_everything().await {
            return Err(PostgresError::Refused(
                "cannot start PostgreSQL: processes that its last run left behind cannot be ended".to_owned(),
            ));
        }
        self.close_sessions().await;
        if matches!(role, StartAs::Standby(_)) && !self.has_recovery_signal() {
            // A former primary's: no standby archives it, and its stop did not wait for the archiver.
            archive::archive_ready(self).await;
        }
        let process = self.spawn(role).await?;
        wait_ready(&self.data_dir, &process, limit).await?;
        if !self.is_single() {
            self.save_backups();
        }
        if let StartAs::Standby(_) = role {
            self.drop_former_slots().await;
        }
        self.announce_start(role, callback);
        Ok(())
    }

    /// Writes what the server reads at its start, and starts it.
    async fn spawn(&self, role: &StartAs) -> Result<Arc<Process>, PostgresError> {
        let mut parameters = self.wanted_parameters();
        let recovery = match role {
            StartAs::Primary => Recovery::Primary,
            StartAs::Standby(upstream) => {
                let control = self.control_data(Freshness::Exact).await?;
                let pending = parameters.raise_for_standby(&control.minimums);
                self.memory().pending_restart = pending_json(&pending);
                self.write_passfile(upstream)?;
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
        self.check_socket_dir()?;
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
        memory.slots = None;
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

    /// A folder for sockets that was set, is absolute and does not exist is made: /run is empty after a restart.
    fn check_socket_dir(&self) -> Result<(), PostgresError> {
        let parameters = self.wanted_parameters();
        let dirs = parameters.get("unix_socket_directories").unwrap_or_default().to_owned();
        if dirs.is_empty() && Path::new(PACKAGED_SOCKETS).parent().is_some_and(files::is_writable) {
            // An empty /run where nobody was root to prepare it; without the folder the server itself says what it lacks.
            let _ = std::fs::create_dir_all(PACKAGED_SOCKETS);
        }
        for dir in dirs.split(',').map(str::trim).filter(|dir| dir.starts_with('/')) {
            let dir = Path::new(dir);
            std::fs::create_dir_all(dir).map_err(|cause| {
                PostgresError::failed(format!("make {} of unix_socket_directories", dir.display()), cause)
            })?;
            if !files::is_writable(dir) {
                return Err(PostgresError::Refused(format!(
                    "unix_socket_directories: {} is not writable for the user that PostgreSQL runs as",
                    dir.display()
                )));
            }
        }
        Ok(())
    }

    fn announce_start(&self, role: &StartAs, callback: Option<Callback>) {
        let now = match role {
            StartAs::Primary => MemberRole::Primary,
            StartAs::Standby(_) => MemberRole::Replica,
        };
        let before = self.memory().told_role.replace(now);
        let changed = before.is_some_and(|before| before != now);
        let callback = callback.map(|callback| if changed { Callback::RoleChange } else { callback });
        if let Some(callback) = callback {
            self.fire(callback, now);
        }
    }

    pub(super) fn fire(&self, callback: Callback, role: MemberRole) {
        self.callbacks.fire(callback, role, &self.config(), &self.env);
    }

    /// The role as callbacks tell it.
    pub(super) fn told_role(&self) -> MemberRole {
        match self.last_role() {
            LastRole::Primary => MemberRole::Primary,
            LastRole::Standby => MemberRole::Replica,
        }
    }

    pub(super) async fn stop_server(
        &self,
        mode: StopMode,
        limit: Duration,
        announce: Announce,
    ) -> Result<Option<Lsn>, PostgresError> {
        let was_primary = self.last_role() == LastRole::Primary;
        let Some(process) = self.postmaster() else {
            self.processes.kill_orphans(Starts::Impossible).await;
            let wants_position = was_primary && mode != StopMode::Immediate;
            // What was asked for has come about already; a directory that tells nothing is no failure of the stop.
            return Ok(if wants_position { self.shutdown_position(None).await.unwrap_or(None) } else { None });
        };
        if mode == StopMode::CheckpointThenFast {
            match tokio::time::timeout(limit, self.checkpoint_now()).await {
                Ok(Ok(())) => (),
                Ok(Err(error)) => tracing::warn!("cannot checkpoint before the stop: {error}"),
                Err(_) => tracing::warn!("the checkpoint before the stop took longer than {limit:?}"),
            }
        }
        let archives = if was_primary && mode != StopMode::Immediate { self.let_go().await } else { None };
        self.end_postmaster(&process, mode, limit).await?;
        self.close_sessions().await;
        {
            let mut memory = self.memory();
            memory.postmaster = None;
            memory.pending_restart = Map::new();
        }
        if announce == Announce::Yes {
            self.fire(Callback::Stop, self.told_role());
        }
        if was_primary && mode != StopMode::Immediate { self.shutdown_position(archives).await } else { Ok(None) }
    }

    /// Lets go of standbys that would hold the shutdown up. Whether the server archives; `None`: no answer.
    async fn let_go(&self) -> Option<Switch> {
        let asked = async {
            let session = self.session("stop", PREPARATION).await.ok()?;
            let rows = session.rows(LET_GO).await.ok()?;
            let row = rows.first()?;
            if let Some(count) = row.get(1).filter(|count| *count != "0") {
                tracing::warn!("closing the connections of {count} standbys that read nothing any more");
            }
            row.get(0).map(|mode| Switch::from(mode != "off"))
        };
        tokio::time::timeout(PREPARATION, asked).await.ok().flatten()
    }

    /// Signals, and escalates until nothing is left: fast, immediate, kill.
    async fn end_postmaster(&self, process: &Process, mode: StopMode, limit: Duration) -> Result<(), PostgresError> {
        let steps = match mode {
            StopMode::CheckpointThenFast | StopMode::Fast => {
                &[(Signal::SIGINT, limit), (Signal::SIGQUIT, ESCALATION)][..]
            }
            StopMode::Immediate => &[(Signal::SIGQUIT, ESCALATION)][..],
        };
        for (signal, limit) in steps {
            // An error means that it has ended meanwhile; the wait finds that out.
            let _ = process.signal(*signal);
            // One that is stopped (SIGSTOP) would not see the signal.
            match self.wait_end(process, *limit).await {
                Waited::Ended => return self.nothing_left().await,
                Waited::InOrder => {
                    tracing::info!("PostgreSQL has shut down; not waiting for its standbys and archiver")
                }
                Waited::TooLong => tracing::warn!("PostgreSQL did not end within {limit:?} of {signal}"),
            }
        }
        let killed = process::kill_family(process).await;
        if !killed {
            return Err(PostgresError::failed("stop PostgreSQL", "its processes do not end even when killed"));
        }
        self.nothing_left().await
    }

    async fn wait_end(&self, process: &Process, limit: Duration) -> Waited {
        let began = self.now();
        let mut in_order_since = None;
        loop {
            if process.ended_within(LOOK.min(limit)).await {
                return Waited::Ended;
            }
            let now = self.now();
            if in_order_since.is_none() && self.is_in_order().await {
                in_order_since = Some(now);
            }
            match in_order_since {
                Some(since) if now.since(since) >= PARTING => return Waited::InOrder,
                _ if now.since(began) >= limit => return Waited::TooLong,
                Some(_) | None => (),
            }
        }
    }

    /// Whether the control file says that the server has done its last checkpoint.
    async fn is_in_order(&self) -> bool {
        let control = self.control_data(Freshness::Exact).await;
        let state = control.map(|control| control.control.state);
        matches!(state, Ok(ClusterState::ShutDown | ClusterState::ShutDownInRecovery))
    }

    async fn nothing_left(&self) -> Result<(), PostgresError> {
        match self.processes.kill_orphans(Starts::Impossible).await {
            true => Ok(()),
            false => Err(PostgresError::failed("stop PostgreSQL", "a process of its does not end even when killed")),
        }
    }

    /// Where a cleanly stopped primary's WAL ends, as far as standbys are expected to have it (`postgres.md` 9.5).
    /// `archives`: whether the server did, if it said so.
    async fn shutdown_position(&self, archives: Option<Switch>) -> Result<Option<Lsn>, PostgresError> {
        let control = self.control_data(Freshness::Exact).await?;
        if control.control.state != ClusterState::ShutDown {
            return Ok(None);
        }
        let checkpoint = control.control.checkpoint;
        if !archives.map_or_else(|| self.may_archive(), Switch::is_on) {
            return Ok(Some(checkpoint));
        }
        let timeline = control.control.timeline;
        let record = self.wal_record(timeline.0, checkpoint).await;
        let before = match record.filter(|record| record.is_shutdown_checkpoint_at(checkpoint)) {
            Some(record) => self.wal_record(timeline.0, record.prev).await,
            None => None,
        };
        Ok(Some(history::last_position(checkpoint, before.as_ref())))
    }

    /// With archiving on, a shutdown switches to a new segment first.
    fn may_archive(&self) -> bool {
        let parameters = self.wanted_parameters();
        // The user's own file may say so too; asking costs less than being wrong.
        parameters.get("archive_mode").is_none_or(|mode| mode != "off")
            && self.data_dir.join("pg_wal/archive_status").read_dir().is_ok_and(|mut files| files.next().is_some())
    }

    async fn wal_record(&self, timeline: u32, at: Lsn) -> Option<history::WalRecord> {
        let run = self.program("pg_waldump").in_c_locale().arg("-p").arg(self.data_dir.join("pg_wal"));
        let run = run.args(["-t", &timeline.to_string(), "-s", &at.to_string(), "-n", "1"]);
        let ended = run.run(Some(Duration::from_secs(10)), &mut |_| ()).await.ok()?;
        history::WalRecord::parse(&String::from_utf8_lossy(&ended.stdout))
    }

    /// As `pg_ctl promote` does it: a file, a signal, and waiting until recovery has ended. What was received and not
    /// replayed yet is replayed first, however long that takes: `limit` is for a promotion that does not get on.
    pub(super) async fn promote_server(&self, limit: Duration) -> Result<(), PostgresError> {
        let attempted = "promote PostgreSQL";
        let process = self.postmaster().ok_or_else(|| PostgresError::failed(attempted, "it does not run"))?;
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
            memory.slots = None;
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
