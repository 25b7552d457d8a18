//! The parts that this executable plays below PID 1: a scripted agent, a postmaster, its backends, a maker of orphans.
#![allow(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{Expiration, TimerFd, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use tamada::wire::watchdog::{Device, Need, WatchdogOrder};
use tamada::wire::{self, Guard, LeaseToken, ToAgent, ToInit};

/// Lines that a part writes into the test's folder.
pub fn record(folder: &Path, file: &str, line: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(folder.join(file)).expect("folder is writable");
    file.write_all(format!("{line}\n").as_bytes()).expect("folder is writable");
}

/// Carries out its arguments one after the other at its first start, then answers what PID 1 says:
/// `tree` starts a postmaster, `lease=N` tells PID 1, `guard=MS` (from now) and `guard=none` set the deadline, `renew=MS` goes on renewing, `alive=MS` the same with the watchdog's keepalive, `hold` leaves a
/// process behind that moves the deadline once there is another agent, `last` waits for the deadline and ends at it,
/// `claim` names a postmaster that somebody else has started, `run=NAME` executes a file of the folder with `-u` and keeps its output, `orphans` makes some, `bye=N` and `exit=N` end, `deaf` does nothing more, `always` does the rest at each start.
pub fn agent(script: &[OsString]) -> ExitCode {
    tamada::process::hide();
    tamada::process::keep_files();
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("a descriptor");
    nix::unistd::dup2_stdin(std::fs::File::open("/dev/null").expect("there")).expect("a descriptor");
    let environment = wire::receive_environment(&socket).expect("PID 1 sends it");
    let environment = tamada::init::unpack_environment(&environment);
    let value = |name: &str| environment.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
    let folder = PathBuf::from(value("TAMADA_TEST_FOLDER").expect("set by the test"));
    let handover = wire::receive_handover(&socket).expect("PID 1 sends it");
    let secret = value("PATRONI_SUPERUSER_PASSWORD").unwrap_or_default();
    let (starts, lease, uid) = (handover.starts, handover.lease, nix::unistd::getuid());
    let guard = match handover.guard {
        Guard::NoDeadline => "none".to_owned(),
        Guard::Until(nanos) => nanos.to_string(),
    };
    let line = format!(
        "{starts} pid {} uid {uid} lease {lease:?} guard {guard} secret {}",
        std::process::id(),
        secret.display()
    );
    // What stands in the files whose paths the environment has.
    for (name, path) in environment.iter().filter(|(name, _)| name.to_string_lossy().starts_with("PATRONI_")) {
        if let Ok(content) = std::fs::read_to_string(path) {
            record(&folder, "files", &format!("{} {content}", name.display()));
        }
    }
    let deadline = tamada::process::inherited_timer(handover.deadline).expect("PID 1 hands it down");
    let mut agent = Agent {
        socket: std::fs::File::from(socket),
        deadline: Arc::new(deadline),
        until: 0,
        folder,
        postmaster: None,
        holder: None,
    };
    let always = script.iter().position(|word| word == "always").unwrap_or(script.len());
    let words = if starts == 1 { script } else { &script[always..] };
    for word in words {
        if let Some(code) = agent.step(word.to_str().expect("ASCII")) {
            return ExitCode::from(code);
        }
    }
    // Last, so that a test that sees the line can rely on the steps.
    record(&agent.folder, "starts", &line);
    agent.serve()
}

struct Agent {
    socket: std::fs::File,
    deadline: Arc<TimerFd>,
    /// The deadline that was set last.
    until: u64,
    folder: PathBuf,
    postmaster: Option<Child>,
    holder: Option<Child>,
}

impl Agent {
    fn tell(&mut self, message: ToInit) {
        self.socket.write_all(&message.encode()).expect("PID 1 reads");
    }

