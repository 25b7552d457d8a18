//! `tamada.lease` in the data directory: the DCS lease that our keys hang on, so that a restarted container goes on
//! renewing it instead of waiting for its own lock to expire.
//!
//! The file names the member it belongs to. A clone or a rewind may bring another member's file along; it is removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const NAME: &str = "tamada.lease";

#[derive(Clone, Debug)]
pub struct LeaseFile {
    data_dir: PathBuf,
    /// `namespace/scope/name`; none of them holds a line break.
    owner: String,
}

impl LeaseFile {
    pub fn new(data_dir: &Path, namespace: &str, scope: &str, name: &str) -> Self {
        LeaseFile { data_dir: data_dir.to_owned(), owner: format!("{namespace}/{scope}/{name}") }
    }

    /// Our lease from before. Whatever is not ours or makes no sense is removed and counts as nothing.
    pub fn load(&self) -> Option<i64> {
        let path = self.data_dir.join(NAME);
        let text = fs::read_to_string(&path).ok()?;
        let id = self.parse(&text);
        if id.is_none() {
            tracing::warn!("{} is not this member's and is removed", path.display());
            // If it cannot be removed it is ignored again next time.
            let _ = fs::remove_file(&path);
        }
        id
    }

    fn parse(&self, text: &str) -> Option<i64> {
        let (owner, id) = text.trim_end().split_once('\n')?;
        let id = u64::from_str_radix(id, 16).ok()?;
        (owner == self.owner).then_some(id.cast_signed())
    }

    /// Written beside and renamed, so that a reader never sees half of it. The directory must exist.
    pub fn save(&self, id: i64) -> io::Result<()> {
        let staged = self.data_dir.join("tamada.lease.tmp");
        let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
        write!(file, "{}\n{id:x}\n", self.owner)?;
        file.sync_all()?;
        fs::rename(&staged, self.data_dir.join(NAME))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_lease_is_kept_for_its_own_member_alone() {
        let dir = tempfile::tempdir().unwrap();
        let ours = LeaseFile::new(dir.path(), "service", "demo", "n1");
        assert_eq!(ours.load(), None);
        ours.save(-2).unwrap();
        assert_eq!(ours.load(), Some(-2));
        let mode = fs::metadata(dir.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let other = LeaseFile::new(dir.path(), "service", "demo", "n2");
        assert_eq!(other.load(), None);
        assert_eq!(ours.load(), None, "another member's file is removed when it is found");
    }

    #[test]
    fn a_broken_file_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let ours = LeaseFile::new(dir.path(), "service", "demo", "n1");
        for text in ["", "service/demo/n1", "service/demo/n1\nxyz\n", "service/demo/n1\n\n"] {
            fs::write(dir.path().join(NAME), text).unwrap();
            assert_eq!(ours.load(), None, "{text:?}");
        }
    }
}
