//! Which slots of members the leader keeps although their members are away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::policy::PermanentSlot;
use crate::core::units::{Instant, Lsn, MemberName};
use crate::core::view::ClusterView;

/// What the cluster's configuration says of slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings<'a> {
    pub(super) ttl: Duration,
    pub(super) permanent: &'a BTreeMap<String, PermanentSlot>,
}

/// Slot names and when they were last wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Retained {
    wanted: BTreeMap<String, Instant>,
    is_known: bool,
}

impl Retained {
    /// After winning the lock: what the last leader kept is kept for a full time again.
    pub(super) fn inherit(&mut self, now: Instant, view: &ClusterView) {
        self.wanted.extend(view.status.retain_slots.iter().map(|slot| (slot.clone(), now)));
        self.is_known = true;
    }

    /// An agent that begins anew under its own lock goes on with what the one before it kept.
    pub(super) fn go_on(&mut self, now: Instant, view: &ClusterView) {
        if !self.is_known && view.is_ours() {
            self.inherit(now, view);
        }
    }

    /// The names to be published and kept. `slots` are those that the status publishes.
    pub(super) fn refresh(
        &mut self,
        now: Instant,
        me: &MemberName,
        view: &ClusterView,
        slots: &BTreeMap<String, Lsn>,
        settings: &Settings<'_>,
    ) -> BTreeSet<String> {
        let Settings { ttl, permanent } = *settings;
        if !slots.is_empty() {
            let members = view.members.values().filter(|member| !member.tags.nostream).map(|member| &member.name);
            let names = members.chain([me]).map(MemberName::slot_name);
            // Permanent ones need nobody's memory.
            for slot in names.filter(|slot| slots.contains_key(slot) && !permanent.contains_key(slot)) {
                self.wanted.insert(slot, now);
            }
        }
        self.wanted.retain(|_, wanted| now.since(*wanted) < ttl);
        self.names().collect()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.wanted.keys().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::view::Member;

    const TTL: Duration = Duration::from_secs(1800);
    const SETTINGS: Settings<'_> = Settings { ttl: TTL, permanent: &BTreeMap::new() };

    fn view(names: &[&str]) -> ClusterView {
        let members = names.iter().map(|name| MemberName::from(*name));
        ClusterView { members: members.map(|name| (name.clone(), Member::empty(name))).collect(), ..Default::default() }
    }

    fn slots(names: &[&str]) -> BTreeMap<String, Lsn> {
        names.iter().map(|name| ((*name).to_owned(), Lsn(1))).collect()
    }

    #[test]
    fn a_slot_is_kept_for_its_time_after_its_member_has_gone() {
        let me = MemberName::from("n1");
        let mut retained = Retained::default();
        let start = Instant::from_millis(5);
        let both = retained.refresh(start, &me, &view(&["n1", "n2"]), &slots(&["n1", "n2"]), &SETTINGS);
        assert_eq!(both, BTreeSet::from(["n1".to_owned(), "n2".to_owned()]));

        let later = start + TTL - Duration::from_secs(1);
        let still = retained.refresh(later, &me, &view(&["n1"]), &slots(&["n1", "n2"]), &SETTINGS);
        assert!(still.contains("n2"));
        let gone = retained.refresh(start + TTL, &me, &view(&["n1"]), &slots(&["n1", "n2"]), &SETTINGS);
        assert_eq!(gone, BTreeSet::from(["n1".to_owned()]));
    }

    #[test]
    fn a_new_leader_starts_the_time_anew() {
        let mut retained = Retained::default();
        let mut seen = view(&["n1"]);
        seen.status.retain_slots = BTreeSet::from(["n9".to_owned()]);
        retained.inherit(Instant::from_millis(9), &seen);
        let kept = retained.refresh(Instant::from_millis(10), &"n1".into(), &seen, &BTreeMap::new(), &SETTINGS);
        assert_eq!(kept, BTreeSet::from(["n9".to_owned()]));
    }

    #[test]
    fn a_new_agent_of_the_leader_goes_on_with_what_the_last_one_kept() {
        use crate::core::view::{Holder, Leader};
        let mut retained = Retained::default();
        let mut seen = view(&["n1"]);
        seen.status.retain_slots = BTreeSet::from(["n9".to_owned()]);
        retained.go_on(Instant::from_millis(1), &seen);
        assert_eq!(retained.names().count(), 0, "the lock is not ours");
        seen.leader = Some(Leader { name: "n1".into(), holder: Holder::Us });
        retained.go_on(Instant::from_millis(2), &seen);
        assert_eq!(retained.names().collect::<Vec<_>>(), ["n9"]);
        let later = Instant::from_millis(2) + TTL;
        retained.refresh(later, &"n1".into(), &seen, &BTreeMap::new(), &SETTINGS);
        retained.go_on(later, &seen);
        assert_eq!(retained.names().count(), 0, "once");
    }

    #[test]
    fn a_permanent_slot_is_not_retained() {
        let permanent = BTreeMap::from([("n2".to_owned(), PermanentSlot::Physical)]);
        let settings = Settings { ttl: TTL, permanent: &permanent };
        let mut retained = Retained::default();
        let (me, view, slots) = (MemberName::from("n1"), view(&["n1", "n2"]), slots(&["n1", "n2"]));
        let kept = retained.refresh(Instant::from_millis(1), &me, &view, &slots, &settings);
        assert_eq!(kept, BTreeSet::from(["n1".to_owned()]));
    }
}
