//! The protocol between PID 1 and the agent, over a SOCK_SEQPACKET socket pair on the agent's standard input.
//!
//! Stands below both and knows only `std`. Messages to PID 1 have a fixed size, so that it never allocates; those to
//! the agent are packets of at most `TO_AGENT_MAX` bytes. A packet that cannot be decoded is ignored by either side.
//!
//! Deliberately not here: who waits for what. The codec is pure; the two functions that block are for the agent's
//! start, before its runtime exists.
//!
//! # The agent's part
//!
//! 1. `main` calls `receive_environment`, `agent::run` then `receive_handover`, both once and in this order.
//! 2. `Ready` once the configuration is accepted, `Postmaster` when one was started, adopted or has ended, `Lease` when
//!    its token changes. The deadline is no message: after each renewal and each change of role the agent sets the timer
//!    that it was handed, to `Guard::expires`, so that PID 1 sleeps on.
//! 3. Each `Signal` is answered by `Alive`, and while the agent is stopping `Alive` goes out at least once a second:
//!    after `SILENCE_MAX` without any message PID 1 takes it for frozen, kills it and stops PostgreSQL itself.
//! 4. `Bye` is the last message before the agent ends on purpose. An end without it is a crash: PID 1 starts the agent
//!    again, does not touch PostgreSQL, and keeps the deadline in force.
//! 5. The end of the stream means that PID 1 is gone and nobody guards any more: stop as on SIGTERM.

pub mod watchdog;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use watchdog::{WatchdogOrder, WatchdogState};

/// The size of every message to PID 1.
pub const TO_INIT_LEN: usize = 64;

/// The longest lease token: what a message to PID 1 has room for.
pub const LEASE_TOKEN_MAX: usize = TO_INIT_LEN - 2;

/// The largest packet to the agent.
pub const TO_AGENT_MAX: usize = 4096;

/// What one packet can carry of the environment.
pub const CHUNK_MAX: usize = TO_AGENT_MAX - 1;

/// How long an agent that was asked to stop may send nothing.
pub const SILENCE_MAX: Duration = Duration::from_secs(3);

/// The environment may not be larger than what the kernel passes to a program (`_STK_LIM / 4 * 3` in fs/exec.c).
const ENVIRONMENT_MAX: usize = 6 * 1024 * 1024;

/// Until when PID 1 lets PostgreSQL run as a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// For ever: a standby, a single server, a paused cluster.
    NoDeadline,
    /// Nanoseconds on CLOCK_BOOTTIME. Past it PID 1 kills PostgreSQL.
    Until(u64),
}

/// Where a timer stands for which there is no deadline: 146 years after boot.
const NEVER: u64 = i64::MAX as u64 / 2;

impl Guard {
    /// What the timer that PID 1 waits for is set to, on CLOCK_BOOTTIME. Not zero, which would disarm it.
    pub fn expires(self) -> Duration {
        match self {
            Guard::NoDeadline => Duration::from_nanos(NEVER),
            Guard::Until(nanos) => Duration::from_nanos(nanos.clamp(1, NEVER)),
        }
    }

    /// What a timer says that expires then. Half of `NEVER`, since a timer tells what is left and not when it ends.
    pub fn expiring(at: Duration) -> Guard {
        match u64::try_from(at.as_nanos()) {
            Ok(nanos) if nanos < NEVER / 2 => Guard::Until(nanos),
            Ok(_) | Err(_) => Guard::NoDeadline,
        }
    }
}

/// What the agent's DCS backend needs to go on with its lease. Only the backend knows what it means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LeaseToken {
    bytes: [u8; LEASE_TOKEN_MAX],
    length: u8,
}

