//! JSON values as YAML: in blocks for people, in one line for tables.

use serde_json::{Map, Value};

/// Block style, keys sorted.
pub fn block(value: &Value) -> String {
    serde_norway::to_string(&sorted(value)).unwrap_or_else(|_| value.to_string()).trim_end().to_owned()
}

/// `{clonefrom: true, failover_priority: '2'}`, keys sorted.
pub fn flow(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut fields: Vec<_> = object.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{}: {}", word(name), flow(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) => word(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Quoted where it would read as something else.
fn word(text: &str) -> String {
    let reads_back = serde_norway::from_str::<Value>(text).is_ok_and(|value| value == text);
    match reads_back && !text.contains([',', '[', ']', '{', '}', ':', '#', '\'', '"']) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "''")),
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut fields: Vec<_> = object.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(fields.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flow_quotes_what_would_read_as_something_else() {
        let tags =
            json!({"nofailover": false, "failover_priority": "2", "foo": "Bar", "num": 5, "a": ["x: y", "it's"]});
        let expected = "{a: ['x: y', 'it''s'], failover_priority: '2', foo: Bar, nofailover: false, num: 5}";
        assert_eq!(flow(&tags), expected);
    }

    #[test]
    fn blocks_are_sorted() {
        assert_eq!(block(&json!({"b": 1, "a": {"d": true, "c": "x"}})), "a:\n  c: x\n  d: true\nb: 1");
    }
}
