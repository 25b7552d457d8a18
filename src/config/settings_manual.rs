//! `docs/settings.md`, generated from the table of Patroni's settings. A test compares the two.

use std::fmt::Write;

use super::settings_table::{CLUSTER, NODE};

const INTRODUCTION: &str = "\
# Patroni's settings

Generated from the code (`src/config/settings_table.rs`); `make fix` writes it anew.

Each setting of Patroni 4.1.5, by its path in a document, and what becomes of it:

- **works**: as with Patroni.
- **differs**: works, otherwise than with Patroni in what the note says.
- **accepted**: known, and without a meaning here.
- **not yet**: no effect; a warning names it.
- **refused**: the start ends with exit code 64, or a PATCH with 422, by name: data or availability would depend on it.

[variables.md](variables.md) has the variables. A wrong value of a node's own setting ends the start with exit code 64, all of them at
once. In the cluster's configuration a PATCH or PUT with a wrong timer, a wrong value below `postgresql` or a setting that is refused
is answered with 422 and all that is wrong, and changes nothing; what is wrong below `postgresql` in a document that came another way is left
out and told in the log, and where Patroni would reject the whole document the last good one stays in force. A number or switch of
another kind means its default, as with Patroni.

A configuration file that was rewritten is read again at SIGHUP and at `POST /reload`. `name`, `scope`, `namespace`, the data and
configuration folders, `bin_dir`, `bin_name`, `config_base_name`, `database`, `pgpass`, `request_queue_size` and the DCS take effect with the
next start, which a warning says.

## The line of each cycle

Patroni has one cycle each `loop_wait` and logs its result. Here cycles come with every change as well. A result is logged at once when
it is another one; one that says that nothing had to be done (`no action`, `PAUSE: no action`) is logged again each `loop_wait` while it
stays the same, at most a twentieth earlier, so that monitoring may count these lines. Any other is told once. The sentences are
Patroni's: `no action. I am (m1), the leader with the lock`, `no action. I am (m2), a secondary, and following a leader (m1)`.
`Lock owner: m1; I am m2` stands before every result that is none of these, and at level DEBUG before these too. With
`log.deduplicate_heartbeat_logs` they are logged once.
";

/// The whole text.
pub fn settings_manual() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (heading, table) in [("Of a node", NODE), ("Of the cluster (`/config`, `bootstrap.dcs`)", CLUSTER)] {
        let _ = write!(text, "\n## {heading}\n");
        for line in table.lines() {
            match line.strip_prefix("## ") {
                Some(heading) => {
                    let _ = write!(text, "\n### {heading}\n\n| setting | status | note |\n|---|---|---|\n");
                }
                None => {
                    let row = Row::of(line);
                    let keys: Vec<String> = row.keys.iter().map(|key| format!("`{key}`")).collect();
                    let _ = writeln!(text, "| {} | {} | {} |", keys.join(", "), row.status, row.note);
                }
            }
        }
    }
    text
}

/// A line of the table.
struct Row {
    keys: Vec<&'static str>,
    status: &'static str,
    note: &'static str,
}

