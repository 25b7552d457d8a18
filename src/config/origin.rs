//! Where a value came from: what error messages name and `tamada config check` shows.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// Derived from the machine, as the text says (`host name`).
    Machine(&'static str),
    /// The variable's name, `NAME_FILE` included.
    Variable(String),
    /// A command's option, with its dashes.
    Option(&'static str),
    Configuration,
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Machine(what) => f.write_str(what),
            Origin::Variable(name) => write!(f, "variable {name}"),
            Origin::Option(name) => write!(f, "option {name}"),
            Origin::Configuration => f.write_str("PATRONI_CONFIGURATION"),
            Origin::File(path) => write!(f, "file {}", path.display()),
        }
    }
}
