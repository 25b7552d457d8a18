//! Values of the cluster's configuration as Patroni reads them.

use serde_json::Value;

use super::units;

/// A whole number that is not negative; a negative one is 0. `None` for anything that is no number.
pub(super) fn whole(value: Option<&Value>, unit: Option<&str>) -> Option<u64> {
    let number = match value? {
        Value::Number(number) => number.as_f64()?.round_ties_even(),
        Value::String(text) => units::parse_int(text, unit)? as f64,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(number.max(0.0) as u64)
}

/// What Python takes for true.
pub(super) fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}
