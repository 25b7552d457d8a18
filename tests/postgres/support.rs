//! A server for a test: its configuration, its folders, and its end whatever the test does.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tamada::config::{Account, Config, FoundData, HostFacts, KubernetesAccess, ServerSettings};
use tamada::core::local::{
    CloneFrom, CloneSource, LastRole, Postgres, Running, StandbyFacts, StartAs, StopMode, Upstream,
};
use tamada::core::policy::Pause;
use tamada::core::slots::{SlotWanted, SlotsWanted};
use tamada::core::units::MemberName;
use tamada::core::view::Address;
use tamada::postgres::{DesiredServer, Instance, LocalPostgres, Probe, Progress};

use crate::installations::installations;

pub const LIMIT: Duration = Duration::from_secs(60);

/// Runs a test on every PostgreSQL that can be had here, in a runtime of its own.
pub fn on_every_version<F: Future<Output = ()>>(test: impl Fn(PathBuf) -> F) {
    // What a passing test logs is not shown.
    let _ = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).try_init();
    for bin in installations() {
        eprintln!("with {}", bin.display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test(bin));
    }
}

/// The agent's log: shown with the test that fails, and kept for `logged`.
struct Log;

static LOGGED: Mutex<String> = Mutex::new(String::new());

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(text);
        print!("{text}");
        LOGGED.lock().expect("nothing panics while it writes").push_str(&text);
        Ok(text.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The last line of the log that has both.
pub fn logged(what: &str, of: &str) -> Option<String> {
    let log = LOGGED.lock().expect("nothing panics while it writes");
    log.lines().rev().find(|line| line.contains(what) && line.contains(of)).map(str::to_owned)
}

/// Where a node's first data may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Any cluster of the plain configuration is as good as another.
    Template,
    /// The test has changed something that may show in it.
    Bootstrap,
}

/// One member's PostgreSQL. Its folders and processes go with it.
pub struct Node {
    pub postgres: LocalPostgres,
    origin: Origin,
    pub config: Arc<Config>,
    pub folder: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        kill_below(&self.folder.path().join("data"));
    }
}

/// Ends every process whose working directory is this data directory.
pub fn kill_below(data_dir: &Path) {
    for pid in processes_in(data_dir) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

pub fn processes_in(data_dir: &Path) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").expect("a process table").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data_dir)).collect()
}

/// A port that nothing listens on and nobody else is given while this process lives. Below the range from which the
/// kernel takes the ports of outgoing connections: one of those could have it a moment later.
pub fn free_port() -> u16 {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let first = std::process::id() as u16;
    let ports = (0..10_000).map(|n| 20_000 + first.wrapping_mul(31).wrapping_add(n) % 10_000);
    let is_free = |port: &u16| {
        let name = SocketAddr::from_abstract_name(format!("tamada-test-port-{port}")).expect("short enough");
        let Ok(claim) = UnixListener::bind_addr(&name) else { return false };
        // Given up with the process.
        let _ = std::os::fd::IntoRawFd::into_raw_fd(claim);
        std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()
    };
    ports.into_iter().find(is_free).expect("a free port")
}

/// Every printable character of ASCII and one beyond: awkward for each place that a password passes through.
pub const PASSWORD: &str = r##"!"#$%&'()*+,-./0:;<=>?@AZ [\]^_`az{|}~ö"##;

impl Node {
    pub fn new(name: &str, bin: &Path) -> Self {
        let mut node = Self::changed(name, bin, |_| ());
        node.origin = Origin::Template;
        node
    }

