//! YAML text to JSON values. Scalars stay as they are written: a number is one only where it is written as JSON would
//! write it, so that `007.50`, `0x1F`, `1e3` and `3.10` reach a name or a password unchanged.
//!
//! Errors tell a place, never a piece of the text but a key's path, since values may hold secrets.

use std::collections::HashMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};
use serde_json::{Map, Value};

/// Deeper documents are no configuration.
const DEPTH_MAX: usize = 64;

/// Aliases repeat what they stand for; more values than this are no configuration.
const VALUES_MAX: usize = 100_000;

/// Why a text is no YAML that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotYaml {
    Syntax(Place),
    DuplicateKey(String, Place),
    At(&'static str, Place),
    Unusable(&'static str),
}

/// Line and column, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    line: usize,
    column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl fmt::Display for NotYaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotYaml::Syntax(place) => write!(f, "text that is not valid YAML at {place}"),
            NotYaml::DuplicateKey(path, place) => write!(f, "duplicate key {path} at {place}"),
            NotYaml::At(what, place) => write!(f, "{what} at {place}"),
            NotYaml::Unusable(what) => f.write_str(what),
        }
    }
}

/// One document, and whether a key or an item has no value at all (`{a}`, not `{a: null}`).
pub struct Composed {
    pub value: Value,
    pub has_empty: bool,
}

pub fn compose(text: &str) -> Result<Composed, NotYaml> {
    let mut composer = Composer {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        path: Vec::new(),
        values: 0,
        has_empty: false,
    };
    let mut value = None;
    loop {
        match composer.next()? {
            (Event::StreamEnd, _) => break,
            (Event::StreamStart | Event::DocumentEnd | Event::Nothing, _) => {}
            (Event::DocumentStart(_), span) if value.is_some() => {
                return Err(NotYaml::At("a second document", place(span)));
            }
            (Event::DocumentStart(_), _) => {
                let (event, span) = composer.next()?;
                value = Some(composer.node(event, span)?);
            }
            (_, span) => return Err(NotYaml::Syntax(place(span))),
        }
    }
    Ok(Composed { value: value.unwrap_or(Value::Null), has_empty: composer.has_empty })
}

struct Composer<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Value>,
    /// The keys above.
    path: Vec<String>,
    values: usize,
    has_empty: bool,
}

impl<'a> Composer<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), NotYaml> {
        let syntax = |error: ScanError| NotYaml::Syntax(place(Span::empty(*error.marker())));
        self.parser.next_event().unwrap_or_else(|| Ok((Event::StreamEnd, Span::default()))).map_err(syntax)
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Value, NotYaml> {
        if self.path.len() > DEPTH_MAX {
            return Err(NotYaml::At("a document that is nested too deeply", place(span)));
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = match tag.as_deref() {
                    None => false,
                    Some(tag) if tag.is_yaml_core_schema() => tag.suffix == "str",
                    Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => true,
                    Some(_) => return Err(NotYaml::At(TAG, place(span))),
                };
                self.has_empty |= text.is_empty() && style == ScalarStyle::Plain && !is_text;
                (anchor, if is_text { Value::from(text.as_ref()) } else { scalar(&text, style) })
            }
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag)
                if tag.as_deref().is_some_and(|tag| !tag.is_yaml_core_schema()) =>
            {
                let _ = anchor;
                return Err(NotYaml::At(TAG, place(span)));
            }
            Event::SequenceStart(anchor, _) => (anchor, self.sequence()?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping()?),
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned();
                (0, value.ok_or(NotYaml::At("an alias within what it stands for", place(span)))?)
            }
            _ => return Err(NotYaml::Syntax(place(span))),
        };
        self.values += count(&value);
        if self.values > VALUES_MAX {
            return Err(NotYaml::At("a document with too many values", place(span)));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn sequence(&mut self) -> Result<Value, NotYaml> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::Array(items));
            }
            self.path.push(items.len().to_string());
            items.push(self.node(event, span)?);
            self.path.pop();
        }
    }

    /// Keys of a merge (`<<`) come after the map's own and never win over them.
    fn mapping(&mut self) -> Result<Value, NotYaml> {
        let (mut map, mut merged) = (Map::new(), Vec::new());
        loop {
            let (event, span) = self.next()?;
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(NotYaml::At("a map with a key that is not text", place(span))),
            };
            self.path.push(key.clone());
            if map.contains_key(&key) {
                return Err(NotYaml::DuplicateKey(self.path.join("."), place(span)));
            }
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span)?;
            self.path.pop();
            match (key.as_str(), value) {
                ("<<", Value::Object(below)) => merged.push(below),
                ("<<", Value::Array(items)) => {
                    for item in items {
                        let Value::Object(below) = item else { return Err(NotYaml::At(MERGE, place(value_span))) };
                        merged.push(below);
                    }
                }
                ("<<", _) => return Err(NotYaml::At(MERGE, place(value_span))),
                (_, value) => drop(map.insert(key, value)),
            }
        }
        for (key, value) in merged.into_iter().flatten() {
            map.entry(key).or_insert(value);
        }
        Ok(Value::Object(map))
    }
}

