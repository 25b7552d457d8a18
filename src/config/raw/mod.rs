//! The known variables: one table that yields the raw structures, their documentation and what becomes of each value.
//!
//! Here variables are only collected, not understood: every field is text as it was given (ADR 13 says why). The doc
//! comment of a field is its entry in `docs/variables.md`.

mod cluster;
mod kubernetes;
mod node;
mod server;

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::error::{ConfigError, Report};

/// How a variable's text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Taken verbatim.
    Text,
    /// Taken verbatim; may come from a file (`NAME_FILE`).
    FileText,
    /// A password: never shown; may come from a file.
    Secret,
    /// A URL that may hold a password: never shown; may come from a file.
    SecretUrl,
    /// A whole YAML document: never shown; may come from a file.
    Document,
    Switch,
    /// A whole number, not negative.
    Whole,
    /// Whole seconds; units are accepted (`30min`).
    Seconds,
    List,
    /// A YAML list, or one entry a line.
    Lines,
    Map,
    /// Options of a program: a list of words and one-entry maps, or a map.
    Options,
    /// A boolean word or `quorum`.
    SyncMode,
}

impl Kind {
    pub fn is_secret(self) -> bool {
        matches!(self, Kind::Secret | Kind::SecretUrl | Kind::Document)
    }

    /// Whether `NAME_FILE` may hold the path of a file with the value.
    pub fn accepts_file(self) -> bool {
        self.is_secret() || self == Kind::FileText
    }

    /// What is accepted, for the manual and for errors.
    pub fn accepted(self) -> &'static str {
        match self {
            Kind::Text | Kind::FileText => "text",
            Kind::Secret => "text of one line",
            Kind::SecretUrl => "URL",
            Kind::Document => "YAML or JSON map",
            Kind::Switch => "on, true, yes, 1, off, false, no or 0",
            Kind::Whole => "whole number, not negative",
            Kind::Seconds => "seconds, or a number with ms, s, min, h or d",
            Kind::List => "list: a,b or a YAML list",
            Kind::Lines => "one entry a line, or a YAML list",
            Kind::Map => "map: a: 1, b: 2 or a YAML map",
            Kind::Options => "options: a, b: 1 or a YAML list or map",
            Kind::SyncMode => "off, on or quorum",
        }
    }
}

/// What a change of the variable needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A new container, since a process cannot read its environment anew.
    Restart,
    /// Written once, when the cluster is initialised; afterwards the cluster's own configuration holds.
    Cluster,
    /// Used once, when the cluster or the data directory is initialised.
    Initialisation,
}

/// One known variable.
#[derive(Debug)]
pub struct Variable {
    /// The name in lower case.
    field: &'static str,
    doc: &'static str,
    pub kind: Kind,
    /// The YAML path that it sets; below `environment` there is none that a user could write.
    pub path: &'static str,
    pub default: &'static str,
    pub needs: Needs,
    field_of: fn(&Tables) -> Option<&str>,
}

impl Variable {
    pub fn name(&self) -> String {
        self.field.to_ascii_uppercase()
    }

    pub fn doc(&self) -> &'static str {
        self.doc.trim()
    }
}

