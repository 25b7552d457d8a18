//! A watchdog device in the members' configuration, with a FIFO in its place.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::member::Member;
use crate::wait::{seconds, until};
use crate::world::{Cluster, SOON};

/// ttl is 5 s.
const TIMEOUT: Duration = Duration::from_secs(4);

struct Device {
    path: PathBuf,
    reader: File,
    /// All that was written.
    said: String,
}

impl Device {
    fn of(member: &mut Member) -> Self {
        let path = member.folder.join("wd");
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("writable");
        let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).expect("ours");
        member.set("PATRONI_WATCHDOG_DEVICE", path.to_str().expect("text"));
        member.set("PATRONI_WATCHDOG_SAFETY_MARGIN", "1").set("PATRONI_WATCHDOG_MODE", "required");
        Device { path, reader, said: String::new() }
    }

    fn look(&mut self) -> &str {
        let mut buffer = [0; 4096];
        loop {
            match self.reader.read(&mut buffer) {
                Ok(0) => return &self.said,
                Ok(length) => self.said += std::str::from_utf8(&buffer[..length]).expect("ASCII"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return &self.said,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn ends_with(&mut self, end: &str) {
        until(SOON, end, || self.look().ends_with(end));
    }
}

fn document(member: &Member) -> serde_json::Value {
    member.get("/patroni").expect("an answer").json()
}

#[test]
fn renewals_keep_the_primarys_watchdog_alive_and_a_pause_and_a_stop_disarm_it() {
    let mut cluster = Cluster::prepare(2);
    let mut devices: Vec<Device> = cluster.members.iter_mut().map(Device::of).collect();
    cluster.start_all();
    let (leader, _) = cluster.whole(SOON);
    devices[leader].ends_with("1111");
    assert!(devices[leader].look().starts_with("Ctimeout=4\n1"), "{}", devices[leader].said);
    assert_eq!(devices[1 - leader].look(), "", "a standby's is not opened");

    assert!(cluster.members[leader].ctl(&["pause", "--wait"]).status.success());
    devices[leader].ends_with("V");
    assert!(cluster.members[leader].ctl(&["resume", "--wait"]).status.success());
    devices[leader].ends_with("VCtimeout=4\n111");

    let name = cluster.members[leader].name.clone();
    let reply = cluster.members[leader].send("POST", "/switchover", &serde_json::json!({"leader": name}));
    assert_eq!(reply.expect("an answer").code, 200);
    assert_eq!(cluster.whole(SOON).0, 1 - leader);
    devices[leader].ends_with("V");
    devices[1 - leader].ends_with("111");
    assert_eq!(cluster.members[1 - leader].stop(), 0);
    assert!(devices[1 - leader].look().ends_with("1V"), "{}", devices[1 - leader].said);
}

#[test]
fn a_frozen_agent_ends_in_a_reset_before_the_lease_does() {
    let mut cluster = Cluster::prepare(2);
    let mut devices: Vec<Device> = cluster.members.iter_mut().map(Device::of).collect();
    cluster.start_all();
    let (leader, _) = cluster.whole(SOON);
    devices[leader].ends_with("111");
    let agent = cluster.members[leader].agent().expect("it runs");
    kill(Pid::from_raw(agent), Signal::SIGSTOP).expect("it runs");
    let frozen = Instant::now();
    // What it had said before.
    let before = devices[leader].look().len();
    // A machine would be reset by then, if nothing more comes.
    until(TIMEOUT + seconds(1), "the timeout is over", || frozen.elapsed() >= TIMEOUT);
    let said = devices[leader].look();
    assert!(said.len() <= before + 1 && !said.ends_with('V'), "{said}");
    // No reset here: PID 1's own deadline ends PostgreSQL, and whoever leads then has its device kept alive.
    let length = said.len();
    cluster.members[leader].wait_log(SOON, "lease not renewed before the deadline");
    let (next, _) = cluster.whole(SOON);
    let length = if next == leader { length } else { 0 };
    until(SOON, "keepalives", || devices[next].look().len() > length + 3);
}

#[test]
fn a_member_without_its_device_says_so_and_never_leads() {
    let mut cluster = Cluster::prepare(2);
    let mut devices: Vec<Device> = cluster.members.iter_mut().map(Device::of).collect();
    std::fs::remove_file(&devices[0].path).expect("ours");
    cluster.start_all();
    let (leader, _) = cluster.whole(SOON);
    assert_eq!(leader, 1);
    assert_eq!(document(&cluster.members[0])["watchdog_failed"], true);
    assert_eq!(document(&cluster.members[1]).get("watchdog_failed"), None);
    let reply = cluster.members[1].send("POST", "/switchover", &serde_json::json!({"leader": "m2"}));
    assert_eq!(reply.expect("an answer").code, 412);
    cluster.members[1].kill();
    cluster.members[0].wait_log(SOON, "Watchdog device is not usable");
    assert_eq!(cluster.members[0].value("SELECT pg_is_in_recovery()").as_deref(), Ok("t"));
    // It is there now, and found without a reload.
    devices[0] = Device::of(&mut cluster.members[0]);
    cluster.members[0].wait_writable(SOON);
    devices[0].ends_with("111");
}
