//! YAML (and JSON, which is part of it) to JSON values, and the notations of lists and maps in variables.
//!
//! YAML 1.2 as the parser has it: `on`, `off`, `yes`, `no` and `0644` stay text here; whoever expects a boolean or a
//! number reads such text as one. Errors tell a place, never a piece of the text, since that may hold secrets.

use std::fmt;

use serde_json::{Map, Value};
use serde_norway::Value as Yaml;

/// Why a text is no YAML that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotYaml {
    Syntax { line: usize, column: usize },
    Unusable(&'static str),
}

impl fmt::Display for NotYaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotYaml::Syntax { line: 0, .. } => f.write_str("text that is not valid YAML"),
            NotYaml::Syntax { line, column } => {
                write!(f, "text that is not valid YAML at line {line}, column {column}")
            }
            NotYaml::Unusable(why) => f.write_str(why),
        }
    }
}

/// One document.
pub fn parse(text: &str) -> Result<Value, NotYaml> {
    let syntax = |error: serde_norway::Error| match error.location() {
        Some(location) => NotYaml::Syntax { line: location.line(), column: location.column() },
        None => NotYaml::Syntax { line: 0, column: 0 },
    };
    let mut yaml: Yaml = serde_norway::from_str(text).map_err(syntax)?;
    yaml.apply_merge().map_err(|_| NotYaml::Unusable("a merge key (<<) without a map"))?;
    to_json(yaml)
}

fn to_json(yaml: Yaml) -> Result<Value, NotYaml> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::Number(number) => serde_json::to_value(&number)
            .ok()
            .filter(|value| value.is_number())
            .unwrap_or_else(|| Value::String(number.to_string())),
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(to_json).collect::<Result<_, _>>()?),
        Yaml::Mapping(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                map.insert(key_text(key)?, to_json(value)?);
            }
            Value::Object(map)
        }
        Yaml::Tagged(_) => return Err(NotYaml::Unusable("a YAML tag (!…)")),
    })
}

fn key_text(key: Yaml) -> Result<String, NotYaml> {
    match key {
        Yaml::String(text) => Ok(text),
        Yaml::Number(number) => Ok(number.to_string()),
        Yaml::Bool(value) => Ok(value.to_string()),
        Yaml::Null | Yaml::Sequence(_) | Yaml::Mapping(_) | Yaml::Tagged(_) => {
            Err(NotYaml::Unusable("a map with a key that is not text"))
        }
    }
}

/// A variable's list: YAML when it begins with `-` or holds a `[`, else its entries separated by commas
/// (`configuration.md` 2). Endpoints such as `[::1]:2379,[::2]:2379` are a list too.
pub fn list(text: &str) -> Result<Vec<Value>, NotYaml> {
    let text = text.trim();
    let is_yaml = text.starts_with('-') || text.contains('[');
    let parsed = parse(&if is_yaml { text.to_owned() } else { format!("[{text}]") });
    match parsed {
        Ok(Value::Array(items)) => Ok(items),
        Ok(_) | Err(_) if is_endpoints(text) => {
            Ok(text.split(',').map(|endpoint| Value::from(endpoint.trim())).collect())
        }
        Ok(_) => Err(NotYaml::Unusable("YAML that is not a list")),
        Err(error) => Err(error),
    }
}

fn is_endpoints(text: &str) -> bool {
    let is_endpoint = |part: &str| part.parse::<std::net::SocketAddrV6>().is_ok();
    text.split(',').any(|part| is_endpoint(part.trim())) && !text.contains(['\'', '"', '\n'])
}