const TAG: &str = "a YAML tag (a text that begins with ! needs quotes)";
const MERGE: &str = "a merge key (<<) without a map";

fn place(span: Span) -> Place {
    Place { line: span.start.line().max(1), column: span.start.col() + 1 }
}

/// What aliases could multiply.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(count).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

/// Quoted it is text. Plain it is a number or a boolean only where JSON has the same spelling.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::from(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match serde_json::from_str::<Value>(text) {
            Ok(Value::Number(number)) if number.to_string() == text => Value::Number(number),
            Ok(_) | Err(_) => Value::from(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> Result<Value, String> {
        compose(text).map(|composed| composed.value).map_err(|error| error.to_string())
    }

    #[test]
    fn scalars_stay_as_they_are_written() {
        let as_written = [
            "0x1F",
            "1e3",
            "0o17",
            "3.10",
            "007.50",
            "0644",
            "+5",
            ".5",
            "True",
            "12345678901234567890123",
            "1_000",
            "1:30",
            ".inf",
            "-0",
            "2026-01-01",
            "a b",
        ];
        for text in as_written {
            assert_eq!(parsed(text), Ok(json!(text)), "{text}");
            assert_eq!(parsed(&format!("a: {text}")), Ok(json!({ "a": text })), "{text}");
        }
        for (text, value) in [
            ("30", json!(30)),
            ("-5", json!(-5)),
            ("1.5", json!(1.5)),
            ("true", json!(true)),
            ("null", Value::Null),
            ("~", Value::Null),
            ("'30'", json!("30")),
            ("\"true\"", json!("true")),
            ("!!str 30", json!("30")),
        ] {
            assert_eq!(parsed(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_place() {
        let cases = [
            ("etcd3:\n  host: a\n\n  host: b\n", "duplicate key etcd3.host at line 4, column 3"),
            ("a:\n  password: !abc\n", "a YAML tag (a text that begins with ! needs quotes) at line 2, column"),
            ("a: [", "text that is not valid YAML at line"),
            ("? [a]\n: b", "a map with a key that is not text at line 1"),
            ("<<: 5", "a merge key (<<) without a map at line 1"),
            ("a: 1\n---\nb: 2\n", "a second document at line 2"),
            ("a: *b", "text that is not valid YAML at line 1"),
        ];
        for (text, expected) in cases {
            let error = parsed(text).unwrap_err();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
        assert!(!parsed("hunter2: [").unwrap_err().contains("hunter2"));
    }

    #[test]
    fn anchors_and_merge_keys_are_taken_and_no_bomb_is() {
        let text = "base: &b {x: 1, y: 1}\nuse:\n  <<: *b\n  y: 2\nboth: {<<: [*b, {z: 3}]}\n";
        let expected = json!({"base": {"x": 1, "y": 1}, "use": {"y": 2, "x": 1}, "both": {"x": 1, "y": 1, "z": 3}});
        assert_eq!(parsed(text), Ok(expected));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = vec![format!("*a{}", level - 1); 9].join(", ");
            bomb += &format!("a{level}: &a{level} [{below}]\n");
        }
        assert!(parsed(&bomb).unwrap_err().starts_with("a document with too many values"));
        assert!(parsed(&"[".repeat(5000)).is_err());
        assert!(parsed(&(0..200).map(|level| "  ".repeat(level) + "a:\n").collect::<String>()).is_err());
    }

    #[test]
    fn a_key_without_a_value_is_told_from_null() {
        for (text, has_empty) in [("{a}", true), ("{a: }", true), ("{a: null}", false), ("{a: ''}", false), ("", false)]
        {
            assert_eq!(compose(text).map(|composed| composed.has_empty), Ok(has_empty), "{text}");
        }
    }
}
