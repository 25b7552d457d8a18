//! Where the WAL in a folder ends, by the headers of its pages: each holds its own position, which is another one in a
//! segment that was recycled, and none where nothing was written (`xlog_internal.h`, XLogPageHeaderData). No record is
//! decoded; of its header (`xlogrecord.h`, XLogRecord) the length and the position of the record before it are read.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::segments;
use crate::core::local::WalEnd;
use crate::core::units::{Lsn, Timeline};

/// Of `xlp_pageaddr`, after magic, flags and timeline.
const ADDRESS_AT: u64 = 8;
/// Of the first page of a segment: its first record follows.
const LONG_HEADER: u64 = 40;
/// Of `xl_prev`, after a length and a transaction.
const PREVIOUS_AT: u64 = 8;
/// Of a record that ends its segment early (XLOG_SWITCH): no other has neither data nor blocks.
const SWITCH_LENGTH: u32 = 24;

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

/// A server that archives ends its segment before the checkpoint of its shutdown, whatever room is left in it. Where the
/// WAL ended before that; `None`: the record at `checkpoint` does not follow such an end.
pub(super) fn before_switch(wal: &Path, timeline: Timeline, checkpoint: Lsn, segment_size: u64) -> Option<Lsn> {
    if checkpoint.0 % segment_size.max(1) != LONG_HEADER {
        return None;
    }
    let mut previous = [0; 8];
    read_at(wal, timeline, Lsn(checkpoint.0 + PREVIOUS_AT), segment_size, &mut previous)?;
    let previous = Lsn(u64::from_ne_bytes(previous));
    let mut length = [0; 4];
    read_at(wal, timeline, previous, segment_size, &mut length)?;
    (u32::from_ne_bytes(length) == SWITCH_LENGTH).then_some(previous)
}

fn read_at(wal: &Path, timeline: Timeline, at: Lsn, segment_size: u64, bytes: &mut [u8]) -> Option<()> {
    let name = format!("{:08X}{}", timeline.0, segments::number_at(at, segment_size));
    File::open(wal.join(name)).ok()?.read_exact_at(bytes, at.0 % segment_size).ok()
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
    fn what_was_written_ends_before_the_record_that_ended_its_segment() {
        let folder = tempfile::tempdir().expect("a folder");
        let wal = folder.path();
        let (checkpoint, switch) = (2 * SEGMENT + LONG_HEADER, SEGMENT + 3 * PAGE + 64);
        let put = |name: &str, bytes: &[u8], at: u64| {
            let file = File::options().write(true).create(true).truncate(false).open(wal.join(name)).expect("made");
            file.write_all_at(bytes, at).expect("written");
        };
        let found = |at| before_switch(wal, Timeline(1), Lsn(at), SEGMENT).map(|end| end.0);
        put("000000010000000000000002", &switch.to_ne_bytes(), LONG_HEADER + PREVIOUS_AT);
        assert_eq!(found(checkpoint), None, "that segment is not there");
        put("000000010000000000000001", &SWITCH_LENGTH.to_ne_bytes(), 3 * PAGE + 64);
        assert_eq!(found(checkpoint), Some(switch));
        assert_eq!(found(checkpoint + 120), None, "no first record");
        put("000000010000000000000001", &114_u32.to_ne_bytes(), 3 * PAGE + 64);
        assert_eq!(found(checkpoint), None, "a record that happens to fill its segment");
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
