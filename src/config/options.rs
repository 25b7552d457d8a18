//! Options of PostgreSQL's programs, from the notations of the configuration to arguments (`bootstrap.md` 3.1).

use serde_json::Value;

use super::reader::scalar;
use super::words;

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
}

/// The arguments, and what is wrong with the options that gave none.
pub fn arguments(options: &Value, tool: Tool) -> (Vec<String>, Vec<String>) {
    let mut arguments = Vec::new();
    let mut problems = Vec::new();
    let mut take = |parsed: Result<String, String>| match parsed {
        Ok(argument) => arguments.push(argument),
        Err(problem) => problems.push(problem),
    };
    match options {
        Value::Object(map) => {
            let is_set =
                |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value != "" && value != 0;
            for (key, value) in map.iter().filter(|(key, value)| !key.is_empty() && is_set(value)) {
                take(pair(key, value, tool));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| take(item_argument(item, tool))),
        _ => take(Err("neither a list nor a map".to_owned())),
    }
    (arguments, problems)
}

fn item_argument(item: &Value, tool: Tool) -> Result<String, String> {
    match item {
        Value::String(word) => {
            let word = word.trim_start_matches("--");
            allowed(word.split('=').next().unwrap_or(word), None, tool)?;
            Ok(format!("--{word}"))
        }
        Value::Object(map) => match map.iter().next() {
            Some((key, value @ Value::String(_))) if map.len() == 1 => pair(key, value, tool),
            Some((key, _)) if map.len() == 1 => Err(format!("the value of {key} is not text; quote it")),
            _ => Err("an entry with several keys".to_owned()),
        },
        _ => Err("an entry that is neither a word nor a map with one key".to_owned()),
    }
}

fn pair(key: &str, value: &Value, tool: Tool) -> Result<String, String> {
    let text = scalar(value).ok_or_else(|| format!("the value of {key} is not text"))?;
    let text = words::unquote(&text);
    allowed(key, Some(&text), tool)?;
    Ok(format!("--{key}={text}"))
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
    fn what_would_break_a_program_is_a_problem() {
        let cases = [
            (json!(["pgdata"]), Tool::Initdb),
            (json!(["pwfile=/x"]), Tool::Initdb),
            (json!([{"max-rate": 100}]), Tool::Basebackup),
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