/// A variable's lines: a YAML list when it begins with `-` or `[`, else one entry a line. A comma separates entries of
/// `pg_hba` only before a connection type, since commas also separate databases and users in one entry.
pub fn lines(text: &str) -> Result<Vec<Value>, NotYaml> {
    let text = text.trim();
    if text.starts_with(['-', '[']) {
        return match parse(text)? {
            Value::Array(items) => Ok(items),
            _ => Err(NotYaml::Unusable("YAML that is not a list")),
        };
    }
    const TYPES: [&str; 6] = ["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"];
    let begins_entry =
        |text: &str| text.split_once([' ', '\t']).is_some_and(|(word, _)| TYPES.contains(&word.trim_matches('"')));
    let mut entries: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut begun = false;
        for part in line.split(',') {
            match entries.last_mut() {
                Some(entry) if begun && !begins_entry(part.trim_start()) => {
                    entry.push(',');
                    entry.push_str(part);
                }
                _ => entries.push(part.trim().to_owned()),
            }
            begun = true;
        }
    }
    Ok(entries.into_iter().map(Value::from).collect())
}

/// A variable's map: YAML when it begins with `{`, else its entries separated by commas, or one a line.
pub fn map(text: &str) -> Result<Map<String, Value>, NotYaml> {
    let text = text.trim();
    let parsed = match text.starts_with('{') {
        true => parse(text),
        false => parse(&format!("{{{text}}}")).or_else(|error| match text.contains('\n') {
            true => parse(text).map_err(|_| error),
            false => Err(error),
        }),
    };
    match parsed? {
        Value::Object(map) => Ok(map),
        _ => Err(NotYaml::Unusable("YAML that is not a map")),
    }
}

/// Options of a program: a map when it begins with `{`, else a list.
pub fn options(text: &str) -> Result<Value, NotYaml> {
    match text.trim().starts_with('{') {
        true => map(text).map(Value::Object),
        false => list(text).map(Value::Array),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_read_in_every_notation() {
        let two = json!(["a:2379", "b:2379"]);
        for text in ["'a:2379','b:2379'", "a:2379,b:2379", "[\"a:2379\",\"b:2379\"]", "- a:2379\n- b:2379"] {
            assert_eq!(Value::Array(list(text).unwrap()), two, "{text}");
        }
        assert_eq!(list("[::1]:1,[::2]:2").unwrap(), [json!("[::1]:1"), json!("[::2]:2")]);
        assert_eq!(list("10.0.0.1:2379").unwrap(), [json!("10.0.0.1:2379")]);
        assert!(list("[a:2379").is_err());
        assert!(list("a: [b]").is_err());
    }

    #[test]
    fn maps_are_read_in_every_notation() {
        let expected = json!({"a": 1, "b": "x, y"});
        for text in ["a: 1, b: 'x, y'", "{a: 1, b: 'x, y'}", "a: 1\nb: x, y", r#"{"a":1,"b":"x, y"}"#] {
            assert_eq!(Value::Object(map(text).unwrap()), expected, "{text}");
        }
        assert_eq!(Value::Object(map("bad").unwrap()), json!({"bad": null}));
        assert!(map("{a: 1").is_err());
    }

    #[test]
    fn lines_of_pg_hba_keep_their_own_commas() {
        let cases = [
            ("local all all peer", json!(["local all all peer"])),
            (
                "local all all peer\n\n host a,b c 10.0.0.0/8 md5 ",
                json!(["local all all peer", "host a,b c 10.0.0.0/8 md5"]),
            ),
            ("local all all peer,host a,b all all md5", json!(["local all all peer", "host a,b all all md5"])),
            ("- local all all peer", json!(["local all all peer"])),
            ("[\"local all all peer\"]", json!(["local all all peer"])),
        ];
        for (text, expected) in cases {
            assert_eq!(Value::Array(lines(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn documents_keep_words_and_merge_keys_but_no_tags() {
        let text = "base: &b {x: 1}\nuse:\n  <<: *b\n  on: yes\n5: 0644\n";
        assert_eq!(parse(text).unwrap(), json!({"base": {"x": 1}, "use": {"x": 1, "on": "yes"}, "5": "0644"}));
        assert!(parse("a: !secret x").is_err());
        assert!(parse("? [a]\n: b").is_err());
        assert!(!parse("hunter2: [").unwrap_err().to_string().contains("hunter2"));
    }
}
