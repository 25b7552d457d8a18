//! All sources laid over one another: a file, a folder or PATRONI_CONFIGURATION below, single variables on top, and
//! for each value where it came from.
//!
//! Nothing is checked here but that variables can be read as what they are. Where a variable beats another value, a
//! warning says so.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::error::{ConfigError, Report};
use super::origin::Origin;
use super::raw::{Kind, Needs, RawEnv, Variable};
use super::{redact, sources, units, yaml};

/// A variable that sets a part of the cluster's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterVariable {
    pub name: String,
    /// Below the `config` document.
    pub path: String,
    pub value: Value,
}

/// The merged sources.
#[derive(Default)]
pub(super) struct Document {
    tree: Map<String, Value>,
    origins: BTreeMap<String, Origin>,
    /// The document below the variables; `None`: there is none.
    pub base: Option<Map<String, Value>>,
    pub cluster_variables: Vec<ClusterVariable>,
}

impl Document {
    pub fn gather(raw: &RawEnv, file: Option<&Path>, report: &mut Report) -> Document {
        let mut document = Document::default();
        let texts = sources::texts(raw, report);
        let below = sources::documents(&texts, file, report);
        let is_any = !below.is_empty();
        for (tree, origin) in below {
            document.lay_over(tree, &origin);
        }
        document.base = is_any.then(|| document.tree.clone());
        for text in texts.iter().filter(|text| text.variable.kind != Kind::Document) {
            if let Some(value) = read(text.variable, &text.name, &text.text, report) {
                document.set(text.variable, &text.name, value, report);
            }
        }
        document
    }

    pub fn get(&self, path: &str) -> Option<&Value> {
        let mut keys = path.split('.');
        let mut value = self.tree.get(keys.next()?)?;
        for key in keys {
            value = value.as_object()?.get(key)?;
        }
        Some(value)
    }

    pub fn tree(&self) -> &Map<String, Value> {
        &self.tree
    }

    /// Where the value at this path, or the part of it that came first, is from.
    pub fn origin(&self, path: &str) -> Origin {
        let mut at = path;
        loop {
            if let Some(origin) = self.origins.get(at) {
                return origin.clone();
            }
            match at.rsplit_once('.') {
                Some((parent, _)) => at = parent,
                None => break,
            }
        }
        let below = format!("{path}.");
        let mut inside = self.origins.range(below.clone()..).take_while(|(at, _)| at.starts_with(&below));
        inside.next().map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// The place of a value as errors name it: the variable, or the path and its document.
    pub fn place(&self, path: &str) -> String {
        match self.origin(path) {
            Origin::Variable(name) => name,
            Origin::Option(name) => name.to_owned(),
            Origin::Default | Origin::Machine(_) => path.to_owned(),
            origin @ (Origin::Configuration | Origin::File(_)) => format!("{path} in {origin}"),
        }
    }

    /// Merge a document over what is there: maps recursively, `null` removes, everything else replaces.
    fn lay_over(&mut self, tree: Map<String, Value>, origin: &Origin) {
        for (path, _) in leaves("", &Value::Object(tree.clone())) {
            self.forget(&path);
            self.origins.insert(path, origin.clone());
        }
        let is_first = self.tree.is_empty();
        merge(&mut self.tree, tree, if is_first { Nulls::Keep } else { Nulls::Remove });
    }

    fn set(&mut self, variable: &'static Variable, name: &str, value: Value, report: &mut Report) {
        let path = variable.path;
        for (leaf, value) in leaves(path, &value) {
            let old = self.get(&leaf).filter(|old| !is_same(old, &value) && !old.is_null());
            if let Some(old) = old {
                let (old, from) = (redact::shown(&leaf, old), self.origin(&leaf));
                let new = redact::shown(&leaf, &value);
                report.warn(format!("{name} ({new}) wins over {leaf}: {old} of {from}"));
            }
            self.forget(&leaf);
            self.origins.insert(leaf, Origin::Variable(name.to_owned()));
        }
        if variable.needs == Needs::Cluster {
            let path = path.strip_prefix("bootstrap.dcs").unwrap_or(path).trim_start_matches('.').to_owned();
            self.cluster_variables.push(ClusterVariable { name: name.to_owned(), path, value: value.clone() });
        }
        self.put(path, value);
    }

    /// What a command is told by an option, whatever stood there.
    pub fn set_option(&mut self, path: &str, option: &'static str, value: &str) {
        self.forget(path);
        self.origins.insert(path.to_owned(), Origin::Option(option));
        self.put(path, value.into());
    }

    fn put(&mut self, path: &str, value: Value) {
        let nested =
            path.rsplit('.').fold(value, |value, key| Value::Object(Map::from_iter([(key.to_owned(), value)])));
        if let Value::Object(nested) = nested {
            merge(&mut self.tree, nested, Nulls::Keep);
        }
    }

    fn forget(&mut self, path: &str) {
        let below = format!("{path}.");
        self.origins.retain(|at, _| at != path && !at.starts_with(&below));
    }
}

/// Whether `null` removes a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nulls {
    Keep,
    Remove,
}

fn merge(into: &mut Map<String, Value>, from: Map<String, Value>, nulls: Nulls) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new, nulls),
            (_, Value::Null) if nulls == Nulls::Remove => drop(into.shift_remove(&key)),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// Every scalar and list in a value with its path; an empty map is one as well.
pub(super) fn leaves(path: &str, value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            map.iter().flat_map(|(key, value)| leaves(&join(key), value)).collect()
        }
        _ => vec![(path.to_owned(), value.clone())],
    }
}

/// Whether two values mean the same although one may be text: `30` and `"30"`, `true` and `on`.
pub(super) fn is_same(one: &Value, other: &Value) -> bool {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let switch = |value: &Value| match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) => units::parse_bool(text),
        _ => None,
    };
    text(one) == text(other) || (switch(one).is_some() && switch(one) == switch(other))
}

/// A variable's text as a value. What cannot be read is an error that names the variable.
fn read(variable: &Variable, name: &str, text: &str, report: &mut Report) -> Option<Value> {
    let whole = |unit| units::parse_int(text, unit).filter(|number| *number >= 0).map(Value::from);
    let refused = || redact::given(variable.path, &Value::from(text));
    let value = match variable.kind {
        Kind::Text | Kind::FileText | Kind::SecretUrl | Kind::Document => Ok(Value::from(text)),
        Kind::Secret if text.contains(['\n', '\0']) => Err("a value with a newline given".to_owned()),
        Kind::Secret => Ok(Value::from(text)),
        Kind::Switch => units::parse_bool(text).map(Value::from).ok_or_else(refused),
        Kind::SyncMode if text.eq_ignore_ascii_case("quorum") => Ok(Value::from("quorum")),
        Kind::SyncMode => units::parse_bool(text).map(Value::from).ok_or_else(refused),
        Kind::Whole => whole(None).ok_or_else(refused),
        Kind::Seconds => whole(Some("s")).ok_or_else(refused),
        Kind::List => yaml::list(text).map(Value::from).map_err(|error| error.to_string()),
        Kind::Lines => yaml::lines(text).map(Value::from).map_err(|error| error.to_string()),
        Kind::Map => yaml::map(text).map(Value::Object).map_err(|error| error.to_string()),
        Kind::Options => yaml::options(text).map_err(|error| error.to_string()),
    };
    let error = |given| ConfigError::new(name, given, variable.kind.accepted());
    value.map_err(|given| report.broken(&variable.name(), error(given))).ok()
}
