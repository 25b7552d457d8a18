//! What the server is started with, brought to disk: configuration files, signal files, arguments.
//!
//! Texts come from `conf`; here they meet the data directory. In single mode the files are the user's and stay as they
//! are: ours is only what stands on the command line.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::PostgresError;
use super::conf::conninfo::Conninfo;
use super::conf::parameters::{Identity, STANDBY_NAMES, ServerParameters, server_parameters, single_mode_options};
use super::conf::postgresql_conf::{self, ServerFile};
use super::conf::recovery::{self, Source};
use super::conf::{Parameters, hba, rules, validate};
use super::files::{self, Written};
use super::local::LocalPostgres;
use super::process;
use super::version::Version;
use crate::config::Config;
use crate::core::local::{Remote, Upstream};
use crate::core::policy::Mode;
use crate::core::units::MemberName;
use crate::core::view::Address;

const AUTO_CONF: &str = "postgresql.auto.conf";
const UPSTREAM: &str = "tamada.upstream";
/// Files of ours that belong to one member and must not travel with a copy of its data.
pub(super) const OWN_FILES: [&str; 3] = ["tamada.lease", UPSTREAM, super::staging::BOOTSTRAP_MARK];

/// The recovery block of `postgresql.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// A primary: no block, no signal file.
    Primary,
    /// A standby with these settings.
    Standby(Parameters),
}

/// `tamada.upstream`: whom the recovery settings on disk name, so that a restarted agent knows.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum UpstreamFile {
    Member { name: MemberName, address: Address },
    Remote { remote: Remote },
    Archive { archive: () },
}

impl LocalPostgres {
    pub(super) fn is_single(&self) -> bool {
        self.config().dcs.mode() == Mode::Single
    }

    pub(super) fn config_dir(&self) -> PathBuf {
        self.config().postgres.config_dir.clone().unwrap_or_else(|| self.data_dir.clone())
    }

    pub(super) fn conf_file(&self) -> PathBuf {
        self.config_dir().join(format!("{}.conf", self.config().postgres.config_base_name))
    }

    fn base_file(&self) -> PathBuf {
        self.config_dir().join(format!("{}.base.conf", self.config().postgres.config_base_name))
    }

    /// The version whose rules hold for the configuration.
    pub(super) fn rules_version(&self) -> Version {
        Version::for_validation(None, Some(self.programs.version), self.data_version()).unwrap_or(self.programs.version)
    }

    /// What the server is to run with by the settings last given. Warnings are logged once for each new setting.
    pub(super) fn wanted_parameters(&self) -> ServerParameters {
        let config = self.config();
        let desired = self.memory().desired.clone();
        let identity = Identity {
            listen_addresses: config.postgres.listen_addresses.clone(),
            port: config.postgres.port,
            cluster_name: config.scope.clone(),
        };
        let (mut parameters, warnings) = server_parameters(&desired.server, &identity, self.rules_version());
        self.warn_once(warnings);
        if desired.logical_slots {
            parameters.replace("hot_standby_feedback", "on".to_owned());
        }
        if let Some(names) = &self.memory().standby_names {
            parameters.replace(STANDBY_NAMES, names.to_string());
        }
        parameters
    }

    /// The part of `parameters` that the file may hold.
    pub(super) async fn for_file(&self, parameters: &ServerParameters) -> Result<Parameters, PostgresError> {
        let version = self.rules_version();
        let all = parameters.all();
        let needs_names = all.keys().any(|name| {
            rules::rule(name, version).is_none() && !name.contains('.') && !recovery::is_recovery_parameter(name)
        });
        let known = if needs_names { self.known_names().await? } else { Default::default() };
        let (valid, warnings) = validate::validate(&all, version, &known);
        self.warn_once(warnings);
        Ok(valid)
    }

    async fn known_names(&self) -> Result<validate::KnownNames, PostgresError> {
        let run = self.program("postgres").in_c_locale().arg("--describe-config");
        let ended = run.success(Some(std::time::Duration::from_secs(10))).await?;
        Ok(validate::known_names(&String::from_utf8_lossy(&ended.stdout)))
    }

