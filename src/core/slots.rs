//! Which replication slots this member's server is to have: one for each member that may stream from it, now or after a
//! failover, and the permanent ones. What is found besides is dropped or left alone.
//!
//! As in Patroni, a slot that no member streams from and that `ignore_slots` does not name is dropped, physical or logical,
//! unless somebody uses it: it would hold WAL back for ever. In pause nothing is dropped.

use std::collections::{BTreeMap, BTreeSet};

use super::local::LastRole;
use super::policy::{IgnoredSlot, Pause, PermanentSlot, Policy};
use super::tree;
use super::units::Lsn;
use super::view::{Address, ClusterView, Member, MemberRole};

/// What the slots of one server are to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlotsWanted {
    /// The role that they are wanted for; a server that is about to be promoted has those of a primary already.
    pub role: LastRole,
    /// Physical slots by name.
    pub physical: BTreeMap<String, SlotWanted>,
    /// Logical slots by name.
    pub logical: BTreeMap<String, LogicalWanted>,
    /// Where a standby has copies of the logical ones from.
    pub source: Option<Source>,
    pub pause: Pause,
    /// Slots that match one of these are never dropped as unknown.
    pub ignored: Vec<IgnoredSlot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotWanted {
    /// A member, or somebody else, streams from here and moves it on.
    Streams,
    /// Kept for a member that streams from elsewhere or is away; moved on to this position where it is known.
    Kept(Option<Lsn>),
}

/// A permanent logical slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogicalWanted {
    pub database: String,
    pub plugin: String,
    /// On a standby: how far its consumer has confirmed, as the leader has published it. `None`: that is not known, and the
    /// slot is neither copied nor moved on.
    pub confirmed: Option<Lsn>,
}

/// The primary, as a standby with logical slots knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    pub address: Address,
    /// The physical slot there by which the primary hears what this standby needs.
    pub slot: String,
}

/// Whether the server takes this as the name of a slot.
pub fn is_slot_name(name: &str) -> bool {
    (1..64).contains(&name.len()) && name.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_'))
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
    /// How far the consumer of a logical one has confirmed.
    pub confirmed: Option<Lsn>,
}

/// What bringing the slots about has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    All,
    /// One that is to go is still used, or one is not as it should be yet: they are looked at again.
    Partly,
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
    /// The one of this name is to be of another type, for another database or with another plugin.
    OtherKind,
}

