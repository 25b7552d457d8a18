//! Synchronous replication in the cluster's configuration.

use serde_json::{Map, Value};

use super::problem::Problem;
use super::reader::as_switch;
use super::{redact, units};
use crate::core::policy::{Switch, SyncMode, Synchronous};

/// A value of the wrong kind is a problem of the whole document: what commits wait for is not guessed.
pub(super) fn read(map: &Map<String, Value>, problems: &mut Vec<Problem>) -> Synchronous {
    let default = Synchronous::default();
    let mut given = |key: &str, accepted: &str, read: &dyn Fn(&Value) -> Option<i64>| {
        let value = map.get(key).filter(|value| !value.is_null())?;
        let number = read(value);
        if number.is_none() {
            problems.push(Problem::new(key, format!("{}, not {accepted}", redact::given(key, value))));
        }
        number
    };
    let mode = given("synchronous_mode", "on, off or quorum", &|value| synchronous_mode(value).map(|mode| mode as i64));
    let strict = given("synchronous_mode_strict", "on or off", &|value| Some(i64::from(as_switch(value)?.is_on())));
    let count = given("synchronous_node_count", "a whole number from 1", &|value| whole(value).filter(|n| *n >= 1));
    let lag = given("maximum_lag_on_syncnode", "a number of bytes, or -1 for any", &|value| {
        whole(value).filter(|n| *n >= -1)
    });
    Synchronous {
        mode: match mode {
            Some(mode) if mode == SyncMode::Priority as i64 => SyncMode::Priority,
            Some(mode) if mode == SyncMode::Quorum as i64 => SyncMode::Quorum,
            Some(_) | None => SyncMode::Off,
        },
        strict: Switch::from(strict == Some(1)),
        node_count: count.and_then(|count| usize::try_from(count).ok()).unwrap_or(default.node_count),
        maximum_lag: lag.filter(|lag| *lag > 0).and_then(|lag| u64::try_from(lag).ok()),
    }
}

/// `synchronous_mode`; `None`: the value is none that it can have.
pub fn synchronous_mode(value: &Value) -> Option<SyncMode> {
    if value.as_str().is_some_and(|text| text.trim().eq_ignore_ascii_case("quorum")) {
        return Some(SyncMode::Quorum);
    }
    as_switch(value).map(|switch| if switch.is_on() { SyncMode::Priority } else { SyncMode::Off })
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => {
            number.as_i64().or_else(|| number.as_f64().map(|number| number.round_ties_even() as i64))
        }
        Value::String(text) => units::parse_int(text, None),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(document: Value) -> Result<Synchronous, Vec<String>> {
        let mut problems = Vec::new();
        let read = read(document.as_object().expect("a map"), &mut problems);
        if problems.is_empty() { Ok(read) } else { Err(problems.iter().map(ToString::to_string).collect()) }
    }

    #[test]
    fn every_spelling_of_the_mode_is_read() {
        let mode = |value: Value| parsed(json!({ "synchronous_mode": value })).map(|sync| sync.mode);
        for on in [json!(true), json!("on"), json!("True"), json!(1)] {
            assert_eq!(mode(on), Ok(SyncMode::Priority));
        }
        for off in [json!(false), json!("off"), json!(0), Value::Null] {
            assert_eq!(mode(off), Ok(SyncMode::Off));
        }
        assert_eq!(mode(json!("QUORUM")), Ok(SyncMode::Quorum));
    }

    #[test]
    fn numbers_and_units_are_read() {
        let document = json!({"synchronous_mode_strict": "yes", "synchronous_node_count": "2",
                              "maximum_lag_on_syncnode": "1048576"});
        let expected =
            Synchronous { strict: Switch::On, node_count: 2, maximum_lag: Some(1_048_576), ..Synchronous::default() };
        assert_eq!(parsed(document), Ok(expected));
        assert_eq!(parsed(json!({"maximum_lag_on_syncnode": -1})), Ok(Synchronous::default()));
    }

    #[test]
    fn what_is_wrong_is_told_by_name() {
        let document = json!({"synchronous_mode": "maybe", "synchronous_mode_strict": 7, "synchronous_node_count": 0,
                              "maximum_lag_on_syncnode": [1]});
        let told = parsed(document).expect_err("four problems");
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!(told[0], "synchronous_mode: \"maybe\" given, not on, off or quorum");
        assert!(told[2].starts_with("synchronous_node_count: 0 given, not a whole number from 1"), "{told:?}");
    }
}
