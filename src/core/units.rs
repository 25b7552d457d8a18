//! The quantities that decisions are made of. Each has one unit and one meaning.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A position in the write-ahead log, in bytes since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The bytes by which `self` is behind `other`; 0 when it is not behind.
    pub fn behind(self, other: Lsn) -> u64 {
        other.0.saturating_sub(self.0)
    }
}

impl fmt::Display for Lsn {
    /// PostgreSQL's notation: `0/4042A38`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// Text that is not `X/Y` in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnLsn(pub String);

impl fmt::Display for NotAnLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a WAL position of the form 0/4042A38", self.0)
    }
}

impl std::error::Error for NotAnLsn {}

impl FromStr for Lsn {
    type Err = NotAnLsn;
    fn from_str(text: &str) -> Result<Self, NotAnLsn> {
        let parse = || {
            let (high, low) = text.trim().split_once('/')?;
            let high = u32::from_str_radix(high, 16).ok()?;
            let low = u32::from_str_radix(low, 16).ok()?;
            Some(Lsn(u64::from(high) << 32 | u64::from(low)))
        };
        parse().ok_or_else(|| NotAnLsn(text.to_owned()))
    }
}

/// A time as people read it, in log lines and errors: in seconds, with one decimal at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0.as_millis() + 50) / 100;
        match tenths % 10 {
            0 => write!(f, "{} s", tenths / 10),
            rest => write!(f, "{}.{rest} s", tenths / 10),
        }
    }
}

/// A timeline's number; the first is 1. An unknown one is `Option::None`, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A timeline and where it left its parent: what tells apart two timelines that were given one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Branch {
    pub timeline: Timeline,
    pub began: Lsn,
}

/// PostgreSQL's database system identifier, made by initdb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SystemId(pub u64);

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A member's name, unique within its cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberName(Arc<str>);

impl MemberName {
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        MemberName(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// PostgreSQL compares the names of standbys without regard to case.
    pub fn is_standby(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }

    /// The name of this member's physical replication slot: lower case, `-` and `.` as `_`, any other character as
    /// `u` and its code point (at least four digits), at most 63 characters.
    pub fn slot_name(&self) -> String {
        let mut slot = String::new();
        for c in self.0.chars().flat_map(char::to_lowercase) {
            match c {
                'a'..='z' | '0'..='9' | '_' => slot.push(c),
                '-' | '.' => slot.push('_'),
                other => slot.push_str(&format!("u{:04}", other as u32)),
            }
        }
        slot.truncate(63);
        slot
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for MemberName {
    fn from(name: &str) -> Self {
        MemberName::new(name)
    }
}

/// The version of one document in the DCS: etcd's mod_revision, Kubernetes' resourceVersion. Opaque: it is compared for
/// equality only, and only with revisions of the same document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Revision(pub u64);

/// A point on the machine's monotonic clock, time asleep included (CLOCK_BOOTTIME): the time since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instant(pub Duration);

impl Instant {
    pub const fn from_millis(millis: u64) -> Self {
        Instant(Duration::from_millis(millis))
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The time left until `self`, seen from `now`; zero when it has passed.
    pub fn left(self, now: Instant) -> Duration {
        self.since(now)
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, after: Duration) -> Instant {
        Instant(self.0.saturating_add(after))
    }
}

impl std::ops::Sub<Duration> for Instant {
    type Output = Instant;
    /// Saturates at boot.
    fn sub(self, before: Duration) -> Instant {
        Instant(self.0.saturating_sub(before))
    }
}

/// A point in civil time, in milliseconds since 1970 (UTC). For schedules and for people; never for the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallTime(pub i64);

/// A leader's word that it gave the lock up. It stands until a leader of since has published a position.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GivenUp {
    pub by: MemberName,
    pub position: Option<Lsn>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_names_are_made_as_in_patroni() {
        let cases = [
            ("node-1", "node_1"),
            ("a.b-C", "a_b_c"),
            ("Foo@Bar", "foou0064bar"),
            ("a b", "au0032b"),
            ("é", "u0233"),
            ("🐘", "u128024"),
        ];
        for (name, slot) in cases {
            assert_eq!(MemberName::from(name).slot_name(), slot);
        }
        assert_eq!(MemberName::new("x".repeat(70)).slot_name(), "x".repeat(63));
    }

    #[test]
    fn positions_are_written_as_postgresql_writes_them() {
        assert_eq!(Lsn(0x4042A38).to_string(), "0/4042A38");
        assert_eq!("2/A0000028".parse(), Ok(Lsn(0x2_A000_0028)));
        assert!("4042A38".parse::<Lsn>().is_err());
    }
}
