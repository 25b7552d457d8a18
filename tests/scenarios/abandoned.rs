//! Timelines that the cluster has abandoned: how a member learns of it, and what it does then.

use tamada::core::decision::LeaseStep;
use tamada::core::local::{DataDir, Job, LastRole, Postgres, Running, Upstream};
use tamada::core::observation::{
    Abandoned, Amnesia, Event, FinishedJob, JobProduct, JobResult, LeaseOutcome, Memory, Observation, Outcome,
    PeerAnswer,
};
use tamada::core::reason::Reason;
use tamada::core::units::{Branch, GivenUp, Lsn, MemberName, Timeline};
use tamada::core::view::{History, HistoryEntry, Holder, MemberRole, ReplicationState};
use tamada::core::{learn, note};

use super::branches::{BEGAN, TIMELINE, answers_from, on_a_third_timeline, released_by_b, second_timeline};
use super::build::*;

/// This standby is on a third timeline; b leads, or led, on the second.
fn third_timeline(leader: Option<(&str, Holder)>) -> Observation {
    let mut observation = second_timeline(leader, standby_at(2_000, "c"));
    if let Postgres::Running(Running::Standby(facts)) = &mut observation.local.postgres {
        (facts.timeline, facts.replication) = (Some(Timeline(3)), None);
    }
    observation.local.branch = Some(Branch { timeline: Timeline(3), began: Lsn(950) });
    observation
}

const ABANDONED: Abandoned = Abandoned { timeline: Timeline(3), cluster: TIMELINE };

/// Seeds 2027775 and 4052763: the word is kept, since all agents may begin anew.
#[test]
fn a_word_that_stood_while_somebody_led_is_not_the_last_leaders() {
    let learned = |seen: &Observation| {
        let (lease, reason) = (LeaseOutcome::None, Reason::Released);
        learn(seen.memory.clone(), seen, &Outcome { now: now(), lease, started: None, asked: None, reason }).outlived
    };
    let word = |position: u64| GivenUp { by: "b".into(), position: Some(Lsn(position)) };
    let led = released_by_b(third_timeline(THEIRS));
    assert_eq!(learned(&led), Some(word(1_000)));
    let mut free = released_by_b(third_timeline(None));
    assert_eq!(learned(&free), None);
    free.memory.outlived = Some(word(1_000));
    assert_eq!(learned(&free), Some(word(1_000)));

    let mut alone = answers_from(free, &[("b", 1_000, Some(BEGAN)), ("c", 1_000, None)]);
    assert_eq!(decided(&alone).reason, Reason::Acquiring);
    alone.memory.outlived = Some(word(999));
    assert_eq!(
        decided(&alone).reason,
        Reason::OtherBranch { timeline: TIMELINE },
        "b has led since and given it up anew"
    );
}

#[test]
fn a_leader_on_an_older_timeline_shows_that_ours_is_abandoned() {
    let led = |role: MemberRole, timeline: u32| {
        let mut observation = third_timeline(THEIRS);
        let members = &mut observation.cluster.as_mut().expect("there is a view").members;
        let leader = members.get_mut(&MemberName::from("b")).expect("a member");
        (leader.role, leader.timeline) = (role, Some(Timeline(timeline)));
        observation
    };
    let learned = |seen: &Observation| {
        let (lease, reason) = (LeaseOutcome::None, Reason::Released);
        learn(seen.memory.clone(), seen, &Outcome { now: now(), lease, started: None, asked: None, reason }).abandoned
    };
    assert_eq!(learned(&led(MemberRole::Primary, 2)), Some(ABANDONED));
    assert_eq!(learned(&led(MemberRole::Primary, 3)), None);
    assert_eq!(learned(&led(MemberRole::Replica, 2)), None, "it is not promoted yet");
    let mut restored = led(MemberRole::Primary, 2);
    restored.cluster.as_mut().expect("there is a view").leader_has_spoken = false;
    assert_eq!(learned(&restored), None, "its record is of before");
    // Seed 4014471: the leader does not tell its timeline any more when our server has started.
    let mut starts = led(MemberRole::Primary, 2);
    starts.local.postgres = Postgres::Starting { since: now(), role: LastRole::Standby };
    assert_eq!(learned(&starts), Some(ABANDONED));
    // Seed 14129037: nor when our data can be read again.
    let mut unusable = led(MemberRole::Primary, 2);
    (unusable.local.postgres, unusable.local.data) = (Postgres::Stopped, DataDir::Unusable("not readable".into()));
    assert_eq!(learned(&unusable), Some(ABANDONED));
    // It stays so until our data are others.
    let mut later = led(MemberRole::Replica, 2);
    later.memory.abandoned = Some(ABANDONED);
    assert_eq!(learned(&later), Some(ABANDONED));
    later.memory.amnesia = Some(Amnesia { until: second(1_005), lock: None });
    assert_eq!(learned(&later), Some(ABANDONED));
    let rewound =
        FinishedJob { job: Job::Rewind { from: "b".into() }, at: now(), result: JobResult::Done(JobProduct::Nothing) };
    assert_eq!(note(later.memory.clone(), &Event::JobEnded(rewound)).abandoned, None);
    // One that streams from it is on its timeline, whatever its record says.
    let to = |of: &str, replication: Option<ReplicationState>| {
        let mut standby = led(MemberRole::Primary, 2);
        let Postgres::Running(Running::Standby(facts)) = &mut standby.local.postgres else { unreachable!("a standby") };
        facts.upstream = Upstream::Member { name: of.into(), address: address(of) };
        facts.replication = replication;
        standby.memory.abandoned = Some(ABANDONED);
        learned(&standby)
    };
    assert_eq!(to("b", None), Some(ABANDONED));
    assert_eq!(to("c", Some(ReplicationState::Streaming)), Some(ABANDONED));
    assert_eq!(to("b", Some(ReplicationState::Streaming)), None);
    let mut leads = third_timeline(OURS);
    leads.memory.abandoned = Some(ABANDONED);
    assert_eq!(learned(&leads), None);
}

