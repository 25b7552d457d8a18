//! Command lines: text to words as a POSIX shell splits it, without any expansion.
//!
//! Not the crate `shlex`: it takes a word that begins with `#` for the start of a comment and drops the rest. Patroni
//! splits with Python's `shlex.split`, which does not.

/// The words of a command line. `None`: a quote is not closed, or a backslash ends the text.
pub fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(chars.next()?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

fn double_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        match chars.next()? {
            '"' => return Some(()),
            '\\' => match chars.next()? {
                escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
}

/// A value that is quoted as a whole, without its quotes; any other as it stands.
pub fn unquote(value: &str) -> String {
    let is_quoted = value.len() >= 2 && value.starts_with(['\'', '"']) && value.ends_with(&value[..1]);
    // A quote of the same kind inside means several quoted parts.
    let inner_is_plain = is_quoted && !value[1..value.len() - 1].contains(&value[..1]);
    match split(value) {
        Some(words) if inner_is_plain && words.len() == 1 => words.concat(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_a_shell_does() {
        let cases: [(&str, Option<&[&str]>); 9] = [
            ("", Some(&[])),
            ("  a  b\tc\n", Some(&["a", "b", "c"])),
            ("--locale='C UTF' x", Some(&["--locale=C UTF", "x"])),
            (r#"a "b \" c" '' d\ e"#, Some(&["a", "b \" c", "", "d e"])),
            (r#""a\n""#, Some(&["a\\n"])),
            ("/cb #1 b", Some(&["/cb", "#1", "b"])),
            ("'open", None),
            ("\"open", None),
            ("end\\", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|words| words.iter().map(|word| word.to_string()).collect::<Vec<_>>());
            assert_eq!(split(text), expected, "{text:?}");
        }
    }

    #[test]
    fn only_values_quoted_as_a_whole_lose_their_quotes() {
        let cases = [
            ("\"bar baz\"", "bar baz"),
            ("'bar baz'", "bar baz"),
            ("plain", "plain"),
            ("\"open", "\"open"),
            ("'a' 'b'", "'a' 'b'"),
            ("a 'b'", "a 'b'"),
            ("'", "'"),
            ("''", ""),
        ];
        for (value, expected) in cases {
            assert_eq!(unquote(value), expected, "{value:?}");
        }
    }
}
