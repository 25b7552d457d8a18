//! The socket to PID 1: what the loop tells goes out at once, what PID 1 says comes in by a task of the loop's runtime. And
//! the timer that holds the deadline, which PID 1 waits for and only the agent sets.
//!
//! Nothing here blocks: the socket holds far more messages than are ever under way, since PID 1 does nothing but read.
//! The end of the stream means that nobody guards any more; that counts as the order to stop.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{Expiration, TimerFd, TimerSetTimeFlags};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::init_link::{FromInit, InitLink};
use crate::core::local::Guard;
use crate::core::units::Instant;
use crate::dcs::LeaseToken;
use crate::wire::watchdog::WatchdogOrder;
use crate::wire::{self, TO_AGENT_MAX, ToAgent, ToInit};

/// How often a stopping agent says that it lives; three fit into what PID 1 bears.
const ALIVE_EVERY: Duration = Duration::from_millis(900);

/// Clones share the socket. It is a SOCK_SEQPACKET one; what is done with it here, send and receive of whole packets,
/// is the same for a datagram socket, which the libraries know.
#[derive(Clone)]
pub struct InitSocket {
    socket: Arc<UnixDatagram>,
    deadline: Arc<TimerFd>,
}

impl InitSocket {
    /// From here on the socket does not block.
    pub fn new(socket: OwnedFd, deadline: TimerFd) -> io::Result<Self> {
        let socket = UnixDatagram::from(socket);
        socket.set_nonblocking(true)?;
        Ok(InitSocket { socket: Arc::new(socket), deadline: Arc::new(deadline) })
    }

    pub fn tell(&self, message: ToInit) {
        if let Err(error) = self.socket.send(&message.encode()) {
            tracing::error!("cannot tell PID 1 {message:?}: {error}");
        }
    }

    /// Passes on what PID 1 says until it is gone. Needs the runtime; to be spawned before the first cycle.
    pub async fn listen(self, signals: UnboundedSender<FromInit>) {
        if let Err(error) = self.pass_on(&signals).await {
            tracing::error!("PID 1 does not answer any more, stopping: {error}");
            // The loop has ended when nobody hears this.
            let _gone = signals.send(FromInit::Terminate);
        }
        self.live_on().await;
    }

    async fn pass_on(&self, signals: &UnboundedSender<FromInit>) -> io::Result<()> {
        let socket = tokio::net::UnixDatagram::from_std(self.socket.try_clone()?)?;
        let mut alive: Option<JoinHandle<()>> = None;
        let mut buffer = [0; TO_AGENT_MAX];
        let ended = loop {
            let length = match socket.recv(&mut buffer).await {
                Ok(0) => break io::ErrorKind::UnexpectedEof.into(),
                Ok(length) => length,
                Err(error) => break error,
            };
            let message = match ToAgent::decode(&buffer[..length]) {
                Some(ToAgent::Signal(number)) => {
                    self.tell(ToInit::Alive);
                    message_of(number)
                }
                Some(ToAgent::Watchdog(state)) => Some(FromInit::Watchdog(state)),
                Some(_) | None => None,
            };
            let Some(message) = message else { continue };
            if message == FromInit::Terminate && alive.is_none() {
                alive = Some(tokio::spawn(self.clone().live_on()));
            }
            if signals.send(message).is_err() {
                return Ok(());
            }
        };
        if let Some(alive) = alive {
            alive.abort();
        }
        Err(ended)
    }

    /// On the loop's own thread, so that a loop that hangs is found out.
    async fn live_on(self) {
        loop {
            sleep(ALIVE_EVERY).await;
            self.tell(ToInit::Alive);
        }
    }
}

fn message_of(number: i32) -> Option<FromInit> {
    if number == Signal::SIGTERM as i32 || number == Signal::SIGINT as i32 {
        Some(FromInit::Terminate)
    } else if number == Signal::SIGHUP as i32 {
        Some(FromInit::Reload)
    } else {
        tracing::debug!("signal {number} means nothing to the agent");
        None
    }
}

