//! A stock Patroni member and ours in one cluster on Kubernetes, as during a migration. Needs Patroni: `LAB_PATRONI` or in the
//! path.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use serde_json::json;

use crate::kubernetes::{Kubernetes, Objects, address_of};
use crate::member::{Member, REPLICATOR, SUPERUSER, bin_dir, password};
use crate::wait::{seconds, until};
use crate::world::{Cluster, SOON, Store};

/// Patroni takes no shorter ones.
const LEAST: Timers = Timers { ttl: 20, loop_wait: 1, retry_timeout: 3 };

/// A member that Patroni runs, with the addresses and folders of one of ours that is never started.
pub struct Patroni {
    pub like: Member,
    process: Child,
}

/// Seconds of a cluster's timers.
#[derive(Clone, Copy)]
pub struct Timers {
    pub ttl: u32,
    pub loop_wait: u32,
    pub retry_timeout: u32,
}

impl Timers {
    /// For the cluster that this member may begin.
    pub fn tell(self, member: &mut Member) {
        for (name, seconds) in [("TTL", self.ttl), ("LOOP_WAIT", self.loop_wait), ("RETRY_TIMEOUT", self.retry_timeout)]
        {
            member.set(&format!("PATRONI_{name}"), &seconds.to_string());
        }
    }
}

impl Patroni {
    pub fn start(mut like: Member, kubernetes: &Kubernetes, timers: Timers) -> Patroni {
        kubernetes.join(&mut like);
        let user = User::from_name("postgres").expect("readable").expect("there is a user postgres");
        let role = |name: &str| json!({"username": name, "password": password(name)});
        let config = json!({
            "scope": "demo",
            "name": like.name,
            "kubernetes": {
                "namespace": "demo",
                "context": "test",
                "labels": {"application": "patroni"},
                "use_endpoints": kubernetes.objects == Objects::Endpoints,
                "pod_ip": address_of(&like),
            },
            "bootstrap": {"dcs": {
                "ttl": timers.ttl, "loop_wait": timers.loop_wait, "retry_timeout": timers.retry_timeout,
            }},
            "restapi": {"listen": like.rest, "connect_address": like.rest},
            "postgresql": {
                "listen": like.sql,
                "connect_address": like.sql,
                "data_dir": like.data(),
                "bin_dir": bin_dir(),
                "pgpass": like.folder.join("pgpass"),
                "authentication": {"superuser": role(SUPERUSER), "replication": role(REPLICATOR)},
                "pg_hba": ["local all all trust", "host all all all scram-sha-256", "host replication all all scram-sha-256"],
                "parameters": {"unix_socket_directories": like.folder},
            },
        });
        let env = [
            ("PATH", like.env["PATH"].clone()),
            ("HOME", like.folder.display().to_string()),
            ("KUBECONFIG", like.env["KUBECONFIG"].clone()),
            // Whatever else is set is not read then.
            ("PATRONI_CONFIGURATION", config.to_string()),
        ];
        let log = File::create(like.folder.join("log")).expect("writable");
        let place = like.place.expect("it has a pod");
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &place.holder.to_string(), "setpriv", "--clear-groups"]);
        command.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]).arg(program());
        command.env_clear().envs(env).current_dir(&like.folder).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        let process = command.spawn().expect("Patroni is installed (LAB_PATRONI)");
        Patroni { like, process }
    }

    /// The agent and its server, at once.
    fn kill(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        let pid = fs::read_to_string(self.like.data().join("postmaster.pid")).unwrap_or_default();
        if let Some(pid) = pid.lines().next().and_then(|line| line.trim().parse().ok()) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }

    fn is_in_recovery(&self) -> Option<bool> {
        self.like.value("SELECT pg_is_in_recovery()").ok().map(|value| value == "t")
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- log of Patroni's {}:\n{}", self.like.name, self.like.log());
        }
        self.kill();
    }
}

fn program() -> PathBuf {
    std::env::var_os("LAB_PATRONI").map_or_else(|| PathBuf::from("patroni"), PathBuf::from)
}

fn switch(cluster: &Cluster<Kubernetes>, by: usize, from: &str, to: &str) {
    let body = json!({"leader": from, "candidate": to});
    let reply = cluster.members[by].send("POST", "/switchover", &body).expect("an answer");
    assert_eq!(reply.code, 200, "{}", reply.body);
    until(SOON, &format!("{to} leads"), || cluster.store.holder().as_deref() == Some(to));
}

fn ours_and_patronis_take_turns(objects: Objects) {
    let mut cluster = Cluster::prepare_on(Kubernetes::start(objects), 2);
    cluster.members.iter_mut().for_each(|member| LEAST.tell(member));
    cluster.start_all();
    let (first, _) = cluster.whole(seconds(40));
    let name = cluster.members[first].name.clone();
    let folder = cluster.folder.path().to_owned();
    let mut patroni = Patroni::start(Member::new(&folder, "m3"), &cluster.store, LEAST);
    until(seconds(30), "Patroni's member streams", || {
        patroni.is_in_recovery() == Some(true)
            && cluster.members[first]
                .value("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
                .is_ok_and(|count| count == "2")
    });
    cluster.members[first].must("CREATE TABLE turns (by text)");
    switch(&cluster, first, &name, "m3");
    until(SOON, "Patroni's member is the primary", || patroni.is_in_recovery() == Some(false));
    patroni.like.must("INSERT INTO turns VALUES ('m3')");
    for member in &cluster.members {
        until(SOON, &format!("{} has it", member.name), || {
            member.value("SELECT count(*) FROM turns").is_ok_and(|count| count == "1")
        });
    }
    switch(&cluster, first, "m3", &name);
    cluster.members[first].wait_writable(SOON);
    until(seconds(40), "Patroni's member streams again", || patroni.is_in_recovery() == Some(true));
    switch(&cluster, first, &name, "m3");
    until(SOON, "Patroni's member is the primary", || patroni.is_in_recovery() == Some(false));
    patroni.kill();
    let (new, took) = cluster.primary(seconds(60));
    println!("a member of ours leads {took:?} after the loss of Patroni's");
    assert_eq!(cluster.members[new].must("SELECT count(*) FROM turns"), "1");
}

#[test]
#[ignore = "needs Patroni; make e2e"]
fn on_endpoints() {
    ours_and_patronis_take_turns(Objects::Endpoints);
}

#[test]
#[ignore = "needs Patroni; make e2e"]
fn on_config_maps() {
    ours_and_patronis_take_turns(Objects::ConfigMaps);
}
