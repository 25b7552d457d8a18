//! What both a node's own `postgresql` section and the cluster's may say of the server and its programs. The node's own
//! word wins, key by key and each as a whole.
//!
//! The cluster's document may be Patroni's: what is wrong in it is left out and told. A change that is wrong is refused.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::options::{Tool, arguments};
use super::problem::Problem;
use super::reader::{as_lines, as_switch, scalar};
use super::{Callbacks, Config, PostgresConfig, redact, units, words};
use crate::core::policy::Switch;

/// The keys, as they stand below `postgresql`.
pub(super) const KEYS: [&str; 12] = [
    "basebackup",
    "bin_dir",
    "bin_name",
    "callbacks",
    "config_base_name",
    "custom_conf",
    "database",
    "krbsrvname",
    "pg_ctl_timeout",
    "rewind",
    "use_unix_socket",
    "use_unix_socket_repl",
];

pub(super) const PROGRAMS: [&str; 7] =
    ["initdb", "pg_basebackup", "pg_controldata", "pg_ctl", "pg_isready", "pg_rewind", "postgres"];

pub(super) const CALLBACKS: [&str; 5] = ["on_start", "on_stop", "on_restart", "on_reload", "on_role_change"];

pub(super) const DATABASE: &str = "postgres";
pub(super) const BASE_NAME: &str = "postgresql";
pub(super) const PG_CTL_TIMEOUT: i64 = 60;

/// `None`: nothing is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeSettings {
    pub config_base_name: Option<String>,
    pub custom_conf: Option<PathBuf>,
    pub bin_dir: Option<PathBuf>,
    pub bin_name: Option<BTreeMap<String, String>>,
    pub database: Option<String>,
    pub use_unix_socket: Option<Switch>,
    pub pg_ctl_timeout: Option<Duration>,
    pub krbsrvname: Option<String>,
    pub callbacks: Option<Callbacks>,
    pub basebackup: Option<Vec<String>>,
    pub rewind: Option<Vec<String>>,
}

impl Config {
    /// With what the cluster says where the node itself says nothing.
    pub fn with_cluster(&self, cluster: &NodeSettings) -> Config {
        let postgres = self.postgres.clone().with_cluster(cluster);
        Config { postgres, ..self.clone() }
    }
}

impl PostgresConfig {
    pub(super) fn with_cluster(mut self, cluster: &NodeSettings) -> PostgresConfig {
        fn either<T: Clone>(own: &Option<T>, cluster: &Option<T>) -> Option<T> {
            own.clone().or_else(|| cluster.clone())
        }
        let own = &self.own;
        self.config_base_name =
            either(&own.config_base_name, &cluster.config_base_name).unwrap_or_else(|| BASE_NAME.to_owned());
        self.custom_conf = either(&own.custom_conf, &cluster.custom_conf);
        self.bin_dir = either(&own.bin_dir, &cluster.bin_dir);
        self.bin_name = either(&own.bin_name, &cluster.bin_name).unwrap_or_default();
        self.database = either(&own.database, &cluster.database).unwrap_or_else(|| DATABASE.to_owned());
        self.use_unix_socket = either(&own.use_unix_socket, &cluster.use_unix_socket).unwrap_or(Switch::Off);
        let timeout = either(&own.pg_ctl_timeout, &cluster.pg_ctl_timeout);
        self.pg_ctl_timeout = timeout.unwrap_or(Duration::from_secs(PG_CTL_TIMEOUT.unsigned_abs()));
        self.krbsrvname = either(&own.krbsrvname, &cluster.krbsrvname);
        self.callbacks = either(&own.callbacks, &cluster.callbacks).unwrap_or_default();
        self.basebackup = either(&own.basebackup, &cluster.basebackup).unwrap_or_default();
        self.rewind_options = either(&own.rewind, &cluster.rewind).unwrap_or_default();
        self
    }
}

/// Of the cluster's section `postgresql`, and what is wrong with it.
pub(super) fn read(postgresql: &Map<String, Value>) -> (NodeSettings, Vec<Problem>) {
    let mut section = Section { postgresql, problems: Vec::new() };
    // Nothing here connects for replication to its own server: what is asked for holds.
    section.switch("use_unix_socket_repl");
    let settings = NodeSettings {
        config_base_name: section.file_name("config_base_name"),
        custom_conf: section.text("custom_conf").map(PathBuf::from),
        bin_dir: section.text("bin_dir").map(PathBuf::from),
        bin_name: section.programs(),
        database: section.text("database"),
        use_unix_socket: section.switch("use_unix_socket"),
        pg_ctl_timeout: section.seconds("pg_ctl_timeout"),
        krbsrvname: section.text("krbsrvname"),
        callbacks: section.callbacks(),
        basebackup: section.options("basebackup", Tool::Basebackup),
        rewind: section.options("rewind", Tool::Rewind),
    };
    (settings, section.problems)
}

