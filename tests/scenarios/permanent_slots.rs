//! Slots that the cluster's configuration names: physical ones everywhere, logical ones taken over from the primary.

use std::collections::{BTreeMap, BTreeSet};

use tamada::core::decide;
use tamada::core::decision::PostgresStep;
use tamada::core::failsafe::Promise;
use tamada::core::local::{Job, LastRole, Postgres, StartAs};
use tamada::core::observation::{Event, Observation, Outcome};
use tamada::core::policy::{IgnoredSlot, Pause, PermanentSlot, Policy, SlotSettings, Switch, SyncMode, Synchronous};
use tamada::core::reason::Reason;
use tamada::core::slots::{
    LogicalWanted, SlotFound, SlotWanted, SlotsWanted, Source, Unwanted, Verdict, is_safe_after_promotion, published,
    wanted,
};
use tamada::core::units::Lsn;
use tamada::core::view::{ClusterView, MemberRole, SyncState};
use tamada::core::{learn, note};

use super::build::{
    THEIRS, address, decided, kept_up, outage, policy as of_a, request, seen, standby_at, view as seen_by,
};

fn logical(database: &str) -> PermanentSlot {
    PermanentSlot::Logical { database: database.to_owned(), plugin: "pgoutput".to_owned() }
}

fn policy(name: &str, permanent: &[(&str, PermanentSlot)]) -> Policy {
    let permanent = permanent.iter().map(|(name, slot)| ((*name).to_owned(), slot.clone())).collect();
    Policy { name: name.into(), slots: SlotSettings { permanent, ..SlotSettings::default() }, ..of_a() }
}

/// b leads; a and c stream from it.
fn view(slots: &[(&str, u64)]) -> ClusterView {
    let mut view = seen_by(THEIRS);
    view.status.slots = slots.iter().map(|(name, at)| ((*name).to_owned(), Lsn(*at))).collect();
    view
}

fn of(policy: &Policy, role: LastRole, slots: &[(&str, u64)]) -> SlotsWanted {
    wanted(policy, &view(slots), role, &BTreeSet::new())
}

fn found<'a>(name: &'a str, kind: &'a str) -> SlotFound<'a> {
    let is_logical = kind == "logical";
    SlotFound {
        plugin: is_logical.then_some("pgoutput"),
        confirmed: is_logical.then_some(Lsn(50)),
        ..super::slots::found(name, kind)
    }
}

#[test]
fn a_permanent_physical_slot_is_on_every_member_that_may_lead() {
    let backup = [("backup", PermanentSlot::Physical), ("a", PermanentSlot::Physical)];
    let primary = of(&policy("a", &backup), LastRole::Primary, &[]);
    assert_eq!(primary.physical["backup"], SlotWanted::Streams, "whoever reads from it moves it on");
    assert!(!primary.keeps("a"), "nobody streams from itself");
    let standby = of(&policy("a", &backup), LastRole::Standby, &[("backup", 70)]);
    assert_eq!(standby.physical["backup"], SlotWanted::Kept(Some(Lsn(70))));
    assert_eq!(standby.verdict(&found("backup", "physical")), Verdict::Advance(Lsn(70)));
    let mut without_ttl = policy("a", &backup);
    without_ttl.slots.keep_for_failover = Switch::Off;
    let names = |policy: &Policy| -> Vec<String> { of(policy, LastRole::Standby, &[]).physical.into_keys().collect() };
    assert_eq!(names(&without_ttl), ["backup"]);
    let mut never = policy("a", &backup);
    never.tags.failover_priority = 0;
    assert_eq!(names(&never), [""; 0]);
    let mut off = policy("a", &backup);
    off.slots.use_slots = Switch::Off;
    assert_eq!(of(&off, LastRole::Primary, &[]).physical, BTreeMap::new());
}

#[test]
fn the_slot_of_a_member_that_is_named_survives_its_absence() {
    let named = policy("b", &[("x", PermanentSlot::Physical)]);
    let gone = of(&named, LastRole::Primary, &[]);
    assert_eq!(gone.verdict(&found("x", "physical")), Verdict::Leave);
    assert_eq!(gone.verdict(&found("y", "physical")), Verdict::Drop(Unwanted::Unknown));
}

