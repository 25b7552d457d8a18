//! Switchover, shutdown and what a request means for each member.

use tamada::core::decision::{DocumentStep, Exit, LeaseStep, PostgresStep, Question, Wake};
use tamada::core::local::{ClusterState, Postgres, RecoverySignal, StartAs, StopMode, StopWhy};
use tamada::core::observation::{Handover, HandoverPurpose, HandoverStage, LeaderRecord, Observation, ShutdownRequest};
use tamada::core::reason::Reason;
use tamada::core::units::{Instant, Lsn, MemberName, Revision, WallTime};
use tamada::core::view::{Holder, Schedule};

use super::build::*;

fn asked_to_switch(leader: Option<&str>, candidate: Option<&str>) -> Observation {
    let mut cluster = view(OURS);
    request(&mut cluster, leader, candidate);
    renewed(seen(cluster, primary()), 1)
}

fn confirming(purpose: HandoverPurpose, began: u64) -> Observation {
    let mut observation = renewed(seen(view(OURS), Postgres::Stopped), 1);
    observation.local.data = data(ClusterState::ShutDown, RecoverySignal::None);
    observation.memory.handover = Some(Handover {
        purpose,
        candidate: None,
        since: second(began),
        stage: HandoverStage::Confirming { position: Lsn(1_000), since: second(began) },
        best: None,
    });
    observation
}

#[test]
fn steps_down_when_a_candidate_can_take_over() {
    let observation = answers(asked_to_switch(Some("a"), Some("b")), &[("b", 1_000)]);
    let decision = decided(&observation);
    let handing_over = PostgresStep::Stop {
        mode: StopMode::CheckpointThenFast,
        why: StopWhy::Handover,
        limit: std::time::Duration::from_secs(3_600),
    };
    assert_eq!(decision.postgres, handing_over);
    assert_eq!(decision.lease, LeaseStep::Keep);
}

#[test]
fn keeps_the_lock_when_nobody_can_take_over() {
    let lagging = answers(asked_to_switch(Some("a"), Some("b")), &[("b", 1_000)]);
    let mut far_ahead = lagging.clone();
    far_ahead.local.postgres =
        Postgres::Running(tamada::core::local::Running::Primary(tamada::core::local::PrimaryFacts {
            timeline: tamada::core::units::Timeline(1),
            flushed: Lsn(1_000 + (2 << 20)),
        }));
    let gone = unreachable(asked_to_switch(Some("a"), Some("b")), "b");
    let unknown = asked_to_switch(Some("a"), Some("nobody"));
    for observation in [far_ahead, gone, unknown] {
        let decision = decided(&observation);
        assert_eq!(decision.reason, Reason::NoHealthyCandidate);
        assert_eq!(decision.documents, [DocumentStep::ClearSwitchover { seen: Revision(7) }]);
        assert_eq!(decision.postgres, PostgresStep::Leave);
    }
}

#[test]
fn a_request_is_answered_by_what_members_say_since_it_was_seen() {
    use tamada::core::decision::Question;
    use tamada::core::observation::{LeaseOutcome, Outcome};
    // The election, two seconds ago: b had not been heard of yet, and c was behind.
    let election = unreachable(answers(asked_to_switch(Some("a"), None), &[("c", 1)]), "b");
    let mut after_it = election.clone();
    after_it.peers.values_mut().for_each(|report| report.asked_at = second(998));
    after_it.local.postgres =
        Postgres::Running(tamada::core::local::Running::Primary(tamada::core::local::PrimaryFacts {
            timeline: tamada::core::units::Timeline(1),
            flushed: Lsn(2 << 20),
        }));
    let decision = decided(&after_it);
    assert_eq!(decision.reason, Reason::CheckingCandidates);
    assert_eq!(decision.documents, []);
    let Some(Question::Peers(asked)) = &decision.ask else { panic!("nobody is asked: {decision:?}") };
    assert_eq!(asked.keys().map(MemberName::as_str).collect::<Vec<_>>(), ["b", "c"]);

    let outcome = Outcome {
        now: now(),
        lease: LeaseOutcome::None,
        started: None,
        asked: decision.ask.clone(),
        reason: decision.reason.clone(),
    };
    let mut heard = after_it.clone();
    heard.memory = tamada::core::learn(after_it.memory.clone(), &after_it, &outcome);
    heard.now = second(1_001);
    assert_eq!(decided(&heard).reason, Reason::CheckingCandidates, "the old answers do not count later either");
    heard.peers = election.peers;
    assert_eq!(decided(&heard).reason, Reason::NoHealthyCandidate, "asked since, nobody can take over");
}

