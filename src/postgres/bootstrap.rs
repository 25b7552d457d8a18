//! A new cluster: initdb, the first start, the roles. And what a killed bootstrap or clone left behind.
//!
//! **Invariant:** until the roles are there the data directory carries a mark, and whoever finds the mark removes what
//! is there instead of serving it. initdb never runs beside existing data, and a failure removes only what was made.

use std::fs;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::callbacks::Callback;
use super::conf::conninfo::Conninfo;
use super::conf::postgresql_conf;
use super::conf::roles::{self, Existing, Purpose, identifier, literal, role_statement};
use super::connect::Session;
use super::contents::{Contents, contents};
use super::control::Freshness;
use super::local::LocalPostgres;
use super::nss_wrapper::with_user_entry;
use super::programs::Run;
use super::server::Announce;
use super::staging::{self, BOOTSTRAP_MARK, Settled, Staging};
use super::tablespaces::{is_wal_dir, wal_dir};
use super::{PostgresError, Progress, files, layout_conflicts};
use crate::config::{Account, Config, Credentials, default_pg_hba};
use crate::core::local::{StartAs, StopMode};
use crate::core::units::SystemId;
use crate::core::view::{Address, MemberRole};

/// initdb and all that follows it is bounded by these; a slow disk's fsync is the longest part.
const INITDB_LIMIT: Duration = Duration::from_secs(600);
const STOP_LIMIT: Duration = Duration::from_secs(10);

impl LocalPostgres {
    /// Completes or undoes what an earlier agent was killed in the middle of. Once, before anything else is done.
    pub(super) async fn settle(&self) -> Result<(), PostgresError> {
        if self.memory().settled {
            return Ok(());
        }
        let attempted = || format!("clear up {} after an interrupted operation", self.data_dir.display());
        let marked = self.data_dir.join(BOOTSTRAP_MARK).exists();
        if marked {
            // Nobody but its maker has seen this cluster.
            self.stop_server(StopMode::Immediate, STOP_LIMIT, Announce::No).await?;
            self.processes.kill_everything().await;
            tracing::warn!("removing what an interrupted bootstrap left in {}", self.data_dir.display());
        }
        if self.postmaster().is_none() {
            let data_dir = self.data_dir.clone();
            let settled = self.on_disk(move || {
                if data_dir.join(BOOTSTRAP_MARK).exists() {
                    staging::remove_data(&data_dir)?;
                }
                staging::settle(&data_dir)
            });
            match settled.await.map_err(|cause| PostgresError::failed(attempted(), cause))? {
                Settled::Nothing => (),
                Settled::Completed => {
                    tracing::info!("put an interrupted clone in place in {}", self.data_dir.display())
                }
                Settled::LeftOver(cause) => tracing::warn!(
                    "cannot remove what a clone has left in or beside {}: {cause}; it takes up space until somebody \
                     removes it",
                    self.data_dir.display()
                ),
                Settled::Undone => tracing::info!("removed an unfinished copy for {}", self.data_dir.display()),
            }
        }
        self.memory().settled = true;
        Ok(())
    }

    /// The same in passing. What takes longer goes on by itself, and is not begun once more meanwhile; until it is done
    /// the data directory is told to be unusable.
    pub(super) async fn settle_within(&self, limit: Duration) {
        if matches!(self.disk.try_lock(), Err(TryLockError::WouldBlock)) {
            return;
        }
        match tokio::time::timeout(limit, self.settle()).await {
            Ok(Ok(())) => (),
            Ok(Err(error)) => {
                if self.memory().warned.insert(error.to_string()) {
                    tracing::error!("{error}");
                }
            }
            Err(_) => tracing::info!("clearing up {} after an interrupted operation", self.data_dir.display()),
        }
    }

    /// Work on the disk that may take long, one such at a time, in a thread that does not hold the loop up. It goes on
    /// to its end even if its caller is cancelled.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<T> {
        let disk = self.disk.clone();
        let work = move || {
            let _alone = disk.lock().unwrap_or_else(PoisonError::into_inner);
            work()
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
    }

