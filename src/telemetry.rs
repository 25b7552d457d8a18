//! The agent's log: lines like Patroni's, plain or JSON, on standard error.
//!
//! A reader that has stopped reading must not stop the loop that renews the lease, and standard error is shared with
//! PostgreSQL, so it cannot be made non-blocking. A thread of its own therefore writes; the queue to it is bounded, what
//! does not fit is dropped, counted, and told once there is room again. `Telemetry::flush` waits for it, with a bound.
//!
//! Deliberately not here: files and their rotation, which is the container engine's work.

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
use sink::Sink;

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
        let settings = Arc::new(RwLock::new(settings));
        let for_sink = Arc::clone(&settings);
        let tell = move |count| {
            let settings = for_sink.read().unwrap_or_else(PoisonError::into_inner);
            warning(&settings, &jiff::Zoned::now(), format!("{count} log lines were dropped: the log is not read"))
        };
        let telemetry = Telemetry { settings, sink: Sink::start(stderr, tell)? };
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
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        tracing::callsite::rebuild_interest_cache();
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
        metadata.is_event() && is_wanted(metadata.level(), metadata.target(), self.settings().level)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(most(self.settings().level)))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.sink.write(line(&self.settings(), &jiff::Zoned::now(), event));
    }
}

/// Our own events by the level that is set; those of libraries only when they are warnings.
fn is_wanted(level: &Level, target: &str, set: LogLevel) -> bool {
    let ours = target == "tamada" || target.starts_with("tamada::");
    *level <= most(set) && (ours || *level <= Level::WARN)
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

    #[test]
    fn libraries_are_heard_only_when_they_warn() {
        assert!(is_wanted(&Level::DEBUG, "tamada::agent", LogLevel::Debug));
        assert!(!is_wanted(&Level::DEBUG, "tamada::agent", LogLevel::Info));
        assert!(!is_wanted(&Level::INFO, "h2::client", LogLevel::Debug));
        assert!(is_wanted(&Level::WARN, "h2::client", LogLevel::Info));
        assert!(!is_wanted(&Level::WARN, "tamadas", LogLevel::Error));
    }
}
