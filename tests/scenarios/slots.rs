//! Replication slots: which a member's server is to have, and what becomes of those that it has.

use std::collections::BTreeSet;

use tamada::core::local::LastRole;
use tamada::core::policy::{IgnoredSlot, Pause, Policy, SlotSettings, Switch};
use tamada::core::slots::{SlotFound, SlotWanted, SlotsWanted, Unwanted, Verdict, wanted};
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

/// z is away.
fn physical(policy: &Policy, role: LastRole, view: &ClusterView) -> Vec<(String, SlotWanted)> {
    let retained = BTreeSet::from(["z".to_owned(), policy.name.slot_name()]);
    wanted(policy, view, role, &retained).physical.into_iter().collect()
}

fn wanted_by(policy: &Policy, role: LastRole) -> SlotsWanted {
    wanted(policy, &view(), role, &BTreeSet::new())
}

fn ignoring(name: &str, ignored: &str) -> Policy {
    let ignored = vec![IgnoredSlot { name: Some(ignored.to_owned()), ..IgnoredSlot::default() }];
    Policy { slots: SlotSettings { ignored, ..SlotSettings::default() }, ..policy(name) }
}

fn kept(name: &str, at: Option<u64>) -> (String, SlotWanted) {
    (name.to_owned(), SlotWanted::Kept(at.map(Lsn)))
}

#[test]
fn every_member_that_may_lead_keeps_slots_for_all_others() {
    let streams = |name: &str| (name.to_owned(), SlotWanted::Streams);
    let primary = [streams("b"), streams("c"), kept("z", None)];
    assert_eq!(physical(&policy("a"), LastRole::Primary, &view()), primary);
    let standby = [kept("a", Some(70)), kept("c", Some(60)), kept("z", None)];
    assert_eq!(physical(&policy("b"), LastRole::Standby, &view()), standby);
}

#[test]
fn without_a_reason_to_keep_wal_a_standby_has_no_slots() {
    let no_ttl = SlotSettings { keep_for_failover: Switch::Off, ..SlotSettings::default() };
    let no_ttl = |name| Policy { slots: no_ttl.clone(), ..policy(name) };
    assert_eq!(physical(&no_ttl("b"), LastRole::Standby, &view()), []);
    assert_eq!(physical(&no_ttl("a"), LastRole::Primary, &view()).len(), 3);
    let off = SlotSettings { use_slots: Switch::Off, ..SlotSettings::default() };
    assert_eq!(physical(&Policy { slots: off, ..policy("a") }, LastRole::Primary, &view()), []);
    let mut never = policy("b");
    never.tags.failover_priority = 0;
    assert_eq!(physical(&never, LastRole::Standby, &view()), []);
}

#[test]
fn slots_that_would_move_by_a_little_are_left_where_they_are() {
    let stands = wanted_by(&policy("b"), LastRole::Standby);
    let at = |position: Option<u64>| {
        let mut moved = stands.clone();
        moved.physical.insert("a".to_owned(), SlotWanted::Kept(position.map(Lsn)));
        moved
    };
    assert!(at(Some(70 + 70_000)).is_near(&stands));
    assert!(!at(Some(70 + (1 << 20))).is_near(&stands));
    assert!(!at(None).is_near(&stands) && !stands.is_near(&at(None)));
    assert!(!SlotsWanted { ignored: vec![IgnoredSlot::default()], ..stands.clone() }.is_near(&stands));
    let mut fewer = stands.clone();
    fewer.physical.remove("c");
    assert!(!fewer.is_near(&stands) && !stands.is_near(&fewer));
}

#[test]
fn a_member_that_does_not_stream_gets_no_slot() {
    let mut view = view();
    view.members.get_mut(&MemberName::from("c")).expect("there").tags.nostream = true;
    assert!(physical(&policy("a"), LastRole::Primary, &view).iter().all(|(name, _)| name != "c"));
    assert!(physical(&policy("b"), LastRole::Standby, &view).iter().all(|(name, _)| name != "c"));
}

/// One that keeps WAL from 40 on and that nobody uses.
pub fn found<'a>(name: &'a str, kind: &'a str) -> SlotFound<'a> {
    SlotFound {
        name,
        kind,
        database: (kind == "logical").then_some("db"),
        plugin: (kind == "logical").then_some("wal2json"),
        is_active: false,
        is_temporary: false,
        is_failover: false,
        is_synced: false,
        is_lost: false,
        holds_rows: false,
        reserved: Some(Lsn(40)),
        confirmed: None,
    }
}

#[test]
fn an_ignored_slot_has_every_property_that_is_given() {
    let slot = found("s", "logical");
    let text = |text: &str| Some(text.to_owned());
    let ignored = |entry: IgnoredSlot| entry.matches(&slot);
    assert!(ignored(IgnoredSlot::default()));
    assert!(ignored(IgnoredSlot { name: text("s"), database: text("db"), ..IgnoredSlot::default() }));
    assert!(ignored(IgnoredSlot { plugin: text("wal2json"), ..IgnoredSlot::default() }));
    assert!(!ignored(IgnoredSlot { name: text("s"), kind: text("physical"), ..IgnoredSlot::default() }));
    assert!(!IgnoredSlot { database: text("db"), ..IgnoredSlot::default() }.matches(&found("s", "physical")));
}

