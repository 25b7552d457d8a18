//! Replacing a data directory as a whole: the new one is made in a staging place on the same file system, then put in
//! place of the old one under a journal, so that a crash at any moment is completed or undone by the next start.
//!
//! The staging place stands beside the directory (`DIR.clone`) or, where that is a mount point or its parent is not
//! ours, in a hidden folder inside it (`DIR/.tamada-clone`). Folders outside that belong to the data (WAL, tablespaces)
//! are replaced in the same way and together with it.
//!
//! **Invariant:** the old data are complete until the new ones are, unless `discard_old` was called.

mod item;
mod tree;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files;
use super::process::real_path;
pub(super) use item::is_mount_point;
use item::{Item, JOURNAL, Layout, is_staging_place};
pub(super) use tree::outside_folders;
use tree::{links_of, remove_content_of};

/// In a data directory whose first start or roles are not done yet.
pub(super) const BOOTSTRAP_MARK: &str = "tamada.bootstrap";

/// How far a replacement has come; the order is that of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    /// The new data are being made; undone by removing them.
    Staging,
    /// The old data are being removed although the new ones are not complete; completed by removing both.
    Discarding,
    /// The new data are complete; the old ones are being moved aside.
    MovingOut,
    /// The old data are aside; the new ones are being moved in.
    MovingIn,
    /// In place; what is left over is being removed.
    Cleaning,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Journal {
    stage: Stage,
    /// The data directory first.
    items: Vec<Item>,
    /// Folders outside that belong to the old data and to nothing of the new; emptied at the end.
    dropped: Vec<PathBuf>,
}

/// A replacement under way.
#[derive(Clone, Debug)]
pub(super) struct Staging {
    journal: Journal,
}

impl Staging {
    /// Begins one. What an earlier one left must have been settled; of its old data something may be left.
    pub(super) fn begin(data_dir: &Path) -> io::Result<Self> {
        if let Some(why) = unfinished(data_dir) {
            return Err(io::Error::other(why));
        }
        let staging = Staging {
            journal: Journal {
                stage: Stage::Staging,
                items: vec![Item::of(&real_path(data_dir))],
                dropped: Vec::new(),
            },
        };
        // There is one journal, or one in the other place would speak for this one too.
        places_of(data_dir).iter().try_for_each(|item| files::remove_if_there(&item.work().join(JOURNAL)))?;
        staging.data().make_work()?;
        staging.write()?;
        Ok(staging)
    }

    fn data(&self) -> &Item {
        &self.journal.items[0]
    }

    /// Where the new data directory is to be made; it does not exist yet.
    pub(super) fn new_dir(&self) -> PathBuf {
        self.data().new_dir()
    }

    /// Replaces a folder outside too: returns where its new content is to be made.
    pub(super) fn also(&mut self, target: &Path) -> io::Result<PathBuf> {
        let item = Item::of(target);
        self.journal.items.push(item.clone());
        self.write()?;
        item.make_work()?;
        Ok(item.new_dir())
    }

    fn write(&self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.journal).map_err(io::Error::other)?;
        files::replace(&self.data().work().join(JOURNAL), &text, 0o600)
    }

    fn enter(&mut self, stage: Stage) -> io::Result<()> {
        self.journal.stage = stage;
        self.write()
    }

    /// Removes the old data before the new ones are complete. From here on only a new clone helps.
    pub(super) fn discard_old(&mut self) -> io::Result<()> {
        if self.journal.stage == Stage::Staging {
            let kept = |folder: &PathBuf| self.journal.items.iter().any(|item| item.target == *folder);
            self.journal.dropped =
                outside_folders(&self.data().target).into_iter().filter(|folder| !kept(folder)).collect();
        }
        self.enter(Stage::Discarding)?;
        for folder in std::mem::take(&mut self.journal.dropped) {
            remove_content_of(&folder)?;
        }
        remove_content_of(&self.data().target)?;
        self.journal.items.iter().skip(1).try_for_each(|item| remove_content_of(&item.target))?;
        Ok(())
    }

    /// Puts the new data in place. What is left to be removed afterwards is done by [`Staging::clean`].
    pub(super) fn place(&mut self) -> io::Result<()> {
        if self.journal.stage == Stage::Staging {
            self.journal.dropped = self.abandoned()?;
        }
        if matches!(self.journal.stage, Stage::Staging | Stage::Discarding) {
            self.enter(Stage::MovingOut)?;
        }
        if self.journal.stage == Stage::MovingOut {
            self.journal.items.iter().try_for_each(Item::move_out)?;
            // The folders outside may be on other file systems, which the journal's own flush does not reach.
            self.journal.items.iter().try_for_each(Item::sync)?;
            self.enter(Stage::MovingIn)?;
        }
        if self.journal.stage == Stage::MovingIn {
            self.journal.items.iter().try_for_each(Item::move_in)?;
            self.repoint_links()?;
            self.journal.items.iter().try_for_each(Item::sync)?;
            self.enter(Stage::Cleaning)?;
        }
        Ok(())
    }

    /// Removes the old data and the staging places, as far as that can be done; the journal stays until all of it is.
    pub(super) fn clean(self) -> io::Result<()> {
        let dropped = self.journal.dropped.iter().map(|folder| remove_content_of(folder));
        let others = self.journal.items.iter().skip(1).map(Item::remove_work);
        dropped.chain(others).fold(Ok(()), io::Result::and)?;
        self.data().remove_work()
    }

    /// Removes what was made so far. What its links lead to was empty before, or it would not have been used.
    fn undo(self) -> io::Result<()> {
        outside_folders(&self.new_dir()).iter().try_for_each(|folder| remove_content_of(folder))?;
        self.clean()
    }

    /// Folders outside that the old data point to and that are not replaced.
    fn abandoned(&self) -> io::Result<Vec<PathBuf>> {
        let kept = |folder: &PathBuf| self.journal.items.iter().any(|item| item.target == *folder);
        let new: Vec<PathBuf> = outside_folders(&self.new_dir());
        let old = outside_folders(&self.data().target);
        Ok(old.into_iter().filter(|folder| !kept(folder) && !new.contains(folder)).collect())
    }

    /// Links that point into a staging place are made to point to what took the old one's place.
    fn repoint_links(&self) -> io::Result<()> {
        for link in links_of(&self.data().target) {
            let points_to = fs::read_link(&link)?;
            let item = self.journal.items.iter().skip(1).find(|item| item.new_dir() == points_to);
            if let Some(item) = item {
                let beside = files::beside(&link, "tmp");
                files::remove_if_there(&beside)?;
                std::os::unix::fs::symlink(&item.target, &beside)?;
                fs::rename(&beside, &link)?;
                files::sync_parent(&link)?;
            }
        }
        Ok(())
    }
}

