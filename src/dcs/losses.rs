//! Losses of a store's data: how many were noticed, and of how many the loop knows.

use super::{Expect, Snapshot};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    noticed: u64,
    shown: u64,
}

impl Losses {
    /// How many were noticed since this process began.
    pub(super) fn count(self) -> u64 {
        self.noticed
    }

    /// The store has lost its data once more.
    pub(super) fn notice(&mut self) {
        self.noticed += 1;
    }

    /// The loop gets this snapshot.
    pub(super) fn show(&mut self, snapshot: &Snapshot) {
        self.shown = snapshot.losses;
    }

    /// Whether there was one of which the loop does not know: then no answer about the lock means to it what it says.
    pub(super) fn is_one_hidden(self) -> bool {
        self.noticed != self.shown
    }

    /// Whether what a write rests on was read before the last one: then it is not written.
    pub(super) fn outdate(self, expect: Expect) -> bool {
        expect.losses().is_some_and(|known| known != self.noticed)
    }
}
