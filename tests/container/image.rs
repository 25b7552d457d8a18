//! The image by itself, as `docker run` starts it, on the network of the compose cluster but apart from that; and what
//! plain `docker compose up` does to a cluster that is there already.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Scenario;
use crate::cluster::{Cluster, path};
use crate::docker::docker;
use crate::faults::HEALED;
use crate::figures::Figure;
use crate::writer::{self, Target};

const PASSWORD: &str = "of the superuser";
/// Waiting for a server that begins with an initdb or a clone.
const BORN: Duration = Duration::from_secs(60);

pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { name: "single", what: "one container without a DCS, its volume started with one", run: single },
        Scenario { name: "variables", what: "PATRONI_* alone; PGDATA itself is a mount point", run: variables },
        Scenario { name: "user", what: "any user, root file system read-only", run: user },
        Scenario { name: "rights", what: "what PostgreSQL's user can get at", run: rights },
        Scenario { name: "config-check", what: "`tamada config check`", run: config_check },
        Scenario {
            name: "up-again",
            what: "docker compose up of a cluster that runs keeps its secrets",
            run: up_again,
        },
    ]
}

/// A container beside the cluster's services, reached like one of those; it goes with this value, as does its anonymous
/// volume.
struct Container<'a> {
    cluster: &'a Cluster,
    service: &'static str,
}

impl<'a> Container<'a> {
    /// `docker run`, with the image of a service of the cluster.
    fn run(
        cluster: &'a Cluster,
        service: &'static str,
        image_of: &str,
        options: &[&str],
        arguments: &[&str],
    ) -> Result<Self> {
        let (image, container, network) = (cluster.image(image_of)?, cluster.container(service), cluster.network());
        let started = Self { cluster, service };
        let own = ["run", "--detach", "--network", &network, "--network-alias", service, "--name", &container];
        docker(&[own.as_slice(), options, &[image.as_str()], arguments].concat())?;
        Ok(started)
    }

    fn member(cluster: &'a Cluster, service: &'static str, options: &[&str]) -> Result<Self> {
        Self::run(cluster, service, "tamada1", options, &[])
    }

    fn target(&self) -> Result<Target> {
        Ok(Target { password: PASSWORD.to_owned(), ..self.cluster.direct(self.service)? })
    }

    /// The answer to a query, once there is one.
    fn ask(&self, query: &str) -> Result<String> {
        self.cluster.eventually(BORN, "answer a query", || writer::ask(&self.target()?, query))
    }

    /// Waits until the server takes writes, this one the first.
    fn execute(&self, statement: &str) -> Result<()> {
        self.cluster.eventually(BORN, "take a write", || writer::execute(&self.target()?, statement))
    }

    fn sh(&self, script: &str) -> Result<String> {
        self.cluster.exec(self.service, &["sh", "-c", script])
    }

    /// Waits until it says of itself what `/cluster` is to say of it.
    fn shown_as(&self, role: &str, state: &str) -> Result<()> {
        self.cluster.eventually(HEALED, "show a member as it should be", || {
            let document = self.cluster.get(self.service, "/cluster")?;
            let members = document["members"].as_array().context("/cluster lists no members")?;
            let found = members.iter().find(|member| member["name"] == self.service).context("it is not listed")?;
            ensure!(found["role"] == role && found["state"] == state, "{} is {found}", self.service);
            Ok(())
        })
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is removed as a leftover by a later run.
        let _ = docker(&["rm", "--force", "--volumes", &self.cluster.container(self.service)]);
    }
}

/// A volume with a name. Declared before the containers that use it, it goes after them.
struct Volume(String);

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = docker(&["volume", "rm", "--force", &self.0]);
    }
}

/// A folder of this machine for a container. Its files become PostgreSQL's user's, whom only root, which a container has,
/// can take them from.
struct Folder<'a> {
    cluster: &'a Cluster,
    folder: tempfile::TempDir,
}

impl Folder<'_> {
    fn mounted_at(&self, path: &str) -> String {
        format!("--volume={}:{path}", self.folder.path().display())
    }
}

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        let (mount, emptier) = (self.mounted_at("/given"), ["run", "--rm", "--user=0", "--network=none"]);
        let find = ["/given", "-mindepth", "1", "-delete"];
        if let Ok(image) = self.cluster.image("tamada1") {
            let _ = docker(&[emptier.as_slice(), &["--entrypoint=find", &mount, &image], &find].concat());
        }
    }
}

