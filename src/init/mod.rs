//! PID 1: starts the agent, reaps orphans, forwards signals, and kills PostgreSQL when the agent did not renew its
//! authority in time.
//!
//! Two stages of the same program. The first (`prepare`) does what needs root or memory once, moves the environment into a
//! memory file and re-executes the program; the second (`supervisor`) is a synchronous loop over a signalfd, the agent's
//! socket and two timers. No tokio, no threads, no allocation in the loop, no unbounded wait.
//!
//! Deliberately not here: PostgreSQL. PID 1 knows one process number, which the agent tells it.
//!
//! **Invariants:** the postmaster is never PID 1 and never a child subreaper; no secret is in the environment or the argument
//! list of a process of ours; past the deadline nothing below PID 1 lives.

mod deadline;
mod directories;
mod environment;
mod exec_args;
mod fence;
mod log;
mod memory;
mod outbox;
mod prepare;
mod privileges;
mod secret_files;
mod state;
mod supervisor;
mod sys;
mod watchdog;

pub use environment::unpack as unpack_environment;

use std::ffi::OsString;
use std::path::PathBuf;

/// The hidden subcommand of the second stage; its argument follows.
pub const SECOND_STAGE: &str = "init";

/// The hidden subcommand that the agent is started with.
pub const AGENT: &str = "agent";

/// Exit codes of our own making; every other one is the agent's.
const FATAL: u8 = 1;
const CONFIGURATION: u8 = 64;
const CANNOT_EXECUTE: u8 = 126;

/// The folders outside of the data directory that the configuration names for WAL. Called as root, with the environment and
/// the arguments of PID 1; only what the agent's user cannot have written may be believed.
pub type WalFolders = fn(&[(OsString, OsString)], &[OsString]) -> Vec<PathBuf>;

/// The first stage. `arguments` begins with the program's name; what follows it is passed on to the agent. Returns only
/// when the second stage could not be started, with the exit code.
pub fn start(arguments: Vec<OsString>, environment: Vec<(OsString, OsString)>, wal_folders: WalFolders) -> u8 {
    prepare::prepare(arguments, environment, wal_folders)
}

/// The second stage, with the arguments that the first one made: name, `SECOND_STAGE`, its argument, the agent's arguments.
/// Returns the exit code when everything is over.
pub fn supervise(arguments: Vec<OsString>) -> u8 {
    supervisor::supervise(arguments)
}
