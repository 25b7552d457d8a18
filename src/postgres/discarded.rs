//! WAL that a clone or pg_rewind (`held_wal`) throws away although no other member may have it: kept beside the data for a
//! while, so that somebody can look for lost transactions in it (`pg_waldump`).
//!
//! A clone's segments are linked, not copied. They go when their time is over or the room is needed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::control::Freshness;
use super::controldata::ControlData;
use super::file_system::FileSystem;
use super::history;
use super::local::LocalPostgres;
use super::process::real_path;
use super::staging::is_mount_point;
use super::{files, segments, wal_end};
use crate::core::units::{Lsn, Timeline};
use crate::core::view::HistoryEntry;

pub(super) const INSIDE: &str = ".tamada-discarded";
/// How often kept WAL is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Kept WAL goes when less than this part of its file system is free.
pub(super) const FREE_PART: u64 = 10;

/// What of the old WAL is not in the new data's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) from: Lsn,
    pub(super) to: Lsn,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lost { from, to } = self;
        write!(f, "the WAL from {from} to {to} ({} bytes), which the new data do not have", to.0 - from.0)
    }
}

impl LocalPostgres {
    /// Before a complete copy in `new_dir` takes the place of our data.
    pub(super) async fn keep_lost_wal(&self, new_dir: &Path) {
        let Some((lost, size)) = self.lost_to_copy(new_dir).await else { return };
        let keep = self.config().keep_discarded;
        if keep.is_zero() {
            return tracing::warn!("discarding {lost}");
        }
        let (wal, folder) = (self.data_dir.join("pg_wal"), new_place(&self.data_dir));
        let kept = folder.clone();
        match self.on_disk(move || link_segments(&wal, &kept, &segments::number_at(lost.from, size))).await {
            Ok(()) => tracing::warn!("discarding {lost}; kept for {} s in {}", keep.as_secs(), folder.display()),
            Err(error) => tracing::warn!("discarding {lost}; it cannot be kept in {}: {error}", folder.display()),
        }
    }

    async fn lost_to_copy(&self, new_dir: &Path) -> Option<(Lost, u64)> {
        let run = self.program("pg_controldata").in_c_locale().arg(new_dir);
        let ended = run.success(Some(Duration::from_secs(10))).await.ok()?;
        let new = ControlData::parse(&String::from_utf8_lossy(&ended.stdout)).ok()?;
        let theirs = std::fs::read_to_string(new_dir.join(format!("pg_wal/{:08X}.history", new.control.timeline.0)));
        let theirs = history::parse(&theirs.unwrap_or_default()).ok()?;
        self.lost_to(new.control.timeline, &theirs).await
    }

    /// What of our WAL is not in this history, and the size of its segments.
    pub(super) async fn lost_to(&self, theirs: Timeline, their_history: &[HistoryEntry]) -> Option<(Lost, u64)> {
        let old = self.control_data(Freshness::Exact).await.ok()?;
        let size = old.wal_segment_size?;
        // Of a server that crashed nobody knows more than up to which page it has written.
        let is_known = old.local_position().is_some();
        let control = self.with_wal_end(old);
        let written = control.wal_end.filter(|_| !is_known).map(|end| end.page);
        let wal = self.data_dir.join("pg_wal");
        let switched = wal_end::before_switch(&wal, control.timeline, control.checkpoint, size);
        let end = switched
            .unwrap_or(control.checkpoint)
            .max(control.recovery_end.unwrap_or_default())
            .max(written.unwrap_or_default());
        let ours = self.local_history(control.timeline).unwrap_or_default();
        Some((lost(control.timeline, &ours, end, theirs, their_history)?, size))
    }

    /// Removes kept WAL whose time is over, or all of it where its file system is nearly full. In passing.
    pub(super) async fn expire_discarded(&self) {
        let now = self.now();
        let is_due = self.memory().discarded_looked_at.is_none_or(|last| now.since(last) >= LOOK_EVERY);
        if is_due {
            self.memory().discarded_looked_at = Some(now);
            self.remove_discarded(Expired::OldOrInTheWay).await;
        }
    }

    /// For something that matters more.
    pub(super) async fn make_room_of_discarded(&self) {
        self.remove_discarded(Expired::All).await;
    }

    async fn remove_discarded(&self, which: Expired) {
        let place = place_for(&self.data_dir);
        if !place.exists() {
            return;
        }
        let keep = self.config().keep_discarded.as_secs();
        match self.on_disk(move || remove(&place, keep, which)).await {
            Ok(removed) => {
                removed.iter().for_each(|folder| tracing::info!("removed the discarded WAL in {}", folder.display()))
            }
            Err(error) => tracing::warn!("cannot remove discarded WAL: {error}"),
        }
    }
}

/// Which kept WAL goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expired {
    /// What is older than it is to be kept; all of it where the room is needed.
    OldOrInTheWay,
    All,
}

