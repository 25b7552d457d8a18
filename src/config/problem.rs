//! What is wrong with a key of the cluster's configuration.

use std::fmt;

/// A key of the document and what is wrong with it, or with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// `postgresql.parameters`; empty for the whole document.
    pub key: String,
    pub what: String,
}

impl Problem {
    pub(super) fn new(key: &str, what: String) -> Self {
        Problem { key: key.to_owned(), what }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = if self.key.is_empty() { "the document" } else { &self.key };
        write!(f, "{key}: {}", self.what)
    }
}