/// Seed 14129037: a failover by hand, and the leader that it made was stopped before it could be seen as a primary.
#[test]
fn a_timeline_that_history_named_and_names_no_more_is_abandoned() {
    let learn_of = |memory: Memory, history: &[(u32, u64)]| {
        let mut observation = third_timeline(None);
        let entry = |&(left, at): &(u32, u64)| HistoryEntry {
            left: Timeline(left),
            at: Lsn(at),
            reason: String::new(),
            time: None,
            new_leader: None,
        };
        observation.cluster.as_mut().expect("there is a view").history =
            History::Known(history.iter().map(entry).collect());
        observation.memory = memory;
        let (lease, reason) = (LeaseOutcome::None, Reason::Released);
        let outcome = Outcome { now: now(), lease, started: None, asked: None, reason };
        learn(observation.memory.clone(), &observation, &outcome)
    };
    let own = third_timeline(None).local.branch.expect("it is known").began.0;
    let noted = learn_of(Memory::default(), &[(1, BEGAN), (2, own)]);
    assert_eq!(noted.abandoned, None);
    assert_eq!(learn_of(noted.clone(), &[(1, BEGAN)]).abandoned, Some(ABANDONED));
    assert_eq!(learn_of(Memory::default(), &[(1, BEGAN)]).abandoned, None, "it may not be noted yet");
    let forgot = note(noted, &Event::StoreForgot { at: now(), ttl: policy().timing.ttl, lock: None });
    assert_eq!(learn_of(forgot, &[(1, BEGAN)]).abandoned, None, "the store may have lost it");
}

#[test]
fn one_on_an_abandoned_timeline_leaves_the_lock_to_others_for_two_ttl() {
    let mut observation = answers_from(third_timeline(None), &[("b", 1_000, Some(BEGAN)), ("c", 1_000, Some(BEGAN))]);
    assert_eq!(decided(&observation).reason, Reason::Acquiring);
    observation.memory.abandoned = Some(ABANDONED);
    let waits = decided(&observation);
    assert_eq!((waits.lease, waits.reason), (LeaseStep::Keep, Reason::OtherBranch { timeline: TIMELINE }));
    // A store that was wiped has no history.
    let mut wiped = observation.clone();
    wiped.cluster.as_mut().expect("there is a view").history = History::Unknown;
    assert_eq!(decided(&wiped).reason, Reason::OtherBranch { timeline: TIMELINE });
    // The others may have waited for each other for ttl.
    let mut later = observation.clone();
    later.memory.unlocked_since = Some(second(941));
    assert_eq!(decided(&later).reason, Reason::OtherBranch { timeline: TIMELINE });
    later.memory.unlocked_since = Some(second(940));
    assert_eq!(decided(&later).reason, Reason::Acquiring);
    observation.memory.abandoned = Some(Abandoned { timeline: Timeline(4), ..ABANDONED });
    assert_eq!(decided(&observation).reason, Reason::Acquiring, "that of another timeline says nothing");
}

#[test]
fn nobody_waits_for_one_on_an_abandoned_timeline() {
    let observation = second_timeline(None, standby_at(1_000, "c"));
    let observation = answers_from(observation, &[("b", 1_000, Some(BEGAN)), ("c", 2_000, Some(BEGAN))]);
    let mut observation = on_a_third_timeline(observation, "c", None);
    let ahead = Reason::PeerAhead { peer: "c".into() };
    assert_eq!(decided(&observation).reason, ahead);
    let report = observation.peers.get_mut(&MemberName::from("c")).expect("it has answered");
    let PeerAnswer::Status(status) = &mut report.answer else { unreachable!("it has answered") };
    status.is_abandoned = true;
    assert_eq!(decided(&observation).reason, Reason::Acquiring);
    let mut later = observation;
    later.memory.unlocked_since = Some(second(940));
    assert_eq!(decided(&later).reason, ahead);
}
