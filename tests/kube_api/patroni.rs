//! Three stock Patroni members, which nobody wrote for this server, in both of their modes: bootstrap, switchover,
//! failover, and the objects that they leave.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use serde_json::{Value, json};

use crate::client::server;
use crate::kube_api::{KubeApi, Rule};

const LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Endpoints,
    ConfigMaps,
}

impl Mode {
    fn resource(self) -> &'static str {
        match self {
            Mode::Endpoints => "endpoints",
            Mode::ConfigMaps => "configmaps",
        }
    }

    fn leader(self) -> &'static str {
        match self {
            Mode::Endpoints => "demo",
            Mode::ConfigMaps => "demo-leader",
        }
    }
}

struct Member {
    process: Child,
    data: PathBuf,
}

impl Member {
    /// The agent and its server, at once.
    fn kill(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        let pid = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        if let Some(pid) = pid.lines().next().and_then(|line| line.trim().parse().ok()) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
}

struct Cluster {
    api: KubeApi,
    mode: Mode,
    folder: tempfile::TempDir,
    members: Vec<Member>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for at in 0..self.members.len() {
                let log = fs::read_to_string(self.folder.path().join(format!("demo-{at}.log"))).unwrap_or_default();
                let from = log.len().saturating_sub(3000);
                eprintln!("demo-{at}: ...{}", log.get(from..).unwrap_or(&log));
            }
        }
        self.members.iter_mut().for_each(Member::kill);
    }
}

fn pod(member: usize) -> String {
    format!("demo-{member}")
}

fn pod_ip(member: usize) -> String {
    format!("10.244.0.1{member}")
}

/// What a member says of itself in its pod.
fn record(pod: Option<&Value>) -> Value {
    let status = pod.and_then(|pod| pod["metadata"]["annotations"]["status"].as_str());
    status.and_then(|status| serde_json::from_str(status).ok()).unwrap_or_default()
}

/// PostgreSQL's programs of the newest version there is.
fn programs() -> PathBuf {
    let found = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed").flatten();
    found.map(|entry| entry.path().join("bin")).max().expect("a version of PostgreSQL")
}

/// `LAB_PATRONI`, or whatever is in the path.
fn patroni() -> PathBuf {
    std::env::var_os("LAB_PATRONI").map_or_else(|| PathBuf::from("patroni"), PathBuf::from)
}

