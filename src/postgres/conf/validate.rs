//! What of the wanted parameters may be written to `postgresql.conf` of this server version.
//!
//! A server does not start with a file that it does not understand, so what is wrong is put right or left out, with a
//! warning for each (returned, not logged). The limits are those of [`super::rules`].

use std::collections::BTreeSet;
use std::fmt;

use crate::config::units;
use crate::postgres::version::Version;

use super::rules::{self, NumberKind, Rule};
use super::values::number_text;
use super::{Parameters, parse_server_bool, recovery};

/// The names that `postgres --describe-config` prints, in lower case.
pub type KnownNames = BTreeSet<String>;

/// Reads the output of `postgres --describe-config`: a line for each parameter, its name before the first tab.
pub fn known_names(output: &str) -> KnownNames {
    let name = |line: &str| line.split('\t').next().map(|name| name.trim().to_ascii_lowercase());
    output.lines().filter_map(name).filter(|name| !name.is_empty()).collect()
}

/// Something that was not taken as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub name: String,
    pub value: String,
    pub done: Done,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Out of range; this was taken instead.
    Clamped(String),
    /// A controlled parameter with a value that it may not have; this default was taken.
    Defaulted(String),
    /// Nobody but the agent sets this one.
    Ignored,
    /// Not a value that this parameter can have.
    DroppedValue,
    /// Not a parameter of this server.
    DroppedName,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Warning { name, value, done } = self;
        match done {
            Done::Clamped(used) => write!(f, "parameter {name}: {value:?} is out of range, {used:?} is used instead"),
            Done::Defaulted(used) => write!(f, "parameter {name}: {value:?} is not allowed, {used:?} is used instead"),
            Done::Ignored => write!(f, "parameter {name} is set by the agent alone, {value:?} is ignored"),
            Done::DroppedValue => write!(f, "parameter {name}: {value:?} is not a value it can have, left out"),
            Done::DroppedName => write!(f, "parameter {name} = {value:?} is not known to this server, left out"),
        }
    }
}

/// The part of `parameters` that the file may hold. Recovery parameters are left out silently: they have a block of
/// their own.
pub fn validate(parameters: &Parameters, version: Version, known: &KnownNames) -> (Parameters, Vec<Warning>) {
    let mut valid = Parameters::new();
    let mut warnings = Vec::new();
    for (name, value) in parameters.iter().filter(|(name, _)| !recovery::is_recovery_parameter(name)) {
        let done = match check(name, value, version, known) {
            Ok(()) => {
                valid.insert(name.clone(), value.clone());
                continue;
            }
            Err(done) => done,
        };
        if let Done::Clamped(used) = &done {
            valid.insert(name.clone(), used.clone());
        }
        warnings.push(Warning { name: name.clone(), value: value.clone(), done });
    }
    (valid, warnings)
}

fn check(name: &str, value: &str, version: Version, known: &KnownNames) -> Result<(), Done> {
    if !is_a_name(name) {
        return Err(Done::DroppedName);
    }
    if value.contains('\0') {
        return Err(Done::DroppedValue);
    }
    match rules::rule(name, version) {
        Some(rule) => check_value(value, rule),
        None if name.contains('.') || known.contains(name) => Ok(()),
        None => Err(Done::DroppedName),
    }
}

/// Anything else could not be read back from the file, or would be another line of it.
fn is_a_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    let later = |c: char| first(c) || c.is_ascii_digit() || c == '$';
    name.split('.').all(|part| part.starts_with(first) && part.chars().all(later)) && name.split('.').count() <= 2
}

/// Whether a value keeps this rule. `Err(Clamped)` has the nearest one that does.
pub fn check_value(value: &str, rule: Rule) -> Result<(), Done> {
    let is_among = |words: &[&str]| words.contains(&value.to_lowercase().as_str());
    let fits = match rule {
        Rule::Text => true,
        Rule::Bool => parse_server_bool(value).is_some(),
        Rule::Words(words) => is_among(words),
        Rule::BoolOrWords(words) => parse_server_bool(value).is_some() || is_among(words),
        Rule::Number { kind, unit, min, max } => return check_number(value, kind, unit, min, max),
    };
    if fits { Ok(()) } else { Err(Done::DroppedValue) }
}

