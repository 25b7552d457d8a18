//! Talking to a person: lines out, questions in. A closed pipe is no error: nobody listens any more.

use std::io::{BufRead, Write};

use super::CtlError;

pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end_matches('\n'));
}

pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "Error: {text}");
}

pub fn warn(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "Warning: {text}");
}

/// Whether questions are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    First,
    Nothing,
}

impl From<bool> for Ask {
    /// From `--force`.
    fn from(force: bool) -> Self {
        if force { Ask::Nothing } else { Ask::First }
    }
}

/// Goes on when the answer is yes; anything else, the end of the input included, is `refusal`.
pub fn confirm(ask: Ask, question: &str, refusal: &str) -> Result<(), CtlError> {
    if ask == Ask::Nothing || is_yes(question) {
        return Ok(());
    }
    Err(CtlError::Refused(refusal.to_owned()))
}

/// A line that a person types; an empty one is asked for again. The end of the input is a refusal.
pub fn ask(question: &str) -> Result<String, CtlError> {
    loop {
        let mut out = std::io::stdout().lock();
        let asked = write!(out, "{question}: ").and_then(|()| out.flush());
        let mut answer = String::new();
        let read = asked.and_then(|()| std::io::stdin().lock().read_line(&mut answer));
        if !matches!(read, Ok(length) if length > 0) {
            let _ = writeln!(out);
            return Err(CtlError::Refused("Aborted!".to_owned()));
        }
        let answer = answer.trim_end_matches(['\r', '\n']);
        if !answer.is_empty() {
            return Ok(answer.to_owned());
        }
    }
}

pub fn is_yes(question: &str) -> bool {
    let mut out = std::io::stdout().lock();
    let asked = write!(out, "{question} [y/N]: ").and_then(|()| out.flush());
    let mut answer = String::new();
    let read = asked.and_then(|()| std::io::stdin().lock().read_line(&mut answer));
    if matches!(read, Ok(0)) {
        // Nobody is there to answer; `--force` is how a script agrees.
        let _ = writeln!(out);
    }
    read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}
