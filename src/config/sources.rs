//! Reading the sources: the variables' texts, secrets from files, and the documents below them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::compose::compose;
use super::error::{ConfigError, Report};
use super::origin::Origin;
use super::raw::{Kind, RawEnv, Variable, known};

/// Larger files are no configuration.
const FILE_SIZE_MAX: u64 = 1 << 20;

/// A variable with its text, from its file too.
pub(super) struct Text {
    pub variable: &'static Variable,
    /// `NAME` or `NAME_FILE`.
    pub name: String,
    pub text: String,
}

/// The variables that are set, in the order in which they are applied. Empty ones count as not set.
pub(super) fn texts(raw: &RawEnv, report: &mut Report) -> Vec<Text> {
    let mut texts = Vec::new();
    for variable in known() {
        let name = variable.name();
        let given = raw.text(variable).filter(|text| !text.is_empty());
        let file = raw.files.get(&name).map(String::as_str).filter(|path| !path.is_empty());
        match (given, file) {
            (None, None) => {}
            (Some(text), None) => texts.push(Text { variable, name, text: text.to_owned() }),
            (Some(_), Some(_)) => {
                let both = ConfigError::new(format!("{name} and {name}_FILE"), "both set", "one of them");
                report.broken(&name, both);
            }
            (None, Some(path)) => match from_file(Path::new(path)) {
                Ok(text) => texts.push(Text { variable, name: format!("{name}_FILE"), text }),
                Err(why) => {
                    let given = format!("{} given, {why}", shown_path(path));
                    let accepted = "the path of a readable file with the value";
                    report.broken(&name, ConfigError::new(format!("{name}_FILE"), given, accepted));
                }
            },
        }
    }
    texts
}

/// Who takes `NAME_FILE` for `NAME` gives the secret itself; only what is plainly a path is repeated.
fn shown_path(path: &str) -> String {
    if path.starts_with('/') { format!("{path:?}") } else { "a relative path".to_owned() }
}

/// A value's file; line ends after the value are not part of it.
fn from_file(path: &Path) -> Result<String, String> {
    let text = read(path)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err("an empty file".to_owned()) } else { Ok(text.to_owned()) }
}

fn read(path: &Path) -> Result<String, String> {
    let reason = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        kind => format!("not readable: {kind}"),
    };
    let size = fs::metadata(path).map_err(reason)?.len();
    if size > FILE_SIZE_MAX {
        return Err(format!("a file of {size} bytes"));
    }
    let bytes = fs::read(path).map_err(reason)?;
    let text = String::from_utf8(bytes).map_err(|_| "a file that is not UTF-8 text".to_owned())?;
    // A byte order mark, which some editors write.
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())
}

/// The documents below the variables, in the order in which they are laid over one another.
pub(super) fn documents(texts: &[Text], file: Option<&Path>, report: &mut Report) -> Vec<(Map<String, Value>, Origin)> {
    let variable = texts.iter().find(|text| text.variable.kind == Kind::Document);
    let given = match (file, variable) {
        (Some(path), unread) => {
            if let Some(unread) = unread {
                report.warn(format!("{} is not read, since a configuration file is given", unread.name));
            }
            files(path, report)
        }
        (None, Some(text)) => vec![(text.name.clone(), text.text.clone(), Origin::Configuration)],
        (None, None) => {
            // Set, and reported as what it is.
            report.unread_document = report.unread_document.or(report.broken_variable("PATRONI_CONFIGURATION"));
            Vec::new()
        }
    };
    let mut documents = Vec::new();
    for (at, text, origin) in given {
        match document(&text) {
            Ok(mut map) => {
                if map.shift_remove("environment").is_some() {
                    report.warn(format!("{at}: environment is not a known section and is ignored"));
                }
                documents.push((map, origin));
            }
            Err((given, accepted)) => report.unread(ConfigError::new(at, given, accepted)),
        }
    }
    documents
}

/// The map, or what was given and what is accepted instead.
fn document(text: &str) -> Result<Map<String, Value>, (String, &'static str)> {
    const MAP: &str = "a YAML or JSON map";
    match compose(text).map(|composed| composed.value) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(Value::Null) => Err(("an empty document".to_owned(), MAP)),
        Ok(Value::String(text)) if is_path(&text) => {
            let accepted = "a YAML or JSON map; give a file as the argument, or its path in PATRONI_CONFIGURATION_FILE";
            Err(("holds a path".to_owned(), accepted))
        }
        Ok(_) => Err(("a document that is not a map".to_owned(), MAP)),
        Err(error) => Err((error.to_string(), MAP)),
    }
}

fn is_path(text: &str) -> bool {
    let is_named = [".yml", ".yaml", ".json"].iter().any(|end| text.ends_with(end));
    (text.starts_with(['/', '.']) || is_named) && !text.contains(char::is_whitespace)
}

/// One file, or the `.yml` and `.yaml` files of a folder in the order of their names.
fn files(path: &Path, report: &mut Report) -> Vec<(String, String, Origin)> {
    let mut paths = vec![path.to_owned()];
    if path.is_dir() {
        match listed(path) {
            Ok(found) if !found.is_empty() => paths = found,
            Ok(_) => {
                let empty = "a folder without files of the names *.yml or *.yaml";
                report.unread(ConfigError::new(path.display().to_string(), empty, "configuration files"));
                return Vec::new();
            }
            Err(error) => {
                let given = format!("a folder that is not readable: {}", error.kind());
                report.unread(ConfigError::new(path.display().to_string(), given, "a readable folder"));
                return Vec::new();
            }
        }
    }
    let mut texts = Vec::new();
    for path in paths {
        let at = path.display().to_string();
        match read(&path) {
            Ok(text) => texts.push((at, text, Origin::File(path))),
            Err(why) => report.unread(ConfigError::new(at, why, "a readable configuration file")),
        }
    }
    texts
}

fn listed(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
        if is_yaml && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
