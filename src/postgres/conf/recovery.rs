//! The settings that make a server a standby, and what it takes to bring a running one to them.
//!
//! For servers from 13 on: the settings stand in `postgresql.conf`, the role in `standby.signal`.

use std::collections::BTreeMap;

use crate::config::{ServerSettings, StandbyRecovery, units};
use crate::core::local::RecoverySignal;
use crate::postgres::version::Version;

use super::conninfo::Conninfo;
use super::rules::{NumberKind, Rule};
use super::validate::{Done, Warning, check_value};
use super::{Parameters, parameters_of};

/// Every recovery parameter that some version or Patroni's configuration knows. They never stand in the main
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
/// as a whole. Where to stream from and where to stop is the agent's to say, so that those are left out silently.
pub fn user_settings(settings: &ServerSettings, version: Version) -> (Parameters, Vec<Warning>) {
    let mut user = parameters_of(&settings.parameters);
    user.retain(|name, _| is_recovery_parameter(name));
    if user.is_empty() {
        user = settings.recovery_conf.as_ref().map(parameters_of).unwrap_or_default();
    }
    translate_trigger_file(&mut user, version);
    user.retain(|name, _| !is_agents(name));
    let mut warnings = Vec::new();
    user.retain(|name, value| {
        let Err(done) = check(name, value) else { return true };
        let used = if let Done::Clamped(used) = &done { Some(used.clone()) } else { None };
        warnings.push(Warning { name: name.clone(), value: value.clone(), done });
        used.map(|used| *value = used).is_some()
    });
    (user, warnings)
}

/// What a standby cluster says goes before the user's own. The delay is that of its leader alone, which the others follow.
pub fn add_standby_cluster(user: &mut Parameters, standby: &StandbyRecovery, is_leader: bool) {
    let delay = standby.min_apply_delay.as_ref().filter(|_| is_leader);
    let settings = [
        ("restore_command", standby.restore_command.as_ref()),
        ("archive_cleanup_command", standby.archive_cleanup_command.as_ref()),
        ("recovery_min_apply_delay", delay),
    ];
    for (name, value) in settings {
        if let Some(value) = value {
            user.insert(name.to_owned(), value.clone());
        }
    }
}

/// Servers up to 15 know `promote_trigger_file`, later ones nothing of the kind.
fn translate_trigger_file(user: &mut Parameters, version: Version) {
    let file = user.remove("trigger_file");
    let file = user.remove("promote_trigger_file").or(file);
    if let Some(file) = file.filter(|_| version.major() < 16) {
        user.insert("promote_trigger_file".to_owned(), file);
    }
}

fn is_agents(name: &str) -> bool {
    name.starts_with("recovery_target")
        || matches!(name, "primary_conninfo" | "primary_slot_name" | "standby_mode" | "pause_at_recovery_target")
}

fn check(name: &str, value: &str) -> Result<(), Done> {
    if !is_recovery_parameter(name) {
        return Err(Done::DroppedName);
    }
    if value.contains('\0') {
        return Err(Done::DroppedValue);
    }
    match name {
        "recovery_min_apply_delay" => check_value(value, MIN_APPLY_DELAY),
        _ => Ok(()),
    }
}

const MIN_APPLY_DELAY: Rule =
    Rule::Number { kind: NumberKind::Integer, unit: Some("ms"), min: 0.0, max: i32::MAX as f64 };

/// Where a standby is to stream from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub conninfo: Conninfo,
    /// `None`: without a slot.
    pub slot: Option<String>,
}

/// The recovery block of a standby that streams from `source`, or from nobody. That it streams from nobody is written
/// as well: the user's own file could say otherwise. Not for logs: the password of a certificate's key stands in it.
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

/// What a running standby follows now. Not for logs: somebody's password may stand in its `primary_conninfo`.
pub struct RunningRecovery {
    pub signal: RecoverySignal,
    /// Recovery parameters in `pg_settings`, by name. They are what the server has read, and a change of them is what
    /// makes it connect anew; what a WAL receiver is connected with at the moment adds nothing to that.
    pub settings: BTreeMap<String, RunningSetting>,
    pub passfile: Passfile,
}