#[test]
fn a_request_for_another_leader_or_for_itself_is_removed() {
    for (leader, candidate) in [(Some("b"), Some("c")), (Some("a"), Some("a"))] {
        let decision = decided(&asked_to_switch(leader, candidate));
        assert_eq!(decision.reason, Reason::RequestMismatch);
        assert_eq!(decision.documents, [DocumentStep::ClearSwitchover { seen: Revision(7) }]);
    }
}

#[test]
fn a_schedule_is_awaited_carried_out_and_when_stale_removed() {
    let at = |offset: i64| {
        let mut observation = answers(asked_to_switch(Some("a"), Some("b")), &[("b", 1_000)]);
        let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
        let due = WallTime(observation.wall.0 + offset);
        cluster.switchover.as_mut().expect("there is a request").scheduled_at = Schedule::At(due);
        decided(&observation)
    };
    assert_eq!(at(2_500).wake, Wake::At(Instant::from_millis(1_002_500)));
    assert_eq!(at(2_500).postgres, PostgresStep::Leave);
    for due in [0, -100, -15_000] {
        assert!(matches!(at(due).postgres, PostgresStep::Stop { .. }), "{due}");
    }
    assert_eq!(at(-15_001).reason, Reason::RequestStale);
}

#[test]
fn gives_the_lock_up_only_when_a_member_has_the_last_wal() {
    let behind = answers(confirming(HandoverPurpose::Switchover, 999), &[("b", 999), ("c", 999)]);
    let confirming_still = Reason::ConfirmingHandover { position: Lsn(1_000) };
    let decision = decided(&behind);
    assert_eq!((decision.lease, decision.postgres), (LeaseStep::Keep, PostgresStep::Leave));
    assert_eq!((decision.reason, decision.ask), (confirming_still.clone(), None), "they have just been asked");
    assert_eq!(decision.wake, Wake::At(Instant::from_millis(1_000_030)));
    let mut earlier = behind;
    for report in earlier.peers.values_mut() {
        report.asked_at = Instant::from_millis(999_900);
    }
    let decision = decided(&earlier);
    assert_eq!(decision.reason, confirming_still);
    assert!(matches!(&decision.ask, Some(Question::Peers(asked)) if asked.len() == 2), "{:?}", decision.ask);
    assert_eq!(decision.wake, Wake::At(Instant::from_millis(1_000_300)), "one that does not answer holds nobody up");
    let caught_up = answers(confirming(HandoverPurpose::Switchover, 999), &[("b", 1_000), ("c", 999)]);
    assert_eq!(decided(&caught_up).lease, LeaseStep::Release { last_position: Some(Lsn(1_000)) });
}

#[test]
fn takes_the_leadership_back_when_nobody_has_the_last_wal() {
    let late = answers(confirming(HandoverPurpose::Switchover, 990), &[("b", 999), ("c", 999)]);
    let decision = decided(&late);
    assert_eq!(decision.postgres, PostgresStep::Start(StartAs::Primary));
    assert_eq!(decision.reason, Reason::HandoverAborted);
    let mut alone = confirming(HandoverPurpose::Switchover, 1_000);
    let Ok(cluster) = &mut alone.cluster else { unreachable!("there is a view") };
    cluster.members.retain(|name, _| name.as_str() == "a");
    assert_eq!(decided(&alone).reason, Reason::HandoverAborted, "nobody is left that could have it");
}

