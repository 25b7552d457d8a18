//! Every PostgreSQL that can be had here, for tests that run on each of them.

use std::path::PathBuf;

/// Where each major version has a folder: Debian's packages, and what `tests/postgresql-versions` installs.
const VERSIONS: [&str; 2] = ["/usr/lib/postgresql", "/usr/local/lib/tamada-tests/postgresql"];

/// The folders of their programs, the newest major version last.
pub fn installations() -> Vec<PathBuf> {
    let entries = VERSIONS.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, dir)| dir.join("initdb").exists())
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no PostgreSQL is installed");
    found.into_iter().map(|(_, dir)| dir).collect()
}
