//! The notations of lists, lines and maps in variables: YAML (JSON is part of it), or a shorter form.

use serde_json::{Map, Value};

use super::compose::{NotYaml, compose};

fn parse(text: &str) -> Result<Value, NotYaml> {
    compose(text).map(|composed| composed.value)
}

/// A variable's list: YAML when it begins with `-` or holds a `[`, else its entries separated by commas
///. Endpoints such as `[::1]:2379,[::2]:2379` are a list too.
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

/// A variable's map: YAML when it begins with `{`, else its entries separated by commas, or one a line. Each key has a
/// value, be it `null`: a text that is no map at all reads as one key without a value.
pub fn map(text: &str) -> Result<Map<String, Value>, NotYaml> {
    let text = text.trim();
    let parsed = match text.starts_with('{') {
        true => compose(text),
        false => compose(&format!("{{{text}}}")).or_else(|error| match text.contains('\n') {
            true => compose(text).map_err(|_| error),
            false => Err(error),
        }),
    };
    match parsed? {
        composed if composed.has_empty => Err(NotYaml::Unusable("a key without a value")),
        composed => match composed.value {
            Value::Object(map) => Ok(map),
            _ => Err(NotYaml::Unusable("YAML that is not a map")),
        },
    }
}

/// Options of a program: a map when it begins with `{`, else a list. A key without a value is an option without one.
pub fn options(text: &str) -> Result<Value, NotYaml> {
    let text = text.trim();
    if !text.starts_with('{') {
        return list(text).map(Value::Array);
    }
    match parse(text)? {
        map @ Value::Object(_) => Ok(map),
        _ => Err(NotYaml::Unusable("YAML that is not a map")),
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
        assert_eq!(Value::Object(map("a: 1, b: null").unwrap()), json!({"a": 1, "b": null}));
        for wrong in ["bad", "{a: 1", "{a}", "a:", "[a]"] {
            assert!(map(wrong).is_err(), "{wrong}");
        }
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
}
