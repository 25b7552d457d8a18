//! A folder for WAL outside the data directory (`--waldir`): whose is what it holds.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::contents::{Contents, contents, is_ignored};
use super::process::{all_pids, real_path};
use super::segments;
use crate::core::units::SystemId;

/// Whether a folder may take the WAL of a copy of this cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Absent or empty.
    Free,
    /// It holds WAL of this cluster that no server uses: what is left of a data directory that is gone.
    LeftOver,
    /// Anything else; the text says what.
    Taken(String),
}

pub(super) fn verdict(folder: &Path, cluster: Option<SystemId>) -> Verdict {
    match contents(folder) {
        Contents::Empty => return Verdict::Free,
        Contents::Unreadable(cause) => return Verdict::Taken(format!("cannot be read: {cause}")),
        Contents::Something => (),
    }
    match owner(folder) {
        Err(cause) => Verdict::Taken(format!("cannot be read: {cause}")),
        Ok(Owner::None) => Verdict::Taken("holds files that are not WAL".to_owned()),
        Ok(Owner::One(_)) if is_used(folder) => Verdict::Taken("is used by a process that runs".to_owned()),
        Ok(Owner::One(owner)) if Some(owner) == cluster => Verdict::LeftOver,
        Ok(Owner::One(owner)) => Verdict::Taken(format!("holds WAL of the database system {owner}")),
        Ok(Owner::Several) => Verdict::Taken("holds WAL of several database systems".to_owned()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Something there is no WAL, or no segment says whose it is.
    None,
    One(SystemId),
    Several,
}

fn owner(folder: &Path) -> io::Result<Owner> {
    let mut owner = Owner::None;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if is_ignored(&entry.file_name()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if segments::number(&name).is_some() {
            owner = match (owner, system_of(&entry.path())?) {
                (owner, None) => owner,
                (Owner::None, Some(system)) => Owner::One(system),
                (Owner::One(known), Some(system)) if known == system => owner,
                (Owner::One(_) | Owner::Several, Some(_)) => Owner::Several,
            };
        } else if !is_beside_wal(&name) {
            return Ok(Owner::None);
        }
    }
    Ok(owner)
}

/// What else `pg_wal` holds.
fn is_beside_wal(name: &str) -> bool {
    let suffixes = [".history", ".partial", ".backup"];
    matches!(name, "archive_status" | "summaries")
        || name.starts_with("xlogtemp.")
        || suffixes.iter().any(|suffix| name.ends_with(suffix))
}

/// The system identifier in the header of a segment's first page (`xlog_internal.h`, XLogLongPageHeaderData); `None`:
/// nothing was written into it yet.
fn system_of(segment: &Path) -> io::Result<Option<SystemId>> {
    const LONG_HEADER: u16 = 0x0002;
    let mut header = [0; 32];
    match File::open(segment)?.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let [_, _, low, high, ..] = header;
    let (_, system) = header.split_at(24);
    let system = system.try_into().map(u64::from_ne_bytes).unwrap_or_default();
    let is_long = u16::from_ne_bytes([low, high]) & LONG_HEADER != 0;
    Ok((is_long && system != 0).then_some(SystemId(system)))
}

/// Whether a process that we can see has a file there open. What cannot be told counts as yes.
fn is_used(folder: &Path) -> bool {
    let folder = real_path(folder);
    let Ok(pids) = all_pids() else { return true };
    pids.into_iter().any(|pid| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.into_iter().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|path| path.starts_with(&folder)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(system: u64) -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        bytes[2..4].copy_from_slice(&2u16.to_ne_bytes());
        bytes[24..32].copy_from_slice(&system.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_folder_is_judged_by_what_it_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let wal = folder.path().join("wal");
        let judged = || verdict(&wal, Some(SystemId(7)));
        assert_eq!(judged(), Verdict::Free);
        std::fs::create_dir(&wal).expect("made");
        std::fs::create_dir(wal.join("lost+found")).expect("made");
        assert_eq!(judged(), Verdict::Free);
        let write = |name: &str, bytes: &[u8]| std::fs::write(wal.join(name), bytes).expect("written");
        std::fs::create_dir(wal.join("archive_status")).expect("made");
        write("000000010000000000000002", &[0; 8192]);
        assert!(matches!(judged(), Verdict::Taken(_)), "nothing says whose it is");
        write("000000010000000000000001", &segment(7));
        write("00000002.history", b"");
        assert_eq!(judged(), Verdict::LeftOver);
        assert!(matches!(verdict(&wal, None), Verdict::Taken(_)));
        assert!(matches!(verdict(&wal, Some(SystemId(8))), Verdict::Taken(why) if why.contains("system 7")));
        let open = File::open(wal.join("00000002.history")).expect("there");
        assert!(matches!(judged(), Verdict::Taken(why) if why.contains("process")));
        drop(open);
        write("000000010000000000000003", &segment(8));
        assert!(matches!(judged(), Verdict::Taken(why) if why.contains("several")));
        std::fs::remove_file(wal.join("000000010000000000000003")).expect("removed");
        write("precious", b"");
        assert!(matches!(judged(), Verdict::Taken(why) if why.contains("not WAL")));
    }
}
