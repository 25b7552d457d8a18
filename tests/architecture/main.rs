//! Holds the shape of the program: which room may name which, what the core may not know, how long things may be.
//!
//! Reads the source as text. What is allowed stands in the tables here; a change of one is a change of the design and
//! belongs into an ADR.

mod circles;
mod source;

use std::collections::BTreeSet;

use source::{Source, code, sources};

/// Which rooms a room may name besides itself. Arrows only downwards.
const ROOMS: [(&str, &[&str]); 18] = [
    ("core", &[]),
    ("boottime", &["core"]),
    ("wire", &[]),
    ("process", &[]),
    ("environment", &[]),
    ("mounts", &[]),
    ("config", &["core"]),
    ("telemetry", &["config"]),
    ("http", &["core", "config"]),
    ("dcs", &["core", "config"]),
    ("postgres", &["boottime", "core", "config", "environment", "mounts"]),
    ("agent", &["boottime", "core", "config", "dcs", "postgres", "wire"]),
    ("api", &["boottime", "core", "config", "http", "agent"]),
    ("ctl", &["core", "config", "dcs", "api", "http"]),
    ("init", &["boottime", "environment", "mounts", "wire"]),
    // Where the parts are put together for the agent's process.
    ("run", &["agent", "api", "config", "core", "dcs", "http", "postgres", "process", "telemetry", "wire"]),
    ("lib", &[]),
    ("main", &["ctl", "init", "process", "run", "wire"]),
];

/// Where a room may name only a part of another: (who, room, parts).
const PARTS: [(&str, &str, &[&str]); 2] = [("api", "agent", &["status", "mailbox"]), ("ctl", "api", &["types"])];

/// What the core may not know of, as it stands in the code.
const FORBIDDEN_IN_CORE: [&str; 21] = [
    "async fn",
    "async move",
    ".await",
    "tokio::",
    "Instant::now",
    "SystemTime",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "Mutex",
    "RwLock",
    "OnceLock",
    "std::sync::atomic",
    "tracing::",
    "serde_json::",
    "rand::",
    "println!",
    ".expect(",
];

/// The files that may hold unsafe code, each small and with its reasons.
const UNSAFE: [&str; 6] = [
    "src/agent/alarm.rs",
    "src/init/sys.rs",
    "src/postgres/kernel.rs",
    "src/process.rs",
    "tests/init/cast.rs",
    "tests/support/unprivileged.rs",
];

const FILE_LINES: usize = 400;
const FILE_LINES_HARD: usize = 500;
const FUNCTION_LINES: usize = 70;

/// Files longer than `FILE_LINES`, with the length that they may not exceed. The list only gets shorter.
const LONG_FILES: [(&str, usize); 0] = [];

