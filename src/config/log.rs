//! The section `log`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;

use serde_json::{Map, Value};

use super::given::Purpose;
use super::log_layout::LogLayout;
use super::reader::{Reader, remove_nulls};
use super::{LogConfig, LogFile, LogFormat, LogLevel, units};
use crate::core::policy::Switch;

const QUEUE_MAX: i64 = 1000;
/// What 0, no limit, stands for: a log that nobody reads must not take all memory.
const QUEUE_MOST: i64 = 1_000_000;
const FILE_SIZE: i64 = 25_000_000;
const FILES_KEPT: i64 = 4;

const LEVELS: &str = "DEBUG, INFO, WARNING, ERROR or CRITICAL";

/// Loggers of Patroni, with where the same is done here.
const COUNTERPARTS: [(&str, &[&str]); 10] = [
    ("patroni", &["tamada"]),
    ("patroni.api", &["tamada::api"]),
    ("patroni.config", &["tamada::config"]),
    ("patroni.ctl", &["tamada::ctl"]),
    ("patroni.dcs", &["tamada::dcs"]),
    ("patroni.ha", &["tamada::agent", "tamada::core"]),
    ("patroni.postgresql", &["tamada::postgres"]),
    ("patroni.postmaster", &["tamada::postgres::postmaster"]),
    ("patroni.request", &["tamada::http"]),
    ("patroni.log", &["tamada::telemetry"]),
];

impl LogFormat {
    fn from_word(word: &str) -> Option<LogFormat> {
        match word.to_ascii_lowercase().as_str() {
            "plain" => Some(LogFormat::Plain),
            "json" => Some(LogFormat::Json),
            _ => None,
        }
    }
}

impl LogLevel {
    fn from_word(word: &str) -> Option<LogLevel> {
        match word.to_ascii_uppercase().as_str() {
            "DEBUG" => Some(LogLevel::Debug),
            "INFO" => Some(LogLevel::Info),
            "WARN" | "WARNING" => Some(LogLevel::Warning),
            "ERROR" | "FATAL" | "CRITICAL" => Some(LogLevel::Error),
            _ => None,
        }
    }
}

impl LogConfig {
    /// Our own lines of this kind, on standard error.
    pub fn on_standard_error(format: LogFormat) -> Self {
        LogConfig {
            format,
            layout: None,
            date_format: None,
            level: LogLevel::Info,
            loggers: BTreeMap::new(),
            static_fields: Map::new(),
            queue_max: usize::try_from(QUEUE_MAX).unwrap_or(1),
            file: None,
            deduplicate_heartbeats: Switch::Off,
        }
    }

