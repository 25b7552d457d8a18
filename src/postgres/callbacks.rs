//! The five callbacks: a user's command line with `action role scope` appended.
//!
//! Never awaited. At most one runs at a time, and a newer one ends an older one with all its children, those too that it
//! has left behind; where killing fails, the newest one waits. `on_reload` has a slot of its own. Their output goes where
//! ours goes, their exit status is looked at for the log alone.

use std::ffi::OsString;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::kernel::{self, Streams};
use super::process::{self, Process};
use crate::config::Config;
use crate::core::view::MemberRole;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callback {
    Start,
    Stop,
    Restart,
    Reload,
    RoleChange,
}

impl Callback {
    fn as_str(self) -> &'static str {
        match self {
            Callback::Start => "on_start",
            Callback::Stop => "on_stop",
            Callback::Restart => "on_restart",
            Callback::Reload => "on_reload",
            Callback::RoleChange => "on_role_change",
        }
    }

    fn command(self, config: &Config) -> &[String] {
        let callbacks = &config.postgres.callbacks;
        match self {
            Callback::Start => &callbacks.on_start,
            Callback::Stop => &callbacks.on_stop,
            Callback::Restart => &callbacks.on_restart,
            Callback::Reload => &callbacks.on_reload,
            Callback::RoleChange => &callbacks.on_role_change,
        }
    }
}

/// Whether `role` in a callback's arguments is shown as `primary` for one just promoted.
fn role_word(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Promoted => MemberRole::Primary.as_str(),
        MemberRole::Primary
        | MemberRole::StandbyLeader
        | MemberRole::Replica
        | MemberRole::Demoted
        | MemberRole::Uninitialized => role.as_str(),
    }
}

/// Callbacks that run: the newest of each slot.
#[derive(Default)]
pub(super) struct Callbacks {
    role: Arc<Mutex<Slot>>,
    reload: Arc<Mutex<Slot>>,
}

#[derive(Default)]
struct Slot {
    /// The callback that was started last, and after its end what it has left behind in its session.
    running: Vec<Process>,
    /// What is started when that has gone. `Some` while somebody waits for it.
    waiting: Option<Next>,
    /// How many were started.
    count: u64,
}

struct Next {
    command: std::process::Command,
    callback: Callback,
}

impl Callbacks {
    /// Starts the command, after ending the one before it in its slot. Returns at once.
    pub(super) fn fire(&self, callback: Callback, role: MemberRole, config: &Config, env: &[(OsString, OsString)]) {
        let [program, args @ ..] = callback.command(config) else { return };
        let mut command = std::process::Command::new(program);
        command.args(args).args([callback.as_str(), role_word(role), &config.scope]);
        command.env_clear().envs(env.iter().map(|(key, value)| (key, value))).stdin(Stdio::null());
        kernel::detach(&mut command, Streams::AsSet, Vec::new());
        let shared = if callback == Callback::Reload { &self.reload } else { &self.role };
        let mut slot = lock(shared);
        let next = Next { command, callback };
        if let Some(waiting) = &mut slot.waiting {
            // Whoever waits starts the newest.
            *waiting = next;
            return;
        }
        let killed = slot.end_running(callback);
        if killed.iter().all(Process::ends_at_once) {
            slot.start(next, shared);
            return;
        }
        tracing::warn!("callback {} waits for the end of the one before it, which was killed", callback.as_str());
        slot.waiting = Some(next);
        let shared = shared.clone();
        tokio::spawn(async move {
            for process in &killed {
                // An error: it cannot be waited for, and was killed all the same.
                let _ = process.ended().await;
            }
            let mut slot = lock(&shared);
            if let Some(next) = slot.waiting.take() {
                slot.start(next, &shared);
            }
        });
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    /// Kills what runs, with all of its family and session.
    fn end_running(&mut self, by: Callback) -> Vec<Process> {
        let running: Vec<Process> = self.running.drain(..).filter(Process::is_alive).collect();
        if !running.is_empty() {
            tracing::warn!("what an earlier callback has left running is killed for {}", by.as_str());
        }
        running.iter().flat_map(process::kill_session_now).collect()
    }

    fn start(&mut self, next: Next, shared: &Arc<Mutex<Slot>>) {
        let name = next.callback.as_str();
        let program = next.command.get_program().to_string_lossy().into_owned();
        let mut child = match tokio::process::Command::from(next.command).spawn() {
            Ok(child) => child,
            Err(error) => return tracing::warn!("cannot run the callback {name}, {program}: {error}"),
        };
        self.count += 1;
        let (count, shared) = (self.count, shared.clone());
        let leader = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(|pid| Process::of_child(pid).ok());
        let watched = leader.as_ref().and_then(|leader| leader.try_clone().ok());
        self.running = leader.into_iter().collect();
        tokio::spawn(async move {
            if let Some(leader) = watched {
                let _ = leader.ended().await;
                let mut slot = lock(&shared);
                if slot.count == count {
                    // Not yet reaped, so that the session's number is its own.
                    slot.running = process::session_of(leader.pid());
                }
            }
            match child.wait().await {
                Ok(status) if status.success() => tracing::debug!("callback {name} has ended"),
                Ok(status) => tracing::warn!("callback {name}, {program}, ended with {status}"),
                Err(error) => tracing::warn!("cannot wait for the callback {name}: {error}"),
            }
        });
    }
}
