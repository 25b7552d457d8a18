//! Which replication slots this member's server is to have: one for each member that may stream from it, now or after a
//! failover. What is found besides is dropped or left alone.

use std::collections::{BTreeMap, BTreeSet};

use super::local::LastRole;
use super::policy::{Pause, Policy, Switch};
use super::units::Lsn;
use super::view::ClusterView;

/// What the slots of one server are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotsWanted {
    /// Physical slots by name.
    pub physical: BTreeMap<String, SlotWanted>,
    /// What happens to slots that nobody wants.
    pub others: Others,
    /// Slots that match one of these are never dropped as unknown.
    pub ignored: Vec<IgnoredSlot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotWanted {
    /// A member streams from here and moves it on itself.
    Streams,
    /// Kept for a member that streams from elsewhere or is away; moved on to this position where it is known.
    Kept(Option<Lsn>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    Drop,
    /// The cluster is paused.
    Leave,
}

/// An entry of `ignore_slots`: each property that is given has to match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoredSlot {
    pub name: Option<String>,
    pub kind: Option<String>,
    pub database: Option<String>,
    pub plugin: Option<String>,
}

/// A slot that exists, as far as `ignore_slots` looks at it.
#[derive(Clone, Copy, Debug)]
pub struct SlotFound<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    pub database: Option<&'a str>,
    pub plugin: Option<&'a str>,
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

/// What the cluster's configuration says about slots.
#[derive(Clone, Copy, Debug)]
pub struct SlotSettings<'a> {
    pub use_slots: Switch,
    /// Whether slots of members that stream from elsewhere are kept (`member_slots_ttl` is not zero).
    pub keep_for_failover: Switch,
    pub ignored: &'a [IgnoredSlot],
}

