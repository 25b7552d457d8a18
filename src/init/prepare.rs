//! The first stage: what has to be done once, before PID 1 settles down. Ends by executing the program anew, so that
//! `/proc/1/environ` shows no secret and nothing of what was allocated here stays.

use std::ffi::{CString, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::{User, geteuid, getgrouplist};

use super::directories::{self, Owner};
use super::environment::{self, Environment};
use super::exec_args::ExecArgs;
use super::log::{Format, Level, Log, Style};
use super::privileges::Privileges;
use super::{CANNOT_EXECUTE, CONFIGURATION, FATAL, SECOND_STAGE, WalFolders, secret_files, sys};

/// Whom the agent and PostgreSQL run as when we are root.
const USER: &str = "postgres";

/// Does the preparations and executes the second stage; returns an exit code only when that failed.
pub(super) fn prepare(arguments: Vec<OsString>, mut environment: Environment, wal_folders: WalFolders) -> u8 {
    let style = style(&environment);
    let mut log = Log::new(style);
    let user = match geteuid().is_root().then(agent_user).transpose() {
        Ok(user) => user,
        Err(problem) => {
            log.write(Level::Error, format_args!("{problem}"));
            return CONFIGURATION;
        }
    };
    if let Some(user) = &user {
        let wal_folders = wal_folders(&environment, &arguments);
        directories::prepare(&environment, &wal_folders, Owner { uid: user.uid, gid: user.gid }, &mut log);
        set(&mut environment, "HOME", user.dir.clone().into_os_string());
    }
    let of_libpq = environment::of_libpq(&environment);
    if !of_libpq.is_empty() {
        let names = of_libpq.join(", ");
        let what = "libpq environment variables are not passed to PostgreSQL, its programs and hooks";
        log.write(Level::Warning, format_args!("{what}: {names}"));
    }
    let identity = user.map(|user| identity(&user));
    let files = identity.as_ref().map(|agent| secret_files::take_over(&mut environment, agent, &mut log));
    let secrets = match sys::sealed_memfd(c"environment", &environment::pack(&environment)) {
        Ok(secrets) => secrets,
        Err(error) => {
            log.write(Level::Error, format_args!("cannot write the environment to a memory file: {error}"));
            return FATAL;
        }
    };
    let privileges = environment::value(&environment, "TAMADA_NO_NEW_PRIVS").and_then(|word| word.to_str());
    let privileges = Privileges::of(privileges);
    let args = ExecArgs { environment: secrets.as_raw_fd(), identity, style, privileges };
    let mut second = Command::new(program());
    second.arg0(arguments.first().cloned().unwrap_or_else(|| "tamada".into())).arg(SECOND_STAGE).arg(args.to_string());
    second.args(arguments.iter().skip(1)).env_clear().envs(environment::shown(&environment));
    let error = second.exec();
    drop(files);
    log.write(Level::Error, format_args!("cannot re-execute {}: {error}", program().display()));
    CANNOT_EXECUTE
}

/// Our own file. By its name where that still leads to it, so that the process shows its name; through /proc
/// when the file has been replaced.
pub(super) fn program() -> PathBuf {
    const SELF: &str = "/proc/self/exe";
    std::fs::read_link(SELF).ok().filter(|path| path.is_file()).unwrap_or_else(|| SELF.into())
}

fn style(environment: &Environment) -> Style {
    let word = |name| environment::value(environment, name).and_then(|value| value.to_str());
    let format = match word("PATRONI_LOG_TYPE") {
        Some(word) if word.eq_ignore_ascii_case("json") => Format::Json,
        Some(_) | None => Format::Plain,
    };
    let level = word("PATRONI_LOG_LEVEL").or_else(|| word("PATRONI_LOGLEVEL")).map_or(Level::Info, Level::from_word);
    Style { format, level }
}

fn agent_user() -> Result<User, String> {
    match User::from_name(USER) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(format!(
            "user {USER} does not exist, and the agent and PostgreSQL cannot run as root: create it, \
             or start the container with --user"
        )),
        Err(error) => Err(format!("cannot look up the user {USER}: {error}")),
    }
}

/// The user's groups go with it: Debian's `ssl-cert` opens the keys of certificates.
fn identity(user: &User) -> sys::Identity {
    let name = CString::new(user.name.as_str()).unwrap_or_default();
    let groups = getgrouplist(&name, user.gid).unwrap_or_else(|_| vec![user.gid]);
    sys::Identity {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
    }
}

fn set(environment: &mut Environment, name: &str, value: OsString) {
    environment.retain(|(other, _)| other != name);
    environment.push((name.into(), value));
}