/// Beside the data directory, or in a hidden folder inside it where that is a mount point.
pub(super) fn place_for(data_dir: &Path) -> PathBuf {
    let real = real_path(data_dir);
    match is_mount_point(&real) || !real.parent().is_some_and(files::is_writable) {
        true => real.join(INSIDE),
        false => files::beside(&real, "discarded"),
    }
}

/// A folder for WAL that is discarded now; its name says since when it is kept.
pub(super) fn new_place(data_dir: &Path) -> PathBuf {
    place_for(data_dir).join(seconds_now().to_string())
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Where our WAL, which ends at `end` of timeline `ours`, left the other's history.
fn lost(
    ours: Timeline,
    our_history: &[HistoryEntry],
    end: Lsn,
    theirs: Timeline,
    their_history: &[HistoryEntry],
) -> Option<Lost> {
    let left_by_them =
        |timeline: Timeline| their_history.iter().find(|entry| entry.left == timeline).map(|entry| entry.at);
    let branch = our_history.iter().find(|entry| left_by_them(entry.left) != Some(entry.at));
    let from = match branch {
        // They never left that timeline, or elsewhere.
        Some(entry) => left_by_them(entry.left).map_or(entry.at, |at| at.min(entry.at)),
        None if ours == theirs => return None,
        None => left_by_them(ours)?,
    };
    (end > from).then_some(Lost { from, to: end })
}

/// Links the segments from this number on, and the history files.
fn link_segments(wal: &Path, folder: &Path, first: &str) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(wal)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = segments::number(name.strip_suffix(".partial").unwrap_or(&name));
        if number.is_some_and(|number| number >= first) || name.ends_with(".history") {
            std::fs::hard_link(entry.path(), folder.join(&name))?;
        }
    }
    Ok(())
}

fn remove(place: &Path, keep_seconds: u64, which: Expired) -> io::Result<Vec<PathBuf>> {
    let file_system = FileSystem::below(place)?;
    let all = which == Expired::All || file_system.is_short(FREE_PART);
    let mut removed = Vec::new();
    for entry in std::fs::read_dir(place)? {
        let entry = entry?;
        // Nothing but what is named as ours is.
        let Some(made) = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()) else { continue };
        if all || made.saturating_add(keep_seconds) <= seconds_now() {
            std::fs::remove_dir_all(entry.path())?;
            removed.push(entry.path());
        }
    }
    // Stays where something is left in it.
    let _ = std::fs::remove_dir(place);
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(left: u32, at: u64) -> HistoryEntry {
        HistoryEntry { left: Timeline(left), at: Lsn(at), reason: String::new(), time: None, new_leader: None }
    }

    #[test]
    fn what_is_lost_begins_where_the_histories_part() {
        let of = |ours: u32, our_history: &[HistoryEntry], end: u64, theirs: u32, their_history: &[HistoryEntry]| {
            lost(Timeline(ours), our_history, Lsn(end), Timeline(theirs), their_history)
                .map(|lost| (lost.from.0, lost.to.0))
        };
        assert_eq!(of(1, &[], 90, 2, &[entry(1, 70)]), Some((70, 90)));
        assert_eq!(of(1, &[], 70, 2, &[entry(1, 70)]), None, "all of it is there");
        assert_eq!(of(1, &[], 90, 1, &[]), None, "one timeline");
        assert_eq!(of(2, &[entry(1, 60)], 90, 2, &[entry(1, 70)]), Some((60, 90)), "one number, two branches");
        assert_eq!(of(2, &[entry(1, 60)], 90, 1, &[]), Some((60, 90)), "they do not know our timeline");
        assert_eq!(of(2, &[entry(1, 60)], 90, 3, &[entry(1, 60), entry(2, 80)]), Some((80, 90)));
    }

    #[test]
    fn kept_wal_goes_when_its_time_is_over_and_nothing_else_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let (wal, place) = (folder.path().join("wal"), folder.path().join("data.discarded"));
        std::fs::create_dir(&wal).expect("made");
        let names = ["000000010000000000000001", "000000010000000000000002", "00000002.history"];
        names.iter().for_each(|name| std::fs::write(wal.join(name), name).expect("written"));
        let now = seconds_now();
        for made in [now - 100, now - 10] {
            link_segments(&wal, &place.join(made.to_string()), "0000000000000002").expect("linked");
        }
        std::fs::create_dir(place.join("somebody's")).expect("made");
        let kept = place.join((now - 10).to_string());
        assert!(!kept.join(names[0]).exists() && kept.join(names[1]).exists() && kept.join(names[2]).exists());
        let is_short = FileSystem::below(&place).expect("a file system").is_short(FREE_PART);
        let removed = remove(&place, 50, Expired::OldOrInTheWay).expect("removed");
        assert!(is_short || removed == [place.join((now - 100).to_string())]);
        assert!(is_short || kept.exists());
        remove(&place, 50, Expired::All).expect("removed");
        assert!(!kept.exists() && place.join("somebody's").exists());
    }
}
