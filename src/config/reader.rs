//! Typed reading of the merged document. Every path that is asked for is remembered with its value and origin, so that
//! the effective configuration can be shown and keys that nobody asked for can be named.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::document::{Document, leaves};
use super::error::{ConfigError, Report, Reported};
use super::given::Purpose;
use super::machine::NamedFile;
use super::origin::Origin;
use super::{EffectiveLine, HostPort, Secret, redact, units, words};
use crate::core::policy::Switch;

const SWITCH: &str = "on, true, yes, 1, off, false, no or 0";
const HOST_PORT: &str = "host:port with a port of 1 to 65535";

pub(super) struct Reader<'a> {
    pub document: &'a Document,
    pub report: &'a mut Report,
    pub purpose: Purpose,
    /// The files that settings name.
    pub files: Vec<NamedFile>,
    lines: BTreeMap<String, EffectiveLine>,
    asked: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    pub fn new(document: &'a Document, report: &'a mut Report, purpose: Purpose) -> Self {
        Reader { document, report, purpose, files: Vec::new(), lines: BTreeMap::new(), asked: BTreeSet::new() }
    }

    /// The value at a path; `null` and empty text count as absent.
    pub fn value(&mut self, path: &str) -> Option<&'a Value> {
        let document = self.document;
        self.asked.insert(path.to_owned());
        let value = document.get(path)?;
        for (leaf, value) in leaves(path, value) {
            let line = EffectiveLine { value: redact::shown(&leaf, &value), origin: document.origin(&leaf) };
            self.lines.insert(leaf, line);
        }
        Some(value).filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    /// Show a value that no source gave.
    pub fn note(&mut self, path: &str, value: &str, origin: Origin) {
        self.lines.insert(path.to_owned(), EffectiveLine { value: value.to_owned(), origin });
    }

    pub fn error(&mut self, path: &str, given: impl Into<String>, accepted: impl Into<String>) -> Reported {
        let error = ConfigError::new(self.document.place(path), given, accepted);
        self.report.error(error)
    }

    /// The value at this path is not what is expected.
    pub fn wrong(&mut self, path: &str, accepted: &str) -> Reported {
        let given = self.document.get(path).map_or("not set".to_owned(), |value| redact::given(path, value));
        self.error(path, given, accepted)
    }

    /// A variable is not set; unless it is, and wrong, or may stand in a document that could not be read: both have been
    /// reported.
    pub fn missing(&mut self, variable: &str, accepted: &str) -> Reported {
        match self.report.broken_variable(variable).or(self.report.unread_document) {
            Some(reported) => reported,
            None => self.report.error(ConfigError::missing(variable, accepted)),
        }
    }

    /// The same for what only a member needs.
    pub fn missing_of_member(&mut self, variable: &str, accepted: &str) {
        match self.purpose {
            Purpose::Start | Purpose::Reload => drop(self.missing(variable, accepted)),
            Purpose::CommandLine => {}
        }
    }

    pub fn text(&mut self, path: &str) -> Option<String> {
        match self.value(path)? {
            Value::String(text) if !text.contains('\0') => Some(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
            _ => {
                self.wrong(path, "text");
                None
            }
        }
    }

    pub fn text_or(&mut self, path: &str, default: &str) -> String {
        self.text(path).unwrap_or_else(|| {
            self.note(path, default, Origin::Default);
            default.to_owned()
        })
    }

    pub fn path(&mut self, path: &str) -> Option<PathBuf> {
        self.text(path).map(PathBuf::from)
    }

    /// The path of a file that a member cannot start without.
    pub fn file(&mut self, path: &str) -> Option<PathBuf> {
        let file = self.path(path)?;
        self.files.push(NamedFile { place: self.document.place(path), path: file.clone() });
        Some(file)
    }

    pub fn secret(&mut self, path: &str) -> Option<Secret> {
        let text = self.text(path)?;
        if text.contains(['\n', '\0']) {
            self.error(path, "a value with a newline given", "text of one line");
            return None;
        }
        Some(Secret::new(text))
    }

    pub fn switch(&mut self, path: &str) -> Option<Switch> {
        let value = self.value(path)?;
        let switch = as_switch(value);
        if switch.is_none() {
            self.wrong(path, SWITCH);
        }
        switch
    }

    pub fn switch_or(&mut self, path: &str, default: Switch) -> Switch {
        self.switch(path).unwrap_or_else(|| {
            self.note(path, if default.is_on() { "on" } else { "off" }, Origin::Default);
            default
        })
    }

    pub fn whole(&mut self, path: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let number = match self.value(path)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => units::parse_int(text, None),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong(path, &format!("a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    pub fn whole_or(&mut self, path: &str, range: RangeInclusive<i64>, default: i64) -> i64 {
        self.whole(path, range).unwrap_or_else(|| {
            self.note(path, &default.to_string(), Origin::Default);
            default
        })
    }

    /// A list of scalars as texts. A text is a list separated by commas.
    pub fn list(&mut self, path: &str) -> Option<Vec<String>> {
        let texts = match self.value(path)? {
            Value::String(text) => Some(text.split(',').map(|item| item.trim().to_owned()).collect()),
            Value::Array(items) => items.iter().map(scalar).collect(),
            _ => None,
        };
        if texts.is_none() {
            self.wrong(path, "a list of texts");
        }
        texts
    }

    /// A list of lines. A text is one entry a line.
    pub fn lines(&mut self, path: &str) -> Option<Vec<String>> {
        let texts = self.value(path).and_then(as_lines);
        if texts.is_none() && self.value(path).is_some() {
            self.wrong(path, "a list of lines");
        }
        texts
    }

    pub fn map(&mut self, path: &str) -> Option<&'a Map<String, Value>> {
        let map = self.value(path)?.as_object();
        if map.is_none() {
            self.wrong(path, "a map");
        }
        map
    }

    /// A map of scalars as texts.
    pub fn texts(&mut self, path: &str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (key, value) in self.map(path).into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            match scalar(value) {
                Some(text) => drop(texts.insert(key.clone(), text)),
                None => drop(self.wrong(&format!("{path}.{key}"), "text")),
            }
        }
        texts
    }

    /// A command line, split into words.
    pub fn command(&mut self, path: &str) -> Vec<String> {
        let Some(text) = self.text(path) else { return Vec::new() };
        words::split(&text).unwrap_or_else(|| {
            self.error(path, "a command with an open quote given", "a command line in a shell's notation");
            Vec::new()
        })
    }

    pub fn host_port(&mut self, path: &str, default_port: Option<u16>) -> Option<HostPort> {
        let text = self.text(path)?;
        let parsed = parse_host_port(&text, default_port);
        if parsed.is_none() {
            self.wrong(path, HOST_PORT);
        }
        parsed
    }

    /// Name what stands in a document and was never asked for, and what nobody has expanded; the effective configuration.
    pub fn finish(mut self) -> BTreeMap<String, EffectiveLine> {
        let asked = std::mem::take(&mut self.asked);
        let known: BTreeSet<&str> = asked.iter().map(String::as_str).collect();
        let is_asked = |path: &str| {
            let mut ends = path.match_indices('.').map(|(end, _)| &path[..end]);
            known.contains(path) || ends.any(|parent| known.contains(parent))
        };
        let mut unknown: BTreeSet<String> = BTreeSet::new();
        let leaves = leaves("", &Value::Object(self.document.tree().clone()));
        // An empty document is a leaf without a name.
        for (path, value) in leaves.into_iter().filter(|(path, _)| !path.is_empty()) {
            if is_asked(&path) {
                self.refuse_placeholder(&path, &value);
                continue;
            }
            match top_of(&path, &known) {
                Some(top) => drop(unknown.insert(top.to_owned())),
                // A section, with nothing in it.
                None if value.is_null() || value.as_object().is_some_and(Map::is_empty) => {}
                None => drop(self.error(&path, "no map given", "a map")),
            }
        }
        for path in unknown {
            self.warn_unknown(&path);
        }
        self.lines
    }

    pub fn warn_unknown(&mut self, path: &str) {
        let place = self.document.origin(path);
        self.report.warn(format!("{path} of {place} is not a known setting and is ignored"));
    }

    /// A `${NAME}` that something else was to replace, where no shell will. What else is wrong with such a value follows
    /// from that.
    fn refuse_placeholder(&mut self, path: &str, value: &Value) {
        if !has_placeholder(value) || is_for_a_shell(path) {
            return;
        }
        // A password may hold anything. In a variable of its own it is meant as it is, unless it is a placeholder as a whole.
        let is_own = matches!(self.document.origin(path), Origin::Variable(_)) && redact::is_secret(path);
        if is_own
            && !value.as_str().is_some_and(|text| text.starts_with("${") && text.find('}') == Some(text.len() - 1))
        {
            return;
        }
        let place = self.document.place(path);
        self.report.errors.retain(|error| error.at != place);
        let given = match value {
            Value::String(_) => redact::given(path, value),
            _ => "a value with ${…} given".to_owned(),
        };
        self.error(path, given, "the value itself: variables such as ${NAME} are not replaced here");
    }
}

