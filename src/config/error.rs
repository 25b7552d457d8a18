//! What is wrong with a configuration: all of it at once, one line each, never a secret.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable, or the YAML path and where it stands.
    pub at: String,
    /// What was given there; secrets are not repeated.
    pub given: String,
    /// What is accepted, or what to do.
    pub accepted: String,
}

impl ConfigError {
    pub(super) fn new(at: impl Into<String>, given: impl Into<String>, accepted: impl Into<String>) -> Self {
        ConfigError { at: at.into(), given: given.into(), accepted: accepted.into() }
    }

    pub(super) fn missing(at: impl Into<String>, accepted: impl Into<String>) -> Self {
        ConfigError::new(at, "not set", accepted)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; expected: {}", self.at, self.given, self.accepted)
    }
}

/// Everything that is wrong; never empty. `Display` is one line for each error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    pub errors: Vec<ConfigError>,
    /// What a person should know as well: an unknown name may be why something is missing.
    pub warnings: Vec<String>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// What reading a configuration brought to light.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub errors: Vec<ConfigError>,
    pub warnings: Vec<String>,
    /// Variables that are set but could not be read, by their names without `_FILE`: nothing about them is missing.
    broken: Vec<String>,
    /// Set when a whole document could not be read: what it holds is not known, so nothing is said to be missing.
    pub unread_document: Option<Reported>,
}

/// Proof that an error was reported. Only `Report` makes one, so whoever has no value to return has reported why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported(());

impl Report {
    /// A variable that is set and cannot be used.
    pub fn broken(&mut self, variable: &str, error: ConfigError) -> Reported {
        self.broken.push(variable.to_owned());
        self.error(error)
    }

    /// The proof that this variable could not be read.
    pub fn broken_variable(&self, variable: &str) -> Option<Reported> {
        self.broken.iter().any(|broken| broken == variable).then_some(Reported(()))
    }

    /// The proof that a variable whose name begins so could not be read.
    pub fn broken_section(&self, prefix: &str) -> Option<Reported> {
        self.broken.iter().any(|broken| broken.starts_with(prefix)).then_some(Reported(()))
    }

    pub fn error(&mut self, error: ConfigError) -> Reported {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
        Reported(())
    }

    /// A document that cannot be used.
    pub fn unread(&mut self, error: ConfigError) {
        self.unread_document = Some(self.error(error));
    }

    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }
}