#[derive(Clone, PartialEq, Eq)]
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
        RecoverySignal::Present | RecoverySignal::BackupLabel | RecoverySignal::RewindUnfinished => {}
    }
    let streams = wanted.get("primary_conninfo").is_some_and(|conninfo| !conninfo.is_empty());
    let change = |name: &&str| {
        let wanted = wanted.get(*name).map(String::as_str);
        let is_same = match *name {
            "primary_conninfo" => is_same_conninfo(wanted.unwrap_or_default(), running, version),
            "primary_slot_name" => !streams || wanted.unwrap_or_default() == running.setting(name),
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

/// Targets are read at a start only; `restore_command` can be reloaded from 14 on, everything else from 13 on.
fn change_of(name: &str, version: Version) -> Change {
    let at_start = name.starts_with("recovery_target") || name == "restore_command" && version.major() < 14;
    if at_start { Change::Restart } else { Change::Reload }
}

impl RunningRecovery {
    fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", |setting| &setting.setting)
    }
}

fn is_same_conninfo(wanted: &str, running: &RunningRecovery, version: Version) -> bool {
    let configured = running.setting("primary_conninfo");
    if wanted.is_empty() || configured.is_empty() {
        return wanted == configured;
    }
    // Before 17 a standby made no use of the database's name.
    let ignored: &[&str] = if version.major() >= 17 { &[] } else { &["dbname"] };
    let pair = Conninfo::parse(wanted).zip(Conninfo::parse(configured));
    let is_same = pair.is_some_and(|(wanted, configured)| wanted.is_satisfied_by(&configured, ignored, version));
    is_same && running.passfile == Passfile::Matches
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const V15: Version = Version::new(15, 0);

    fn map(value: &Value) -> serde_json::Map<String, Value> {
        value.as_object().expect("a map").clone()
    }

    fn user(parameters: Value, recovery_conf: Value, major: u32) -> (Parameters, Vec<Done>) {
        let settings = ServerSettings {
            parameters: map(&parameters),
            recovery_conf: Some(map(&recovery_conf)),
            ..ServerSettings::default()
        };
        let (user, warnings) = user_settings(&settings, Version::new(major, 0));
        (user, warnings.into_iter().map(|warning| warning.done).collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Parameters {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn source(conninfo: &str) -> Source {
        Source { conninfo: Conninfo::parse(conninfo).expect("well formed"), slot: Some("node_2".to_owned()) }
    }

    const CONNINFO: &str = "dbname=postgres user=r passfile=/p host=h port=1 sslmode=prefer application_name=n2 \
                            gssencmode=prefer channel_binding=prefer";

    /// A server that runs with these settings, all from our own file.
    fn running(settings: &Parameters) -> RunningRecovery {
        let setting = |(name, value): (&String, &String)| {
            (name.clone(), RunningSetting { setting: value.clone(), origin: Origin::Ours })
        };
        let settings = settings.iter().map(setting).collect();
        RunningRecovery { signal: RecoverySignal::Present, settings, passfile: Passfile::Matches }
    }

    #[test]
    fn recovery_parameters_among_the_others_replace_the_section() {
        let section = json!({"restore_command": "a", "archive_cleanup_command": "b"});
        assert_eq!(user(json!({"work_mem": 1}), section.clone(), 15).0.len(), 2);
        let (replaced, _) = user(json!({"Restore_Command": "c", "work_mem": 1}), section, 15);
        assert_eq!(replaced, pairs(&[("restore_command", "c")]));
    }

    #[test]
    fn the_agents_own_and_what_the_server_does_not_know_are_left_out() {
        let section = json!({
            "recovery_target_time": "x", "recovery_target_action": "promote", "primary_conninfo": "x",
            "primary_slot_name": "x", "standby_mode": "on", "recovery_min_apply_delay": "1min", "bogus": 1,
        });
        let expected = (pairs(&[("recovery_min_apply_delay", "1min")]), vec![Done::DroppedName]);
        assert_eq!(user(json!({}), section, 15), expected);
        let negative = user(json!({}), json!({"recovery_min_apply_delay": -5}), 15);
        assert_eq!(negative, (pairs(&[("recovery_min_apply_delay", "0")]), vec![Done::Clamped("0".to_owned())]));
        let nonsense = user(json!({}), json!({"recovery_min_apply_delay": "soon"}), 15);
        assert_eq!(nonsense, (pairs(&[]), vec![Done::DroppedValue]));
    }

    #[test]
    fn the_trigger_file_has_the_name_that_the_version_knows() {
        let known = |major| user(json!({}), json!({"trigger_file": "promote"}), major).0;
        assert_eq!(known(15), pairs(&[("promote_trigger_file", "promote")]));
        assert_eq!(known(16), pairs(&[]));
    }

    #[test]
    fn a_standby_follows_its_source_to_the_latest_timeline() {
        let settings = standby_settings(&pairs(&[("restore_command", "cp")]), Some(&source(CONNINFO)));
        let expected = pairs(&[
            ("primary_conninfo", CONNINFO),
            ("primary_slot_name", "node_2"),
            ("recovery_target", ""),
            ("recovery_target_lsn", ""),
            ("recovery_target_name", ""),
            ("recovery_target_time", ""),
            ("recovery_target_timeline", "latest"),
            ("recovery_target_xid", ""),
            ("restore_command", "cp"),
        ]);
        assert_eq!(settings, expected);
        let alone = standby_settings(&pairs(&[]), None);
        assert_eq!((alone["primary_conninfo"].as_str(), alone["primary_slot_name"].as_str()), ("", ""));
    }

    #[test]
    fn a_server_with_the_wanted_settings_needs_no_change() {
        let wanted = standby_settings(&pairs(&[("recovery_min_apply_delay", "1min")]), Some(&source(CONNINFO)));
        let mut settings = wanted.clone();
        settings.insert("recovery_min_apply_delay".to_owned(), "60000".to_owned());
        settings.insert("recovery_target_action".to_owned(), "pause".to_owned());
        settings.insert("restore_command".to_owned(), String::new());
        let without_defaults = "user=r passfile=/p host=h port=1 application_name=n2 options=x";
        settings.insert("primary_conninfo".to_owned(), without_defaults.to_owned());
        assert_eq!(compare(&wanted, &running(&settings), V15), Change::No);
        let nobody = standby_settings(&pairs(&[]), None);
        assert_eq!(compare(&nobody, &running(&nobody), V15), Change::No);
    }

    #[test]
    fn differences_need_a_reload_and_a_restart_only_where_the_version_says_so() {
        let wanted = standby_settings(&pairs(&[("restore_command", "cp")]), Some(&source(CONNINFO)));
        let with = |name: &str, value: &str, version: u32| {
            let mut settings = wanted.clone();
            settings.insert(name.to_owned(), value.to_owned());
            compare(&wanted, &running(&settings), Version::new(version, 0))
        };
        assert_eq!(with("primary_conninfo", &CONNINFO.replace("host=h", "host=i"), 13), Change::Reload);
        assert_eq!(with("primary_conninfo", "", 13), Change::Reload);
        assert_eq!(with("primary_conninfo", "postgres://h", 15), Change::Reload);
        assert_eq!(with("primary_slot_name", "", 15), Change::Reload);
        assert_eq!(with("restore_command", "scp", 13), Change::Restart);
        assert_eq!(with("restore_command", "scp", 14), Change::Reload);
        assert_eq!(with("recovery_target_name", "x", 15), Change::Restart);
        assert_eq!(with("recovery_target_timeline", "current", 15), Change::Restart);
        assert_eq!(with("primary_conninfo", &CONNINFO.replace("dbname=postgres", "dbname=x"), 16), Change::No);
        assert_eq!(with("primary_conninfo", &CONNINFO.replace("dbname=postgres", "dbname=x"), 17), Change::Reload);
        let nobody = standby_settings(&pairs(&[]), None);
        assert_eq!(compare(&nobody, &running(&wanted), V15), Change::Reload);
    }

    #[test]
    fn a_missing_signal_file_needs_a_restart_and_another_passfile_a_reload() {
        let wanted = standby_settings(&pairs(&[]), Some(&source(CONNINFO)));
        let primary = RunningRecovery { signal: RecoverySignal::None, ..running(&wanted) };
        assert_eq!(compare(&wanted, &primary, V15), Change::Restart);
        let stale = RunningRecovery { passfile: Passfile::Differs, ..running(&wanted) };
        assert_eq!(compare(&wanted, &stale, V15), Change::Reload);
    }

    #[test]
    fn what_the_users_own_file_sets_is_left_to_him() {
        let wanted = standby_settings(&pairs(&[]), Some(&source(CONNINFO)));
        let with = |origin| {
            let mut running = running(&wanted);
            running.settings.insert("restore_command".to_owned(), RunningSetting { setting: "cp".to_owned(), origin });
            compare(&wanted, &running, V15)
        };
        assert_eq!(with(Origin::OtherFile), Change::No);
        assert_eq!(with(Origin::Ours), Change::Reload);
    }
}
