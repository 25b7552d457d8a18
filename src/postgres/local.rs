//! `LocalPostgres`: the `Instance` of a real server on this machine. Here is what it knows and remembers; each task of
//! its stands in a file of its own.
//!
//! Locks are held for an instant, never across a wait, except those of the two long-lived sessions.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use super::callbacks::Callbacks;
use super::connect::{self, ConnectError, Host, Session, Target, Whose};
use super::control_cache::ControlCache;
use super::host_addresses::HostAddresses;
use super::postmaster::{ServerProcesses, read_pid_file};
use super::process::Process;
use super::programs::{Programs, Run};
use super::slot_memory::SlotMemory;
use super::version::Version;
use super::{DesiredServer, PostgresError};
use crate::boottime;
use crate::config::Config;
use crate::core::local::{LastRole, Upstream};
use crate::core::standby_names::StandbyNames;
use crate::core::units::{Instant, MemberName, Timeline};
use crate::core::view::MemberRole;
use crate::environment::{is_for_hooks_alone, is_withheld};

pub struct LocalPostgres {
    config: Mutex<Arc<Config>>,
    pub(super) env: Vec<(OsString, OsString)>,
    /// What callbacks and hooks get.
    pub(super) hook_env: Vec<(OsString, OsString)>,
    pub(super) data_dir: PathBuf,
    pub(super) programs: Programs,
    pub(super) processes: ServerProcesses,
    pub(super) callbacks: Callbacks,
    pub(super) control_cache: ControlCache,
    pub(super) hosts: HostAddresses,
    pub(super) heartbeat: tokio::sync::Mutex<Option<Session>>,
    pub(super) rest: tokio::sync::Mutex<Option<Session>>,
    /// Held by whatever removes or moves data in a thread of its own, which goes on when its caller is cancelled.
    pub(super) disk: Arc<Mutex<()>>,
    /// Held by the operation that changes the data directory or the server.
    pub(super) work: tokio::sync::Mutex<()>,
    memory: Mutex<Memory>,
}

/// What is remembered from one call to the next.
pub(super) struct Memory {
    pub(super) postmaster: Option<Arc<Process>>,
    /// Since when the postmaster gives no answer, or starts.
    pub(super) silent_since: Option<Instant>,
    pub(super) role: Option<LastRole>,
    /// The newest timeline that the running standby was seen to receive. Once the sender is gone the server tells it
    /// nowhere: the control file may lag behind by a checkpoint.
    pub(super) received_timeline: Option<Timeline>,
    pub(super) desired: DesiredServer,
    /// What the recovery settings on disk say.
    pub(super) upstream: Option<Upstream>,
    /// `primary_conninfo` as this agent has last written it.
    pub(super) conninfo: Option<String>,
    pub(super) pending_restart: Map<String, Value>,
    /// Index of the address that last let us in.
    pub(super) last_address: usize,
    /// What the running server was last configured with.
    pub(super) applied: Option<DesiredServer>,
    /// The role that callbacks last told.
    pub(super) told_role: Option<MemberRole>,
    /// Warnings and errors that are logged once: about settings, about what cannot be cleared up.
    pub(super) warned: std::collections::BTreeSet<String>,
    /// `unix_socket_directories` as the last start had it.
    pub(super) socket_dirs: Option<String>,
    /// Whom commits are to wait for; `None`: that is the user's to say.
    pub(super) standby_names: Option<StandbyNames>,
    /// The server's processes that serve the standbys.
    pub(super) standby_processes: Vec<Arc<Process>>,
    pub(super) discarded_looked_at: Option<Instant>,
    /// Whether leftovers of an earlier agent were looked for.
    pub(super) settled: bool,
    pub(super) slots: SlotMemory,
}