/// Whether there is a `${NAME}`, or one with a default and the like (`${NAME:-x}`).
fn has_placeholder(value: &Value) -> bool {
    match value {
        Value::String(text) => text.split("${").skip(1).any(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            is_name && after.starts_with(['}', ':', '-', '?', '+']) && after.contains('}')
        }),
        Value::Array(items) => items.iter().any(has_placeholder),
        Value::Object(map) => map.values().any(has_placeholder),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Commands in which `${NAME}` may be meant for the shell that runs them: PostgreSQL's parameters, and ours, which may
/// be a `sh -c`.
fn is_for_a_shell(path: &str) -> bool {
    let key = path.rsplit('.').next().unwrap_or(path);
    let is_ours = ["postgresql.callbacks.", "postgresql.pre_promote", "postgresql.before_stop", "bootstrap.post_"]
        .iter()
        .any(|ours| path.starts_with(ours));
    is_ours || key.ends_with("_command")
}

/// The shortest part of a path that no known path lies below: `foo` of `foo.bar.baz`. `None`: known paths lie below the
/// path itself.
fn top_of<'p>(path: &'p str, known: &BTreeSet<&str>) -> Option<&'p str> {
    let ends = path.match_indices('.').map(|(end, _)| end).chain([path.len()]);
    let is_prefix = |part: &str| {
        let below = format!("{part}.");
        known.range(below.as_str()..).next().is_some_and(|known| known.starts_with(&below))
    };
    ends.map(|end| &path[..end]).find(|part| !is_prefix(part))
}

