//! The control file, read with `pg_controldata`, and the state of the data directory that follows from it.
//!
//! The program is run only while no postmaster runs or when an operation asks for it, and not again while the file is
//! unchanged.

use std::path::Path;
use std::time::Duration;

use super::contents::{Contents, contents};
use super::controldata::ControlData;
use super::local::LocalPostgres;
use super::staging;
use super::version::Version;
use super::{PostgresError, files, rewind_mark, wal_end};
use crate::core::local::{Control, Data, DataDir, RecoverySignal};

const LIMIT: Duration = Duration::from_secs(10);

/// Whether the system identifier or the whole content is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// As of the last change of the file.
    Exact,
    /// The identifier never changes under a running server: any reading of this file will do.
    IdentifierOnly,
}

impl LocalPostgres {
    /// What the control file says.
    pub(super) async fn control_data(&self, freshness: Freshness) -> Result<ControlData, PostgresError> {
        let attempted = || format!("read the control file of {}", self.data_dir.display());
        let file = self.data_dir.join("global/pg_control");
        // A server that runs has it open; a stopped one is not to be started again and again where it cannot be read.
        let is_readable = || freshness == Freshness::IdentifierOnly || files::is_readable(&file);
        let now = files::stamp(&file)
            .filter(|_| is_readable())
            .ok_or_else(|| PostgresError::failed(attempted(), "global/pg_control is absent or unreadable"))?;
        if let Some((read, data)) = self.control_cache.last()
            && (read == now || (freshness == Freshness::IdentifierOnly && read.0 == now.0))
        {
            return Ok(data);
        }
        let run = self.program("pg_controldata").in_c_locale().arg(&self.data_dir);
        let ended = run.success(Some(LIMIT)).await?;
        let text = String::from_utf8_lossy(&ended.stdout);
        let data = ControlData::parse(&text).map_err(|cause| PostgresError::failed(attempted(), cause))?;
        self.control_cache.keep(now, data.clone());
        Ok(data)
    }

    /// What is in the data directory. `running`: a postmaster serves it, so its control file says nothing of now.
    pub(super) async fn data_state(&self, running: ServerState) -> DataDir {
        let dir = &self.data_dir;
        let contents = contents(dir);
        if let Contents::Unreadable(cause) = contents {
            return DataDir::Unusable(format!(
                "data directory {} cannot be read: {cause}; give it to the user that PostgreSQL runs as",
                dir.display()
            ));
        }
        if let Some(why) = staging::unfinished(dir) {
            return DataDir::Unusable(why);
        }
        if dir.join(staging::BOOTSTRAP_MARK).exists() {
            return DataDir::Unusable(format!("the new cluster in {} is not complete yet", dir.display()));
        }
        if matches!(contents, Contents::Empty) {
            return DataDir::Empty;
        }
        if let Some(why) = self.unsuitable() {
            return DataDir::Unusable(why);
        }
        let freshness = match running {
            ServerState::Running => Freshness::IdentifierOnly,
            ServerState::Stopped => Freshness::Exact,
        };
        match self.control_data(freshness).await {
            Ok(data) => DataDir::Present(Data {
                system_id: data.system_id,
                signal: self.recovery_signal(),
                control: (running == ServerState::Stopped).then(|| self.with_wal_end(data)),
            }),
            // pg_rewind may have been cut short while it wrote the control file.
            Err(error) => match rewind_mark::unfinished_of(dir) {
                Some(system_id) => {
                    DataDir::Present(Data { system_id, signal: RecoverySignal::RewindUnfinished, control: None })
                }
                None => DataDir::Unusable(format!(
                    "data directory {} is neither empty nor a usable PostgreSQL data directory: {error}; restore it, or \
                 clone it anew with `tamada reinit`",
                    dir.display()
                )),
            },
        }
    }

    /// The end of the WAL moves without the control file.
    pub(super) fn with_wal_end(&self, data: ControlData) -> Control {
        let size = data.wal_segment_size.zip(data.wal_page_size);
        let from = data.redo.unwrap_or(data.control.checkpoint);
        let wal_end =
            size.and_then(|(segment, page)| wal_end::find(&self.data_dir.join("pg_wal"), from, segment, page));
        Control { wal_end, ..data.control }
    }

    /// What the files say about the next start.
    pub(super) fn recovery_signal(&self) -> RecoverySignal {
        if rewind_mark::is_unfinished(&self.data_dir) {
            return RecoverySignal::RewindUnfinished;
        }
        match (is_backup(&self.data_dir), self.has_recovery_signal()) {
            (true, _) => RecoverySignal::BackupLabel,
            (false, true) => RecoverySignal::Present,
            (false, false) => RecoverySignal::None,
        }
    }

    /// Why what is there may not be served by our PostgreSQL, if so.
    pub(super) fn unsuitable(&self) -> Option<String> {
        let dir = self.data_dir.display();
        let program = self.programs.version.major();
        match self.data_version().map(Version::major) {
            None => Some(format!(
                "data directory {dir} holds files but no readable PG_VERSION: it is not PostgreSQL's; choose another \
                 with PGDATA, or empty it"
            )),
            Some(major) if major != program => Some(format!(
                "data directory {dir} was made by PostgreSQL {major}, but version {program} is installed: use an image \
                 with PostgreSQL {major}, or upgrade the data with pg_upgrade"
            )),
            Some(_) if !files::is_writable(&self.data_dir) => Some(format!(
                "data directory {dir} is not writable: mount it for writing and give it to the user that PostgreSQL \
                 runs as"
            )),
            Some(_) => None,
        }
    }
}

/// Whether this is a base backup that no server was started from yet. Up to PostgreSQL 14 a primary has a label too,
/// during an exclusive backup; when it crashes then, its `postmaster.pid` is still there.
fn is_backup(data_dir: &Path) -> bool {
    match std::fs::read_to_string(data_dir.join("backup_label")) {
        Ok(label) => !label.contains("BACKUP METHOD: pg_start_backup") || !data_dir.join("postmaster.pid").exists(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerState {
    Running,
    Stopped,
}
