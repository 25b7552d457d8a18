//! WAL that pg_rewind is about to throw away, held while it runs and kept (`discarded`) once it has changed the data.
//!
//! It is copied: pg_rewind overwrites segments in place, so that links would follow. Where kept WAL stands inside the data
//! directory pg_rewind removes it too, so that there everything is held in files without a name, which get one afterwards.
//! Those do not outlive a crash of the agent in between.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};

use super::discarded::{FREE_PART, INSIDE, Lost, new_place, place_for};
use super::file_system::FileSystem;
use super::local::LocalPostgres;
use super::process::real_path;
use super::segments;
use crate::core::units::{Seconds, Timeline};
use crate::core::view::HistoryEntry;

#[derive(Debug)]
pub(super) struct HeldWal {
    lost: Option<Lost>,
    folder: PathBuf,
    /// Those that have no name yet, and which they are to get.
    nameless: Vec<(PathBuf, File)>,
}

impl LocalPostgres {
    /// Before pg_rewind makes our data those of a server with this history. `None`: there is nothing to hold, or it cannot
    /// be held, and the log says why.
    pub(super) async fn hold_lost_wal(&self, leader: &Option<(Timeline, Vec<HistoryEntry>)>) -> Option<HeldWal> {
        let found = match leader {
            Some((timeline, history)) => self.lost_to(*timeline, history).await,
            None => None,
        };
        let (wal, real) = (self.data_dir.join("pg_wal"), real_path(&self.data_dir));
        let (place, folder) = (place_for(&self.data_dir), new_place(&self.data_dir));
        let is_inside = place.starts_with(&real);
        let lost = match found {
            Some((lost, _)) if self.config().keep_discarded.is_zero() => {
                tracing::warn!("pg_rewind will discard {lost}");
                None
            }
            found => found,
        };
        let held = self.on_disk(move || hold(&wal, &real, &place, folder, lost, is_inside)).await;
        match (held, lost) {
            (Ok(held), _) => held,
            (Err(error), Some((lost, _))) => {
                tracing::warn!("pg_rewind will discard {lost}; it cannot be kept: {error}");
                None
            }
            (Err(error), None) => {
                tracing::warn!("pg_rewind will remove the WAL kept in {INSIDE}: {error}");
                None
            }
        }
    }

    /// After pg_rewind has changed the data.
    pub(super) async fn keep_held_wal(&self, held: HeldWal) {
        let (lost, folder) = (held.lost, held.folder.clone());
        let named = self.on_disk(move || held.nameless.iter().try_for_each(|(path, file)| give_name(file, path))).await;
        let keep = Seconds(self.config().keep_discarded);
        match (named, lost) {
            (Ok(()), None) => {}
            (Ok(()), Some(lost)) => {
                tracing::warn!("pg_rewind has discarded {lost}; kept for {keep} in {}", folder.display());
            }
            (Err(error), _) => tracing::warn!("what pg_rewind has discarded cannot be kept: {error}"),
        }
    }

    /// After a pg_rewind that has changed nothing.
    pub(super) async fn drop_held_wal(&self, held: HeldWal) {
        if held.lost.is_some() && held.nameless.is_empty() {
            // What cannot be removed goes when its time is over.
            let _ = self.on_disk(move || std::fs::remove_dir_all(&held.folder)).await;
        }
    }
}

fn hold(
    wal: &Path,
    data_dir: &Path,
    place: &Path,
    folder: PathBuf,
    lost: Option<(Lost, u64)>,
    is_inside: bool,
) -> io::Result<Option<HeldWal>> {
    let mut wanted = match lost {
        Some((lost, size)) => segments_of(wal, &folder, lost, size)?,
        None => Vec::new(),
    };
    if is_inside {
        wanted.extend(kept_already(place)?);
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    let bytes: u64 = wanted.iter().filter_map(|(from, _)| Some(from.metadata().ok()?.len())).sum();
    let file_system = FileSystem::below(place)?;
    if file_system.free.saturating_sub(bytes) < file_system.size / FREE_PART {
        let (needed, free) = (bytes >> 20, file_system.free >> 20);
        return Err(io::Error::other(format!(
            "{needed} MB are needed and {free} MB are free, of which a part stays free"
        )));
    }
    let mut held = HeldWal { lost: lost.map(|(lost, _)| lost), folder, nameless: Vec::new() };
    for (from, to) in wanted {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let mut file = match is_inside {
            true => options.custom_flags(nix::libc::O_TMPFILE).open(data_dir)?,
            false => {
                to.parent().map_or(Ok(()), std::fs::create_dir_all)?;
                options.create_new(true).open(&to)?
            }
        };
        io::copy(&mut File::open(&from)?, &mut file)?;
        if is_inside {
            held.nameless.push((to, file));
        }
    }
    Ok(Some(held))
}

/// The segments that hold a part of it, and the history files, each with where it is to be kept.
fn segments_of(wal: &Path, folder: &Path, lost: Lost, size: u64) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let (first, last) = (segments::number_at(lost.from, size), segments::number_at(lost.to, size));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(wal)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = segments::number(name.strip_suffix(".partial").unwrap_or(&name));
        if number.is_some_and(|number| (&*first..=&*last).contains(&number)) || name.ends_with(".history") {
            found.push((entry.path(), folder.join(&name)));
        }
    }
    Ok(found)
}

/// What is kept from earlier on, with where it is.
fn kept_already(place: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(place).into_iter().flatten() {
        for file in std::fs::read_dir(folder?.path())? {
            let path = file?.path();
            found.push((path.clone(), path));
        }
    }
    Ok(found)
}

fn give_name(file: &File, path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    match nix::unistd::linkat(AT_FDCWD, &*nameless, AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW) {
        // pg_rewind has changed nothing of it.
        Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
