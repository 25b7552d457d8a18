//! The compose cluster under test: bringing it up and down, asking it how it is, and reaching its members.
//!
//! Members are asked at their own addresses on Docker's network, which only this machine can reach; each look takes the
//! address anew, since addresses change hands when containers restart.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::clock;
use crate::docker::{docker, run};
use crate::writer::{self, Target};

pub const MEMBERS: [&str; 3] = ["tamada1", "tamada2", "tamada3"];
const PATIENCE: Duration = Duration::from_secs(2);
/// Followed by the number of the process that the cluster belongs to.
const PROJECTS: &str = "tamada-test-";

pub struct Cluster {
    root: PathBuf,
    project: String,
    env: Vec<(String, String)>,
    write_port: u16,
    read_port: u16,
    password: String,
}

impl Cluster {
    /// Starts the cluster on free ports and waits until it is whole.
    pub fn up() -> Result<Self> {
        let (write_port, read_port, statistics_port) = free_ports()?;
        let ports = [("WRITE", write_port), ("READ", read_port), ("STATISTICS", statistics_port)];
        let mut cluster = Self {
            root: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
            project: format!("{PROJECTS}{}", std::process::id()),
            env: ports.iter().map(|(name, port)| (format!("TAMADA_{name}_PORT"), port.to_string())).collect(),
            write_port,
            read_port,
            password: String::new(),
        };
        Self::remove_leftovers()?;
        let brought_up = cluster.start();
        if brought_up.is_err() {
            cluster.keep_logs();
            cluster.down()?;
        }
        brought_up.map(|()| cluster)
    }

    fn start(&mut self) -> Result<()> {
        self.compose(&["up", "--detach", "--wait", "--wait-timeout", "150", "--no-build"])?;
        self.password = self.compose(&["exec", "-T", "tamada1", "cat", "/run/secrets/superuser-password"])?;
        self.whole(Duration::from_secs(60))?;
        writer::execute(
            &self.through_haproxy(),
            "CREATE TABLE IF NOT EXISTS writes (writer text, seq bigint, PRIMARY KEY (writer, seq))",
        )
    }

    /// Removes the cluster; a volume that is left is an error.
    pub fn down(&self) -> Result<()> {
        let label = format!("label=com.docker.compose.project={}", self.project);
        let containers = docker(&["ps", "--all", "--quiet", "--filter", &label])?;
        let mounts = "{{range .Mounts}}{{println .Name}}{{end}}";
        let volumes = match containers.is_empty() {
            true => String::new(),
            false => docker(&[&["inspect", "--format", mounts], &*containers.lines().collect::<Vec<_>>()].concat())?,
        };
        self.compose(&["down", "--volumes", "--timeout", "5"])?;
        let there = docker(&["volume", "ls", "--quiet"])?;
        let volumes: BTreeSet<&str> = volumes.lines().filter(|name| !name.is_empty()).collect();
        let left: Vec<&str> = there.lines().filter(|name| volumes.contains(name)).collect();
        ensure!(left.is_empty(), "docker compose down --volumes left {}", left.join(", "));
        Ok(())
    }

    /// Removes what earlier runs that were interrupted have left.
    fn remove_leftovers() -> Result<()> {
        let kinds: [(&[&str], &[&str]); 3] = [
            (&["ps", "--all", "--format={{.Names}}"], &["rm", "--force", "--volumes"]),
            (&["volume", "ls", "--format={{.Name}}"], &["volume", "rm"]),
            (&["network", "ls", "--format={{.Name}}"], &["network", "rm"]),
        ];
        for (list, remove) in kinds {
            for name in docker(list)?.lines().filter(|name| is_leftover(name)) {
                eprintln!("removing {name}, which an interrupted run left");
                docker(&[remove, &[name]].concat())?;
            }
        }
        Ok(())
    }

    pub fn project(&self) -> &str {
        &self.project
    }

    pub fn compose(&self, args: &[&str]) -> Result<String> {
        let folder = self.root.join("compose");
        let file = folder.join("compose.yaml");
        let mut all = vec!["compose", "--project-name", &self.project, "--project-directory", path(&folder)?];
        // The cluster of a person who has changed compose/.env is another one.
        all.extend(["--file", path(&file)?, "--env-file", "/dev/null", "--progress", "plain"]);
        all.extend(args);
        run(Duration::from_secs(180), "docker", &all, &self.env)
    }

    /// Writes every service's log below the build folder, for whoever looks for the reason of a failure.
    pub fn keep_logs(&self) {
        let file = self.root.join("target").join(format!("{}.log", self.project));
        let kept =
            self.compose(&["logs", "--no-color", "--timestamps"]).and_then(|logs| Ok(std::fs::write(&file, logs)?));
        match kept {
            Ok(()) => eprintln!("logs of all services: {}", file.display()),
            Err(error) => eprintln!("cannot keep the logs: {error:#}"),
        }
    }