/// What is wrong with the server's own settings there. Members read them as Patroni does, where anything may stand; a change
/// says what it means.
pub(super) fn problems_of_server(postgresql: &Map<String, Value>) -> Vec<Problem> {
    const SWITCHES: [&str; 4] = [
        "remove_data_directory_on_diverged_timelines",
        "remove_data_directory_on_rewind_failure",
        "use_pg_rewind",
        "use_slots",
    ];
    let mut section = Section { postgresql, problems: Vec::new() };
    for key in SWITCHES {
        section.switch(key);
    }
    section.map("recovery_conf");
    for key in ["pg_hba", "pg_ident"] {
        if let Some(value) = section.value(key).filter(|value| as_lines(value).is_none()) {
            section.wrong(key, value, "a list of lines");
        }
    }
    section.problems
}

struct Section<'a> {
    postgresql: &'a Map<String, Value>,
    problems: Vec<Problem>,
}

impl<'a> Section<'a> {
    /// `null` and empty text count as absent.
    fn value(&self, key: &str) -> Option<&'a Value> {
        self.postgresql.get(key).filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    fn wrong(&mut self, key: &str, value: &Value, accepted: &str) {
        let path = format!("postgresql.{key}");
        let given = redact::given(&path, value);
        self.problems.push(Problem { key: path, what: format!("{given}; expected: {accepted}") });
    }

    fn text(&mut self, key: &str) -> Option<String> {
        let value = self.value(key)?;
        let text = scalar(value).filter(|text| !text.contains('\0'));
        if text.is_none() {
            self.wrong(key, value, "text");
        }
        text
    }

    fn file_name(&mut self, key: &str) -> Option<String> {
        let name = self.text(key)?;
        if name.contains('/') {
            self.wrong(key, &Value::from(name), "a file's name without /");
            return None;
        }
        Some(name)
    }

    fn switch(&mut self, key: &str) -> Option<Switch> {
        let value = self.value(key)?;
        let switch = as_switch(value);
        if switch.is_none() {
            self.wrong(key, value, "on, true, yes, 1, off, false, no or 0");
        }
        switch
    }

    fn seconds(&mut self, key: &str) -> Option<Duration> {
        let value = self.value(key)?;
        let number = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => units::parse_int(text, None),
            _ => None,
        };
        let seconds = number.filter(|number| (1..=i64::from(i32::MAX)).contains(number));
        if seconds.is_none() {
            self.wrong(key, value, "a whole number of seconds from 1 to 2147483647");
        }
        seconds.map(|seconds| Duration::from_secs(seconds.unsigned_abs()))
    }

    fn map(&mut self, key: &str) -> Option<&'a Map<String, Value>> {
        let value = self.value(key)?;
        let map = value.as_object();
        if map.is_none() {
            self.wrong(key, value, "a map");
        }
        map
    }

    fn programs(&mut self) -> Option<BTreeMap<String, String>> {
        let mut names = BTreeMap::new();
        for (program, value) in self.map("bin_name")?.iter().filter(|(_, value)| !value.is_null()) {
            match scalar(value).filter(|_| PROGRAMS.contains(&program.as_str())) {
                Some(name) => drop(names.insert(program.clone(), name)),
                None => {
                    let accepted = format!("the name of a program's file, and {} before it", PROGRAMS.join(", "));
                    self.wrong(&format!("bin_name.{program}"), value, &accepted);
                }
            }
        }
        Some(names)
    }

    fn callbacks(&mut self) -> Option<Callbacks> {
        let map = self.map("callbacks")?;
        let mut callbacks = Callbacks::default();
        for (event, value) in map.iter().filter(|(_, value)| !value.is_null()) {
            let command = value.as_str().and_then(words::split);
            match (callbacks.of_event(event), command) {
                (Some(callback), Some(command)) => *callback = command,
                (Some(_), None) => {
                    self.wrong(&format!("callbacks.{event}"), value, "a command line in a shell's notation");
                }
                (None, _) => self.wrong(&format!("callbacks.{event}"), value, &CALLBACKS.join(", ")),
            }
        }
        Some(callbacks)
    }

    fn options(&mut self, key: &str, tool: Tool) -> Option<Vec<String>> {
        let (arguments, problems) = arguments(self.value(key)?, tool);
        let problems = problems.into_iter();
        self.problems.extend(problems.map(|what| Problem { key: format!("postgresql.{key}"), what }));
        Some(arguments)
    }
}

