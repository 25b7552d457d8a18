//! Timelines: the history file of one, the records at its end, and whether our WAL fits another's history.
//!
//! Parsers and one rule table. Nothing here connects, runs `pg_waldump` or decides what follows.
//! A history file's form is that of `timeline.c` (readTimeLineHistory).

use crate::core::observation::Divergence;
use crate::core::units::{Lsn, Timeline};
use crate::core::view::HistoryEntry;

/// A history file that the server would refuse as well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the timeline history is not a timeline larger than the last and a WAL position: {text:?}")]
pub struct BadHistory {
    pub line: usize,
    pub text: String,
}

/// The lines of `0000000N.history`, or of the answer to `TIMELINE_HISTORY N`, oldest first.
pub fn parse(text: &str) -> Result<Vec<HistoryEntry>, BadHistory> {
    let mut entries: Vec<HistoryEntry> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let last = entries.last().map_or(0, |entry| entry.left.0);
        let entry = entry(line).filter(|entry| entry.left.0 > last);
        entries.push(entry.ok_or_else(|| BadHistory { line: index + 1, text: line.to_owned() })?);
    }
    Ok(entries)
}

fn entry(line: &str) -> Option<HistoryEntry> {
    let (left, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (at, reason) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    Some(HistoryEntry {
        left: Timeline(left.parse().ok()?),
        at: at.parse().ok()?,
        reason: reason.trim_start().to_owned(),
        time: None,
        new_leader: None,
    })
}

/// Where our own WAL ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalPosition {
    /// A standby, running or stopped: it may have replayed up to here and no further.
    Recovering { timeline: Timeline, at: Lsn },
    /// A primary that ended cleanly; its last record is the checkpoint.
    ShutDown { timeline: Timeline, checkpoint: Lsn, end: CheckpointEnd },
}

impl LocalPosition {
    pub fn timeline(&self) -> Timeline {
        match self {
            LocalPosition::Recovering { timeline, .. } | LocalPosition::ShutDown { timeline, .. } => *timeline,
        }
    }

    /// Whether [`divergence`] needs to know where the checkpoint's record ends. That takes a run of `pg_waldump`.
    pub fn wants_checkpoint_end(&self, leader: Timeline) -> bool {
        match self {
            LocalPosition::ShutDown { timeline, end: CheckpointEnd::NotAsked, .. } => *timeline < leader,
            LocalPosition::ShutDown { end: CheckpointEnd::At(_) | CheckpointEnd::Unreadable, .. } => false,
            LocalPosition::Recovering { .. } => false,
        }
    }

    /// The same position, with the answer of `pg_waldump` (see [`checkpoint_end`]).
    pub fn with_checkpoint_end(self, found: Option<Lsn>) -> Self {
        let end = found.map_or(CheckpointEnd::Unreadable, CheckpointEnd::At);
        match self {
            LocalPosition::ShutDown { timeline, checkpoint, .. } => {
                LocalPosition::ShutDown { timeline, checkpoint, end }
            }
            LocalPosition::Recovering { .. } => self,
        }
    }
}

/// Where the record of a shutdown checkpoint ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointEnd {
    NotAsked,
    At(Lsn),
    /// `pg_waldump` did not show one record and then the end of the WAL.
    Unreadable,
}

/// Whether both histories leave a timeline, but at different points: two members were promoted without knowing of each
/// other, and gave their timelines the same number.
pub fn branched(ours: &[HistoryEntry], theirs: &[HistoryEntry]) -> bool {
    ours.iter().any(|own| theirs.iter().any(|other| other.left == own.left && other.at != own.at))
}

/// Whether our WAL is a prefix of the leader's, which is on timeline `leader` with this history.
pub fn divergence(local: LocalPosition, leader: Timeline, history: &[HistoryEntry]) -> Divergence {
    let ours = local.timeline();
    if ours > leader {
        return Divergence::Diverged;
    }
    if ours == leader || history.is_empty() {
        // Unless both were begun apart from each other (`branched`).
        return Divergence::None;
    }
    let first = history.iter().find(|entry| entry.left >= ours);
    let Some(switch) = first.filter(|entry| entry.left == ours).map(|entry| entry.at) else {
        return Divergence::Diverged;
    };
    match local {
        LocalPosition::Recovering { at, .. } if at <= switch => Divergence::None,
        LocalPosition::Recovering { .. } => Divergence::Diverged,
        LocalPosition::ShutDown { checkpoint, .. } if checkpoint >= switch => Divergence::Diverged,
        LocalPosition::ShutDown { end: CheckpointEnd::At(end), .. } if end == switch => Divergence::None,
        LocalPosition::ShutDown { end: CheckpointEnd::At(_) | CheckpointEnd::Unreadable, .. } => Divergence::Diverged,
        LocalPosition::ShutDown { end: CheckpointEnd::NotAsked, .. } => Divergence::Undecided,
    }
}

