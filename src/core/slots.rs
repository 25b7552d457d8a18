//! Which replication slots this member's server is to have: one for each member that may stream from it, now or after a
//! failover. What is found besides is dropped or left alone.
//!
//! As in Patroni, a slot that no member streams from and that `ignore_slots` does not name is dropped, physical or logical,
//! unless somebody uses it: it would hold WAL back for ever. In pause nothing is dropped.

use std::collections::{BTreeMap, BTreeSet};

use super::local::LastRole;
use super::policy::{IgnoredSlot, Pause, Policy};
use super::tree;
use super::units::Lsn;
use super::view::{ClusterView, Member};

/// What the slots of one server are to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlotsWanted {
    /// The role that they are wanted for; a server that is about to be promoted has those of a primary already.
    pub role: LastRole,
    /// Physical slots by name.
    pub physical: BTreeMap<String, SlotWanted>,
    pub pause: Pause,
    /// Slots that match one of these are never dropped as unknown.
    pub ignored: Vec<IgnoredSlot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotWanted {
    /// A member streams from here and moves it on itself.
    Streams,
    /// Kept for a member that streams from elsewhere or is away; moved on to this position where it is known.
    Kept(Option<Lsn>),
}

/// The smallest size of a WAL segment, and a slot keeps whole segments: one that has moved by less keeps nearly the same.
const SEGMENT_MIN: u64 = 1024 * 1024;

impl SlotWanted {
    fn is_near(self, old: SlotWanted) -> bool {
        match (self, old) {
            (SlotWanted::Kept(Some(new)), SlotWanted::Kept(Some(old))) => new.0.abs_diff(old.0) < SEGMENT_MIN,
            (new, old) => new == old,
        }
    }
}

/// A slot that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotFound<'a> {
    pub name: &'a str,
    /// `physical` or `logical`.
    pub kind: &'a str,
    pub database: Option<&'a str>,
    pub plugin: Option<&'a str>,
    pub is_active: bool,
    /// It goes with the session that made it.
    pub is_temporary: bool,
    /// A logical one that PostgreSQL itself carries over to the standbys (17 and later).
    pub is_failover: bool,
    /// The copy of such a one, kept up to date.
    pub is_synced: bool,
    /// The WAL that it should have kept is gone.
    pub is_lost: bool,
    /// It holds rows back from vacuum.
    pub holds_rows: bool,
    /// From where on it keeps WAL; `None`: it keeps none.
    pub reserved: Option<Lsn>,
}

/// What bringing the slots about has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    All,
    /// One that is to go is still used: it is looked at again.
    AllButUsed,
}

/// What is done with a slot that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Leave,
    Drop(Unwanted),
    /// It would be dropped, but somebody uses it now.
    InUse(Unwanted),
    Advance(Lsn),
}

/// Why a slot is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwanted {
    /// No member streams from it.
    Unknown,
    /// A logical one on a standby: nobody has used it since this server was a primary.
    FormerPrimarys,
    Lost,
    HoldsRows,
    ReservesNothing,
    /// A logical one with a member's name.
    OtherKind,
}

/// What follows the slot's name in the log.
impl std::fmt::Display for Unwanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unwanted::Unknown => ": no member streams from it and ignore_slots does not name it",
            Unwanted::FormerPrimarys => " of a former primary",
            Unwanted::Lost => ": its WAL is gone",
            Unwanted::HoldsRows => ": it holds back vacuum for a standby that is elsewhere",
            Unwanted::ReservesNothing => ": it reserves no WAL",
            Unwanted::OtherKind => ": it is a logical one and has a member's name",
        })
    }
}

impl SlotFound<'_> {
    fn is_physical(&self) -> bool {
        self.kind == "physical"
    }
}

impl SlotsWanted {
    pub fn keeps(&self, name: &str) -> bool {
        self.physical.contains_key(name)
    }

    /// Whether bringing these about would change nothing worth a session on the server, where `old` stand: the same slots,
    /// and none of them further by more than a little.
    pub fn is_near(&self, old: &SlotsWanted) -> bool {
        let is_near = |(name, new): (&String, &SlotWanted)| old.physical.get(name).is_some_and(|old| new.is_near(*old));
        let differs_in_slots_alone = SlotsWanted { physical: old.physical.clone(), ..self.clone() } == *old;
        differs_in_slots_alone && self.physical.len() == old.physical.len() && self.physical.iter().all(is_near)
    }