impl LeaseToken {
    /// `None`: empty, longer than `LEASE_TOKEN_MAX`, or not printable ASCII.
    pub fn new(text: &[u8]) -> Option<LeaseToken> {
        if text.is_empty() || !text.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut bytes = [0; LEASE_TOKEN_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(LeaseToken { bytes, length: u8::try_from(text.len()).ok()? })
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl std::fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Bytes that may hold secrets; `Debug` shows how many there are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a>(pub &'a [u8]);

impl std::fmt::Debug for Piece<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// From the agent to PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToInit {
    /// The configuration is accepted and the loop runs.
    Ready,
    /// Keepalive.
    Alive,
    /// The postmaster that the agent started or adopted; `None` when it has ended and was reaped.
    Postmaster(Option<u32>),
    /// The DCS lease to go on with after a restart of the agent.
    Lease(Option<LeaseToken>),
    Watchdog(WatchdogOrder),
    /// The agent ends on purpose; the container's exit code is to be this one.
    Bye(u8),
}

impl ToInit {
    pub fn encode(self) -> [u8; TO_INIT_LEN] {
        let (tag, value) = match self {
            ToInit::Ready => (1, 0),
            ToInit::Alive => (2, 0),
            ToInit::Postmaster(None) => (5, 0),
            ToInit::Postmaster(Some(pid)) => (6, u64::from(pid)),
            ToInit::Lease(None) => (7, 0),
            ToInit::Lease(Some(token)) => return encode_lease(&token),
            ToInit::Watchdog(order) => return order.encode(),
            ToInit::Bye(code) => (9, u64::from(code)),
        };
        let mut packet = [0; TO_INIT_LEN];
        packet[0] = tag;
        packet[8..16].copy_from_slice(&u64::to_le_bytes(value));
        packet
    }

    pub fn decode(packet: &[u8]) -> Option<ToInit> {
        let packet: &[u8; TO_INIT_LEN] = packet.try_into().ok()?;
        let value = u64::from_le_bytes(packet[8..16].try_into().ok()?);
        match packet[0] {
            1 => Some(ToInit::Ready),
            2 => Some(ToInit::Alive),
            5 => Some(ToInit::Postmaster(None)),
            6 => Some(ToInit::Postmaster(Some(u32::try_from(value).ok()?))),
            7 => Some(ToInit::Lease(None)),
            8 => Some(ToInit::Lease(Some(LeaseToken::new(packet[2..].get(..usize::from(packet[1]))?)?))),
            watchdog::KEEP | watchdog::CHECK | watchdog::DISARM => WatchdogOrder::decode(packet).map(ToInit::Watchdog),
            9 => Some(ToInit::Bye(u8::try_from(value).ok()?)),
            _ => None,
        }
    }
}

/// Tag, length, token.
fn encode_lease(token: &LeaseToken) -> [u8; TO_INIT_LEN] {
    let mut packet = [0; TO_INIT_LEN];
    packet[..2].copy_from_slice(&[8, token.length]);
    packet[2..].copy_from_slice(&token.bytes);
    packet
}

/// From PID 1 to the agent: first the environment and its end, then `Starts`, `Lease`, `Guard` and `Deadline`, then signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToAgent<'a> {
    /// A piece of `NAME=VALUE\0NAME=VALUE\0…`; a variable may go across several pieces.
    Environment(Piece<'a>),
    EnvironmentEnd,
    /// Ordinal of this agent process, from 1.
    Starts(u32),
    /// The lease that the previous agent reported.
    Lease(Option<LeaseToken>),
    /// The deadline in force unless the agent sets another.
    Guard(Guard),
    /// The number of the agent's descriptor for the timer that holds it.
    Deadline(i32),
    /// A signal that came to PID 1, by its number.
    Signal(i32),
    Watchdog(WatchdogState),
}

impl<'a> ToAgent<'a> {
    /// Writes the packet into `buffer` and returns its length. A piece of the environment is at most `CHUNK_MAX` bytes;
    /// what is longer is cut.
    pub fn encode(&self, buffer: &mut [u8; TO_AGENT_MAX]) -> usize {
        let (tag, value) = match *self {
            ToAgent::Environment(Piece(piece)) => {
                let piece = &piece[..piece.len().min(CHUNK_MAX)];
                buffer[0] = 1;
                buffer[1..=piece.len()].copy_from_slice(piece);
                return 1 + piece.len();
            }
            ToAgent::EnvironmentEnd => (2, 0),
            ToAgent::Starts(count) => (3, u64::from(count)),
            ToAgent::Lease(None) => (4, 0),
            ToAgent::Lease(Some(ref token)) => {
                let token = token.as_bytes();
                buffer[0] = 5;
                buffer[1..=token.len()].copy_from_slice(token);
                return 1 + token.len();
            }
            ToAgent::Guard(Guard::NoDeadline) => (6, 0),
            ToAgent::Guard(Guard::Until(nanos)) => (7, nanos),
            ToAgent::Signal(number) => (8, u64::from(number.cast_unsigned())),
            ToAgent::Deadline(number) => (9, u64::from(number.cast_unsigned())),
            ToAgent::Watchdog(state) => (10, state.encode()),
        };
        buffer[0] = tag;
        buffer[1..9].copy_from_slice(&value.to_le_bytes());
        9
    }

    pub fn decode(packet: &'a [u8]) -> Option<ToAgent<'a>> {
        let (tag, rest) = packet.split_first()?;
        match tag {
            1 => return Some(ToAgent::Environment(Piece(rest))),
            5 => return LeaseToken::new(rest).map(|token| ToAgent::Lease(Some(token))),
            _ => {}
        }
        let value = u64::from_le_bytes(rest.try_into().ok()?);
        match tag {
            2 => Some(ToAgent::EnvironmentEnd),
            3 => Some(ToAgent::Starts(u32::try_from(value).ok()?)),
            4 => Some(ToAgent::Lease(None)),
            6 => Some(ToAgent::Guard(Guard::NoDeadline)),
            7 => Some(ToAgent::Guard(Guard::Until(value))),
            8 => Some(ToAgent::Signal(u32::try_from(value).ok()?.cast_signed())),
            9 => Some(ToAgent::Deadline(u32::try_from(value).ok()?.cast_signed())),
            10 => WatchdogState::decode(value).map(ToAgent::Watchdog),
            _ => None,
        }
    }
}

/// What PID 1 knows and a new agent needs to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// 1: the container has just started.
    pub starts: u32,
    pub lease: Option<LeaseToken>,
    pub guard: Guard,
    /// The number of the descriptor of the timer that PID 1 waits for.
    pub deadline: i32,
}

/// Reads the environment as the container was given it, `NAME=VALUE` pieces ended by NUL. Blocks until it is complete;
/// the stream's end before that is an error.
pub fn receive_environment(socket: impl AsFd) -> io::Result<Vec<u8>> {
    let mut stream = packets(socket.as_fd())?;
    let mut environment = Vec::new();
    while environment.len() <= ENVIRONMENT_MAX {
        let mut buffer = [0; TO_AGENT_MAX];
        match receive(&mut stream, &mut buffer)? {
            ToAgent::Environment(Piece(piece)) => environment.extend_from_slice(piece),
            ToAgent::EnvironmentEnd => return Ok(environment),
            other => return Err(unexpected(&other)),
        }
    }
    Err(io::Error::other("the environment from PID 1 is larger than the kernel allows"))
}

/// Reads what follows the environment. Blocks until it is complete; the stream's end before that is an error.
pub fn receive_handover(socket: impl AsFd) -> io::Result<Handover> {
    let mut stream = packets(socket.as_fd())?;
    let mut buffer = [0; TO_AGENT_MAX];
    let starts = match receive(&mut stream, &mut buffer)? {
        ToAgent::Starts(count) => count,
        other => return Err(unexpected(&other)),
    };
    let lease = match receive(&mut stream, &mut buffer)? {
        ToAgent::Lease(lease) => lease,
        other => return Err(unexpected(&other)),
    };
    let guard = match receive(&mut stream, &mut buffer)? {
        ToAgent::Guard(guard) => guard,
        other => return Err(unexpected(&other)),
    };
    let deadline = match receive(&mut stream, &mut buffer)? {
        ToAgent::Deadline(number) => number,
        other => return Err(unexpected(&other)),
    };
    Ok(Handover { starts, lease, guard, deadline })
}

/// `read` on a SOCK_SEQPACKET socket returns one packet, so a `File` over a duplicate serves as its reader.
fn packets(socket: BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from(socket.try_clone_to_owned()?))
}

fn receive<'a>(stream: &mut File, buffer: &'a mut [u8; TO_AGENT_MAX]) -> io::Result<ToAgent<'a>> {
    let length = loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if length == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "PID 1 closed the agent's socket"));
    }
    ToAgent::decode(&buffer[..length]).ok_or_else(|| io::Error::other("unknown packet from PID 1"))
}

