//! The five callbacks: a user's command line with `action role scope` appended.
//!
//! Never awaited. At most one runs at a time, and a newer one ends an older one with all its children; `on_reload` has
//! a slot of its own. Their output goes where ours goes, their exit status is looked at for the log alone.

use std::ffi::OsString;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

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
    role: Mutex<Option<Process>>,
    reload: Mutex<Option<Process>>,
}

impl Callbacks {
    /// Starts the command, after ending the one before it in its slot. Returns at once.
    pub(super) fn fire(&self, callback: Callback, role: MemberRole, config: &Config, env: &[(OsString, OsString)]) {
        let [program, args @ ..] = callback.command(config) else { return };
        let slot = if callback == Callback::Reload { &self.reload } else { &self.role };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let former = slot.take().filter(Process::is_alive);
        let mut command = std::process::Command::new(program);
        command.args(args).args([callback.as_str(), role_word(role), &config.scope]);
        command.env_clear().envs(env.iter().map(|(key, value)| (key, value))).stdin(Stdio::null());
        kernel::detach(&mut command, Streams::AsSet, Vec::new());
        match former {
            None => *slot = start(command, callback),
            // Its end is not waited for here; the kill comes before the start all the same.
            Some(former) => {
                process::kill_family_now(&former);
                *slot = start(command, callback);
            }
        }
    }
}

fn start(command: std::process::Command, callback: Callback) -> Option<Process> {
    let name = callback.as_str();
    match tokio::process::Command::from(command).spawn() {
        Err(error) => {
            tracing::warn!("cannot run the callback {name}: {error}");
            None
        }
        Ok(mut child) => {
            let process = child.id().and_then(|pid| Process::open(i32::try_from(pid).ok()?));
            tokio::spawn(async move {
                match child.wait().await {
                    Ok(status) if status.success() => tracing::debug!("callback {name} has ended"),
                    Ok(status) => tracing::warn!("callback {name} ended with {status}"),
                    Err(error) => tracing::warn!("cannot wait for the callback {name}: {error}"),
                }
            });
            process
        }
    }
}
