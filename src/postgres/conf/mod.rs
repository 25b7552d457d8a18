//! PostgreSQL's configuration as text: pure functions from typed values to the content of files, argument lists and
//! SQL, and comparisons of what is wanted with what a server runs with.
//!
//! Nothing here reads, writes, connects or logs; warnings are returned as values. Files are quoted so that no value,
//! whatever its characters, can become another line.

pub mod conninfo;
pub mod hba;
pub mod parameters;
pub mod pgpass;
pub mod postgresql_conf;
pub mod recovery;
pub mod roles;
pub mod rules;
pub mod settings;
pub mod validate;
mod values;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub use values::{parse_server_bool, value_text};

/// Parameters by name in lower case (the server ignores the case of their ASCII letters), in the order of the file.
pub type Parameters = BTreeMap<String, String>;

/// The parameters of a configuration document as text. `null` and lists or maps, which no parameter has, are left out;
/// of names that differ only in case the last one counts.
pub fn parameters_of(document: &Map<String, Value>) -> Parameters {
    let text = |(name, value): (&String, &Value)| Some((name.to_ascii_lowercase(), value_text(value)?));
    document.iter().filter_map(text).collect()
}