    /// A node whose container has these variables too.
    pub fn with_environment(name: &str, bin: &Path, variables: &[(&str, &str)]) -> Self {
        let mut node = Self::changed(name, bin, |_| ());
        let mut env = vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())];
        env.extend(variables.iter().map(|(key, value)| (key.into(), value.into())));
        node.postgres = LocalPostgres::new(node.config.clone(), env).expect("programs");
        node
    }

    /// A node whose configuration a test wants to be different.
    pub fn changed(name: &str, bin: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::Builder::new().prefix("tamada-").tempdir().expect("a folder");
        let mut config = config(name, folder.path(), bin);
        change(&mut config);
        let config = Arc::new(config);
        let env = [("PATH", std::env::var_os("PATH").unwrap_or_default()), ("LC_ALL", OsString::from("C"))];
        let env = env.into_iter().map(|(key, value)| (key.into(), value)).collect();
        let postgres = LocalPostgres::new(config.clone(), env).expect("programs");
        Node { postgres, origin: Origin::Bootstrap, config, folder }
    }

    /// The same member with a new agent: nothing is remembered.
    pub fn with_new_agent(mut self) -> Self {
        let env = vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())];
        self.postgres = LocalPostgres::new(self.config.clone(), env).expect("programs");
        self
    }

    pub fn data_dir(&self) -> &Path {
        &self.config.postgres.data_dir
    }

    pub fn address(&self) -> Address {
        Address { host: "127.0.0.1".to_owned(), port: self.config.postgres.port, database: "postgres".to_owned() }
    }

    pub fn as_upstream(&self) -> Upstream {
        Upstream::Member { name: self.config.name.clone(), address: self.address() }
    }

    pub async fn configure(&self) {
        self.postgres.configure(&desired(), tamada::postgres::Force::No).await.expect("configured");
    }

    /// A running primary of a new cluster; with a plain configuration one of those that are all alike.
    pub async fn bootstrap(&self) {
        self.configure().await;
        match self.origin {
            Origin::Bootstrap => drop(self.postgres.bootstrap(progress()).await.expect("bootstrapped")),
            Origin::Template => {
                let bin = self.config.postgres.bin_dir.as_deref().expect("set");
                copy(&template(bin).await, self.data_dir());
                self.postgres.start(&StartAs::Primary, LIMIT).await.expect("started");
            }
        }
    }

    pub async fn probe(&self) -> Probe {
        self.postgres.probe(Duration::from_secs(5)).await
    }

    pub async fn standby_facts(&self) -> StandbyFacts {
        match self.probe().await.postgres {
            Postgres::Running(Running::Standby(facts)) => facts,
            other => panic!("not a running standby: {other:?}"),
        }
    }

    pub async fn stop(&self) {
        self.postgres.stop(StopMode::Fast, LIMIT).await.expect("stopped");
    }

    /// What psql prints for a statement, as the superuser over TCP with the password.
    pub fn sql(&self, sql: &str) -> String {
        let (ok, output) = self.psql("postgres", sql);
        assert!(ok, "{sql}: {output}");
        output
    }

    /// The same as anybody; `false`: it failed.
    pub fn psql(&self, user: &str, sql: &str) -> (bool, String) {
        let bin = self.config.postgres.bin_dir.clone().expect("set");
        let psql = [bin.join("psql"), PathBuf::from("/usr/bin/psql")].into_iter().find(|psql| psql.exists());
        let output = std::process::Command::new(psql.expect("psql"))
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &self.config.postgres.port.to_string()])
            .args(["-U", user, "-d", "postgres", "-c", sql])
            .env("PGPASSWORD", PASSWORD)
            .env("PGCONNECT_TIMEOUT", "5")
            .output()
            .expect("psql");
        let text = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
    }
}

/// The templates that this process has made, by the folder of their programs.
static TEMPLATES: tokio::sync::Mutex<BTreeMap<PathBuf, PathBuf>> = tokio::sync::Mutex::const_new(BTreeMap::new());

fn templates() -> PathBuf {
    std::env::temp_dir().join(format!("tamada-templates-{}", std::process::id()))
}

/// Holds the other end of its standard input.
static REMOVER: std::sync::OnceLock<std::process::Child> = std::sync::OnceLock::new();

/// A shell removes them when its standard input ends, which is when this process has ended, however it ends.
fn remove_templates_at_the_end() {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "cat >/dev/null; exec rm -rf -- \"$1\"", "sh"]).arg(templates());
    let shell = shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh");
    REMOVER.get_or_init(|| shell);
}

/// A new cluster as a bootstrap makes it, stopped: initdb takes longer than most of what is tested here.
async fn template(bin: &Path) -> PathBuf {
    let mut made = TEMPLATES.lock().await;
    if let Some(template) = made.get(bin) {
        return template.clone();
    }
    if made.is_empty() {
        remove_templates_at_the_end();
    }
    let node = Node::changed("template", bin, |_| ());
    node.configure().await;
    node.postgres.bootstrap(progress()).await.expect("bootstrapped");
    node.stop().await;
    let template = templates().join(made.len().to_string());
    std::fs::create_dir_all(templates()).expect("a folder");
    copy(node.data_dir(), &template);
    made.insert(bin.to_owned(), template.clone());
    template
}

/// A stopped server's data directory.
pub fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-aT").args([from, to]).status();
    assert!(copied.expect("cp").success(), "cannot copy {} to {}", from.display(), to.display());
}

