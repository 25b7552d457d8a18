//! Reads the crate's own source text, well enough for the rules: comments and literals are blanked, lines stay.

use std::fs;
use std::path::{Path, PathBuf};

pub struct Source {
    /// Below the crate's root: `src/core/mod.rs`.
    pub path: String,
    pub text: String,
    /// The text without comments, strings and characters.
    pub code: String,
}

impl Source {
    /// `core` for `src/core/mod.rs` and `src/core.rs`.
    pub fn room(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
    }

    pub fn is_test(&self) -> bool {
        let file = self.path.rsplit('/').next().unwrap_or_default();
        self.path.starts_with("tests/") || self.path.contains("/tests/") || file.ends_with("tests.rs")
    }

    /// How many modules lie above this one; 0 for `src/lib.rs`, 1 for `src/core/mod.rs`.
    pub fn depth(&self) -> usize {
        let parts = self.path.split('/').skip(1);
        parts.filter(|part| !["mod.rs", "lib.rs", "main.rs"].contains(part)).count()
    }

    /// Each function's first line (from 1), name and number of lines. Relies on rustfmt: a body ends with a brace in
    /// the column where its first line began.
    pub fn functions(&self) -> Vec<(usize, String, usize)> {
        let lines: Vec<&str> = self.code.lines().collect();
        let mut found = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let Some(name) = function_name(line) else { continue };
            let indent = line.len() - line.trim_start().len();
            let end = lines[index..].iter().position(|line| {
                line.trim_end().ends_with(['}', ';']) && line.len() - line.trim_start().len() == indent
            });
            if let Some(length) = end {
                found.push((index + 1, name, length + 1));
            }
        }
        found
    }
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().peekable();
    while words
        .next_if(|word| word.starts_with("pub") || ["async", "const", "unsafe", "extern"].contains(word))
        .is_some()
    {}
    (words.next()? == "fn").then_some(())?;
    let name: String = words.next()?.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    Some(name)
}

/// Every Rust file of the crate below the folders `src` and `tests`.
pub fn sources() -> Vec<Source> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut found = Vec::new();
    for folder in ["src", "tests"] {
        collect(&root, &root.join(folder), &mut found);
    }
    assert!(found.len() > 20, "the source was not found");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder of the crate") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let path = path.strip_prefix(root).expect("below the root").to_str().expect("UTF-8").to_owned();
            found.push(Source { path, code: code(&text), text });
        }
    }
}

/// Blanks comments, strings and characters; newlines stay where they are.
pub fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let before = code.chars().next_back();
        let length = literal(rest, before).unwrap_or(0);
        let (skipped, after) = rest.split_at(length);
        if length > 0 {
            code.extend(skipped.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = after;
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    code
}

/// The length of the comment or literal that `text` begins with.
fn literal(text: &str, before: Option<char>) -> Option<usize> {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(text.find("*/").map_or(text.len(), |end| end + 2));
    }
    if text.starts_with('"') {
        return Some(quoted(text, '"'));
    }
    let raw = text.trim_start_matches(['b', 'c']);
    if !in_word && raw.starts_with('r') && text.len() - raw.len() <= 1 {
        let hashes = raw[1..].bytes().take_while(|byte| *byte == b'#').count();
        if raw[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = text.len() - raw.len() + 2 + hashes;
            return Some(text[body..].find(&end).map_or(text.len(), |at| body + at + end.len()));
        }
    }
    // A lifetime has no closing quote right after its first character.
    let mut chars = text.chars();
    let is_character = chars.next() == Some('\'') && (chars.next() == Some('\\') || chars.next() == Some('\''));
    is_character.then(|| quoted(text, '\''))
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}