macro_rules! variables {
    ($(#[$outer:meta])* $table:ident in $place:ident {
        $( $(#[doc = $doc:literal])+ $field:ident: $kind:ident, $path:literal, $default:literal, $needs:ident; )+
    }) => {
        $(#[$outer])*
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        pub(super) struct $table {
            $( $(#[doc = $doc])+ pub(super) $field: Option<String>, )+
        }

        impl $table {
            pub(super) const VARIABLES: &'static [super::Variable] = &[ $( super::Variable {
                field: stringify!($field),
                doc: concat!($($doc),+),
                kind: super::Kind::$kind,
                path: $path,
                default: $default,
                needs: super::Needs::$needs,
                field_of: |tables| tables.$place.$field.as_deref(),
            }, )+ ];
        }
    };
}
use variables;

/// What `envy` makes of the environment: one field for each known variable.
#[derive(Default)]
struct Tables {
    node: node::Node,
    rest: node::Rest,
    log: node::Log,
    etcd: server::Etcd,
    kubernetes: kubernetes::Kubernetes,
    server: server::Server,
    roles: server::Roles,
    cluster: cluster::Cluster,
    initialisation: cluster::Initialisation,
    container: cluster::Container,
}

impl Tables {
    fn of(pairs: &[(String, String)]) -> Tables {
        Tables {
            node: table(pairs),
            rest: table(pairs),
            log: table(pairs),
            etcd: table(pairs),
            kubernetes: table(pairs),
            server: table(pairs),
            roles: table(pairs),
            cluster: table(pairs),
            initialisation: table(pairs),
            container: table(pairs),
        }
    }
}

fn table<T: serde::de::DeserializeOwned>(pairs: &[(String, String)]) -> T {
    // Fields are optional text and each name comes once, so there is nothing that could fail.
    envy::from_iter(pairs.iter().cloned()).expect("a table of optional texts takes any text")
}

/// The tables with the headings that they have in the manual, in the order in which values are applied.
pub(super) const TABLES: &[(&str, &[Variable])] = &[
    ("The node", node::Node::VARIABLES),
    ("The REST API and the command line", node::Rest::VARIABLES),
    ("Log", node::Log::VARIABLES),
    ("etcd", server::Etcd::VARIABLES),
    ("Kubernetes", kubernetes::Kubernetes::VARIABLES),
    ("PostgreSQL on this node", server::Server::VARIABLES),
    ("Roles", server::Roles::VARIABLES),
    ("The cluster", cluster::Cluster::VARIABLES),
    ("Initialisation", cluster::Initialisation::VARIABLES),
    ("Conventions of PostgreSQL containers", cluster::Container::VARIABLES),
];

/// Every known variable, in the order in which they are applied.
pub(super) fn known() -> impl Iterator<Item = &'static Variable> {
    TABLES.iter().flat_map(|(_, table)| table.iter())
}

/// What the environment holds of ours. It has no `Debug` that could show a value.
#[derive(Default)]
pub(super) struct RawEnv {
    tables: Tables,
    /// `NAME` to the path in `NAME_FILE`.
    pub files: BTreeMap<String, String>,
    /// Names with one of our prefixes that no table has.
    pub unknown: Vec<String>,
}

impl RawEnv {
    /// Sort the environment. What is not UTF-8 in a variable of ours is an error; others' variables are passed over.
    pub fn read(vars: impl Iterator<Item = (OsString, OsString)>, report: &mut Report) -> RawEnv {
        let names: BTreeMap<String, &Variable> = known().map(|variable| (variable.name(), variable)).collect();
        let mut raw = RawEnv::default();
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in vars {
            let lossy = name.to_string_lossy().into_owned();
            let of_file = lossy.strip_suffix("_FILE").filter(|base| names.get(*base).is_some_and(accepts_file));
            let is_known = names.contains_key(&lossy);
            if !is_known && of_file.is_none() && !has_our_prefix(&lossy) {
                continue;
            }
            let (Some(_), Some(value)) = (name.to_str(), value.to_str()) else {
                let error = ConfigError::new(lossy.clone(), "text that is not UTF-8", "UTF-8 text");
                report.broken(of_file.unwrap_or(&lossy), error);
                continue;
            };
            match of_file {
                // An environment may hold a name twice; the first one counts, as for getenv.
                _ if is_known && pairs.iter().any(|(given, _)| *given == lossy) => {}
                _ if is_known => pairs.push((lossy, value.to_owned())),
                Some(base) => drop(raw.files.entry(base.to_owned()).or_insert_with(|| value.to_owned())),
                None => raw.unknown.push(lossy),
            }
        }
        raw.unknown.sort();
        raw.unknown.dedup();
        raw.tables = Tables::of(&pairs);
        raw
    }

    /// The text that a variable was given, which may be empty.
    pub fn text(&self, variable: &Variable) -> Option<&str> {
        (variable.field_of)(&self.tables)
    }

    /// The variables that are there, empty or as a file too.
    pub fn names(&self) -> impl Iterator<Item = (&'static Variable, String)> {
        let by_value = known().filter(|variable| self.text(variable).is_some());
        let by_value = by_value.map(|variable| (variable, variable.name()));
        let by_file = known().filter(|variable| self.files.contains_key(&variable.name()));
        by_value.chain(by_file.map(|variable| (variable, format!("{}_FILE", variable.name()))))
    }
}

fn accepts_file(variable: &&Variable) -> bool {
    variable.kind.accepts_file()
}

fn has_our_prefix(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    upper.starts_with("PATRONI_") || upper.starts_with("TAMADA_")
}