/// Variables of a member of a cluster on the etcd that stands beside.
fn variables_of(member: &str) -> Vec<String> {
    let variables = [
        ("PATRONI_SCOPE", "apart"),
        ("PATRONI_NAME", member),
        ("PATRONI_ETCD3_HOSTS", "plain-etcd:2379"),
        ("PATRONI_SUPERUSER_PASSWORD", PASSWORD),
        ("PATRONI_REPLICATION_USERNAME", "replicator"),
        ("PATRONI_REPLICATION_PASSWORD", "of the replicator"),
    ];
    variables.map(|(name, value)| format!("--env={name}={value}")).to_vec()
}

fn words(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

fn plain_etcd(cluster: &Cluster) -> Result<Container<'_>> {
    let urls = ["--listen-client-urls=http://0.0.0.0:2379", "--advertise-client-urls=http://plain-etcd:2379"];
    Container::run(cluster, "plain-etcd", "etcd1", &[], &[&["--data-dir=/var/lib/etcd/data"], urls.as_slice()].concat())
}

fn single(cluster: &Cluster) -> Result<Vec<Figure>> {
    let volume = Volume(format!("{}_single", cluster.project()));
    let mount = format!("--volume={}:/var/lib/postgresql", volume.0);
    let alone = Container::member(cluster, "single", &[&mount, &format!("--env=POSTGRES_PASSWORD={PASSWORD}")])?;
    alone.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 'since then' AS text")?;
    docker(&["stop", "--time", "30", &cluster.container("single")])?;
    let status = docker(&["inspect", "--format", "{{.State.ExitCode}}", &cluster.container("single")])?;
    ensure!(status == "0", "the stopped server's exit status is {status}");
    let left = tempfile::tempdir()?;
    docker(&["cp", &format!("{}:/run/postgresql", cluster.container("single")), path(left.path())?])?;
    let left: Vec<_> = std::fs::read_dir(left.path().join("postgresql"))?.flatten().map(|file| file.path()).collect();
    let is_said = left.iter().any(|file| file.extension().is_some_and(|extension| extension == "api"));
    ensure!(!is_said, "a member that ended has left {left:?}");
    drop(alone);

    let _etcd = plain_etcd(cluster)?;
    let mut options = variables_of("single");
    options.push(mount);
    let member = Container::member(cluster, "single", &words(&options))?;
    member.shown_as("leader", "running")?;
    let kept = member.ask("SELECT text FROM kept")?;
    ensure!(kept == "since then", "the table holds {kept}");
    Ok(Vec::new())
}

/// One member has a named volume where its data directory is to be, the other one a folder of this machine: neither can be
/// replaced as a whole.
fn variables(cluster: &Cluster) -> Result<Vec<Figure>> {
    let _etcd = plain_etcd(cluster)?;
    let volume = Volume(format!("{}_pgdata", cluster.project()));
    let folder = Folder { cluster, folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))? };
    let data_dir = cluster.exec("tamada1", &["printenv", "PGDATA"])?;

    let mut options = variables_of("on-volume");
    options.push(format!("--volume={}:{data_dir}", volume.0));
    let first = Container::member(cluster, "on-volume", &words(&options))?;
    first.execute("CREATE TABLE IF NOT EXISTS copied AS SELECT 'by a clone' AS text")?;
    let mut options = variables_of("on-folder");
    options.push(folder.mounted_at(&data_dir));
    let second = Container::member(cluster, "on-folder", &words(&options))?;
    second.shown_as("replica", "streaming")?;
    second.sh("touch \"$PGDATA/of-the-first-clone\"")?;
    first.sh("tamada reinit on-folder --force --wait")?;
    second.shown_as("replica", "streaming")?;
    second.sh("[ ! -e \"$PGDATA/of-the-first-clone\" ]").context("the data are still the first clone's")?;
    let copied = second.ask("SELECT text FROM copied")?;
    ensure!(copied == "by a clone", "the table holds {copied}");
    for member in [&first, &second] {
        let data_dir = member.sh("mountpoint -q \"$PGDATA\" && stat -c '%U %a' \"$PGDATA\"")?;
        ensure!(data_dir == "postgres 700", "the data directory of {} is {data_dir}", member.service);
    }
    Ok(Vec::new())
}