/// Slots of a primary for these members, and nothing besides.
pub fn slots_for(members: &[&str]) -> SlotsWanted {
    let physical = members.iter().map(|name| (MemberName::from(*name).slot_name(), SlotWanted::Streams)).collect();
    SlotsWanted {
        role: LastRole::Primary,
        physical,
        logical: BTreeMap::new(),
        source: None,
        pause: Pause::Running,
        ignored: Vec::new(),
    }
}

/// A primary and a replica that streams from it.
pub async fn pair(bin: &Path) -> (Node, Node) {
    let (primary, replica) = (Node::new("n1", bin), Node::new("n2", bin));
    primary.bootstrap().await;
    primary.postgres.sync_slots(&slots_for(&["n2"])).await.expect("slots");
    primary.sql("CREATE TABLE t AS SELECT 1 AS a");
    replica.configure().await;
    let source = CloneSource { name: "n1".into(), address: primary.address(), kind: CloneFrom::Leader };
    replica.postgres.clone_from(&source, progress()).await.expect("copied");
    replica.postgres.start(&StartAs::Standby(primary.as_upstream()), LIMIT).await.expect("started");
    eventually("the replica streams", async || replica.standby_facts().await.replication.is_some()).await;
    (primary, replica)
}

/// The process of this server whose title says that it is one of these.
pub fn process_titled(title: &str, of: &Node) -> nix::unistd::Pid {
    let has_title =
        |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains(title);
    nix::unistd::Pid::from_raw(processes_in(of.data_dir()).into_iter().find(has_title).expect("runs"))
}

pub fn progress() -> Progress {
    Arc::new(|text| eprintln!("{text}"))
}

/// Waits until something holds.
pub async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    crate::wait::within(LIMIT, what, holds).await;
}

/// Settings as the cluster's configuration would give them; small, so that many servers fit.
pub fn desired() -> DesiredServer {
    // A standby that finds its upstream not ready tries again soon.
    let parameters = json!({
        "shared_buffers": "16MB", "max_connections": 30, "fsync": "off", "log_statement": "all",
        "wal_retrieve_retry_interval": "200ms",
    });
    let hba = ["local all all peer", "host all all all scram-sha-256", "host replication replicator all scram-sha-256"];
    DesiredServer {
        server: ServerSettings {
            parameters: parameters.as_object().expect("a map").clone(),
            pg_hba: Some(hba.map(str::to_owned).to_vec()),
            ..ServerSettings::default()
        },
        ..DesiredServer::default()
    }
}

/// As the environment of a container would have it.
fn config(name: &str, folder: &Path, bin: &Path) -> Config {
    let port = free_port();
    let (data, pgpass) = (folder.join("data"), folder.join("run/pgpass"));
    let vars = [
        ("PATRONI_NAME", name.to_owned()),
        ("PATRONI_SCOPE", "test".to_owned()),
        ("PATRONI_ETCD3_HOSTS", "127.0.0.1:2379".to_owned()),
        ("PATRONI_POSTGRESQL_LISTEN", format!("127.0.0.1:{port}")),
        ("PATRONI_POSTGRESQL_CONNECT_ADDRESS", format!("127.0.0.1:{port}")),
        ("PATRONI_POSTGRESQL_DATA_DIR", data.to_string_lossy().into_owned()),
        ("PATRONI_POSTGRESQL_BIN_DIR", bin.to_string_lossy().into_owned()),
        ("PATRONI_POSTGRESQL_PGPASS", pgpass.to_string_lossy().into_owned()),
        ("PATRONI_SUPERUSER_PASSWORD", PASSWORD.to_owned()),
        ("PATRONI_REPLICATION_USERNAME", "replicator".to_owned()),
        ("PATRONI_REPLICATION_PASSWORD", PASSWORD.to_owned()),
        ("PATRONI_REWIND_USERNAME", "rewinder".to_owned()),
        ("PATRONI_REWIND_PASSWORD", PASSWORD.to_owned()),
        ("PATRONI_BOOTSTRAP_INITDB", "[data-checksums, no-sync]".to_owned()),
    ];
    from_vars(&vars)
}

/// The configuration that these variables make.
pub fn from_vars(vars: &[(&str, String)]) -> Config {
    let host = HostFacts {
        host_name: "test".to_owned(),
        kubernetes: KubernetesAccess::default(),
        account: Account::Named("postgres".to_owned()),
        inspect: Box::new(|_| FoundData::None),
        unusable: |_, _| Vec::new(),
    };
    let vars = vars.iter().map(|(name, value)| (name.into(), value.into()));
    Config::from_environment(vars, None, &host).unwrap_or_else(|errors| panic!("{errors}"))
}
