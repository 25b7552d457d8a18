//! The agent's log: lines like Patroni's, plain or JSON, on standard error or in a file.
//!
//! A reader that has stopped reading must not stop the loop that renews the lease, and standard error is shared with
//! PostgreSQL, so it cannot be made non-blocking. A thread of its own therefore writes; the queue to it is bounded, what
//! does not fit is dropped, counted, and told once there is room again. `Telemetry::flush` waits for it, with a bound.

mod file;
mod line;
mod sink;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, error};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

use crate::config::{LogConfig, LogLevel};
use line::{line, warning};
pub use sink::Backlog;
use sink::{About, Sink};

/// How long the last words of a panicking thread may take.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// The running log. Clones are the same log.
#[derive(Clone)]
pub struct Telemetry {
    settings: Arc<RwLock<LogConfig>>,
    sink: Sink,
}

impl Telemetry {
    /// Begins to log; once in a process, before the first thread that logs. Panics are logged too.
    pub fn start(settings: LogConfig) -> io::Result<Telemetry> {
        // A duplicate, because the standard library's handle has a lock that a blocked write would hold.
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let (file, queue_max) = (settings.file.clone(), settings.queue_max);
        let settings = Arc::new(RwLock::new(settings));
        let for_sink = Arc::clone(&settings);
        let tell = move |about| {
            let settings = for_sink.read().unwrap_or_else(PoisonError::into_inner);
            let text = match about {
                About::Lost(count) => format!("{count} log lines were dropped: the log is not read"),
                About::Broken { file, why } => format!("cannot write the log to {file}: {why}"),
            };
            warning(&settings, &jiff::Zoned::now(), text)
        };
        let telemetry = Telemetry { settings, sink: Sink::start(stderr, file, queue_max, tell)? };
        let subscriber = Registry::default().with(telemetry.clone());
        tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
        let last_words = telemetry.clone();
        std::panic::set_hook(Box::new(move |panic| {
            error!("{panic}");
            last_words.flush(LAST_WORDS_MAX);
        }));
        Ok(telemetry)
    }

    /// Goes on with other settings, after a reload.
    pub fn apply(&self, settings: LogConfig) {
        let (file, queue_max) = (settings.file.clone(), settings.queue_max);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        self.sink.turn(file, queue_max);
        tracing::callsite::rebuild_interest_cache();
    }

    pub fn backlog(&self) -> Backlog {
        self.sink.backlog()
    }

    /// Waits until everything logged so far is written, but not longer than this.
    pub fn flush(&self, at_most: Duration) {
        self.sink.flush(at_most);
    }

    fn settings(&self) -> RwLockReadGuard<'_, LogConfig> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Telemetry {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_event() && is_wanted(metadata.level(), metadata.target(), &self.settings())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let settings = self.settings();
        let levels = settings.loggers.values().chain([&settings.level]).map(|level| most(*level));
        levels.max().map(LevelFilter::from_level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.sink.write(line(&self.settings(), &jiff::Zoned::now(), event));
    }
}

/// By the level of the logger with the longest name that it is in; else our own events by the level that is set, and those
/// of libraries only when they are warnings.
fn is_wanted(level: &Level, target: &str, settings: &LogConfig) -> bool {
    let is_below = |name: &str| target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let own = settings.loggers.iter().filter(|(name, _)| is_below(name)).max_by_key(|(name, _)| name.len());
    match own {
        Some((_, set)) => *level <= most(*set),
        None => *level <= most(settings.level) && (is_below("tamada") || *level <= Level::WARN),
    }
}

fn most(set: LogLevel) -> Level {
    match set {
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info => Level::INFO,
        LogLevel::Warning => Level::WARN,
        LogLevel::Error => Level::ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::config::LogFormat;

    #[test]
    fn libraries_are_heard_only_when_they_warn() {
        let at = |level| LogConfig { level, ..LogConfig::on_standard_error(LogFormat::Plain) };
        assert!(is_wanted(&Level::DEBUG, "tamada::agent", &at(LogLevel::Debug)));
        assert!(!is_wanted(&Level::DEBUG, "tamada::agent", &at(LogLevel::Info)));
        assert!(!is_wanted(&Level::INFO, "h2::client", &at(LogLevel::Debug)));
        assert!(is_wanted(&Level::WARN, "h2::client", &at(LogLevel::Info)));
        assert!(!is_wanted(&Level::WARN, "tamadas", &at(LogLevel::Error)));
    }

    #[test]
    fn a_logger_has_the_level_of_its_longest_name() {
        let loggers =
            [("tamada::api", LogLevel::Error), ("tamada::api::tls", LogLevel::Debug), ("h2", LogLevel::Debug)];
        let loggers = loggers.map(|(name, level)| (name.to_owned(), level)).into();
        let settings = LogConfig { loggers, ..LogConfig::on_standard_error(LogFormat::Plain) };
        assert!(!is_wanted(&Level::WARN, "tamada::api::server", &settings));
        assert!(is_wanted(&Level::DEBUG, "tamada::api::tls", &settings));
        assert!(is_wanted(&Level::INFO, "tamada::apis", &settings), "another one");
        assert!(is_wanted(&Level::DEBUG, "h2::client", &settings));
    }
}