#[test]
fn a_standby_takes_over_a_logical_slot_whose_position_is_known() {
    let policy = policy("a", &[("s", logical("db")), ("t", logical("db"))]);
    let standby = of(&policy, LastRole::Standby, &[("s", 70)]);
    let expected = LogicalWanted { database: "db".to_owned(), plugin: "pgoutput".to_owned(), confirmed: Some(Lsn(70)) };
    assert_eq!(standby.logical["s"], expected);
    assert_eq!(standby.source, Some(Source { address: address("b"), slot: "a".to_owned() }));
    assert_eq!(standby.to_copy(|_| false).collect::<Vec<_>>(), ["s"]);
    assert_eq!(standby.to_copy(|name| name == "s").count(), 0);
    let paused = SlotsWanted { pause: Pause::Paused, ..standby.clone() };
    assert_eq!(paused.to_copy(|_| false).count(), 0, "a copy needs a stop");
    let primary = of(&policy, LastRole::Primary, &[("s", 70)]);
    assert_eq!((primary.to_copy(|_| false).count(), primary.source.clone()), (0, None));
    assert_eq!(primary.logical.len(), 2);
    assert!(primary.logical.values().all(|slot| slot.confirmed.is_none()), "its consumer moves it on");
    let mut promoting = view(&[("s", 70)]);
    promoting.members.get_mut(&"b".into()).expect("there").role = MemberRole::Replica;
    assert_eq!(wanted(&policy, &promoting, LastRole::Standby, &BTreeSet::new()).source, None);
}

#[test]
fn a_logical_slot_is_none_of_members_that_cannot_protect_it() {
    let slots = [("s", logical("db")), ("c", logical("db")), ("a", logical("db"))];
    let standby = of(&policy("a", &slots), LastRole::Standby, &[]);
    assert_eq!(standby.logical.keys().collect::<Vec<_>>(), ["s"], "the others are members' names");
    assert!(standby.keeps("c"));
    let mut from_nobody = policy("a", &slots);
    from_nobody.tags.nostream = true;
    assert_eq!(of(&from_nobody, LastRole::Standby, &[]).logical, BTreeMap::new());
    assert_eq!(of(&from_nobody, LastRole::Primary, &[]).logical.len(), 1);
}

#[test]
fn in_a_tree_the_primary_hears_of_a_slot_through_the_member_at_the_top() {
    let mut below = policy("a", &[("s", logical("db"))]);
    below.tags.replicatefrom = Some("c".into());
    let of = |view: &ClusterView| wanted(&below, view, LastRole::Standby, &BTreeSet::new());
    let mut view = view(&[("s", 70)]);
    assert_eq!(of(&view).source, Some(Source { address: address("b"), slot: "c".to_owned() }));
    view.members.get_mut(&"c".into()).expect("there").tags.nostream = true;
    assert_eq!((of(&view).source, of(&view).logical.len()), (None, 0), "nobody reports what it needs");
    view.members.remove(&"c".into());
    assert_eq!(of(&view).source.map(|source| source.slot), Some("a".to_owned()), "it follows the leader");
}

#[test]
fn a_logical_slot_on_a_standby_is_moved_on_and_never_back() {
    let policy = policy("a", &[("s", logical("db"))]);
    let verdict = |at, slot: &SlotFound<'_>| of(&policy, LastRole::Standby, &[("s", at)]).verdict(slot);
    let slot = found("s", "logical");
    assert_eq!(verdict(51, &slot), Verdict::Advance(Lsn(51)));
    assert_eq!(verdict(50, &slot), Verdict::Leave);
    assert_eq!(verdict(51, &SlotFound { is_active: true, ..slot }), Verdict::Leave);
    assert_eq!(of(&policy, LastRole::Standby, &[]).verdict(&slot), Verdict::Leave, "nothing is known");
    let near = |one, other| {
        let of = |at| of(&policy, LastRole::Standby, &[("s", at)]);
        of(one).is_near(&of(other))
    };
    assert!(near(51, 51) && !near(52, 51), "what lies between is sent again after a failover");
}

