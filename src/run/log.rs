//! The log of an agent that begins.

use super::Incarnation;
use crate::config::LogConfig;
use crate::telemetry::Telemetry;

/// Why there is no log.
pub(super) struct NoLog {
    pub why: String,
    /// It is the configuration that names a place where nothing can be written.
    pub is_configured: bool,
}

/// A later agent has a server to keep: without its file it logs to standard error.
pub(super) fn begin(log: &LogConfig, incarnation: Incarnation) -> Result<Telemetry, NoLog> {
    let error = match (Telemetry::start(log.clone()), &log.file) {
        (Ok(telemetry), _) => return Ok(telemetry),
        (Err(error), Some(file)) => NoLog {
            why: format!(
                "log.dir: cannot write to {:?}: {error}; expected: a folder of PostgreSQL's account",
                file.dir
            ),
            is_configured: true,
        },
        (Err(error), None) => NoLog { why: format!("cannot begin to log: {error}"), is_configured: false },
    };
    match incarnation {
        Incarnation::Later if error.is_configured => {
            let telemetry = Telemetry::start(on_standard_error(log));
            let telemetry = telemetry.map_err(|error| NoLog { why: error.to_string(), is_configured: false })?;
            tracing::error!("{}", error.why);
            Ok(telemetry)
        }
        Incarnation::First | Incarnation::Later => Err(error),
    }
}

pub(super) fn on_standard_error(log: &LogConfig) -> LogConfig {
    LogConfig { file: None, ..log.clone() }
}