    /// For what is to be told of a configuration that cannot be read: what the environment alone says.
    pub fn of_environment(environment: &[(OsString, OsString)]) -> Self {
        let word = environment.iter().find(|(name, _)| name == "PATRONI_LOG_TYPE").and_then(|(_, word)| word.to_str());
        LogConfig::on_standard_error(word.and_then(LogFormat::from_word).unwrap_or(LogFormat::Plain))
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> LogConfig {
    let format = LogFormat::from_word(&reader.text_or("log.type", "plain")).unwrap_or_else(|| {
        reader.wrong("log.type", "plain or json");
        LogFormat::Plain
    });
    let level = LogLevel::from_word(&reader.text_or("log.level", "INFO")).unwrap_or_else(|| {
        reader.wrong("log.level", LEVELS);
        LogLevel::Info
    });
    let mut static_fields = reader.map("log.static_fields").cloned().unwrap_or_default();
    remove_nulls(&mut static_fields);
    if !static_fields.is_empty() && format == LogFormat::Plain {
        let place = reader.document.place("log.static_fields");
        reader
            .report
            .warn(format!("{place}: static fields are part of the JSON format only; set PATRONI_LOG_TYPE=json"));
    }
    traceback_level(reader);
    let queue_max = match reader.whole_or("log.max_queue_size", 0..=QUEUE_MOST, QUEUE_MAX) {
        0 => QUEUE_MOST,
        lines => lines,
    };
    LogConfig {
        format,
        layout: layout(reader, format),
        date_format: date_format(reader),
        level,
        loggers: loggers(reader),
        static_fields,
        queue_max: usize::try_from(queue_max).unwrap_or(1),
        file: file(reader),
        deduplicate_heartbeats: reader.switch_or("log.deduplicate_heartbeat_logs", Switch::Off),
    }
}

/// Without an effect, but a value that Patroni does not know is a mistake.
fn traceback_level(reader: &mut Reader<'_>) {
    let level = reader.text_or("log.traceback_level", "ERROR");
    if !["ERROR", "DEBUG"].contains(&level.to_ascii_uppercase().as_str()) {
        reader.wrong("log.traceback_level", "ERROR or DEBUG");
    }
}

fn layout(reader: &mut Reader<'_>, format: LogFormat) -> Option<LogLayout> {
    let value = reader.value("log.format")?;
    let read = match format {
        LogFormat::Plain => LogLayout::plain(value),
        LogFormat::Json => LogLayout::json(value),
    };
    read.map_err(|problem| {
        let accepted = match format {
            LogFormat::Plain => "a line such as %(asctime)s %(levelname)s: %(message)s",
            LogFormat::Json => "a list of fields such as message, levelname: level",
        };
        reader.error("log.format", problem, accepted);
    })
    .ok()
}

fn date_format(reader: &mut Reader<'_>) -> Option<String> {
    let format = reader.text("log.dateformat")?;
    if let Err(error) = jiff::fmt::strtime::format(&format, &jiff::Zoned::now()) {
        reader.error("log.dateformat", format!("{format:?} given, {error}"), "what strftime takes: %Y-%m-%d %H:%M:%S");
        return None;
    }
    Some(format)
}

fn loggers(reader: &mut Reader<'_>) -> BTreeMap<String, LogLevel> {
    let mut loggers = BTreeMap::new();
    for (name, word) in reader.texts("log.loggers") {
        let Some(level) = LogLevel::from_word(&word) else {
            reader.wrong(&format!("log.loggers.{name}"), LEVELS);
            continue;
        };
        // Patroni's modules are finer than its packages: `patroni.postgresql.rewind` is a part of `patroni.postgresql`.
        let is_below =
            |known: &str| name == known || name.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'));
        let counterparts =
            COUNTERPARTS.iter().filter(|(known, _)| is_below(known)).max_by_key(|(known, _)| known.len());
        match counterparts {
            Some(("patroni", _)) if name != "patroni" => {
                let place = reader.document.origin("log.loggers");
                let known: Vec<&str> = COUNTERPARTS.iter().map(|(known, _)| *known).collect();
                reader.report.warn(format!(
                    "log.loggers.{name} of {place} has no effect: nothing here is called so; known are {} and the names of \
                     modules (tamada::api)",
                    known.join(", ")
                ));
            }
            Some((_, ours)) => loggers.extend(ours.iter().map(|ours| ((*ours).to_owned(), level))),
            None => drop(loggers.insert(name.replace('.', "::"), level)),
        }
    }
    loggers
}

fn file(reader: &mut Reader<'_>) -> Option<LogFile> {
    let mode = mode(reader);
    let size_max = reader.whole_or("log.file_size", 0..=i64::MAX, FILE_SIZE).unsigned_abs();
    let kept = u32::try_from(reader.whole_or("log.file_num", 0..=1000, FILES_KEPT)).unwrap_or(1);
    let dir = reader.path("log.dir")?;
    if !dir.is_absolute() {
        reader.wrong("log.dir", "an absolute path of a folder");
        return None;
    }
    if reader.purpose == Purpose::Start && !fs::metadata(&dir).is_ok_and(|folder| folder.is_dir()) {
        let given = format!("{dir:?} given, which is no folder");
        reader.error("log.dir", given, "a folder that is there and that PostgreSQL's account may write to");
    }
    Some(LogFile { dir, mode, size_max, kept })
}

/// Octal needs its leading 0: `644` is a decimal number, and a mode that nobody wants.
fn mode(reader: &mut Reader<'_>) -> Option<u32> {
    let number = match reader.value("log.mode")? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => units::parse_int(text, None),
        _ => None,
    };
    let mode = number.and_then(|number| u32::try_from(number).ok()).filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        reader.wrong("log.mode", "an octal mode with a leading 0, such as 0640");
    }
    mode
}