/// Seed 2008440: its successor was lost before it could clear the request.
#[test]
fn whoever_stepped_down_races_again_once_another_has_led() {
    let mut observation = answers(seen(view(None), standby_at(1_000, "c")), &[("b", 900), ("c", 900)]);
    if let Ok(cluster) = &mut observation.cluster {
        request(cluster, Some("a"), None);
    }
    for last in [None, Some("a".into())] {
        observation.memory.last_leader = last;
        assert_eq!(decided(&observation).reason, Reason::LeftToOthers);
    }
    observation.memory.last_leader = Some("c".into());
    observation.memory.leader_record = LeaderRecord::Gone;
    assert_eq!(decided(&observation).reason, Reason::Acquiring);
}

#[test]
fn a_leader_that_released_the_lock_waits_a_while_for_another_to_take_it() {
    let released = |at: u64, leader: Option<(&str, Holder)>| {
        let mut observation = confirming(HandoverPurpose::Switchover, at);
        observation.memory.lease_valid_until = None;
        observation.cluster = Ok(view(leader));
        observation.memory.handover.as_mut().expect("begun").stage = HandoverStage::Released { at: second(at) };
        decided(&observation)
    };
    let waits = released(999, None);
    assert_eq!((waits.reason, waits.wake), (Reason::LeftToOthers, Wake::At(second(1_002))));
    assert_eq!(released(1_000, None).reason, Reason::LeftToOthers);
    assert_ne!(released(997, None).reason, Reason::LeftToOthers, "nobody has come");
    assert_ne!(released(999, Some(("b", Holder::Other))).reason, Reason::LeftToOthers, "somebody has");
}

#[test]
fn a_shutdown_hands_over_releases_and_then_exits() {
    let mut running = renewed(seen(view(OURS), primary()), 1);
    running.requests.shutdown = Some(ShutdownRequest::Graceful);
    assert!(matches!(
        decided(&running).postgres,
        PostgresStep::Stop { mode: StopMode::CheckpointThenFast, why: StopWhy::Shutdown, .. }
    ));
    let mut stopped = answers(confirming(HandoverPurpose::Shutdown, 999), &[("b", 1_000)]);
    stopped.requests.shutdown = Some(ShutdownRequest::Graceful);
    assert_eq!(decided(&stopped).lease, LeaseStep::Release { last_position: Some(Lsn(1_000)) });
    let mut released = seen(view(None), Postgres::Stopped);
    released.requests.shutdown = Some(ShutdownRequest::Graceful);
    assert_eq!(decided(&released).exit, Some(Exit::Stopped));
}

#[test]
fn a_graceful_stop_is_begun_once() {
    use tamada::core::local::{Job, RunningJob};
    let mut stopping = renewed(seen(view(OURS), Postgres::Stopping), 1);
    stopping.requests.shutdown = Some(ShutdownRequest::Graceful);
    let job = Job::Stop { mode: StopMode::CheckpointThenFast, why: StopWhy::Shutdown };
    stopping.local.job = Some(RunningJob { job, since: second(999) });
    assert_eq!(decided(&stopping).postgres, PostgresStep::Leave);
    stopping.requests.shutdown = Some(ShutdownRequest::Fast);
    assert!(matches!(decided(&stopping).postgres, PostgresStep::Stop { mode: StopMode::Fast, .. }));
}

#[test]
fn a_stop_that_was_cut_short_says_that_something_may_be_missing_elsewhere() {
    let mut cut = renewed(seen(view(OURS), Postgres::Stopped), 1);
    cut.requests.shutdown = Some(ShutdownRequest::Graceful);
    cut.local.data = data(ClusterState::ShuttingDown, RecoverySignal::None);
    let decision = decided(&cut);
    assert_eq!(decision.lease, LeaseStep::Release { last_position: None });
    assert_eq!(decision.reason, Reason::ReleasedUnclean { own: "a".into() });
}

fn ending(members: &[(&str, u64)], stopped_at: u64) -> tamada::core::observation::Observation {
    let mut stopped = answers(confirming(HandoverPurpose::Shutdown, stopped_at), members);
    stopped.requests.shutdown = Some(ShutdownRequest::Graceful);
    stopped
}

