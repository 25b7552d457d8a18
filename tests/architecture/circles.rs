//! Circles of files inside a room, and comments that cite what the repository does not hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::source::{Source, code, sources};

/// A file of a room: `election` for `src/core/election.rs`, `conf` for all below `src/postgres/conf`.
fn file(source: &Source) -> Option<String> {
    let below = source.path.strip_prefix("src/")?.split_once('/')?.1;
    let name = below.split('/').next()?.trim_end_matches(".rs");
    // A room's own file names its parts.
    (name != "mod" && !source.is_test()).then(|| name.to_owned())
}

/// The room's files that this one names by `super::` or `crate::room::`.
fn named(source: &Source, files: &BTreeSet<String>) -> BTreeSet<String> {
    let code = source.code.split("#[cfg(test)]").next().unwrap_or_default();
    let above = "super::".repeat(source.depth().max(2) - 1);
    let roots = [above, format!("crate::{}::", source.room())];
    let mut found = BTreeSet::new();
    for root in &roots {
        for (at, _) in code.match_indices(root.as_str()) {
            let before = code[..at].chars().next_back();
            let after = &code[at + root.len()..];
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') || after.starts_with("super::") {
                continue;
            }
            let names = match after.strip_prefix('{') {
                Some(group) => super::elements(group).iter().map(|element| super::first_word(element)).collect(),
                None => vec![super::first_word(after)],
            };
            found.extend(names.into_iter().filter(|name| files.contains(name)));
        }
    }
    found
}

/// The files from which a way leads back to themselves.
fn in_circles(names: &BTreeMap<String, BTreeSet<String>>) -> Vec<&str> {
    let reaches_itself = |start: &String| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&String> = names[start].iter().collect();
        while let Some(file) = next.pop() {
            if file == start {
                return true;
            }
            if seen.insert(file) {
                next.extend(names.get(file).into_iter().flatten());
            }
        }
        false
    };
    names.keys().filter(|file| reaches_itself(file)).map(String::as_str).collect()
}

#[test]
fn no_circles_of_files_inside_a_room() {
    let sources = sources();
    let mut rooms: BTreeMap<&str, Vec<(String, &Source)>> = BTreeMap::new();
    for source in &sources {
        if let Some(file) = file(source) {
            rooms.entry(source.room()).or_default().push((file, source));
        }
    }
    let mut problems = Vec::new();
    for (room, found) in rooms {
        let files: BTreeSet<String> = found.iter().map(|(file, _)| file.clone()).collect();
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (file, source) in &found {
            let others = named(source, &files).into_iter().filter(|name| name != file);
            names.entry(file.clone()).or_default().extend(others);
        }
        let circle = in_circles(&names);
        if !circle.is_empty() {
            problems.push(format!("{room}: in circles: {circle:?}"));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn circles_are_found() {
    let names = |pairs: &[(&str, &[&str])]| {
        let owned = pairs.iter().map(|(file, to)| ((*file).to_owned(), to.iter().map(|to| (*to).to_owned()).collect()));
        owned.collect::<BTreeMap<String, BTreeSet<String>>>()
    };
    assert_eq!(in_circles(&names(&[("a", &["b"]), ("b", &["c"]), ("c", &[])])), Vec::<&str>::new());
    assert_eq!(in_circles(&names(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])), ["b", "c"]);
    let text = "use super::b::X;\nuse super::{c, d::{e, Y}};\nfn f() { crate::core::g::h() }\n";
    let source = Source { path: "src/core/a.rs".to_owned(), code: code(text), text: text.to_owned() };
    let files = ["b", "c", "d", "e", "g"].map(str::to_owned).into();
    assert_eq!(named(&source, &files), ["b", "c", "d", "g"].map(str::to_owned).into());
}

/// A document is cited by its name, a rule by a sentence: what is cited stands in the repository.
#[test]
fn comments_cite_only_what_the_repository_holds() {
    let root = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let is_held = |name: &str| {
        ["", "docs/", "docs/adr/"].iter().any(|folder| root.join(folder).join(name).exists())
            || Path::new(name).components().count() == 0
    };
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| source.path != "tests/architecture/circles.rs") {
        for (number, line) in source.text.lines().enumerate() {
            let Some((_, comment)) = line.split_once("//") else { continue };
            let words = comment.split(|c: char| !(c.is_alphanumeric() || "-_./".contains(c)));
            for word in words.map(|word| word.trim_matches('.')) {
                let is_document = word.ends_with(".md") && word.len() > 3 && !is_held(word);
                let is_code = word.split_once('-').is_some_and(|(letter, number)| {
                    letter.len() == 1
                        && letter.chars().all(|c| c.is_ascii_uppercase())
                        && (1..=3).contains(&number.len())
                        && number.chars().all(|c| c.is_ascii_digit())
                });
                if is_document || is_code {
                    problems.push(format!("{}:{}: {word}", source.path, number + 1));
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}
