//! The watchdog device: a countdown in the kernel or in hardware that ends in a reset of the machine. It is begun anew by each
//! renewal of the lock that the agent has confirmed, and by nothing else: an agent that stands still, or a PID 1 that does,
//! ends in a reset no later than the lease.
//!
//! Interface: Documentation/watchdog/watchdog-api.rst of the kernel. A FIFO stands in for a device: what would be written to
//! that is written there, and its timeout, which no ioctl can set, as a line of its own.
//!
//! **Invariants:** nothing here waits (the descriptor does not block) or allocates; nothing is written to a file that is
//! neither a watchdog nor a FIFO, since we may be root and the path is the agent's word.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat, stat};
use nix::unistd::{AccessFlags, faccessat, write};

use super::log::{Level, Log};
use super::sys;
use crate::wire::watchdog::{Device, Need, WatchdogOrder, WatchdogState};

const KEEPALIVE: &[u8] = b"1";
const MAGIC_CLOSE: &[u8] = b"V";

#[derive(Default)]
pub(super) struct Watchdog {
    open: Option<Open>,
    /// What this agent was told last.
    told: Option<WatchdogState>,
}

struct Open {
    device: Device,
    file: OwnedFd,
    kind: Kind,
    /// In seconds, as asked for and as the driver has it.
    asked: u16,
    timeout: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// With the capabilities of the driver.
    Driver(sys::WatchdogOptions),
    Fifo,
}

impl Watchdog {
    /// A new agent knows nothing.
    pub(super) fn agent_started(&mut self) {
        self.told = None;
    }

    /// Carries an order out. `Some`: the agent is to be told.
    pub(super) fn obey(&mut self, order: WatchdogOrder, now: Duration, log: &mut Log) -> Option<WatchdogState> {
        let state = match order {
            WatchdogOrder::Keep { device, need, timeout, by } => {
                // Late, as after a pause of this process: the countdown that is under way is left to end.
                if now > Duration::from_nanos(by) {
                    return None;
                }
                self.keep(device, need, timeout, log)
            }
            WatchdogOrder::Check(device) => match is_usable(device) {
                true => WatchdogState::Usable,
                false => WatchdogState::Unusable,
            },
            WatchdogOrder::Disarm => {
                self.disarm(log);
                self.told = None;
                return None;
            }
        };
        (self.told.replace(state) != Some(state)).then_some(state)
    }

    fn keep(&mut self, device: Device, need: Need, timeout: u16, log: &mut Log) -> WatchdogState {
        if self.open.as_ref().is_some_and(|open| open.device != device) {
            self.disarm(log);
        }
        let kept = match self.open.take() {
            None => Open::new(device, timeout).inspect(|open| open.tell(log)),
            Some(mut open) if open.asked != timeout => open.set_timeout(timeout).map(|()| open),
            Some(open) => Ok(open),
        };
        match kept.and_then(|open| open.keep_alive().map(|()| open)) {
            Ok(open) => {
                let timeout = open.timeout;
                self.open = Some(open);
                WatchdogState::Armed { timeout }
            }
            Err(error) => {
                let level = if need == Need::Required { Level::Warning } else { Level::Debug };
                log.write(level, format_args!("cannot use the watchdog {device}: {error}"));
                WatchdogState::Failed
            }
        }
    }

    /// What cannot be disarmed gets its last keepalive.
    pub(super) fn disarm(&mut self, log: &mut Log) {
        let Some(open) = self.open.take() else { return };
        if open.can_be_disarmed() {
            if let Err(error) = open.write(MAGIC_CLOSE) {
                log.write(Level::Error, format_args!("cannot disarm the watchdog {}: {error}", open.device));
            }
            return;
        }
        let (device, timeout) = (open.device, open.timeout);
        let _ = open.keep_alive();
        log.write(
            Level::Warning,
            format_args!("watchdog {device} cannot be disarmed: the machine may be reset in {timeout} seconds"),
        );
    }
}

impl Open {
    fn new(device: Device, timeout: u16) -> nix::Result<Self> {
        // Opening another kind of file may do more than nothing.
        kind_of(stat(device.as_bytes())?.st_mode)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = open(device.as_bytes(), flags, Mode::empty())?;
        let kind = match kind_of(fstat(&file)?.st_mode)? {
            SFlag::S_IFIFO => Kind::Fifo,
            // No watchdog answers this with an error, and it has no effect on anything else.
            _ => Kind::Driver(sys::watchdog_options(file.as_fd())?),
        };
        let mut open = Open { device, file, kind, asked: timeout, timeout: u32::from(timeout) };
        if let Err(error) = open.set_timeout(timeout) {
            // It counts down since it was opened.
            let _ = open.write(MAGIC_CLOSE);
            return Err(error);
        }
        Ok(open)
    }

    fn set_timeout(&mut self, timeout: u16) -> nix::Result<()> {
        self.asked = timeout;
        self.timeout = match self.kind {
            Kind::Driver(options) => sys::watchdog_timeout(self.file.as_fd(), options, timeout)?,
            Kind::Fifo => {
                let mut line = [0; 32];
                self.write(timeout_line(&mut line, timeout))?;
                u32::from(timeout)
            }
        };
        Ok(())
    }

    fn can_be_disarmed(&self) -> bool {
        match self.kind {
            Kind::Driver(options) => options.has_magic_close(),
            Kind::Fifo => true,
        }
    }

    fn tell(&self, log: &mut Log) {
        let (device, timeout) = (self.device, self.timeout);
        if self.can_be_disarmed() {
            return log.write(Level::Debug, format_args!("watchdog {device} counts down from {timeout} seconds"));
        }
        let text = "cannot be disarmed: the machine may be reset after the leader lock is lost or given up";
        log.write(Level::Warning, format_args!("watchdog {device} {text}"));
    }

    fn keep_alive(&self) -> nix::Result<()> {
        self.write(KEEPALIVE)
    }

    fn write(&self, bytes: &[u8]) -> nix::Result<()> {
        match write(&self.file, bytes) {
            // A FIFO that nobody reads is full.
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn kind_of(mode: libc::mode_t) -> nix::Result<SFlag> {
    match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
        kind @ (SFlag::S_IFCHR | SFlag::S_IFIFO) => Ok(kind),
        _ => Err(Errno::ENOTTY),
    }
}

fn is_usable(device: Device) -> bool {
    let path = device.as_bytes();
    stat(path).and_then(|file| kind_of(file.st_mode)).is_ok()
        && faccessat(AT_FDCWD, path, AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok()
}

/// `Ctimeout=25` and a newline, without an allocation.
fn timeout_line(line: &mut [u8; 32], timeout: u16) -> &[u8] {
    use std::io::Write;
    let length = line.len();
    let mut rest = &mut line[..];
    // It has room for more.
    let _ = writeln!(rest, "Ctimeout={timeout}");
    let used = length - rest.len();
    &line[..used]
}

#[cfg(test)]
#[path = "watchdog_tests.rs"]
mod tests;
