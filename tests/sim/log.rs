//! What happened in a world. Many worlds are run without it, since it takes most of their time; one that breaks a rule is
//! run once more to be told.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Yes,
    No,
}

pub struct Log {
    told: Told,
    lines: Vec<String>,
}

impl Log {
    pub fn new(told: Told) -> Self {
        Log { told, lines: Vec::new() }
    }

    pub fn add(&mut self, line: impl FnOnce() -> String) {
        if self.told == Told::Yes {
            self.lines.push(line());
        }
    }

    pub fn last(&self, count: usize) -> String {
        self.lines[self.lines.len().saturating_sub(count)..].join("\n")
    }
}
