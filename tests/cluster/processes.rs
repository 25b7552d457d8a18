//! What runs in a member's namespace, as /proc on the host shows it.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// On the host.
    pub pid: i32,
    /// In the namespace.
    pub inside: i32,
    /// The file name of its program.
    pub program: String,
    pub arguments: Vec<String>,
}

/// Every process of the namespace that `init` is the first of.
pub fn in_namespace_of(init: i32) -> Vec<Process> {
    let Ok(namespace) = fs::read_link(format!("/proc/{init}/ns/pid")) else { return Vec::new() };
    let entries = fs::read_dir("/proc").expect("mounted").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_in = |pid: &i32| fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|theirs| theirs == namespace);
    pids.filter(is_in).filter_map(look).collect()
}

fn look(pid: i32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("NSpid:"))?;
    let inside = line.split_whitespace().last()?.parse().ok()?;
    let program: PathBuf = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let program = program.file_name()?.to_string_lossy().into_owned();
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments = arguments.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    Some(Process { pid, inside, program, arguments })
}

pub fn first_child(pid: u32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Children of this process that have ended and that it has not waited for.
pub fn zombies_of(pid: i32) -> usize {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let stats = children.split_whitespace().filter_map(|child| fs::read_to_string(format!("/proc/{child}/stat")).ok());
    stats.filter(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))).count()
}

/// A process that ended meanwhile is none of the caller's concern.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

pub fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
