//! What is remembered of logical replication slots from one call to the next.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::local::Upstream;
use crate::core::units::Instant;

#[derive(Default)]
pub(super) struct SlotMemory {
    /// Of the primary's slots, for the server's next start.
    pub(super) copies: Option<Copies>,
    /// Logical slots that the primary has and this standby lacks.
    pub(super) missing: BTreeSet<String>,
    /// Of the logical slots that this standby has.
    pub(super) safety: BTreeMap<String, Safety>,
    /// Whether one is being moved on.
    pub(super) is_advancing: bool,
}

pub(super) struct Copies {
    /// What the server streamed from when they were made.
    pub(super) upstream: Option<Upstream>,
    pub(super) made: Instant,
    pub(super) slots: Vec<SlotCopy>,
}

pub(super) struct SlotCopy {
    pub(super) name: String,
    /// The content of its file.
    pub(super) state: Vec<u8>,
}

/// Whether a logical slot may be used after a promotion of this standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Safety {
    /// `catalog_xmin` of the primary's slot when it was first looked at.
    Waits {
        first: u32,
    },
    Safe,
}
