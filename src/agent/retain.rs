//! Which slots of members the leader keeps although their members are away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::units::{Instant, Lsn, MemberName};
use crate::core::view::ClusterView;

/// Slot names and when they were last wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Retained {
    wanted: BTreeMap<String, Instant>,
}

impl Retained {
    /// After winning the lock: what the last leader kept is kept for a full time again.
    pub(super) fn inherit(&mut self, now: Instant, view: &ClusterView) {
        self.wanted.extend(view.status.retain_slots.iter().map(|slot| (slot.clone(), now)));
    }

    /// The names to be published and kept. `slots` are those that the status publishes.
    pub(super) fn refresh(
        &mut self,
        now: Instant,
        me: &MemberName,
        view: &ClusterView,
        slots: &BTreeMap<String, Lsn>,
        ttl: Duration,
    ) -> BTreeSet<String> {
        if !slots.is_empty() {
            let members = view.members.values().filter(|member| !member.tags.nostream).map(|member| &member.name);
            for slot in members.chain([me]).map(MemberName::slot_name).filter(|slot| slots.contains_key(slot)) {
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
        let both = retained.refresh(start, &me, &view(&["n1", "n2"]), &slots(&["n1", "n2"]), TTL);
        assert_eq!(both, BTreeSet::from(["n1".to_owned(), "n2".to_owned()]));

        let later = start + TTL - Duration::from_secs(1);
        let still = retained.refresh(later, &me, &view(&["n1"]), &slots(&["n1", "n2"]), TTL);
        assert!(still.contains("n2"));
        let gone = retained.refresh(start + TTL, &me, &view(&["n1"]), &slots(&["n1", "n2"]), TTL);
        assert_eq!(gone, BTreeSet::from(["n1".to_owned()]));
    }

    #[test]
    fn a_new_leader_starts_the_time_anew() {
        let mut retained = Retained::default();
        let mut seen = view(&["n1"]);
        seen.status.retain_slots = BTreeSet::from(["n9".to_owned()]);
        retained.inherit(Instant::from_millis(9), &seen);
        let kept = retained.refresh(Instant::from_millis(10), &"n1".into(), &seen, &BTreeMap::new(), TTL);
        assert_eq!(kept, BTreeSet::from(["n9".to_owned()]));
    }
}
