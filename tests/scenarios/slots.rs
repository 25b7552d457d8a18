//! Replication slots: which a member's server is to have, and what becomes of those that it has.

use std::collections::BTreeSet;

use tamada::core::local::LastRole;
use tamada::core::policy::{Pause, Policy, Switch};
use tamada::core::slots::{IgnoredSlot, SlotFound, SlotSettings, SlotWanted, Unwanted, Verdict, wanted};
use tamada::core::units::{Lsn, MemberName};
use tamada::core::view::ClusterView;

use super::build::{policy as of_a, view as seen_by};

fn policy(name: &str) -> Policy {
    Policy { name: name.into(), ..of_a() }
}

/// a leads; b and c stream from it.
fn view() -> ClusterView {
    let mut view = seen_by(None);
    view.status.slots = [("a", 70), ("b", 50), ("c", 60)].map(|(name, at)| (name.to_owned(), Lsn(at))).into();
    view
}

const SETTINGS: SlotSettings<'static> =
    SlotSettings { use_slots: Switch::On, keep_for_failover: Switch::On, ignored: &[] };

fn of(name: &str, role: LastRole, view: &ClusterView, settings: SlotSettings<'_>) -> Vec<(String, SlotWanted)> {
    let retained = BTreeSet::from(["z".to_owned(), name.to_owned()]);
    wanted(&policy(name), view, role, settings, &retained).physical.into_iter().collect()
}

fn kept(name: &str, at: Option<u64>) -> (String, SlotWanted) {
    (name.to_owned(), SlotWanted::Kept(at.map(Lsn)))
}

#[test]
fn every_member_that_may_lead_keeps_slots_for_all_others() {
    let streams = |name: &str| (name.to_owned(), SlotWanted::Streams);
    assert_eq!(of("a", LastRole::Primary, &view(), SETTINGS), [streams("b"), streams("c"), kept("z", None)]);
    let standby = [kept("a", Some(70)), kept("c", Some(60)), kept("z", None)];
    assert_eq!(of("b", LastRole::Standby, &view(), SETTINGS), standby);
}

#[test]
fn without_a_reason_to_keep_wal_a_standby_has_no_slots() {
    let no_ttl = SlotSettings { keep_for_failover: Switch::Off, ..SETTINGS };
    assert_eq!(of("b", LastRole::Standby, &view(), no_ttl), []);
    assert_eq!(of("a", LastRole::Primary, &view(), no_ttl).len(), 3);
    let off = SlotSettings { use_slots: Switch::Off, ..SETTINGS };
    assert_eq!(of("a", LastRole::Primary, &view(), off), []);
    let mut never = policy("b");
    never.tags.failover_priority = 0;
    let none = wanted(&never, &view(), LastRole::Standby, SETTINGS, &BTreeSet::from(["z".to_owned()]));
    assert!(none.physical.is_empty());
}

#[test]
fn a_member_that_does_not_stream_gets_no_slot() {
    let mut view = view();
    view.members.get_mut(&MemberName::from("c")).expect("there").tags.nostream = true;
    assert!(of("a", LastRole::Primary, &view, SETTINGS).iter().all(|(name, _)| name != "c"));
    assert!(of("b", LastRole::Standby, &view, SETTINGS).iter().all(|(name, _)| name != "c"));
}

/// One that keeps WAL from 40 on and that nobody uses.
fn found<'a>(name: &'a str, kind: &'a str, role: LastRole) -> SlotFound<'a> {
    SlotFound {
        name,
        kind,
        database: (kind == "logical").then_some("db"),
        plugin: (kind == "logical").then_some("wal2json"),
        role,
        is_active: false,
        is_temporary: false,
        is_failover: false,
        is_synced: false,
        is_lost: false,
        holds_rows: false,
        reserved: Some(Lsn(40)),
    }
}

#[test]
fn an_ignored_slot_has_every_property_that_is_given() {
    let slot = found("s", "logical", LastRole::Primary);
    let text = |text: &str| Some(text.to_owned());
    let ignored = |entry: IgnoredSlot| entry.matches(&slot);
    assert!(ignored(IgnoredSlot::default()));
    assert!(ignored(IgnoredSlot { name: text("s"), database: text("db"), ..IgnoredSlot::default() }));
    assert!(ignored(IgnoredSlot { plugin: text("wal2json"), ..IgnoredSlot::default() }));
    assert!(!ignored(IgnoredSlot { name: text("s"), kind: text("physical"), ..IgnoredSlot::default() }));
    let physical = found("s", "physical", LastRole::Primary);
    assert!(!IgnoredSlot { database: text("db"), ..IgnoredSlot::default() }.matches(&physical));
}

