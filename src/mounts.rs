//! Where file systems are mounted, as the kernel tells it in /proc/self/mountinfo (proc_pid_mountinfo(5)).

use std::io;
use std::path::{Path, PathBuf};

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub point: PathBuf,
    /// What of the file system is mounted: a path within it.
    pub root: PathBuf,
    /// The file system's type: `ext4`, `overlay`, `tmpfs`.
    pub kind: String,
}

/// All mounts that this process sees, the later ones above the earlier ones.
pub fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
}

pub fn parse(table: &str) -> Vec<Mount> {
    table.lines().filter_map(line).collect()
}

/// Root and mount point are the fourth and the fifth field; the type is the first one after a lone dash.
fn line(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ').skip(3);
    let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
    let kind = fields.skip_while(|field| *field != "-").nth(1)?.to_owned();
    Some(Mount { point, root, kind })
}

/// Space, tab, newline and backslash are octal in the table.
fn unescape(field: &str) -> PathBuf {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(pairs.iter().fold(field.to_owned(), |text, (escape, plain)| text.replace(escape, plain)))
}

/// The mount that a path without links is on.
pub fn holding<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let leading = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    leading.max_by_key(|mount| mount.point.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_with_and_without_optional_fields() {
        let table = "\
            22 1 0:20 / / rw,relatime - overlay overlay rw,lowerdir=/a\n\
            24 22 8:1 /var/lib/docker/volumes/x/_data /mnt/my\\040disk rw master:1 propagate_from:2 - ext4 /dev/sdb rw\n\
            25 22 0:3 / /cut\n";
        let mount = |root: &str, point: &str, kind: &str| Mount {
            point: point.into(),
            root: root.into(),
            kind: kind.to_owned(),
        };
        let expected = [mount("/", "/", "overlay"), mount("/var/lib/docker/volumes/x/_data", "/mnt/my disk", "ext4")];
        assert_eq!(parse(table), expected);
    }

    #[test]
    fn the_nearest_and_latest_mount_holds_a_path() {
        let mount = |point: &str, kind: &str| Mount { point: point.into(), root: "/".into(), kind: kind.to_owned() };
        let mounts = [mount("/", "overlay"), mount("/data", "ext4"), mount("/data", "tmpfs"), mount("/d", "xfs")];
        let kind = |path: &str| holding(&mounts, Path::new(path)).map(|mount| mount.kind.as_str());
        assert_eq!(kind("/data/17"), Some("tmpfs"));
        assert_eq!(kind("/database"), Some("overlay"));
        assert_eq!(holding(&[], Path::new("/x")), None);
    }
}
