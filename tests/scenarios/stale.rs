//! Members on an older timeline, requests whose leader never handed over, and other votes that must not count.

use std::time::Duration;

use tamada::core::decide;
use tamada::core::decision::{DocumentStep, LeaseStep, PostgresStep};
use tamada::core::local::{ClusterState, Control, Data, DataDir, Postgres, RecoverySignal, Running};
use tamada::core::observation::{Handover, HandoverPurpose, HandoverStage, Observation, PeerAnswer};
use tamada::core::policy::{Pause, Policy};
use tamada::core::reason::Reason;
use tamada::core::units::{Lsn, Revision, Timeline, WallTime};
use tamada::core::view::{ClusterView, Holder, MemberKind, Schedule};

use super::build::*;

/// The cluster is on its second timeline, and so is everything of ours; the others answer from the first one.
fn on_second_timeline(mut seen: Observation) -> Observation {
    left_timeline(view_of(&mut seen), 1);
    match &mut seen.local.postgres {
        Postgres::Running(Running::Primary(facts)) => facts.timeline = Timeline(2),
        Postgres::Running(Running::Standby(facts)) => facts.timeline = Some(Timeline(2)),
        _ => {
            let control = Control {
                state: ClusterState::ShutDown,
                timeline: Timeline(2),
                checkpoint: Lsn(1_000),
                recovery_end: None,
                wal_end: None,
            };
            seen.local.data =
                DataDir::Present(Data { system_id: ID, signal: RecoverySignal::None, control: Some(control) });
        }
    }
    seen
}

fn view_of(seen: &mut Observation) -> &mut ClusterView {
    match &mut seen.cluster {
        Ok(view) => view,
        Err(_) => unreachable!("there is a view"),
    }
}

fn moved_to_second_timeline(mut seen: Observation, name: &str) -> Observation {
    let report = seen.peers.get_mut(&name.into()).expect("it has answered");
    let PeerAnswer::Status(status) = &mut report.answer else { unreachable!("with its status") };
    status.timeline = Some(Timeline(2));
    seen
}

#[test]
fn nobody_hands_over_to_a_member_on_an_older_timeline() {
    let mut cluster = view(OURS);
    request(&mut cluster, Some("a"), Some("b"));
    let asked = on_second_timeline(renewed(seen(cluster, primary()), 1));
    let stale = answers(asked, &[("b", 2_000)]);
    assert_eq!(decided(&stale).reason, Reason::NoHealthyCandidate);
    let fits = moved_to_second_timeline(stale, "b");
    assert_eq!(decided(&fits).reason, Reason::HandingOver);
}

#[test]
fn a_position_on_an_older_timeline_confirms_no_hand_over() {
    let mut stopped = on_second_timeline(renewed(seen(view(OURS), Postgres::Stopped), 1));
    stopped.memory.handover = Some(Handover {
        purpose: HandoverPurpose::Switchover,
        candidate: None,
        since: second(999),
        stage: HandoverStage::Confirming { position: Lsn(1_000), since: second(999) },
        best: None,
    });
    let stale = answers(stopped, &[("b", 2_000), ("c", 900)]);
    assert_eq!(decided(&stale).lease, LeaseStep::Keep);
    let fits = moved_to_second_timeline(stale, "b");
    assert_eq!(decided(&fits).lease, LeaseStep::Release { last_position: Some(Lsn(1_000)) });
}

#[test]
fn a_crashed_leader_gives_way_to_nobody_on_an_older_timeline() {
    let policy = Policy { primary_start_timeout: Duration::ZERO, ..policy() };
    let mut crashed = on_second_timeline(renewed(seen(view(OURS), Postgres::Stopped), 1));
    let DataDir::Present(Data { control: Some(control), .. }) = &mut crashed.local.data else {
        unreachable!("made so")
    };
    control.state = ClusterState::InProduction;
    let stale = answers(crashed, &[("b", 2_000), ("c", 2_000)]);
    assert!(matches!(decide(&policy, &stale).postgres, PostgresStep::Start(_)));
    let fits = moved_to_second_timeline(stale, "c");
    assert!(matches!(decide(&policy, &fits).lease, LeaseStep::Release { .. }));
}

#[test]
fn a_candidate_on_an_older_timeline_does_not_take_the_lock() {
    let mut cluster = view(None);
    left_timeline(&mut cluster, 1);
    request(&mut cluster, Some("b"), Some("a"));
    cluster.status.released_by = Some("b".into());
    let stale = answers(seen(cluster, standby_at(2_000, "b")), &[]);
    assert!(matches!(decided(&stale).reason, Reason::TimelineBehind { .. }));
}