/// What follows the slot's name in the log.
impl std::fmt::Display for Unwanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unwanted::Unknown => ": no member streams from it, and neither slots nor ignore_slots names it",
            Unwanted::FormerPrimarys => " of a former primary",
            Unwanted::Lost => ": its WAL is gone",
            Unwanted::HoldsRows => ": it holds back vacuum for a standby that is elsewhere",
            Unwanted::ReservesNothing => ": it reserves no WAL",
            Unwanted::OtherKind => {
                ": the one of this name is to be of another type, for another database or with another plugin"
            }
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
    /// and no physical one further by more than a little. What lies between two positions of a logical one is sent again.
    pub fn is_near(&self, old: &SlotsWanted) -> bool {
        let is_near = |(name, new): (&String, &SlotWanted)| old.physical.get(name).is_some_and(|old| new.is_near(*old));
        let differs_in_slots_alone = SlotsWanted { physical: old.physical.clone(), ..self.clone() } == *old;
        differs_in_slots_alone && self.physical.len() == old.physical.len() && self.physical.iter().all(is_near)
    }

    /// Logical slots that are missing here and that the primary has. Copies need a stop, so that none are made in pause.
    pub fn to_copy<'a>(&'a self, is_there: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = &'a str> {
        let may_copy = self.role == LastRole::Standby && self.pause == Pause::Running && self.source.is_some();
        let missing = move |(name, slot): &(&String, &LogicalWanted)| slot.confirmed.is_some() && !is_there(name);
        self.logical.iter().filter(move |_| may_copy).filter(missing).map(|(name, _)| name.as_str())
    }

    /// The same, each that is there at these positions. Nothing is copied, and nothing is dropped.
    pub fn moved_on(&self, positions: &BTreeMap<String, Lsn>) -> SlotsWanted {
        let mut moved = SlotsWanted { source: None, pause: Pause::Paused, ..self.clone() };
        for (name, slot) in &mut moved.physical {
            if let (SlotWanted::Kept(_), Some(at)) = (&slot, positions.get(name)) {
                *slot = SlotWanted::Kept(Some(*at));
            }
        }
        for (name, slot) in &mut moved.logical {
            slot.confirmed = positions.get(name).copied().or(slot.confirmed);
        }
        moved
    }

    /// Whether a slot of this name is the logical one that is wanted.
    pub fn is_as_wanted(&self, name: &str, database: Option<&str>, plugin: Option<&str>) -> bool {
        self.logical
            .get(name)
            .is_some_and(|wanted| database == Some(wanted.database.as_str()) && plugin == Some(wanted.plugin.as_str()))
    }

    /// A slot in use is never dropped.
    pub fn verdict(&self, slot: &SlotFound<'_>) -> Verdict {
        let (position, at) = match (self.physical.get(slot.name), self.logical.get(slot.name)) {
            (Some(SlotWanted::Kept(position)), _) => (*position, slot.reserved),
            (None, Some(logical)) if !slot.is_failover && !slot.is_lost => (logical.confirmed, slot.confirmed),
            (Some(SlotWanted::Streams), _) | (None, _) => (None, None),
        };
        match (self.unwanted(slot), position, at) {
            (Some(why), ..) if slot.is_active => Verdict::InUse(why),
            (Some(why), ..) => Verdict::Drop(why),
            (None, Some(position), Some(at)) if position > at && !slot.is_active => Verdict::Advance(position),
            (None, ..) => Verdict::Leave,
        }
    }

    fn unwanted(&self, slot: &SlotFound<'_>) -> Option<Unwanted> {
        if self.pause == Pause::Paused || slot.is_temporary || slot.is_synced {
            return None;
        }
        let is_ignored = self.ignored.iter().any(|entry| entry.matches(slot));
        if let (None, Some(_)) = (self.physical.get(slot.name), self.logical.get(slot.name)) {
            return self.unwanted_logical(slot, is_ignored);
        }
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

    /// One with the name of a logical slot that is wanted. Those that PostgreSQL carries over are its own, and a former
    /// primary's would be in the way of that.
    fn unwanted_logical(&self, slot: &SlotFound<'_>, is_ignored: bool) -> Option<Unwanted> {
        match self.role {
            _ if slot.is_physical() || !self.is_as_wanted(slot.name, slot.database, slot.plugin) => {
                Some(Unwanted::OtherKind)
            }
            LastRole::Standby if slot.is_failover => Some(Unwanted::FormerPrimarys),
            LastRole::Primary if slot.is_failover => None,
            LastRole::Standby | LastRole::Primary => (slot.is_lost && !is_ignored).then_some(Unwanted::Lost),
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
    let (mut physical, mut logical) = (BTreeMap::new(), BTreeMap::new());
    if settings.use_slots.is_on() {
        physical = of_members(policy, view, role, retained);
        // Who never becomes leader has nobody to keep WAL for but those that stream from it.
        if role == LastRole::Primary || !policy.tags.is_nofailover() {
            logical = add_permanent(policy, view, role, &mut physical);
        }
    }
    let leader = view.other_leader().filter(|leader| leader.role == MemberRole::Primary && !logical.is_empty());
    let address = leader.and_then(|leader| leader.address.clone()).filter(|_| role == LastRole::Standby);
    let source = address.zip(tree::slot_on_primary(policy, view)).map(|(address, slot)| Source { address, slot });
    SlotsWanted { role, physical, logical, source, pause: policy.pause, ignored: settings.ignored.clone() }
}

fn of_members(
    policy: &Policy,
    view: &ClusterView,
    role: LastRole,
    retained: &BTreeSet<String>,
) -> BTreeMap<String, SlotWanted> {
    let own = policy.name.slot_name();
    let is_candidate = role == LastRole::Primary || !policy.tags.is_nofailover();
    let keeps = is_candidate && policy.slots.keep_for_failover.is_on();
    let mut physical = BTreeMap::new();
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
    if keeps || role == LastRole::Primary {
        for name in retained.iter().filter(|name| **name != own) {
            physical.entry(name.clone()).or_insert(SlotWanted::Kept(None));
        }
    }
    physical
}

/// The logical ones; the physical ones are added to those of members.
fn add_permanent(
    policy: &Policy,
    view: &ClusterView,
    role: LastRole,
    physical: &mut BTreeMap<String, SlotWanted>,
) -> BTreeMap<String, LogicalWanted> {
    let own = policy.name.slot_name();
    let published = |name: &String| view.status.slots.get(name).copied();
    let is_member = |name: &str| view.members.keys().any(|member| member.slot_name() == name);
    // Without its feedback the primary would remove what a slot needs.
    let may_decode = role == LastRole::Primary || tree::slot_on_primary(policy, view).is_some();
    let mut logical = BTreeMap::new();
    for (name, slot) in policy.slots.permanent.iter().filter(|(name, _)| **name != own) {
        match slot {
            // A member that is there says itself what it needs.
            PermanentSlot::Physical if is_member(name) && physical.contains_key(name) => {}
            PermanentSlot::Physical => {
                let wanted = match role {
                    LastRole::Primary => SlotWanted::Streams,
                    LastRole::Standby => SlotWanted::Kept(published(name)),
                };
                physical.insert(name.clone(), wanted);
            }
            PermanentSlot::Logical { .. } if physical.contains_key(name) || !may_decode => {}
            PermanentSlot::Logical { database, plugin } => {
                let confirmed = published(name).filter(|_| role == LastRole::Standby);
                let wanted = LogicalWanted { database: database.clone(), plugin: plugin.clone(), confirmed };
                logical.insert(name.clone(), wanted);
            }
        }
    }
    logical
}

/// What of its slots a leader publishes, for the others to move theirs on to. `found`: all that it has.
pub fn published(
    policy: &Policy,
    view: &ClusterView,
    retained: &BTreeSet<String>,
    found: &BTreeMap<String, Lsn>,
    end: Lsn,
) -> BTreeMap<String, Lsn> {
    let settings = &policy.slots;
    let wanted = wanted(policy, view, LastRole::Primary, retained);
    let is_ours = |name: &&String| {
        let is_managed = wanted.physical.contains_key(*name) || wanted.logical.contains_key(*name);
        is_managed && (settings.keep_for_failover.is_on() || settings.permanent.contains_key(*name))
    };
    let mut slots: BTreeMap<String, Lsn> =
        found.iter().filter(|(name, _)| is_ours(name)).map(|(name, at)| (name.clone(), *at)).collect();
    let own = policy.name.slot_name();
    let own_counts = settings.keep_for_failover.is_on() || settings.permanent.contains_key(&own);
    if settings.use_slots.is_on() && own_counts && !policy.tags.nostream {
        slots.insert(own, end);
    }
    slots
}

/// Whether the position of a logical slot is another one.
pub fn logical_moved(
    permanent: &BTreeMap<String, PermanentSlot>,
    before: &BTreeMap<String, Lsn>,
    now: &BTreeMap<String, Lsn>,
) -> bool {
    let logical = permanent.iter().filter(|(_, slot)| **slot != PermanentSlot::Physical);
    logical.map(|(name, _)| name).any(|name| before.get(name) != now.get(name))
}

/// Whether a logical slot on a standby may be used after a promotion: what its decoding needs of the catalogs was protected
/// on the primary all the time, by the primary's own slot at first and then by what this standby has reported.
///
/// `first`: the `catalog_xmin` of the primary's slot when it was first looked at. `reported`: that of this standby's
/// physical slot there. `own`: that of the slot here.
pub fn is_safe_after_promotion(first: u32, reported: u32, own: u32) -> bool {
    // Transaction numbers are a circle.
    let is_not_after = |a: u32, b: u32| b.wrapping_sub(a) < 1 << 31;
    is_not_after(first, reported) && is_not_after(reported, own)
}
