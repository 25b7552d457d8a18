//! `replicatefrom`: whom a member streams from, and which slots are kept for whom.

use tamada::core::decide;
use tamada::core::decision::PostgresStep;
use tamada::core::local::{LastRole, Upstream};
use tamada::core::observation::Observation;
use tamada::core::policy::Policy;
use tamada::core::reason::Reason;
use tamada::core::slots::{SlotWanted, wanted};
use tamada::core::tree::{NotHeeded, parent};
use tamada::core::units::Lsn;
use tamada::core::view::{ClusterView, MemberRole};

use super::build::*;

fn from(name: &str) -> Policy {
    let mut policy = policy();
    policy.tags.replicatefrom = Some(name.into());
    policy
}

fn tagged(view: &mut ClusterView, name: &str, from: &str) {
    view.members.get_mut(&name.into()).expect("a member").tags.replicatefrom = Some(from.into());
}

fn streams_from(name: &str) -> PostgresStep {
    PostgresStep::Follow(Upstream::Member { name: name.into(), address: address(name) })
}

fn behind_nobody(view: ClusterView) -> Observation {
    seen(view, standby_at(500, "z"))
}

#[test]
fn a_member_streams_from_the_one_that_it_names() {
    let decision = decide(&from("c"), &seen(view(THEIRS), standby_at(500, "b")));
    assert_eq!((decision.postgres, decision.reason), (streams_from("c"), Reason::NewParent { member: "c".into() }));
    let rests = decide(&from("c"), &kept_up(seen(view(THEIRS), standby_at(500, "c"))));
    assert_eq!(rests.postgres, PostgresStep::Leave);
}

#[test]
fn it_follows_the_leader_where_that_one_is_not_there() {
    let mut cluster = view(THEIRS);
    assert_eq!(parent(&from("d"), &cluster), Err(NotHeeded::NotThere("d".into())));
    assert_eq!(decide(&from("d"), &behind_nobody(cluster.clone())).postgres, streams_from("b"));
    cluster.members.get_mut(&"c".into()).expect("c").address = None;
    assert_eq!(decide(&from("c"), &behind_nobody(cluster)).postgres, streams_from("b"));
}

#[test]
fn one_that_streams_from_nobody_itself_can_be_streamed_from() {
    let mut cluster = view(THEIRS);
    cluster.members.get_mut(&"c".into()).expect("c").tags.nostream = true;
    assert_eq!(decide(&from("c"), &behind_nobody(cluster)).postgres, streams_from("c"));
}

#[test]
fn a_member_that_names_itself_or_is_in_a_circle_follows_the_leader() {
    assert_eq!(parent(&from("a"), &view(THEIRS)), Err(NotHeeded::Itself));
    assert_eq!(decide(&from("a"), &behind_nobody(view(THEIRS))).postgres, streams_from("b"));
    let mut cluster = view(THEIRS);
    cluster.members.insert("d".into(), member("d", MemberRole::Replica));
    tagged(&mut cluster, "c", "d");
    tagged(&mut cluster, "d", "a");
    let circle = NotHeeded::Circle(["c", "d", "a"].map(Into::into).to_vec());
    assert_eq!(parent(&from("c"), &cluster), Err(circle));
    assert_eq!(decide(&from("c"), &behind_nobody(cluster.clone())).postgres, streams_from("b"));
    // Whoever names a member of a circle that it is not in streams from that one, which follows the leader.
    tagged(&mut cluster, "d", "c");
    assert_eq!(decide(&from("c"), &behind_nobody(cluster)).postgres, streams_from("c"));
}

#[test]
fn the_leader_s_own_tag_does_not_close_a_circle() {
    let mut cluster = view(THEIRS);
    tagged(&mut cluster, "b", "a");
    tagged(&mut cluster, "c", "b");
    assert_eq!(decide(&from("c"), &behind_nobody(cluster)).postgres, streams_from("c"));
}

#[test]
fn a_leader_keeps_the_slot_of_a_member_that_streams_from_another_and_moves_it_on() {
    let mut cluster = view(OURS);
    tagged(&mut cluster, "c", "b");
    cluster.status.slots = [("b".to_owned(), Lsn(50)), ("c".to_owned(), Lsn(60))].into();
    cluster.members.get_mut(&"c".into()).expect("c").position = Some(Lsn(77));
    let none = Default::default();
    let on_leader = wanted(&policy(), &cluster, LastRole::Primary, &none).physical;
    assert_eq!((on_leader["b"], on_leader["c"]), (SlotWanted::Streams, SlotWanted::Kept(Some(Lsn(77)))));

    let mut b = policy();
    b.name = "b".into();
    let on_b = wanted(&b, &cluster, LastRole::Standby, &none).physical;
    assert_eq!((on_b["c"], on_b["a"]), (SlotWanted::Streams, SlotWanted::Kept(None)));
    // One that never leads has those alone that stream from it.
    b.tags.failover_priority = 0;
    let of_nofailover = wanted(&b, &cluster, LastRole::Standby, &none).physical;
    assert_eq!(of_nofailover.into_keys().collect::<Vec<_>>(), ["c"]);
}

#[test]
fn members_of_a_circle_have_their_slots_on_the_leader() {
    let mut cluster = view(OURS);
    tagged(&mut cluster, "b", "c");
    tagged(&mut cluster, "c", "b");
    let on_leader = wanted(&policy(), &cluster, LastRole::Primary, &Default::default()).physical;
    assert_eq!((on_leader["b"], on_leader["c"]), (SlotWanted::Streams, SlotWanted::Streams));
}