    pub(super) async fn bootstrap_cluster(&self, progress: &Progress) -> Result<SystemId, PostgresError> {
        self.settle().await?;
        match contents(&self.data_dir) {
            Contents::Empty => (),
            Contents::Something => {
                return Err(PostgresError::Refused(format!(
                    "cannot make a new cluster in {}: it is not empty",
                    self.data_dir.display()
                )));
            }
            Contents::Unreadable(cause) => {
                return Err(PostgresError::failed(format!("look into {}", self.data_dir.display()), cause));
            }
        }
        if let Some(why) = layout_conflicts::objection(&self.data_dir, &layout_conflicts::places_beside(&self.data_dir))
        {
            return Err(PostgresError::Refused(why));
        }
        self.memory().settled = false;
        let made = self.make_cluster(progress).await;
        match made {
            Ok(_) => self.memory().settled = true,
            Err(ref error) => self.undo_bootstrap(error).await,
        }
        made
    }

    async fn make_cluster(&self, progress: &Progress) -> Result<SystemId, PostgresError> {
        self.initialize(progress).await?;
        let limit = self.config().postgres.pg_ctl_timeout;
        self.start_prepared(&StartAs::Primary, limit, None).await?;
        let session = self.session("bootstrap", Duration::ZERO).await?;
        let config = self.config();
        self.make_roles(&session, &config, progress).await?;
        if let Some(database) = &config.bootstrap.database {
            let made = session.run(&format!("CREATE DATABASE {}", identifier(database))).await;
            made.map_err(|cause| PostgresError::sql(format!("create the database {}", identifier(database)), &cause))?;
        }
        let id = self.control_data(Freshness::IdentifierOnly).await?.system_id;
        let mark = self.data_dir.join(BOOTSTRAP_MARK);
        fs::remove_file(&mark)
            .and_then(|()| files::sync_dir(&self.data_dir))
            .map_err(|cause| PostgresError::failed(format!("remove {}", mark.display()), cause))?;
        self.memory().told_role = Some(MemberRole::Primary);
        self.fire(Callback::Start, MemberRole::Primary);
        Ok(id)
    }

    /// initdb into the staging place, then into place.
    async fn initialize(&self, progress: &Progress) -> Result<(), PostgresError> {
        let failed = |attempted: &str, cause: std::io::Error| {
            PostgresError::failed(format!("{attempted} {}", self.data_dir.display()), cause)
        };
        let config = self.config();
        let superuser = &config.postgres.superuser;
        refuse_user_name(&superuser.username)?;
        let mut staging =
            Staging::begin(&self.data_dir).map_err(|cause| failed("prepare the data directory", cause))?;
        let new_dir = staging.new_dir();
        progress(format!("initializing a new cluster in {}", self.data_dir.display()));
        let mut run = self.program("initdb").args(self.initdb_options(&config, &mut staging)?);
        run = run.arg(format!("--username={}", superuser.username));
        let password = password_file(superuser).map_err(|cause| failed("hand initdb the password for", cause))?;
        if let Some(file) = &password {
            run = run.arg(format!("--pwfile=/proc/self/fd/{}", file.as_raw_fd())).keeping(file.as_raw_fd());
        }
        let (run, _names) = match config.account {
            Account::Named(_) => (run, Vec::new()),
            Account::Unnamed => with_user_entry(run).map_err(|cause| failed("name the user of", cause))?,
        };
        run.arg("-D").arg(&new_dir).success(Some(INITDB_LIMIT)).await?;
        self.give_access(&new_dir, &config).map_err(|cause| failed("write pg_hba.conf for", cause))?;
        let mode = files::file_mode(&new_dir);
        files::replace(&new_dir.join(BOOTSTRAP_MARK), b"", mode).map_err(|cause| failed("mark", cause))?;
        staging.place().map_err(|cause| failed("put the new cluster into", cause))?;
        staging.clean().map_err(|cause| failed("clear up beside", cause))
    }

