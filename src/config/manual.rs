//! `docs/variables.md`, generated from the tables of variables. A test compares the two.

use std::fmt::Write;

use super::raw::{Kind, Needs, TABLES, Variable};

const INTRODUCTION: &str = "\
# Variables

Generated from the code (`src/config/raw`); `make fix` writes it anew.

Everything can be set by environment variables alone. A YAML or JSON document with the same settings may stand below
them: a file or a folder named as the argument, or `PATRONI_CONFIGURATION`. Single variables win over it, with a warning
where they differ. The column *key* is the path in that document.

- A variable that is set but empty counts as not set.
- **secret**: never shown in a log, an error or the effective configuration. `NAME_FILE` may hold the path of a file with
  the value of `NAME`; a byte order mark and the line ends after the value are cut. Both set is an error.
- **cluster**: the value is written into the cluster's configuration once, when the cluster is initialised. From then on
  that configuration holds, and a start with another value warns. Change it with `PATCH /config` or `tamada config set`.
- **once**: used when the first data directory is made.
- The others are read when the container starts.
- A value that is not accepted ends the start with exit code 64, and so does a file that is not there; all errors are
  logged at once, one line each. An unknown `PATRONI_*` or `TAMADA_*` variable is a warning, or an error where its right
  name is that of a setting on which data depend, such as `PATRONI_SYNCHRONOUS_MODE`.
- `${NAME}` in a value is not replaced by anything, and is an error, except in commands and within a password that has a
  variable of its own.
- In a document numbers and words are taken as they are written where text is expected (`3.10`, `0x1F`); `null` means
  that the setting is absent.
- `tamada config check` shows the configuration in force and where each value came from.
";

/// The whole text.
pub fn manual() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (heading, variables) in TABLES {
        let _ =
            write!(text, "\n## {heading}\n\n| variable | key | value | default | meaning |\n|---|---|---|---|---|\n");
        for variable in *variables {
            let _ = writeln!(text, "{}", row(variable));
        }
    }
    text
}

fn row(variable: &Variable) -> String {
    let key = match variable.path.strip_prefix("environment.") {
        Some(_) => String::new(),
        None => format!("`{}`", variable.path),
    };
    let default = match variable.default {
        "" => String::new(),
        default => escaped(default),
    };
    let mut notes = Vec::new();
    if variable.kind.is_secret() {
        notes.push("**secret**");
    } else if variable.kind == Kind::FileText {
        notes.push("`_FILE`");
    }
    match variable.needs {
        Needs::Restart => {}
        Needs::Cluster => notes.push("**cluster**"),
        Needs::Initialisation => notes.push("**once**"),
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    let (name, accepted, doc) = (variable.name(), escaped(variable.kind.accepted()), escaped(variable.doc()));
    format!("| `{name}` | {key} | {accepted} | {default} | {doc}{notes} |")
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}
