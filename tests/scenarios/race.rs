//! Who is asked before the lock is taken, whose answer counts, and who is waited for.

use tamada::core::decision::{Decision, LeaseStep, Question, Wake};
use tamada::core::learn;
use tamada::core::lock_seen::{LockSeen, StatusSeen};
use tamada::core::observation::{
    LeaderRecord, LeaseOutcome, Observation, Outcome, PeerAnswer, PeerStatus, PeerWatchdog,
};
use tamada::core::reason::Reason;
use tamada::core::units::{Instant, Lsn, MemberName, Revision, Timeline, WallTime};
use tamada::core::view::{ClusterView, Member, MemberKind, MemberRole, MemberState, Schedule};

use super::build::*;

fn acquires(decision: &Decision) -> bool {
    decision.lease == LeaseStep::Acquire { seen: FREE }
}

fn asked(decision: &Decision) -> Vec<&str> {
    let Some(Question::Peers(peers)) = &decision.ask else { return Vec::new() };
    peers.keys().map(MemberName::as_str).collect()
}

fn view_of(observation: &mut Observation) -> &mut ClusterView {
    observation.cluster.as_mut().expect("there is a view")
}

fn answer_of<'a>(observation: &'a mut Observation, name: &str) -> &'a mut PeerStatus {
    let report = observation.peers.get_mut(&name.into()).expect("it answered");
    let PeerAnswer::Status(status) = &mut report.answer else { unreachable!("it has a status") };
    status
}

/// Seed 4010681: between reading and taking, another led and gave the lock up again.
#[test]
fn the_lock_is_taken_only_as_long_as_the_status_is_as_it_was_seen() {
    let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 400)]);
    observation.cluster.as_mut().expect("there is a view").status_revision = Some(Revision(7));
    let seen = LockSeen { lock: None, status: StatusSeen::At(Revision(7)) };
    assert_eq!(decided(&observation).lease, LeaseStep::Acquire { seen });
}

#[test]
fn an_answer_that_would_be_too_old_with_the_missing_ones_is_asked_for_again_with_them() {
    let after = |millis: u64| {
        let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 400)]);
        observation.memory.unlocked_since = Some(second(990));
        observation.peers.get_mut(&"b".into()).expect("it answered").asked_at =
            Instant::from_millis(1_000_000 - millis);
        decided(&observation)
    };
    assert_eq!(asked(&after(1_600)), ["b", "c"]);
    assert_eq!(asked(&after(1_500)), ["c"]);
    assert_eq!(after(1_500).wake, Wake::At(Instant::from_millis(1_002_100)), "by then they could have answered");
}

#[test]
fn a_peer_that_says_that_it_may_not_become_leader_blocks_nobody() {
    let ahead = answers(seen(view(None), standby_at(500, "b")), &[("b", 600), ("c", 400)]);
    assert!(!acquires(&decided(&ahead)));
    let mut tagged = ahead.clone();
    answer_of(&mut tagged, "b").tags.failover_priority = 0;
    assert!(acquires(&decided(&tagged)));
    let mut unguarded = ahead;
    answer_of(&mut unguarded, "b").watchdog = PeerWatchdog::Failed;
    assert!(acquires(&decided(&unguarded)));
}

/// No leader key since a second ago, the last leader's record is still there.
fn without_key(last: &str, record: Member) -> Observation {
    let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 400)]);
    observation.memory.last_leader = Some(last.into());
    view_of(&mut observation).members.insert(last.into(), record);
    observation
}

