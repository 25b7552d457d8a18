//! Timelines of one number that were begun at different points: two members were promoted without knowing of each other.

use tamada::core::decision::{Decision, DocumentStep, LeaseStep};
use tamada::core::local::{ClusterState, DataDir, Postgres, PrimaryFacts, RecoverySignal, Running};
use tamada::core::observation::{Handover, HandoverPurpose, HandoverStage, Observation, PeerAnswer};
use tamada::core::reason::Reason;
use tamada::core::units::{Branch, Lsn, MemberName, Timeline};
use tamada::core::view::{ClusterView, History, HistoryEntry, Holder};

use super::build::*;

/// Where the cluster's second timeline began, by `left_timeline`.
pub const BEGAN: u64 = 900;
pub const TIMELINE: Timeline = Timeline(2);

fn branch(began: u64) -> Option<Branch> {
    Some(Branch { timeline: TIMELINE, began: Lsn(began) })
}

pub fn second_timeline(leader: Option<(&str, Holder)>, postgres: Postgres) -> Observation {
    let mut cluster = view(leader);
    left_timeline(&mut cluster, 1);
    let mut observation = seen(cluster, postgres);
    match &mut observation.local.postgres {
        Postgres::Running(Running::Primary(facts)) => facts.timeline = TIMELINE,
        Postgres::Running(Running::Standby(facts)) => facts.timeline = Some(TIMELINE),
        _ => {}
    }
    observation.local.branch = branch(BEGAN);
    observation
}

/// These have answered from a second timeline that began there; `None`: they do not say where.
pub fn answers_from(observation: Observation, peers: &[(&str, u64, Option<u64>)]) -> Observation {
    let positions: Vec<(&str, u64)> = peers.iter().map(|(name, position, _)| (*name, *position)).collect();
    let mut observation = answers(observation, &positions);
    for (name, _, began) in peers {
        let report = observation.peers.get_mut(&MemberName::from(*name)).expect("it has answered");
        let PeerAnswer::Status(status) = &mut report.answer else { unreachable!("it has answered") };
        (status.timeline, status.began) = (Some(TIMELINE), began.map(Lsn));
    }
    observation
}

fn stopped_to_hand_over() -> Observation {
    let mut observation = renewed(second_timeline(OURS, Postgres::Stopped), 1);
    observation.local.data = data(ClusterState::ShutDown, RecoverySignal::None);
    if let DataDir::Present(data) = &mut observation.local.data {
        data.control.as_mut().expect("it is stopped").timeline = TIMELINE;
    }
    observation.memory.handover = Some(Handover {
        purpose: HandoverPurpose::Switchover,
        candidate: None,
        since: second(999),
        stage: HandoverStage::Confirming { position: Lsn(1_000), since: second(999) },
        best: None,
    });
    observation
}

fn races(own: u64, position: u64, peers: &[(&str, u64, Option<u64>)]) -> Decision {
    let mut observation = second_timeline(None, standby_at(position, "c"));
    observation.local.branch = branch(own);
    decided(&answers_from(observation, peers))
}

#[test]
fn a_position_on_another_branch_confirms_no_hand_over() {
    let released = LeaseStep::Release { last_position: Some(Lsn(1_000)) };
    let of = |began| decided(&answers_from(stopped_to_hand_over(), &[("b", 2_000, began), ("c", 990, Some(BEGAN))]));
    assert_eq!(of(Some(800)).lease, LeaseStep::Keep);
    assert_eq!(of(Some(BEGAN)).lease, released);
    assert_eq!(of(None).lease, released, "a member that does not say where its timeline began");
}

#[test]
fn a_position_on_a_timeline_that_the_leader_never_was_on_confirms_nothing() {
    let mut observation = answers_from(stopped_to_hand_over(), &[("b", 2_000, None), ("c", 990, Some(BEGAN))]);
    if let PeerAnswer::Status(status) = &mut observation.peers.get_mut(&"b".into()).expect("it has answered").answer {
        status.timeline = Some(Timeline(3));
    }
    assert_eq!(decided(&observation).lease, LeaseStep::Keep);
}

#[test]
fn a_leader_counts_its_own_branch_before_the_history_does() {
    let mut observation = stopped_to_hand_over();
    observation.local.branch = branch(950);
    let of_the_former = answers_from(observation.clone(), &[("b", 2_000, Some(BEGAN)), ("c", 990, Some(950))]);
    assert_eq!(decided(&of_the_former).lease, LeaseStep::Keep);
    let mut followed = answers_from(observation, &[("b", 1_000, Some(950)), ("c", 990, Some(950))]);
    let decision = decided(&followed);
    assert_eq!(decision.lease, LeaseStep::Keep, "nobody could know that the former branch is behind");
    assert_eq!(decision.documents, [DocumentStep::UpdateHistory]);
    if let Ok(ClusterView { history: History::Known(entries), .. }) = &mut followed.cluster {
        entries[0].at = Lsn(950);
    }
    assert_eq!(decided(&followed).lease, LeaseStep::Release { last_position: Some(Lsn(1_000)) });
}

