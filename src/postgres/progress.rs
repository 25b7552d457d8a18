//! A program that copies from another server, watched: its progress for people, and an end if it stands still.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::conf::conninfo::Conninfo;
use super::{PostgresError, Progress};
use crate::core::units::Instant;

/// How long a copy may stand still once it has begun.
const STALL: Duration = Duration::from_secs(300);
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// How often a running copy is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A source that falls silent is noticed by the kernel.
pub(super) fn kept_alive(conninfo: Conninfo) -> Conninfo {
    let conninfo = conninfo.with("connect_timeout", "10");
    conninfo.with("keepalives_idle", "30").with("keepalives_interval", "10").with("keepalives_count", "3")
}

pub(super) struct Watch {
    what: String,
    first_bytes: Duration,
    seen: Arc<Mutex<Copied>>,
    last: Copied,
    moved_at: Instant,
    reported_at: Instant,
}

impl Watch {
    /// `what`, as in "copying from n1"; `first_bytes`: how long it may take to copy any.
    pub(super) fn new(what: String, first_bytes: Duration, now: Instant) -> Self {
        let seen = Arc::default();
        Watch { what, first_bytes, seen, last: Copied::default(), moved_at: now, reported_at: now }
    }

    /// For each line of the program's standard error.
    pub(super) fn on_line(&self) -> impl FnMut(&str) + Send + use<> {
        let seen = self.seen.clone();
        move |line| {
            if let Some(now) = Copied::parse(line) {
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
            }
        }
    }

    /// What has been copied; an error if that has been the same for too long.
    pub(super) fn look(&mut self, now: Instant, progress: &Progress) -> Result<Copied, PostgresError> {
        let copied = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let limit = if copied.done == 0 { self.first_bytes } else { STALL };
        if copied != self.last {
            self.moved_at = now;
        } else if now.since(self.moved_at) > limit && !copied.is_complete() {
            return Err(PostgresError::too_long(format!("{} without a byte", self.what), limit));
        }
        if copied.done > 0 && now.since(self.reported_at) >= REPORT_EVERY {
            self.reported_at = now;
            progress(format!("{}: {copied}", self.what));
        }
        self.last = copied.clone();
        Ok(copied)
    }
}

/// The progress of pg_basebackup and pg_rewind: `  24595/24594 kB (100%), 1/1 tablespace`, `  24/94 kB (25%) copied`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// In bytes.
    pub(super) done: u64,
    pub(super) total: u64,
}

impl Copied {
    fn parse(line: &str) -> Option<Self> {
        let (amounts, _) = line.trim_start().split_once(" kB")?;
        let (done, total) = amounts.split_once('/')?;
        Some(Copied { done: done.trim().parse::<u64>().ok()? * 1024, total: total.trim().parse::<u64>().ok()? * 1024 })
    }

    /// What follows is flushing to disk, without a word.
    fn is_complete(&self) -> bool {
        self.total > 0 && self.done >= self.total
    }
}

impl std::fmt::Display for Copied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = (self.done * 100).checked_div(self.total).unwrap_or(0).min(100);
        write!(f, "{} of {} MB ({percent} %)", self.done >> 20, self.total >> 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_both_programs() {
        let expected = Copied { done: 1024 * 1024, total: 24594 * 1024 };
        for line in ["  1024/24594 kB (4%), 0/1 tablespace", " 1024/24594 kB (4%) copied"] {
            assert_eq!(Copied::parse(line).as_ref(), Some(&expected));
        }
        assert_eq!(expected.to_string(), "1 of 24 MB (4 %)");
        assert!(!expected.is_complete());
        assert_eq!(Copied::parse("pg_basebackup: error: connection failed"), None);
    }

    #[test]
    fn a_copy_that_stands_still_is_ended_but_not_while_it_flushes() {
        let at = |seconds| Instant(Duration::from_secs(seconds));
        let progress: Progress = Arc::new(|_| ());
        let mut watch = Watch::new("copying".to_owned(), Duration::from_secs(60), at(0));
        assert!(watch.look(at(60), &progress).is_ok());
        assert!(watch.look(at(61), &progress).is_err(), "no first byte");
        let mut line = watch.on_line();
        line("1/4 kB (25%) copied");
        for seconds in [61, 361] {
            assert_eq!(watch.look(at(seconds), &progress).map(|copied| copied.done).ok(), Some(1024));
        }
        assert!(watch.look(at(362), &progress).is_err());
        line("4/4 kB (100%) copied");
        assert!(watch.look(at(362), &progress).is_ok() && watch.look(at(10_000), &progress).is_ok());
    }
}
