//! Values of parameters as the server spells them.

use serde_json::Value;

/// A configuration value as the server reads it. `None` for `null`, lists and maps.
pub fn value_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(true) => Some("on".to_owned()),
        Value::Bool(false) => Some("off".to_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A boolean as the server reads it (`bool.c`, parse_bool): `on`, `off`, `1`, `0`, and any beginning of `true`, `false`,
/// `yes`, `no`, in any case.
pub fn parse_server_bool(text: &str) -> Option<bool> {
    let text = text.trim().to_ascii_lowercase();
    let begins = |word: &str| !text.is_empty() && word.starts_with(&text);
    match text.as_str() {
        "on" | "1" => Some(true),
        "of" | "off" | "0" => Some(false),
        "o" => None,
        _ if begins("true") || begins("yes") => Some(true),
        _ if begins("false") || begins("no") => Some(false),
        _ => None,
    }
}

/// A number with as few digits as say it exactly: no fraction where there is none.
pub(super) fn number_text(value: f64) -> String {
    match value {
        _ if value.fract() == 0.0 && value.abs() < 1e15 => format!("{value:.0}"),
        _ if value.abs() >= 1e15 => format!("{value:e}"),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_values_become_the_servers() {
        let cases = [
            (json!("a b"), Some("a b")),
            (json!(100), Some("100")),
            (json!(0.9), Some("0.9")),
            (json!(-1), Some("-1")),
            (json!(true), Some("on")),
            (json!(false), Some("off")),
            (json!(null), None),
            (json!([1]), None),
            (json!({"a": 1}), None),
        ];
        for (value, expected) in cases {
            assert_eq!(value_text(&value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn booleans_may_be_cut_short_as_the_server_allows() {
        for text in ["on", "t", "TRUE", "y", "Yes", "1", "tru"] {
            assert_eq!(parse_server_bool(text), Some(true), "{text}");
        }
        for text in ["off", "of", "F", "no", "n", "0"] {
            assert_eq!(parse_server_bool(text), Some(false), "{text}");
        }
        for text in ["", "o", "onn", "trues", "2", "always"] {
            assert_eq!(parse_server_bool(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_written_without_needless_digits() {
        let cases = [(86_400.0, "86400"), (0.5, "0.5"), (-1.0, "-1"), (f64::MAX, "1.7976931348623157e308")];
        for (value, expected) in cases {
            assert_eq!(number_text(value), expected);
        }
    }
}