impl Row {
    fn of(line: &'static str) -> Row {
        let mut cells = line.splitn(3, '|').map(str::trim);
        let mut cell = || cells.next().unwrap_or_default();
        Row { keys: cell().split(", ").collect(), status: cell(), note: cell() }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use serde_json::{Map, Value, json};

    use super::*;
    use crate::config::{Account, Config, ConfigErrors, Dynamic, FoundData, HostFacts, KubernetesAccess};

    fn rows(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
        let rows = table.lines().filter(|line| !line.starts_with("##")).map(Row::of);
        rows.flat_map(|row| row.keys.into_iter().map(move |key| (key, row.status)))
    }

    /// `{"a": {"b": value}}` of `a.b`.
    fn nested(path: &str, value: Value) -> Value {
        path.rsplit('.').fold(value, |value, key| Value::Object(Map::from_iter([(key.to_owned(), value)])))
    }

    fn node(document: &Value) -> Result<Config, ConfigErrors> {
        let host = HostFacts {
            host_name: "n1".to_owned(),
            kubernetes: KubernetesAccess { service_account: true, kubeconfig: false },
            account: Account::Named("postgres".to_owned()),
            inspect: Box::new(|_| FoundData::None),
            unusable: |_, _| Vec::new(),
        };
        let dcs = match document.get("kubernetes") {
            Some(_) => ("PATRONI_KUBERNETES_LABELS", "application: demo"),
            None => ("PATRONI_ETCD3_HOSTS", "e:2379"),
        };
        let document = document.to_string();
        let variables = [
            ("PATRONI_SCOPE", "demo"),
            ("PGDATA", "/data"),
            dcs,
            ("PATRONI_NAME", "n1"),
            ("POD_IP", "10.0.0.1"),
            ("POSTGRES_PASSWORD", "a"),
            ("PATRONI_REPLICATION_PASSWORD", "b"),
            ("PATRONI_CONFIGURATION", &document),
        ];
        let variables = variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Config::from_environment(variables.into_iter(), None, &host)
    }

    /// Among these is one that whoever reads the setting takes for asked for.
    fn samples() -> [Value; 5] {
        [json!("x"), json!("on"), json!({"host": "x"}), json!({"a": {"type": "physical"}}), json!(["x"])]
    }

    #[test]
    fn each_setting_of_a_node_is_as_the_table_says() {
        for (key, status) in rows(NODE) {
            let named = |text: String| text.contains(key) || text.contains(key.rsplit('.').next().unwrap_or(key));
            let told = |value: Value| match node(&nested(key, value)) {
                Ok(config) => config.warnings.into_iter().any(named),
                Err(_) => false,
            };
            let refused = |value: Value| node(&nested(key, value)).is_err_and(|errors| named(errors.to_string()));
            match status {
                "works" | "differs" | "accepted" => {
                    let unknown = |text: &String| text.contains("is not a known setting");
                    let warnings =
                        node(&nested(key, Value::Null)).unwrap_or_else(|errors| panic!("{key}: {errors}")).warnings;
                    assert!(!warnings.iter().any(unknown), "{key}: {warnings:?}");
                }
                "not yet" => assert!(samples().into_iter().any(told), "{key} is not told to have no effect"),
                "refused" => assert!(samples().into_iter().any(refused), "{key} is not refused"),
                other => panic!("{key}: {other}"),
            }
        }
    }

    #[test]
    fn each_setting_of_the_cluster_is_as_the_table_says() {
        let document = |key: &str, value: Value| nested(key, value).as_object().cloned().expect("a map");
        for (key, status) in rows(CLUSTER) {
            let told = |value: Value| Dynamic::warnings(&document(key, value)).iter().any(|text| text.contains(key));
            let refused = |value: Value| {
                Dynamic::problems_of(&document(key, value)).iter().any(|text| text.contains("not implemented"))
            };
            match status {
                "works" | "accepted" | "differs" => {
                    assert_eq!(Dynamic::unknown_keys(&document(key, json!(1))), [""; 0], "{key}");
                    assert!(!samples().into_iter().any(refused), "{key} is refused");
                }
                "not yet" => assert!(samples().into_iter().any(told), "{key} is not told to have no effect"),
                "refused" => assert!(samples().into_iter().any(refused), "{key} is not refused"),
                other => panic!("{key}: {other}"),
            }
        }
    }

    #[test]
    fn every_key_is_there_once_and_every_variable_has_its_own() {
        for table in [NODE, CLUSTER] {
            let mut keys: Vec<&str> = rows(table).map(|(key, _)| key).collect();
            let count = keys.len();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), count);
        }
        const OURS: [&str; 1] = ["PATRONI_KUBERNETES_USE_LEASES"];
        let of_patroni = |name: &String| name.starts_with("PATRONI_") && !OURS.contains(&name.as_str());
        for variable in crate::config::raw::known().filter(|variable| of_patroni(&variable.name())) {
            let path = variable.path.replace("authentication.replication.", "authentication.superuser.");
            let path = path.replace("authentication.rewind.", "authentication.superuser.");
            let (table, path) = match path.strip_prefix("bootstrap.dcs.") {
                Some(path) => (CLUSTER, path),
                None => (NODE, path.as_str()),
            };
            let parents =
                |key: &str| path == key || key.starts_with(&format!("{path}.")) || path.starts_with(&format!("{key}."));
            let is_there = path.starts_with("environment.") || rows(table).any(|(key, _)| parents(key));
            assert!(is_there, "{} sets {path}, which the table does not have", variable.name());
        }
    }
}
