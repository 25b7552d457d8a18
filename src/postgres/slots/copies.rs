//! Logical slots taken over from the primary. A slot's state is a file that PostgreSQL reads at its start alone
//! (`slot.c`, RestoreSlotFromDisk): it is read here through SQL and put in place before the next start as a standby.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use tokio_postgres::SimpleQueryRow;

use crate::core::local::StartAs;
use crate::core::slots::SlotsWanted;
use crate::core::units::Lsn;
use crate::postgres::connect::Session;
use crate::postgres::local::LocalPostgres;
use crate::postgres::slot_memory::{Copies, SlotCopy};
use crate::postgres::{PostgresError, conf::roles::literal, files};

/// How old a copy may be that is put in place: the primary goes on.
const AGE_MAX: Duration = Duration::from_secs(60);

impl LocalPostgres {
    /// The names of those that can be put in place now.
    pub(super) async fn copy_slots(
        &self,
        wanted: &SlotsWanted,
        is_there: impl Fn(&str) -> bool,
    ) -> Result<BTreeSet<String>, PostgresError> {
        let missing: Vec<&str> = wanted.to_copy(is_there).collect();
        self.memory().slots.missing = missing.iter().map(|name| (*name).to_owned()).collect();
        let (Some(source), false) = (&wanted.source, missing.is_empty()) else { return Ok(BTreeSet::new()) };
        let primary = self.connect_to(&source.address, Self::rewind_credentials(&self.config())).await?;
        let mut fit = Vec::new();
        for row in read_states(&primary, &missing).await? {
            let name = row.get("slot_name").unwrap_or_default();
            if !wanted.is_as_wanted(name, row.get("database"), row.get("plugin")) {
                self.warn_of(format!(
                    "the logical replication slot {name} of the primary is another one than slots says"
                ));
            } else if let Err(error) = self.fetch_wal(&primary, lsn(&row)).await {
                self.warn_of(format!("cannot take the logical replication slot {name} over from the primary: {error}"));
            } else {
                fit.push(name.to_owned());
            }
        }
        for name in missing.iter().filter(|name| !fit.iter().any(|fit| fit == *name)) {
            tracing::debug!("the primary has no logical replication slot {name} that could be taken over now");
        }
        let fit: Vec<&str> = fit.iter().map(String::as_str).collect();
        // Once more: fetching may have taken its time.
        let made = self.now();
        let rows = if fit.is_empty() { Vec::new() } else { read_states(&primary, &fit).await? };
        let copy = |row: &SimpleQueryRow| {
            let state = row.get("state").and_then(from_hex)?;
            Some(SlotCopy { name: row.get("slot_name")?.to_owned(), state })
        };
        let slots: Vec<SlotCopy> = rows.iter().filter_map(copy).collect();
        let names = slots.iter().map(|copy| copy.name.clone()).collect();
        let upstream = self.upstream_on_disk();
        self.memory().slots.copies = Some(Copies { upstream, made, slots });
        Ok(names)
    }

    /// Before the start of a server that does not run.
    pub(in crate::postgres) fn put_slots_in_place(&self, role: &StartAs) {
        let copies = self.memory().slots.copies.take();
        let streams_on =
            |copies: &Copies| matches!(role, StartAs::Standby(upstream) if Some(upstream) == copies.upstream.as_ref());
        let copies = copies.filter(|copies| streams_on(copies) && self.now().since(copies.made) <= AGE_MAX);
        match copies {
            Some(copies) if !copies.slots.is_empty() => {
                if let Err(error) = self.put_wal_in_place() {
                    return tracing::warn!("cannot put the WAL of logical replication slots in place: {error}");
                }
                copies.slots.iter().for_each(|copy| tell(copy, put(&self.data_dir, copy)));
            }
            Some(_) | None => {}
        }
        self.forget_fetched_wal();
    }
}

fn tell(copy: &SlotCopy, put: io::Result<Put>) {
    match put {
        Ok(Put::Yes) => tracing::info!("took the logical replication slot {} over from the primary", copy.name),
        Ok(Put::IsThere) => {}
        Err(error) => tracing::warn!("cannot take the logical replication slot {} over: {error}", copy.name),
    }
}

fn lsn(row: &SimpleQueryRow) -> Option<Lsn> {
    row.get("restart_lsn").and_then(|text| text.parse().ok())
}

/// Those that PostgreSQL carries over itself (17 and later) are left to it.
async fn read_states(primary: &Session, names: &[&str]) -> Result<Vec<SimpleQueryRow>, PostgresError> {
    let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
    let sql = format!(
        "SELECT slot_name, database, plugin, restart_lsn, \
         encode(pg_read_binary_file('pg_replslot/' || slot_name || '/state'), 'hex') AS state \
         FROM pg_replication_slots s WHERE NOT pg_is_in_recovery() AND slot_type = 'logical' AND NOT temporary \
         AND wal_status <> 'lost' AND to_jsonb(s) ->> 'failover' IS DISTINCT FROM 'true' AND slot_name IN ({})",
        names.join(", ")
    );
    primary.rows(&sql).await.map_err(|cause| PostgresError::sql("read logical slots of the primary", &cause))
}

enum Put {
    Yes,
    IsThere,
}

/// PostgreSQL removes a folder with this ending at its start, so that nothing half-made is ever read.
fn put(data_dir: &Path, copy: &SlotCopy) -> io::Result<Put> {
    let slots = data_dir.join("pg_replslot");
    let (folder, beside) = (slots.join(&copy.name), slots.join(format!("{}.tmp", copy.name)));
    if folder.exists() {
        return Ok(Put::IsThere);
    }
    if beside.exists() {
        std::fs::remove_dir_all(&beside)?;
    }
    let mode = files::file_mode(data_dir);
    // Whoever may read a file may enter its folder.
    DirBuilder::new().mode(mode | (mode >> 2) & 0o110).create(&beside)?;
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(beside.join("state"))?;
    file.write_all(&copy.state)?;
    file.sync_all()?;
    files::sync_dir(&beside)?;
    std::fs::rename(&beside, &folder)?;
    files::sync_dir(&slots)?;
    Ok(Put::Yes)
}

pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn hexadecimal_digits_are_read() {
        assert_eq!(from_hex("00ff10"), Some(vec![0, 255, 16]));
        assert_eq!(from_hex("zz"), None);
    }

    #[test]
    fn a_copy_is_put_beside_nothing_that_is_there() {
        for (data, folder, file) in [(0o700, 0o700, 0o600), (0o750, 0o750, 0o640)] {
            let dir = tempfile::tempdir().expect("a folder");
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(data)).expect("set");
            let slots = dir.path().join("pg_replslot");
            std::fs::create_dir_all(slots.join("a.tmp/left")).expect("made");
            let copy = SlotCopy { name: "a".to_owned(), state: vec![1, 2] };
            assert!(matches!(put(dir.path(), &copy), Ok(Put::Yes)));
            assert!(matches!(put(dir.path(), &SlotCopy { state: vec![3], ..copy }), Ok(Put::IsThere)));
            assert_eq!(std::fs::read(slots.join("a/state")).expect("a state"), [1, 2]);
            let mode = |path: &str| std::fs::metadata(slots.join(path)).expect("there").permissions().mode() & 0o777;
            assert_eq!((mode("a"), mode("a/state"), slots.join("a.tmp").exists()), (folder, file, false));
        }
    }
}
