//! What can go wrong between a member and the store.

use std::time::Duration;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Every call fails at once; nothing is done.
    Unreachable,
    /// Every call takes until its deadline and fails; nothing is done.
    Hang,
    /// Every call takes this long; with a shorter deadline it fails and nothing is done.
    Latency(Duration),
    /// What is asked is done, but the answer never comes.
    AnswerLost,
}

impl Fault {
    /// Whether changes are not seen either.
    pub(super) fn is_outage(self) -> bool {
        match self {
            Fault::Unreachable | Fault::Hang => true,
            Fault::None | Fault::Latency(_) | Fault::AnswerLost => false,
        }
    }
}
