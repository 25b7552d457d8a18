//! Replication slots in the cluster's configuration. The document may be Patroni's: an entry that is wrong is left out and
//! told, and a slot of that name is left alone, since somebody may depend on it. A change that is wrong is refused.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::lenient::{is_something, whole};
use super::problem::Problem;
use super::redact;
use crate::core::policy::{IgnoredSlot, PermanentSlot, Switch};
use crate::core::slots::is_slot_name;

/// In the order in which Patroni looks at them: the first one that is not empty counts.
const KEYS: [&str; 3] = ["permanent_replication_slots", "permanent_slots", "slots"];
const OF_IGNORED: [&str; 4] = ["name", "type", "database", "plugin"];
/// What PostgreSQL keeps of a name.
const NAME_MAX: usize = 63;

/// Permanent slots, and those that are never dropped as unknown.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) permanent: BTreeMap<String, PermanentSlot>,
    pub(super) ignored: Vec<IgnoredSlot>,
    problems: Vec<Problem>,
}

/// What is wrong with this document's slots, where the members have slots of these names; each entry is
/// `key: what is wrong`.
pub fn problems_of_slots(document: &Map<String, Value>, members: &BTreeSet<String>) -> Vec<String> {
    let slots = read(document, Switch::Off);
    let logical = |(_, slot): &(&String, &PermanentSlot)| matches!(slot, PermanentSlot::Logical { .. });
    let of_members = slots.permanent.iter().filter(logical).filter(|(name, _)| members.contains(*name));
    let of_members = of_members.map(|(name, _)| {
        let key = given(document).map_or("slots", |(key, _)| key);
        let what = "this is a member's own slot, which cannot be a logical one; choose another name";
        Problem::new(&format!("{key}.{name}"), what.to_owned())
    });
    slots.problems.iter().cloned().chain(of_members).map(|problem| problem.to_string()).collect()
}

/// Whether a change of these keys is one of slots.
pub fn concerns_slots(body: &Map<String, Value>) -> bool {
    KEYS.iter().chain(&["ignore_slots", "member_slots_ttl"]).any(|key| body.contains_key(*key))
}

fn given(map: &Map<String, Value>) -> Option<(&'static str, &Value)> {
    KEYS.into_iter().find_map(|key| map.get(key).filter(|value| is_something(value)).map(|value| (key, value)))
}

pub(super) fn problems(map: &Map<String, Value>) -> Vec<Problem> {
    read(map, Switch::Off).problems
}

/// `standby`: whether this is a standby cluster.
pub(super) fn read(map: &Map<String, Value>, standby: Switch) -> Slots {
    let mut slots = Slots::default();
    if let Some(value) =
        map.get("member_slots_ttl").filter(|value| !value.is_null() && whole(Some(value), Some("s")).is_none())
    {
        slots.wrong("member_slots_ttl", value, "a time, as 1800 or 30min");
    }
    slots.read_ignored(map.get("ignore_slots"));
    match given(map) {
        None => {}
        Some((key, Value::Object(entries))) => {
            entries.iter().for_each(|(name, entry)| slots.read_permanent(key, name, entry, standby));
        }
        Some((key, other)) => slots.wrong(key, other, "a map of slots"),
    }
    slots
}

impl Slots {
    fn wrong(&mut self, key: &str, value: &Value, accepted: &str) {
        self.problems.push(Problem::new(key, format!("{}, not {accepted}", redact::given(key, value))));
    }

    fn read_permanent(&mut self, key: &str, name: &str, entry: &Value, standby: Switch) {
        let path = format!("{key}.{name}");
        let mut entry_problems = Vec::new();
        if !is_slot_name(name) {
            let what = format!("no name of a slot: 1 to {NAME_MAX} of a to z, 0 to 9 and _");
            entry_problems.push(Problem::new(&path, what));
        }
        let slot = match entry {
            Value::Object(entry) => permanent(&path, entry, &mut entry_problems),
            falsy if !is_something(falsy) => Some(PermanentSlot::Physical),
            other => {
                let what = format!("{}, not a map with type, database and plugin", redact::given(&path, other));
                entry_problems.push(Problem::new(&path, what));
                None
            }
        };
        let of_other_type = entry.get("cluster_type").and_then(Value::as_str).is_some_and(|only| {
            only == (if standby.is_on() { "primary" } else { "standby" }) && slot == Some(PermanentSlot::Physical)
        });
        match slot {
            Some(slot) if entry_problems.is_empty() => {
                // A standby cluster has nothing to decode.
                let is_wanted = !of_other_type && (slot == PermanentSlot::Physical || !standby.is_on());
                self.permanent.extend(is_wanted.then(|| (name.to_owned(), slot)));
            }
            Some(_) | None => {
                self.ignored.push(IgnoredSlot { name: Some(name.to_owned()), ..IgnoredSlot::default() });
            }
        }
        self.problems.append(&mut entry_problems);
    }