#[test]
fn a_candidate_whose_leader_died_before_it_handed_over_compares_itself_with_the_others() {
    let mut cluster = view(None);
    request(&mut cluster, Some("b"), Some("a"));
    let died = answers(seen(cluster.clone(), standby_at(500, "b")), &[("b", 0), ("c", 600)]);
    let died = unreachable(died, "b");
    assert_eq!(decided(&died).reason, Reason::PeerAhead { peer: "c".into() });
    // The one that is ahead does not wait for the candidate that is behind it.
    request(&mut cluster, Some("b"), Some("c"));
    let ahead = unreachable(answers(seen(cluster.clone(), standby_at(600, "b")), &[("c", 500)]), "b");
    assert_eq!(decided(&ahead).lease, LeaseStep::Acquire { seen: FREE });
    // After the hand-over the candidate goes first and asks nobody. Patroni's leaders do not say that they handed over.
    request(&mut cluster, Some("b"), Some("a"));
    let mut released = cluster.clone();
    released.status.released_by = Some("b".into());
    assert_eq!(decided(&answers(seen(released, standby_at(500, "b")), &[])).lease, LeaseStep::Acquire { seen: FREE });
    cluster.members.get_mut(&"b".into()).expect("a member").kind = MemberKind::Patroni;
    assert_eq!(decided(&answers(seen(cluster, standby_at(500, "b")), &[])).lease, LeaseStep::Acquire { seen: FREE });
}

#[test]
fn a_scheduled_switchover_that_was_handed_over_goes_to_its_candidate() {
    let mut cluster = view(None);
    request(&mut cluster, Some("b"), Some("c"));
    cluster.status.released_by = Some("b".into());
    let mut observation = answers(seen(cluster, standby_at(500, "b")), &[("c", 500)]);
    let due = WallTime(observation.wall.0 + 50);
    view_of(&mut observation).switchover.as_mut().expect("there is a request").scheduled_at = Schedule::At(due);
    assert_eq!(decided(&observation).reason, Reason::CandidateGoesFirst { candidate: "c".into() });
    view_of(&mut observation).switchover.as_mut().expect("there is a request").candidate = Some("a".into());
    assert_eq!(decided(&observation).lease, LeaseStep::Acquire { seen: FREE });
}

#[test]
fn while_paused_a_schedule_waits_and_a_request_without_a_candidate_is_removed() {
    let paused = Policy { pause: Pause::Paused, ..policy() };
    let mut cluster = view(OURS);
    request(&mut cluster, Some("a"), Some("b"));
    let mut scheduled = answers(renewed(seen(cluster.clone(), primary()), 1), &[("b", 1_000)]);
    let due = WallTime(scheduled.wall.0 - 100);
    view_of(&mut scheduled).switchover.as_mut().expect("there is a request").scheduled_at = Schedule::At(due);
    let decision = decide(&paused, &scheduled);
    assert_eq!((decision.postgres, decision.documents), (PostgresStep::Leave, vec![]));
    request(&mut cluster, Some("a"), None);
    let decision = decide(&paused, &answers(renewed(seen(cluster, primary()), 1), &[("b", 1_000)]));
    assert_eq!(decision.postgres, PostgresStep::Leave);
    assert_eq!(decision.documents, [DocumentStep::ClearSwitchover { seen: Revision(7) }]);
}

#[test]
fn a_standby_that_is_ahead_but_has_no_lease_is_waited_for_no_longer_than_ttl() {
    let mut cut_off = answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 600)]);
    let cluster = view_of(&mut cut_off);
    let members = cluster.members.clone();
    cluster.members.remove(&"c".into());
    cut_off.memory.last_members = members;
    assert_eq!(decided(&cut_off).reason, Reason::PeerAhead { peer: "c".into() });
    cut_off.memory.unlocked_since = Some(second(960));
    assert_eq!(decided(&cut_off).lease, LeaseStep::Acquire { seen: FREE });
    // Unless more than the cluster may lose is only there.
    let far = answers(cut_off.clone(), &[("c", 600 + (2 << 20))]);
    let far = Observation { memory: cut_off.memory, ..far };
    assert_eq!(decided(&far).reason, Reason::PeerAhead { peer: "c".into() });
}

