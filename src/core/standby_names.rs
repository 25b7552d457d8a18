//! `synchronous_standby_names`: whom a commit waits for, and the text that says so.

use std::collections::BTreeSet;
use std::fmt;

use super::units::MemberName;

/// The name of a standby that never comes: with it commits wait although nobody is there. No member may have it. Patroni's.
pub const PLACEHOLDER: &str = "__patroni_strict_sync_replica_placeholder__";

/// How the standbys that a commit waits for are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// The first of them that are connected.
    #[default]
    First,
    /// Whichever confirm first.
    Any,
}

/// The setting in types. Without names nobody is waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StandbyNames {
    pub method: Method,
    /// How many have to confirm a commit.
    pub count: usize,
    pub names: BTreeSet<MemberName>,
}

impl StandbyNames {
    /// All of these have to confirm a commit.
    pub fn all_of(names: BTreeSet<MemberName>) -> Self {
        StandbyNames { method: Method::First, count: names.len(), names }
    }

    /// So many of these, whichever are the first.
    pub fn any_of(count: usize, names: BTreeSet<MemberName>) -> Self {
        match names.is_empty() || count == 0 {
            true => StandbyNames::default(),
            false => StandbyNames { method: Method::Any, count, names },
        }
    }

    /// Commits wait until there is somebody to be waited for.
    pub fn nobody(method: Method) -> Self {
        StandbyNames { method, count: 1, names: BTreeSet::from([PLACEHOLDER.into()]) }
    }

    /// Those that can come.
    pub fn members(&self) -> BTreeSet<MemberName> {
        self.names.iter().filter(|name| name.as_str() != PLACEHOLDER).cloned().collect()
    }

    /// The setting as PostgreSQL reads it. A text that it would refuse, and `*`, are names of nobody that we know.
    pub fn parse(text: &str) -> Self {
        let tokens = tokens(text);
        let (method, rest) = match tokens.first() {
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("any") => (Method::Any, &tokens[1..]),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("first") => (Method::First, &tokens[1..]),
            Some(_) | None => (Method::First, &tokens[..]),
        };
        let (count, list) = match rest {
            [Token::Word(count), Token::Mark('('), list @ .., Token::Mark(')')] => (count.parse().unwrap_or(1), list),
            list => (1, list),
        };
        let names = list.iter().filter_map(|token| match token {
            Token::Word(name) | Token::Quoted(name) => Some(MemberName::new(name.as_str())),
            Token::Mark(_) => None,
        });
        let names: BTreeSet<MemberName> = names.collect();
        match names.is_empty() {
            true => StandbyNames::default(),
            false => StandbyNames { method, count, names },
        }
    }
}

impl fmt::Display for StandbyNames {
    /// As Patroni writes it: a single name alone, several with their number; with `ANY` always both.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.names.iter().map(quoted).collect();
        match (self.method, names.as_slice()) {
            (_, []) => Ok(()),
            (Method::First, [name]) => f.write_str(name),
            (Method::First, _) => write!(f, "{} ({})", self.count, names.join(",")),
            (Method::Any, _) => write!(f, "ANY {} ({})", self.count, names.join(",")),
        }
    }
}

/// A name that PostgreSQL would not read as one word stands in double quotes.
fn quoted(name: &MemberName) -> String {
    let name = name.as_str();
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_word = begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    let is_reserved = ["first", "any"].iter().any(|word| word.eq_ignore_ascii_case(name));
    if is_word && !is_reserved { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Mark(char),
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                let mut name = String::new();
                while let Some(c) = rest.next() {
                    match c {
                        '"' if rest.next_if_eq(&'"').is_some() => name.push('"'),
                        '"' => break,
                        c => name.push(c),
                    }
                }
                tokens.push(Token::Quoted(name));
            }
            '(' | ')' | ',' => tokens.push(Token::Mark(c)),
            c if c.is_whitespace() => {}
            c => {
                let mut word = String::from(c);
                while let Some(c) = rest.next_if(|c| !c.is_whitespace() && !matches!(c, '(' | ')' | ',' | '"')) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<MemberName> {
        names.iter().map(|name| MemberName::from(*name)).collect()
    }

    #[test]
    fn the_text_is_patronis() {
        let cases = [
            (StandbyNames::default(), ""),
            (StandbyNames::all_of(set(&["n1"])), "n1"),
            (StandbyNames::all_of(set(&["postgres-1"])), "\"postgres-1\""),
            (StandbyNames::all_of(set(&["n1", "n0"])), "2 (n0,n1)"),
            (StandbyNames::all_of(set(&["First"])), "\"First\""),
            (StandbyNames::all_of(set(&["1a"])), "\"1a\""),
            (StandbyNames::any_of(1, set(&["postgres-1"])), "ANY 1 (\"postgres-1\")"),
            (StandbyNames::any_of(0, set(&["a"])), ""),
            (StandbyNames::nobody(Method::First), PLACEHOLDER),
            (StandbyNames::nobody(Method::Any), "ANY 1 (__patroni_strict_sync_replica_placeholder__)"),
        ];
        for (names, text) in cases {
            assert_eq!(names.to_string(), text);
            assert_eq!(StandbyNames::parse(text), names, "{text}");
        }
    }

    #[test]
    fn what_people_write_is_read_as_postgresql_reads_it() {
        let first = |count, names: &[&str]| StandbyNames { method: Method::First, count, names: set(names) };
        assert_eq!(StandbyNames::parse("a, b"), first(1, &["a", "b"]));
        assert_eq!(StandbyNames::parse("FIRST 2 (a,\"b\"\"c\", d)"), first(2, &["a", "b\"c", "d"]));
        assert_eq!(StandbyNames::parse("*"), first(1, &["*"]));
        assert_eq!(StandbyNames::parse("any 2(a,b,c)"), StandbyNames::any_of(2, set(&["a", "b", "c"])));
    }

    #[test]
    fn the_placeholder_is_no_member() {
        assert!(StandbyNames::nobody(Method::Any).members().is_empty());
    }
}
