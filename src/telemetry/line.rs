//! One event as one line.

use std::fmt::{self, Write};

use jiff::Zoned;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::config::{LogConfig, LogFormat};

/// The line of an event, newline included.
pub(super) fn line(settings: &LogConfig, now: &Zoned, event: &Event<'_>) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    match settings.format {
        LogFormat::Plain => plain(now, metadata.level(), &fields),
        LogFormat::Json => json(settings, now, metadata.level(), metadata.target(), fields),
    }
}

/// A line of the log about itself.
pub(super) fn warning(settings: &LogConfig, now: &Zoned, message: String) -> String {
    let fields = Fields { message, others: Vec::new() };
    match settings.format {
        LogFormat::Plain => plain(now, &Level::WARN, &fields),
        LogFormat::Json => json(settings, now, &Level::WARN, "tamada::telemetry", fields),
    }
}

/// `2026-11-22 09:00:00,123 INFO: text name=value`. The field `reason` repeats the text as a code for machines, and is
/// left out: tools look for the sentence alone.
fn plain(now: &Zoned, level: &Level, fields: &Fields) -> String {
    let mut line = format!("{} {}: ", time(now), name(level));
    push_one_line(&mut line, &fields.message);
    for (name, value) in fields.others.iter().filter(|(name, _)| *name != "reason") {
        // Writing to a string cannot fail.
        let _ = write!(line, " {name}=");
        match value {
            Value::String(text) => push_one_line(&mut line, text),
            other => push_one_line(&mut line, &other.to_string()),
        }
    }
    line.push('\n');
    line
}

/// `time`, `level`, `message`, `logger`, the event's fields, and `static_fields` where the name is still free.
fn json(settings: &LogConfig, now: &Zoned, level: &Level, target: &str, fields: Fields) -> String {
    let mut object = Map::new();
    object.insert("time".into(), time(now).into());
    object.insert("level".into(), name(level).into());
    object.insert("message".into(), fields.message.into());
    object.insert("logger".into(), target.into());
    let others = fields.others.into_iter().map(|(name, value)| (name.to_owned(), value));
    for (name, value) in others.chain(settings.static_fields.clone()) {
        object.entry(name).or_insert(value);
    }
    format!("{}\n", Value::Object(object))
}

fn time(now: &Zoned) -> String {
    now.strftime("%Y-%m-%d %H:%M:%S,%3f").to_string()
}

/// The level names of Patroni's log.
fn name(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        _ => "DEBUG",
    }
}

/// An event is one line whatever it quotes; nobody can forge another.
fn push_one_line(line: &mut String, text: &str) {
    line.extend(text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }));
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(message)) => self.message = message,
            ("message", other) => self.message = other.to_string(),
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogLevel;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    /// Renders each event with fixed time and settings.
    struct Recorder {
        settings: LogConfig,
        lines: Arc<Mutex<Vec<String>>>,
    }

    impl<S: tracing::Subscriber> Layer<S> for Recorder {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let now: Zoned = "2026-11-22T09:00:00.123456+01:00[Europe/Berlin]".parse().expect("a time");
            self.lines.lock().expect("one thread").push(line(&self.settings, &now, event));
        }
    }

    fn lines(format: LogFormat, log: impl FnOnce()) -> Vec<String> {
        let static_fields = serde_json::json!({"app": "db", "level": "mine"});
        let static_fields = static_fields.as_object().cloned().expect("an object");
        let settings = LogConfig { format, level: LogLevel::Debug, static_fields };
        let lines = Arc::new(Mutex::new(Vec::new()));
        let recorder = Recorder { settings, lines: Arc::clone(&lines) };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(recorder), log);
        let lines = lines.lock().expect("one thread");
        lines.clone()
    }

    #[test]
    fn plain_lines_look_like_patronis() {
        let found = lines(LogFormat::Plain, || {
            tracing::info!(reason = "no_action_leader", "no action. I am ({}), the leader with the lock", "n1");
            tracing::warn!(member = %"n2", tries = 3, "cannot reach\nit\u{1b}[31m");
        });
        let expected = [
            "2026-11-22 09:00:00,123 INFO: no action. I am (n1), the leader with the lock\n",
            "2026-11-22 09:00:00,123 WARNING: cannot reach it [31m member=n2 tries=3\n",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn json_lines_hold_fields_and_static_fields() {
        let found = lines(LogFormat::Json, || {
            tracing::error!(target: "tamada::agent", reason = "lost_lock", pid = 7, "demoting \"self\"\n");
        });
        assert!(found[0].ends_with("}\n"));
        let value: Value = serde_json::from_str(&found[0]).expect("valid JSON");
        let expected = serde_json::json!({
            "time": "2026-11-22 09:00:00,123", "level": "ERROR", "message": "demoting \"self\"\n",
            "logger": "tamada::agent", "reason": "lost_lock", "pid": 7, "app": "db",
        });
        assert_eq!(value, expected);
    }
}