#[test]
fn a_primary_that_comes_up_too_slowly_gives_way_as_soon_as_somebody_can_take_over() {
    use tamada::core::local::LastRole;
    let since = |since| Postgres::Starting { since: second(since), role: LastRole::Primary };
    let slow = |began| answers(renewed(seen(view(OURS), since(began)), 1), &[("b", 1_000), ("c", 1_000)]);
    assert_eq!(decided(&slow(900)).postgres, PostgresStep::Leave);
    assert_eq!(decided(&slow(600)).reason, Reason::StartTimeout);
    let alone = unreachable(unreachable(slow(600), "b"), "c");
    assert_eq!(decided(&alone).postgres, PostgresStep::Leave);
}

#[test]
fn an_outage_in_a_hand_over_changes_nothing_while_the_lease_lasts() {
    let mut stopped = renewed(seen(view(OURS), Postgres::Stopped), 1);
    stopped.local.data = data(ClusterState::ShutDown, RecoverySignal::None);
    let stage = HandoverStage::Confirming { position: Lsn(1_000), since: second(999) };
    stopped.memory.handover =
        Some(Handover { purpose: HandoverPurpose::Switchover, candidate: None, since: second(999), stage, best: None });
    let during = outage(stopped.clone());
    assert_eq!(decided(&during).postgres, PostgresStep::Leave);
    let mut ending = during.clone();
    ending.requests.shutdown = Some(tamada::core::observation::ShutdownRequest::Graceful);
    assert_eq!(decided(&ending).exit, None, "the lock could still be given up");
    ending.memory.lease_valid_until = Some(second(999));
    assert!(decided(&ending).exit.is_some());
}

#[test]
fn a_checkpoint_before_a_stop_ends_with_the_lock() {
    use tamada::core::local::{Job, RunningJob, StopMode, StopWhy};
    let job = Job::Stop { mode: StopMode::CheckpointThenFast, why: StopWhy::Handover };
    let stopping = |leader, ago| {
        let mut observation = renewed(seen(view(leader), primary()), ago);
        observation.local.job = Some(RunningJob { job: job.clone(), since: second(980) });
        observation
    };
    assert_eq!(decided(&stopping(OURS, 1)).postgres, PostgresStep::Leave);
    let lost = decided(&stopping(Some(("b", Holder::Other)), 1)).postgres;
    assert!(matches!(lost, PostgresStep::Stop { mode: StopMode::Immediate, .. }), "{lost:?}");
    for late in [stopping(OURS, 28), outage(stopping(OURS, 28))] {
        let stop = decided(&late).postgres;
        assert!(matches!(stop, PostgresStep::Stop { mode: StopMode::Fast | StopMode::Immediate, .. }), "{stop:?}");
    }
}

#[test]
fn failures_to_follow_hold_no_election_back() {
    use tamada::core::local::{Job, StartAs, Upstream};
    use tamada::core::observation::{Backoff, FinishedJob, JobResult};
    let race = |job: Job| {
        let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 400)]);
        observation.memory.backoff = Some(Backoff { failures: 6, until: second(1_020) });
        let result = JobResult::Failed("no room".to_owned());
        observation.memory.finished = Some(FinishedJob { job, at: second(990), result });
        decided(&observation)
    };
    assert_eq!(race(Job::Follow(Upstream::None)).lease, LeaseStep::Acquire { seen: FREE });
    assert!(matches!(race(Job::Start(StartAs::Primary)).reason, Reason::BackingOff { .. }));
    // It may still come about, whoever holds the lock by then.
    assert_eq!(race(Job::Promote).reason, Reason::PromotionFailed);
}

#[test]
fn a_member_that_lags_too_far_to_take_the_lock_is_waited_for_no_longer_than_a_ttl() {
    // Its timeline is newer, but neither it nor anybody on it has published anything.
    let races = |free_for: u64, lags: bool| {
        let mut cluster = view(None);
        cluster.status.optime = Some(Lsn(3_000_000));
        let mut observation = answers(seen(cluster, standby_at(3_000_000, "b")), &[("b", 2_900_000), ("c", 0)]);
        let position = if lags { 1_000 } else { 2_900_000 };
        observation = answers(observation, &[("c", position)]);
        observation = moved_to_second_timeline(observation, "c");
        observation.memory.unlocked_since = Some(second(1_000 - free_for));
        decided(&observation)
    };
    assert_eq!(races(29, true).reason, Reason::PeerAhead { peer: "c".into() });
    assert_eq!(races(30, true).lease, LeaseStep::Acquire { seen: FREE });
    assert_eq!(races(30, false).reason, Reason::PeerAhead { peer: "c".into() }, "it may take the lock");
}
