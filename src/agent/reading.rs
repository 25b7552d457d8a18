//! What the store was last read as, and whether it answers.

use std::sync::Arc;

use crate::core::units::WallTime;
use crate::dcs::Snapshot;

#[derive(Debug)]
pub(super) struct Reading {
    last: Option<Arc<Snapshot>>,
    /// Whether the last reading failed.
    outage: Outage,
    last_seen: WallTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outage {
    No,
    Yes,
}

impl Reading {
    pub(super) fn none_yet() -> Self {
        Reading { last: None, outage: Outage::No, last_seen: WallTime::default() }
    }

    pub(super) fn took(&mut self, snapshot: Arc<Snapshot>, at: WallTime) {
        *self = Reading { last: Some(snapshot), outage: Outage::No, last_seen: at };
    }

    pub(super) fn failed(&mut self) {
        self.outage = Outage::Yes;
    }

    /// However long ago.
    pub(super) fn last(&self) -> Option<&Arc<Snapshot>> {
        self.last.as_ref()
    }

    /// `None` while the store does not answer.
    pub(super) fn current(&self) -> Option<&Arc<Snapshot>> {
        match self.outage {
            Outage::No => self.last.as_ref(),
            Outage::Yes => None,
        }
    }

    pub(super) fn outage(&self) -> Outage {
        self.outage
    }

    pub(super) fn last_seen(&self) -> WallTime {
        self.last_seen
    }
}
