//! One event as one line.

use std::fmt::{self, Write};
use std::sync::OnceLock;

use jiff::Zoned;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

use crate::config::{Attribute, LogConfig, LogFormat, LogLayout, Piece};

/// The line of an event, newline included.
pub(super) fn line(settings: &LogConfig, now: &Zoned, event: &Event<'_>) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    let place = Place { level: *metadata.level(), logger: metadata.target(), metadata: Some(metadata) };
    Line { settings, now, place, fields }.text()
}

/// A line of the log about itself.
pub(super) fn warning(settings: &LogConfig, now: &Zoned, message: String) -> String {
    let fields = Fields { message, others: Vec::new() };
    let place = Place { level: Level::WARN, logger: "tamada::telemetry", metadata: None };
    Line { settings, now, place, fields }.text()
}

/// Where an event is from.
struct Place {
    level: Level,
    logger: &'static str,
    metadata: Option<&'static Metadata<'static>>,
}

struct Line<'a> {
    settings: &'a LogConfig,
    now: &'a Zoned,
    place: Place,
    fields: Fields,
}

impl Line<'_> {
    fn text(self) -> String {
        match (&self.settings.layout, self.settings.format) {
            (Some(LogLayout::Line(pieces)), _) => self.laid_out(pieces),
            (Some(LogLayout::Fields(fields)), _) => self.fields(fields),
            (None, LogFormat::Plain) => self.plain(),
            (None, LogFormat::Json) => self.json(),
        }
    }

    /// `2026-11-22 09:00:00,123 INFO: text name=value`.
    fn plain(&self) -> String {
        let mut line = format!("{} {}: ", self.time(), name(self.place.level));
        self.push_message(&mut line);
        line.push('\n');
        line
    }

    /// As `log.format` says.
    fn laid_out(&self, pieces: &[Piece]) -> String {
        let mut line = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Value { attribute: Attribute::Message, width: 0, precision: None, .. } => {
                    self.push_message(&mut line);
                }
                Piece::Value { attribute, is_left, with_zeros, width, precision, is_whole } => {
                    let value = self.value(*attribute);
                    let number = value.as_f64().filter(|_| !value.is_string());
                    let text = match (number, precision, value) {
                        (Some(number), _, _) if *is_whole => (number.trunc() as i64).to_string(),
                        (Some(number), Some(digits), _) => format!("{number:.digits$}"),
                        (_, Some(most), Value::String(text)) => text.chars().take(*most).collect(),
                        (_, _, Value::String(text)) => text,
                        (_, _, other) => other.to_string(),
                    };
                    let _ = match (*is_left, *with_zeros && number.is_some()) {
                        (true, _) => write!(line, "{text:<width$}"),
                        (false, true) => write!(line, "{text:0>width$}"),
                        (false, false) => write!(line, "{text:>width$}"),
                    };
                }
            }
        }
        line.push('\n');
        line
    }

    /// The fields that are asked for, then the event's own, then `static_fields` where the name is still free.
    fn fields(&self, fields: &[(String, Attribute)]) -> String {
        let mut object = Map::new();
        for (name, attribute) in fields {
            let value = match attribute {
                Attribute::Message => Value::from(self.fields.message.as_str()),
                other => self.value(*other),
            };
            object.insert(name.clone(), value);
        }
        self.finish(object)
    }

    /// `time`, `level`, `message`, `logger`, and the same.
    fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("time".into(), self.time().into());
        object.insert("level".into(), name(self.place.level).into());
        object.insert("message".into(), self.fields.message.as_str().into());
        object.insert("logger".into(), self.place.logger.into());
        self.finish(object)
    }

    fn finish(&self, mut object: Map<String, Value>) -> String {
        let others = self.fields.others.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        for (name, value) in others.chain(self.settings.static_fields.clone()) {
            object.entry(name).or_insert(value);
        }
        format!("{}\n", Value::Object(object))
    }

    /// The text, and the event's fields. The field `reason` repeats the text as a code for machines, and is left out:
    /// tools look for the sentence alone.
    fn push_message(&self, line: &mut String) {
        push_one_line(line, &self.fields.message);
        for (name, value) in self.fields.others.iter().filter(|(name, _)| *name != "reason") {
            // Writing to a string cannot fail.
            let _ = write!(line, " {name}=");
            match value {
                Value::String(text) => push_one_line(line, text),
                other => push_one_line(line, &other.to_string()),
            }
        }
    }

    fn value(&self, attribute: Attribute) -> Value {
        let metadata = self.place.metadata;
        let path = metadata.and_then(Metadata::file).unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or_default();
        let seconds = || self.now.timestamp().as_nanosecond() as f64 / 1e9;
        match attribute {
            Attribute::Time => self.time().into(),
            Attribute::Created => seconds().into(),
            Attribute::Milliseconds => (f64::from(self.now.subsec_nanosecond()) / 1e6).trunc().into(),
            Attribute::RelativeMilliseconds => {
                static BEGAN: OnceLock<f64> = OnceLock::new();
                let now = seconds();
                ((now - BEGAN.get_or_init(|| now)) * 1000.0).into()
            }
            Attribute::Level => name(self.place.level).into(),
            Attribute::LevelNumber => number(self.place.level).into(),
            Attribute::Message => {
                let mut message = String::new();
                self.push_message(&mut message);
                message.into()
            }
            Attribute::Logger => self.place.logger.into(),
            Attribute::Module => self.place.logger.rsplit("::").next().unwrap_or_default().into(),
            Attribute::Path => path.into(),
            Attribute::File => file.into(),
            Attribute::Line => metadata.and_then(Metadata::line).unwrap_or_default().into(),
            Attribute::Process => std::process::id().into(),
            Attribute::ProcessName => "tamada".into(),
            Attribute::Thread => nix::unistd::gettid().as_raw().into(),
            Attribute::ThreadName => std::thread::current().name().unwrap_or_default().into(),
            Attribute::Nothing => "".into(),
        }
    }

    fn time(&self) -> String {
        let format = self.settings.date_format.as_deref().unwrap_or("%Y-%m-%d %H:%M:%S,%3f");
        // A format that cannot be used has ended the reading of the configuration.
        jiff::fmt::strtime::format(format, self.now).unwrap_or_default()
    }
}

