//! Options of PostgreSQL's programs, from the notations of the configuration to arguments.

use serde_json::Value;

use super::{units, words};

/// The program that the options are for; each has some that would break what we do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Initdb,
    Basebackup,
    Rewind,
}

impl Tool {
    fn forbidden(self) -> &'static [&'static str] {
        match self {
            Tool::Initdb => &["pgdata", "nosync", "pwfile", "sync-only", "version"],
            Tool::Basebackup => &[
                "pgdata",
                "format",
                "wal-method",
                "xlog-method",
                "gzip",
                "version",
                "dbname",
                "host",
                "port",
                "username",
                "password",
            ],
            Tool::Rewind => &[
                "target-pgdata",
                "source-pgdata",
                "source-server",
                "write-recovery-conf",
                "dry-run",
                "restore-target-wal",
                "config-file",
                "no-ensure-shutdown",
                "version",
                "help",
            ],
        }
    }

    /// Options without an argument.
    fn flags(self) -> &'static [&'static str] {
        match self {
            Tool::Initdb => &[
                "allow-group-access",
                "data-checksums",
                "debug",
                "no-clean",
                "no-data-checksums",
                "no-instructions",
                "no-locale",
                "no-sync",
                "noclean",
                "show",
            ],
            Tool::Basebackup => &[
                "create-slot",
                "manifest-force-encode",
                "no-clean",
                "no-estimate-size",
                "no-manifest",
                "no-slot",
                "no-sync",
                "no-verify-checksums",
                "progress",
                "verbose",
                "write-recovery-conf",
            ],
            Tool::Rewind => &["debug", "no-sync", "progress"],
        }
    }
}

/// What a value says about its option.
enum Given {
    /// The option without an argument.
    Flag,
    LeftOut,
    Argument(String),
}