impl LocalPostgres {
    /// `env` is the agent's own environment; children get what of it is not secret.
    pub fn new(config: Arc<Config>, env: Vec<(OsString, OsString)>) -> Result<Self, PostgresError> {
        let path = env.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.clone());
        let data_dir = config.postgres.data_dir.clone();
        let data_version = version_of_data(&data_dir);
        let programs = Programs::locate(
            config.postgres.bin_dir.as_deref(),
            &config.postgres.bin_name,
            path.as_deref(),
            data_version.map(Version::major),
        )?;
        if !(13..=18).contains(&programs.version.major()) {
            return Err(PostgresError::Refused(format!(
                "PostgreSQL {} is not supported: install a version from 13 to 18",
                programs.version
            )));
        }
        let callbacks = Callbacks::default();
        let env = for_children(env);
        Ok(LocalPostgres {
            hook_env: env.clone(),
            env,
            processes: ServerProcesses::new(&data_dir, programs.server_names()),
            data_dir,
            programs,
            callbacks,
            control_cache: ControlCache::default(),
            hosts: HostAddresses::default(),
            heartbeat: tokio::sync::Mutex::new(None),
            rest: tokio::sync::Mutex::new(None),
            disk: Arc::default(),
            work: tokio::sync::Mutex::new(()),
            memory: Mutex::new(Memory {
                postmaster: None,
                silent_since: None,
                role: None,
                received_timeline: None,
                desired: DesiredServer::default(),
                upstream: None,
                conninfo: None,
                pending_restart: Map::new(),
                last_address: 0,
                applied: None,
                told_role: None,
                warned: Default::default(),
                socket_dirs: None,
                standby_names: None,
                standby_processes: Vec::new(),
                discarded_looked_at: None,
                settled: false,
                slots: SlotMemory::default(),
            }),
            config: Mutex::new(config),
        })
    }

    /// `environment`: the container's whole one, of which hooks get more than PostgreSQL.
    pub fn with_hooks_of(mut self, environment: &[(OsString, OsString)]) -> Self {
        let known = |name: &OsString| self.hook_env.iter().any(|(other, _)| other == name);
        let given = environment.iter().filter(|(name, _)| is_for_hooks_alone(name) && !known(name)).cloned();
        let given: Vec<_> = given.collect();
        self.hook_env.extend(given);
        self
    }

    /// The configuration as of the last reload.
    pub fn config(&self) -> Arc<Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A reloaded configuration; `configure` brings it into force. The data directory and the programs stay.
    pub fn set_config(&self, config: Arc<Config>) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name under which this member is known to its upstream.
    pub(super) fn name(&self) -> MemberName {
        self.config().name.clone()
    }

    /// A run of one of PostgreSQL's programs with the children's environment.
    pub(super) fn program(&self, name: &str) -> Run {
        let service = self.config().postgres.krbsrvname.clone();
        let run = Run::new(name, &self.programs.path(name), &self.env);
        match service {
            Some(service) => run.env("PGKRBSRVNAME", service),
            None => run,
        }
    }

    pub(super) fn data_version(&self) -> Option<Version> {
        version_of_data(&self.data_dir)
    }

    /// The running postmaster, as far as can be told.
    pub(super) fn postmaster(&self) -> Option<Arc<Process>> {
        self.find_postmaster().ok().flatten()
    }

    /// The running postmaster. Looked up anew when the one that was known has ended. An error says that it cannot be
    /// told whether there is one.
    pub(super) fn find_postmaster(&self) -> std::io::Result<Option<Arc<Process>>> {
        let known = self.memory().postmaster.clone();
        if let Some(process) = known.filter(|process| process.is_alive()) {
            return Ok(Some(process));
        }
        let found = self.processes.postmaster()?.map(Arc::new);
        self.memory().postmaster = found.clone();
        Ok(found)
    }

    /// The role that a server without an answer is in: as last seen, else as the signal files say.
    pub(super) fn last_role(&self) -> LastRole {
        let known = self.memory().role;
        known.unwrap_or_else(|| match self.has_recovery_signal() {
            true => LastRole::Standby,
            false => LastRole::Primary,
        })
    }

    pub(super) fn has_recovery_signal(&self) -> bool {
        self.data_dir.join("standby.signal").exists() || self.data_dir.join("recovery.signal").exists()
    }

    /// Where the local server answers, the likeliest first: its socket where the system's user may be who we want to
    /// be, then TCP.
    fn local_addresses(&self) -> Vec<(Host, u16)> {
        let config = self.config();
        let postgres = &config.postgres;
        let file = read_pid_file(&self.data_dir);
        let port = file.as_ref().and_then(|file| file.port).unwrap_or(postgres.port);
        let socket = file.and_then(|file| file.socket_dir).map(|dir| (Host::Socket(dir), port));
        let tcp = (tcp_host(&postgres.listen_addresses), port);
        let system_user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        let is_peer = system_user.is_some_and(|user| user.name == postgres.superuser.username);
        let socket_first = postgres.use_unix_socket.is_on() || postgres.superuser.password.is_none() || is_peer;
        let mut addresses: Vec<_> = socket.into_iter().chain([tcp]).collect();
        if !socket_first {
            addresses.reverse();
        }
        addresses
    }

    /// Where a user's own command finds the local server, as Patroni says it: the folder of its socket with
    /// `use_unix_socket`, else a host name.
    pub(super) fn host_for_hooks(&self) -> String {
        let config = self.config();
        let socket = read_pid_file(&self.data_dir).and_then(|file| file.socket_dir);
        match (socket.filter(|_| config.postgres.use_unix_socket.is_on()), tcp_host(&config.postgres.listen_addresses))
        {
            (Some(folder), _) => folder.to_string_lossy().into_owned(),
            (None, Host::Tcp(host)) => host,
            (None, Host::Loopback | Host::Socket(_)) => "localhost".to_owned(),
        }
    }

    /// A session with the local server as the superuser.
    pub(super) async fn connect(&self, purpose: &str, statement_timeout: Duration) -> Result<Session, ConnectError> {
        self.connect_in(&self.config().postgres.database, purpose, statement_timeout).await
    }

    async fn connect_in(
        &self,
        database: &str,
        purpose: &str,
        statement_timeout: Duration,
    ) -> Result<Session, ConnectError> {
        let config = self.config();
        let addresses = self.local_addresses();
        let first = self.memory().last_address.min(addresses.len().saturating_sub(1));
        let mut refusals = Vec::new();
        for offset in 0..addresses.len() {
            let index = (first + offset) % addresses.len();
            let (host, port) = addresses[index].clone();
            let place = host.to_string();
            let target = Target {
                host,
                port,
                database,
                application_name: self.application_name(purpose),
                statement_timeout,
                whose: Whose::Ours,
            };
            match connect::connect(&target, &config.postgres.superuser).await {
                Ok(session) => {
                    self.memory().last_address = index;
                    return Ok(session);
                }
                Err(error) if error.is_starting_up() => return Err(error),
                Err(error) => refusals.push(format!("{place}: {error}")),
            }
        }
        Err(ConnectError::Nowhere(refusals.join("; ")))
    }

    /// The same, with the attempt in the error.
    pub(super) async fn session(&self, purpose: &str, statement_timeout: Duration) -> Result<Session, PostgresError> {
        let session = self.connect(purpose, statement_timeout).await;
        session.map_err(|cause| PostgresError::failed("connect to the local PostgreSQL", cause))
    }

    /// The same in another database than ours.
    pub(super) async fn session_in(
        &self,
        database: &str,
        purpose: &str,
        statement_timeout: Duration,
    ) -> Result<Session, PostgresError> {
        let session = self.connect_in(database, purpose, statement_timeout).await;
        session.map_err(|cause| PostgresError::failed(format!("connect to the local database {database}"), cause))
    }

    /// As `pg_stat_activity` shows our sessions.
    pub(super) fn application_name(&self, purpose: &str) -> String {
        format!("tamada {} {purpose}", self.name()).trim_end().to_owned()
    }

    /// Ends the long-lived sessions, so that a shutdown need not.
    pub(super) async fn close_sessions(&self) {
        *self.heartbeat.lock().await = None;
        *self.rest.lock().await = None;
    }

    /// Now, on the clock of all decisions.
    pub(super) fn now(&self) -> Instant {
        boottime::now()
    }
}

