//! The header `Warning` (RFC 7234, 5.5): what an answer's code does not tell.

use hyper::header::HeaderValue;

/// 299: miscellaneous, persistent.
const BEFORE: &str = "299 tamada \"";
const AFTER: &str = "\"";

/// Longer ones are cut.
const LENGTH_MAX: usize = 500;

/// What HTTP does not allow in a text is shown as `?`.
pub fn header(text: &str) -> Option<HeaderValue> {
    let shown = text.chars().take(LENGTH_MAX).map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' });
    let escaped: String = shown.flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c])).collect();
    HeaderValue::try_from(format!("{BEFORE}{escaped}{AFTER}")).ok()
}

/// The text of a header that a member wrote.
pub fn text(value: &HeaderValue) -> Option<String> {
    let escaped = value.to_str().ok()?.strip_prefix(BEFORE)?.strip_suffix(AFTER)?;
    let mut text = String::with_capacity(escaped.len());
    let mut chars = escaped.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_out_as_it_went_in() {
        for plain in ["", "ttll has no effect", r#"a "quoted" \ name\"#] {
            assert_eq!(header(plain).as_ref().and_then(text).as_deref(), Some(plain));
        }
        assert_eq!(header("a").expect("a value"), "299 tamada \"a\"");
        assert_eq!(header("a\r\nX: é").as_ref().and_then(text).as_deref(), Some("a??X: ?"));
        assert!(header(&"x".repeat(10_000)).is_some_and(|value| value.len() < 600));
        assert_eq!(text(&HeaderValue::from_static("110 - \"Response is Stale\"")), None);
    }
}
