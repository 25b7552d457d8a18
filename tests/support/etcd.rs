//! Real etcd processes for tests: one node or a cluster, on loopback addresses that no other test process uses.
//!
//! Nodes can be killed, started again, frozen and thawed, or lose their data. Everything ends with the `Etcd` value.

// Each test crate uses its own part of this.
#![allow(dead_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use etcd_client::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tamada::config::{EtcdConfig, HostPort, Scheme};
use tamada::core::policy::Switch;

const READY_MAX: Duration = Duration::from_secs(30);

/// Below the ephemeral ports; the address is this process's own, so that a counter suffices.
const FIRST_PORT: u16 = 20_000;
static PORTS: AtomicU16 = AtomicU16::new(FIRST_PORT);

pub struct Etcd {
    nodes: Vec<Node>,
    directory: tempfile::TempDir,
    tls: Option<TlsFiles>,
    /// `--quota-backend-bytes`.
    quota: Option<u64>,
}

/// The server's and the clients' certificates, all by one authority.
#[derive(Clone)]
pub struct TlsFiles {
    pub cacert: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

struct Node {
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    process: Option<Child>,
}

impl Etcd {
    /// One node, ready.
    pub fn start() -> Self {
        Self::start_with(1, None, |_| None)
    }

    /// Several nodes, ready.
    pub fn cluster(nodes: usize) -> Self {
        Self::start_with(nodes, None, |_| None)
    }

    /// One node with room for so many bytes.
    pub fn with_quota(bytes: u64) -> Self {
        Self::start_with(1, Some(bytes), |_| None)
    }

    /// One node that demands client certificates; `make` writes them into the directory given.
    pub fn with_tls(make: impl FnOnce(&Path) -> TlsFiles) -> Self {
        Self::start_with(1, None, |directory| Some(make(directory)))
    }

    fn start_with(nodes: usize, quota: Option<u64>, make: impl FnOnce(&Path) -> Option<TlsFiles>) -> Self {
        let directory = scratch();
        let tls = make(directory.path());
        let nodes = (0..nodes).map(|at| Node {
            name: format!("etcd{at}"),
            client: own_address(),
            peer: own_address(),
            process: None,
        });
        let mut etcd = Etcd { nodes: nodes.collect(), directory, tls, quota };
        for at in 0..etcd.nodes.len() {
            etcd.spawn(at);
        }
        for at in 0..etcd.nodes.len() {
            etcd.wait_ready(at);
        }
        etcd
    }

    /// `host:port` of each node's client side.
    pub fn endpoints(&self) -> Vec<HostPort> {
        let endpoint = |node: &Node| HostPort { host: node.client.ip().to_string(), port: node.client.port() };
        self.nodes.iter().map(endpoint).collect()
    }

    /// How a member reaches all nodes, without credentials.
    pub fn config(&self) -> EtcdConfig {
        EtcdConfig {
            endpoints: self.endpoints(),
            scheme: if self.tls.is_some() { Scheme::Https } else { Scheme::Http },
            use_proxies: Switch::Off,
            username: None,
            password: None,
            cacert: self.tls.as_ref().map(|tls| tls.cacert.clone()),
            cert: self.tls.as_ref().map(|tls| tls.cert.clone()),
            key: self.tls.as_ref().map(|tls| tls.key.clone()),
        }
    }

    /// A client of etcd's own kind, to look and to meddle.
    pub async fn client(&self) -> Client {
        let urls: Vec<_> = self.nodes.iter().map(|node| format!("http://{}", node.client)).collect();
        Client::connect(urls, None).await.expect("etcd is there")
    }

    /// SIGSTOP: connections are accepted, nothing is answered. Returns when the last thread has stopped.
    pub fn freeze(&self, node: usize) {
        self.signal(node, Signal::SIGSTOP);
        let pid = self.nodes[node].process.as_ref().expect("the node runs").id();
        let begin = Instant::now();
        while !has_stopped(pid) {
            assert!(begin.elapsed() < READY_MAX, "etcd does not stop");
            std::thread::yield_now();
        }
    }

    pub fn thaw(&self, node: usize) {
        self.signal(node, Signal::SIGCONT);
    }

    /// SIGKILL; the data stay.
    pub fn kill(&mut self, node: usize) {
        if let Some(mut process) = self.nodes[node].process.take() {
            process.kill().expect("our own child can be killed");
            process.wait().expect("our own child can be waited for");
        }
    }

    /// Start a killed node again and wait until it serves.
    pub fn restart(&mut self, node: usize) {
        self.spawn(node);
        self.wait_ready(node);
    }

    /// Remove a killed node's data.
    pub fn lose_data(&mut self, node: usize) {
        std::fs::remove_dir_all(self.data(node)).expect("a killed node's data can be removed");
    }

    /// Writes until a node with a quota raises its alarm.
    pub fn fill(&self) {
        let value = "x".repeat(100_000);
        for round in 0..1_000 {
            if !self.etcdctl(&["put", &format!("/filler/{round}"), &value]).status.success() {
                return;
            }
        }
        panic!("etcd still has room");
    }