    /// A property that is empty is not given.
    fn read_ignored(&mut self, entries: Option<&Value>) {
        let key = "ignore_slots";
        let entries = match entries {
            None | Some(Value::Null) => return,
            Some(Value::Array(entries)) => entries,
            Some(other) => return self.wrong(key, other, "a list of maps"),
        };
        for entry in entries {
            let Value::Object(entry) = entry else {
                self.wrong(key, entry, "a map with any of name, type, database, plugin");
                continue;
            };
            for (property, value) in entry {
                let path = format!("{key}.{property}");
                let is_type = property == "type" && value.as_str().is_some_and(|text| !text.is_empty());
                match value {
                    _ if !OF_IGNORED.contains(&property.as_str()) => {
                        let what = "no property of a slot: name, type, database and plugin are".to_owned();
                        self.problems.push(Problem::new(&path, what));
                    }
                    Value::String(kind) if is_type && !matches!(kind.as_str(), "physical" | "logical") => {
                        self.wrong(&path, value, "physical or logical");
                    }
                    Value::String(_) | Value::Null => {}
                    other => self.wrong(&path, other, "a text"),
                }
            }
            let text =
                |key: &str| entry.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
            let (kind, database, plugin) = (text("type"), text("database"), text("plugin"));
            self.ignored.push(IgnoredSlot { name: text("name"), kind, database, plugin });
        }
    }
}

/// `None`: it is not what it should be.
fn permanent(path: &str, entry: &Map<String, Value>, problems: &mut Vec<Problem>) -> Option<PermanentSlot> {
    let mut wrong = |property: &str, accepted: &str| {
        let path = format!("{path}.{property}");
        let given = redact::given(&path, entry.get(property).unwrap_or(&Value::Null));
        problems.push(Problem::new(&path, format!("{given}, not {accepted}")));
    };
    let is_given = |property: &str| entry.get(property).is_some_and(is_something);
    let text = |property: &str, fits: &dyn Fn(&str) -> bool| {
        entry.get(property).and_then(Value::as_str).filter(|text| fits(text)).map(str::to_owned)
    };
    let is_cluster_type = |text: &str| matches!(text, "primary" | "standby");
    if is_given("cluster_type") && text("cluster_type", &is_cluster_type).is_none() {
        wrong("cluster_type", "primary or standby");
    }
    let is_logical = match entry.get("type").filter(|kind| is_something(kind)) {
        None => is_given("database") && is_given("plugin"),
        Some(Value::String(kind)) if kind == "physical" => false,
        Some(Value::String(kind)) if kind == "logical" => true,
        Some(_) => {
            wrong("type", "physical or logical");
            return None;
        }
    };
    if !is_logical {
        return Some(PermanentSlot::Physical);
    }
    let database = text("database", &|text| (1..=NAME_MAX).contains(&text.len()) && !text.contains('\0'));
    let plugin = text("plugin", &is_plugin);
    if database.is_none() {
        wrong("database", "the name of the database that a logical slot is for");
    }
    if plugin.is_none() {
        wrong("plugin", "the name of an output plugin, as pgoutput: letters, digits, _, - and .");
    }
    Some(PermanentSlot::Logical { database: database?, plugin: plugin? })
}