    /// The WAL's folder is staged like the data directory, so that an initdb that is cut short leaves nothing there. One
    /// that is not empty is left to initdb to refuse.
    fn initdb_options(&self, config: &Config, staging: &mut Staging) -> Result<Vec<String>, PostgresError> {
        let mut options = config.bootstrap.initdb.clone();
        if let Some(wal) = wal_dir(&options).filter(|wal| matches!(contents(wal), Contents::Empty)) {
            let place = staging.also(&wal);
            let place = place
                .map_err(|cause| PostgresError::failed(format!("prepare a place for {}", wal.display()), cause))?;
            options.retain(|option| !is_wal_dir(option));
            options.push(format!("--waldir={}", place.display()));
        }
        Ok(options)
    }

    /// Who may connect until somebody configures it: initdb's file knows no other host, hence no replica either.
    fn give_access(&self, new_dir: &Path, config: &Config) -> std::io::Result<()> {
        let file = new_dir.join("pg_hba.conf");
        // A single server's file is its user's from here on: nothing that is configured is ever written to it.
        if self.is_single() {
            return append_hba(&file, &config.bootstrap.pg_hba);
        }
        if self.memory().desired.server.pg_hba.as_ref().is_some_and(|lines| !lines.is_empty()) {
            return Ok(());
        }
        let text = postgresql_conf::lines_file(&default_pg_hba(config));
        files::replace(&file, text.as_bytes(), files::file_mode(new_dir))
    }

    /// Whatever was made, and nothing else: the mark tells.
    async fn undo_bootstrap(&self, cause: &PostgresError) {
        let _ = self.stop_server(StopMode::Immediate, STOP_LIMIT, Announce::No).await;
        if let Err(error) = self.settle().await {
            // Otherwise the cause is what the agent ends with.
            tracing::error!("bootstrap: {cause}");
            tracing::error!("{error}");
        }
    }

    /// The roles of a new cluster, in one session; no statement of it reaches a log.
    async fn make_roles(&self, session: &Session, config: &Config, progress: &Progress) -> Result<(), PostgresError> {
        self.silence(session).await?;
        let superuser = &config.postgres.superuser;
        // initdb has read its first line.
        if superuser.password.as_ref().is_some_and(|password| password.expose().contains(['\n', '\r'])) {
            self.make_role(session, superuser, Purpose::Superuser, Existing::Alter).await?;
        }
        self.post_bootstrap(config, progress).await?;
        let wanted = if self.is_single() { Vec::new() } else { self.agents_roles(config) };
        for (credentials, purpose) in wanted {
            self.make_role(session, credentials, purpose, Existing::Alter).await?;
        }
        Ok(())
    }

    /// The user's own command, with the connection string of the superuser's session as its last argument.
    async fn post_bootstrap(&self, config: &Config, progress: &Progress) -> Result<(), PostgresError> {
        let [program, args @ ..] = &config.bootstrap.post_bootstrap[..] else { return Ok(()) };
        let address = Address {
            host: self.host_for_hooks(),
            port: config.postgres.port,
            database: config.postgres.database.clone(),
        };
        let superuser = &config.postgres.superuser;
        let passfile = self.lend_secrets("bootstrap", &address, superuser)?;
        let conninfo = Conninfo::for_program(&address, superuser, self.programs.version).to_string();
        let mut run = Run::new("post_bootstrap", Path::new(program), &self.hook_env).args(args).arg(conninfo);
        run = run.env("PGOPTIONS", "-c synchronous_commit=local -c statement_timeout=0");
        if superuser.password.is_some() {
            run = run.env("PGPASSFILE", passfile.passfile());
        }
        progress(format!("waiting for post_bootstrap to end: {program}"));
        run.success(None).await.map(drop)
    }

