//! `.tamada.cluster` in the data directory: the identifier of the cluster that this member has seen, the timeline of its own
//! that the cluster has abandoned, the word of a release that somebody has led after, and the names of the `failsafe` key, if any. It stands there even while
//! the directory has no data, so that a member that waits for its first clone does not initialise another cluster when it
//! is started anew beside a store that has lost its data.
//!
//! A hidden file is no content of a data directory. It names namespace and scope; that of another cluster counts as none.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::core::observation::Abandoned;
use crate::core::units::{GivenUp, Lsn, MemberName, SystemId, Timeline};
use crate::postgres::files;

const NAME: &str = ".tamada.cluster";

/// What it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub id: SystemId,
    pub abandoned: Option<Abandoned>,
    pub outlived: Option<GivenUp>,
    /// The names of the `failsafe` key.
    pub failsafe_key: BTreeSet<MemberName>,
}

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

    pub fn load(&self) -> Option<Known> {
        let text = fs::read_to_string(self.data_dir.join(NAME)).ok()?;
        let mut lines = text.lines();
        let cluster = lines.next()?;
        let id = lines.next()?.parse().ok().map(SystemId).filter(|_| cluster == self.cluster)?;
        let others = || lines.clone();
        let named = others().filter_map(|line| line.strip_prefix("failsafe member ")).map(MemberName::new);
        let failsafe_key = named.collect();
        let (abandoned, outlived) = (others().find_map(abandoned), others().find_map(outlived));
        Some(Known { id, abandoned, outlived, failsafe_key })
    }

    /// Written beside and renamed, so that a reader never sees half of it. Nothing is done where there is no directory.
    pub fn save(&self, known: &Known) -> io::Result<()> {
        if !self.data_dir.is_dir() {
            return Ok(());
        }
        let mut text = format!("{}\n{}\n", self.cluster, known.id);
        if let Some(Abandoned { timeline, cluster }) = known.abandoned {
            text.push_str(&format!("timeline {timeline} abandoned for {cluster}\n"));
        }
        if let Some(GivenUp { by, position }) = &known.outlived {
            let position = position.map_or(String::new(), |position| position.0.to_string());
            text.push_str(&format!("led since {position} of {by}\n"));
        }
        for name in &known.failsafe_key {
            text.push_str(&format!("failsafe member {name}\n"));
        }
        files::replace(&self.data_dir.join(NAME), text.as_bytes(), 0o600)
    }
}

fn abandoned(line: &str) -> Option<Abandoned> {
    let (timeline, cluster) = line.strip_prefix("timeline ")?.split_once(" abandoned for ")?;
    Some(Abandoned { timeline: Timeline(timeline.parse().ok()?), cluster: Timeline(cluster.parse().ok()?) })
}

fn outlived(line: &str) -> Option<GivenUp> {
    let (position, by) = line.strip_prefix("led since ")?.split_once(" of ")?;
    let position = if position.is_empty() { None } else { Some(Lsn(position.parse().ok()?)) };
    Some(GivenUp { by: MemberName::new(by), position })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known {
        id: SystemId(7_710_921_647_475_908_793),
        abandoned: None,
        outlived: None,
        failsafe_key: BTreeSet::new(),
    };

    #[test]
    fn an_identifier_is_kept_for_its_own_cluster_alone() {
        let dir = tempfile::tempdir().unwrap();
        let ours = ClusterFile::new(dir.path(), "service", "demo");
        assert_eq!(ours.load(), None);
        let abandoned = Some(Abandoned { timeline: Timeline(12), cluster: Timeline(9) });
        let outlived = |position| Some(GivenUp { by: "n 1".into(), position });
        for known in [
            Known { abandoned, outlived: outlived(Some(Lsn(7))), ..KNOWN },
            Known { failsafe_key: BTreeSet::from(["a".into(), "b c".into()]), ..KNOWN },
            Known { abandoned, ..KNOWN },
            Known { outlived: outlived(None), ..KNOWN },
            KNOWN,
        ] {
            ours.save(&known).unwrap();
            assert_eq!(ours.load(), Some(known));
        }
        assert_eq!(ClusterFile::new(dir.path(), "service", "other").load(), None);
        for broken in ["", "service/demo", "service/demo\nx\n"] {
            fs::write(dir.path().join(NAME), broken).unwrap();
            assert_eq!(ours.load(), None, "{broken:?}");
        }
        fs::write(dir.path().join(NAME), format!("service/demo\n{}\ntimeline x\n", KNOWN.id)).unwrap();
        assert_eq!(ours.load(), Some(KNOWN));
    }

    #[test]
    fn no_directory_is_made_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let ours = ClusterFile::new(&dir.path().join("pgdata"), "service", "demo");
        ours.save(&KNOWN).unwrap();
        assert_eq!(ours.load(), None);
        assert!(!dir.path().join("pgdata").exists());
    }
}