    /// A slot in use is never dropped.
    pub fn verdict(&self, slot: &SlotFound<'_>) -> Verdict {
        let position = match self.physical.get(slot.name) {
            Some(SlotWanted::Kept(position)) => *position,
            Some(SlotWanted::Streams) | None => None,
        };
        match (self.unwanted(slot), position, slot.reserved) {
            (Some(why), ..) if slot.is_active => Verdict::InUse(why),
            (Some(why), ..) => Verdict::Drop(why),
            (None, Some(position), Some(reserved)) if position > reserved && !slot.is_active => {
                Verdict::Advance(position)
            }
            (None, ..) => Verdict::Leave,
        }
    }

    fn unwanted(&self, slot: &SlotFound<'_>) -> Option<Unwanted> {
        if self.pause == Pause::Paused || slot.is_temporary || slot.is_synced {
            return None;
        }
        let is_ignored = self.ignored.iter().any(|entry| entry.matches(slot));
        match self.physical.get(slot.name) {
            Some(_) if !slot.is_physical() => Some(Unwanted::OtherKind),
            Some(_) if slot.is_lost && !is_ignored => Some(Unwanted::Lost),
            Some(SlotWanted::Streams) => None,
            Some(SlotWanted::Kept(_)) if slot.is_active => None,
            // On a primary they are what the member that is away comes back for.
            Some(SlotWanted::Kept(_)) if slot.holds_rows && self.role == LastRole::Standby => Some(Unwanted::HoldsRows),
            Some(SlotWanted::Kept(_)) if slot.reserved.is_none() => Some(Unwanted::ReservesNothing),
            Some(SlotWanted::Kept(_)) => None,
            None if is_ignored => None,
            None if slot.is_physical() => Some(Unwanted::Unknown),
            None => match self.role {
                LastRole::Standby => Some(Unwanted::FormerPrimarys),
                LastRole::Primary => (!slot.is_failover).then_some(Unwanted::Unknown),
            },
        }
    }
}

impl IgnoredSlot {
    pub fn matches(&self, slot: &SlotFound<'_>) -> bool {
        let equals =
            |given: &Option<String>, found: Option<&str>| given.as_deref().is_none_or(|given| Some(given) == found);
        equals(&self.name, Some(slot.name))
            && equals(&self.kind, Some(slot.kind))
            && equals(&self.database, slot.database)
            && equals(&self.plugin, slot.plugin)
    }
}

/// How far a member's slot may be moved on. One that streams from another standby moves no slot of the leader's, which may
/// have an old position of it.
pub fn position_of(view: &ClusterView, member: &Member) -> Option<Lsn> {
    let published = view.status.slots.get(&member.name.slot_name()).copied();
    match member.tags.replicatefrom {
        Some(_) => published.max(member.position),
        None => published,
    }
}

/// The slots of a server that runs in this role. `retained`: names of members that are away and expected back.
pub fn wanted(policy: &Policy, view: &ClusterView, role: LastRole, retained: &BTreeSet<String>) -> SlotsWanted {
    let settings = &policy.slots;
    let own = policy.name.slot_name();
    // Who never becomes leader has nobody to keep WAL for but those that stream from it.
    let is_candidate = role == LastRole::Primary || !policy.tags.is_nofailover();
    let keeps = is_candidate && settings.keep_for_failover.is_on();
    let mut physical = BTreeMap::new();
    if settings.use_slots.is_on() {
        let others = view.members.values().filter(|member| !member.tags.nostream && member.name.slot_name() != own);
        for member in others {
            let wanted = if tree::streams_from(policy, view, role, member) {
                SlotWanted::Streams
            } else if keeps {
                SlotWanted::Kept(position_of(view, member))
            } else {
                continue;
            };
            physical.insert(member.name.slot_name(), wanted);
        }
    }
    if settings.use_slots.is_on() && (keeps || role == LastRole::Primary) {
        for name in retained.iter().filter(|name| **name != own) {
            physical.entry(name.clone()).or_insert(SlotWanted::Kept(None));
        }
    }
    SlotsWanted { role, physical, pause: policy.pause, ignored: settings.ignored.clone() }
}