impl Given {
    /// `true`, `"true"` and nothing at all name a flag, `false` leaves it out. `None`: neither text nor that.
    fn of(key: &str, value: &Value, tool: Tool) -> Option<Given> {
        let is_flag = tool.flags().contains(&key);
        match value {
            Value::Null if is_flag => Some(Given::Flag),
            Value::Null | Value::Bool(false) => Some(Given::LeftOut),
            Value::Bool(true) => Some(Given::Flag),
            Value::String(text) if is_flag => match units::parse_bool(text) {
                Some(true) => Some(Given::Flag),
                Some(false) => Some(Given::LeftOut),
                None if text.is_empty() => Some(Given::Flag),
                None => Some(Given::Argument(text.clone())),
            },
            Value::String(text) => Some(Given::Argument(words::unquote(text))),
            Value::Number(number) => Some(Given::Argument(number.to_string())),
            Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// The arguments, and what is wrong with the options that gave none.
pub fn arguments(options: &Value, tool: Tool) -> (Vec<String>, Vec<String>) {
    let mut arguments = Vec::new();
    let mut problems = Vec::new();
    let mut take = |parsed: Result<Option<String>, String>| match parsed {
        Ok(argument) => arguments.extend(argument),
        Err(problem) => problems.push(problem),
    };
    match options {
        Value::Object(map) => {
            // As in Patroni an empty text or zero leaves an option of a map out.
            let is_set = |key: &str, value: &Value| {
                !key.is_empty() && (tool.flags().contains(&key) || (*value != "" && *value != 0))
            };
            for (key, value) in map.iter().filter(|(key, value)| is_set(key, value)) {
                take(pair(key, value, tool));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| take(item_argument(item, tool))),
        _ => take(Err("neither a list nor a map".to_owned())),
    }
    (arguments, problems)
}

fn item_argument(item: &Value, tool: Tool) -> Result<Option<String>, String> {
    match item {
        Value::String(word) => {
            let word = word.trim_start_matches("--");
            allowed(word.split('=').next().unwrap_or(word), None, tool)?;
            Ok(Some(format!("--{word}")))
        }
        Value::Object(map) => match map.iter().next() {
            Some((key, value)) if map.len() == 1 => pair(key, value, tool),
            _ => Err("an entry with several keys".to_owned()),
        },
        _ => Err("an entry that is neither a word nor a map with one key".to_owned()),
    }
}

fn pair(key: &str, value: &Value, tool: Tool) -> Result<Option<String>, String> {
    let given = Given::of(key, value, tool).ok_or_else(|| format!("the value of {key} is a map or a list"))?;
    Ok(match given {
        Given::LeftOut => None,
        Given::Flag => {
            allowed(key, None, tool)?;
            Some(format!("--{key}"))
        }
        Given::Argument(text) => {
            allowed(key, Some(&text), tool)?;
            Some(format!("--{key}={text}"))
        }
    })
}

fn allowed(name: &str, value: Option<&str>, tool: Tool) -> Result<(), String> {
    let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !is_plain {
        return Err("an option whose name is not a word".to_owned());
    }
    if tool.forbidden().contains(&name) {
        return Err(format!("the option {name} may not be set"));
    }
    // A client that compresses makes archives, not a data directory.
    let is_client_side = name == "compress" && !value.is_some_and(|value| value.starts_with("server"));
    if tool == Tool::Basebackup && is_client_side {
        return Err("the option compress may only be set to a value that begins with server".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_notation_gives_arguments() {
        let cases = [
            (json!(["data-checksums", {"encoding": "UTF8"}]), vec!["--data-checksums", "--encoding=UTF8"]),
            (json!({"encoding": "UTF8", "locale": "", "x": false, "": "y"}), vec!["--encoding=UTF8"]),
            (json!([{"opt": "\"bar baz\""}]), vec!["--opt=bar baz"]),
            (json!([{"opt": "'a' 'b'"}]), vec!["--opt='a' 'b'"]),
            (json!({"max-rate": 100}), vec!["--max-rate=100"]),
            (json!(["--verbose"]), vec!["--verbose"]),
        ];
        for (options, expected) in cases {
            assert_eq!(arguments(&options, Tool::Initdb), (expected.iter().map(|a| a.to_string()).collect(), vec![]));
        }
    }

    #[test]
    fn a_flag_is_named_by_true_or_nothing_and_left_out_by_false() {
        for value in [json!(true), json!("true"), json!(null), json!("on"), json!(""), json!("True")] {
            for options in [json!({ "data-checksums": value }), json!([{ "data-checksums": value }])] {
                assert_eq!(
                    arguments(&options, Tool::Initdb),
                    (vec!["--data-checksums".to_owned()], vec![]),
                    "{options}"
                );
            }
        }
        for value in [json!(false), json!("false"), json!("off")] {
            for options in [json!({ "data-checksums": value }), json!([{ "data-checksums": value }])] {
                assert_eq!(arguments(&options, Tool::Initdb), (vec![], vec![]), "{options}");
            }
        }
        let options = json!([{"verbose": true}, {"max-rate": 100}, {"label": "true"}, {"no-slot": "yes"}]);
        let expected = ["--verbose", "--max-rate=100", "--label=true", "--no-slot"].map(str::to_owned).to_vec();
        assert_eq!(arguments(&options, Tool::Basebackup), (expected, vec![]));
        assert_eq!(arguments(&json!({"locale": null, "encoding": "UTF8"}), Tool::Initdb).0, ["--encoding=UTF8"]);
    }

    #[test]
    fn what_would_break_a_program_is_a_problem() {
        let cases = [
            (json!(["pgdata"]), Tool::Initdb),
            (json!(["pwfile=/x"]), Tool::Initdb),
            (json!([{"max-rate": [100]}]), Tool::Basebackup),
            (json!([{"a": "1", "b": "2"}]), Tool::Initdb),
            (json!([["x"]]), Tool::Initdb),
            (json!("x"), Tool::Initdb),
            (json!({"host": "x"}), Tool::Basebackup),
            (json!(["compress"]), Tool::Basebackup),
            (json!({"compress": "gzip"}), Tool::Basebackup),
            (json!(["dry-run"]), Tool::Rewind),
            (json!(["two words"]), Tool::Rewind),
        ];
        for (options, tool) in cases {
            let (arguments, problems) = arguments(&options, tool);
            assert!(arguments.is_empty() && problems.len() == 1, "{options}: {arguments:?} {problems:?}");
        }
        assert_eq!(arguments(&json!({"compress": "server-zstd"}), Tool::Basebackup).0, ["--compress=server-zstd"]);
    }
}