    pub fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.project)
    }

    pub fn network(&self) -> String {
        format!("{}_default", self.project)
    }

    /// What a service was started from.
    pub fn image(&self, service: &str) -> Result<String> {
        docker(&["inspect", "--format", "{{.Config.Image}}", &self.container(service)])
    }

    /// `docker exec` as root.
    pub fn exec(&self, service: &str, args: &[&str]) -> Result<String> {
        let container = self.container(service);
        let mut all = vec!["exec", container.as_str()];
        all.extend(args);
        docker(&all)
    }

    pub fn address(&self, service: &str) -> Result<String> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = docker(&["inspect", "--format", format, &self.container(service)])?;
        ensure!(!address.is_empty(), "{service} has no address");
        Ok(address)
    }

    /// The number that the machine, outside of the container, knows PID 1 by.
    pub fn first_process(&self, service: &str) -> Result<String> {
        docker(&["inspect", "--format", "{{.State.Pid}}", &self.container(service)])
    }

    pub fn through_haproxy(&self) -> Target {
        Target { host: "127.0.0.1".to_owned(), port: self.write_port, password: self.password.clone() }
    }

    pub fn through_haproxy_to_read(&self) -> Target {
        Target { port: self.read_port, ..self.through_haproxy() }
    }

    pub fn direct(&self, member: &str) -> Result<Target> {
        Ok(Target { host: self.address(member)?, port: 5432, password: self.password.clone() })
    }

    /// Waits until one member is the primary, by its own word too, and both others stream from it; returns its name.
    pub fn whole(&self, within: Duration) -> Result<String> {
        self.eventually(within, "be whole", || {
            let leader = self.leader_with_streaming_replicas()?;
            for member in MEMBERS {
                let standby = writer::ask(&self.direct(member)?, "SELECT pg_is_in_recovery()::text")? == "true";
                ensure!(
                    standby != (member == leader),
                    "{member} is {} a standby",
                    if standby { "still" } else { "not" }
                );
            }
            Ok(leader)
        })
    }

    /// Repeats a look until it succeeds, and fails with what the last one said.
    pub fn eventually<T>(&self, within: Duration, what: &str, mut look: impl FnMut() -> Result<T>) -> Result<T> {
        let began = clock::now();
        loop {
            match look() {
                Ok(found) => return Ok(found),
                Err(error) if clock::now().saturating_sub(began) > within => {
                    return Err(error.context(format!("the cluster did not {what} within {} s", within.as_secs())));
                }
                Err(_) => sleep(Duration::from_millis(100)),
            }
        }
    }

    fn leader_with_streaming_replicas(&self) -> Result<String> {
        let members = self.members()?;
        ensure!(members.len() == MEMBERS.len(), "{} members instead of three", members.len());
        let mut leader = None;
        for member in &members {
            let (name, role, state) = (text(member, "name"), text(member, "role"), text(member, "state"));
            match (role, state) {
                ("leader", "running") => leader = Some((name, &member["timeline"])),
                ("replica", "streaming") => {}
                _ => bail!("{name} is {role}, {state}"),
            }
        }
        let (leader, timeline) = leader.context("there is no leader")?;
        for member in &members {
            ensure!(&member["timeline"] == timeline, "{} is on timeline {}", text(member, "name"), member["timeline"]);
        }
        Ok(leader.to_owned())
    }

    /// `GET /cluster` of the first member that answers.
    fn members(&self) -> Result<Vec<Value>> {
        let mut last = None;
        for member in MEMBERS {
            match self.get(member, "/cluster") {
                Ok(document) => return document["members"].as_array().cloned().context("/cluster lists no members"),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("there are no members")?)
    }

    pub fn timeline(&self) -> Result<u64> {
        let members = self.members()?;
        let leader = members.iter().find(|member| text(member, "role") == "leader").context("there is no leader")?;
        leader["timeline"].as_u64().context("the leader publishes no timeline")
    }

    /// The lease's time to live, as the cluster's configuration has it.
    pub fn ttl(&self) -> Result<Duration> {
        let configuration = self.get(MEMBERS[0], "/config")?;
        configuration["ttl"].as_u64().map(Duration::from_secs).context("/config has no ttl")
    }

    pub fn get(&self, member: &str, path: &str) -> Result<Value> {
        let address: SocketAddr = format!("{}:8008", self.address(member)?).parse().context("not an address")?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {member}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
        Ok(serde_json::from_str(body)?)
    }
}

/// Whether the process that a container, a volume or a network belongs to is gone.
fn is_leftover(name: &str) -> bool {
    let owner = name.strip_prefix(PROJECTS).and_then(|rest| rest.split(['-', '_']).next());
    owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists())
}

fn text<'a>(member: &'a Value, field: &str) -> &'a str {
    member[field].as_str().unwrap_or_default()
}

pub fn path(path: &Path) -> Result<&str> {
    path.to_str().context("this folder's name is not UTF-8")
}

/// Three ports that nobody listens on; held together while being chosen, so that they differ.
fn free_ports() -> Result<(u16, u16, u16)> {
    let held =
        [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok((held[0].local_addr()?.port(), held[1].local_addr()?.port(), held[2].local_addr()?.port()))
}
