//! Where the WAL in a folder ends, by the headers of its pages: each holds its own position, which is another one in a
//! segment that was recycled, and none where nothing was written (`xlog_internal.h`, XLogPageHeaderData). Nothing is decoded.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::segments;
use crate::core::local::WalEnd;
use crate::core::units::Lsn;

/// Of `xlp_pageaddr`, after magic, flags and timeline.
const ADDRESS_AT: u64 = 8;

/// The end of the WAL that begins at or after `from`; sizes in bytes. `None`: there is none, or it cannot be read.
pub(super) fn find(wal: &Path, from: Lsn, segment_size: u64, page_size: u64) -> Option<WalEnd> {
    let first = segments::number_at(from, segment_size);
    let names = std::fs::read_dir(wal).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter(|name| segments::number(name).is_some_and(|number| *number >= *first)).collect();
    // The newest timeline of each number last.
    names.sort_by(|one, other| (segments::number(one), one).cmp(&(segments::number(other), other)));
    names.iter().rev().find_map(|name| {
        let start = segments::start_of(name, segment_size)?;
        let file = File::open(wal.join(name)).ok()?;
        let pages = pages_written(segment_size / page_size.max(1), |page| is_page_of(&file, start, page * page_size));
        (pages > 0).then_some(WalEnd { page: Lsn(start.0 + pages * page_size), segment: Lsn(start.0 + segment_size) })
    })
}

fn is_page_of(file: &File, start: Lsn, offset: u64) -> bool {
    let mut address = [0; 8];
    let read = file.read_exact_at(&mut address, offset + ADDRESS_AT);
    read.is_ok() && u64::from_ne_bytes(address) == start.0 + offset
}

/// How many are written, from the first on: they are written in order.
fn pages_written(count: u64, is_written: impl Fn(u64) -> bool) -> u64 {
    let (mut written, mut unwritten) = (0, count);
    while written < unwritten {
        let middle = (written + unwritten) / 2;
        match is_written(middle) {
            true => written = middle + 1,
            false => unwritten = middle,
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1 << 20;
    const PAGE: u64 = 8192;

    /// A segment whose first `written` pages say that they stand at `start` and after it.
    fn segment(wal: &Path, name: &str, start: u64, written: u64) {
        let file = File::create(wal.join(name)).expect("made");
        file.set_len(SEGMENT).expect("long enough");
        for page in 0..written {
            file.write_all_at(&(start + page * PAGE).to_ne_bytes(), page * PAGE + ADDRESS_AT).expect("written");
        }
    }

    #[test]
    fn wal_ends_with_the_last_page_that_says_where_it_stands() {
        let folder = tempfile::tempdir().expect("a folder");
        let wal = folder.path();
        let found = || find(wal, Lsn(SEGMENT), SEGMENT, PAGE).map(|end| (end.page.0, end.segment.0));
        assert_eq!(found(), None);
        segment(wal, "000000010000000000000000", 0, 128);
        assert_eq!(found(), None, "only what is needed for the next start");
        segment(wal, "000000010000000000000001", SEGMENT, 128);
        assert_eq!(found(), Some((2 * SEGMENT, 2 * SEGMENT)));
        segment(wal, "000000010000000000000002", 2 * SEGMENT, 3);
        segment(wal, "000000010000000000000003", 0, 128);
        segment(wal, "000000010000000000000004", 4 * SEGMENT, 0);
        assert_eq!(found(), Some((2 * SEGMENT + 3 * PAGE, 3 * SEGMENT)), "recycled and new segments hold nothing");
        segment(wal, "000000020000000000000002", 2 * SEGMENT, 5);
        assert_eq!(found(), Some((2 * SEGMENT + 5 * PAGE, 3 * SEGMENT)), "the newest timeline");
    }
}