    fn step(&mut self, word: &str) -> Option<u8> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match (name, value) {
            ("tree", _) => self.start_postmaster(),
            ("lease", id) => self.tell(ToInit::Lease(LeaseToken::new(id.as_bytes()))),
            ("guard", "none") => set(&self.deadline, Guard::NoDeadline),
            ("guard", millis) => {
                let until = boot_nanos() + millis.parse::<u64>().expect("a number") * 1_000_000;
                record(&self.folder, "deadline", &until.to_string());
                set(&self.deadline, Guard::Until(until));
                self.until = until;
            }
            ("renew", millis) => {
                // One thread that renews for ever; it dies and freezes with the agent.
                let millis: u64 = millis.parse().expect("a number");
                let deadline = self.deadline.clone();
                std::thread::spawn(move || {
                    loop {
                        set(&deadline, Guard::Until(boot_nanos() + millis * 1_000_000));
                        std::thread::sleep(std::time::Duration::from_millis(millis / 4));
                    }
                });
            }
            ("alive", millis) => {
                let millis: u64 = millis.parse().expect("a number");
                let device = self.folder.join("watchdog").into_os_string().into_encoded_bytes();
                let device = Device::new(&device).expect("a short path");
                let mut socket = self.socket.try_clone().expect("a descriptor");
                std::thread::spawn(move || {
                    loop {
                        let by = boot_nanos() + 5_000_000_000;
                        let order = WatchdogOrder::Keep { device, need: Need::Required, timeout: 25, by };
                        socket.write_all(&ToInit::Watchdog(order).encode()).expect("PID 1 reads");
                        std::thread::sleep(std::time::Duration::from_millis(millis));
                    }
                });
            }
            ("hold", _) => self.leave_a_holder(),
            ("last", micros) => {
                let end = self.until + micros.parse::<u64>().expect("a number") * 1_000;
                while boot_nanos() < end {}
                return Some(1);
            }
            ("claim", _) => {
                let tree = super::world::eventually("a tree", || {
                    std::fs::read_to_string(self.folder.join("tree")).ok().filter(|line| line.ends_with('\n'))
                });
                let pid = tree.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number");
                self.tell(ToInit::Postmaster(Some(pid)));
            }
            ("run", name) => {
                let output = Command::new(self.folder.join(name)).arg("-u").output().expect("can be executed");
                std::fs::write(self.folder.join("run.out"), output.stdout).expect("folder is writable");
            }
            ("orphans", _) => drop(part("orphans").spawn().and_then(|mut child| child.wait())),
            ("bye", code) => {
                let code = code.parse().expect("a number");
                self.tell(ToInit::Bye(code));
                return Some(code);
            }
            ("exit", code) => return Some(code.parse().expect("a number")),
            ("deaf", _) => loop {
                std::thread::park();
            },
            ("always" | "", _) => {}
            other => panic!("no such step: {other:?}"),
        }
        None
    }

    fn start_postmaster(&mut self) {
        let child = part("postmaster").arg(&self.folder).stdin(Stdio::null()).spawn().expect("can be started");
        while !self.folder.join("tree").exists() {
            std::thread::yield_now();
        }
        self.tell(ToInit::Postmaster(Some(child.id())));
        self.postmaster = Some(child);
    }

    fn leave_a_holder(&mut self) {
        let number = self.deadline.as_fd().as_raw_fd();
        fcntl(&self.deadline, FcntlArg::F_SETFD(FdFlag::empty())).expect("ours");
        let mut holder = part("holder");
        holder.arg(&self.folder).arg(number.to_string()).stdin(Stdio::null());
        self.holder = Some(holder.spawn().expect("can be started"));
        fcntl(&self.deadline, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("ours");
    }

    fn serve(&mut self) -> ExitCode {
        self.tell(ToInit::Ready);
        let mut packet = [0; wire::TO_AGENT_MAX];
        loop {
            let length = self.socket.read(&mut packet).expect("a socket");
            match ToAgent::decode(&packet[..length]) {
                Some(ToAgent::Signal(number)) => {
                    record(&self.folder, "signals", &number.to_string());
                    self.tell(ToInit::Alive);
                    if number == Signal::SIGTERM as i32 {
                        return self.stop();
                    }
                }
                Some(ToAgent::Watchdog(state)) => record(&self.folder, "answers", &format!("{state:?}")),
                // PID 1 is gone.
                None => return ExitCode::FAILURE,
                Some(other) => panic!("not now: {other:?}"),
            }
        }
    }

    fn stop(&mut self) -> ExitCode {
        if let Some(postmaster) = &mut self.postmaster {
            let pid = nix::unistd::Pid::from_raw(postmaster.id().cast_signed());
            nix::sys::signal::kill(pid, Signal::SIGINT).expect("it runs");
            postmaster.wait().expect("our child");
            self.tell(ToInit::Postmaster(None));
        }
        self.tell(ToInit::Bye(0));
        ExitCode::SUCCESS
    }
}

/// As the agent does it, however late.
fn set(deadline: &TimerFd, guard: Guard) {
    let at = Expiration::OneShot(TimeSpec::from_duration(guard.expires()));
    deadline.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME).expect("a timer");
}

/// Lifts the deadline of an agent that has been followed by another.
pub fn holder(arguments: &[OsString]) -> ExitCode {
    let [folder, number] = arguments else { panic!("FOLDER NUMBER") };
    let folder = Path::new(folder);
    let number = number.to_str().and_then(|number| number.parse().ok()).expect("a number");
    let deadline = tamada::process::inherited_timer(number).expect("it was left open");
    super::world::eventually("another agent", || {
        let starts = std::fs::read_to_string(folder.join("starts")).unwrap_or_default();
        (starts.lines().count() == 2).then_some(())
    });
    set(&deadline, Guard::NoDeadline);
    record(folder, "held", "lifted");
    backend()
}