/// The level names of Patroni's log.
fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        _ => "DEBUG",
    }
}

/// Their numbers in Python's `logging`.
fn number(level: Level) -> u32 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        _ => 10,
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
    use crate::config::{Account, Config, FoundData, HostFacts, KubernetesAccess, LogLevel};
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
        lines_of(LogConfig::on_standard_error(format), log)
    }

    fn lines_of(settings: LogConfig, log: impl FnOnce()) -> Vec<String> {
        let static_fields = serde_json::json!({"app": "db", "level": "mine"});
        let static_fields = static_fields.as_object().cloned().expect("an object");
        let settings = LogConfig { level: LogLevel::Debug, static_fields, ..settings };
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

    fn read(log: Value) -> LogConfig {
        let host = HostFacts {
            host_name: "n1".to_owned(),
            kubernetes: KubernetesAccess::default(),
            account: Account::Named("postgres".to_owned()),
            inspect: Box::new(|_| FoundData::None),
            unusable: |_, _| Vec::new(),
        };
        let document = serde_json::json!({"log": log}).to_string();
        let variables =
            [("PGDATA", "/nowhere"), ("POSTGRES_PASSWORD", "a"), ("PATRONI_CONFIGURATION", document.as_str())];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        Config::from_environment(variables.into_iter(), None, &host).expect("a configuration").log
    }

    #[test]
    fn a_line_is_laid_out_as_it_was_asked_for() {
        let settings = read(serde_json::json!({
            "format": "[%(asctime)s.%(msecs)03d] %(levelname)-8s|%(levelno)4d|%(name).6s|%(module)s|%(funcName)s| %(message)s 100%%",
            "dateformat": "%d/%b/%Y %H:%M:%S",
        }));
        let found = lines_of(settings, || tracing::warn!(target: "tamada::agent", pid = 7, "two\nlines"));
        let expected = "[22/Nov/2026 09:00:00.123] WARNING |  30|tamada|agent|| two lines pid=7 100%\n";
        assert_eq!(found, [expected]);
    }

    #[test]
    fn a_json_line_has_the_fields_that_were_asked_for() {
        let list = serde_json::json!({"type": "json", "format": ["message", {"levelname": "severity"}, "lineno"]});
        let found = lines_of(read(list), || tracing::error!(pid = 7, "text"));
        let value: Value = serde_json::from_str(&found[0]).expect("valid JSON");
        let keys: Vec<&String> = value.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["message", "severity", "lineno", "pid", "app", "level"]);
        assert_eq!((&value["severity"], value["lineno"].is_u64()), (&Value::from("ERROR"), true));
    }
}