fn unprivileged(command: &mut Command) -> &mut Command {
    if Uid::effective().is_root() {
        let user = User::from_name("postgres").ok().flatten().expect("a user named postgres");
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn give_away(path: &Path) {
    if Uid::effective().is_root() {
        let user = User::from_name("postgres").ok().flatten().expect("a user named postgres");
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root may");
    }
}

impl Cluster {
    fn start(mode: Mode) -> Self {
        let api = server();
        // As few rights as the reference was seen to need.
        let mut rules = vec![
            Rule::new(&[mode.resource()], &["create", "get", "list", "patch", "watch"]).in_namespace("demo"),
            Rule::new(&["pods"], &["list", "patch", "watch"]).in_namespace("demo"),
        ];
        if mode == Mode::Endpoints {
            rules.push(Rule::new(&["services"], &["create"]).in_namespace("demo"));
        }
        let token = api.service_account("demo", "patroni", rules);
        let folder = tempfile::tempdir_in("/tmp").expect("a folder");
        give_away(folder.path());
        give_away(&api.kubeconfig(folder.path(), &token, "demo"));
        let mut cluster = Cluster { api, mode, folder, members: Vec::new() };
        for at in 0..3 {
            let labels = json!({"application": "patroni", "cluster-name": "demo"});
            cluster.api.put_pod("demo", &pod(at), &pod_ip(at), &labels);
            let config = cluster.config(at);
            let member = cluster.spawn(at, &config);
            cluster.members.push(member);
        }
        cluster
    }

    fn config(&self, at: usize) -> PathBuf {
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let host = Ipv4Addr::new(127, 64 | high, middle, low);
        // Below the ephemeral ports; the two modes may run at once.
        let base = if self.mode == Mode::Endpoints { 25_400 } else { 25_500 };
        let (sql, rest) = (base + at, base + 50 + at);
        let (data, name) = (self.folder.path().join(pod(at)), pod(at));
        let user = |name: &str| json!({"username": name, "password": name});
        let bootstrap = json!({
            // Long enough for a real server, which starts anew where its versions are compacted.
            "dcs": {"ttl": 20, "loop_wait": 1, "retry_timeout": 9},
            "initdb": [{"encoding": "UTF8"}, "data-checksums"],
        });
        let config = json!({
            "scope": "demo",
            "name": name,
            "kubernetes": {
                "namespace": "demo",
                "labels": {"application": "patroni"},
                "context": "test",
                "use_endpoints": self.mode == Mode::Endpoints,
                "pod_ip": pod_ip(at),
                "ports": [{"name": "postgresql", "port": 5432}],
            },
            "restapi": {"listen": format!("{host}:{rest}"), "connect_address": format!("{host}:{rest}")},
            "bootstrap": bootstrap,
            "postgresql": {
                "listen": format!("{host}:{sql}"),
                "connect_address": format!("{host}:{sql}"),
                "data_dir": data,
                "bin_dir": programs(),
                "pgpass": self.folder.path().join(format!("pgpass{at}")),
                "authentication": {"superuser": user("postgres"), "replication": user("replicator")},
                "parameters": {"unix_socket_directories": self.folder.path(), "fsync": "off"},
                "pg_hba": ["host replication replicator 127.0.0.0/8 md5", "host all all 127.0.0.0/8 md5", "local all all trust"],
            },
        });
        let file = self.folder.path().join(format!("{name}.yaml"));
        fs::write(&file, config.to_string()).expect("it can be written");
        give_away(&file);
        file
    }

    fn spawn(&self, at: usize, config: &Path) -> Member {
        let log = fs::File::create(self.folder.path().join(format!("{}.log", pod(at)))).expect("a file");
        let mut command = Command::new(patroni());
        unprivileged(command.arg(config)).current_dir(self.folder.path());
        command.env("KUBECONFIG", self.folder.path().join("kubeconfig")).env("HOME", self.folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        let process = command.spawn().expect("Patroni is installed (LAB_PATRONI)");
        Member { process, data: self.folder.path().join(pod(at)) }
    }

    fn patronictl(&self, words: &[&str]) -> String {
        let mut command = Command::new(patroni().with_file_name("patronictl"));
        unprivileged(command.arg("-c").arg(self.folder.path().join("demo-0.yaml")).args(words));
        command.env("KUBECONFIG", self.folder.path().join("kubeconfig")).env("HOME", self.folder.path());
        let output = command.stdin(Stdio::null()).output().expect("patronictl is installed");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits for a leader that is not this one; its number, and the leader object.
    fn wait_for_leader(&self, not: Option<usize>) -> (usize, Value) {
        let number = |object: Option<&Value>| {
            let name = object?["metadata"]["annotations"]["leader"].as_str()?;
            name.strip_prefix("demo-")?.parse::<usize>().ok().filter(|leader| Some(*leader) != not)
        };
        let at = (self.mode.resource(), "demo", self.mode.leader());
        let object = self.api.wait_for(LIMIT, at, |object| number(object).is_some()).expect("it was waited for");
        let leader = number(Some(&object)).expect("it was waited for");
        let is_primary = |pod: Option<&Value>| pod.is_some_and(|pod| pod["metadata"]["labels"]["role"] == "primary");
        self.api.wait_for(LIMIT, ("pods", "demo", &pod(leader)), is_primary);
        (leader, Value::clone(&object))
    }

    /// Waits until the member is a replica that streams from this leader, on this timeline or a later one: Patroni begins one
    /// more when the server is away for longer than it waits for it.
    fn wait_for_replica(&self, at: usize, leader: usize, timeline: u64) {
        let is_replica = |replica: Option<&Value>| {
            let leaders = record(self.api.get("pods", "demo", &pod(leader)).as_deref())["timeline"].as_u64();
            let status = record(replica);
            replica.is_some_and(|pod| pod["metadata"]["labels"]["role"] == "replica")
                && status["replication_state"] == "streaming"
                && status["timeline"].as_u64() == leaders
                && leaders >= Some(timeline)
        };
        self.api.wait_for(LIMIT, ("pods", "demo", &pod(at)), is_replica);
    }

    fn object(&self, name: &str) -> Value {
        self.api.get(self.mode.resource(), "demo", name).as_deref().cloned().unwrap_or_default()
    }

    /// The leader object is as on a real server.
    fn check_leader_object(&self, object: &Value, leader: usize, transitions: &str) {
        let metadata = &object["metadata"];
        assert_eq!(metadata["labels"], json!({"application": "patroni", "cluster-name": "demo"}));
        let annotations = &metadata["annotations"];
        for key in ["leader", "acquireTime", "renewTime", "transitions", "ttl"] {
            assert!(annotations[key].is_string(), "{key}: {object}");
        }
        assert_eq!((&annotations["transitions"], &annotations["ttl"]), (&json!(transitions), &json!("20")));
        assert_eq!(object.get("data"), None);
        if self.mode == Mode::Endpoints {
            let subset = &object["subsets"][0];
            assert_eq!(object["subsets"].as_array().map(Vec::len), Some(1), "{object}");
            let address = &subset["addresses"][0];
            assert_eq!((&address["ip"], &address["hostname"]), (&json!(pod_ip(leader)), &json!(pod(leader))));
            assert_eq!(
                (&address["targetRef"]["kind"], &address["targetRef"]["name"]),
                (&json!("Pod"), &json!(pod(leader)))
            );
            assert_eq!(subset["ports"], json!([{"name": "postgresql", "port": 5432, "protocol": "TCP"}]));
        }
    }

    fn check_config_object(&self) {
        let config = self.object("demo-config");
        let annotations = &config["metadata"]["annotations"];
        let initialize = annotations["initialize"].as_str().unwrap_or_default();
        assert!(initialize.len() > 15 && initialize.bytes().all(|byte| byte.is_ascii_digit()), "{config}");
        let dynamic: Value = serde_json::from_str(annotations["config"].as_str().unwrap_or_default()).expect("JSON");
        assert_eq!(dynamic["ttl"], 20);
        assert_eq!((config.get("data"), config.get("subsets")), (None, None));
        let service = self.api.get("services", "demo", "demo-config");
        let cluster_ip = service.as_ref().map(|service| service["spec"]["clusterIP"].clone());
        assert_eq!(cluster_ip, (self.mode == Mode::Endpoints).then(|| json!("None")));
    }

    /// The story that both modes go through.
    fn live(&mut self) {
        let (first, _) = self.wait_for_leader(None);
        let others: Vec<usize> = (0..3).filter(|at| *at != first).collect();
        others.iter().for_each(|at| self.wait_for_replica(*at, first, 1));
        self.check_leader_object(&self.object(self.mode.leader()), first, "0");
        self.check_config_object();
        let listed = self.patronictl(&["list"]);
        assert!((0..3).all(|at| listed.contains(&pod(at))) && listed.contains("Leader"), "{listed}");
        // Every watch is told that its version is gone, and they list anew.
        self.api.expire_watches();
        let second = others[0];
        self.patronictl(&["switchover", "demo", "--leader", &pod(first), "--candidate", &pod(second), "--force"]);
        let (leader, object) = self.wait_for_leader(Some(first));
        assert_eq!(leader, second);
        self.check_leader_object(&object, second, "1");
        [first, others[1]].iter().for_each(|at| self.wait_for_replica(*at, second, 2));
        let request = self.object("demo-failover");
        assert!(request["metadata"].is_object() && request["metadata"].get("annotations").is_none(), "{request}");
        self.members[second].kill();
        let (third, object) = self.wait_for_leader(Some(second));
        self.check_leader_object(&object, third, "2");
        let rest = (0..3).find(|at| ![second, third].contains(at)).expect("a third member");
        self.wait_for_replica(rest, third, 3);
        let history = self.object("demo-config")["metadata"]["annotations"]["history"].clone();
        assert!(history.as_str().is_some_and(|history| history.contains(&pod(second))), "{history}");
        // The dead one's label stays, as on a real server.
        let dead = self.api.get("pods", "demo", &pod(second)).expect("it is there");
        assert_eq!(dead["metadata"]["labels"]["role"], "primary");
        self.show();
        self.check_requests();
    }

    /// For whoever compares by eye.
    fn show(&self) {
        for name in [self.mode.leader(), "demo-config", "demo-failover"] {
            println!("{}", self.object(name));
        }
        for pod in self.api.list("pods", "demo") {
            println!("{} {} {}", pod["metadata"]["name"], pod["metadata"]["labels"], pod["metadata"]["annotations"]);
        }
    }

    fn check_requests(&self) {
        let records = self.api.records();
        let of_members = records.iter().filter(|record| record.user == "system:serviceaccount:demo:patroni");
        let asked = |is_wanted: fn(u16) -> bool| -> BTreeSet<(String, String)> {
            let such = of_members.clone().filter(|record| is_wanted(record.code));
            such.map(|record| (record.asked.verb.clone(), record.asked.full_resource())).collect()
        };
        // A real server that has just started refuses everything, before it has read the rights.
        let (refused, done) = (asked(|code| code == 403), asked(|code| (200..300).contains(&code)));
        assert!(refused.is_subset(&done), "{refused:?}");
        let mut kinds: Vec<String> = of_members
            .map(|record| format!("{} {} {}", record.asked.verb, record.asked.resource, record.code))
            .collect();
        kinds.sort();
        let mut counted: Vec<(String, usize)> = Vec::new();
        for kind in kinds {
            match counted.last_mut() {
                Some((last, count)) if *last == kind => *count += 1,
                _ => counted.push((kind, 1)),
            }
        }
        println!("{counted:?}");
    }
}

#[test]
#[ignore = "needs Patroni; make e2e"]
fn three_members_of_patroni_live_on_endpoints() {
    Cluster::start(Mode::Endpoints).live();
}

#[test]
#[ignore = "needs Patroni; make e2e"]
fn three_members_of_patroni_live_on_configmaps() {
    Cluster::start(Mode::ConfigMaps).live();
}