fn unexpected(message: &ToAgent<'_>) -> io::Error {
    io::Error::other(format!("unexpected packet from PID 1: {message:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_to_pid_1_reads_back() {
        let messages = [
            ToInit::Ready,
            ToInit::Alive,
            ToInit::Postmaster(None),
            ToInit::Postmaster(Some(4_194_304)),
            ToInit::Lease(None),
            ToInit::Lease(LeaseToken::new(b"694d9a7b-3f2e")),
            ToInit::Lease(LeaseToken::new(&[b'x'; LEASE_TOKEN_MAX])),
            ToInit::Bye(64),
        ];
        for message in messages {
            assert_eq!(ToInit::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn every_message_to_the_agent_reads_back() {
        let long = [b'x'; CHUNK_MAX];
        let messages = [
            ToAgent::Environment(Piece(b"")),
            ToAgent::Environment(Piece(&long)),
            ToAgent::EnvironmentEnd,
            ToAgent::Starts(3),
            ToAgent::Lease(None),
            ToAgent::Lease(LeaseToken::new(b"7")),
            ToAgent::Lease(LeaseToken::new(&[b'x'; LEASE_TOKEN_MAX])),
            ToAgent::Guard(Guard::NoDeadline),
            ToAgent::Guard(Guard::Until(1)),
            ToAgent::Deadline(7),
            ToAgent::Signal(15),
        ];
        let mut buffer = [0; TO_AGENT_MAX];
        for message in messages {
            let length = message.encode(&mut buffer);
            assert_eq!(ToAgent::decode(&buffer[..length]), Some(message));
        }
    }

    #[test]
    fn a_deadline_reads_back_from_its_timer() {
        for guard in [Guard::NoDeadline, Guard::Until(1), Guard::Until(1_234_567_891_234)] {
            assert_eq!(Guard::expiring(guard.expires()), guard);
        }
        assert!(!Guard::Until(0).expires().is_zero(), "this would disarm the timer");
        assert_eq!(Guard::expiring(Guard::Until(u64::MAX).expires()), Guard::NoDeadline);
    }

    #[test]
    fn broken_packets_are_no_message() {
        assert_eq!(ToInit::decode(&[1; TO_INIT_LEN - 1]), None);
        assert_eq!(ToInit::decode(&[0; TO_INIT_LEN]), None);
        assert_eq!(ToInit::decode(&[9; TO_INIT_LEN]), None, "an exit code above 255");
        assert_eq!(ToAgent::decode(&[]), None);
        assert_eq!(ToAgent::decode(&[3; 8]), None);
        assert_eq!(ToAgent::decode(&[99; 9]), None);
        assert_eq!(ToAgent::decode(&[5]), None, "an empty token");
        let mut lease = [b'x'; TO_INIT_LEN];
        lease[..2].copy_from_slice(&[8, 63]);
        assert_eq!(ToInit::decode(&lease), None, "a token longer than the packet");
    }

    #[test]
    fn a_token_is_short_printable_text() {
        assert!(LeaseToken::new(b"").is_none());
        assert!(LeaseToken::new(b"a b").is_none());
        assert!(LeaseToken::new(&[b'x'; LEASE_TOKEN_MAX + 1]).is_none());
    }
}
