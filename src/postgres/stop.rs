//! The stop of the local server, and where a stopped primary's WAL ends.
//!
//! The server's end is told by the kernel. What it waits for itself (standbys, its archiver) is not waited for here once
//! its data directory is in order.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Map;

use super::callbacks::Callback;
use super::control::Freshness;
use super::local::LocalPostgres;
use super::postmaster::Starts;
use super::process::{self, Process};
use super::senders::{LastCheckpoint, Senders};
use super::server::Announce;
use super::{Instance, PostgresError, history};
use crate::core::local::{ClusterState, LastRole, StopMode};
use crate::core::policy::Switch;
use crate::core::units::{Lsn, Seconds};

/// How long after each escalation of a stop the next one waits.
const ESCALATION: Duration = Duration::from_secs(5);
/// How long a server whose data directory is in order may still wait for its standbys and its archiver.
const PARTING: Duration = Duration::from_secs(3);
/// How long a server may take to tell what its stop needs to know.
const PREPARATION: Duration = Duration::from_millis(500);
/// Whether it archives, and the senders to programs that are no standbys, as pg_receivewal: they reply, but replay nothing.
const BEFORE: &str = "SELECT current_setting('archive_mode'), (SELECT string_agg(pid::text, ' ') FROM pg_stat_replication \
    WHERE replay_lsn IS NULL AND reply_time IS NOT NULL)";
/// How often a server that is ending is looked at; its end itself is told at once.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct BeforeStop {
    /// Whether the server archives its WAL.
    archives: Option<Switch>,
    /// Senders to programs that are no standbys.
    no_standbys: Vec<i32>,
}

/// What is owed to others by a primary that stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    /// Its last WAL, and the position at which it ends.
    LastWal,
    /// The lock is about to end, and nobody takes over from this server: only its end counts.
    Nothing,
}

/// How a wait for the server's end ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    Ended,
    /// Its data directory is in order, and what is left of it waits for others.
    InOrder,
    TooLong,
}

impl LocalPostgres {
    pub(super) async fn stop_server(
        &self,
        mode: StopMode,
        limit: Duration,
        announce: Announce,
    ) -> Result<Option<Lsn>, PostgresError> {
        let is_primary = self.last_role() == LastRole::Primary && mode != StopMode::Immediate;
        self.end_server(mode, limit, announce, if is_primary { Owed::LastWal } else { Owed::Nothing }).await
    }

    /// A stop of a primary whose lock is about to end.
    pub(super) async fn demote_server(&self, mode: StopMode, limit: Duration) -> Result<(), PostgresError> {
        self.end_server(mode, limit, Announce::Yes, Owed::Nothing).await.map(drop)
    }

    async fn end_server(
        &self,
        mode: StopMode,
        limit: Duration,
        announce: Announce,
        owed: Owed,
    ) -> Result<Option<Lsn>, PostgresError> {
        let began = self.now();
        let wants_position = owed == Owed::LastWal;
        let Some(process) = self.postmaster() else {
            self.processes.kill_orphans(Starts::Impossible).await;
            // What was asked for has come about already; a directory that tells nothing is no failure of the stop.
            return Ok(if wants_position { self.shutdown_position(None).await.unwrap_or(None) } else { None });
        };
        if mode == StopMode::CheckpointThenFast {
            self.checkpoint_before_stop(limit).await;
        }
        let before = if wants_position { self.before_stop().await } else { BeforeStop::default() };
        let mut senders = match wants_position {
            true => Senders::of(process.pid(), &before.no_standbys, self.now()),
            false => Senders::default(),
        };
        self.end_postmaster(&process, mode, limit.saturating_sub(self.now().since(began)), &mut senders).await?;
        self.close_sessions().await;
        {
            let mut memory = self.memory();
            memory.postmaster = None;
            memory.pending_restart = Map::new();
        }
        if announce == Announce::Yes {
            self.fire(Callback::Stop, self.told_role());
        }
        if wants_position { self.shutdown_position(before.archives).await } else { Ok(None) }
    }

    /// What a running primary can tell for its stop; nothing without an answer.
    async fn before_stop(&self) -> BeforeStop {
        let asked = async {
            let session = self.session("stop", PREPARATION).await.ok()?;
            let rows = session.rows(BEFORE).await.ok()?;
            let row = rows.first()?;
            let pids = row.get(1).unwrap_or_default().split(' ').filter_map(|pid| pid.parse().ok());
            let archives = row.get(0).map(|mode| Switch::from(mode != "off"));
            Some(BeforeStop { archives, no_standbys: pids.collect() })
        };
        tokio::time::timeout(PREPARATION, asked).await.ok().flatten().unwrap_or_default()
    }

    /// Signals, and escalates until nothing is left: fast, immediate, kill.
    async fn end_postmaster(
        &self,
        process: &Process,
        mode: StopMode,
        limit: Duration,
        senders: &mut Senders,
    ) -> Result<(), PostgresError> {
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
            match self.wait_end(process, *limit, senders).await {
                Waited::Ended => return self.nothing_left().await,
                Waited::InOrder => {
                    tracing::info!("PostgreSQL has shut down; not waiting for its standbys and archiver")
                }
                Waited::TooLong => tracing::warn!("PostgreSQL did not end within {} of {signal}", Seconds(*limit)),
            }
        }
        let killed = process::kill_family(process).await;
        if !killed {
            return Err(PostgresError::failed("stop PostgreSQL", "its processes do not end even when killed"));
        }
        self.nothing_left().await
    }

    /// As long as a standby receives what nobody else has, the server is left to send it.
    async fn wait_end(&self, process: &Process, limit: Duration, senders: &mut Senders) -> Waited {
        let began = self.now();
        let mut checkpoint_at = None;
        loop {
            if process.ended_within(LOOK.min(limit)).await {
                return Waited::Ended;
            }
            let now = self.now();
            if checkpoint_at.is_none() && self.is_in_order().await {
                checkpoint_at = Some(now);
            }
            let checkpoint = checkpoint_at.map_or(LastCheckpoint::Awaited, |_| LastCheckpoint::Written);
            senders.look(now, checkpoint);
            match checkpoint_at.and_then(|at| senders.settled_since(at)) {
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

    /// Where a cleanly stopped primary's WAL ends, as far as standbys are expected to have it.
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
}