#[test]
fn a_shutdown_waits_for_the_last_wal_as_long_as_somebody_receives_it() {
    let mut receiving = ending(&[("b", 900), ("c", 800)], 980);
    let handover = receiving.memory.handover.as_mut().expect("begun");
    handover.best = Some((Lsn(900), second(998)));
    assert_eq!(decided(&receiving).lease, LeaseStep::Keep);
}

#[test]
fn a_shutdown_that_nobody_confirms_is_no_clean_release() {
    let mut stalled = ending(&[("b", 900), ("c", 800)], 980);
    stalled.memory.handover.as_mut().expect("begun").best = Some((Lsn(900), second(990)));
    let decision = decided(&stalled);
    assert_eq!(decision.lease, LeaseStep::ReleaseUnconfirmed { last_position: Lsn(1_000) });
    assert_eq!(decision.reason, Reason::ReleasedUnconfirmed { missing: 100, own: "a".into() });

    let mut late = ending(&[("b", 900), ("c", 800)], 999);
    late.memory.handover.as_mut().expect("begun").best = Some((Lsn(900), now()));
    assert_eq!(decided(&late).lease, LeaseStep::Keep);
    late.memory.handover.as_mut().expect("begun").since = second(940);
    assert_eq!(decided(&late).lease, LeaseStep::ReleaseUnconfirmed { last_position: Lsn(1_000) }, "its time is over");
}

#[test]
fn a_shutdown_waits_for_nobody_where_all_are_stopping() {
    let word = LeaseStep::Release { last_position: Some(Lsn(1_000)) };
    let gone = unreachable(unreachable(ending(&[], 1_000), "b"), "c");
    assert_eq!(decided(&gone).lease, word);
    let mut stopping = ending(&[("b", 900), ("c", 900)], 1_000);
    let Ok(cluster) = &mut stopping.cluster else { unreachable!("there is a view") };
    for name in ["b", "c"] {
        cluster.members.get_mut(&name.into()).expect("there").state = tamada::core::view::MemberState::Stopping;
    }
    assert_eq!(decided(&stopping).lease, word);
}

#[test]
fn a_stop_that_begins_in_an_outage_hands_over_all_the_same() {
    use tamada::core::local::{Job, StopMode};
    use tamada::core::observation::{LeaseOutcome, Outcome};
    let mut running = outage(renewed(seen(view(OURS), primary()), 1));
    running.requests.shutdown = Some(ShutdownRequest::Graceful);
    let decision = decided(&running);
    let job = Job::Stop { mode: StopMode::CheckpointThenFast, why: StopWhy::Shutdown };
    let lease = LeaseOutcome::None;
    let outcome = Outcome { now: now(), lease, started: Some(job), asked: None, reason: decision.reason };
    let memory = tamada::core::learn(running.memory.clone(), &running, &outcome);
    assert_eq!(memory.handover.map(|handover| handover.purpose), Some(HandoverPurpose::Shutdown));
}

#[test]
fn a_second_signal_does_not_wait_for_a_hand_over() {
    let mut observation = renewed(seen(view(OURS), primary()), 1);
    observation.requests.shutdown = Some(ShutdownRequest::Fast);
    assert!(matches!(decided(&observation).postgres, PostgresStep::Stop { mode: StopMode::Fast, .. }));
    observation.requests.shutdown = Some(ShutdownRequest::Immediate);
    assert!(matches!(decided(&observation).postgres, PostgresStep::Stop { mode: StopMode::Immediate, .. }));
}

#[test]
fn the_candidate_takes_the_lock_and_the_others_let_it() {
    let mut cluster = view(None);
    request(&mut cluster, Some("b"), Some("a"));
    cluster.status.released_by = Some("b".into());
    let observation = answers(seen(cluster.clone(), standby_at(500, "b")), &[]);
    assert_eq!(decided(&observation).lease, LeaseStep::Acquire { seen: FREE });
    request(&mut cluster, Some("b"), Some("c"));
    let observation = answers(seen(cluster, standby_at(900, "b")), &[("b", 1), ("c", 500)]);
    assert_eq!(decided(&observation).reason, Reason::CandidateGoesFirst { candidate: "c".into() });
}

