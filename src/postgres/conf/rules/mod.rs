//! Which values each parameter of each server version accepts (versions 13 to 18), as tables.
//!
//! Applied by [`super::validate`]. A parameter without a rule is not unknown for that: the installed server is asked
//! then. Names are compared without regard to case.

mod names;
mod numbers;
mod words;

use crate::postgres::version::Version;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    Bool,
    /// Any text.
    Text,
    /// One of these, in any case.
    Words(&'static [&'static str]),
    BoolOrWords(&'static [&'static str]),
    /// A number in the unit, between two limits, both allowed.
    Number {
        kind: NumberKind,
        unit: Option<&'static str>,
        min: f64,
        max: f64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberKind {
    Integer,
    Real,
}

/// A rule's versions: from the first, up to but without the second, as numbers of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Versions(u32, u32);

impl Versions {
    fn contain(self, version: Version) -> bool {
        (self.0..self.1).contains(&version.0)
    }
}

const ALL: Versions = majors(13, 18);

const fn majors(first: u32, last: u32) -> Versions {
    Versions(first * 10_000, (last + 1) * 10_000)
}

const fn from(first: u32) -> Versions {
    majors(first, 18)
}

const fn only(major: u32) -> Versions {
    majors(major, major)
}

/// From this minor version of this major version on.
const fn minors(major: u32, minor: u32) -> Versions {
    Versions(major * 10_000 + minor, (major + 1) * 10_000)
}

/// The rule of this parameter in this version.
pub fn rule(name: &str, version: Version) -> Option<Rule> {
    named(names::BOOLEANS, name, version)
        .map(|()| Rule::Bool)
        .or_else(|| named(names::TEXTS, name, version).map(|()| Rule::Text))
        .or_else(|| word_rule(name, version))
        .or_else(|| number_rule(name, version))
}

fn named(table: &[names::Names], name: &str, version: Version) -> Option<()> {
    table.iter().any(|(versions, names)| versions.contain(version) && has(names, name)).then_some(())
}

fn word_rule(name: &str, version: Version) -> Option<Rule> {
    let fits = |(known, versions, _): &&words::Words| versions.contain(version) && known.eq_ignore_ascii_case(name);
    words::WORDS.iter().find(fits).map(|(_, _, rule)| *rule)
}

fn number_rule(name: &str, version: Version) -> Option<Rule> {
    let fits = |(.., versions, names): &&numbers::Number| versions.contain(version) && has(names, name);
    numbers::NUMBERS.iter().find(fits).map(|&(kind, unit, min, max, ..)| Rule::Number {
        kind,
        unit: Some(unit).filter(|unit| !unit.is_empty()),
        min,
        max,
    })
}

fn has(names: &str, name: &str) -> bool {
    names.split(' ').any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_depend_on_the_version() {
        let text = |major| rule("stats_temp_directory", Version::new(major, 0));
        assert_eq!((text(14), text(15)), (Some(Rule::Text), None));
        let compression = |major| rule("wal_compression", Version::new(major, 3));
        assert_eq!(compression(14), Some(Rule::Bool));
        assert_eq!(compression(15), Some(Rule::BoolOrWords(&["pglz", "lz4", "zstd"])));
        let in_place = |major, minor| rule("allow_in_place_tablespaces", Version::new(major, minor));
        assert_eq!((in_place(14, 4), in_place(14, 5), in_place(15, 0)), (None, Some(Rule::Bool), Some(Rule::Bool)));
        let log_connections = |major| rule("log_connections", Version::new(major, 0));
        assert_eq!((log_connections(17), log_connections(18)), (Some(Rule::Bool), Some(Rule::Text)));
        assert_eq!(rule("DATESTYLE", Version::new(13, 0)), Some(Rule::Text));
        assert_eq!(rule("bogus_param", Version::new(15, 0)), None);
    }

    #[test]
    fn no_parameter_has_two_rules_in_one_version() {
        let mut seen = std::collections::BTreeSet::new();
        let names = names::BOOLEANS.iter().chain(names::TEXTS).map(|(versions, names)| (*versions, *names));
        let words = words::WORDS.iter().map(|(name, versions, _)| (*versions, *name));
        let numbers = numbers::NUMBERS.iter().map(|(.., versions, names)| (*versions, *names));
        for (versions, names) in names.chain(words).chain(numbers) {
            assert!(versions.0 >= 130_000 && versions.0 < versions.1 && versions.1 <= 190_000, "{names}");
            for name in names.split(' ') {
                for major in (13..=18).filter(|major| versions.contain(Version::new(*major, 9_999))) {
                    assert!(seen.insert((name.to_ascii_lowercase(), major)), "{name} on {major}");
                }
            }
        }
        assert!(seen.len() > 1_500, "{}", seen.len());
    }
}
