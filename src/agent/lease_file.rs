//! `tamada.lease` in the data directory: the token of the DCS lease that our keys hang on, so that a restarted container goes on
//! renewing it instead of waiting for its own lock to expire.
//!
//! The file names the member it belongs to. A clone or a rewind may bring another member's file along; it is removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::dcs::LeaseToken;
use crate::postgres::files;

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
    pub fn load(&self) -> Option<LeaseToken> {
        let path = self.data_dir.join(NAME);
        let text = fs::read_to_string(&path).ok()?;
        let token = self.parse(&text);
        if token.is_none() {
            tracing::warn!("{} is not this member's and is removed", path.display());
            // If it cannot be removed it is ignored again next time.
            let _ = fs::remove_file(&path);
        }
        token
    }

    fn parse(&self, text: &str) -> Option<LeaseToken> {
        let (owner, token) = text.trim_end().split_once('\n')?;
        LeaseToken::new(token).filter(|_| owner == self.owner)
    }

    /// Written beside and renamed, so that a reader never sees half of it. The directory must exist.
    pub fn save(&self, token: &LeaseToken) -> io::Result<()> {
        files::replace(&self.data_dir.join(NAME), format!("{}\n{token}\n", self.owner).as_bytes(), 0o600)
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
        let token = LeaseToken::new("694d9a7b3f2e");
        ours.save(token.as_ref().unwrap()).unwrap();
        assert_eq!(ours.load(), token);
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
        for text in ["", "service/demo/n1", "service/demo/n1\nx y\n", "service/demo/n1\n\n"] {
            fs::write(dir.path().join(NAME), text).unwrap();
            assert_eq!(ours.load(), None, "{text:?}");
        }
    }
}
