//! A cluster: a store and members on it, with the shortest timers that are allowed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;

use crate::etcd::Etcd;
use crate::member::{Member, REPLICATOR, REWINDER, password};
use crate::wait::{eventually, seconds};

/// Of the tests, on a busy machine too, for what takes a second or two.
pub const SOON: Duration = seconds(20);

pub struct Cluster<S = Etcd> {
    pub members: Vec<Member>,
    pub store: S,
    pub folder: tempfile::TempDir,
}

/// Where a cluster's state is kept, as members are told.
pub trait Store {
    fn join(&self, member: &mut Member);
    /// From now on it answers nothing.
    fn freeze(&self);
    fn thaw(&self);
}

impl Store for Etcd {
    fn join(&self, member: &mut Member) {
        let hosts: Vec<String> = self.endpoints().iter().map(ToString::to_string).collect();
        member.set("PATRONI_ETCD3_HOSTS", &hosts.join(","));
    }

    fn freeze(&self) {
        Etcd::freeze(self, 0);
    }

    fn thaw(&self) {
        Etcd::thaw(self, 0);
    }
}

impl Cluster {
    /// Members that are not started yet.
    pub fn prepare(members: usize) -> Self {
        Cluster::prepare_on(Etcd::start(), members)
    }

    /// Members that run, one of them as the primary, the others streaming from it.
    pub fn start(members: usize) -> Self {
        Cluster::start_on(Etcd::start(), members)
    }
}

impl<S: Store> Cluster<S> {
    pub fn prepare_on(store: S, members: usize) -> Self {
        let folder = folder();
        let members = (1..=members).map(|at| join(Member::new(folder.path(), &format!("m{at}")), &store)).collect();
        Cluster { members, store, folder }
    }

    pub fn start_on(store: S, members: usize) -> Self {
        let mut cluster = Self::prepare_on(store, members);
        cluster.start_all();
        cluster.whole(seconds(40));
        cluster
    }

    pub fn start_all(&mut self) {
        self.members.iter_mut().for_each(Member::start);
    }

    /// For all members alike, before they are started.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        for member in &mut self.members {
            member.set(name, value);
        }
        self
    }

    /// Waits until one running member is the primary and all other running ones stream from it on its timeline; which
    /// it is, and how long that took.
    pub fn whole(&mut self, limit: Duration) -> (usize, Duration) {
        let running: Vec<bool> = self.members.iter_mut().map(Member::runs).collect();
        let running: Vec<usize> = (0..running.len()).filter(|at| running[*at]).collect();
        eventually(limit, "one primary, the others streaming", || self.leader_of(&running))
    }

    fn leader_of(&self, running: &[usize]) -> Result<usize, String> {
        let first = running.first().ok_or("no member runs")?;
        let document = self.members[*first].get("/cluster")?.json();
        let known = document["members"].as_array().ok_or("/cluster lists no members")?;
        let find = |name: &str| known.iter().find(|member| member["name"] == name);
        let mut leaders = Vec::new();
        let mut timelines = Vec::new();
        for at in running {
            let name = &self.members[*at].name;
            let seen = find(name).ok_or(format!("{name} is not in {document}"))?;
            timelines.push(seen["timeline"].as_u64().ok_or(format!("{name} has no timeline in {document}"))?);
            match (seen["role"].as_str(), seen["state"].as_str()) {
                (Some("leader"), Some("running")) => leaders.push(*at),
                (Some("replica" | "sync_standby" | "quorum_standby"), Some("streaming")) => {}
                _ => return Err(format!("{name} is {seen}")),
            }
        }
        timelines.dedup();
        let [leader] = leaders[..] else { return Err(format!("{} leaders in {document}", leaders.len())) };
        if timelines.len() > 1 {
            return Err(format!("several timelines: {document}"));
        }
        self.agrees_with_sql(leader, running)?;
        Ok(leader)
    }

    fn agrees_with_sql(&self, leader: usize, running: &[usize]) -> Result<(), String> {
        for at in running {
            let recovery = self.members[*at].value("SELECT pg_is_in_recovery()")?;
            if (recovery == "f") != (*at == leader) {
                return Err(format!("{} is in recovery: {recovery}", self.members[*at].name));
            }
        }
        // Not those that decode.
        let streams = self.members[leader].value(
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND pid NOT IN \
             (SELECT active_pid FROM pg_replication_slots WHERE slot_type = 'logical' AND active_pid IS NOT NULL)",
        )?;
        match streams == (running.len() - 1).to_string() {
            true => Ok(()),
            false => Err(format!("{streams} streams instead of {}", running.len() - 1)),
        }
    }

    /// Waits until some member takes writes; which, and how long it took.
    pub fn primary(&self, limit: Duration) -> (usize, Duration) {
        eventually(limit, "a primary", || {
            let writable = |member: &Member| member.value("SELECT pg_is_in_recovery()").is_ok_and(|value| value == "f");
            self.members.iter().position(writable).ok_or("no member is writable".to_owned())
        })
    }

    /// Waits until every row of a query on one member is what another has.
    pub fn replayed(&self, from: usize, to: usize) {
        let position = self.members[from].must("SELECT pg_current_wal_flush_lsn()");
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn");
        eventually(SOON, "all is replayed", || match self.members[to].value(&sql)?.as_str() {
            "t" => Ok(()),
            other => Err(format!("replayed: {other}")),
        });
    }

    /// An agent that has just been started does not answer yet.
    pub fn cluster_document(&self, at: usize) -> Value {
        eventually(SOON, "the member answers", || self.members[at].get("/cluster")).0.json()
    }

    /// What is said of a member in `/cluster`.
    pub fn seen(&self, by: usize, name: &str) -> Value {
        let document = self.cluster_document(by);
        let members = document["members"].as_array().cloned().unwrap_or_default();
        members.into_iter().find(|member| member["name"] == name).unwrap_or(Value::Null)
    }
}

/// A member of the cluster on this store, with quick timers and a small server.
pub fn join(mut member: Member, store: &impl Store) -> Member {
    let name = member.name.clone();
    let vars = [
        ("PATRONI_SCOPE", "demo"),
        ("PATRONI_NAME", &name),
        ("PATRONI_REPLICATION_USERNAME", REPLICATOR),
        ("PATRONI_REPLICATION_PASSWORD", &password(REPLICATOR)),
        ("PATRONI_REWIND_USERNAME", REWINDER),
        ("PATRONI_REWIND_PASSWORD", &password(REWINDER)),
        ("PATRONI_TTL", "5"),
        ("PATRONI_LOOP_WAIT", "1"),
        ("PATRONI_RETRY_TIMEOUT", "1"),
        ("PATRONI_POSTGRESQL_PARAMETERS", "{shared_buffers: 16MB, max_connections: 40, fsync: off}"),
        ("PATRONI_BOOTSTRAP_INITDB", "[data-checksums, no-sync]"),
        ("PATRONI_POSTGRESQL_BASEBACKUP", "no-sync"),
    ];
    for (name, value) in vars {
        member.set(name, value);
    }
    store.join(&mut member);
    member
}

/// Every user may pass through it.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("tamada-cluster-").tempdir().expect("/tmp is writable");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    folder
}
