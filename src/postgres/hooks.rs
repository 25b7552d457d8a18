//! The commands that are waited for: `pre_promote`, which decides, and `before_stop`, which does not.
//!
//! Each runs in a session of its own with a limit, and is ended with all its processes at the limit, when nobody waits for
//! it any more, and when we end. What it leaves behind in its session is ended with it. A command's arguments are in no
//! message: they may hold a password.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::process::Child;

use super::PostgresError;
use super::kernel::{self, Streams};
use super::local::LocalPostgres;
use super::process::{self, Process};
use crate::core::local::LastRole;
use crate::core::units::Seconds;

/// The longest that `before_stop` may take, however much time the stop has itself.
const BEFORE_STOP_MAX: Duration = Duration::from_secs(60);

/// Which stop waits for `before_stop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// One that nothing hurries.
    Always,
    /// A primary that stops in a hurry must not take writes meanwhile.
    AsStandby,
    /// The lock is lost or about to be: the command runs beside the stop.
    Never,
}

impl LocalPostgres {
    fn hook(&self, name: &'static str, words: Option<Vec<String>>) -> Option<Hook> {
        Some(Hook { name, words: words?, env: self.hook_env.clone() })
    }

    /// `Err`: it did not agree, or could not be asked.
    pub(super) async fn ask_pre_promote(&self, limit: Duration) -> Result<(), PostgresError> {
        let words = self.memory().desired.server.pre_promote.clone();
        let Some(hook) = self.hook("pre_promote", words) else { return Ok(()) };
        tracing::info!("running pre_promote before the promotion: {}", hook.program());
        hook.run(limit).await
    }

    /// For a stop that may take `limit` in all. Nothing to be told where no server runs.
    pub(super) async fn run_before_stop(&self, limit: Duration, waits: Waits) {
        let words = self.memory().desired.server.before_stop.clone();
        let Some(hook) = self.hook("before_stop", words).filter(|_| self.postmaster().is_some()) else { return };
        let is_awaited = match waits {
            Waits::Always => true,
            Waits::AsStandby => self.last_role() == LastRole::Standby,
            Waits::Never => false,
        };
        let limit = if is_awaited { (limit / 2).min(BEFORE_STOP_MAX) } else { BEFORE_STOP_MAX };
        let run = async move {
            match hook.run(limit).await {
                Ok(()) => tracing::info!("before_stop has ended"),
                Err(error) => tracing::warn!("{error}; PostgreSQL is stopped all the same"),
            }
        };
        if is_awaited {
            run.await;
        } else {
            tokio::spawn(run);
        }
    }
}

struct Hook {
    name: &'static str,
    /// At least one.
    words: Vec<String>,
    env: Vec<(OsString, OsString)>,
}

impl Hook {
    fn program(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    async fn run(self, limit: Duration) -> Result<(), PostgresError> {
        let (name, attempted) = (self.name, format!("run {} {}", self.name, self.program()));
        let mut command = Command::new(self.program());
        command.args(self.words.iter().skip(1)).env_clear().envs(self.env.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null());
        kernel::detach(&mut command, Streams::AsSet, Vec::new());
        kernel::end_with_us(&mut command);
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn();
        let child = child.map_err(|cause| PostgresError::failed(&attempted, cause))?;
        let leader = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Process::of_child);
        let Some(Ok(leader)) = leader else {
            return Err(PostgresError::failed(&attempted, "cannot watch its process"));
        };
        let mut session = Session { child, leader };
        if tokio::time::timeout(limit, session.leader.ended()).await.is_err() {
            let killed = process::kill_session_now(&session.leader);
            let ended = process::kill_all(&killed).await;
            let end = if ended { "it was killed" } else { "a process of its does not end even when killed" };
            return Err(PostgresError::failed(attempted, format!("no end within {}; {end}", Seconds(limit))));
        }
        let left = process::session_of(session.leader.pid());
        if !left.is_empty() {
            tracing::warn!("{name} left {} processes behind: killed", left.len());
            process::kill_all(&left).await;
        }
        let status = session.child.wait().await.map_err(|cause| PostgresError::failed(&attempted, cause))?;
        if status.success() { Ok(()) } else { Err(PostgresError::failed(attempted, format!("it ended with {status}"))) }
    }
}

/// A child that leads a session; all of it goes when this does.
struct Session {
    child: Child,
    leader: Process,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Reaped: its number may mean another process, and nothing of the session is left.
        if self.child.id().is_some() {
            process::kill_session_now(&self.leader);
        }
    }
}
