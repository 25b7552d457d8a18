//! Amounts as people write them in query strings and bodies: `10MB`, `0x400`, `1.5GB`, `1min`.
//!
//! Units are case-sensitive, as PostgreSQL's are. Pure.

const BYTES: [(&str, f64); 6] =
    [("", 1.0), ("B", 1.0), ("kB", 1024.0), ("MB", 1_048_576.0), ("GB", 1_073_741_824.0), ("TB", 1_099_511_627_776.0)];

const SECONDS: [(&str, f64); 7] =
    [("", 1.0), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86_400.0)];

/// Bytes, rounded; `None`: not an amount.
pub fn bytes(text: &str) -> Option<i64> {
    amount(text, &BYTES)
}

/// Whole seconds, rounded to the nearest, halves to even: `1400ms` is 1, `500ms` is 0.
pub fn seconds(text: &str) -> Option<i64> {
    amount(text, &SECONDS)
}

fn amount(text: &str, units: &[(&str, f64)]) -> Option<i64> {
    let (number, unit) = number(text.trim())?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    let value = (number * factor).round_ties_even();
    (value.abs() < 9e18).then_some(value as i64)
}

/// The number at the beginning and what follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        return Some((sign * u64::from_str_radix(&hex[..end], 16).ok()? as f64, &hex[end..]));
    }
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    Some((sign * digits[..end].parse::<f64>().ok()?, &digits[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_amounts_with_and_without_units() {
        let cases = [
            ("10", Some(10)),
            ("10MB", Some(10 << 20)),
            ("0x400", Some(1024)),
            ("1.5GB", Some(3 << 29)),
            ("16 kB", Some(16 << 10)),
            ("-1", Some(-1)),
            ("10mb", None),
            ("MB", None),
            ("", None),
            ("ten", None),
            ("99999999999999999TB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn reads_durations_as_whole_seconds() {
        let cases = [("5", Some(5)), ("1min", Some(60)), ("1400ms", Some(1)), ("500ms", Some(0)), ("1MB", None)];
        for (text, expected) in cases {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