fn check_number(value: &str, kind: NumberKind, unit: Option<&str>, min: f64, max: f64) -> Result<(), Done> {
    let number = match kind {
        NumberKind::Integer => units::parse_int(value, unit).map(|number| number as f64),
        NumberKind::Real => units::parse_real(value, unit),
    };
    match number {
        None => Err(Done::DroppedValue),
        Some(number) if number < min => Err(Done::Clamped(number_text(min))),
        Some(number) if number > max => Err(Done::Clamped(number_text(max))),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V15: Version = Version::new(15, 18);

    fn one(name: &str, value: &str, version: Version) -> Result<String, Done> {
        let known = known_names("server_new_knob\tx\ty\nEnable_Foo\tx\n\n");
        let parameters = Parameters::from([(name.to_owned(), value.to_owned())]);
        let (valid, mut warnings) = validate(&parameters, version, &known);
        match (valid.get(name), warnings.pop()) {
            (Some(kept), None) => Ok(kept.clone()),
            (kept, Some(Warning { done, .. })) => {
                assert_eq!(kept.cloned(), if let Done::Clamped(used) = &done { Some(used.clone()) } else { None });
                Err(done)
            }
            (None, None) => Ok("(left out)".to_owned()),
        }
    }

    #[test]
    fn numbers_out_of_range_take_the_nearest_limit() {
        let cases = [
            ("shared_buffers", "64kB", "16"),
            ("work_mem", "32kB", "64"),
            ("checkpoint_timeout", "2d", "86400"),
            ("max_connections", "300000", "262143"),
            ("checkpoint_completion_target", "1.5", "1"),
            ("vacuum_cost_delay", "1s", "100"),
        ];
        for (name, value, expected) in cases {
            assert_eq!(one(name, value, V15), Err(Done::Clamped(expected.to_owned())), "{name}");
        }
    }

    #[test]
    fn values_in_range_stay_as_they_were_given() {
        let cases = [
            ("work_mem", "9MB"),
            ("shared_buffers", "1GB"),
            ("wal_buffers", "-1"),
            ("random_page_cost", "1.1"),
            ("archive_mode", "on"),
            ("archive_mode", "Always"),
            ("wal_compression", "zstd"),
            ("log_line_prefix", "it's %m"),
            ("timezone", "UTC"),
            ("server_new_knob", "x"),
            ("enable_foo", "x"),
            ("pg_stat_statements.max", "10000"),
            ("jit_above_cost", "1e5"),
        ];
        for (name, value) in cases {
            assert_eq!(one(name, value, V15), Ok(value.to_owned()), "{name}");
        }
    }

    #[test]
    fn nonsense_is_left_out() {
        assert_eq!(one("work_mem", "lots", V15), Err(Done::DroppedValue));
        assert_eq!(one("wal_level", "archive", V15), Err(Done::DroppedValue));
        assert_eq!(one("fsync", "maybe", V15), Err(Done::DroppedValue));
        assert_eq!(one("stats_temp_directory", "/tmp", V15), Err(Done::DroppedName));
        assert_eq!(one("wal_compression", "zstd", Version::new(14, 9)), Err(Done::DroppedValue));
        assert_eq!(one("bogus_param", "1", V15), Err(Done::DroppedName));
        assert_eq!(one("primary_slot_name", "x", V15), Ok("(left out)".to_owned()));
    }

    #[test]
    fn no_name_or_value_can_break_the_file() {
        for name in ["a.b\nfsync", "a.b = 'x'", "a.", ".a", "a b.c", "a.b.c", "", "1.a"] {
            assert_eq!(one(name, "x", V15), Err(Done::DroppedName), "{name:?}");
        }
        assert_eq!(one("my.knob", "a\0b", V15), Err(Done::DroppedValue));
    }
}