/// Five backends, each a session of its own; SIGINT is a fast shutdown. Before, it looks for secrets with the eyes of
/// whoever runs SQL as a superuser.
pub fn postmaster(folder: &OsStr) -> ExitCode {
    let folder = Path::new(folder);
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGINT);
    stop.thread_block().expect("valid");
    let backends: Vec<Child> = (0..5).map(|_| part("backend").spawn().expect("can be started")).collect();
    for (pid, file, content) in super::world::visible_to_us() {
        record(folder, "seen", &format!("{pid} {file} {content}"));
    }
    let pids: Vec<String> = backends.iter().map(|child| child.id().to_string()).collect();
    let partial = folder.join("tree.partial");
    std::fs::write(&partial, format!("{} {}\n", std::process::id(), pids.join(" "))).expect("folder is writable");
    std::fs::rename(partial, folder.join("tree")).expect("folder is writable");
    stop.wait().expect("valid");
    record(folder, "stops", "fast");
    for mut backend in backends {
        backend.kill().and_then(|()| backend.wait()).expect("our child");
    }
    ExitCode::SUCCESS
}

/// Nothing but SIGKILL ends it.
pub fn backend() -> ExitCode {
    nix::unistd::setsid().expect("not a leader yet");
    SigSet::all().thread_block().expect("valid");
    loop {
        std::thread::park();
    }
}

/// Ten times a thousand children, all orphaned and ended in the same moment, every fifth with status 2.
pub fn orphans() -> ExitCode {
    for _ in 0..10 {
        // SAFETY: one thread; the child only makes more children and ends.
        match unsafe { libc::fork() } {
            0 => thousand_orphans(),
            pid => drop(nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).expect("our child")),
        }
    }
    ExitCode::SUCCESS
}

fn thousand_orphans() -> ! {
    let mut pipe = [0; 2];
    // SAFETY: as above; only system calls between fork and _exit.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        for index in 0..1000 {
            if libc::fork() == 0 {
                libc::close(pipe[1]);
                let mut byte = 0_u8;
                // Returns when the parent, the last one with the other end, has ended.
                libc::read(pipe[0], (&raw mut byte).cast(), 1);
                libc::_exit(if index % 5 == 0 { 2 } else { 0 });
            }
        }
        libc::_exit(0)
    }
}

/// Starts a program so many times, as whoever we are, and tries to trace each run and to take its standard input for as
/// long as it lives, but at most `ATTEMPTS_MAX` times. Prints how many attempts there were and how many runs were taken.
pub fn attacker(arguments: &[OsString]) -> ExitCode {
    let [runs, program, words @ ..] = arguments else { panic!("RUNS PROGRAM WORD…") };
    let runs: u32 = runs.to_str().and_then(|word| word.parse().ok()).expect("a number");
    let name = Path::new(program).file_name().and_then(OsStr::to_str).expect("ASCII");
    let (mut attempts, mut taken) = (0, 0);
    for _ in 0..runs {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("can be executed");
        let pid = child.id().cast_signed();
        // Before it is executed the process is a copy of ours, and ours to trace.
        let comm = format!("/proc/{pid}/comm");
        while std::fs::read_to_string(&comm).is_ok_and(|comm| !name.starts_with(comm.trim_end())) {}
        let mut tries = 0;
        while tries < ATTEMPTS_MAX && child.try_wait().expect("our child").is_none() {
            tries += 1;
            if is_taken(pid) {
                taken += 1;
                break;
            }
        }
        attempts += tries;
        child.kill().and_then(|()| child.wait()).expect("our child");
    }
    println!("{attempts} {taken}");
    ExitCode::SUCCESS
}

const ATTEMPTS_MAX: u32 = 100_000;

fn is_taken(pid: i32) -> bool {
    // SAFETY: integers and null pointers; descriptors are closed with the process.
    unsafe {
        let none = std::ptr::null_mut::<libc::c_void>();
        if libc::ptrace(libc::PTRACE_SEIZE, pid, none, none) == 0 {
            return true;
        }
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        let stolen = libc::syscall(libc::SYS_pidfd_getfd, process, 0, 0);
        libc::close(i32::try_from(process).expect("a descriptor"));
        stolen >= 0
    }
}

fn part(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("mounted /proc"));
    command.arg(name);
    command
}

pub fn boot_nanos() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux");
    u64::try_from(std::time::Duration::from(time).as_nanos()).expect("less than 500 years")
}