    fn warn_once(&self, warnings: Vec<validate::Warning>) {
        for warning in warnings.iter().map(ToString::to_string) {
            if self.memory().warned.insert(warning.clone()) {
                tracing::warn!("{warning}");
            }
        }
    }

    /// The recovery settings of a standby of this upstream; `Foreign` has none that we could write.
    pub(super) fn standby_settings(&self, upstream: &Upstream) -> Parameters {
        let config = self.config();
        let desired = self.memory().desired.clone();
        let (mut user, warnings) = recovery::user_settings(&desired.server, self.rules_version());
        self.warn_once(warnings);
        if let Some(standby) = &desired.standby_cluster {
            recovery::add_standby_cluster(&mut user, standby, upstream.is_elsewhere());
        }
        let source = match upstream {
            Upstream::None | Upstream::Archive | Upstream::Foreign => None,
            Upstream::Member { address, .. } => {
                let mut source = self.source(&config, address);
                source.slot = desired.use_slots.is_on().then(|| config.name.slot_name());
                Some(source)
            }
            Upstream::Remote(remote) => {
                let mut source = self.source(&config, &remote.address());
                source.slot = remote.slot.clone().filter(|_| desired.use_slots.is_on());
                if remote.is_choice() {
                    source.conninfo = source.conninfo.with("target_session_attrs", "read-write");
                }
                Some(source)
            }
        };
        recovery::standby_settings(&user, source.as_ref())
    }

    /// Without a slot.
    fn source(&self, config: &Config, address: &Address) -> Source {
        let postgres = &config.postgres;
        let conninfo = Conninfo::for_standby(
            address,
            &postgres.replication,
            &config.name,
            Some(&postgres.pgpass),
            postgres.krbsrvname.as_deref(),
            self.rules_version(),
        );
        let conninfo = match self.hosts.known(&address.host) {
            Some(found) => conninfo.with("hostaddr", found.to_string()),
            None => conninfo,
        };
        Source { conninfo, slot: None }
    }

    /// Writes everything that a start in cluster mode needs.
    pub(super) async fn write_files(
        &self,
        parameters: &ServerParameters,
        recovery: &Recovery,
    ) -> Result<Written, PostgresError> {
        let for_file = self.for_file(parameters).await?;
        self.keep_base_file()?;
        let mut written = self.write_server_file(&for_file, recovery)?;
        for (lines, name, setting) in self.line_files() {
            if postgresql_conf::custom_file(&for_file, setting, &self.config_dir()).is_none() {
                let text = postgresql_conf::lines_file(&lines);
                if self.write_conf(&self.config_dir().join(name), text.as_bytes())? == Written::Yes {
                    written = Written::Yes;
                }
            }
        }
        if self.let_replicas_in(&for_file)? == Written::Yes {
            written = Written::Yes;
        }
        self.clean_auto_conf()?;
        Ok(written)
    }

    fn line_files(&self) -> Vec<(Vec<String>, &'static str, &'static str)> {
        let server = self.memory().desired.server.clone();
        let files = [(server.pg_hba, "pg_hba.conf", "hba_file"), (server.pg_ident, "pg_ident.conf", "ident_file")];
        let given = files.into_iter().filter_map(|(lines, name, setting)| Some((lines?, name, setting)));
        given.filter(|(lines, _, _)| !lines.is_empty()).collect()
    }

