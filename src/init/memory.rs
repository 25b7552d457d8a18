//! Keeps in memory what the loop of PID 1 needs, so that it runs when a disk hangs or memory is short.
//!
//! A container's RLIMIT_MEMLOCK is 8 MiB and counts whole mappings, so not everything can be locked: first stack, heap
//! and data, then libc, then of our own code the part around the loop. Only pages that are in use stay; locking costs no
//! memory.

use std::fs;

use super::log::{Level, Log};
use super::sys;

/// How much of our code around the loop is tried when the whole is too large.
const AROUND: usize = 512 * 1024;
const PAGE: usize = 4096;

struct Mapping {
    start: usize,
    length: usize,
}

/// `code` is the address of a function of the loop.
pub(super) fn lock(code: usize, log: &mut Log) {
    sys::touch_stack();
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = super::prepare::program();
    let program = program.to_string_lossy();
    let mut mappings: Vec<Mapping> = maps.lines().filter_map(|line| mapping(line, &program)).collect();
    mappings.sort_by_key(|mapping| mapping.length);
    let refused = mappings.iter().filter(|mapping| sys::lock_mapping(mapping.start, mapping.length).is_err()).count();
    if refused == 0 {
        return;
    }
    let start = code.saturating_sub(AROUND / 2) & !(PAGE - 1);
    let around = sys::lock_mapping(start, AROUND);
    let around = if around.is_ok() { "is" } else { "is not" };
    log.write(
        Level::Debug,
        format_args!("RLIMIT_MEMLOCK: {refused} mappings of PID 1 are not locked; the code of its loop {around}"),
    );
}

/// A line of /proc/PID/maps, if it is memory that the loop needs: our own, without name, or libc.
fn mapping(line: &str, program: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let access = fields.next()?;
    let name = fields.nth(3).unwrap_or_default();
    let is_needed = match name {
        "" | "[stack]" | "[heap]" => access.starts_with("rw"),
        _ => name == program || name.contains("/libc.so") || name.contains("/libc-") || name.contains("/ld-linux"),
    };
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    is_needed.then_some(Mapping { start, length: end - start })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_what_the_loop_needs() {
        let needed = |line| mapping(line, "/usr/bin/tamada").map(|mapping| mapping.length);
        assert_eq!(needed("1000-3000 r-xp 00000000 08:01 12    /usr/bin/tamada"), Some(0x2000));
        assert_eq!(needed("1000-2000 rw-p 00000000 00:00 0     [stack]"), Some(0x1000));
        assert_eq!(needed("1000-2000 rw-p 00000000 00:00 0"), Some(0x1000));
        assert_eq!(needed("1000-2000 r-xp 00000000 08:01 12    /lib/x86_64-linux-gnu/libc.so.6"), Some(0x1000));
        assert_eq!(needed("1000-2000 r-xp 00000000 08:01 12    /lib/x86_64-linux-gnu/libcrypto.so.3"), None);
        assert_eq!(needed("1000-2000 ---p 00000000 00:00 0"), None);
    }
}