#[test]
fn a_member_on_another_branch_is_no_candidate_of_a_switchover() {
    let mut observation = renewed(second_timeline(OURS, primary()), 1);
    if let Ok(cluster) = &mut observation.cluster {
        request(cluster, Some("a"), Some("b"));
    }
    let of = |began| decided(&answers_from(observation.clone(), &[("b", 1_000, began)])).reason;
    assert_eq!(of(Some(800)), Reason::NoHealthyCandidate);
    assert_eq!(of(Some(BEGAN)), Reason::HandingOver);
    assert_eq!(of(None), Reason::HandingOver);
}

#[test]
fn the_clusters_branch_wins_whatever_the_position_of_the_other() {
    assert_eq!(races(BEGAN, 1_000, &[("b", 2_000, Some(800)), ("c", 990, Some(BEGAN))]).reason, Reason::Acquiring);
    let ahead = races(BEGAN, 1_000, &[("b", 2_000, None), ("c", 990, None)]).reason;
    assert_eq!(ahead, Reason::PeerAhead { peer: "b".into() });
}

#[test]
fn a_standby_on_another_branch_waits_for_the_clusters() {
    let waits = races(800, 2_000, &[("b", 990, Some(BEGAN)), ("c", 990, Some(BEGAN))]);
    assert_eq!(waits.reason, Reason::OtherBranch { timeline: TIMELINE });
    assert_eq!(waits.lease, LeaseStep::Keep);
    // Nor does it take the lock when nobody else is left: seed 13124046. Whoever has more may be on an older timeline.
    let mut observation = second_timeline(None, standby_at(2_000, "c"));
    observation.local.branch = branch(800);
    let mut later = answers_from(observation, &[("b", 1_990, Some(800)), ("c", 2_000, Some(800))]);
    later.memory.unlocked_since = Some(second(900));
    assert_eq!(decided(&later).reason, Reason::OtherBranch { timeline: TIMELINE });
}

#[test]
fn a_leader_on_another_branch_than_the_history_writes_it_anew() {
    let mut observation = renewed(second_timeline(OURS, primary()), 1);
    assert_eq!(decided(&observation).documents, []);
    observation.local.branch = branch(950);
    assert_eq!(decided(&observation).documents, [DocumentStep::UpdateHistory]);
}

#[test]
fn a_primary_without_the_lock_on_another_branch_does_not_take_it() {
    let facts = PrimaryFacts { timeline: TIMELINE, flushed: Lsn(1_000) };
    let mut observation = second_timeline(None, Postgres::Running(Running::Primary(facts)));
    assert_eq!(decided(&observation).reason, Reason::AcquiredAsPrimary);
    observation.local.branch = branch(950);
    assert_eq!(decided(&observation).reason, Reason::OtherBranch { timeline: TIMELINE });
}

/// The leader b, on the cluster's second timeline, gave the lock up at 1,000 in order.
pub fn released_by_b(mut observation: Observation) -> Observation {
    if let Ok(cluster) = &mut observation.cluster {
        (cluster.status.released_by, cluster.status.optime) = (Some("b".into()), Some(Lsn(1_000)));
    }
    observation
}

pub fn on_a_third_timeline(mut observation: Observation, peer: &str, began: Option<u64>) -> Observation {
    let report = observation.peers.get_mut(&MemberName::from(peer)).expect("it has answered");
    let PeerAnswer::Status(status) = &mut report.answer else { unreachable!("it has answered") };
    (status.timeline, status.began) = (Some(Timeline(3)), began.map(Lsn));
    observation
}

#[test]
fn after_a_release_a_newer_timeline_on_which_the_leader_never_was_waits() {
    let mut observation = released_by_b(second_timeline(None, standby_at(2_000, "c")));
    if let Postgres::Running(Running::Standby(facts)) = &mut observation.local.postgres {
        facts.timeline = Some(Timeline(3));
    }
    observation.local.branch = Some(Branch { timeline: Timeline(3), began: Lsn(950) });
    let observation = answers_from(observation, &[("b", 1_000, Some(BEGAN)), ("c", 1_000, Some(BEGAN))]);
    let waits = decided(&observation);
    assert_eq!((waits.lease, waits.reason), (LeaseStep::Keep, Reason::OtherBranch { timeline: TIMELINE }));
    // Members that saw different leaders would wait for each other for ever.
    let mut later = observation.clone();
    later.memory.unlocked_since = Some(second(940));
    assert_eq!(decided(&later).reason, Reason::Acquiring);
    // A leader whose timeline skips a number has noted where it began.
    let mut skipped = observation.clone();
    skipped.local.branch = Some(Branch { timeline: Timeline(3), began: Lsn(BEGAN) });
    assert_eq!(decided(&skipped).reason, Reason::Acquiring);
    // Somebody has led since that word, and may have been on it.
    let mut led_since = observation.clone();
    led_since.memory.outlived = led_since.cluster.as_ref().expect("there is a view").status.given_up();
    assert_eq!(decided(&led_since).reason, Reason::Acquiring);
}

