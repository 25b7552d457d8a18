//! The log's file and the older ones beside it.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::LogFile;

/// The name that Patroni gives it: whoever collects logs looks for it.
const NAME: &str = "patroni.log";

pub(super) struct Rotating {
    settings: LogFile,
    file: File,
    size: u64,
}

impl Rotating {
    /// Goes on with the file that is there.
    pub(super) fn open(settings: LogFile) -> io::Result<Rotating> {
        let file = open(&settings)?;
        let size = file.metadata()?.len();
        Ok(Rotating { settings, file, size })
    }

    /// The file is renamed before it would reach its size. After an error the line is nowhere.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let LogFile { size_max, kept, .. } = self.settings;
        if size_max > 0 && kept > 0 && self.size > 0 && self.size + line.len() as u64 >= size_max {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(())
    }

    pub(super) fn path(&self) -> PathBuf {
        path(&self.settings)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = path(&self.settings);
        for number in (1..self.settings.kept).rev() {
            rename(&numbered(&path, number), &numbered(&path, number + 1))?;
        }
        rename(&path, &numbered(&path, 1))?;
        *self = Rotating::open(self.settings.clone())?;
        Ok(())
    }
}

pub(super) fn path(settings: &LogFile) -> PathBuf {
    settings.dir.join(NAME)
}

fn open(settings: &LogFile) -> io::Result<File> {
    // Never wider than it is to be, not even for a moment.
    let mode = settings.mode.unwrap_or(0o666);
    let file = File::options().append(true).create(true).mode(mode).open(path(settings))?;
    if let Some(mode) = settings.mode
        && file.metadata()?.permissions().mode() & 0o7777 != mode
    {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(file)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// A file that is not there needs no other name.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(dir: &Path, size_max: u64, kept: u32) -> LogFile {
        LogFile { dir: dir.to_owned(), mode: None, size_max, kept }
    }

    fn texts(dir: &Path) -> Vec<(String, String)> {
        let files = fs::read_dir(dir).expect("a folder").flatten();
        let read = |path: PathBuf| fs::read_to_string(path).expect("a text");
        let mut texts: Vec<_> =
            files.map(|file| (file.file_name().to_string_lossy().into_owned(), read(file.path()))).collect();
        texts.sort();
        texts
    }

    #[test]
    fn so_many_files_of_that_size_are_kept() {
        let dir = tempfile::tempdir().expect("/tmp is writable");
        let mut log = Rotating::open(settings(dir.path(), 10, 2)).expect("writable");
        for line in ["one\n", "two\n", "three, which is long\n", "four\n", "five\n"] {
            log.write(line.as_bytes()).expect("writable");
        }
        let expected =
            [("patroni.log", "five\n"), ("patroni.log.1", "four\n"), ("patroni.log.2", "three, which is long\n")];
        assert_eq!(texts(dir.path()), expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }

    #[test]
    fn a_file_that_is_there_is_gone_on_with_and_0_renames_nothing() {
        for (size_max, kept) in [(0, 4), (4, 0)] {
            let dir = tempfile::tempdir().expect("/tmp is writable");
            fs::write(dir.path().join(NAME), "before\n").expect("writable");
            let mut log = Rotating::open(settings(dir.path(), size_max, kept)).expect("writable");
            log.write(b"one\n").expect("writable");
            assert_eq!(texts(dir.path()), [(NAME.to_owned(), "before\none\n".to_owned())]);
        }
    }

    #[test]
    fn the_size_before_counts() {
        let dir = tempfile::tempdir().expect("/tmp is writable");
        fs::write(dir.path().join(NAME), "1234567\n").expect("writable");
        let mut log = Rotating::open(settings(dir.path(), 10, 4)).expect("writable");
        log.write(b"12\n").expect("writable");
        assert_eq!(texts(dir.path()).len(), 2);
    }

    #[test]
    fn each_file_gets_the_mode() {
        let dir = tempfile::tempdir().expect("/tmp is writable");
        let mut log = Rotating::open(LogFile { mode: Some(0o640), ..settings(dir.path(), 2, 1) }).expect("writable");
        for line in ["one\n", "two\n"] {
            log.write(line.as_bytes()).expect("writable");
        }
        for name in [NAME, "patroni.log.1"] {
            let file = fs::metadata(dir.path().join(name)).expect("there");
            assert_eq!(file.permissions().mode() & 0o7777, 0o640, "{name}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().expect("/tmp is writable");
        assert!(Rotating::open(settings(&dir.path().join("none"), 10, 1)).is_err());
    }
}
