//! Chooses what this process is: PID 1, the agent, the operator's command line, or another program.
//!
//! The only place that reads the environment and the arguments, and the only one that ends the process.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use tamada::{init, process, run, wire};

type Environment = Vec<(OsString, OsString)>;

/// Commands of our own, and those of patronictl that are not implemented yet, which the command line refuses. Any other
/// first argument that is not an option is a program to execute.
const CTL_COMMANDS: [&str; 21] = [
    "list",
    "topology",
    "switchover",
    "failover",
    "config",
    "health",
    "restart",
    "reload",
    "reinit",
    "pause",
    "resume",
    "history",
    "version",
    "query",
    "dsn",
    "show-config",
    "edit-config",
    "flush",
    "remove",
    "demote-cluster",
    "promote-cluster",
];

const USAGE: &str = "\
Usage: tamada [run] [FILE.yml]   run a PostgreSQL member, configured by PATRONI_* and TAMADA_* variables
       tamada [OPTIONS] COMMAND  list, history, switchover, failover, restart, reload, reinit, pause, resume, flush,
                                 remove, config, health or version; tamada COMMAND --help tells more
       tamada PROGRAM …          execute another program as it is
";

const FAILED: u8 = 1;
const CONFIGURATION: u8 = 64;
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(match room(&arguments) {
        Room::Start => {
            process::hide();
            init::start(without_run(arguments), std::env::vars_os().collect(), run::wal_folders)
        }
        Room::Supervise => {
            process::hide();
            init::supervise(arguments)
        }
        Room::Agent => {
            process::hide();
            process::keep_files();
            process::save_memory();
            agent(arguments)
        }
        Room::Ctl => {
            process::hide();
            let words = arguments.into_iter().skip(1).collect();
            tamada::ctl::run(words, std::env::vars_os().collect(), run::unusable_settings)
        }
        Room::Other => execute(&arguments),
        Room::Usage => print(USAGE),
        Room::Version => print(concat!("tamada ", env!("CARGO_PKG_VERSION"), "\n")),
        Room::Refused => {
            let option = arguments.get(1).map(|option| option.display().to_string()).unwrap_or_default();
            complain(
                &format!("unknown option {option}: settings are environment variables, see tamada --help"),
                CONFIGURATION,
            )
        }
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Room {
    Start,
    Supervise,
    Agent,
    Ctl,
    /// Somebody else's program.
    Other,
    Usage,
    Version,
    /// An option that we do not have.
    Refused,
}

fn room(arguments: &[OsString]) -> Room {
    let Some(first) = arguments.get(1) else { return Room::Start };
    match first.as_bytes() {
        b"run" => Room::Start,
        b"--help" | b"-h" | b"help" => Room::Usage,
        b"--version" | b"-V" => Room::Version,
        word if word == init::SECOND_STAGE.as_bytes() => Room::Supervise,
        word if word == init::AGENT.as_bytes() => Room::Agent,
        word if word.starts_with(b"-") => match after_options(&arguments[1..]) {
            Some(word) if is_command(word) => Room::Ctl,
            Some(_) | None => Room::Refused,
        },
        _ if is_command(first) => Room::Ctl,
        word if [&b".yml"[..], b".yaml", b".json"].iter().any(|end| word.ends_with(end)) => Room::Start,
        _ => Room::Other,
    }
}

/// The first word after the options that may stand before a command.
fn after_options(mut words: &[OsString]) -> Option<&OsString> {
    const WITH_VALUE: [&str; 6] = ["-c", "--config-file", "-n", "--namespace", "--scope", "--context"];
    loop {
        let (word, rest) = words.split_first()?;
        let text = word.to_str().unwrap_or_default();
        let is_whole = |option: &&str| text.strip_prefix(*option).is_some_and(|rest| rest.starts_with('='));
        words = match text {
            "-k" | "--insecure" => rest,
            option if WITH_VALUE.contains(&option) => rest.get(1..)?,
            _ if WITH_VALUE.iter().any(is_whole) => rest,
            _ => return Some(word),
        };
    }
}

fn is_command(word: &OsString) -> bool {
    CTL_COMMANDS.iter().any(|command| word == command)
}

fn without_run(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_some_and(|first| first == "run") {
        arguments.remove(1);
    }
    arguments
}

/// Moves the socket off standard input, so that no child inherits it, and reads the environment from it.
fn agent(arguments: Vec<OsString>) -> u8 {
    match agents_environment() {
        Ok((socket, environment)) => run::agent(run::Given {
            socket,
            environment,
            inherited: std::env::vars_os().collect(),
            arguments: arguments.into_iter().skip(2).collect(),
        }),
        Err(error) => complain(&format!("the command agent is internal, only PID 1 starts it: {error}"), FAILED),
    }
}

fn agents_environment() -> std::io::Result<(OwnedFd, Environment)> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    nix::unistd::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    let environment = wire::receive_environment(&socket)?;
    Ok((socket, init::unpack_environment(&environment)))
}

/// Becomes the other program, as a shell would: 127 when there is none, 126 when it cannot be executed.
fn execute(arguments: &[OsString]) -> u8 {
    let program = arguments.get(1).map_or(OsStr::new(""), OsString::as_os_str);
    let error = Command::new(program).args(arguments.iter().skip(2)).exec();
    let code = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_EXECUTE };
    complain(&format!("cannot execute {}: {error}", program.display()), code)
}

fn print(text: &str) -> u8 {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => 0,
        Err(_) => FAILED,
    }
}

/// Writes an error to standard error, which may be closed, and returns the exit code.
fn complain(text: &str, code: u8) -> u8 {
    let _ = writeln!(std::io::stderr(), "tamada: {text}");
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_argument_chooses_the_room() {
        let cases: [(&[&str], Room); 22] = [
            (&[], Room::Start),
            (&["run"], Room::Start),
            (&["run", "/etc/whatever"], Room::Start),
            (&["/etc/patroni.yml"], Room::Start),
            (&["init", "3:plain:info:sealed"], Room::Supervise),
            (&["agent"], Room::Agent),
            (&["list", "-f", "json"], Room::Ctl),
            (&["config", "check"], Room::Ctl),
            (&["demote-cluster", "main"], Room::Ctl),
            (&["-c", "patronictl.yaml", "list"], Room::Ctl),
            (&["--config-file", "patronictl.yaml", "config", "show"], Room::Ctl),
            (&["-n", "pg", "--scope=demo", "-k", "--context", "prod", "list"], Room::Ctl),
            (&["remove", "demo"], Room::Ctl),
            (&["--namespace", "list"], Room::Refused),
            (&["bash", "-c", "true"], Room::Other),
            (&["/usr/bin/psql"], Room::Other),
            (&["postgres", "--version"], Room::Other),
            (&[""], Room::Other),
            (&["--version"], Room::Version),
            (&["--help"], Room::Usage),
            (&["-c", "shared_buffers=1GB"], Room::Refused),
            (&["--scope=x"], Room::Refused),
        ];
        for (words, expected) in cases {
            let arguments: Vec<OsString> = ["tamada"].iter().chain(words).map(OsString::from).collect();
            assert_eq!(room(&arguments), expected, "{words:?}");
        }
    }
}