#[test]
fn only_a_last_leader_that_may_still_serve_is_waited_for() {
    let serving = member("b", MemberRole::Primary);
    let waits =
        |record: Member| decided(&without_key("b", record)).reason == Reason::LeaderLeaseAlive { leader: "b".into() };
    // Seed 12131310: what it wrote before it took the lock arrives late.
    for role in [MemberRole::Primary, MemberRole::Promoted, MemberRole::Replica, MemberRole::Demoted] {
        for state in [MemberState::Running, MemberState::Starting, MemberState::Stopping, MemberState::Crashed] {
            assert!(waits(Member { role, state, ..serving.clone() }), "{role:?} {state:?}");
        }
    }
    assert!(!waits(Member { kind: MemberKind::Patroni, ..serving.clone() }), "its record is no sign of a lease");
    let mut later = without_key("b", serving);
    later.memory.unlocked_since = Some(second(970));
    assert!(acquires(&decided(&later)), "every lease of then has ended");
}

/// In Kubernetes its record stays.
#[test]
fn a_last_leader_that_let_the_lock_run_out_is_not_waited_for_but_asked() {
    let mut led = without_key("b", member("b", MemberRole::Primary));
    view_of(&mut led).lock_ran_out = true;
    let outcome =
        Outcome { now: now(), lease: LeaseOutcome::None, started: None, asked: None, reason: Reason::NotStarted };
    led.memory = learn(led.memory.clone(), &led, &outcome);
    assert!(acquires(&decided(&led)));
    answer_of(&mut led, "b").position = Lsn(600);
    assert_eq!(decided(&led).reason, Reason::PeerAhead { peer: "b".into() });
}

#[test]
fn a_last_leader_that_gave_the_lock_up_itself_is_not_waited_for() {
    let mut released = without_key("b", member("b", MemberRole::Primary));
    view_of(&mut released).status.released_by = Some("b".into());
    assert!(acquires(&decided(&released)));
    let mut gave_way = without_key("b", member("b", MemberRole::Primary));
    view_of(&mut gave_way).status.gave_way = Some("b".into());
    assert!(acquires(&decided(&gave_way)));
    assert!(acquires(&decided(&without_key("a", member("a", MemberRole::Primary)))), "it was this member");
}

#[test]
fn a_member_whose_record_has_expired_is_given_up_after_ttl_unless_it_has_more_than_may_be_lost() {
    let races = |position: u64, timeline: u32| {
        let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", position), ("c", 400)]);
        let members = view_of(&mut observation).members.clone();
        observation.memory.last_members = members;
        view_of(&mut observation).members.remove(&"b".into());
        observation.memory.unlocked_since = Some(second(970));
        answer_of(&mut observation, "b").timeline = Some(Timeline(timeline));
        decided(&observation)
    };
    assert!(acquires(&races(600, 1)));
    assert_eq!(races(501 + (1 << 20), 1).reason, Reason::PeerAhead { peer: "b".into() });
    assert_eq!(races(400, 2).reason, Reason::PeerAhead { peer: "b".into() }, "a newer timeline is given up by nobody");
}

#[test]
fn a_leader_that_handed_over_is_asked_only_by_one_that_lacks_its_last_position() {
    let asks = |own: u64, freed: u64| {
        let mut cluster = view(None);
        cluster.status.released_by = Some("b".into());
        cluster.status.optime = Some(Lsn(500));
        let mut observation = answers(seen(cluster, standby_at(own, "b")), &[]);
        observation.memory.unlocked_since = Some(second(freed));
        decided(&observation)
    };
    assert_eq!(asked(&asks(500, 999)), ["c"]);
    assert_eq!(asked(&asks(501, 999)), ["c"]);
    assert_eq!(asked(&asks(499, 960)), ["b", "c"]);
}

/// Seeds 13293750 and 13206535: what handed over may have followed a leader of since that published nothing.
#[test]
fn a_leader_that_handed_over_or_gave_way_is_asked_once_somebody_has_led_since() {
    for gave_way in [false, true] {
        let mut cluster = view(None);
        request(&mut cluster, Some("b"), None);
        let word = if gave_way { &mut cluster.status.gave_way } else { &mut cluster.status.released_by };
        *word = Some("b".into());
        cluster.status.optime = Some(Lsn(500));
        let given_up = cluster.status.given_up();
        let mut observation = answers(seen(cluster, standby_at(500, "c")), &[]);
        observation.memory.unlocked_since = Some(second(999));
        observation.memory.last_leader = Some("b".into());
        assert_eq!(asked(&decided(&observation)), ["c"]);
        (observation.memory.last_leader, observation.memory.outlived) = (Some("c".into()), given_up);
        observation.memory.leader_record = LeaderRecord::Gone;
        assert_eq!(asked(&decided(&observation)), ["b", "c"]);
    }
}