    /// Makes room again and disarms the alarm.
    pub fn make_room(&self) {
        let must = |words: &[&str]| {
            let output = self.etcdctl(words);
            assert!(output.status.success(), "{output:?}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        must(&["del", "--prefix", "/filler/"]);
        let answer: serde_json::Value = serde_json::from_str(&must(&["get", "/", "-w", "json"])).expect("JSON");
        must(&["compact", "--physical", &answer["header"]["revision"].to_string()]);
        must(&["defrag"]);
        must(&["alarm", "disarm"]);
    }

    /// How many writes and leases this node has refused for lack of room.
    pub fn refusals(&self) -> u64 {
        let metrics = self.metrics(0);
        let refused = metrics
            .lines()
            .filter(|line| line.starts_with("grpc_server_handled_total") && line.contains("\"ResourceExhausted\""));
        refused.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }

    pub fn etcdctl(&self, words: &[&str]) -> std::process::Output {
        let endpoint = self.nodes[0].client.to_string();
        let mut command = Command::new("etcdctl");
        command.args(["--endpoints", &endpoint]).args(words).env("ETCDCTL_API", "3");
        command.output().expect("etcdctl is installed")
    }

    /// `etcdctl snapshot save`, of a single node.
    pub fn save(&self) -> PathBuf {
        let file = self.directory.path().join("snapshot.db");
        let endpoint = self.nodes[0].client.to_string();
        etcdctl(Command::new("etcdctl").args(["--endpoints", &endpoint, "snapshot", "save"]).arg(&file));
        file
    }

    /// The single node, killed before, gets the data of a snapshot. It has to be started again.
    pub fn restore(&mut self, snapshot: &Path) {
        self.lose_data(0);
        let node = &self.nodes[0];
        let peer = format!("http://{}", node.peer);
        let mut command = Command::new("etcdctl");
        command.args(["snapshot", "restore"]).arg(snapshot).arg("--data-dir").arg(self.data(0));
        command.args(["--name", &node.name, "--initial-cluster", &format!("{}={peer}", node.name)]);
        command.args(["--initial-cluster-token", "test", "--initial-advertise-peer-urls", &peer]);
        etcdctl(&mut command);
    }

    /// `GET /metrics` of a node.
    pub fn metrics(&self, node: usize) -> String {
        http_get(self.nodes[node].client, "/metrics").expect("a living node shows its metrics")
    }

    fn signal(&self, node: usize, signal: Signal) {
        let process = self.nodes[node].process.as_ref().expect("the node runs");
        let pid = i32::try_from(process.id()).expect("a pid is a positive i32");
        kill(Pid::from_raw(pid), signal).expect("our own child can be signalled");
    }

    fn data(&self, node: usize) -> PathBuf {
        self.directory.path().join(&self.nodes[node].name)
    }

    fn log(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("{}.log", self.nodes[node].name))
    }

    fn spawn(&mut self, at: usize) {
        let log = File::options().create(true).append(true).open(self.log(at)).expect("the log can be written");
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let node = &self.nodes[at];
        let client = format!("{scheme}://{}", node.client);
        let peer = format!("http://{}", node.peer);
        let cluster: Vec<_> = self.nodes.iter().map(|node| format!("{}=http://{}", node.name, node.peer)).collect();
        let mut command = Command::new("etcd");
        command.args(["--name", &node.name, "--data-dir"]).arg(self.data(at));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &cluster.join(","), "--initial-cluster-token", "test"]);
        command.args(["--heartbeat-interval", "50", "--election-timeout", "500", "--logger", "zap"]);
        if let Some(bytes) = self.quota {
            command.args(["--quota-backend-bytes", &bytes.to_string()]);
        }
        if let Some(tls) = &self.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.cacert);
            command.arg("--cert-file").arg(&tls.cert).arg("--key-file").arg(&tls.key);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        self.nodes[at].process = Some(command.spawn().expect("etcd is installed"));
    }

    /// Until the node knows a leader; with TLS until it accepts connections.
    fn wait_ready(&mut self, at: usize) {
        let begin = Instant::now();
        loop {
            let node = &mut self.nodes[at];
            let is_ready = match self.tls {
                Some(_) => TcpStream::connect(node.client).is_ok(),
                None => http_get(node.client, "/health").is_ok_and(|answer| answer.contains("\"true\"")),
            };
            if is_ready {
                return;
            }
            let process = node.process.as_mut().expect("the node was started");
            let is_dead = process.try_wait().is_ok_and(|status| status.is_some());
            if is_dead || begin.elapsed() > READY_MAX {
                let log = std::fs::read_to_string(self.log(at)).unwrap_or_default();
                panic!("etcd node {at} is not ready:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for node in 0..self.nodes.len() {
            self.kill(node);
        }
    }
}

fn etcdctl(command: &mut Command) {
    let output = command.env("ETCDCTL_API", "3").output().expect("etcdctl is installed");
    assert!(output.status.success(), "{output:?}");
}

/// Whether every thread of the process is in the state T.
fn has_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("our own child is in /proc");
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}

/// In memory where there is such a place: etcd waits for the disk at each write.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a scratch directory can be made")
}

/// The loopback address that belongs to this process by its pid.
pub fn own_host() -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | high, middle, low)
}

/// A place on that address that nothing else in this process uses.
pub fn own_address() -> SocketAddr {
    let port = PORTS.fetch_add(1, Ordering::Relaxed);
    SocketAddr::new(own_host().into(), port)
}

fn http_get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