impl InitLink for InitSocket {
    fn guard(&self, guard: Guard) {
        let at = Expiration::OneShot(TimeSpec::from_duration(to_wire(guard).expires()));
        if let Err(error) = self.deadline.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME) {
            tracing::error!("cannot set PID 1's deadline to {guard:?}: {error}");
        }
    }

    fn lease(&self, token: &LeaseToken) {
        self.tell(ToInit::Lease(wire::LeaseToken::new(token.as_str().as_bytes())));
    }

    fn watchdog(&self, order: WatchdogOrder) {
        self.tell(ToInit::Watchdog(order));
    }

    fn postmaster(&self, pid: Option<i32>) {
        self.tell(ToInit::Postmaster(pid.and_then(|pid| u32::try_from(pid).ok())));
    }
}

fn to_wire(guard: Guard) -> wire::Guard {
    match guard {
        Guard::NoDeadline => wire::Guard::NoDeadline,
        Guard::Until(Instant(since_boot)) => {
            // 584 years after boot nobody minds.
            wire::Guard::Until(u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX))
        }
    }
}

/// What PID 1 holds for a new agent.
pub fn from_wire(guard: wire::Guard) -> Guard {
    match guard {
        wire::Guard::NoDeadline => Guard::NoDeadline,
        wire::Guard::Until(nanos) => Guard::Until(Instant(Duration::from_nanos(nanos))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
    use nix::sys::timerfd::{ClockId, TimerFlags};
    use tokio::sync::mpsc;

    use super::*;
    use crate::agent::clock::{Clock, SystemClock};

    #[test]
    fn every_lease_token_fits_into_a_message() {
        assert_eq!(crate::dcs::LEASE_TOKEN_MAX, wire::LEASE_TOKEN_MAX);
    }

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    fn say(init: &OwnedFd, message: &ToAgent) {
        let mut buffer = [0; TO_AGENT_MAX];
        let length = message.encode(&mut buffer);
        send(init.as_raw_fd(), &buffer[..length], MsgFlags::empty()).unwrap();
    }

    fn heard(init: &OwnedFd) -> Option<ToInit> {
        let mut buffer = [0; wire::TO_INIT_LEN];
        let length = recv(init.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).ok()?;
        ToInit::decode(&buffer[..length])
    }

    #[test]
    fn a_deadline_reads_back_to_the_nanosecond() {
        for guard in [Guard::NoDeadline, Guard::Until(Instant(Duration::new(1_234, 567_891_234)))] {
            assert_eq!(from_wire(to_wire(guard)), guard);
        }
    }

    fn timer() -> TimerFd {
        TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC).unwrap()
    }

    fn left(timer: &TimerFd) -> Duration {
        match timer.get().unwrap() {
            Some(Expiration::OneShot(left)) => left.into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_deadline_is_set_moved_both_ways_and_lifted_without_a_message() {
        let (init, ours) = pair();
        let link = InitSocket::new(ours, timer()).unwrap();
        let now = SystemClock.now();
        for seconds in [20, 30, 10] {
            let ahead = Duration::from_secs(seconds);
            link.guard(Guard::Until(now + ahead));
            let left = left(&link.deadline);
            assert!(left <= ahead && left > ahead - Duration::from_secs(5), "{left:?} of {ahead:?}");
        }
        link.guard(Guard::NoDeadline);
        assert!(left(&link.deadline) > Duration::from_secs(1_000_000_000));
        link.guard(Guard::Until(Instant(Duration::ZERO)));
        let mut fds = [PollFd::new(link.deadline.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::ZERO), Ok(1), "it has passed at once");
        assert_eq!(heard(&init), None);
    }

    #[tokio::test]
    async fn signals_are_passed_on_and_answered_and_the_end_means_stop() {
        let (init, ours) = pair();
        let (signals, mut passed) = mpsc::unbounded_channel();
        let listening = tokio::spawn(InitSocket::new(ours, timer()).unwrap().listen(signals));
        say(&init, &ToAgent::Signal(Signal::SIGHUP as i32));
        assert_eq!(passed.recv().await, Some(FromInit::Reload));
        assert_eq!(heard(&init), Some(ToInit::Alive));
        say(&init, &ToAgent::Signal(Signal::SIGUSR1 as i32));
        say(&init, &ToAgent::Signal(Signal::SIGTERM as i32));
        assert_eq!(passed.recv().await, Some(FromInit::Terminate));
        drop(init);
        assert_eq!(passed.recv().await, Some(FromInit::Terminate));
        listening.abort();
    }
}