/// `on` and its like, as text or as a boolean.
pub fn as_switch(value: &Value) -> Option<Switch> {
    match value {
        Value::Bool(value) => Some(Switch::from(*value)),
        Value::String(text) => units::parse_bool(text).map(Switch::from),
        Value::Number(number) => units::parse_bool(&number.to_string()).map(Switch::from),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Lines as a list, or as a text of several lines.
pub(super) fn as_lines(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(text.lines().map(str::to_owned).collect()),
        Value::Array(items) => items.iter().map(scalar).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// `null` is absent, at every depth of maps.
pub(super) fn remove_nulls(map: &mut Map<String, Value>) {
    map.retain(|_, value| !value.is_null());
    map.values_mut().filter_map(Value::as_object_mut).for_each(remove_nulls);
}

pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `host:port`, `[v6]:port`; without a port where there is a default. The host comes without brackets.
pub(super) fn parse_host_port(text: &str, default_port: Option<u16>) -> Option<HostPort> {
    let (host, port) = split_port(text.trim())?;
    let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/@,[]'\"\\".contains(c));
    is_host.then_some(())?;
    Some(HostPort { host: host.to_owned(), port: port.or(default_port)? })
}

/// The host and the port at the end, if there is one. Of an address with several colons and no brackets the last part
/// is the port if what remains is an address.
pub(super) fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(parse_port(port)?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match text.rsplit_once(':') {
        None => Some((text, None)),
        Some((host, port)) if !host.contains(':') || is_v6(host) => Some((host, Some(parse_port(port)?))),
        Some(_) => is_v6(text).then_some((text, None)),
    }
}

pub(super) fn parse_port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| *port > 0 && is_plain)
}
