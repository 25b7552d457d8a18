//! How much room a file system has.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// In bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileSystem {
    pub(super) device: u64,
    pub(super) free: u64,
    pub(super) size: u64,
}

impl FileSystem {
    /// The one that this path is on, or will be.
    pub(super) fn below(path: &Path) -> std::io::Result<Self> {
        let place = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let found = nix::sys::statvfs::statvfs(place)?;
        let free = found.blocks_available() as u64 * found.fragment_size() as u64;
        let size = found.blocks() as u64 * found.fragment_size() as u64;
        Ok(FileSystem { device: std::fs::metadata(place)?.dev(), free, size })
    }

    /// Whether less than this part of it is free.
    pub(super) fn is_short(&self, part: u64) -> bool {
        self.free < self.size / part
    }
}
