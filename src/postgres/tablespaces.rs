//! Folders outside a data directory that a copy needs: the WAL's and the tablespaces'.
//!
//! What goes there is made in a staging place of its own and takes its place together with the data directory, so that a
//! copy that is cut short leaves nothing in the way of the next one. A folder that is neither empty nor known to be ours
//! is never touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::SimpleQueryRow;

use super::PostgresError;
use super::contents::{Contents, contents};
use super::local::LocalPostgres;
use super::staging::{Staging, outside_folders};
use super::wal_folder::{Verdict, verdict};
use crate::core::units::SystemId;
use crate::core::view::Address;

/// How long the source may take to say where its tablespaces are.
const ASKING: Duration = Duration::from_secs(10);

/// A tablespace of the source's, or the copy of one.
#[derive(Clone, Debug)]
pub(super) struct Tablespace {
    pub(super) location: PathBuf,
    /// `None`: we may not know.
    pub(super) bytes: Option<u64>,
}

/// What is asked of the source before it is copied.
#[derive(Debug, Default)]
struct SourceFacts {
    spaces: Vec<Tablespace>,
    system_id: Option<SystemId>,
}

impl LocalPostgres {
    /// The user's options of pg_basebackup, changed so that no folder of the old data is in the way, and what will be
    /// copied to elsewhere than the data directory, as far as that is known.
    pub(super) async fn copy_options(
        &self,
        source: &Address,
        staging: &mut Staging,
    ) -> Result<(Vec<String>, Vec<Tablespace>), PostgresError> {
        let mut options = self.config().postgres.basebackup.clone();
        let mut facts = tokio::time::timeout(ASKING, self.facts_of(source)).await.unwrap_or_default();
        let ours = outside_folders(&self.data_dir);
        let mut stage = |target: &Path| {
            let place = staging.also(target);
            place.map_err(|cause| PostgresError::failed(format!("prepare a place for {}", target.display()), cause))
        };
        let old_wal = std::fs::read_link(self.data_dir.join("pg_wal")).ok().filter(|wal| wal.is_absolute());
        if let Some(wal) = wal_dir(&options).or(old_wal) {
            if !ours.contains(&wal) {
                accept_wal_folder(&wal, facts.system_id)?;
            }
            options.retain(|option| !is_wal_dir(option));
            options.push(format!("--waldir={}", stage(&wal)?.display()));
        }
        let mappings = tablespace_mappings(&options);
        for space in &mut facts.spaces {
            let target = mappings.get(&space.location).unwrap_or(&space.location).clone();
            if !ours.contains(&target) && !matches!(contents(&target), Contents::Empty) {
                return Err(taken(&target, "a tablespace", "is not empty"));
            }
            let mapping = format!("--tablespace-mapping={}={}", escaped(&space.location), escaped(&stage(&target)?));
            // The first of several mappings of one place counts.
            options.insert(0, mapping);
            space.location = target;
        }
        Ok((options, facts.spaces))
    }

    /// Unknown where no ordinary session is allowed: pg_basebackup will tell.
    async fn facts_of(&self, source: &Address) -> SourceFacts {
        let config = self.config();
        let sql = "SELECT pg_tablespace_location(oid), CASE WHEN has_tablespace_privilege(oid, 'CREATE') OR \
                   pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_tablespace_size(oid) END \
                   FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')";
        let postgres = &config.postgres;
        for credentials in [Some(&postgres.replication), postgres.rewind.as_ref(), Some(&postgres.superuser)] {
            let Some(credentials) = credentials else { continue };
            let Ok(session) = self.connect_to(source, credentials).await else { continue };
            if let Ok(rows) = session.rows(sql).await {
                let space = |row: &SimpleQueryRow| {
                    let location = row.get(0).filter(|location| location.starts_with('/'))?.into();
                    Some(Tablespace { location, bytes: row.get(1).and_then(|bytes| bytes.parse().ok()) })
                };
                let system_id = session.value("SELECT system_identifier FROM pg_control_system()").await;
                let system_id = system_id.ok().flatten().and_then(|id| id.parse().ok()).map(SystemId);
                return SourceFacts { spaces: rows.iter().filter_map(space).collect(), system_id };
            }
        }
        SourceFacts::default()
    }
}

/// A folder that our old data do not point to may take the copy's WAL if it is free or holds nothing but WAL that this
/// member has left there: that is put aside like the old data.
fn accept_wal_folder(folder: &Path, cluster: Option<SystemId>) -> Result<(), PostgresError> {
    match verdict(folder, cluster) {
        Verdict::Free => Ok(()),
        Verdict::LeftOver => {
            tracing::info!(
                "{} holds WAL of this cluster that no server uses; the copy's takes its place",
                folder.display()
            );
            Ok(())
        }
        Verdict::Taken(why) => Err(taken(folder, "WAL", &why)),
    }
}

fn taken(folder: &Path, purpose: &str, why: &str) -> PostgresError {
    PostgresError::Refused(format!(
        "cannot copy: {}, the folder for {purpose}, {why}, and our data do not point to it; empty it, or choose another \
         folder",
        folder.display()
    ))
}

pub(super) fn is_wal_dir(option: &str) -> bool {
    option.starts_with("--waldir=")
}

pub(super) fn wal_dir(options: &[String]) -> Option<PathBuf> {
    options.iter().rev().find_map(|option| option.strip_prefix("--waldir=")).map(PathBuf::from)
}

/// `--tablespace-mapping=OLD=NEW`; an equals sign in a path has a backslash before it.
fn tablespace_mappings(options: &[String]) -> BTreeMap<PathBuf, PathBuf> {
    let mut mappings = BTreeMap::new();
    for mapping in options.iter().filter_map(|option| option.strip_prefix("--tablespace-mapping=")) {
        let split = mapping.match_indices('=').find(|(at, _)| !mapping[..*at].ends_with('\\'));
        if let Some((at, _)) = split {
            let path = |text: &str| PathBuf::from(text.replace("\\=", "="));
            mappings.entry(path(&mapping[..at])).or_insert_with(|| path(&mapping[at + 1..]));
        }
    }
    mappings
}

fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('=', "\\=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_read_as_pg_basebackup_reads_them() {
        let options = ["--max-rate=1M", r"--tablespace-mapping=/a\=b=/c", "--tablespace-mapping=/d=/e"];
        let mappings = tablespace_mappings(&options.map(str::to_owned));
        let expected = [("/a=b", "/c"), ("/d", "/e")];
        assert_eq!(mappings, expected.map(|(old, new)| (PathBuf::from(old), PathBuf::from(new))).into());
        assert_eq!(escaped(Path::new("/a=b")), r"/a\=b");
    }
}