impl Callbacks {
    pub(super) fn of_event(&mut self, event: &str) -> Option<&mut Vec<String>> {
        match event {
            "on_start" => Some(&mut self.on_start),
            "on_stop" => Some(&mut self.on_stop),
            "on_restart" => Some(&mut self.on_restart),
            "on_reload" => Some(&mut self.on_reload),
            "on_role_change" => Some(&mut self.on_role_change),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(document: Value) -> (NodeSettings, Vec<String>) {
        let (settings, problems) = read(document.as_object().expect("a map"));
        (settings, problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn every_key_is_read() {
        let document = json!({
            "config_base_name": "pg", "custom_conf": "/etc/pg.conf", "bin_dir": "/opt/bin", "bin_name": {"postgres": "pg"},
            "database": "admin", "use_unix_socket": "on", "use_unix_socket_repl": true, "pg_ctl_timeout": "90",
            "krbsrvname": "pg", "callbacks": {"on_start": "/cb 'a b'", "on_stop": null},
            "basebackup": [{"max-rate": "10M"}, "verbose"], "rewind": {"debug": true},
        });
        assert_eq!(document.as_object().expect("a map").len(), KEYS.len());
        assert!(document.as_object().expect("a map").keys().all(|key| KEYS.contains(&key.as_str())));
        let (settings, problems) = of(document);
        assert_eq!(problems, [""; 0]);
        let expected = NodeSettings {
            config_base_name: Some("pg".into()),
            custom_conf: Some("/etc/pg.conf".into()),
            bin_dir: Some("/opt/bin".into()),
            bin_name: Some([("postgres".into(), "pg".into())].into()),
            database: Some("admin".into()),
            use_unix_socket: Some(Switch::On),
            pg_ctl_timeout: Some(Duration::from_secs(90)),
            krbsrvname: Some("pg".into()),
            callbacks: Some(Callbacks { on_start: vec!["/cb".into(), "a b".into()], ..Callbacks::default() }),
            basebackup: Some(vec!["--max-rate=10M".into(), "--verbose".into()]),
            rewind: Some(vec!["--debug".into()]),
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn each_wrong_value_is_told_and_left_out() {
        let wrong = [
            (json!({"pg_ctl_timeout": 0}), "postgresql.pg_ctl_timeout: "),
            (json!({"pg_ctl_timeout": "1min"}), "postgresql.pg_ctl_timeout: "),
            (json!({"pg_ctl_timeout": -5}), "postgresql.pg_ctl_timeout: "),
            (json!({"pg_ctl_timeout": [60]}), "postgresql.pg_ctl_timeout: "),
            (json!({"use_unix_socket": "maybe"}), "postgresql.use_unix_socket: "),
            (json!({"use_unix_socket_repl": {}}), "postgresql.use_unix_socket_repl: "),
            (json!({"database": ["a"]}), "postgresql.database: "),
            (json!({"krbsrvname": {}}), "postgresql.krbsrvname: "),
            (json!({"config_base_name": "a/b"}), "postgresql.config_base_name: "),
            (json!({"custom_conf": 1.5e300, "bin_dir": []}), "postgresql.bin_dir: "),
            (json!({"bin_name": "x"}), "postgresql.bin_name: "),
            (json!({"bin_name": {"psql": "x"}}), "postgresql.bin_name.psql: "),
            (json!({"callbacks": "/cb"}), "postgresql.callbacks: "),
            (json!({"callbacks": {"on_start": ["/cb"]}}), "postgresql.callbacks.on_start: "),
            (json!({"callbacks": {"on_start": "/cb 'open"}}), "postgresql.callbacks.on_start: "),
            (json!({"callbacks": {"on_strat": "/cb"}}), "postgresql.callbacks.on_strat: "),
            (json!({"basebackup": ["pgdata=/x"]}), "postgresql.basebackup: "),
            (json!({"rewind": "debug"}), "postgresql.rewind: "),
        ];
        for (document, told) in wrong {
            let (_, problems) = of(document.clone());
            assert!(problems.len() == 1 && problems[0].starts_with(told), "{document}: {problems:?}");
        }
        let (settings, problems) = of(json!({"pg_ctl_timeout": "x", "database": {}, "use_unix_socket": 7}));
        assert_eq!((settings, problems.len()), (NodeSettings::default(), 3));
    }

    #[test]
    fn a_change_of_the_servers_settings_says_what_it_means() {
        let told = |document: Value| problems_of_server(document.as_object().expect("a map"));
        let right = json!({"use_pg_rewind": "yes", "use_slots": 0, "recovery_conf": {"a": 1}, "pg_hba": "a\nb", "pg_ident": []});
        assert_eq!(told(right), []);
        let wrong = json!({"use_pg_rewind": "maybe", "use_slots": [], "remove_data_directory_on_rewind_failure": 2,
                           "recovery_conf": "x", "pg_hba": 5, "pg_ident": {"a": 1}});
        assert_eq!(told(wrong).len(), 6);
    }

    #[test]
    fn what_is_absent_says_nothing() {
        assert_eq!(of(json!({"database": null, "callbacks": null, "krbsrvname": ""})), Default::default());
    }
}
