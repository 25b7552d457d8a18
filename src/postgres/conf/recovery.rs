//! The settings that make a server a standby, and what it takes to bring a running one to them.
//!
//! For servers from 13 on: the settings stand in `postgresql.conf`, the role in `standby.signal`.

use std::collections::BTreeMap;

use crate::config::{ServerSettings, units};
use crate::core::local::RecoverySignal;
use crate::postgres::version::Version;

use super::conninfo::Conninfo;
use super::{Parameters, parameters_of};

/// Every recovery parameter that some version or the reference's configuration knows. They never stand in the main
/// block.
const NAMES: [&str; 18] = [
    "archive_cleanup_command",
    "pause_at_recovery_target",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "restore_command",
    "standby_mode",
    "trigger_file",
];

/// Emptied for a standby, so that no target of a former recovery stops it.
const TARGETS: [&str; 5] =
    ["recovery_target", "recovery_target_name", "recovery_target_time", "recovery_target_xid", "recovery_target_lsn"];

/// Whether this name, in lower case, belongs into the recovery block.
pub fn is_recovery_parameter(name: &str) -> bool {
    NAMES.contains(&name)
}

/// The user's own recovery settings: recovery parameters among the ordinary ones replace the section `recovery_conf`
/// as a whole. Only what this version knows, and only values that it accepts; nothing that says where to stream from
/// or where to stop, which is the agent's to say.
pub fn user_settings(settings: &ServerSettings, version: Version) -> Parameters {
    let mut user = parameters_of(&settings.parameters);
    user.retain(|name, _| is_recovery_parameter(name));
    if user.is_empty() {
        user = settings.recovery_conf.as_ref().map(parameters_of).unwrap_or_default();
    }
    if version.major() < 16 {
        if let Some(file) = user.remove("trigger_file") {
            user.entry("promote_trigger_file".to_owned()).or_insert(file);
        }
    } else {
        user.remove("promote_trigger_file");
    }
    let is_ours = |name: &str| {
        name.starts_with("recovery_target") || matches!(name, "primary_conninfo" | "primary_slot_name" | "standby_mode")
    };
    let is_writable = |name: &str| !matches!(name, "pause_at_recovery_target" | "trigger_file");
    user.retain(|name, value| {
        is_recovery_parameter(name) && !is_ours(name) && is_writable(name) && is_valid(name, value)
    });
    user
}

fn is_valid(name: &str, value: &str) -> bool {
    let delay = || units::parse_int(value, Some("ms")).is_some_and(|delay| (0..=i64::from(i32::MAX)).contains(&delay));
    !value.contains('\0') && (name != "recovery_min_apply_delay" || delay())
}

/// Where a standby is to stream from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub conninfo: Conninfo,
    /// `None`: without a slot.
    pub slot: Option<String>,
}

/// The recovery block of a standby that streams from `source`, or from nobody. That it streams from nobody is written
/// as well: the user's own file could say otherwise.
pub fn standby_settings(user: &Parameters, source: Option<&Source>) -> Parameters {
    let mut settings = user.clone();
    let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
    for target in TARGETS {
        set(target, String::new());
    }
    set("recovery_target_timeline", "latest".to_owned());
    set("primary_conninfo", source.map_or_else(String::new, |source| source.conninfo.to_string()));
    set("primary_slot_name", source.and_then(|source| source.slot.clone()).unwrap_or_default());
    settings
}

/// What it takes to make a running server follow its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    No,
    Reload,
    Restart,
}

/// What a running standby follows now.
#[derive(Clone, Debug)]
pub struct RunningRecovery {
    pub signal: RecoverySignal,
    /// Recovery parameters in `pg_settings`, by name.
    pub settings: BTreeMap<String, RunningSetting>,
    /// The row of `pg_stat_wal_receiver` if a receiver runs.
    pub receiver: Option<Receiver>,
    pub passfile: Passfile,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningSetting {
    /// `setting` of `pg_settings`, numbers without their unit (milliseconds for the only one).
    pub setting: String,
    pub origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The default, our file, or `postgresql.auto.conf`.
    Ours,
    /// A file that the user includes.
    OtherFile,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    pub conninfo: String,
    pub slot: Option<String>,
}

/// Whether the password file says what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passfile {
    /// Or none is used.
    Matches,
    Differs,
}