    /// The roles that replicas need.
    fn agents_roles<'a>(&self, config: &'a Config) -> Vec<(&'a Credentials, Purpose)> {
        let postgres = &config.postgres;
        let mut roles = vec![(&postgres.replication, Purpose::Replication)];
        let rewind = postgres.rewind.as_ref();
        // Nobody's rights are lessened by being asked for twice.
        roles.extend(
            rewind.filter(|role| role.username != postgres.superuser.username).map(|role| (role, Purpose::Rewind)),
        );
        roles.retain(|(role, _)| role.username != postgres.superuser.username);
        roles
    }

    async fn silence(&self, session: &Session) -> Result<(), PostgresError> {
        for statement in roles::SESSION {
            session.run(statement).await.map_err(|cause| PostgresError::sql("prepare a session for roles", &cause))?;
        }
        Ok(())
    }

    async fn make_role(
        &self,
        session: &Session,
        credentials: &Credentials,
        purpose: Purpose,
        existing: Existing,
    ) -> Result<(), PostgresError> {
        let statement = role_statement(credentials, purpose, existing);
        session.run(statement.expose()).await.map_err(|cause| {
            PostgresError::sql(format!("create or alter the role {}", identifier(&credentials.username)), &cause)
        })
    }

    /// Creates what is missing on a primary whose data we did not make. A role that exists stays as it is.
    pub(super) async fn add_missing_roles(&self) -> Result<(), PostgresError> {
        if self.is_single() {
            return Ok(());
        }
        let config = self.config();
        let wanted = self.agents_roles(&config);
        let session = self.session("roles", Duration::from_secs(10)).await?;
        let names: Vec<String> = wanted.iter().map(|(role, _)| literal(&role.username)).collect();
        let sql = format!("SELECT rolname FROM pg_roles WHERE rolname IN ({})", names.join(", "));
        let rows = match names.is_empty() {
            true => return Ok(()),
            false => {
                session.rows(&sql).await.map_err(|cause| PostgresError::sql("look for the agent's roles", &cause))?
            }
        };
        let present: Vec<&str> = rows.iter().filter_map(|row| row.get(0)).collect();
        let missing = wanted.into_iter().filter(|(role, _)| !present.contains(&role.username.as_str()));
        let missing: Vec<_> = missing.collect();
        if !missing.is_empty() {
            self.silence(&session).await?;
        }
        for (role, purpose) in missing {
            tracing::info!("creating the role {}", identifier(&role.username));
            self.make_role(&session, role, purpose, Existing::Keep).await?;
        }
        Ok(())
    }
}

/// initdb writes the name into a script of its own and takes none that it would have to escape there.
fn refuse_user_name(name: &str) -> Result<(), PostgresError> {
    let odd = name.chars().find(|c| matches!(c, '"' | '\'' | '\\' | '$' | '\n' | '\r' | '\0'));
    match odd {
        Some(odd) => Err(PostgresError::Refused(format!(
            "PATRONI_SUPERUSER_USERNAME: initdb cannot make a superuser with {odd:?} in its name; choose another name"
        ))),
        None if name.starts_with("pg_") => Err(PostgresError::Refused(
            "PATRONI_SUPERUSER_USERNAME: names that begin with pg_ are PostgreSQL's own; choose another name"
                .to_owned(),
        )),
        None => Ok(()),
    }
}

/// The password in memory alone. initdb reads one line; the whole of it is set by the first session.
fn password_file(superuser: &Credentials) -> std::io::Result<Option<OwnedFd>> {
    let Some(password) = &superuser.password else { return Ok(None) };
    let fd = memfd_create(c"pwfile", MFdFlags::MFD_CLOEXEC)?;
    let mut file = fs::File::from(fd);
    file.write_all(password.expose().lines().next().unwrap_or_default().as_bytes())?;
    file.rewind()?;
    Ok(Some(file.into()))
}

fn append_hba(path: &Path, lines: &[String]) -> std::io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut file = fs::OpenOptions::new().append(true).open(path)?;
    file.write_all(format!("\n{}\n", lines.join("\n")).as_bytes())?;
    file.sync_all()
}