#[test]
fn a_kept_slot_is_moved_on_to_the_published_position_and_never_back() {
    let standby = wanted_by(&policy("b"), LastRole::Standby);
    let slot = found("c", "physical");
    assert_eq!(standby.verdict(&slot), Verdict::Advance(Lsn(60)));
    for reserved in [60, 61] {
        assert_eq!(standby.verdict(&SlotFound { reserved: Some(Lsn(reserved)), ..slot }), Verdict::Leave);
    }
    assert_eq!(standby.verdict(&SlotFound { is_active: true, ..slot }), Verdict::Leave);
    assert_eq!(wanted_by(&policy("a"), LastRole::Primary).verdict(&slot), Verdict::Leave);
}

#[test]
fn a_slot_in_use_is_never_dropped() {
    let wanted = wanted_by(&policy("a"), LastRole::Primary);
    let slot = found("barman", "physical");
    assert_eq!(wanted.verdict(&slot), Verdict::Drop(Unwanted::Unknown));
    assert_eq!(wanted.verdict(&SlotFound { is_active: true, ..slot }), Verdict::InUse(Unwanted::Unknown));
    assert_eq!(wanted.verdict(&SlotFound { is_temporary: true, ..slot }), Verdict::Leave);
}

#[test]
fn a_logical_slot_that_nobody_named_holds_no_wal_back_on_a_primary_either() {
    let slot = found("decoder", "logical");
    let primary = wanted_by(&policy("a"), LastRole::Primary);
    assert_eq!(primary.verdict(&slot), Verdict::Drop(Unwanted::Unknown));
    assert_eq!(wanted_by(&ignoring("a", "decoder"), LastRole::Primary).verdict(&slot), Verdict::Leave);
}

#[test]
fn postgresql_itself_carries_a_failover_slot_over() {
    let slot = SlotFound { is_failover: true, ..found("decoder", "logical") };
    assert_eq!(wanted_by(&policy("a"), LastRole::Primary).verdict(&slot), Verdict::Leave);
    let standby = wanted_by(&policy("a"), LastRole::Standby);
    assert_eq!(standby.verdict(&SlotFound { is_synced: true, ..slot }), Verdict::Leave);
    // A former primary's stands in the way of the copy.
    assert_eq!(standby.verdict(&slot), Verdict::Drop(Unwanted::FormerPrimarys));
}

#[test]
fn in_pause_nothing_is_dropped() {
    let paused = Policy { pause: Pause::Paused, ..policy("b") };
    let slot = found("c", "physical");
    let slots = [
        SlotFound { name: "barman", ..slot },
        SlotFound { is_lost: true, ..slot },
        SlotFound { holds_rows: true, ..slot },
        SlotFound { reserved: None, ..slot },
        found("c", "logical"),
        found("decoder", "logical"),
    ];
    for slot in slots {
        let of = |policy: &Policy| wanted_by(policy, LastRole::Standby).verdict(&slot);
        assert!(matches!(of(&policy("b")), Verdict::Drop(_)), "{slot:?}");
        assert!(!matches!(of(&paused), Verdict::Drop(_) | Verdict::InUse(_)), "{slot:?}");
    }
}

#[test]
fn an_ignored_slot_stays_although_its_wal_is_gone() {
    let lost = SlotFound { is_lost: true, ..found("c", "physical") };
    assert_eq!(wanted_by(&policy("a"), LastRole::Primary).verdict(&lost), Verdict::Drop(Unwanted::Lost));
    assert_eq!(wanted_by(&ignoring("a", "c"), LastRole::Primary).verdict(&lost), Verdict::Leave);
}

/// Its rows and its WAL are what it comes back for; on a standby the same slot only holds the primary's vacuum back.
#[test]
fn a_primary_keeps_the_slot_of_a_member_that_is_away_with_its_rows() {
    let away = BTreeSet::from(["z".to_owned()]);
    let slot = SlotFound { holds_rows: true, ..found("z", "physical") };
    let of = |role| wanted(&policy("a"), &view(), role, &away).verdict(&slot);
    assert_eq!(of(LastRole::Primary), Verdict::Leave);
    assert_eq!(of(LastRole::Standby), Verdict::Drop(Unwanted::HoldsRows));
}

#[test]
fn the_log_says_of_each_slot_why_it_is_dropped() {
    use Unwanted::{FormerPrimarys, HoldsRows, Lost, OtherKind, ReservesNothing, Unknown};
    let reasons = [FormerPrimarys, HoldsRows, Lost, OtherKind, ReservesNothing, Unknown].map(|why| why.to_string());
    assert_eq!(reasons[5], ": no member streams from it, and neither slots nor ignore_slots names it");
    let different: BTreeSet<&String> = reasons.iter().collect();
    assert_eq!(different.len(), reasons.len());
}

#[test]
fn on_a_standby_a_slot_in_use_is_left_and_a_physical_one_without_a_member_is_nobodys() {
    let standby = wanted_by(&policy("b"), LastRole::Standby);
    let used = SlotFound { is_active: true, reserved: None, holds_rows: true, ..found("c", "physical") };
    assert_eq!(standby.verdict(&used), Verdict::Leave);
    assert_eq!(standby.verdict(&found("barman", "physical")), Verdict::Drop(Unwanted::Unknown));
}
