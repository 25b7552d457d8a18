//! Points in civil time as people and Patroni write them.

use jiff::Timestamp;

use crate::core::units::WallTime;
use crate::core::view::Schedule;

/// `2030-01-01T00:00:00+02:00`, with a blank for the T, with `Z` or any offset. Without an offset the time is not known.
pub fn schedule_of(text: &str) -> Schedule {
    match text.trim().parse::<Timestamp>() {
        Ok(time) => Schedule::At(WallTime(time.as_millisecond())),
        Err(_) => Schedule::Invalid(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_offset_is_read() {
        let expected = Schedule::At(WallTime(1_893_452_400_000));
        for text in [
            "2030-01-01T00:00:00+01:00",
            "2030-01-01 00:00:00+01:00",
            "2030-01-01 00:00:00+0100",
            "2030-01-01T00:00:00.000000+01",
            "2029-12-31T23:00:00Z",
            "2029-12-31T23:00Z",
            " 2029-12-31T18:00:00-05:00 ",
        ] {
            assert_eq!(schedule_of(text), expected, "{text}");
        }
    }

    #[test]
    fn a_time_without_an_offset_is_invalid() {
        for text in ["2030-01-01T00:00:00", "2030-01-01", "tomorrow", "", "2030-13-01T00:00:00Z"] {
            assert_eq!(schedule_of(text), Schedule::Invalid(text.to_owned()));
        }
    }
}
