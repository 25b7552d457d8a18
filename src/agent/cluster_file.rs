//! `.tamada.cluster` in the data directory: the identifier of the cluster that this member has seen. It stands there even
//! while the directory has no data, so that a member that waits for its first clone does not initialise another cluster
//! when it is started anew beside a store that has lost its data.
//!
//! A hidden file is no content of a data directory. It names namespace and scope; that of another cluster counts as none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::core::units::SystemId;
use crate::postgres::files;

const NAME: &str = ".tamada.cluster";

#[derive(Clone, Debug)]
pub struct ClusterFile {
    data_dir: PathBuf,
    /// `namespace/scope`; neither holds a line break.
    cluster: String,
}

impl ClusterFile {
    pub fn new(data_dir: &Path, namespace: &str, scope: &str) -> Self {
        ClusterFile { data_dir: data_dir.to_owned(), cluster: format!("{namespace}/{scope}") }
    }

    pub fn load(&self) -> Option<SystemId> {
        let text = fs::read_to_string(self.data_dir.join(NAME)).ok()?;
        let (cluster, id) = text.trim_end().split_once('\n')?;
        id.parse().ok().map(SystemId).filter(|_| cluster == self.cluster)
    }

    /// Written beside and renamed, so that a reader never sees half of it. Nothing is done where there is no directory.
    pub fn save(&self, id: SystemId) -> io::Result<()> {
        if !self.data_dir.is_dir() {
            return Ok(());
        }
        files::replace(&self.data_dir.join(NAME), format!("{}\n{id}\n", self.cluster).as_bytes(), 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SystemId = SystemId(7_710_921_647_475_908_793);

    #[test]
    fn an_identifier_is_kept_for_its_own_cluster_alone() {
        let dir = tempfile::tempdir().unwrap();
        let ours = ClusterFile::new(dir.path(), "service", "demo");
        assert_eq!(ours.load(), None);
        ours.save(ID).unwrap();
        assert_eq!(ours.load(), Some(ID));
        assert_eq!(ClusterFile::new(dir.path(), "service", "other").load(), None);
        for broken in ["", "service/demo", "service/demo\nx\n"] {
            fs::write(dir.path().join(NAME), broken).unwrap();
            assert_eq!(ours.load(), None, "{broken:?}");
        }
    }

    #[test]
    fn no_directory_is_made_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let ours = ClusterFile::new(&dir.path().join("pgdata"), "service", "demo");
        ours.save(ID).unwrap();
        assert_eq!(ours.load(), None);
        assert!(!dir.path().join("pgdata").exists());
    }
}