#[test]
fn a_slot_that_is_not_the_one_that_is_wanted_goes() {
    let mut policy = policy("a", &[("s", logical("db"))]);
    let other = |policy: &Policy, slot: &SlotFound<'_>| of(policy, LastRole::Primary, &[]).verdict(slot);
    let slot = found("s", "logical");
    assert_eq!(other(&policy, &slot), Verdict::Leave);
    for wrong in [
        found("s", "physical"),
        SlotFound { database: Some("other"), ..slot },
        SlotFound { plugin: Some("wal2json"), ..slot },
    ] {
        assert_eq!(other(&policy, &wrong), Verdict::Drop(Unwanted::OtherKind));
        assert_eq!(other(&policy, &SlotFound { is_active: true, ..wrong }), Verdict::InUse(Unwanted::OtherKind));
        let paused = Policy { pause: Pause::Paused, ..policy.clone() };
        assert_eq!(other(&paused, &wrong), Verdict::Leave);
    }
    let lost = SlotFound { is_lost: true, ..slot };
    assert_eq!(other(&policy, &lost), Verdict::Drop(Unwanted::Lost));
    policy.slots.ignored = vec![IgnoredSlot { kind: Some("logical".to_owned()), ..IgnoredSlot::default() }];
    assert_eq!(other(&policy, &lost), Verdict::Leave);
}

#[test]
fn what_postgresql_carries_over_itself_is_left_to_it() {
    let policy = policy("a", &[("s", logical("db"))]);
    let slot = SlotFound { is_failover: true, ..found("s", "logical") };
    assert_eq!(of(&policy, LastRole::Primary, &[]).verdict(&slot), Verdict::Leave);
    let standby = of(&policy, LastRole::Standby, &[("s", 70)]);
    assert_eq!(standby.verdict(&SlotFound { is_synced: true, ..slot }), Verdict::Leave);
    assert_eq!(standby.verdict(&slot), Verdict::Drop(Unwanted::FormerPrimarys));
}

#[test]
fn a_leader_publishes_its_own_slots_and_no_others() {
    let mut policy = policy("b", &[("s", logical("db")), ("backup", PermanentSlot::Physical)]);
    let found: BTreeMap<String, Lsn> =
        ["a", "c", "s", "backup", "foreign", "z"].iter().map(|name| ((*name).to_owned(), Lsn(7))).collect();
    let retained = BTreeSet::from(["z".to_owned()]);
    let names = |policy: &Policy| -> Vec<String> {
        published(policy, &view(&[]), &retained, &found, Lsn(9)).into_keys().collect()
    };
    assert_eq!(names(&policy), ["a", "b", "backup", "c", "s", "z"]);
    assert_eq!(published(&policy, &view(&[]), &retained, &found, Lsn(9))["b"], Lsn(9));
    policy.slots.keep_for_failover = Switch::Off;
    assert_eq!(names(&policy), ["backup", "s"]);
    policy.slots.use_slots = Switch::Off;
    assert_eq!(names(&policy), [""; 0]);
}

#[test]
fn a_copy_is_safe_once_the_primary_holds_what_it_needs_for_us() {
    assert!(is_safe_after_promotion(700, 700, 700) && is_safe_after_promotion(700, 702, 705));
    assert!(!is_safe_after_promotion(700, 699, 705), "the primary's slot had moved on before we reported");
    assert!(!is_safe_after_promotion(700, 706, 705), "the primary may have removed what we need");
    assert!(is_safe_after_promotion(u32::MAX - 1, 5, 9) && !is_safe_after_promotion(5, u32::MAX - 1, 9), "a circle");
}

/// Copies of a slot lie ready on the standby a.
fn ready() -> Observation {
    let mut seen = kept_up(seen(seen_by(THEIRS), standby_at(1_000, "b")));
    seen.memory = note(seen.memory, &Event::SlotsCopied(BTreeSet::from(["s".to_owned(), "t".to_owned()])));
    seen
}

