//! WAL segments by their names: 8 digits of a timeline, 16 of a number (`xlog_internal.h`, XLogFileName).

use std::collections::BTreeSet;

use crate::core::units::Lsn;

/// The number in a segment's name, as its digits: these sort as the segments do. `None`: it names something else.
pub(super) fn number(name: &str) -> Option<&str> {
    let is_hex = name.bytes().all(|c| c.is_ascii_digit() || (b'A'..=b'F').contains(&c));
    (name.len() == 24 && is_hex).then(|| &name[8..])
}

/// The same of the segment that holds this position; `size` in bytes, a power of two.
pub(super) fn number_at(position: Lsn, size: u64) -> String {
    let (high, low) = (position.0 >> 32, position.0 & 0xFFFF_FFFF);
    format!("{high:08X}{:08X}", low / size.max(1))
}

/// Where the segment of this name begins.
pub(super) fn start_of(name: &str, size: u64) -> Option<Lsn> {
    let number = number(name)?;
    let (high, low) = number.split_at(8);
    let (high, low) = (u64::from_str_radix(high, 16).ok()?, u64::from_str_radix(low, 16).ok()?);
    Some(Lsn((high << 32).checked_add(low.checked_mul(size)?)?))
}

/// The first segment from this position on that is not among these files, on whatever timeline.
pub(super) fn first_missing(files: &[String], from: Lsn, size: u64) -> String {
    let present: BTreeSet<&str> = files.iter().filter_map(|name| number(name)).collect();
    let positions = (0..=files.len() as u64).map(|n| Lsn(from.0.saturating_add(n.saturating_mul(size))));
    let mut missing = positions.map(|position| number_at(position, size)).filter(|number| !present.contains(&**number));
    missing.next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 16 << 20;

    #[test]
    fn segments_are_numbered_as_the_server_does() {
        assert_eq!(number_at(Lsn(0x1_0500_0028), SIZE), "0000000100000005");
        assert_eq!(number_at(Lsn(0x1_FFFF_FFFF), SIZE), "00000001000000FF");
        assert_eq!(number("0000000200000001000000FF"), Some("00000001000000FF"));
        assert_eq!(start_of("000000020000000100000005", SIZE), Some(Lsn(0x1_0500_0000)));
        for other in ["00000002.history", "0000000200000001000000FF.partial", "0000000200000001000000fg"] {
            assert_eq!(number(other), None, "{other}");
        }
    }

    #[test]
    fn a_gap_is_found_on_whatever_timeline() {
        let files = ["000000010000000000000004", "000000020000000000000005", "000000020000000000000007"];
        let files = files.map(str::to_owned);
        assert_eq!(first_missing(&files, Lsn(0x400_0028), SIZE), "0000000000000006");
        assert_eq!(first_missing(&files, Lsn(0x700_0028), SIZE), "0000000000000008");
        assert_eq!(first_missing(&files, Lsn(0x300_0028), SIZE), "0000000000000003");
        assert_eq!(first_missing(&[], Lsn(0xFF00_0028), SIZE), "00000000000000FF");
    }
}