/// One line of `pg_waldump`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalRecord {
    pub rmgr: String,
    pub lsn: Lsn,
    pub prev: Lsn,
    pub description: String,
}

impl WalRecord {
    /// The first record in the output of `pg_waldump`.
    pub fn parse(stdout: &str) -> Option<WalRecord> {
        stdout.lines().find_map(Self::of_line)
    }

    fn of_line(line: &str) -> Option<WalRecord> {
        let (_, rest) = line.split_once("rmgr: ")?;
        let (rmgr, rest) = rest.split_once(' ')?;
        let (_, rest) = rest.split_once(", lsn: ")?;
        let (lsn, rest) = rest.split_once(", prev ")?;
        let (prev, rest) = rest.split_once(',')?;
        let description = rest.split_once("desc: ").map_or("", |(_, description)| description);
        Some(WalRecord {
            rmgr: rmgr.to_owned(),
            lsn: lsn.trim().parse().ok()?,
            prev: prev.trim().parse().ok()?,
            description: description.trim().to_owned(),
        })
    }

    /// Whether this is the shutdown checkpoint at this position.
    pub fn is_shutdown_checkpoint_at(&self, lsn: Lsn) -> bool {
        let description = self.description.to_ascii_lowercase();
        self.rmgr == "XLOG"
            && self.lsn == lsn
            && description.starts_with("checkpoint")
            && description.ends_with("shutdown")
    }

    /// Whether this record fills up a segment that was switched before its end.
    pub fn is_switch(&self) -> bool {
        let is = |name: &str| self.description.eq_ignore_ascii_case(name);
        self.rmgr == "XLOG" && (is("SWITCH") || is("xlog switch"))
    }
}

/// The last position that standbys are expected to reach after a clean shutdown: `previous` is the record before the
/// shutdown checkpoint, where both could be read. With archiving on the server switches the segment first, and a
/// standby that has that switch has all.
pub fn last_position(checkpoint: Lsn, previous: Option<&WalRecord>) -> Lsn {
    previous.filter(|record| record.is_switch()).map_or(checkpoint, |record| record.lsn)
}

