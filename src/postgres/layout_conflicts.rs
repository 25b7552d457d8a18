//! Data beside an empty data directory, where another image's or another major version's layout has them: a new
//! cluster is not made there, since somebody expects to find the old one.
//!
//! The official images keep data in `ROOT/data`, from PostgreSQL 18 on in `ROOT/MAJOR/docker`.

use std::path::{Path, PathBuf};

use super::process::real_path;
use super::staging::is_mount_point;

/// Where another layout would have its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    path: PathBuf,
    /// What its PG_VERSION says.
    version: Option<String>,
    mounted: Mounted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mounted {
    Yes,
    No,
}

/// What there is of other layouts beside this one.
pub(super) fn places_beside(data_dir: &Path) -> Vec<Place> {
    let Some(root) = root_of(data_dir) else { return Vec::new() };
    let names = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let majors = names.filter(|name| is_major(name)).map(|major| root.join(major).join("docker"));
    let real = real_path(data_dir);
    let others = std::iter::once(root.join("data")).chain(majors).filter(|path| !real.starts_with(real_path(path)));
    let place = |path: PathBuf| Place {
        version: std::fs::read_to_string(path.join("PG_VERSION")).ok().map(|text| text.trim().to_owned()),
        mounted: if path.is_dir() && is_mount_point(&path) { Mounted::Yes } else { Mounted::No },
        path,
    };
    others.map(place).collect()
}

/// Why no new cluster may be made here, if so.
pub(super) fn objection(data_dir: &Path, places: &[Place]) -> Option<String> {
    let cannot = format!("cannot make a new cluster in {}", data_dir.display());
    places.iter().find_map(|place| match (&place.version, place.mounted) {
        (Some(version), _) => Some(format!(
            "{cannot}: {} holds data of PostgreSQL {version}; set PGDATA to it with an image of that version, upgrade \
             them with pg_upgrade, or move them away",
            place.path.display()
        )),
        (None, Mounted::Yes) => Some(format!(
            "{cannot}: a volume is mounted at {}, which is not above it, so that the data would not be on that volume; \
             mount it elsewhere or set PGDATA",
            place.path.display()
        )),
        (None, Mounted::No) => None,
    })
}

/// The folder that a layout stands in.
fn root_of(data_dir: &Path) -> Option<&Path> {
    data_dir.ancestors().find_map(|dir| match dir.file_name()?.to_str()? {
        "data" => dir.parent(),
        "docker" => dir
            .parent()
            .filter(|major| major.file_name().and_then(|name| name.to_str()).is_some_and(is_major))?
            .parent(),
        _ => None,
    })
}

fn is_major(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_known_by_its_path() {
        let root = Some(Path::new("/var/lib/postgresql"));
        for inside in ["data", "18/docker", "data/pgdata", "18/docker/pgdata"] {
            assert_eq!(root_of(&Path::new("/var/lib/postgresql").join(inside)), root, "{inside}");
        }
        for other in ["/srv/pg", "/srv/pg/docker", "/", "/var/lib/postgresql/17/main"] {
            assert_eq!(root_of(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn other_layouts_data_and_volumes_are_objected_to_by_name() {
        let place = |version: Option<&str>, mounted| Place {
            path: "/r/data".into(),
            version: version.map(str::to_owned),
            mounted,
        };
        let told = |place| objection(Path::new("/r/18/docker"), &[place]).unwrap_or_default();
        assert_eq!(told(place(None, Mounted::No)), "");
        let data = told(place(Some("17"), Mounted::No));
        assert!(data.contains("/r/18/docker") && data.contains("/r/data holds data of PostgreSQL 17"), "{data}");
        assert!(told(place(None, Mounted::Yes)).contains("mounted at /r/data"));
    }
}