#[test]
fn a_kept_slot_is_moved_on_to_the_published_position_and_never_back() {
    let standby = wanted(&policy("b"), &view(), LastRole::Standby, SETTINGS, &BTreeSet::new());
    let slot = found("c", "physical", LastRole::Standby);
    assert_eq!(standby.verdict(&slot), Verdict::Advance(Lsn(60)));
    assert_eq!(standby.verdict(&SlotFound { reserved: Some(Lsn(61)), ..slot }), Verdict::Leave);
    assert_eq!(standby.verdict(&SlotFound { is_active: true, ..slot }), Verdict::Leave);
    let primary = wanted(&policy("a"), &view(), LastRole::Primary, SETTINGS, &BTreeSet::new());
    assert_eq!(primary.verdict(&SlotFound { role: LastRole::Primary, ..slot }), Verdict::Leave);
}

#[test]
fn a_slot_in_use_is_never_dropped() {
    let wanted = wanted(&policy("a"), &view(), LastRole::Primary, SETTINGS, &BTreeSet::new());
    let slot = found("barman", "physical", LastRole::Primary);
    assert_eq!(wanted.verdict(&slot), Verdict::Drop(Unwanted::Unknown));
    assert_eq!(wanted.verdict(&SlotFound { is_active: true, ..slot }), Verdict::InUse(Unwanted::Unknown));
    assert_eq!(wanted.verdict(&SlotFound { is_temporary: true, ..slot }), Verdict::Leave);
}

#[test]
fn a_logical_slot_that_nobody_named_holds_no_wal_back_on_a_primary_either() {
    let slot = found("decoder", "logical", LastRole::Primary);
    let of = |settings| wanted(&policy("a"), &view(), LastRole::Primary, settings, &BTreeSet::new()).verdict(&slot);
    assert_eq!(of(SETTINGS), Verdict::Drop(Unwanted::Unknown));
    let named = [IgnoredSlot { name: Some("decoder".to_owned()), ..IgnoredSlot::default() }];
    assert_eq!(of(SlotSettings { ignored: &named, ..SETTINGS }), Verdict::Leave);
    let failover = SlotFound { is_failover: true, ..slot };
    let of = |role, slot| wanted(&policy("a"), &view(), role, SETTINGS, &BTreeSet::new()).verdict(&slot);
    assert_eq!(of(LastRole::Primary, failover), Verdict::Leave, "PostgreSQL itself carries it over to the standbys");
    let left = SlotFound { role: LastRole::Standby, ..failover };
    assert_eq!(
        of(LastRole::Standby, left),
        Verdict::Drop(Unwanted::FormerPrimarys),
        "it stands in the way of the sync"
    );
}

#[test]
fn in_pause_nothing_is_dropped() {
    let paused = Policy { pause: Pause::Paused, ..policy("b") };
    let slot = found("c", "physical", LastRole::Standby);
    let slots = [
        SlotFound { name: "barman", ..slot },
        SlotFound { is_lost: true, ..slot },
        SlotFound { holds_rows: true, ..slot },
        SlotFound { reserved: None, ..slot },
        found("c", "logical", LastRole::Standby),
        found("decoder", "logical", LastRole::Standby),
    ];
    for slot in slots {
        let of =
            |policy: &Policy| wanted(policy, &view(), LastRole::Standby, SETTINGS, &BTreeSet::new()).verdict(&slot);
        assert!(matches!(of(&policy("b")), Verdict::Drop(_)), "{slot:?}");
        assert!(!matches!(of(&paused), Verdict::Drop(_) | Verdict::InUse(_)), "{slot:?}");
    }
}

#[test]
fn an_ignored_slot_stays_although_its_wal_is_gone() {
    let named = [IgnoredSlot { name: Some("c".to_owned()), ..IgnoredSlot::default() }];
    let of = |settings| {
        let wanted = wanted(&policy("a"), &view(), LastRole::Primary, settings, &BTreeSet::new());
        wanted.verdict(&SlotFound { is_lost: true, ..found("c", "physical", LastRole::Primary) })
    };
    assert_eq!(of(SETTINGS), Verdict::Drop(Unwanted::Lost));
    assert_eq!(of(SlotSettings { ignored: &named, ..SETTINGS }), Verdict::Leave);
}

/// Its rows and its WAL are what it comes back for; on a standby the same slot only holds the primary's vacuum back.
#[test]
fn a_primary_keeps_the_slot_of_a_member_that_is_away_with_its_rows() {
    let away = BTreeSet::from(["z".to_owned()]);
    let of = |role| {
        let slot = SlotFound { holds_rows: true, ..found("z", "physical", role) };
        wanted(&policy("a"), &view(), role, SETTINGS, &away).verdict(&slot)
    };
    assert_eq!(of(LastRole::Primary), Verdict::Leave);
    assert_eq!(of(LastRole::Standby), Verdict::Drop(Unwanted::HoldsRows));
}