#[test]
fn rooms_name_only_what_lies_below_them() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/")) {
        let room = source.room();
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            problems.push(format!("{}: the room {room} is in no table", source.path));
            continue;
        };
        for (line, name, part) in mentions(source) {
            let is_part = |(who, other, parts): &(&str, &str, &[&str])| {
                *who != room || *other != name || parts.contains(&part.as_str())
            };
            if name != room && !(allowed.contains(&name.as_str()) && PARTS.iter().all(is_part)) {
                problems.push(format!("{}:{line}: {room} may not name {name}::{part}", source.path));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// The rooms that a file names by `crate::`, `tamada::` or enough `super::`: line, room, what follows it.
fn mentions(source: &Source) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    let above = "super::".repeat(source.depth().max(1));
    for root in ["crate::", "tamada::", &above] {
        for (at, _) in source.code.match_indices(root) {
            let before = source.code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let line = source.code[..at].matches('\n').count() + 1;
            for path in paths(&source.code[at + root.len()..]) {
                let (room, part) = path.split_once("::").unwrap_or((&path, ""));
                if ROOMS.iter().any(|(name, _)| *name == room) {
                    found.push((line, room.to_owned(), part.to_owned()));
                }
            }
        }
    }
    found
}

/// The first two words of a path, or of each path in braces.
fn paths(text: &str) -> Vec<String> {
    let Some(group) = text.strip_prefix('{') else {
        let words: String = text.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
        let mut words = words.split("::").filter(|word| !word.is_empty());
        let (room, part) = (words.next().unwrap_or_default().to_owned(), words.next());
        if let Some(inner) = text.strip_prefix(&format!("{room}::{{")) {
            return elements(inner).iter().map(|part| format!("{room}::{}", first_word(part))).collect();
        }
        return vec![part.map_or(room.clone(), |part| format!("{room}::{part}"))];
    };
    elements(group).iter().flat_map(|element| paths(element)).collect()
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The elements of a group whose opening brace is behind us.
fn elements(text: &str) -> Vec<String> {
    let (mut depth, mut elements) = (0, vec![String::new()]);
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                elements.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = elements.last_mut().filter(|_| !c.is_whitespace()) {
            last.push(c);
        }
    }
    elements.retain(|element| !element.is_empty());
    elements
}

#[test]
fn the_core_is_pure() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| source.room() == "core" && !source.is_test()) {
        // Tests inside a file come last.
        let code = source.code.split("#[cfg(test)]").next().unwrap_or_default();
        for word in FORBIDDEN_IN_CORE {
            for (at, _) in code.match_indices(word) {
                problems.push(format!("{}:{}: {word}", source.path, code[..at].matches('\n').count() + 1));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn files_and_functions_are_short() {
    let mut problems = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        let ratchet = LONG_FILES.iter().find(|(path, _)| *path == source.path);
        let allowed = ratchet.map_or(FILE_LINES, |(_, lines)| *lines).min(FILE_LINES_HARD);
        if lines > allowed {
            problems.push(format!("{}: {lines} lines, {allowed} are allowed", source.path));
        }
        if ratchet.is_some() && lines <= FILE_LINES {
            problems.push(format!("{}: {lines} lines, no longer in need of an exception", source.path));
        }
        for (line, name, length) in source.functions() {
            if length > FUNCTION_LINES {
                problems.push(format!("{}:{line}: {name} has {length} lines", source.path));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn the_map_names_every_file_of_the_large_rooms() {
    let map = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/ARCHITECTURE.md")).expect("it is there");
    for room in ["config", "postgres"] {
        let start = format!("\n`{room}`: ");
        let listed = map.split_once(&start).and_then(|(_, rest)| rest.split_once("\n\n")).expect("its list").0;
        let of_room = sources().into_iter().filter(|source| source.room() == room && !source.is_test());
        let names: BTreeSet<String> = of_room.filter_map(|source| Some(part(&source.path)?.to_owned())).collect();
        let missing: Vec<&String> = names.iter().filter(|name| !listed.contains(&format!("`{name}`"))).collect();
        assert!(names.len() > 20 && missing.is_empty(), "{room}: {missing:?}");
    }
}

/// `clone` for `src/postgres/clone.rs`, `conf` for a file below `src/postgres/conf`.
fn part(path: &str) -> Option<&str> {
    let name = path.split('/').nth(2)?.trim_end_matches(".rs");
    (name != "mod").then_some(name)
}

#[test]
fn files_say_what_they_are_for() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|source| !source.is_test() && !source.text.starts_with("//!"))
        .map(|source| source.path)
        .collect();
    assert!(silent.is_empty(), "without a module doc: {silent:?}");
}

#[test]
fn unsafe_code_stays_in_its_files() {
    let is_unsafe = |source: &Source| {
        let words = source.code.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.into_iter().any(|word| word == "unsafe")
    };
    let found: Vec<String> = sources().into_iter().filter(is_unsafe).map(|source| source.path).collect();
    let strangers: Vec<&String> = found.iter().filter(|path| !UNSAFE.contains(&path.as_str())).collect();
    assert!(strangers.is_empty(), "unsafe code in {strangers:?}");
}

#[test]
fn the_reader_of_source_knows_its_rust() {
    let text = r##"
use crate::{config::{Config, Secret}, core::view, dcs}; // crate::agent
fn short<'a>(x: &'a str) -> char { '"' } /* crate::api */
const TEXT: &str = "crate::ctl \" crate::ctl";
const RAW: &str = r#"crate::init " crate::init"#;
use super::super::postgres::probe;
use super::dcs::Nothing;
use crate::agent::{status::Status, mailbox};
"##;
    let path = "src/api/health/checks.rs".to_owned();
    let source = Source { path, code: code(text), text: text.to_owned() };
    assert_eq!((source.room(), source.depth()), ("api", 3));
    let named = |source: &Source| -> Vec<String> {
        mentions(source).into_iter().map(|(_, room, part)| format!("{room}::{part}")).collect()
    };
    let expected = ["config::Config", "config::Secret", "core::view", "dcs::", "agent::status", "agent::mailbox"];
    assert_eq!(named(&source), expected);
    let shallow = Source { path: "src/api/health.rs".to_owned(), ..source };
    assert!(named(&shallow).contains(&"postgres::probe".to_owned()));
    assert_eq!(
        shallow.functions().iter().map(|(line, name, _)| (*line, name.as_str())).collect::<Vec<_>>(),
        [(3, "short")]
    );
}