/// b handed over to whoever this request names; the last position that was published is 500.
fn handed_over(candidate: Option<&str>, says_so: bool, own: u64, free_for: u64) -> Decision {
    let mut cluster = view(None);
    request(&mut cluster, Some("b"), candidate);
    cluster.status.optime = Some(Lsn(500));
    cluster.status.released_by = says_so.then(|| "b".into());
    cluster.members.get_mut(&"b".into()).expect("a member").kind = MemberKind::Patroni;
    let mut observation = answers(seen(cluster, standby_at(own, "b")), &[]);
    observation.memory.unlocked_since = Some(second(1_000 - free_for));
    decided(&observation)
}

#[test]
fn a_leader_of_patroni_that_handed_over_is_not_asked_whatever_it_published() {
    assert_eq!(asked(&handed_over(None, false, 499, 1)), ["c"]);
    assert_eq!(asked(&handed_over(None, true, 499, 40)), ["b", "c"], "nobody may have what it wrote last");
}

#[test]
fn a_candidate_goes_first_after_a_ttl_too_unless_it_lacks_what_was_released() {
    assert!(acquires(&handed_over(Some("a"), true, 500, 40)));
    assert!(acquires(&handed_over(Some("a"), false, 499, 40)), "nobody says what Patroni's leader had");
    assert_eq!(asked(&handed_over(Some("a"), true, 499, 40)), ["b", "c"]);
}

#[test]
fn whoever_was_relieved_leaves_the_race_to_the_others_for_a_while() {
    let relieved = |leader: &str| {
        let mut cluster = view(None);
        request(&mut cluster, Some(leader), None);
        answers(seen(cluster, standby_at(500, "b")), &[("b", 400), ("c", 400)])
    };
    let decision = decided(&relieved("a"));
    assert_eq!((decision.reason, decision.wake), (Reason::LeftToOthers, Wake::At(second(1_002))));
    assert!(acquires(&decided(&relieved("b"))), "another was");
    let mut alone = relieved("a");
    view_of(&mut alone).members.retain(|name, _| name.as_str() == "a");
    assert!(acquires(&decided(&alone)), "nobody else is there");
    let mut later = relieved("a");
    later.memory.unlocked_since = Some(second(970));
    assert!(acquires(&decided(&later)), "nobody has taken it");
}

#[test]
fn a_scheduled_failover_is_in_force_from_its_time_on() {
    let taken = |offset: i64| {
        let mut cluster = view(None);
        request(&mut cluster, None, Some("a"));
        let mut observation = answers(seen(cluster, standby_at(500, "b")), &[]);
        let due = WallTime(observation.wall.0 + offset);
        view_of(&mut observation).switchover.as_mut().expect("requested").scheduled_at = Schedule::At(due);
        decided(&observation)
    };
    assert!(acquires(&taken(-1)) && acquires(&taken(0)));
    assert_eq!(taken(1).reason, Reason::AskingPeers, "until then it is an ordinary race");
}

#[test]
fn a_candidate_that_has_to_wait_looks_again_soon() {
    let mut cluster = view(None);
    request(&mut cluster, None, Some("a"));
    cluster.status.optime = Some(Lsn(600));
    cluster.status.released_by = Some("b".into());
    let decision = decided(&answers(seen(cluster, standby_at(500, "b")), &[]));
    assert_eq!(decision.wake, Wake::At(Instant::from_millis(1_000_300)), "{:?}", decision.reason);
}
