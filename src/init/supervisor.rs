//! The second stage: a loop that reports events to `state` and performs the actions that are due.
//!
//! **Invariant:** a flood of messages, signals or orphans cannot postpone the look at the deadline: each iteration takes a
//! limited number. A PID 1 that is late kills no agent that renewed in time: setting the timer takes its expiry back.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::geteuid;

use super::deadline::Deadline;
use super::exec_args::ExecArgs;
use super::fence::{self, Fence, Place};
use super::log::{Format, Level, Log, Style};
use super::outbox::{Outbox, Sent};
use super::state::{AgentEnd, Due, Postmaster, State, Way};
use super::sys::{self, Ended, Identity, Program};
use super::watchdog::Watchdog;
use super::{AGENT, FATAL, SECOND_STAGE, memory, prepare};
use crate::boottime::since_boot;
use crate::wire::{TO_INIT_LEN, ToInit};

/// Limits per iteration, so that the deadline is checked often enough.
const MESSAGES_MAX: usize = 64;
const SIGNALS_MAX: usize = 32;
const ORPHANS_MAX: usize = 1024;

pub(super) fn supervise(arguments: Vec<OsString>) -> u8 {
    let mut arguments = arguments.into_iter();
    let name = arguments.next().unwrap_or_default();
    let args = arguments.nth(1).and_then(|word| word.to_str()?.parse::<ExecArgs>().ok());
    let Some(args) = args else {
        let style = Style { format: Format::Plain, level: Level::Info };
        Log::new(style)
            .write(Level::Error, format_args!("the command {SECOND_STAGE} is internal: PID 1 runs it itself"));
        return super::CONFIGURATION;
    };
    let mut log = Log::new(args.style);
    let privileges = args.privileges;
    match Supervisor::new(args, name, arguments, &mut log) {
        Ok(mut supervisor) => {
            memory::lock(Supervisor::run as *const () as usize, &mut log);
            if let Err(error) = privileges.narrow() {
                log.write(Level::Warning, format_args!("cannot drop capabilities: {error}"));
            }
            supervisor.run(&mut log)
        }
        Err(error) => {
            log.write(Level::Error, format_args!("cannot set up PID 1: {error}"));
            FATAL
        }
    }
}

struct Supervisor {
    state: State,
    fence: Fence,
    signals: SignalFd,
    /// For everything that is due at a time, but the deadline.
    timer: TimerFd,
    /// The last agent's timer. `None`: none has begun since everything was killed.
    deadline: Option<Deadline>,
    environment: File,
    program: Program,
    identity: Option<Identity>,
    agent: Option<Agent>,
    outbox: Outbox,
    postmaster: Option<OwnedFd>,
    watchdog: Watchdog,
}

struct Agent {
    pid: i32,
    /// `None` once the peer has closed it.
    socket: Option<OwnedFd>,
    sent: Sent,
}

impl Supervisor {
    fn new(args: ExecArgs, name: OsString, rest: impl Iterator<Item = OsString>, log: &mut Log) -> io::Result<Self> {
        let place = Place::find();
        if place == Place::SubReaper {
            prctl::set_child_subreaper(true)?;
            let us = std::process::id();
            log.write(
                Level::Warning,
                format_args!("running as process {us} instead of PID 1: acting as child subreaper"),
            );
        }
        let environment = sys::inherited(args.environment);
        fcntl(&environment, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        let agent = [name, AGENT.into()].into_iter().chain(rest).map(|word| CString::new(word.into_vec()));
        let path = CString::new(prepare::program().into_os_string().into_vec())?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Supervisor {
            state: State::new(place),
            fence: Fence::new(place, args.identity.as_ref().map(|identity| identity.uid))?,
            signals: block_signals()?,
            timer: TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?,
            deadline: None,
            environment: File::from(environment),
            program: Program::new(path, agent.collect::<Result<_, _>>()?),
            identity: args.identity,
            agent: None,
            outbox: Outbox::new(),
            postmaster: None,
            watchdog: Watchdog::default(),
        })
    }

    fn run(&mut self, log: &mut Log) -> u8 {
        loop {
            self.hear(MESSAGES_MAX, log);
            self.take_signals();
            let more = self.reap(log);
            self.look_at_postmaster();
            self.tell();
            self.look_at_deadline();
            // Each step changes what is due, so this ends; the bound is for mistakes.
            for _ in 0..16 {
                match self.state.due(since_boot()) {
                    None => break,
                    Some(Due::Leave(code)) => {
                        self.leave_the_watchdog(log);
                        return code;
                    }
                    Some(due) => self.carry_out(due, log),
                }
            }
            if !more {
                self.wait();
            }
        }
    }