    /// Data that were a single server's bring a `pg_hba.conf` that no replica passes: the line that is missing is added
    /// at its end, after whatever the user has to say. Not where `pg_hba` is configured: then it is the user's whole.
    fn let_replicas_in(&self, for_file: &Parameters) -> Result<Written, PostgresError> {
        let is_configured = self.line_files().iter().any(|(_, name, _)| *name == "pg_hba.conf");
        if is_configured || postgresql_conf::custom_file(for_file, "hba_file", &self.config_dir()).is_some() {
            return Ok(Written::No);
        }
        let path = self.config_dir().join("pg_hba.conf");
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(Written::No) };
        match hba::with_replication(&text, &self.config().postgres.replication.username) {
            None => Ok(Written::No),
            Some(extended) => {
                tracing::info!("{} lets no replica in: adding a line that does", path.display());
                self.write_conf(&path, extended.as_bytes())
            }
        }
    }

    fn write_server_file(&self, parameters: &Parameters, recovery: &Recovery) -> Result<Written, PostgresError> {
        let config = self.config();
        let base_name = format!("{}.base.conf", config.postgres.config_base_name);
        let custom = config.postgres.custom_conf.as_ref().map(|path| path.to_string_lossy().into_owned());
        let file = ServerFile {
            include: custom.as_deref().unwrap_or(&base_name),
            parameters,
            config_dir: &self.config_dir(),
            recovery: match recovery {
                Recovery::Primary => None,
                Recovery::Standby(settings) => Some(settings),
            },
        };
        let written = self.write_conf(&self.conf_file(), file.text().as_bytes())?;
        self.memory().conninfo = file.recovery.and_then(|settings| settings.get("primary_conninfo").cloned());
        Ok(written)
    }

    fn write_conf(&self, path: &Path, content: &[u8]) -> Result<Written, PostgresError> {
        files::replace_if_different(path, content, files::file_mode(&self.data_dir))
            .map_err(|cause| PostgresError::failed(format!("write {}", path.display()), cause))
    }

    /// The user's own `postgresql.conf` is renamed to the base file, once; a lost one comes back from its copy.
    fn keep_base_file(&self) -> Result<(), PostgresError> {
        let (file, base) = (self.conf_file(), self.base_file());
        if self.config().postgres.custom_conf.is_some() || base.exists() {
            return Ok(());
        }
        self.restore_backups();
        if base.exists() {
            return Ok(());
        }
        if !file.exists() {
            return Err(PostgresError::Refused(format!(
                "{} does not exist: put PostgreSQL's configuration file there, or name one with custom_conf",
                file.display()
            )));
        }
        std::fs::rename(&file, &base)
            .map_err(|cause| PostgresError::failed(format!("rename {} to {}", file.display(), base.display()), cause))
    }

    /// Recovery parameters in `postgresql.auto.conf` would win over ours.
    fn clean_auto_conf(&self) -> Result<(), PostgresError> {
        let path = self.data_dir.join(AUTO_CONF);
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(()) };
        match postgresql_conf::without_recovery(&text) {
            None => Ok(()),
            Some(text) => self.write_conf(&path, text.as_bytes()).map(drop),
        }
    }

    /// `standby.signal` is there exactly when a standby is wanted; both signal files go for a primary.
    pub(super) fn write_signal(&self, recovery: &Recovery) -> Result<(), PostgresError> {
        let (standby, recovery_signal) = (self.data_dir.join("standby.signal"), self.data_dir.join("recovery.signal"));
        let result = match recovery {
            Recovery::Primary => files::remove_if_there(&standby)
                .and_then(|()| files::remove_if_there(&recovery_signal))
                .and_then(|()| files::sync_dir(&self.data_dir)),
            Recovery::Standby(_) if standby.exists() => Ok(()),
            Recovery::Standby(_) => files::replace(&standby, b"", files::file_mode(&self.data_dir)),
        };
        result.map_err(|cause| {
            PostgresError::failed(format!("write the signal files in {}", self.data_dir.display()), cause)
        })
    }

    /// Remembers whom the settings on disk follow, for this agent and the next.
    pub(super) fn remember_upstream(&self, upstream: &Upstream) -> Result<(), PostgresError> {
        self.memory().upstream = Some(upstream.clone());
        let path = self.data_dir.join(UPSTREAM);
        let file = match upstream.clone() {
            Upstream::None | Upstream::Foreign => None,
            Upstream::Member { name, address } => Some(UpstreamFile::Member { name, address }),
            Upstream::Remote(remote) => Some(UpstreamFile::Remote { remote }),
            Upstream::Archive => Some(UpstreamFile::Archive { archive: () }),
        };
        let result = match file {
            None => files::remove_if_there(&path),
            Some(file) => serde_json::to_vec(&file)
                .map_err(std::io::Error::other)
                .and_then(|text| files::replace_if_different(&path, &text, files::file_mode(&self.data_dir)).map(drop)),
        };
        result.map_err(|cause| PostgresError::failed(format!("write {}", path.display()), cause))
    }

    /// Whom the settings on disk follow; `None`: nobody that we know of.
    pub(super) fn upstream_on_disk(&self) -> Option<Upstream> {
        self.memory().upstream.clone().or_else(|| {
            let file: UpstreamFile = serde_json::from_slice(&std::fs::read(self.data_dir.join(UPSTREAM)).ok()?).ok()?;
            Some(match file {
                UpstreamFile::Member { name, address } => Upstream::Member { name, address },
                UpstreamFile::Remote { remote } => Upstream::Remote(remote),
                UpstreamFile::Archive { archive: () } => Upstream::Archive,
            })
        })
    }

    /// The upstream that the running server's connection string names.
    pub(super) fn upstream_in_force(&self, conninfo: &str) -> Upstream {
        let known = self.upstream_on_disk();
        if conninfo.is_empty() {
            return known.filter(|known| *known == Upstream::Archive).unwrap_or(Upstream::None);
        }
        let names = |address: &Address| {
            let conninfo = Conninfo::parse(conninfo)?;
            let is_named = conninfo.get("host")? == address.host && conninfo.get("port")? == address.port.to_string();
            if let Some(found) = conninfo.get("hostaddr").filter(|_| is_named) {
                // For an agent that begins anew: nobody may know the name any more.
                self.hosts.take_over(&address.host, found);
            }
            Some(is_named)
        };
        let is_it = |known: &Upstream| known.address().is_some_and(|address| names(&address) == Some(true));
        known.filter(is_it).unwrap_or(Upstream::Foreign)
    }

    /// Arguments of `postgres`.
    pub(super) fn arguments(&self, parameters: &ServerParameters) -> Vec<String> {
        let data_dir = self.data_dir.to_string_lossy().into_owned();
        let config = self.config();
        let mut arguments = vec!["-D".to_owned(), data_dir];
        if self.is_single() {
            let postgres = &config.postgres;
            let parameters = &self.memory().desired.server.parameters.clone();
            arguments.extend(single_mode_options(Some(&postgres.listen_addresses), Some(postgres.port), parameters));
        } else {
            arguments.push(format!("--config-file={}", self.conf_file().display()));
            arguments.extend(parameters.command_line());
        }
        arguments
    }

    /// Before crash recovery PostgreSQL flushes every file of the data directory, one by one, which is most of the time
    /// of a restart in place. One flush of the file system does the same (from version 14 on, where the operator has
    /// not chosen); since Linux 5.8 it reports write errors as well.
    pub(super) fn quick_recovery(&self, parameters: &ServerParameters) -> Option<String> {
        const METHOD: &str = "recovery_init_sync_method";
        let able = self.rules_version().major() >= 14 && process::syncfs_reports_errors();
        (able && parameters.get(METHOD).is_none()).then(|| format!("--{METHOD}=syncfs"))
    }

    /// Copies of the configuration files in the data directory, by which a clone gets those kept elsewhere.
    pub(super) fn save_backups(&self) {
        for (file, backup) in self.backups() {
            if let Ok(content) = std::fs::read(&file)
                && let Err(error) = files::replace_if_different(&backup, &content, files::file_mode(&self.data_dir))
            {
                tracing::warn!("cannot write {}: {error}", backup.display());
            }
        }
    }

    /// Brings back what is missing, after a clone.
    pub(super) fn restore_backups(&self) {
        for (file, backup) in self.backups().into_iter().filter(|(file, _)| !file.exists()) {
            let content = std::fs::read(&backup);
            let content = match content {
                Ok(content) => content,
                Err(_) if file.ends_with("pg_ident.conf") => Vec::new(),
                Err(_) => continue,
            };
            if let Err(error) = files::replace(&file, &content, files::file_mode(&self.data_dir)) {
                tracing::warn!("cannot restore {}: {error}", file.display());
            }
        }
    }

    fn backups(&self) -> Vec<(PathBuf, PathBuf)> {
        let postgres = self.config().postgres.config_base_name.clone();
        let names =
            [format!("{postgres}.conf"), format!("{postgres}.base.conf"), "pg_hba.conf".into(), "pg_ident.conf".into()];
        let pair = |name: &String| (self.config_dir().join(name), self.data_dir.join(format!("{name}.backup")));
        names.iter().map(pair).collect()
    }
}
