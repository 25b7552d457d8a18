//! Pending packets to the agent. Sends what fits into the socket and remembers the rest in constant space, so that a frozen
//! agent cannot block PID 1.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

use super::state::State;
use crate::wire::watchdog::WatchdogState;
use crate::wire::{CHUNK_MAX, Piece, TO_AGENT_MAX, ToAgent};

pub(super) struct Outbox {
    next: Next,
    /// One bit for each pending signal.
    signals: u64,
    watchdog: Option<WatchdogState>,
    /// The number of the descriptor that the agent has for its timer.
    deadline: RawFd,
    buffer: [u8; TO_AGENT_MAX],
    piece: [u8; CHUNK_MAX],
}

#[derive(Clone, Copy)]
enum Next {
    Environment { offset: u64 },
    Starts,
    Lease,
    Guard,
    Deadline,
    Signals,
}

/// How far sending came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    All,
    /// The socket is full; continue when it is writable.
    Some,
    /// The peer has closed the socket.
    Closed,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Outbox {
            next: Next::Environment { offset: 0 },
            signals: 0,
            watchdog: None,
            deadline: -1,
            buffer: [0; TO_AGENT_MAX],
            piece: [0; CHUNK_MAX],
        }
    }

    /// Starts from the beginning, for a new agent.
    pub(super) fn restart(&mut self, deadline: RawFd) {
        self.deadline = deadline;
        self.next = Next::Environment { offset: 0 };
        self.signals = 0;
        self.watchdog = None;
    }

    /// The newest replaces one that was not sent yet.
    pub(super) fn watchdog(&mut self, state: WatchdogState) {
        self.watchdog = Some(state);
    }

    pub(super) fn signal(&mut self, number: i32) {
        self.signals |= bit(number);
    }

    pub(super) fn send(&mut self, socket: BorrowedFd<'_>, environment: &File, state: &State) -> Sent {
        while let Some((length, after)) = self.packet(environment, state) {
            match send(socket.as_fd().as_raw_fd(), &self.buffer[..length], MsgFlags::MSG_NOSIGNAL) {
                Ok(_) => after.apply(self),
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => return Sent::Some,
                Err(Errno::EINTR) => {}
                Err(_) => return Sent::Closed,
            }
        }
        Sent::All
    }

    /// Encodes the next packet into the buffer; returns its length and the state after it was sent.
    fn packet(&mut self, environment: &File, state: &State) -> Option<(usize, After)> {
        let (packet, after) = match self.next {
            Next::Environment { offset } => {
                // A memory file, sealed: reading fails only at its end.
                let length = environment.read_at(&mut self.piece, offset).unwrap_or(0);
                if length == 0 {
                    (ToAgent::EnvironmentEnd, After::Next(Next::Starts))
                } else {
                    let offset = offset + length as u64;
                    let piece = ToAgent::Environment(Piece(&self.piece[..length]));
                    (piece, After::Next(Next::Environment { offset }))
                }
            }
            Next::Starts => (ToAgent::Starts(state.starts), After::Next(Next::Lease)),
            Next::Lease => (ToAgent::Lease(state.lease), After::Next(Next::Guard)),
            Next::Guard => (ToAgent::Guard(state.guard), After::Next(Next::Deadline)),
            Next::Deadline => (ToAgent::Deadline(self.deadline), After::Next(Next::Signals)),
            Next::Signals if self.signals == 0 => (ToAgent::Watchdog(self.watchdog?), After::ToldWatchdog),
            Next::Signals => {
                let number = self.signals.trailing_zeros().cast_signed() + 1;
                (ToAgent::Signal(number), After::Signalled(number))
            }
        };
        Some((packet.encode(&mut self.buffer), after))
    }
}

enum After {
    Next(Next),
    Signalled(i32),
    ToldWatchdog,
}

impl After {
    fn apply(self, outbox: &mut Outbox) {
        match self {
            After::Next(next) => outbox.next = next,
            After::ToldWatchdog => outbox.watchdog = None,
            After::Signalled(number) => outbox.signals &= !bit(number),
        }
    }
}

/// Signals are numbered from 1 to 64.
fn bit(number: i32) -> u64 {
    1 << (number - 1).clamp(0, 63)
}