fn places_of(data_dir: &Path) -> [Item; 2] {
    let target = real_path(data_dir);
    [Layout::Beside, Layout::Inside].map(|layout| Item { target: target.clone(), layout })
}

/// The journal of a replacement that was cut short, in either place. Only one that is not there is none: what cannot be
/// read may be all that tells which of two directories is the whole one.
fn journal_of(data_dir: &Path) -> io::Result<Option<Journal>> {
    for item in places_of(data_dir) {
        let path = item.work().join(JOURNAL);
        let failed =
            |cause: &dyn std::fmt::Display| io::Error::other(format!("cannot read {}: {cause}", path.display()));
        match fs::read(&path) {
            Ok(text) => return serde_json::from_slice(&text).map(Some).map_err(|cause| failed(&cause)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => (),
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(None)
}

/// Why the directory may not be used as it stands: it is being replaced.
pub(super) fn unfinished(data_dir: &Path) -> Option<String> {
    match journal_of(data_dir).map(|journal| journal.map(|journal| journal.stage)) {
        Ok(None | Some(Stage::Staging | Stage::Cleaning)) => None,
        Ok(Some(Stage::Discarding | Stage::MovingOut | Stage::MovingIn)) => {
            Some(format!("data directory {} is being replaced by a clone", data_dir.display()))
        }
        Err(error) => {
            Some(format!("whether data directory {} is being replaced by a clone: {error}", data_dir.display()))
        }
    }
}

/// What an interrupted replacement came to.
#[derive(Debug)]
pub(super) enum Settled {
    Nothing,
    /// The new data are in place.
    Completed,
    /// Something that nobody waits for could not be removed: old data, or a staging place.
    LeftOver(io::Error),
    /// The new data were incomplete and are gone.
    Undone,
}

/// Completes or undoes a replacement that was cut short. Only while no server runs and no replacement is under way.
pub(super) fn settle(data_dir: &Path) -> io::Result<Settled> {
    let Some(journal) = journal_of(data_dir)? else {
        // Without a journal these hold nothing that anybody waits for.
        let ours = places_of(data_dir).into_iter().filter(|item| is_staging_place(&item.work()));
        let removed = ours.map(|item| item.remove_work()).fold(Ok(()), io::Result::and);
        return Ok(removed.map_or_else(Settled::LeftOver, |()| Settled::Nothing));
    };
    let mut staging = Staging { journal };
    match staging.journal.stage {
        Stage::Staging => staging.undo().map(|()| Settled::Undone),
        Stage::Discarding => {
            staging.discard_old()?;
            staging.undo().map(|()| Settled::Undone)
        }
        Stage::MovingOut | Stage::MovingIn | Stage::Cleaning => {
            staging.place()?;
            // What is left of the old data is in nobody's way.
            Ok(staging.clean().map_or_else(Settled::LeftOver, |()| Settled::Completed))
        }
    }
}

/// Empties a data directory and the folders outside that belong to it. The directory itself stays.
pub(super) fn remove_data(data_dir: &Path) -> io::Result<()> {
    outside_folders(data_dir).iter().try_for_each(|folder| remove_content_of(folder))?;
    remove_content_of(data_dir)
}

#[cfg(test)]
mod tests;