/// What has to happen so that a running server follows `wanted` (of [`standby_settings`]).
pub fn compare(wanted: &Parameters, running: &RunningRecovery, version: Version) -> Change {
    match running.signal {
        RecoverySignal::None => return Change::Restart,
        RecoverySignal::Present => {}
    }
    let streams = wanted.get("primary_conninfo").is_some_and(|conninfo| !conninfo.is_empty());
    let change = |name: &&str| {
        let wanted = wanted.get(*name).map(String::as_str);
        let is_same = match *name {
            "primary_conninfo" => is_same_conninfo(wanted.unwrap_or_default(), running, version),
            "primary_slot_name" => !streams || wanted.unwrap_or_default() == running.slot(),
            name => is_same_setting(name, wanted, running.settings.get(name)),
        };
        if is_same { Change::No } else { change_of(name, version) }
    };
    NAMES.iter().filter(|name| is_compared(name)).map(change).max().unwrap_or(Change::No)
}

fn is_compared(name: &str) -> bool {
    !matches!(
        name,
        "pause_at_recovery_target"
            | "recovery_target_inclusive"
            | "recovery_target_action"
            | "standby_mode"
            | "trigger_file"
    )
}

/// `restore_command` can be reloaded from 14 on, everything else that is compared here from 13 on.
fn change_of(name: &str, version: Version) -> Change {
    if name == "restore_command" && version.major() < 14 { Change::Restart } else { Change::Reload }
}

impl RunningRecovery {
    fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", |setting| &setting.setting)
    }

    /// The receiver's slot says what is in use; after a reload the settings may be ahead of it.
    fn slot(&self) -> &str {
        match &self.receiver {
            Some(receiver) => receiver.slot.as_deref().unwrap_or_default(),
            None => self.setting("primary_slot_name"),
        }
    }
}

fn is_same_conninfo(wanted: &str, running: &RunningRecovery, version: Version) -> bool {
    let configured = running.setting("primary_conninfo");
    if wanted.is_empty() || configured.is_empty() {
        return wanted == configured && running.receiver.is_none();
    }
    let Some(wanted) = Conninfo::parse(wanted) else { return false };
    let fits = |current: &str, ignored: &[&str]| {
        Conninfo::parse(current).is_some_and(|current| wanted.is_satisfied_by(&current, ignored, version))
    };
    // A receiver masks its secrets, and connects to no database, whatever its settings say.
    let in_use = match &running.receiver {
        Some(receiver) => fits(&receiver.conninfo, &["dbname", "password", "sslpassword"]),
        None => true,
    };
    let ignored: &[&str] = if version.major() >= 17 { &[] } else { &["dbname"] };
    in_use && fits(configured, ignored) && running.passfile == Passfile::Matches
}

/// A parameter that is not wanted is to have its default, unless the user's own file sets it.
fn is_same_setting(name: &str, wanted: Option<&str>, running: Option<&RunningSetting>) -> bool {
    let Some(running) = running else { return wanted.is_none_or(str::is_empty) };
    let may_be_the_users = matches!(
        name,
        "archive_cleanup_command"
            | "promote_trigger_file"
            | "recovery_end_command"
            | "recovery_min_apply_delay"
            | "restore_command"
    );
    let current = running.setting.as_str();
    match wanted {
        None if may_be_the_users && running.origin == Origin::OtherFile => true,
        None if name == "recovery_min_apply_delay" => matches!(current, "" | "0"),
        None => current.is_empty(),
        Some(wanted) if name == "recovery_min_apply_delay" => {
            units::parse_int(wanted, Some("ms")) == units::parse_int(current, Some("ms"))
        }
        Some(wanted) => wanted == current,
    }
}