    /// Waits for an event or the next due time.
    fn wait(&self) {
        match self.state.wake_at() {
            // Zero would disarm the timer.
            Some(at) => {
                let at = Expiration::OneShot(TimeSpec::from_duration(at.max(Duration::from_nanos(1))));
                // Fails for invalid arguments only.
                let _ = self.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME);
            }
            None => drop(self.timer.unset()),
        }
        let read = PollFlags::POLLIN;
        let mut fds = [
            PollFd::new(self.signals.as_fd(), read),
            PollFd::new(self.timer.as_fd(), read),
            PollFd::new(self.signals.as_fd(), PollFlags::empty()),
            PollFd::new(self.signals.as_fd(), PollFlags::empty()),
            PollFd::new(self.signals.as_fd(), PollFlags::empty()),
        ];
        let mut used = 2;
        if let Some(deadline) = &self.deadline {
            fds[used] = PollFd::new(deadline.as_fd(), read);
            used += 1;
        }
        if let Some(Agent { socket: Some(socket), sent, .. }) = &self.agent {
            let write = if *sent == Sent::Some { PollFlags::POLLOUT } else { PollFlags::empty() };
            fds[used] = PollFd::new(socket.as_fd(), read | write);
            used += 1;
        }
        if let Some(postmaster) = &self.postmaster {
            fds[used] = PollFd::new(postmaster.as_fd(), read);
            used += 1;
        }
        // Everything is looked at after each wake-up, and every descriptor is non-blocking, so neither the result nor an
        // error (EINTR, a lack of kernel memory) makes a difference.
        let _ = poll(&mut fds[..used], PollTimeout::NONE);
    }

    /// Whatever is left below PID 1 ends with it.
    fn leave_the_watchdog(&mut self, log: &mut Log) {
        if self.state.place == Place::Init || self.left_behind() == Postmaster::None {
            self.watchdog.disarm(log);
        }
    }

    fn hear(&mut self, messages_max: usize, log: &mut Log) {
        for _ in 0..messages_max {
            let Some(Agent { socket: Some(socket), .. }) = &self.agent else { return };
            // Longer than a message, so that a longer packet is noticed.
            let mut packet = [0; TO_INIT_LEN * 2];
            match nix::unistd::read(socket, &mut packet) {
                Ok(0) => self.hang_up(),
                Ok(length) => {
                    if let Some(message) = ToInit::decode(&packet[..length]) {
                        self.heard(message, log);
                    }
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return,
                Err(_) => self.hang_up(),
            }
        }
    }

    fn hang_up(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.socket = None;
        }
    }

    fn heard(&mut self, message: ToInit, log: &mut Log) {
        if let ToInit::Postmaster(pid) = message {
            self.postmaster = pid.and_then(|pid| self.process_of_the_agent(pid));
            self.look_at_postmaster();
        }
        if let ToInit::Watchdog(order) = message
            && let Some(state) = self.watchdog.obey(order, since_boot(), log)
        {
            self.outbox.watchdog(state);
        }
        self.state.heard(message, since_boot());
    }

    /// A pidfd of the postmaster, if the process belongs to the agent's user. The agent takes the number from
    /// `postmaster.pid`, which other processes of that user can write.
    fn process_of_the_agent(&self, pid: u32) -> Option<OwnedFd> {
        let user = self.identity.as_ref().map_or_else(|| geteuid().as_raw(), |identity| identity.uid);
        // Opened first: the number is not reused while the process lives.
        let process = sys::pidfd_open(pid).ok()?;
        (fence::user_of(pid) == Some(user)).then_some(process)
    }

    fn take_signals(&mut self) {
        for _ in 0..SIGNALS_MAX {
            let Ok(Some(info)) = self.signals.read_signal() else { return };
            let number = info.ssi_signo.cast_signed();
            match Signal::try_from(number) {
                // `reap` looks for ended children after each wake-up.
                Ok(Signal::SIGCHLD) => {}
                Ok(Signal::SIGTERM | Signal::SIGINT) => {
                    self.state.asked_to_stop(since_boot());
                    self.outbox.signal(number);
                }
                Ok(_) | Err(_) => self.outbox.signal(number),
            }
        }
    }

    /// Reaps ended children; returns whether there may be more.
    fn reap(&mut self, log: &mut Log) -> bool {
        for _ in 0..ORPHANS_MAX {
            let Some((pid, ended)) = sys::reap() else { return false };
            if self.agent.as_ref().is_some_and(|agent| agent.pid == pid) {
                self.agent_ended(ended, log);
            }
        }
        true
    }

    fn agent_ended(&mut self, ended: Ended, log: &mut Log) {
        // Its last words: a socket holds a few hundred.
        self.hear(MESSAGES_MAX * 64, log);
        self.agent = None;
        self.look_at_postmaster();
        if let Some(deadline) = &self.deadline {
            self.state.left_in_force(deadline.left(since_boot()));
        }
        match self.state.agent_ended(ended, self.left_behind(), since_boot()) {
            AgentEnd::Expected => {}
            AgentEnd::StopPostgres => self.signal_postmaster(Signal::SIGINT),
            AgentEnd::Restart(delay) => {
                log.write(Level::Error, format_args!("agent {ended}, restarting it in {} ms", delay.as_millis()));
            }
            AgentEnd::GivenUp => {
                log.write(Level::Error, format_args!("agent {ended} and does not start: giving up"));
            }
        }
    }

    fn left_behind(&self) -> Postmaster {
        if self.postmaster.is_some() { Postmaster::Runs } else { Postmaster::None }
    }

    /// A pidfd is readable when its process has ended, reaped or not.
    fn look_at_postmaster(&mut self) {
        let Some(process) = &self.postmaster else { return };
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::ZERO) == Ok(1) {
            self.postmaster = None;
            self.state.postmaster_gone();
        }
    }

    fn look_at_deadline(&mut self) {
        if self.deadline.as_ref().is_some_and(Deadline::has_passed) {
            self.state.deadline_passed();
        }
    }

    fn tell(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        let Some(socket) = &agent.socket else { return };
        agent.sent = self.outbox.send(socket.as_fd(), &self.environment, &self.state);
    }

    fn carry_out(&mut self, due: Due, log: &mut Log) {
        match due {
            Due::Fence => {
                self.fence.kill_all();
                self.agent = None;
                self.postmaster = None;
                // The agent that was killed may still set it while it dies.
                self.deadline = None;
                self.state.fenced(since_boot());
                let text =
                    "lease not renewed before the deadline: killed PostgreSQL, the agent and all other processes";
                log.write(Level::Error, format_args!("{text}"));
            }
            Due::StartAgent => self.start_agent(log),
            Due::TakeOver => {
                log.write(Level::Error, format_args!("agent does not respond: stopping PostgreSQL without it"));
                if let Some(agent) = &self.agent {
                    self.fence.kill_child(agent.pid);
                }
                self.signal_postmaster(Signal::SIGINT);
                self.state.taken_over(self.left_behind(), since_boot());
            }
            Due::Escalate(way) => {
                match way {
                    Way::Fast => self.signal_postmaster(Signal::SIGINT),
                    Way::Immediate => self.signal_postmaster(Signal::SIGQUIT),
                    Way::Kill => self.fence.kill_all(),
                }
                self.state.escalated(way, since_boot());
            }
            // The loop returns instead.
            Due::Leave(_) => {}
        }
    }

    fn signal_postmaster(&self, signal: Signal) {
        if let Some(process) = &self.postmaster {
            self.fence.signal(process.as_fd(), signal);
        }
    }

    fn start_agent(&mut self, log: &mut Log) {
        match self.spawn() {
            Ok((agent, deadline)) => {
                self.outbox.restart(deadline.as_fd().as_raw_fd());
                self.watchdog.agent_started();
                self.agent = Some(agent);
                self.deadline = Some(deadline);
                self.state.agent_started(since_boot());
                if self.state.is_asked_to_stop() {
                    self.outbox.signal(Signal::SIGTERM as i32);
                }
                self.tell();
            }
            Err(error) => {
                self.state.start_failed(since_boot());
                log.write(Level::Warning, format_args!("cannot start the agent, retrying: {error}"));
            }
        }
    }

    fn spawn(&self) -> io::Result<(Agent, Deadline)> {
        let kind = SockType::SeqPacket;
        let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let deadline = Deadline::new(self.state.guard)?;
        let pid = sys::spawn(&self.program, theirs.as_fd(), deadline.as_fd(), self.identity.as_ref())?;
        Ok((Agent { pid, socket: Some(ours), sent: Sent::Some }, deadline))
    }
}

/// Blocks the signals that are read from the signalfd: all but those raised by faults and job control.
fn block_signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::all();
    let faults = [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGTRAP, Signal::SIGSYS];
    let job_control = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGCONT];
    for signal in faults.into_iter().chain(job_control) {
        signals.remove(signal);
    }
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}