fn user(cluster: &Cluster) -> Result<Vec<Figure>> {
    let password = format!("--env=POSTGRES_PASSWORD={PASSWORD}");
    let options = ["--user=12345", "--read-only", "--tmpfs=/run/postgresql", "--tmpfs=/tmp", &password];
    let server = Container::member(cluster, "user", &options)?;
    server.execute("CREATE TABLE IF NOT EXISTS t (n int)")?;
    let owner = server.sh("stat -c '%u %a' \"$PGDATA\"")?;
    ensure!(owner == "12345 700", "owner and mode of the data directory: {owner}");
    Ok(Vec::new())
}

/// A person who may read files through SQL, or run programs as PostgreSQL's user, gets no secret and no process of ours.
fn rights(cluster: &Cluster) -> Result<Vec<Figure>> {
    let program = cluster.exec("tamada1", &["stat", "-c", "%u %a", "/usr/local/bin/tamada"])?;
    ensure!(program == "0 711", "owner and mode of the program: {program}");
    let setuid = cluster.exec("tamada1", &["find", "/", "-xdev", "-type", "f", "-perm", "/6000"])?;
    ensure!(setuid.is_empty(), "programs that make their caller another user: {setuid}");
    let files = cluster.exec(
        "tamada1",
        &["sh", "-c", "find /run/secrets -type f ! -name '*.crt' -exec stat -c '%u %a' {} + | sort -u"],
    )?;
    ensure!(files == "0 400", "owners and modes of the secrets: {files}");
    for file in ["superuser-password", "etcd.key"] {
        let read = writer::ask(&cluster.through_haproxy(), &format!("SELECT pg_read_file('/run/secrets/{file}')"));
        let Err(error) = read else { anyhow::bail!("{file} can be read through SQL") };
        ensure!(format!("{error:#}").contains("Permission denied"), "{file}: {error:#}");
    }
    let container = cluster.container("tamada1");
    let look =
        "for p in /proc/[0-9]*; do [ \"$(cat $p/comm)\" != tamada ] || ls $p/fd $p/map_files 2>/dev/null; done; true";
    let seen = docker(&["exec", "-u", "postgres", &container, "bash", "-c", look])?;
    ensure!(seen.is_empty(), "PostgreSQL's user sees open files of ours: {seen}");
    let state = docker(&["exec", &container, "grep", "-e", "NoNewPrivs", "-e", "CapBnd", "/proc/1/status"])?;
    ensure!(state.starts_with("CapBnd:\t0000000000000000") && state.contains("NoNewPrivs:\t1"), "{state}");
    Ok(Vec::new())
}

fn config_check(cluster: &Cluster) -> Result<Vec<Figure>> {
    let shown = cluster.exec("tamada1", &["tamada", "config", "check"])?;
    let scope = shown.lines().find(|line| line.starts_with("scope: ")).context("the scope is not shown")?;
    ensure!(scope.contains("PATRONI_SCOPE"), "where it came from is missing: {scope}");
    ensure!(!shown.contains(&cluster.through_haproxy().password), "the superuser's password is shown");
    Ok(Vec::new())
}

/// The one-shot service runs again, and nothing that it finds changes.
fn up_again(cluster: &Cluster) -> Result<Vec<Figure>> {
    let image = cluster.image("secrets")?;
    let volumes =
        ["ca", "etcd", "members"].map(|name| format!("--volume={}_secrets-{name}:/{name}:ro", cluster.project()));
    let mut sums = vec!["run", "--rm", "--user=0", "--network=none", "--entrypoint=sh"];
    sums.extend(volumes.iter().map(String::as_str));
    sums.extend([image.as_str(), "-c", "find /ca /etcd /members -type f | sort | xargs sha256sum"]);
    let began = || docker(&["inspect", "--format", "{{.State.StartedAt}}", &cluster.container("secrets")]);
    let before = (docker(&sums)?, began()?);
    ensure!(before.0.lines().count() >= 12, "these are not all of the secrets: {}", before.0);
    cluster.compose(&["up", "--detach", "--no-build"])?;
    cluster.whole(HEALED)?;
    let after = (docker(&sums)?, began()?);
    ensure!(after.1 != before.1, "the one-shot service did not run");
    ensure!(after.0 == before.0, "secrets have changed: {} and {}", before.0, after.0);
    Ok(Vec::new())
}