/// The slots of a server that runs in this role. `retained`: names of members that are away and expected back.
pub fn wanted(
    policy: &Policy,
    view: &ClusterView,
    role: LastRole,
    settings: SlotSettings<'_>,
    retained: &BTreeSet<String>,
) -> SlotsWanted {
    let own = policy.name.slot_name();
    let others = match policy.pause {
        Pause::Running => Others::Drop,
        Pause::Paused => Others::Leave,
    };
    let keeps = match role {
        LastRole::Primary => settings.use_slots.is_on(),
        // Who never becomes leader has nobody to keep WAL for.
        LastRole::Standby => {
            settings.use_slots.is_on() && settings.keep_for_failover.is_on() && !policy.tags.is_nofailover()
        }
    };
    let mut physical = BTreeMap::new();
    if keeps {
        let streaming = view.members.values().filter(|member| !member.tags.nostream);
        for name in streaming.map(|member| member.name.slot_name()).filter(|name| *name != own) {
            let wanted = match role {
                LastRole::Primary => SlotWanted::Streams,
                LastRole::Standby => SlotWanted::Kept(view.status.slots.get(&name).copied()),
            };
            physical.insert(name, wanted);
        }
        for name in retained.iter().filter(|name| **name != own) {
            physical.entry(name.clone()).or_insert(SlotWanted::Kept(None));
        }
    }
    SlotsWanted { physical, others, ignored: settings.ignored.to_vec() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::policy::{Mode, RewindPolicy, Timing};
    use crate::core::units::MemberName;
    use crate::core::view::{Member, Tags};

    fn policy(name: &str) -> Policy {
        Policy {
            name: name.into(),
            mode: Mode::Cluster,
            timing: Timing::default(),
            pause: Pause::Running,
            maximum_lag_on_failover: 1 << 20,
            primary_start_timeout: Duration::from_secs(300),
            stop_timeout: Duration::from_secs(60),
            rewind: RewindPolicy::Allowed,
            remove_diverged_data: Switch::On,
            remove_data_after_failed_rewind: Switch::On,
            tags: Tags::default(),
            bootstrap: Switch::On,
            refused_settings: Vec::new(),
        }
    }

    /// A leads; B and C stream from it.
    fn view() -> ClusterView {
        let mut view = ClusterView::default();
        for name in ["A", "B", "C"] {
            view.members.insert(name.into(), Member::empty(name.into()));
        }
        view.status.slots = [("a", 70), ("b", 50), ("c", 60)].map(|(name, at)| (name.to_owned(), Lsn(at))).into();
        view
    }

    const SETTINGS: SlotSettings<'static> =
        SlotSettings { use_slots: Switch::On, keep_for_failover: Switch::On, ignored: &[] };

    fn of(name: &str, role: LastRole, view: &ClusterView, settings: SlotSettings<'_>) -> Vec<(String, SlotWanted)> {
        let retained = BTreeSet::from(["z".to_owned(), name.to_lowercase()]);
        wanted(&policy(name), view, role, settings, &retained).physical.into_iter().collect()
    }

    fn kept(name: &str, at: Option<u64>) -> (String, SlotWanted) {
        (name.to_owned(), SlotWanted::Kept(at.map(Lsn)))
    }

    #[test]
    fn every_member_that_may_lead_keeps_slots_for_all_others() {
        let streams = |name: &str| (name.to_owned(), SlotWanted::Streams);
        assert_eq!(of("A", LastRole::Primary, &view(), SETTINGS), [streams("b"), streams("c"), kept("z", None)]);
        let standby = [kept("a", Some(70)), kept("c", Some(60)), kept("z", None)];
        assert_eq!(of("B", LastRole::Standby, &view(), SETTINGS), standby);
    }

    #[test]
    fn without_a_reason_to_keep_wal_a_standby_has_no_slots() {
        let no_ttl = SlotSettings { keep_for_failover: Switch::Off, ..SETTINGS };
        assert_eq!(of("B", LastRole::Standby, &view(), no_ttl), []);
        assert_eq!(of("A", LastRole::Primary, &view(), no_ttl).len(), 3);
        let off = SlotSettings { use_slots: Switch::Off, ..SETTINGS };
        assert_eq!(of("A", LastRole::Primary, &view(), off), []);
        let mut never = policy("B");
        never.tags.failover_priority = 0;
        let none = wanted(&never, &view(), LastRole::Standby, SETTINGS, &BTreeSet::from(["z".to_owned()]));
        assert!(none.physical.is_empty());
    }

    #[test]
    fn a_member_that_does_not_stream_gets_no_slot() {
        let mut view = view();
        view.members.get_mut(&MemberName::from("C")).expect("there").tags.nostream = true;
        assert!(of("A", LastRole::Primary, &view, SETTINGS).iter().all(|(name, _)| name != "c"));
        assert!(of("B", LastRole::Standby, &view, SETTINGS).iter().all(|(name, _)| name != "c"));
    }

    #[test]
    fn in_pause_unknown_slots_are_left_alone() {
        let paused = Policy { pause: Pause::Paused, ..policy("A") };
        let of = |policy| wanted(policy, &view(), LastRole::Primary, SETTINGS, &BTreeSet::new()).others;
        assert_eq!((of(&paused), of(&policy("A"))), (Others::Leave, Others::Drop));
    }

    #[test]
    fn an_ignored_slot_has_every_property_that_is_given() {
        let slot = SlotFound { name: "s", kind: "logical", database: Some("db"), plugin: Some("wal2json") };
        let text = |text: &str| Some(text.to_owned());
        let ignored = |entry: IgnoredSlot| entry.matches(&slot);
        assert!(ignored(IgnoredSlot::default()));
        assert!(ignored(IgnoredSlot { name: text("s"), database: text("db"), ..IgnoredSlot::default() }));
        assert!(ignored(IgnoredSlot { plugin: text("wal2json"), ..IgnoredSlot::default() }));
        assert!(!ignored(IgnoredSlot { name: text("s"), kind: text("physical"), ..IgnoredSlot::default() }));
        let physical = SlotFound { name: "s", kind: "physical", database: None, plugin: None };
        assert!(!IgnoredSlot { database: text("db"), ..IgnoredSlot::default() }.matches(&physical));
    }
}
