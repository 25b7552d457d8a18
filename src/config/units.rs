//! Numbers with units, and boolean words, as text: what variables, the `config` key and PostgreSQL's settings share.
//!
//! The rules are PostgreSQL's own (`parse_int`, `parse_real` and `convert_to_base_unit` in `guc.c`). Ranges are not
//! checked here. Nothing here fails: text that is no number is `None`.

const MEMORY: &[(&str, f64)] = &[
    ("TB", 1024.0 * 1024.0 * 1024.0 * 1024.0),
    ("GB", 1024.0 * 1024.0 * 1024.0),
    ("MB", 1024.0 * 1024.0),
    ("kB", 1024.0),
    ("B", 1.0),
];

/// In microseconds.
const TIME: &[(&str, f64)] = &[("d", 86_400e6), ("h", 3_600e6), ("min", 60e6), ("s", 1e6), ("ms", 1e3), ("us", 1.0)];

/// The words of a boolean, in any case: `on true yes 1` and `off false no 0`.
pub fn parse_bool(text: &str) -> Option<bool> {
    let is = |words: [&str; 4]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    match () {
        () if is(["on", "true", "yes", "1"]) => Some(true),
        () if is(["off", "false", "no", "0"]) => Some(false),
        () => None,
    }
}

/// A whole number in `base_unit`: hexadecimal (`0x`), octal (`0`) or decimal; fractions are rounded, half to even.
/// `base_unit` is a unit with an optional multiplier (`kB`, `8kB`, `s`); without one a unit in `text` is not accepted.
pub fn parse_int(text: &str, base_unit: Option<&str>) -> Option<i64> {
    let (value, unit) = leading_integer(text.trim())?;
    let rounded = in_base_unit(value, unit.trim_start(), base_unit)?.round_ties_even();
    // 2^63 as a double; everything below it converts without saturation.
    (rounded.abs() < 9_223_372_036_854_775_808.0).then_some(rounded as i64)
}

/// The same for a number with a fraction; octal is not known here: `010` is ten.
pub fn parse_real(text: &str, base_unit: Option<&str>) -> Option<f64> {
    let text = text.trim();
    let (value, unit) = match hexadecimal(text) {
        Some(parsed) => parsed,
        None => leading_real(text)?,
    };
    in_base_unit(value, unit.trim_start(), base_unit).filter(|value| value.is_finite())
}

/// `value unit` in the base unit. As in PostgreSQL, the value is first rounded to a whole multiple of the next smaller
/// unit, if there is one.
fn in_base_unit(value: f64, unit: &str, base_unit: Option<&str>) -> Option<f64> {
    if unit.is_empty() {
        return Some(value);
    }
    let base_unit = base_unit?;
    let digits = base_unit.len() - base_unit.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let multiplier = if digits == 0 { 1.0 } else { base_unit[..digits].parse().ok()? };
    let table = [MEMORY, TIME].into_iter().find(|table| factor(table, &base_unit[digits..]).is_some())?;
    let base = factor(table, &base_unit[digits..])? * multiplier;
    let position = table.iter().position(|(name, _)| *name == unit)?;
    let mut smallest_units = value * table[position].1;
    if let Some((_, smaller)) = table.get(position + 1) {
        smallest_units = (smallest_units / smaller).round_ties_even() * smaller;
    }
    Some(smallest_units / base)
}