/// Where the record at `checkpoint` ends, from `pg_waldump -t TIMELINE -s CHECKPOINT -n 2`: one record must follow by
/// the end of the WAL at that record, else `None`.
pub fn checkpoint_end(checkpoint: Lsn, stdout: &str, stderr: &str) -> Option<Lsn> {
    let mut records = stdout.lines().filter(|line| !line.trim().is_empty());
    let record = WalRecord::of_line(records.next()?)?;
    let mut errors = stderr.lines().filter(|line| !line.trim().is_empty());
    let error = errors.next()?;
    if record.lsn != checkpoint || records.next().is_some() || errors.next().is_some() {
        return None;
    }
    let (_, rest) = error.split_once("error in WAL record at ")?;
    let (at, rest) = rest.split_once(": invalid record length at ")?;
    let end = rest.split([':', ' ', ',']).next()?;
    (at.parse() == Ok(checkpoint)).then(|| end.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHUTDOWN: &str = "rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/020000D8, prev \
        0/02000060, desc: CHECKPOINT_SHUTDOWN redo 0/20000D8; tli 1; prev tli 1; fpw true; xid 0:724; oid 13572; multi 1; \
        offset 0; oldest running xid 0; shutdown\n";
    const END: &str = "pg_waldump: error: error in WAL record at 0/20000D8: invalid record length at 0/2000150: wanted \
        24, got 0\n";
    const SWITCH: &str = "rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/018260F8, prev \
        0/018260C0, desc: SWITCH \n";

    fn history(entries: &[(u32, u64)]) -> Vec<HistoryEntry> {
        let entry = |&(left, at): &(u32, u64)| HistoryEntry {
            left: Timeline(left),
            at: Lsn(at),
            reason: "no recovery target specified".to_owned(),
            time: None,
            new_leader: None,
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn timelines_of_one_number_that_were_begun_at_different_points_are_branches() {
        let ours = history(&[(1, 800), (2, 900)]);
        assert!(branched(&ours, &history(&[(1, 700)])));
        assert!(branched(&ours, &history(&[(1, 800), (2, 950), (3, 990)])));
        assert!(!branched(&ours, &history(&[(1, 800), (2, 900), (3, 990)])));
        assert!(!branched(&ours, &[]), "nothing is known of the other");
    }

    #[test]
    fn a_history_file_is_read_as_the_server_reads_it() {
        let text = "# comment\n1\t0/2000150\tno recovery target specified\n\n2\t1/A0\n";
        let mut expected = history(&[(1, 0x200_0150), (2, 0x1_0000_00A0)]);
        expected[1].reason = String::new();
        assert_eq!(parse(text), Ok(expected));
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn a_history_out_of_order_is_refused() {
        for text in ["2\t0/1\tx\n1\t0/2\tx", "1\t0/1\tx\n1\t0/2\tx", "\nx\t0/1\tx", "\n1\tx\tx", "\n1"] {
            assert_eq!(parse(text).map_err(|error| error.line), Err(2), "{text:?}");
        }
    }

    #[test]
    fn a_standby_has_diverged_when_it_is_past_the_switch_point() {
        let at = |timeline, at| LocalPosition::Recovering { timeline: Timeline(timeline), at: Lsn(at) };
        let switch = 67_197_376;
        let leader = history(&[(1, 0x300_0000), (2, switch)]);
        let cases = [
            (at(2, switch + 1), 3, Divergence::Diverged),
            (at(2, switch), 3, Divergence::None),
            (at(1, 0x200_0000), 3, Divergence::None),
            (at(3, u64::MAX), 3, Divergence::None),
            (at(4, 0), 3, Divergence::Diverged),
        ];
        for (local, timeline, expected) in cases {
            assert_eq!(divergence(local, Timeline(timeline), &leader), expected, "{local:?}");
        }
        let lab = at(2, 0x2_0500_0028);
        assert_eq!(divergence(lab, Timeline(3), &history(&[(1, 0x300_0000), (2, 0x400_0400)])), Divergence::Diverged);
    }

    #[test]
    fn a_timeline_that_the_leader_never_was_on_has_diverged() {
        let local = LocalPosition::Recovering { timeline: Timeline(2), at: Lsn(1) };
        assert_eq!(divergence(local, Timeline(4), &history(&[(1, 5), (3, 9)])), Divergence::Diverged);
        assert_eq!(divergence(local, Timeline(4), &history(&[(1, 5)])), Divergence::Diverged);
        assert_eq!(divergence(local, Timeline(4), &[]), Divergence::None);
    }

    #[test]
    fn a_former_primary_fits_only_if_its_checkpoint_ends_at_the_switch_point() {
        let (checkpoint, switch) = (Lsn(0x200_00D8), 0x200_0150);
        let leader = history(&[(1, switch)]);
        let local = LocalPosition::ShutDown { timeline: Timeline(1), checkpoint, end: CheckpointEnd::NotAsked };
        assert!(local.wants_checkpoint_end(Timeline(2)));
        assert!(!local.wants_checkpoint_end(Timeline(1)));
        assert_eq!(divergence(local, Timeline(2), &leader), Divergence::Undecided);
        let ends = [
            (Some(Lsn(switch)), Divergence::None),
            (Some(Lsn(switch + 8)), Divergence::Diverged),
            (None, Divergence::Diverged),
        ];
        for (end, expected) in ends {
            assert_eq!(divergence(local.with_checkpoint_end(end), Timeline(2), &leader), expected, "{end:?}");
        }
        let at_switch = history(&[(1, checkpoint.0)]);
        let known = local.with_checkpoint_end(Some(Lsn(switch)));
        assert_eq!(divergence(known, Timeline(2), &at_switch), Divergence::Diverged);
    }

    #[test]
    fn the_end_of_a_checkpoint_is_where_the_wal_ends() {
        let checkpoint = Lsn(0x200_00D8);
        assert_eq!(checkpoint_end(checkpoint, SHUTDOWN, END), Some(Lsn(0x200_0150)));
        let newer = END.replace("wanted 24", "expected at least 24");
        assert_eq!(checkpoint_end(checkpoint, SHUTDOWN, &newer), Some(Lsn(0x200_0150)));
        assert_eq!(checkpoint_end(Lsn(1), SHUTDOWN, END), None);
        assert_eq!(checkpoint_end(checkpoint, &format!("{SHUTDOWN}{SWITCH}"), END), None);
        assert_eq!(checkpoint_end(checkpoint, SHUTDOWN, ""), None);
        assert_eq!(checkpoint_end(checkpoint, SHUTDOWN, "pg_waldump: error: could not find a valid record"), None);
        assert_eq!(checkpoint_end(checkpoint, "", END), None);
    }

    #[test]
    fn the_last_position_is_the_switch_before_the_checkpoint() {
        let checkpoint = WalRecord::parse(SHUTDOWN).expect("a record");
        assert_eq!(checkpoint.prev, Lsn(0x200_0060));
        assert!(checkpoint.is_shutdown_checkpoint_at(Lsn(0x200_00D8)));
        assert!(!checkpoint.is_shutdown_checkpoint_at(Lsn(0x200_0060)));
        let switch = WalRecord::parse(SWITCH).expect("a record");
        assert_eq!(last_position(Lsn(28_163_096), Some(&switch)), Lsn(25_321_720));
        assert_eq!(last_position(Lsn(28_163_096), Some(&checkpoint)), Lsn(28_163_096));
        assert_eq!(last_position(Lsn(28_163_096), None), Lsn(28_163_096));
    }
}