#[test]
fn copies_are_taken_in_by_a_restart() {
    let decision = decided(&ready());
    assert!(matches!(decision.postgres, PostgresStep::Restart(StartAs::Standby(_))), "{decision:?}");
    assert_eq!(decision.reason.to_string(), "Copying logical slots ['s', 't'] from the primary");
    let mut asked = ready();
    request(asked.cluster.as_mut().expect("a view"), Some("b"), Some("a"));
    assert_eq!(decided(&asked).postgres, PostgresStep::Leave, "a change of the leader goes first");
    let paused = decide(&Policy { pause: Pause::Paused, ..of_a() }, &ready());
    assert_eq!(paused.postgres, PostgresStep::Leave);
    let mut free = ready();
    free.cluster.as_mut().expect("a view").leader = None;
    assert_ne!(decided(&free).reason, decision.reason, "nobody to follow");
}

#[test]
fn a_synchronous_standby_is_released_before_it_takes_copies_in() {
    let synchronous = Synchronous { mode: SyncMode::Priority, ..Synchronous::default() };
    let mut ready = ready();
    let standbys = BTreeSet::from(["a".into()]);
    ready.cluster.as_mut().expect("a view").sync =
        SyncState { leader: Some("b".into()), standbys, ..SyncState::default() };
    let decision = decide(&Policy { synchronous, ..of_a() }, &ready);
    assert_eq!((decision.reason, decision.postgres), (Reason::AskingForRelease, PostgresStep::Leave));
}

#[test]
fn a_start_of_the_server_is_not_made_twice_for_the_same_copies() {
    let ready = ready();
    let restarts = Outcome {
        now: ready.now,
        lease: tamada::core::observation::LeaseOutcome::None,
        started: Some(Job::Restart(StartAs::Standby(tamada::core::local::Upstream::None))),
        asked: None,
        reason: Reason::Restarting,
    };
    assert!(learn(ready.memory.clone(), &ready, &restarts).slot_copies.is_empty());
    let mut stopped = ready.clone();
    stopped.local.postgres = Postgres::Stopped;
    let nothing = Outcome { started: None, ..restarts };
    assert!(learn(stopped.memory.clone(), &stopped, &nothing).slot_copies.is_empty());
    assert!(!learn(ready.memory.clone(), &ready, &nothing).slot_copies.is_empty());
}

#[test]
fn in_an_outage_slots_follow_the_primary_that_was_accepted() {
    let mut observation = seen(view(&[("s", 70), ("c", 60)]), standby_at(1_000, "b"));
    let policy = policy("a", &[("s", logical("db"))]);
    let wanted = decide(&policy, &observation).slots.expect("some");
    observation.memory = note(observation.memory, &Event::SlotsTouched(wanted));
    let mut silent = outage(observation);
    assert_eq!(decide(&policy, &silent).slots, None, "nobody says where they are");
    let slots = [("s", 90), ("c", 80), ("x", 5)].map(|(name, at)| (name.to_owned(), Lsn(at))).into();
    silent.failsafe.promise = Some(Promise { leader: "b".into(), until: silent.now + seconds(5), slots });
    let moved = decide(&policy, &silent).slots.expect("some");
    assert_eq!(moved.logical["s"].confirmed, Some(Lsn(90)));
    assert_eq!((moved.physical["c"], moved.keeps("x")), (SlotWanted::Kept(Some(Lsn(80))), false));
    assert_eq!(moved.to_copy(|_| false).count(), 0);
    assert_eq!(moved.verdict(&found("foreign", "physical")), Verdict::Leave, "nothing is dropped");
    silent.memory = note(silent.memory, &Event::SlotsBrought(moved));
    assert_eq!(decide(&policy, &silent).slots, None);
    silent.local.postgres = Postgres::Stopped;
    assert_eq!(decide(&policy, &silent).slots, None);
}

fn seconds(seconds: u64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds)
}