fn factor(table: &[(&str, f64)], unit: &str) -> Option<f64> {
    table.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

/// The number at the beginning, as C's `strtol` with base 0 reads it, and what follows. Text that goes on with `.`, `e`
/// or `E` is read again as a real.
fn leading_integer(text: &str) -> Option<(f64, &str)> {
    if let Some(parsed) = hexadecimal(text) {
        return Some(parsed);
    }
    let (sign, digits) = sign_of(text);
    let radix = if digits.starts_with('0') { 8 } else { 10 };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    if digits[end..].starts_with(['.', 'e', 'E']) {
        return leading_real(text);
    }
    let value = i64::from_str_radix(&digits[..end], radix).ok()?;
    Some((sign * value as f64, &digits[end..]))
}

fn hexadecimal(text: &str) -> Option<(f64, &str)> {
    let (sign, digits) = sign_of(text);
    let digits = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"))?;
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    let value = i64::from_str_radix(&digits[..end], 16).ok()?;
    Some((sign * value as f64, &digits[end..]))
}

fn leading_real(text: &str) -> Option<(f64, &str)> {
    let (sign, unsigned) = sign_of(text);
    let digits_from = |at: usize| unsigned[at..].bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits_from(0);
    let mut end = whole;
    if unsigned[end..].starts_with('.') {
        let fraction = digits_from(end + 1);
        if whole + fraction == 0 {
            return None;
        }
        end += 1 + fraction;
    }
    if end == 0 {
        return None;
    }
    if unsigned[end..].starts_with(['e', 'E']) {
        let after_sign = end + 1 + usize::from(unsigned[end + 1..].starts_with(['+', '-']));
        match digits_from(after_sign) {
            0 => {}
            exponent => end = after_sign + exponent,
        }
    }
    let value: f64 = unsigned[..end].parse().ok()?;
    Some((sign * value, &unsigned[end..]))
}

fn sign_of(text: &str) -> (f64, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_as_postgresql_reads_them() {
        let cases = [
            ("10", None, Some(10)),
            (" -3 ", None, Some(-3)),
            ("+7", None, Some(7)),
            ("0644", None, Some(420)),
            ("0x1F", None, Some(31)),
            ("0", None, Some(0)),
            ("08", None, None),
            ("0x", None, None),
            ("30.4", None, Some(30)),
            ("0.5", None, Some(0)),
            ("1.5", None, Some(2)),
            (".5e1", None, Some(5)),
            ("1e3", None, Some(1000)),
            ("1e", None, None),
            ("true", None, None),
            ("", None, None),
            ("-", None, None),
            ("1_000", None, None),
            ("9223372036854775808", None, None),
            ("1e300", None, None),
            ("25MB", None, None),
            ("4097.5kB", Some("kB"), Some(4098)),
            (" 0x400 MB ", Some("16384kB"), Some(64)),
            ("1GB", Some("8kB"), Some(131_072)),
            ("64kB", Some("8kB"), Some(8)),
            ("1KB", Some("kB"), None),
            ("1gB", Some("kB"), None),
            ("5m", Some("s"), None),
            ("5min", Some("s"), Some(300)),
            ("1h", Some("s"), Some(3600)),
            ("2d", Some("s"), Some(172_800)),
            ("1500ms", Some("s"), Some(2)),
            ("500us", Some("ms"), Some(0)),
            ("1 s", Some("kB"), None),
            ("30", Some("8kB"), Some(30)),
            ("-1", Some("8kB"), Some(-1)),
            ("1é", Some("s"), None),
            ("é", None, None),
        ];
        for (text, base, expected) in cases {
            assert_eq!(parse_int(text, base), expected, "{text:?} in {base:?}");
        }
    }

    #[test]
    fn reals_keep_their_fraction() {
        let cases = [
            ("0.25", None, Some(0.25)),
            ("-1.5e-1", None, Some(-0.15)),
            ("010", None, Some(10.0)),
            ("0x10", None, Some(16.0)),
            ("5.", None, Some(5.0)),
            (".", None, None),
            ("1.5s", Some("ms"), Some(1500.0)),
            ("100us", Some("ms"), Some(0.1)),
            ("nan", None, None),
            ("inf", None, None),
            ("1e400", None, None),
        ];
        for (text, base, expected) in cases {
            assert_eq!(parse_real(text, base), expected, "{text:?} in {base:?}");
        }
    }

    #[test]
    fn booleans_are_eight_words_in_any_case() {
        for word in ["on", "True", "YES", "1"] {
            assert_eq!(parse_bool(word), Some(true));
        }
        for word in ["off", "False", "NO", "0"] {
            assert_eq!(parse_bool(word), Some(false));
        }
        for word in ["", " on", "t", "enabled", "2"] {
            assert_eq!(parse_bool(word), None);
        }
    }
}
