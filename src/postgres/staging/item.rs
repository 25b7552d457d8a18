//! One directory that is replaced: where its new content is made, and the moves that put it in place.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::tree::{content, ignored, make_dir, remove_tree};
use crate::mounts;
use crate::postgres::contents::is_ignored;
use crate::postgres::files;
use crate::postgres::process::real_path;

pub(super) const INSIDE: &str = ".tamada-clone";
pub(super) const JOURNAL: &str = "journal";
/// Before a number: what could not be removed.
const LEFT: &str = "left-";
/// All else that a staging place ever holds, in the order of removal.
const OURS: [&str; 4] = ["new", "old", "journal.tmp", JOURNAL];

/// Where a directory's replacement is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Layout {
    Beside,
    Inside,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) target: PathBuf,
    pub(super) layout: Layout,
}

impl Item {
    pub(super) fn of(target: &Path) -> Self {
        Item { target: target.to_owned(), layout: layout_of(target) }
    }

    pub(super) fn work(&self) -> PathBuf {
        match self.layout {
            Layout::Beside => files::beside(&self.target, "clone"),
            Layout::Inside => self.target.join(INSIDE),
        }
    }

    pub(super) fn new_dir(&self) -> PathBuf {
        self.work().join("new")
    }

    pub(super) fn old_dir(&self) -> PathBuf {
        self.work().join("old")
    }

    /// The staging place, without new or old data. What of these cannot be removed (a folder of another user's, a file
    /// that a network file system keeps) is set aside.
    pub(super) fn make_work(&self) -> io::Result<()> {
        make_dir(&self.work())?;
        for former in [self.new_dir(), self.old_dir()] {
            if remove_tree(&former).is_err() {
                let free = (1..).map(|n| self.work().join(format!("{LEFT}{n}"))).find(|aside| !aside.exists());
                fs::rename(&former, free.expect("a folder holds finitely many names"))?;
            }
        }
        Ok(())
    }

    /// The journal last: until then all of it can be done again. Anything that is not ours keeps the folder.
    pub(super) fn remove_work(&self) -> io::Result<()> {
        let work = self.work();
        let left = content(&work).unwrap_or_default().into_iter().filter(|name| is_left(name));
        left.map(|name| remove_tree(&work.join(name))).fold(Ok(()), io::Result::and)?;
        OURS.iter().try_for_each(|name| remove_tree(&work.join(name)))?;
        match fs::remove_dir(&work) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes the moves durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self.layout {
            Layout::Beside => files::sync_parent(&self.target),
            Layout::Inside => files::sync_dir(&self.target),
        }
    }

    /// May be done again after it was cut short.
    pub(super) fn move_out(&self) -> io::Result<()> {
        match self.layout {
            Layout::Beside if !self.target.exists() => Ok(()),
            // Made anew by somebody since: only an empty one may go.
            Layout::Beside if self.old_dir().exists() => fs::remove_dir(&self.target),
            Layout::Beside => fs::rename(&self.target, self.old_dir()),
            Layout::Inside => {
                make_dir(&self.old_dir())?;
                // A directory whose control file is gone is not taken for a whole one, whoever looks.
                let mut names = content(&self.target)?;
                names.sort_by_key(|name| name != "global");
                names.iter().try_for_each(|name| fs::rename(self.target.join(name), self.old_dir().join(name)))
            }
        }
    }

    /// Hidden names and `lost+found` of the new data are their source's file system's or its keeper's: nothing of them is
    /// brought along. The target keeps its own.
    pub(super) fn forget_ignored(&self) -> io::Result<()> {
        ignored(&self.new_dir())?.iter().try_for_each(|name| remove_tree(&self.new_dir().join(name)))
    }

    /// May be done again as well.
    pub(super) fn move_in(&self) -> io::Result<()> {
        if !self.new_dir().exists() {
            return Ok(());
        }
        self.forget_ignored()?;
        match self.layout {
            Layout::Beside => fs::rename(self.new_dir(), &self.target),
            Layout::Inside => {
                // PostgreSQL serves a directory of these permissions alone; a volume's own are others.
                fs::set_permissions(&self.target, fs::metadata(self.new_dir())?.permissions())?;
                let mut names = content(&self.new_dir())?;
                names.sort_by_key(|name| name == "global");
                names.iter().try_for_each(|name| fs::rename(self.new_dir().join(name), self.target.join(name)))?;
                fs::remove_dir(self.new_dir())
            }
        }
    }
}

/// Nothing but what a staging place holds: somebody's own folder of that name stays.
pub(super) fn is_staging_place(dir: &Path) -> bool {
    content(dir).is_ok_and(|names| names.iter().all(|name| is_left(name) || OURS.iter().any(|ours| name == ours)))
}

fn is_left(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(LEFT.as_bytes())
}

/// Beside it, unless it is a mount point, holds what is not to be moved, or its parent may not be written.
fn layout_of(target: &Path) -> Layout {
    let parent = target.parent().unwrap_or(Path::new("/"));
    // Hidden files that somebody keeps there are not ours to move.
    let holds_hidden = fs::read_dir(target).is_ok_and(|entries| {
        entries.flatten().any(|entry| is_ignored(&entry.file_name()) && entry.file_name() != INSIDE)
    });
    let beside = Item { target: target.to_owned(), layout: Layout::Beside }.work();
    let taken = beside.exists() && !is_staging_place(&beside);
    match is_mount_point(target) || holds_hidden || taken || !files::is_writable(parent) {
        true => Layout::Inside,
        false => Layout::Beside,
    }
}

/// A bind mount may have its parent's device number, so the kernel's table is asked.
pub(in crate::postgres) fn is_mount_point(path: &Path) -> bool {
    let Ok(mounts) = mounts::read() else { return true };
    let real = real_path(path);
    mounts.iter().any(|mount| mount.point == real)
}
