//! Which volume the data directory is on: told at every start, since data that go elsewhere than into the volume that
//! somebody mounted for them are lost with the container.

use std::fmt;
use std::path::{Path, PathBuf};

use super::process::real_path;
use crate::mounts::{self, Mount};

/// File systems in memory.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// File systems that engines lay together out of an image and the container's own changes.
const OF_IMAGES: [&str; 3] = ["overlay", "aufs", "fuse.fuse-overlayfs"];

/// Whether the root of our file systems goes with the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surroundings {
    /// PID 1 is ours, so this is a container whatever its root is made of.
    Container,
    /// Not known: the root's type tells.
    Unknown,
}

/// Where the data are. `Display` is for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPlace {
    data_dir: PathBuf,
    kept: Kept,
}

/// How long what is written there stays.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    OnVolume(PathBuf),
    /// On a volume that the engine made for this container alone.
    OnAnonymousVolume(PathBuf),
    InMemory(PathBuf),
    InContainer,
    /// The kernel's table could not be read, or there is nothing to say.
    Unknown,
}

/// Looks at this machine.
pub fn place_of(data_dir: &Path, surroundings: Surroundings) -> DataPlace {
    let kept = mounts::read().map_or(Kept::Unknown, |mounts| kept(&real_path_of_all(data_dir), &mounts, surroundings));
    DataPlace { data_dir: data_dir.to_owned(), kept }
}

/// Without links, however much of the path is not there yet.
fn real_path_of_all(path: &Path) -> PathBuf {
    match (path.exists() || path.is_symlink(), path.parent(), path.file_name()) {
        (false, Some(parent), Some(name)) => real_path_of_all(parent).join(name),
        _ => real_path(path),
    }
}

fn kept(data_dir: &Path, mounts: &[Mount], surroundings: Surroundings) -> Kept {
    let Some(mount) = mounts::holding(mounts, data_dir) else { return Kept::Unknown };
    let is_root = mount.point.parent().is_none();
    let goes_with_container = surroundings == Surroundings::Container || OF_IMAGES.contains(&mount.kind.as_str());
    match mount.kind.as_str() {
        kind if IN_MEMORY.contains(&kind) => Kept::InMemory(mount.point.clone()),
        _ if is_root && goes_with_container => Kept::InContainer,
        _ if is_root => Kept::Unknown,
        _ if is_anonymous(&mount.root) => Kept::OnAnonymousVolume(mount.point.clone()),
        _ => Kept::OnVolume(mount.point.clone()),
    }
}

/// Docker and Podman keep a volume in `…/volumes/NAME/_data`; the name of one that nobody has named is 64 hexadecimal digits.
fn is_anonymous(root: &Path) -> bool {
    const NAME_LENGTH: usize = 64;
    let mut parts = root.components().rev().map(|part| part.as_os_str().as_encoded_bytes());
    let ends = (parts.next(), parts.next(), parts.next());
    let (Some(b"_data"), Some(name), Some(b"volumes")) = ends else { return false };
    name.len() == NAME_LENGTH && name.iter().all(u8::is_ascii_hexdigit)
}

impl DataPlace {
    /// What somebody has to know who wants to keep the data.
    pub fn warning(&self) -> Option<String> {
        let dir = self.data_dir.display();
        match &self.kept {
            Kept::OnVolume(_) | Kept::Unknown => None,
            Kept::InContainer => Some(format!(
                "data directory {dir} is not on a mounted volume: the data are lost when this container is removed; mount \
                 a volume at {dir} or above it"
            )),
            Kept::OnAnonymousVolume(point) => Some(format!(
                "data directory {dir} is on a volume without a name, which a new container does not get; mount a named \
                 volume or a directory of the host at {}",
                point.display()
            )),
            Kept::InMemory(point) => Some(format!(
                "data directory {dir} is in memory (mounted at {}): the data are lost when this container stops",
                point.display()
            )),
        }
    }
}

impl fmt::Display for DataPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data directory: {}", self.data_dir.display())?;
        match &self.kept {
            Kept::OnVolume(point) | Kept::OnAnonymousVolume(point) | Kept::InMemory(point) => {
                write!(f, ", on the volume mounted at {}", point.display())
            }
            Kept::InContainer | Kept::Unknown => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(data_dir: &str, mounts: &[(&str, &str, &str)], surroundings: Surroundings) -> (String, String) {
        let mount = |(root, point, kind): &(&str, &str, &str)| Mount {
            root: root.into(),
            point: point.into(),
            kind: (*kind).to_owned(),
        };
        let mounts: Vec<Mount> = mounts.iter().map(mount).collect();
        let place = DataPlace { data_dir: data_dir.into(), kept: kept(Path::new(data_dir), &mounts, surroundings) };
        (place.to_string(), place.warning().unwrap_or_default())
    }

    #[test]
    fn data_that_go_with_the_container_are_warned_about() {
        let anonymous = format!("/var/lib/docker/volumes/{}/_data", "0f".repeat(32));
        let image = ("/", "/", "overlay");
        let named = ("/var/lib/docker/volumes/pgdata/_data", "/pgdata", "ext4");
        let declared = (anonymous.as_str(), "/var/lib/postgresql", "ext4");
        let data = "/var/lib/postgresql/data";
        let unknown = Surroundings::Unknown;

        // The volume is mounted elsewhere than the data go: into the one that the image declares, or into no volume at all.
        let (place, warning) = told(data, &[image, declared, named], unknown);
        assert_eq!(place, "data directory: /var/lib/postgresql/data, on the volume mounted at /var/lib/postgresql");
        assert!(
            warning.contains("a volume without a name") && warning.ends_with("at /var/lib/postgresql"),
            "{warning}"
        );
        let (place, warning) = told(data, &[image, named], unknown);
        assert_eq!(place, "data directory: /var/lib/postgresql/data");
        assert!(warning.contains("not on a mounted volume") && warning.contains("mount a volume at"), "{warning}");
        // Storage drivers whose root tells nothing.
        let root = ("/subvolumes/x", "/", "btrfs");
        assert!(told(data, &[root, named], Surroundings::Container).1.contains("not on a mounted volume"));
        assert!(told(data, &[image, ("/", "/var/lib/postgresql", "tmpfs")], unknown).1.contains("in memory"));

        let no_warning = |mounts: &[(&str, &str, &str)], surroundings| told("/pgdata/17", mounts, surroundings).1;
        assert_eq!(no_warning(&[image, declared, named], Surroundings::Container), "");
        assert_eq!(no_warning(&[image, ("/srv/pg", "/pgdata", "xfs")], Surroundings::Container), "");
        assert_eq!(no_warning(&[("/", "/", "ext4")], unknown), "", "a machine without containers");
        assert_eq!(no_warning(&[], unknown), "");
    }

    #[test]
    fn what_is_not_there_yet_is_on_the_file_system_of_what_is() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, folder.path().join("link")).unwrap();
        let expected = std::fs::canonicalize(&real).unwrap().join("17/docker");
        assert_eq!(real_path_of_all(&folder.path().join("link/17/docker")), expected);
    }
}
