//! etcd and kube-apiserver as processes, started as envtest starts them.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use openssl::rsa::Rsa;
use serde_json::json;

use super::authority::Authority;

/// Where their files are and where they listen.
pub struct Site {
    assets: PathBuf,
    folder: tempfile::TempDir,
    pub address: SocketAddr,
    etcd: SocketAddr,
    peer: SocketAddr,
}

/// Ends with its value.
pub struct Process(Child);

impl Process {
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).expect("a pid is a positive i32");
        kill(Pid::from_raw(pid), signal).expect("our own child can be signalled");
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Site {
    /// `token` is the superuser's.
    pub fn new(assets: PathBuf, address: SocketAddr, authority: &Authority, token: &str) -> Self {
        let free = |ip: IpAddr, port: u16| {
            let listener = TcpListener::bind((ip, port)).expect("the address can be listened on");
            listener.local_addr().expect("a bound socket has an address")
        };
        let local = Ipv4Addr::LOCALHOST.into();
        let site = Site {
            assets,
            folder: tempfile::tempdir().expect("a scratch directory can be made"),
            address: free(address.ip(), address.port()),
            etcd: free(local, 0),
            peer: free(local, 0),
        };
        site.write(authority, token).expect("files can be written");
        site
    }

    fn write(&self, authority: &Authority, token: &str) -> io::Result<()> {
        let folder = self.folder.path();
        authority.issue_server(&[self.address.ip()]).write(folder, "server");
        fs::write(folder.join("ca.crt"), authority.pem())?;
        let key = Rsa::generate(2048)?;
        fs::write(folder.join("accounts.key"), key.private_key_to_pem()?)?;
        fs::write(folder.join("accounts.pub"), key.public_key_to_pem()?)?;
        fs::write(folder.join("tokens.csv"), format!("{token},admin,admin,\"system:masters\"\n"))?;
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "rules": [{"level": "Metadata", "verbs": ["watch"]}, {"level": "Metadata", "omitStages": ["RequestReceived"]}],
        });
        fs::write(folder.join("audit.yaml"), policy.to_string())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn spawn(&self, program: &str, words: &[String]) -> Process {
        let log = File::options().create(true).append(true).open(self.path(&format!("{program}.log")));
        let log = log.expect("the log can be written");
        let mut command = Command::new(self.assets.join(program));
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        Process(command.spawn().unwrap_or_else(|error| panic!("cannot start {program}: {error}")))
    }

    pub fn etcd(&self) -> Process {
        let (client, peer) = (format!("http://{}", self.etcd), format!("http://{}", self.peer));
        let words = [
            ("data-dir", self.path("etcd").display().to_string()),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client),
            ("listen-peer-urls", peer.clone()),
            ("initial-advertise-peer-urls", peer.clone()),
            ("initial-cluster", format!("default={peer}")),
            ("unsafe-no-fsync", "true".to_owned()),
        ];
        self.spawn("etcd", &flags(&words))
    }

    pub fn api_server(&self) -> Process {
        let file = |name: &str| self.path(name).display().to_string();
        let words = [
            ("etcd-servers", format!("http://{}", self.etcd)),
            ("bind-address", self.address.ip().to_string()),
            ("secure-port", self.address.port().to_string()),
            ("endpoint-reconciler-type", "none".to_owned()),
            ("tls-cert-file", file("server.crt")),
            ("tls-private-key-file", file("server.key")),
            ("client-ca-file", file("ca.crt")),
            ("token-auth-file", file("tokens.csv")),
            ("authorization-mode", "RBAC".to_owned()),
            ("disable-admission-plugins", "ServiceAccount".to_owned()),
            ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
            ("service-account-key-file", file("accounts.pub")),
            ("service-account-signing-key-file", file("accounts.key")),
            ("service-cluster-ip-range", "10.96.0.0/16".to_owned()),
            ("allow-privileged", "true".to_owned()),
            ("audit-policy-file", file("audit.yaml")),
            ("audit-log-path", file("audit.log")),
        ];
        self.spawn("kube-apiserver", &flags(&words))
    }

    /// The end of what a program has logged.
    pub fn log(&self, program: &str) -> String {
        let log = fs::read_to_string(self.path(&format!("{program}.log"))).unwrap_or_default();
        let from = log.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
        log[from..].to_owned()
    }

    /// Runs Debian's etcdctl against this etcd, or on files of its own.
    pub fn etcdctl(&self, words: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.args(["--endpoints", &self.etcd.to_string()]).args(words).env("ETCDCTL_API", "3");
        let output = command.output().expect("etcdctl is installed");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Etcd, which must not run, begins with nothing or with a snapshot's content.
    pub fn replace_data(&self, snapshot: Option<&Path>) {
        let data = self.path("etcd");
        fs::remove_dir_all(&data).expect("a stopped etcd's data can be removed");
        if let Some(snapshot) = snapshot {
            let peer = format!("http://{}", self.peer);
            let (snapshot, data) = (snapshot.display().to_string(), data.display().to_string());
            let cluster = format!("default={peer}");
            self.etcdctl(&[
                "snapshot",
                "restore",
                &snapshot,
                "--data-dir",
                &data,
                "--initial-cluster",
                &cluster,
                "--initial-advertise-peer-urls",
                &peer,
            ]);
        }
    }
}

fn flags(words: &[(&str, String)]) -> Vec<String> {
    words.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}
