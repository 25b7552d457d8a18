//! Settings for a running server: compared with what it runs with, written, reloaded; what waits for a restart is
//! remembered for the member's record. And whom a running standby follows.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::callbacks::Callback;
use super::conf::pgpass;
use super::conf::recovery::{self, Change, Origin, Passfile, RunningRecovery, RunningSetting};
use super::conf::roles::literal;
use super::conf::settings::{self, Context, PendingRestart, SettingRow, VarType};
use super::connect::Session;
use super::files::Written;
use super::host_addresses::Answer;
use super::layout::Recovery;
use super::local::LocalPostgres;
use super::pidfile::ServerStatus;
use super::postmaster::read_pid_file;
use super::server::Announce;
use super::{DesiredServer, Force, PostgresError, Waits};
use crate::core::local::{RecoverySignal, StartAs, StopMode, Upstream};
use crate::core::units::Seconds;

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a reload may take to be seen by the server's own tables.
const RELOAD_LIMIT: Duration = Duration::from_secs(2);

impl LocalPostgres {
    pub(super) async fn apply(&self, desired: &DesiredServer, force: Force) -> Result<(), PostgresError> {
        let known = {
            let mut memory = self.memory();
            memory.desired = desired.clone();
            memory.applied.clone()
        };
        self.adopt_standby_names();
        if self.is_single() || (known.as_ref() == Some(desired) && force == Force::No) {
            return Ok(());
        }
        let Some(process) = self.postmaster() else { return Ok(()) };
        let status = read_pid_file(&self.data_dir).and_then(|file| file.status);
        if status != Some(ServerStatus::Ready) {
            // It will be compared when somebody can be asked.
            return Ok(());
        }
        let session = self.session("configuration", STATEMENT_TIMEOUT).await?;
        let rows = setting_rows(&session).await?;
        let last = known.map(|known| super::conf::parameters_of(&known.server.parameters)).unwrap_or_default();
        let wanted = self.for_file(&self.wanted_parameters()).await?;
        let mut pending = settings::pending_restarts(&wanted, &last, &rows);
        let recovery = self.recovery_in_force(&session).await?;
        if self.write_files(&self.wanted_parameters(), &recovery).await? == Written::Yes || force == Force::Yes {
            self.reload(&session, &process).await?;
            self.fire(Callback::Reload, self.told_role());
        }
        let rows = setting_rows(&session).await?;
        for row in settings::pending_of_server(&rows) {
            if !pending.contains_key(&row.name) {
                let new_value = match wanted.get(&row.name) {
                    Some(value) => settings::readable(row, value),
                    None => self.setting_on_disk(&row.name).await.unwrap_or_else(|| "?".to_owned()),
                };
                let old_value = settings::readable(row, &row.setting);
                pending.insert(row.name.clone(), PendingRestart { old_value, new_value });
            }
        }
        let mut memory = self.memory();
        memory.pending_restart = settings::pending_json(&pending);
        memory.applied = Some(desired.clone());
        Ok(())
    }

