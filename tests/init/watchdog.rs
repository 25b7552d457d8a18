//! The watchdog device, with a FIFO in its place. Where it is not begun anew within its timeout, a real one resets the machine.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::world::{Namespace, Setup, eventually, lives};

/// Only root may write it.
struct Device(File);

impl Device {
    fn in_folder(folder: &Path) -> Self {
        let path = folder.join("watchdog");
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("writable");
        Device(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).expect("ours"))
    }

    /// What was written since the last call.
    fn said(&mut self) -> String {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return text,
                Ok(length) => text.push_str(std::str::from_utf8(&buffer[..length]).expect("ASCII")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return text,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn until(&mut self, end: &str) -> String {
        let mut text = String::new();
        eventually(end, || {
            text += &self.said();
            text.ends_with(end).then_some(())
        });
        text
    }

    /// Nothing comes for so long.
    fn is_silent_for(&mut self, duration: Duration) {
        let began = Instant::now();
        eventually("the time to be over", || {
            assert_eq!(self.said(), "", "after {:?}", began.elapsed());
            (began.elapsed() > duration).then_some(())
        });
    }
}

pub fn a_frozen_agent_keeps_no_watchdog_alive() {
    let setup = Setup::new(Namespace::Own);
    let mut device = Device::in_folder(setup.folder());
    let world = setup.start(&["tree", "guard=60000", "alive=50"]);
    let agent = world.agent_start(1);
    assert_ne!(agent.field("uid"), "0", "PID 1 opens what the agent cannot");
    let said = device.until("1111111111");
    assert!(said.starts_with("Ctimeout=25\n1"), "{said}");
    assert_eq!(world.read("answers"), "Armed { timeout: 25 }\n", "told once");
    kill(Pid::from_raw(world.outside(agent.pid())), Signal::SIGSTOP).expect("it runs");
    eventually("what was under way", || device.said().is_empty().then_some(()));
    // PID 1 lives, and its deadline is far away.
    device.is_silent_for(Duration::from_millis(1_500));
    assert!(world.tree().iter().all(|pid| lives(*pid)));
}

pub fn an_agent_that_is_restarted_finds_the_countdown_going() {
    let setup = Setup::new(Namespace::Own);
    let mut device = Device::in_folder(setup.folder());
    let world = setup.start(&["guard=60000", "always", "alive=50"]);
    let first = world.agent_start(1);
    device.until("111");
    kill(Pid::from_raw(world.outside(first.pid())), Signal::SIGKILL).expect("it runs");
    world.agent_start(2);
    assert_eq!(device.until("111").replace('1', ""), "", "neither disarmed nor opened anew");
    eventually("the second agent to be told", || (world.read("answers").lines().count() == 2).then_some(()));
}

pub fn a_stop_disarms_it() {
    let setup = Setup::new(Namespace::Own);
    let mut device = Device::in_folder(setup.folder());
    let mut world = setup.start(&["tree", "alive=50"]);
    world.agent_start(1);
    device.until("111");
    world.signal(Signal::SIGTERM);
    assert_eq!(world.end().code(), Some(0));
    let said = device.said();
    assert!(said.ends_with('V'), "{said}");
}

pub fn what_cannot_be_armed_is_told() {
    let setup = Setup::new(Namespace::Own);
    std::fs::write(setup.folder().join("watchdog"), "a file").expect("writable");
    let world = setup.start(&["alive=50"]);
    world.agent_start(1);
    eventually("the answer", || (world.read("answers") == "Failed\n").then_some(()));
    assert_eq!(world.read("answers"), "Failed\n");
    assert_eq!(
        std::fs::read_to_string(world.folder.path().join("watchdog")).expect("there").lines().next(),
        Some("a file")
    );
}
