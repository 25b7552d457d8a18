//! What is known of where our newest timeline began.

use crate::core::units::{Branch, Timeline};

#[derive(Debug, Default)]
pub(super) struct KnownBranch {
    branch: Option<Branch>,
    /// The timeline that was asked for last.
    asked: Option<Timeline>,
    /// How often the data have been replaced by others: what was read of those before says nothing.
    replaced: u64,
}

impl KnownBranch {
    pub(super) fn get(&self) -> Option<Branch> {
        self.branch
    }

    pub(super) fn is_of(&self, timeline: Timeline) -> bool {
        self.branch.is_some_and(|branch| branch.timeline == timeline)
    }

    /// Notes that this timeline is asked for; whether it was asked for last too.
    pub(super) fn asks_again(&mut self, timeline: Timeline) -> bool {
        self.asked.replace(timeline) == Some(timeline)
    }

    /// What the answer to a question of now is given back with (`take`).
    pub(super) fn replaced(&self) -> u64 {
        self.replaced
    }

    pub(super) fn data_replaced(&mut self) {
        *self = KnownBranch { replaced: self.replaced + 1, ..KnownBranch::default() };
    }

    pub(super) fn take(&mut self, replaced: u64, branch: Branch) {
        if replaced == self.replaced {
            self.branch = Some(branch);
        }
    }
}