/// Seed 2008374: b gave the lock up, led again without being able to say so, and is ahead.
#[test]
fn on_a_timeline_that_began_after_a_release_whoever_released_is_asked_like_the_others() {
    let mut observation = released_by_b(second_timeline(None, standby_at(2_000, "c")));
    let Postgres::Running(Running::Standby(facts)) = &mut observation.local.postgres else { unreachable!("a standby") };
    facts.timeline = Some(Timeline(3));
    observation.local.branch = Some(Branch { timeline: Timeline(3), began: Lsn(1_000) });
    let ahead = answers_from(observation, &[("b", 2_002, None), ("c", 2_000, None)]);
    let mut ahead = on_a_third_timeline(on_a_third_timeline(ahead, "b", Some(1_000)), "c", Some(1_000));
    ahead.memory.unlocked_since = Some(second(900));
    assert_eq!(decided(&ahead).reason, Reason::PeerAhead { peer: "b".into() });
}

#[test]
fn after_a_release_nobody_waits_for_a_newer_timeline_on_which_the_leader_never_was() {
    let observation = released_by_b(second_timeline(None, standby_at(1_000, "c")));
    let observation = answers_from(observation, &[("b", 1_000, Some(BEGAN)), ("c", 2_000, Some(BEGAN))]);
    assert_eq!(decided(&on_a_third_timeline(observation.clone(), "c", Some(950))).reason, Reason::Acquiring);
    let ahead = Reason::PeerAhead { peer: "c".into() };
    assert_eq!(decided(&on_a_third_timeline(observation.clone(), "c", None)).reason, ahead, "it does not say where");
    let mut crashed = observation;
    if let Ok(cluster) = &mut crashed.cluster {
        cluster.status.released_by = None;
    }
    assert_eq!(
        decided(&on_a_third_timeline(crashed, "c", Some(950))).reason,
        ahead,
        "the last leader may have been on it"
    );
}

#[test]
fn a_member_that_does_not_know_where_its_timeline_began_compares_numbers_alone() {
    let mut observation = released_by_b(second_timeline(None, standby_at(1_000, "b")));
    let of_the_number = answers_from(observation.clone(), &[("c", 2_000, Some(800))]);
    assert_eq!(decided(&of_the_number).reason, Reason::Acquiring, "ours is the cluster's");
    observation.local.branch = None;
    let of_the_number = answers_from(observation, &[("c", 2_000, Some(800))]);
    assert_eq!(decided(&of_the_number).reason, Reason::PeerAhead { peer: "c".into() });
}

#[test]
fn a_leader_on_a_timeline_that_the_history_has_left_writes_it_anew() {
    // The next timeline left it where it had begun: the position alone does not tell them apart.
    let mut observation = renewed(second_timeline(OURS, primary()), 1);
    let Ok(ClusterView { history: History::Known(entries), .. }) = &mut observation.cluster else {
        unreachable!("a timeline was left")
    };
    entries.push(HistoryEntry { left: TIMELINE, ..entries[0].clone() });
    assert_eq!(decided(&observation).documents, [DocumentStep::UpdateHistory]);
}

#[test]
fn a_leader_that_confirms_a_hand_over_notes_its_branch_while_it_asks() {
    let mut observation = answers_from(stopped_to_hand_over(), &[("b", 990, Some(950)), ("c", 990, Some(950))]);
    observation.local.branch = branch(950);
    observation.peers.values_mut().for_each(|report| report.asked_at = second(999));
    let asks = decided(&observation);
    assert!(asks.ask.is_some(), "{asks:?}");
    assert_eq!(asks.documents, [DocumentStep::UpdateHistory]);
}

#[test]
fn after_a_release_nobody_waits_for_a_candidate_on_a_timeline_on_which_the_leader_never_was() {
    let observation = released_by_b(second_timeline(None, standby_at(1_000, "b")));
    let mut observation = answers_from(observation, &[("b", 1_000, Some(BEGAN)), ("c", 2_000, Some(BEGAN))]);
    request(observation.cluster.as_mut().expect("there is a view"), Some("b"), Some("c"));
    assert_eq!(decided(&observation).reason, Reason::CandidateGoesFirst { candidate: "c".into() });
    assert_eq!(decided(&on_a_third_timeline(observation, "c", Some(950))).reason, Reason::Acquiring);
}

#[test]
fn a_leader_notes_its_branch_whatever_request_it_looks_at() {
    let mut observation = renewed(second_timeline(OURS, primary()), 1);
    observation.local.branch = branch(950);
    let view = observation.cluster.as_mut().expect("there is a view");
    request(view, None, Some("a"));
    let seen = view.switchover.as_ref().expect("it was asked for").revision;
    let fulfilled = decided(&observation);
    assert_eq!(fulfilled.reason, Reason::RequestFulfilled);
    assert_eq!(fulfilled.documents, [DocumentStep::UpdateHistory, DocumentStep::ClearSwitchover { seen }]);
    request(observation.cluster.as_mut().expect("there is a view"), Some("a"), Some("b"));
    let asks = decided(&observation);
    assert_eq!((asks.reason, asks.documents), (Reason::CheckingCandidates, vec![DocumentStep::UpdateHistory]));
}