    pub(super) async fn reload(
        &self,
        session: &Session,
        process: &super::process::Process,
    ) -> Result<(), PostgresError> {
        let attempted = "reload PostgreSQL's configuration";
        let loaded = "SELECT pg_conf_load_time()";
        let before = session.value(loaded).await.map_err(|cause| PostgresError::sql(attempted, &cause))?;
        process.signal(Signal::SIGHUP).map_err(|cause| PostgresError::failed(attempted, cause))?;
        let seen = async {
            while session.value(loaded).await.is_ok_and(|now| now == before) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(RELOAD_LIMIT, seen).await.is_err() {
            tracing::warn!(
                "PostgreSQL did not reload its configuration within {}; its log says why",
                Seconds(RELOAD_LIMIT)
            );
        }
        Ok(())
    }

    /// The recovery block that belongs into the file of the running server. Whom it follows is not changed here.
    pub(super) async fn recovery_in_force(&self, session: &Session) -> Result<Recovery, PostgresError> {
        if !self.has_recovery_signal() {
            return Ok(Recovery::Primary);
        }
        let failed = |cause| PostgresError::sql("read the recovery settings", &cause);
        let sql = "SELECT current_setting('primary_conninfo'), current_setting('primary_slot_name')";
        let rows = session.rows(sql).await.map_err(failed)?;
        let current = |column| rows.first().and_then(|row| row.get(column)).unwrap_or_default().to_owned();
        let conninfo = current(0);
        let upstream = self.upstream_in_force(&conninfo);
        let mut block = self.standby_settings(&upstream);
        if upstream == Upstream::Foreign {
            block.insert("primary_conninfo".to_owned(), conninfo);
            block.insert("primary_slot_name".to_owned(), current(1));
        }
        Ok(Recovery::Standby(block))
    }

    pub(super) async fn follow_upstream(&self, upstream: &Upstream) -> Result<(), PostgresError> {
        let limit = self.config().postgres.pg_ctl_timeout;
        let Some(process) = self.postmaster() else {
            return self.start_server(&StartAs::Standby(upstream.clone()), limit, Some(Callback::Start)).await;
        };
        self.look_up(upstream).await;
        let wanted = self.standby_settings(upstream);
        let session = self.session("follow", STATEMENT_TIMEOUT).await?;
        let running = self.running_recovery(&session, upstream).await?;
        let change = recovery::compare(&wanted, &running, self.rules_version());
        self.write_passfile(upstream)?;
        match change {
            Change::No => {
                self.remember_upstream(upstream)?;
                self.tell_follows(upstream, None);
                Ok(())
            }
            Change::Reload => {
                self.write_files(&self.wanted_parameters(), &Recovery::Standby(wanted)).await?;
                self.remember_upstream(upstream)?;
                self.reload(&session, &process).await?;
                self.tell_follows(upstream, Some(Callback::Reload));
                Ok(())
            }
            Change::Restart => {
                drop(session);
                self.run_before_stop(limit, Waits::AsStandby).await;
                self.stop_server(StopMode::Fast, limit, Announce::No).await?;
                self.start_server(&StartAs::Standby(upstream.clone()), limit, Some(Callback::Restart)).await
            }
        }
    }

    /// A standby that follows another server now: whether it leads a standby cluster is a role of its own.
    fn tell_follows(&self, upstream: &Upstream, callback: Option<Callback>) {
        let now = upstream.role();
        let before = self.memory().told_role.replace(now);
        let changed = before.is_some_and(|before| before != now);
        if let Some(callback) = if changed { Some(Callback::RoleChange) } else { callback } {
            self.fire(callback, now);
        }
    }

    /// Finds the address of the host that a standby of this upstream connects to.
    pub(super) async fn look_up(&self, upstream: &Upstream) -> Answer {
        match upstream {
            Upstream::Member { address, .. } => self.hosts.look_up(&address.host).await,
            // libpq looks it up by itself: it may be several hosts, and no promotion waits for it.
            Upstream::Remote(_) => Answer::No,
            Upstream::None | Upstream::Archive | Upstream::Foreign => Answer::No,
        }
    }

    /// For a standby that does not stream: where its upstream's name has another address now, the server is told. It need
    /// not accept connections yet.
    pub(super) async fn find_upstream_anew(&self) -> Result<(), PostgresError> {
        let Some(upstream) = self.upstream_on_disk() else { return Ok(()) };
        if self.look_up(&upstream).await == Answer::No {
            return Ok(());
        }
        // Another operation writes the settings itself, or ends their use.
        let Ok(_alone) = self.work.try_lock() else { return Ok(()) };
        let Some(process) = self.postmaster().filter(|_| self.has_recovery_signal()) else { return Ok(()) };
        if self.upstream_on_disk().as_ref() != Some(&upstream) {
            return Ok(());
        }
        let wanted = self.standby_settings(&upstream);
        let is_written = self.memory().conninfo.as_ref() == wanted.get("primary_conninfo");
        if is_written || self.write_files(&self.wanted_parameters(), &Recovery::Standby(wanted)).await? == Written::No {
            return Ok(());
        }
        let signalled = process.signal(Signal::SIGHUP);
        signalled.map_err(|cause| PostgresError::failed("reload PostgreSQL's configuration", cause))?;
        self.fire(Callback::Reload, upstream.role());
        Ok(())
    }

    async fn running_recovery(&self, session: &Session, upstream: &Upstream) -> Result<RunningRecovery, PostgresError> {
        let failed = |cause| PostgresError::sql("read the recovery settings", &cause);
        let names: Vec<String> = recovery_names().map(literal).collect();
        let sql = format!(
            "SELECT name, setting, coalesce(sourcefile, '') FROM pg_settings WHERE name IN ({})",
            names.join(", ")
        );
        let rows = session.rows(&sql).await.map_err(failed)?;
        let ours = self.conf_file().to_string_lossy().into_owned();
        let origin = |file: &str| match file.is_empty() || file == ours || file.ends_with("postgresql.auto.conf") {
            true => Origin::Ours,
            false => Origin::OtherFile,
        };
        let settings = rows.iter().filter_map(|row| {
            let setting = RunningSetting { setting: row.get(1)?.to_owned(), origin: origin(row.get(2)?) };
            Some((row.get(0)?.to_owned(), setting))
        });
        let settings = settings.collect();
        let signal = match self.data_dir.join("standby.signal").exists() {
            true => RecoverySignal::Present,
            false => RecoverySignal::None,
        };
        Ok(RunningRecovery { signal, settings, passfile: self.passfile_state(upstream) })
    }

    fn passfile_state(&self, upstream: &Upstream) -> Passfile {
        let config = self.config();
        let credentials = &config.postgres.replication;
        let (Some(address), Some(password)) = (upstream.address(), &credentials.password) else {
            return Passfile::Matches;
        };
        let wanted = pgpass::content(&address.host, address.port, &credentials.username, password);
        let current = std::fs::read_to_string(&config.postgres.pgpass).unwrap_or_default();
        match wanted.is_ok_and(|wanted| pgpass::has_same_lines(&current, &wanted)) {
            true => Passfile::Matches,
            false => Passfile::Differs,
        }
    }
}

/// The recovery parameters that a running server has a value for.
fn recovery_names() -> impl Iterator<Item = &'static str> {
    [
        "archive_cleanup_command",
        "primary_conninfo",
        "primary_slot_name",
        "promote_trigger_file",
        "recovery_end_command",
        "recovery_min_apply_delay",
        "recovery_target",
        "recovery_target_lsn",
        "recovery_target_name",
        "recovery_target_time",
        "recovery_target_timeline",
        "recovery_target_xid",
        "restore_command",
    ]
    .into_iter()
}

async fn setting_rows(session: &Session) -> Result<Vec<SettingRow>, PostgresError> {
    let sql = format!("SELECT {} FROM pg_settings", settings::SETTINGS_COLUMNS);
    let rows = session.rows(&sql).await.map_err(|cause| PostgresError::sql("read pg_settings", &cause))?;
    Ok(rows
        .iter()
        .map(|row| {
            let text = |column: &str| row.try_get(column).ok().flatten().unwrap_or_default();
            SettingRow {
                name: text("name").to_owned(),
                setting: text("setting").to_owned(),
                unit: Some(text("unit").to_owned()).filter(|unit| !unit.is_empty()),
                vartype: VarType::from_word(text("vartype")),
                context: Context::from_word(text("context")),
                pending_restart: text("pending_restart") == "t",
            }
        })
        .collect())
}
