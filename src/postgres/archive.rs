//! WAL that a crashed primary had not archived yet: it is archived before a rewind or a recovery
//! makes it disappear.

use std::path::Path;
use std::time::Duration;

use super::local::LocalPostgres;
use super::programs::Run;
use super::segments;

/// For one file.
const LIMIT: Duration = Duration::from_secs(300);
/// For all of them: what this is in the way of has to come in the end.
const WHOLE_LIMIT: Duration = Duration::from_secs(600);

/// Archives what is marked as ready, oldest first. A failure is logged, and the next file tried.
pub(super) async fn archive_ready(postgres: &LocalPostgres) {
    if tokio::time::timeout(WHOLE_LIMIT, archive_all(postgres)).await.is_err() {
        tracing::warn!("archiving WAL took longer than {WHOLE_LIMIT:?}; going on without the rest");
    }
}

async fn archive_all(postgres: &LocalPostgres) {
    let dir = postgres.data_dir.join("pg_wal/archive_status");
    let ready = ready_files(&dir);
    if ready.is_empty() {
        return;
    }
    let is_on = postgres.setting_on_disk("archive_mode").await.is_some_and(|mode| mode == "on" || mode == "always");
    let command = postgres.setting_on_disk("archive_command").await.unwrap_or_default();
    if !is_on || command.is_empty() {
        return;
    }
    for file in ready {
        let path = postgres.data_dir.join("pg_wal").join(&file);
        let command = expand(&command, &path.to_string_lossy(), &file);
        let run = Run::new("archive_command", Path::new("/bin/sh"), &postgres.env).arg("-c").arg(command);
        let run = run.in_folder(&postgres.data_dir);
        match run.success(Some(LIMIT)).await {
            Err(error) => tracing::warn!("cannot archive {file}: {error}"),
            Ok(_) => {
                let renamed = std::fs::rename(dir.join(format!("{file}.ready")), dir.join(format!("{file}.done")));
                if let Err(error) = renamed {
                    tracing::warn!("cannot mark {file} as archived: {error}");
                }
            }
        }
    }
}

fn ready_files(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".ready").map(str::to_owned)).filter(|name| is_wal(name)).collect();
    names.sort();
    names
}

fn is_wal(name: &str) -> bool {
    segments::number(name.strip_suffix(".partial").unwrap_or(name)).is_some()
}

/// As the archiver does it, with a path that holds wherever the command runs.
fn expand(command: &str, path: &str, name: &str) -> String {
    let mut text = String::with_capacity(command.len());
    let mut characters = command.chars();
    while let Some(c) = characters.next() {
        match (c, characters.clone().next()) {
            ('%', Some(code @ ('p' | 'f' | 'r' | '%'))) => {
                characters.next();
                text.push_str(match code {
                    'p' => path,
                    'f' => name,
                    'r' => "000000010000000000000001",
                    _ => "%",
                });
            }
            _ => text.push(c),
        }
    }
    text
}

/// Removes the markers, so that a recovery does not hold WAL back for an archiver that will not come.
pub(super) fn forget_markers(data_dir: &Path) {
    let Ok(entries) = std::fs::read_dir(data_dir.join("pg_wal/archive_status")) else { return };
    for entry in entries.flatten() {
        if let Err(error) = std::fs::remove_file(entry.path()) {
            tracing::warn!("cannot remove {}: {error}", entry.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_expanded_as_the_archiver_does() {
        assert_eq!(expand("cp %p /a/%f %% %x %", "/d/pg_wal/A", "A"), "cp /d/pg_wal/A /a/A % %x %");
    }

    #[test]
    fn only_wal_files_count_as_ready() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in [
            "000000010000000000000002.ready",
            "000000010000000000000001.ready",
            "00000002.history.ready",
            "000000010000000000000003.done",
            "000000010000000000000004.partial.ready",
        ] {
            std::fs::write(dir.path().join(name), "").expect("a file");
        }
        let expected = ["000000010000000000000001", "000000010000000000000002", "000000010000000000000004.partial"];
        assert_eq!(ready_files(dir.path()), expected);
    }
}
