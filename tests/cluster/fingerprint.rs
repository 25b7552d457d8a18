//! Whether anything in a folder was touched.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub struct Fingerprint {
    folder: PathBuf,
    lines: BTreeSet<String>,
}

impl Fingerprint {
    pub fn of(folder: &Path) -> Self {
        Fingerprint { folder: folder.to_owned(), lines: lines(folder) }
    }

    pub fn assert_untouched(&self) {
        let now = lines(&self.folder);
        let differing: Vec<_> = self.lines.symmetric_difference(&now).collect();
        assert!(differing.is_empty(), "something was touched: {differing:#?}");
    }
}

/// Every file's path, size and time of change, and every folder's path.
fn lines(folder: &Path) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("readable").flatten() {
            let data = entry.metadata().expect("readable");
            if data.is_dir() {
                lines.insert(format!("{}/", entry.path().display()));
                folders.push(entry.path());
            } else {
                let changed = data.modified().expect("known");
                lines.insert(format!("{} {} {changed:?}", entry.path().display(), data.len()));
            }
        }
    }
    lines
}