/// The name of a library in PostgreSQL's own folder: no path.
fn is_plugin(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=NAME_MAX).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('.')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(document: Value) -> Map<String, Value> {
        document.as_object().cloned().expect("a map")
    }

    fn problems_of(document: Value, members: &[&str]) -> Vec<String> {
        problems_of_slots(&map(document), &members.iter().map(|name| (*name).to_owned()).collect())
    }

    fn logical(database: &str, plugin: &str) -> PermanentSlot {
        PermanentSlot::Logical { database: database.to_owned(), plugin: plugin.to_owned() }
    }

    #[test]
    fn every_spelling_of_a_permanent_slot_is_read() {
        let entries = json!({
            "a": null, "b": 0, "c": {}, "d": "", "e": {"type": "physical"}, "f": {"cluster_type": "primary"},
            "g": {"type": "logical", "database": "db", "plugin": "wal2json"}, "h": {"database": "db", "plugin": "pgoutput"},
            "i": {"database": "db"}, "j": {"type": "physical", "lsn": 5}, "k": {"cluster_type": "standby"},
        });
        for key in KEYS {
            let slots = read(&map(json!({ key: entries, "slots": entries })), Switch::Off);
            assert!(slots.problems.is_empty() && slots.ignored.is_empty(), "{:?}", slots.problems);
            let physical = |name: &str| slots.permanent.get(name) == Some(&PermanentSlot::Physical);
            assert!(["a", "b", "c", "d", "e", "f", "i", "j"].into_iter().all(physical), "{:?}", slots.permanent);
            assert_eq!(slots.permanent["g"], logical("db", "wal2json"));
            assert_eq!(slots.permanent["h"], logical("db", "pgoutput"));
            assert_eq!(slots.permanent.len(), 10, "k is for a standby cluster");
        }
        let standby = read(&map(json!({ "slots": entries })), Switch::On);
        let left_out = ["f", "g", "h"].into_iter().filter(|name| standby.permanent.contains_key(*name)).count();
        assert_eq!((standby.permanent.len(), left_out), (8, 0));
    }

    #[test]
    fn the_first_key_that_is_not_empty_counts() {
        let slots = read(
            &map(json!({"permanent_replication_slots": {}, "permanent_slots": {"a": {}}, "slots": {"b": {}}})),
            Switch::Off,
        );
        assert_eq!(slots.permanent.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn what_is_wrong_is_told_at_once_and_its_slot_is_left_alone() {
        let long = "x".repeat(64);
        let document = json!({"slots": {
            "Upper": {}, long.clone(): {}, "": {}, "a": {"type": "other"}, "b": {"type": "logical", "plugin": "../evil"},
            "c": "physical", "d": {"type": "logical", "database": 5, "plugin": ""}, "e": {"cluster_type": "x"}, "good": {},
        }});
        let told = problems_of(document.clone(), &[]);
        assert_eq!(told.len(), 10, "{told:#?}");
        assert!(
            told.contains(&format!("slots.{long}: no name of a slot: 1 to 63 of a to z, 0 to 9 and _")),
            "{told:#?}"
        );
        assert!(
            told.iter().any(|text| text.starts_with("slots.b.plugin: \"../evil\" given, not the name")),
            "{told:#?}"
        );
        assert!(told.iter().any(|text| text.starts_with("slots.d.database: 5 given, not")), "{told:#?}");
        let slots = read(&map(document), Switch::Off);
        assert_eq!(slots.permanent.keys().collect::<Vec<_>>(), ["good"]);
        assert_eq!(slots.ignored.len(), 8);
        assert_eq!(problems_of(json!({"slots": ["a"]}), &[]), ["slots: a list given, not a map of slots"]);
    }

    #[test]
    fn a_members_name_is_no_logical_slot() {
        let document = json!({"permanent_slots": {"n1": {"database": "a", "plugin": "pgoutput"}, "n2": {}}});
        assert_eq!(problems_of(document.clone(), &["n3"]), [""; 0]);
        let told = problems_of(document, &["n1", "n2"]);
        assert!(told.len() == 1 && told[0].starts_with("permanent_slots.n1: this is a member's own slot"), "{told:?}");
    }

    #[test]
    fn ignored_slots_are_read() {
        let document = json!({"ignore_slots": [{"name": "x", "type": "physical", "plugin": ""}, {}, "x", {"kind": "y"},
                                               {"type": "other", "database": 7}], "member_slots_ttl": []});
        let text = |text: &str| Some(text.to_owned());
        let first = IgnoredSlot { name: text("x"), kind: text("physical"), ..IgnoredSlot::default() };
        let slots = read(&map(document), Switch::Off);
        assert_eq!(
            (&slots.ignored[0], slots.ignored.len(), slots.problems.len()),
            (&first, 4, 5),
            "{:?}",
            slots.problems
        );
        assert!(
            read(&map(json!({"ignore_slots": null, "slots": null, "member_slots_ttl": "30min"})), Switch::Off)
                .problems
                .is_empty()
        );
    }
}