#[test]
fn a_candidate_that_never_gets_the_last_wal_is_a_member_like_the_others() {
    let mut cluster = view(None);
    request(&mut cluster, Some("b"), Some("a"));
    (cluster.status.released_by, cluster.status.optime) = (Some("b".into()), Some(Lsn(4 << 20)));
    let mut behind = answers(seen(cluster, standby_at(500, "b")), &[("b", 4 << 20), ("c", 4 << 20)]);
    assert!(matches!(decided(&behind).reason, Reason::BehindReleased { .. }));
    behind.memory.unlocked_since = Some(second(960));
    assert_eq!(decided(&behind).lease, LeaseStep::Keep, "after ttl, with more behind than may be lost");
    let Ok(cluster) = &mut behind.cluster else { unreachable!("there is a view") };
    cluster.status.optime = Some(Lsn(1_000));
    assert_eq!(decided(&behind).reason, Reason::PeerAhead { peer: "b".into() });
}

#[test]
fn the_new_leader_removes_the_request_that_made_it_the_leader() {
    for (leader, candidate) in [(Some("b"), Some("a")), (Some("b"), None), (None, Some("a"))] {
        let decision = decided(&asked_to_switch(leader, candidate));
        assert_eq!(decision.reason, Reason::RequestFulfilled);
        assert_eq!(decision.documents, [DocumentStep::ClearSwitchover { seen: Revision(7) }]);
    }
}

#[test]
fn a_request_is_not_kept_waiting_for_a_leader_that_does_not_serve() {
    use tamada::core::local::LastRole;
    let starting = Postgres::Starting { since: now(), role: LastRole::Primary };
    for (leader, candidate) in [(Some("a"), Some("b")), (None, Some("b")), (Some("a"), None)] {
        let mut cluster = view(OURS);
        request(&mut cluster, leader, candidate);
        let asked = answers(renewed(seen(cluster.clone(), starting.clone()), 1), &[("b", 1_000), ("c", 1_000)]);
        assert_eq!(decided(&asked).reason, Reason::HandingOver, "{leader:?} {candidate:?}");
        assert!(matches!(decided(&asked).postgres, PostgresStep::Stop { mode: StopMode::Immediate, .. }));
        let mut down = answers(renewed(seen(cluster, Postgres::Stopped), 1), &[("b", 1_000), ("c", 1_000)]);
        down.local.data = data(ClusterState::InProduction, RecoverySignal::None);
        assert_eq!(decided(&down).lease, LeaseStep::Release { last_position: None }, "{leader:?} {candidate:?}");
        // After a clean stop nothing may be lost: that is the hand-over's to decide.
        down.local.data = data(ClusterState::ShutDown, RecoverySignal::None);
        assert_eq!(decided(&down).lease, LeaseStep::Keep);
    }
}

#[test]
fn a_leader_that_handed_over_in_a_pause_starts_behind_the_new_one() {
    use tamada::core::local::Job;
    use tamada::core::observation::{FinishedJob, JobProduct, JobResult};
    use tamada::core::policy::{Pause, Policy};
    let paused = Policy { pause: Pause::Paused, ..policy() };
    let mut stopped = seen(view(Some(("b", Holder::Other))), Postgres::Stopped);
    stopped.local.data = data(ClusterState::ShutDown, RecoverySignal::None);
    assert_eq!(tamada::core::decide(&paused, &stopped).postgres, PostgresStep::Leave, "stopped by a person");
    let job = Job::Stop { mode: StopMode::CheckpointThenFast, why: StopWhy::Handover };
    let result = JobResult::Done(JobProduct::StoppedAt(Lsn(1_000)));
    stopped.memory.finished = Some(FinishedJob { job, at: second(990), result });
    let decision = tamada::core::decide(&paused, &stopped);
    assert!(matches!(decision.postgres, PostgresStep::Start(StartAs::Standby(_))), "{decision:?}");
}