/// The file `PG_VERSION`; `None` where it is absent or unreadable.
pub(super) fn version_of_data(data_dir: &Path) -> Option<Version> {
    Version::from_pg_version(&std::fs::read_to_string(data_dir.join("PG_VERSION")).ok()?)
}

/// The host by which this machine reaches a server with these `listen_addresses`.
fn tcp_host(listen_addresses: &str) -> Host {
    let addresses: Vec<&str> =
        listen_addresses.split(',').map(|address| address.trim().trim_matches(['[', ']'])).collect();
    let on_loopback = |address: &&str| matches!(*address, "*" | "0.0.0.0" | "127.0.0.1" | "localhost");
    match addresses.first() {
        _ if addresses.iter().any(on_loopback) => Host::Loopback,
        None | Some(&"") => Host::Loopback,
        Some(&"::") => Host::Tcp("::1".to_owned()),
        Some(first) => Host::Tcp((*first).to_owned()),
    }
}

fn for_children(env: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
    env.into_iter().filter(|(key, _)| !is_withheld(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_see_no_secret_of_the_environment() {
        let names =
            ["PATH", "PATRONI_SUPERUSER_PASSWORD", "POSTGRES_PASSWORD_FILE", "NOTIFY_SOCKET", "LANG", "LISTEN_FDS"];
        let env = names.iter().map(|name| (OsString::from(name), OsString::from("x"))).collect();
        let left: Vec<_> = for_children(env).into_iter().map(|(key, _)| key).collect();
        assert_eq!(left, ["PATH", "LANG"]);
    }

    #[test]
    fn the_local_host_follows_the_listen_addresses() {
        let cases = [
            ("*", Host::Loopback),
            ("10.0.0.1,127.0.0.1", Host::Loopback),
            ("10.0.0.1, 10.0.0.2", Host::Tcp("10.0.0.1".to_owned())),
            ("[::1]", Host::Tcp("::1".to_owned())),
            ("::", Host::Tcp("::1".to_owned())),
            ("", Host::Loopback),
        ];
        for (listen, host) in cases {
            assert_eq!(tcp_host(listen), host, "{listen}");
        }
    }
}
