//! Failsafe mode in types: what a primary is told by the other members, and what it has been promised.

use std::collections::BTreeMap;

use super::units::{Instant, Lsn, MemberName};

/// What is known of failsafe mode beside the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Failsafe {
    /// The answers to the last question.
    pub vouchers: Option<Vouchers>,
    /// What we have promised to a primary.
    pub promise: Option<Promise>,
    /// Before then a promise may bind us that we do not know: this agent is new, or the mode has just been switched off.
    pub unsure_until: Option<Instant>,
}

/// Not to take the lock before then.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promise {
    pub leader: MemberName,
    pub until: Instant,
    /// Where the slots of that primary are.
    pub slots: BTreeMap<String, Lsn>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vouchers {
    /// When the first question was sent.
    pub asked_at: Instant,
    /// Those that were asked, with what they said.
    pub answers: BTreeMap<MemberName, Vouch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vouch {
    Accepted,
    /// It is a primary, holds the lock or races for it, or knows of no failsafe mode.
    Refused,
    NoAnswer,
}
