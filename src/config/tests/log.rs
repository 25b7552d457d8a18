//! The section `log`.

use std::ffi::OsString;

use super::{CLUSTER, Config, cluster, host};
use crate::config::{FoundData, LogFile, LogLevel};
use crate::core::policy::Switch;

fn wrong(name: &str, value: &str) -> String {
    let lines = super::error_lines(cluster(&[(name, value)]));
    let [line] = &lines[..] else { panic!("{name}={value}: {lines:?}") };
    line.clone()
}

#[test]
fn each_setting_is_read() {
    let config = cluster(&[
        ("PATRONI_LOG_DIR", "/var/log/patroni"),
        ("PATRONI_LOG_MODE", "0640"),
        ("PATRONI_LOG_FILE_SIZE", "1000"),
        ("PATRONI_LOG_FILE_NUM", "2"),
        ("PATRONI_LOG_MAX_QUEUE_SIZE", "0"),
        ("PATRONI_LOG_TRACEBACK_LEVEL", "debug"),
        ("PATRONI_LOG_DATEFMT", "%F"),
        ("PATRONI_LOG_DATEFORMAT", "%T"),
        ("PATRONI_LOGFORMAT", "%(message)s"),
        ("PATRONI_LOG_DEDUPLICATE_HEARTBEAT_LOGS", "on"),
        ("PATRONI_LOG_LOGGERS", "patroni.postgresql: DEBUG, patroni.ha: ERROR, patroni.api.x: INFO, urllib3: WARNING"),
    ])
    .unwrap();
    let log = &config.log;
    let file = LogFile { dir: "/var/log/patroni".into(), mode: Some(0o640), size_max: 1000, kept: 2 };
    assert_eq!(log.file, Some(file));
    assert_eq!((log.queue_max, log.date_format.as_deref()), (1_000_000, Some("%T")));
    assert!(log.layout.is_some() && log.deduplicate_heartbeats == Switch::On);
    let loggers: Vec<(&str, LogLevel)> = log.loggers.iter().map(|(name, level)| (name.as_str(), *level)).collect();
    let expected = [
        ("tamada::agent", LogLevel::Error),
        ("tamada::api", LogLevel::Info),
        ("tamada::core", LogLevel::Error),
        ("tamada::postgres", LogLevel::Debug),
        ("urllib3", LogLevel::Warning),
    ];
    assert_eq!(loggers, expected);
    let none: Vec<&String> = config.warnings.iter().filter(|warning| !warning.contains("wins over")).collect();
    assert_eq!(none, [""; 0]);
}

#[test]
fn without_settings_the_log_goes_to_standard_error() {
    let log = cluster(&[]).unwrap().log;
    assert!(log.file.is_none() && log.layout.is_none() && log.queue_max == 1000);
    assert_eq!(log.deduplicate_heartbeats, Switch::Off);
    // Without a folder the rest of a file's settings is idle.
    assert!(cluster(&[("PATRONI_LOG_FILE_NUM", "3")]).unwrap().log.file.is_none());
}

#[test]
fn what_cannot_be_is_told_with_what_is_accepted() {
    for (name, value, told) in [
        ("PATRONI_LOG_DIR", "logs", "an absolute path"),
        ("PATRONI_LOG_MODE", "644", "a leading 0, such as 0640"),
        ("PATRONI_LOG_MODE", "rw", "a leading 0"),
        ("PATRONI_LOG_MODE", "-1", "a leading 0"),
        ("PATRONI_LOG_FILE_SIZE", "25MB", "whole number"),
        ("PATRONI_LOG_FILE_NUM", "1001", "0 to 1000"),
        ("PATRONI_LOG_MAX_QUEUE_SIZE", "1000001", "0 to 1000000"),
        ("PATRONI_LOG_TRACEBACK_LEVEL", "INFO", "ERROR or DEBUG"),
        ("PATRONI_LOG_FORMAT", "%(asctime)s %(color)s", "no attribute color, only asctime"),
        ("PATRONI_LOG_FORMAT", "[message]", "no %(name)s"),
        ("PATRONI_LOG_DATEFORMAT", "%Q!%J", "what strftime takes"),
        ("PATRONI_LOG_LOGGERS", "patroni.api: LOUD", "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
        ("PATRONI_LOG_DEDUPLICATE_HEARTBEAT_LOGS", "maybe", "on, true"),
    ] {
        let line = wrong(name, value);
        assert!(line.starts_with(name) && line.contains(told), "{name}={value}: {line}");
    }
    let unknown = cluster(&[("PATRONI_LOG_LOGGERS", "patroni.watchdogs: DEBUG")]).unwrap().warnings;
    assert!(unknown.len() == 1 && unknown[0].contains("log.loggers.patroni.watchdogs"), "{unknown:?}");
}

#[test]
fn a_folder_that_is_not_there_ends_the_start() {
    let vars = CLUSTER.iter().chain(&[("PATRONI_LOG_DIR", "/nowhere/log")]);
    let vars = vars.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let errors = Config::for_start(vars, None, &host(FoundData::None)).expect_err("no folder").to_string();
    assert!(errors.contains("PATRONI_LOG_DIR: \"/nowhere/log\" given, which is no folder"), "{errors}");
}
