//! WAL that a logical slot needs and that this member does not have: a slot that its consumer has not read from for a while
//! begins before a fresh copy of the data does. The primary has kept it, and it is read from there as pg_rewind reads files.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::copies::from_hex;
use crate::core::units::Lsn;
use crate::postgres::connect::Session;
use crate::postgres::control::Freshness;
use crate::postgres::local::LocalPostgres;
use crate::postgres::{PostgresError, conf::roles::literal, files, segments};

/// In one statement.
const PIECE: u64 = 1 << 20;
/// More is not fetched.
const SIZE_MAX: u64 = 1 << 30;

impl LocalPostgres {
    /// Until the server's next start, in a folder that neither PostgreSQL nor its base backups look into. The server itself
    /// would remove it.
    fn fetched_wal(&self) -> PathBuf {
        self.data_dir.join("pg_wal/tamada.fetched")
    }

    /// All from here on to where ours begins.
    pub(super) async fn fetch_wal(&self, primary: &Session, from: Option<Lsn>) -> Result<(), PostgresError> {
        let attempted = "read the WAL that it needs";
        let size = self.control_data(Freshness::IdentifierOnly).await?.wal_segment_size;
        let (Some(from), Some(size)) = (from, size) else {
            return Err(PostgresError::failed(attempted, "its beginning is not known"));
        };
        let names = |folder: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        let (first, own) = (segments::number_at(from, size), names(&self.data_dir.join("pg_wal")));
        let own: Vec<&str> = own.iter().filter_map(|name| segments::number(name)).collect();
        if own.contains(&first.as_str()) {
            return Ok(());
        }
        let Some(begin) = own.iter().min() else {
            return Err(PostgresError::failed(attempted, "there is no WAL here"));
        };
        let listed = primary.rows("SELECT name FROM pg_ls_dir('pg_wal', true, false) AS name ORDER BY name").await;
        let listed = listed.map_err(|cause| PostgresError::sql(attempted, &cause))?;
        let is_missing =
            |name: &&str| segments::number(name).is_some_and(|number| *number >= *first && number < *begin);
        let missing: Vec<&str> = listed.iter().filter_map(|row| row.get("name")).filter(is_missing).collect();
        let is_whole = missing.iter().any(|name| segments::number(name) == Some(&*first));
        if !is_whole || missing.len() as u64 * size > SIZE_MAX {
            let cause = format!("{} segments of it are missing here; its consumer has to read on first", missing.len());
            return Err(PostgresError::failed(attempted, cause));
        }
        let fetched = self.fetched_wal();
        let failed = |cause| PostgresError::failed(format!("write to {}", fetched.display()), cause);
        std::fs::create_dir_all(&fetched).map_err(failed)?;
        let there = names(&fetched);
        for name in missing.into_iter().filter(|name| !there.iter().any(|there| there == name)) {
            let beside = fetched.join("tmp");
            let mode = files::file_mode(&self.data_dir);
            let options = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside);
            let mut file = options.map_err(failed)?;
            for offset in (0..size).step_by(PIECE as usize) {
                file.write_all(&read_piece(primary, name, offset, size.min(PIECE)).await?).map_err(failed)?;
            }
            file.sync_all().and_then(|()| std::fs::rename(&beside, fetched.join(name))).map_err(failed)?;
            tracing::info!("copied {name} from the primary, for a logical replication slot");
        }
        Ok(())
    }

    /// While the server does not run.
    pub(super) fn put_wal_in_place(&self) -> io::Result<()> {
        let wal = self.data_dir.join("pg_wal");
        let entries = match std::fs::read_dir(self.fetched_wal()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let place = wal.join(entry.file_name());
            let is_segment = entry.file_name().to_str().is_some_and(|name| segments::number(name).is_some());
            if is_segment && !place.exists() {
                std::fs::rename(entry.path(), place)?;
            }
        }
        File::open(&wal)?.sync_all()
    }

    pub(super) fn forget_fetched_wal(&self) {
        match std::fs::remove_dir_all(self.fetched_wal()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("cannot remove {}: {error}", self.fetched_wal().display());
            }
            Ok(()) | Err(_) => {}
        }
    }
}

async fn read_piece(primary: &Session, name: &str, offset: u64, length: u64) -> Result<Vec<u8>, PostgresError> {
    let attempted = || format!("read {name} of the primary");
    let path = literal(&format!("pg_wal/{name}"));
    let sql = format!("SELECT encode(pg_read_binary_file({path}, {offset}, {length}, false), 'hex')");
    let hex = primary.value(&sql).await.map_err(|cause| PostgresError::sql(attempted(), &cause))?;
    let piece = hex.as_deref().and_then(from_hex).filter(|piece| piece.len() as u64 == length);
    piece.ok_or_else(|| PostgresError::failed(attempted(), "it ends early"))
}
