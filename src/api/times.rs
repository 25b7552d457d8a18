//! Points in time as clients write them: ISO 8601 in its looser forms, or an e-mail's date. Pure.

use jiff::civil::Time;
use jiff::fmt::{rfc2822, temporal::DateTimeParser};
use jiff::tz::Offset;
use jiff::{Timestamp, Zoned};

use crate::core::units::WallTime;

/// A point in time with the offset that it was given in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub at: WallTime,
    /// ISO 8601 with that offset.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadTime {
    Unparsable,
    NoZone,
    Past,
}

impl BadTime {
    /// The answer to a `purpose` (`switchover`, `restart`) with such a time.
    pub fn answer(self, purpose: &str) -> (u16, String) {
        match self {
            BadTime::Unparsable => {
                let advice = "It should be in an unambiguous format, e.g. ISO 8601";
                (422, format!("Unable to parse scheduled timestamp. {advice}"))
            }
            BadTime::NoZone => (400, format!("Timezone information is mandatory for the scheduled {purpose}")),
            BadTime::Past => (422, format!("Cannot schedule {purpose} in the past")),
        }
    }
}

pub fn plan(text: &str, now: WallTime) -> Result<Planned, BadTime> {
    let zoned = parse(text)?;
    let at = WallTime(zoned.timestamp().as_millisecond());
    if at < now {
        return Err(BadTime::Past);
    }
    Ok(Planned { at, text: zoned.strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string() })
}

pub fn now() -> WallTime {
    WallTime(Timestamp::now().as_millisecond())
}

fn parse(text: &str) -> Result<Zoned, BadTime> {
    let text = text.trim();
    if let Ok(zoned) = rfc2822::parse(text) {
        return Ok(zoned);
    }
    let text = join_offset(text);
    let pieces = DateTimeParser::new().parse_pieces(&text).map_err(|_| BadTime::Unparsable)?;
    let offset: Offset = pieces.to_numeric_offset().ok_or(BadTime::NoZone)?;
    let civil = pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight()));
    let timestamp = offset.to_timestamp(civil).map_err(|_| BadTime::Unparsable)?;
    Ok(timestamp.to_zoned(offset.to_time_zone()))
}

/// `2030-01-01 00:00 +02:00` and `… UTC` with the offset where ISO 8601 wants it.
fn join_offset(text: &str) -> String {
    match text.rsplit_once(' ') {
        Some((time, "Z" | "z" | "UTC" | "GMT")) => format!("{}Z", time.trim_end()),
        Some((time, offset)) if offset.starts_with(['+', '-']) => format!("{}{offset}", time.trim_end()),
        Some(_) | None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_forms_that_clients_write() {
        let cases = [
            ("2030-01-01T00:00:00+02:00", "2030-01-01T00:00:00+02:00"),
            ("2030-01-01T00:00+02:00", "2030-01-01T00:00:00+02:00"),
            ("2030-01-01 00:00 +02:00", "2030-01-01T00:00:00+02:00"),
            ("2030-01-01T00:00Z", "2030-01-01T00:00:00+00:00"),
            ("2030-01-01T00:00:00.5+00", "2030-01-01T00:00:00.5+00:00"),
            ("2030-01-01 10:00 UTC", "2030-01-01T10:00:00+00:00"),
            ("Tue, 1 Jan 2030 00:00:00 +0100", "2030-01-01T00:00:00+01:00"),
            ("2030-01-01T00:00:00-0530", "2030-01-01T00:00:00-05:30"),
        ];
        for (given, expected) in cases {
            let planned = plan(given, WallTime(0)).unwrap_or_else(|bad| panic!("{given}: {bad:?}"));
            assert_eq!(planned.text, expected, "{given}");
        }
        let at = plan("1970-01-01T01:00:01+01:00", WallTime(0)).expect("a time").at;
        assert_eq!(at, WallTime(1000));
    }

    #[test]
    fn refuses_what_is_ambiguous_or_past() {
        let now = plan("2026-01-01T00:00Z", WallTime(0)).expect("a time").at;
        let cases = [
            ("tomorrow", BadTime::Unparsable),
            ("", BadTime::Unparsable),
            ("2030-13-01T00:00Z", BadTime::Unparsable),
            ("2030-01-01T00:00:00", BadTime::NoZone),
            ("2030-01-01", BadTime::NoZone),
            ("2025-12-31T23:59:59Z", BadTime::Past),
        ];
        for (given, expected) in cases {
            assert_eq!(plan(given, now), Err(expected), "{given}");
        }
        assert_eq!(BadTime::NoZone.answer("restart").0, 400);
    }
}
