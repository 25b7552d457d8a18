//! What is known of where our newest timeline began.

use crate::core::units::{Branch, Timeline};

#[derive(Debug, Default)]
pub(super) struct KnownBranch {
    pub(super) branch: Option<Branch>,
    /// The timeline that was asked for last.
    pub(super) asked: Option<Timeline>,
    /// How often the data have been replaced by others: what was read of those before says nothing.
    pub(super) replaced: u64,
}

impl KnownBranch {
    pub(super) fn get(&self) -> Option<Branch> {
        self.branch
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
