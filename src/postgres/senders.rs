//! The walsenders of a server that is being stopped: which of them still send, and which of them nobody reads from.
//!
//! The server answers no query any more, so the kernel is asked: what a sender has read of the WAL, and how many bytes
//! wait in its connection. As long as either changes, bytes flow.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::process::{self, Process};
use crate::core::units::Instant;

/// A standby that takes no byte for so long reads nothing.
const SILENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(super) struct Senders {
    open: Vec<Sender>,
    /// When the first of them ended by itself: its standby has confirmed everything.
    first_done: Option<Instant>,
}

#[derive(Debug)]
struct Sender {
    process: Process,
    flow: Flow,
    moved_at: Instant,
    /// Nobody reads from it, so it was told to end.
    is_closed: bool,
}

/// What a sender has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flow {
    /// Bytes read from files, which is WAL.
    read: u64,
    /// Bytes that were handed to the kernel and are not acknowledged by the other side; `None` without a TCP connection.
    queued: Option<u64>,
}

/// Whether the server has written its last checkpoint: a sender that is up to date ends from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastCheckpoint {
    Written,
    Awaited,
}

impl Senders {
    /// The children of this postmaster that serve standbys. Those of `others` serve programs that confirm nothing.
    pub(super) fn of(postmaster: i32, others: &[i32], now: Instant) -> Self {
        let pids = process::all_pids().unwrap_or_default();
        let is_sender = |pid: &i32| process::parent(*pid) == Some(postmaster) && is_walsender(*pid);
        let senders = pids.into_iter().filter(|pid| !others.contains(pid)).filter(is_sender);
        let open = senders.filter_map(Process::open).map(|process| {
            let flow = Flow::of(process.pid());
            Sender { process, flow, moved_at: now, is_closed: false }
        });
        Senders { open: open.collect(), first_done: None }
    }

    /// Looks at all of them; those that nobody reads from are ended.
    pub(super) fn look(&mut self, now: Instant, checkpoint: LastCheckpoint) {
        for sender in &mut self.open {
            let flow = Flow::of(sender.process.pid());
            if flow != sender.flow {
                (sender.flow, sender.moved_at) = (flow, now);
            }
            // Before the last checkpoint one that has nothing to send is silent with good reason.
            let owes = checkpoint == LastCheckpoint::Written || flow.queued.is_some_and(|bytes| bytes > 0);
            if owes && !sender.is_closed && now.since(sender.moved_at) >= SILENCE {
                tracing::warn!("closing the connection of a standby that has read nothing for {SILENCE:?}");
                sender.is_closed = true;
            }
            if sender.is_closed {
                // At the first it says goodbye, which waits for full buffers as well; the next ends that.
                let _ = sender.process.signal(Signal::SIGTERM);
            }
        }
        let done = |sender: &Sender| !sender.process.is_alive() && !sender.is_closed;
        if checkpoint == LastCheckpoint::Written && self.open.iter().any(done) {
            self.first_done.get_or_insert(now);
        }
        self.open.retain(|sender| sender.process.is_alive());
    }

    /// Since when nothing has to be waited for: a standby has everything, or none is left that reads. `None`: one still
    /// receives what nobody else has.
    pub(super) fn settled_since(&self, checkpoint_at: Instant) -> Option<Instant> {
        let receiving = self.open.iter().any(|sender| !sender.is_closed);
        match self.first_done {
            Some(done) => Some(done.max(checkpoint_at)),
            None => (!receiving).then_some(checkpoint_at),
        }
    }
}

/// By its title, which it has set when it began to send.
fn is_walsender(pid: i32) -> bool {
    let arguments = process::arguments(pid);
    arguments.first().is_some_and(|title| title.starts_with("postgres: ") && title.contains("walsender "))
}

impl Flow {
    fn of(pid: i32) -> Self {
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")?.trim().parse().ok());
        Flow { read: read.unwrap_or(0), queued: queued(pid) }
    }
}

/// The bytes in the send queues of a process's TCP connections.
fn queued(pid: i32) -> Option<u64> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let sockets: Vec<String> = targets.filter_map(|target| socket_inode(&target)).collect();
    let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    let lines = tables.iter().flatten().flat_map(|table| table.lines());
    let of_ours = lines.filter_map(connection).filter(|(inode, _)| sockets.iter().any(|own| own == inode));
    of_ours.map(|(_, bytes)| bytes).reduce(|one, other| one + other)
}

/// `socket:[12345]`.
fn socket_inode(target: &Path) -> Option<String> {
    Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
}

/// Inode and bytes to be sent of a line of `/proc/net/tcp`: `sl local remote st tx:rx tr:when retrnsmt uid timeout inode`.
fn connection(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split_ascii_whitespace();
    let queues = words.nth(4)?;
    let inode = words.nth(4)?;
    Some((inode, u64::from_str_radix(queues.split_once(':')?.0, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_connection_has_to_send() {
        let line = "  12: 0100007F:1538 0100007F:C350 01 00003A98:00000000 01:00000014 00000000   115        0 431337 2 0000 20";
        assert_eq!(connection(line), Some(("431337", 15_000)));
        assert_eq!(connection("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"), None);
        assert_eq!(socket_inode(Path::new("socket:[431337]")), Some("431337".to_owned()));
        assert_eq!(socket_inode(Path::new("/dev/null")), None);
    }
}
