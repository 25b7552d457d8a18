//! The configuration in force, to be printed: each value with where it came from, secrets redacted.

use std::collections::BTreeMap;
use std::fmt;

use super::origin::Origin;

/// By path, in the order of the paths.
#[derive(Clone, Debug, Default)]
pub struct Effective(pub BTreeMap<String, EffectiveLine>);

/// A value as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveLine {
    pub value: String,
    pub origin: Origin,
}

impl fmt::Display for Effective {
    /// `path: value   # origin`, the origins in one column as far as values are short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const COLUMN_MAX: usize = 60;
        let texts: Vec<(String, &Origin)> =
            self.0.iter().map(|(path, line)| (format!("{path}: {}", line.value), &line.origin)).collect();
        let lengths = texts.iter().map(|(text, _)| text.chars().count()).filter(|length| *length <= COLUMN_MAX);
        let width = lengths.max().unwrap_or_default();
        for (text, origin) in texts {
            writeln!(f, "{text:<width$}  # {origin}")?;
        }
        Ok(())
    }
}
