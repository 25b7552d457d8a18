//! Pods' network: each member in a network namespace of its own with an address of its own, joined by a bridge to that of the
//! test's thread, where the API server and the clients are. Nothing of it reaches the host's network, and all of it goes
//! with the test.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::wait::{SOON, until};

/// Of the test's thread.
const HUB: Ipv4Addr = Ipv4Addr::new(10, 244, 255, 254);
const BRIDGE: &str = "pods";

pub struct Pods {
    /// What keeps each pod's namespace, in the order of their addresses.
    holders: Mutex<Vec<Child>>,
}

/// As the network knows a pod.
#[derive(Clone, Copy)]
pub struct Place {
    pub address: Ipv4Addr,
    /// A process in its namespace.
    pub holder: u32,
}

impl Pods {
    /// Takes the calling thread, and what it starts from now on, out of the host's network.
    pub fn around_this_thread() -> Pods {
        unshare(CloneFlags::CLONE_NEWNET).expect("tests run as root");
        ip(&["link", "set", "lo", "up"]);
        ip(&["link", "add", BRIDGE, "type", "bridge"]);
        ip(&["addr", "add", &format!("{HUB}/16"), "dev", BRIDGE]);
        ip(&["link", "set", BRIDGE, "up"]);
        Pods { holders: Mutex::default() }
    }

    /// Where the API server listens.
    pub fn hub(&self) -> SocketAddr {
        SocketAddr::new(HUB.into(), 6443)
    }

    /// A new pod; the first has the number 1.
    pub fn add(&self) -> Place {
        let mut holders = self.holders.lock().expect("nothing panics with it");
        // Ends with this thread, whatever becomes of it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]).stdin(Stdio::null());
        let holder = command.spawn().expect("setpriv is there");
        let pid = holder.id();
        holders.push(holder);
        let number = u8::try_from(holders.len()).expect("few pods");
        let place = Place { address: Ipv4Addr::new(10, 244, 0, number), holder: pid };
        until(SOON, "the pod has a namespace", || namespace(pid).is_some_and(|its| Some(its) != namespace_of_thread()));
        let (end, process) = (link(number), pid.to_string());
        ip(&["link", "add", &end, "type", "veth", "peer", "name", "eth0", "netns", &process]);
        ip(&["link", "set", &end, "master", BRIDGE, "up"]);
        let inside = |words: &[&str]| {
            let status = Command::new("nsenter").args(["--net", "--target", &process, "ip"]).args(words).status();
            assert!(status.expect("nsenter is there").success(), "ip {words:?}");
        };
        inside(&["link", "set", "lo", "up"]);
        inside(&["addr", "add", &format!("{}/16", place.address), "dev", "eth0"]);
        inside(&["link", "set", "eth0", "up"]);
        place
    }

    /// Nothing reaches the pod, and it reaches nothing.
    pub fn cut_off(&self, place: Place) {
        ip(&["link", "set", &link(place.address.octets()[3]), "down"]);
    }

    pub fn join_again(&self, place: Place) {
        ip(&["link", "set", &link(place.address.octets()[3]), "up"]);
    }
}

impl Place {
    pub fn at(self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), port)
    }

    /// What is done here, and the threads that it starts, are in the pod.
    pub fn inside<T: Send>(self, what: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                let file = File::open(format!("/proc/{}/ns/net", self.holder)).expect("the pod is there");
                setns(file, CloneFlags::CLONE_NEWNET).expect("tests run as root");
                what()
            });
            there.join().expect("nothing panics there")
        })
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for holder in self.holders.get_mut().expect("nothing panics with it") {
            holder.kill().ok();
            holder.wait().ok();
        }
    }
}

fn link(number: u8) -> String {
    format!("pod{number}")
}

fn namespace(pid: u32) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

fn namespace_of_thread() -> Option<std::path::PathBuf> {
    std::fs::read_link("/proc/thread-self/ns/net").ok()
}

fn ip(words: &[&str]) {
    let status = Command::new("ip").args(words).status().expect("iproute2 is installed");
    assert!(status.success(), "ip {words:?}");
}
