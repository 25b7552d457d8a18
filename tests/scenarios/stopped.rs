//! PostgreSQL does not run: bootstrap, clone, restart in place, failover, repair.

use std::time::Duration;

use tamada::core::decide;
use tamada::core::decision::{DocumentStep, Exit, LeaseStep, PostgresStep, Question};
use tamada::core::local::{ClusterState, DataDir, Job, Postgres, RecoverySignal, Reinit, StartAs, Upstream, WalEnd};
use tamada::core::observation::{
    DcsOutage, Divergence, DivergenceReport, Event, FinishedJob, JobResult, LeaseOutcome, Memory, Observation, Outcome,
    Recovered, RestartRequest,
};
use tamada::core::policy::{Mode, Pause, Policy, RewindPolicy, Switch};
use tamada::core::reason::Reason;
use tamada::core::units::Lsn;
use tamada::core::view::{AfterPromote, Holder, Initialize};
use tamada::core::{learn, note};

use super::build::*;

fn failed(job: Job) -> Memory {
    let result = JobResult::Failed("it went wrong".to_owned());
    note(Memory::default(), &Event::JobEnded(FinishedJob { job, at: second(999), result }))
}

fn empty(leader: Option<(&str, Holder)>, initialize: Initialize) -> Observation {
    let mut observation = seen(view(leader), Postgres::Stopped);
    observation.local.data = DataDir::Empty;
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    cluster.initialize = initialize;
    observation
}

#[test]
fn a_crashed_leader_starts_in_place() {
    let crashed = renewed(stopped(OURS, ClusterState::InProduction, RecoverySignal::None), 3);
    assert_eq!(decided(&crashed).postgres, PostgresStep::Start(StartAs::Primary));
}

#[test]
fn a_crashed_primary_without_a_confirmed_lock_never_starts_as_one() {
    let unconfirmed = stopped(OURS, ClusterState::InProduction, RecoverySignal::None);
    assert_eq!(decided(&unconfirmed).lease, LeaseStep::Renew);
    assert_eq!(decided(&unconfirmed).postgres, PostgresStep::Leave);
    let unlocked = stopped(None, ClusterState::InProduction, RecoverySignal::None);
    assert_eq!(decided(&unlocked).postgres, PostgresStep::Start(StartAs::Standby(Upstream::None)));
}

#[test]
fn with_no_start_timeout_a_crashed_leader_gives_way_to_a_healthy_member() {
    let mut policy = policy();
    policy.primary_start_timeout = Duration::ZERO;
    let crashed = renewed(stopped(OURS, ClusterState::InProduction, RecoverySignal::None), 3);
    assert!(matches!(decide(&policy, &crashed).ask, Some(Question::Peers(_))));
    let healthy = unreachable(answers(crashed.clone(), &[("b", 1_000)]), "c");
    assert_eq!(decide(&policy, &healthy).lease, LeaseStep::Release { last_position: None });
    let alone = unreachable(unreachable(crashed, "b"), "c");
    assert_eq!(decide(&policy, &alone).postgres, PostgresStep::Start(StartAs::Primary));
}

/// The release may be carried out after the next reading, when PostgreSQL would be a primary again and others free to be.
#[test]
fn after_a_release_without_an_answer_the_lock_does_not_count_before_it_is_confirmed() {
    let mut policy = policy();
    policy.primary_start_timeout = Duration::ZERO;
    let crashed = renewed(stopped(OURS, ClusterState::InProduction, RecoverySignal::None), 3);
    let crashed = answers(crashed, &[("b", 1_000), ("c", 1_000)]);
    let decision = decide(&policy, &crashed);
    assert_eq!(decision.lease, LeaseStep::Release { last_position: None });
    let lease = LeaseOutcome::ReleaseUnknown;
    let outcome = Outcome { now: now(), lease, started: None, asked: None, reason: decision.reason };
    let memory = learn(crashed.memory.clone(), &crashed, &outcome);
    let alone = unreachable(unreachable(Observation { memory, ..crashed }, "b"), "c");
    let decision = decide(&policy, &alone);
    assert_eq!((decision.lease, decision.postgres), (LeaseStep::Renew, PostgresStep::Leave));
}

#[test]
fn a_leader_that_does_not_start_gives_the_lock_up() {
    let mut crashed = renewed(stopped(OURS, ClusterState::InProduction, RecoverySignal::None), 3);
    crashed.memory.primary_starts = 1;
    let healthy = unreachable(answers(crashed, &[("b", 1_000)]), "c");
    assert_eq!(decided(&healthy).lease, LeaseStep::Release { last_position: None });
}

/// A crashed leader that has published 5,000, and whose WAL ends with the page before this position.
fn published(end: u64) -> Observation {
    let mut crashed = renewed(stopped(OURS, ClusterState::InProduction, RecoverySignal::None), 3);
    let Ok(cluster) = &mut crashed.cluster else { unreachable!("there is a view") };
    cluster.status.optime = Some(Lsn(5_000));
    cluster.status.slots.insert("a".to_owned(), Lsn(5_000));
    if let DataDir::Present(data) = &mut crashed.local.data
        && let Some(control) = &mut data.control
    {
        control.wal_end = Some(WalEnd { page: Lsn(end), segment: Lsn(6_000) });
    }
    crashed
}

#[test]
fn a_leader_whose_data_are_older_than_what_it_published_gives_way() {
    assert_eq!(decided(&published(5_000)).postgres, PostgresStep::Start(StartAs::Primary));
    let older = published(4_999);
    assert!(matches!(decided(&older).ask, Some(Question::Peers(_))));
    let healthy = decided(&unreachable(answers(older.clone(), &[("b", 5_000)]), "c"));
    assert_eq!((healthy.lease, healthy.postgres), (LeaseStep::Release { last_position: None }, PostgresStep::Leave));
    assert_eq!(healthy.reason, Reason::WalBehindPublished { end: Lsn(4_999), published: Lsn(5_000) });
    let alone = decided(&unreachable(unreachable(older, "b"), "c"));
    assert_eq!(alone.postgres, PostgresStep::Start(StartAs::Primary));
    assert_eq!(alone.reason, Reason::StartingWithoutPublished { end: Lsn(4_999), published: Lsn(5_000) });
}

#[test]
fn a_leader_that_crashes_before_it_has_published_anything_starts_in_place() {
    let mut young = published(4_999);
    let Ok(cluster) = &mut young.cluster else { unreachable!("there is a view") };
    cluster.status.slots = [("b".to_owned(), Lsn(5_000)), ("a".to_owned(), Lsn(4_000))].into();
    assert_eq!(decided(&young).postgres, PostgresStep::Start(StartAs::Primary));
}

#[test]
fn a_leader_that_has_published_the_end_of_a_segment_starts_in_place() {
    let mut switched = published(5_500);
    let Ok(cluster) = &mut switched.cluster else { unreachable!("there is a view") };
    cluster.status.slots.insert("a".to_owned(), Lsn(6_000));
    assert_eq!(decided(&switched).postgres, PostgresStep::Start(StartAs::Primary));
}

#[test]
fn a_crashed_primary_recovers_and_compares_before_it_follows() {
    let mut crashed = stopped(THEIRS, ClusterState::InProduction, RecoverySignal::None);
    assert_eq!(decided(&crashed).postgres, PostgresStep::Recover);
    crashed.memory.recovered = Recovered::Yes;
    assert_eq!(decided(&crashed).ask, Some(Question::Divergence { leader: "b".into() }));
}

#[test]
fn a_diverged_primary_is_rewound_and_cloned_when_that_fails() {
    let mut observation = stopped(THEIRS, ClusterState::ShutDown, RecoverySignal::None);
    let report = DivergenceReport { leader: "b".into(), asked_at: now(), divergence: Divergence::Diverged };
    observation.divergence = Some(report);
    assert_eq!(decided(&observation).postgres, PostgresStep::Rewind { from: "b".into() });
    observation.memory.failed_rewinds = 2;
    assert!(matches!(decided(&observation).postgres, PostgresStep::Reinitialize { why: Reinit::Diverged, .. }));
}

#[test]
fn data_that_may_not_be_removed_after_failed_rewinds_are_kept() {
    let mut observation = stopped(THEIRS, ClusterState::ShutDown, RecoverySignal::None);
    let report = DivergenceReport { leader: "b".into(), asked_at: now(), divergence: Divergence::Diverged };
    observation.divergence = Some(report);
    observation.memory.failed_rewinds = 2;
    let keep = Policy { remove_data_after_failed_rewind: Switch::Off, ..policy() };
    let decision = decide(&keep, &observation);
    assert_eq!(decision.postgres, PostgresStep::Leave);
    assert_eq!(decision.reason, Reason::DivergedNoRemedy { leader: "b".into() });
    // The two settings say different things: this one is about members that may not use pg_rewind.
    let no_rewind = Policy { rewind: RewindPolicy::Forbidden, ..keep };
    assert!(matches!(decide(&no_rewind, &observation).postgres, PostgresStep::Reinitialize { .. }));
    let keep = Policy { remove_diverged_data: Switch::Off, rewind: RewindPolicy::Forbidden, ..policy() };
    assert_eq!(decide(&keep, &observation).postgres, PostgresStep::Leave);
}

#[test]
fn a_recovery_that_fails_is_tried_again_and_then_given_up_for_a_clone() {
    let mut crashed = stopped(THEIRS, ClusterState::InProduction, RecoverySignal::None);
    for failures in 1..=3 {
        let result = JobResult::Failed("no space left on device".to_owned());
        let ended = FinishedJob { job: Job::Recover, at: crashed.now, result };
        crashed.memory = note(crashed.memory, &Event::JobEnded(ended));
        assert!(matches!(decided(&crashed).reason, Reason::BackingOff { failures: told, .. } if told == failures));
        crashed.now = crashed.now + Duration::from_secs(60);
        assert!(failures == 3 || decided(&crashed).postgres == PostgresStep::Recover);
    }
    let decision = decided(&crashed);
    assert!(matches!(decision.postgres, PostgresStep::Reinitialize { why: Reinit::Unrecovered, .. }), "{decision:?}");
    let kept = Policy { remove_diverged_data: Switch::Off, ..policy() };
    assert_eq!(decide(&kept, &crashed).postgres, PostgresStep::Recover, "there may be space again one day");
}

#[test]
fn waits_for_the_leaders_checkpoint_before_a_rewind() {
    let mut observation = stopped(THEIRS, ClusterState::ShutDown, RecoverySignal::None);
    let report = DivergenceReport { leader: "b".into(), asked_at: now(), divergence: Divergence::Diverged };
    observation.divergence = Some(report);
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    cluster.members.get_mut(&"b".into()).expect("a member").checkpoint = AfterPromote::Pending;
    assert_eq!(decided(&observation).reason, Reason::WaitingForCheckpoint { leader: "b".into() });
}

#[test]
fn a_stopped_replica_follows_without_ado() {
    let observation = stopped(THEIRS, ClusterState::ShutDownInRecovery, RecoverySignal::Present);
    let upstream = Upstream::Member { name: "b".into(), address: address("b") };
    assert_eq!(decided(&observation).postgres, PostgresStep::Start(StartAs::Standby(upstream)));
}

#[test]
fn a_base_backup_starts_as_a_standby_and_is_never_recovered() {
    let restored = |leader| stopped(leader, ClusterState::InProduction, RecoverySignal::BackupLabel);
    let upstream = Upstream::Member { name: "b".into(), address: address("b") };
    assert_eq!(decided(&restored(THEIRS)).postgres, PostgresStep::Start(StartAs::Standby(upstream)));
    let of_nobody = PostgresStep::Start(StartAs::Standby(Upstream::None));
    assert_eq!(decided(&restored(None)).postgres, of_nobody);
    assert_eq!(decided(&renewed(restored(OURS), 3)).postgres, of_nobody);
    let mut diverged = restored(THEIRS);
    let report = DivergenceReport { leader: "b".into(), asked_at: now(), divergence: Divergence::Diverged };
    diverged.divergence = Some(report);
    let decision = decided(&diverged);
    assert!(matches!(decision.postgres, PostgresStep::Reinitialize { why: Reinit::Diverged, .. }), "{decision:?}");
}

#[test]
fn a_restart_is_not_made_where_pg_rewind_was_cut_short() {
    let mut half = stopped(THEIRS, ClusterState::ShutDown, RecoverySignal::RewindUnfinished);
    half.requests.restart = Some(RestartRequest { timeout: None });
    assert!(matches!(decided(&half).postgres, PostgresStep::Rewind { .. }), "{:?}", decided(&half));
    half.local.data = data(ClusterState::ShutDown, RecoverySignal::Present);
    assert_eq!(decided(&half).reason, Reason::Restarting);
}

#[test]
fn nothing_is_started_from_a_directory_that_pg_rewind_has_not_finished() {
    let half = |leader| stopped(leader, ClusterState::ShutDown, RecoverySignal::RewindUnfinished);
    assert_eq!(decided(&half(None)).postgres, PostgresStep::Leave);
    let held = decided(&renewed(half(OURS), 3));
    assert_eq!((held.postgres, held.lease), (PostgresStep::Leave, LeaseStep::Release { last_position: None }));
    let mut outage = half(None);
    outage.cluster = Err(DcsOutage { error: "no answer".to_owned() });
    assert_eq!(decided(&outage).postgres, PostgresStep::Leave);
    let mut led = half(THEIRS);
    assert_eq!(decided(&led).postgres, PostgresStep::Rewind { from: "b".into() });
    led.memory.failed_rewinds = 2;
    assert!(matches!(decided(&led).postgres, PostgresStep::Reinitialize { why: Reinit::Diverged, .. }));
    // pg_rewind's last work is the control file; from then on only a clone helps.
    let last = stopped(THEIRS, ClusterState::InArchiveRecovery, RecoverySignal::RewindUnfinished);
    assert!(matches!(decided(&last).postgres, PostgresStep::Reinitialize { why: Reinit::Diverged, .. }));
}

#[test]
fn a_start_is_called_what_it_is() {
    let reason = |leader, state, signal| decided(&renewed(stopped(leader, state, signal), 3)).reason;
    let (up, down) = (ClusterState::InProduction, ClusterState::ShutDown);
    assert_eq!(reason(OURS, up, RecoverySignal::None), Reason::StartingInPlace);
    assert_eq!(reason(OURS, down, RecoverySignal::None), Reason::StartingPrimary);
    let reason = |state, signal| decided(&stopped(THEIRS, state, signal)).reason;
    assert_eq!(reason(ClusterState::InArchiveRecovery, RecoverySignal::Present), Reason::RestartingStandby);
    assert_eq!(reason(ClusterState::ShutDownInRecovery, RecoverySignal::Present), Reason::StartingStandby);
    assert_eq!(reason(up, RecoverySignal::BackupLabel), Reason::StartingStandby, "the first start after a clone");
}

#[test]
fn a_standby_that_does_not_start_is_compared_with_the_leader_and_repaired() {
    let mut observation = stopped(THEIRS, ClusterState::ShutDownInRecovery, RecoverySignal::Present);
    let upstream = Upstream::Member { name: "b".into(), address: address("b") };
    let start = StartAs::Standby(upstream);
    observation.memory = failed(Job::Start(start.clone()));
    observation.now = second(1_002);
    assert_eq!(decided(&observation).ask, Some(Question::Divergence { leader: "b".into() }));
    for fits in [Divergence::None, Divergence::Undecided] {
        observation.divergence =
            Some(DivergenceReport { leader: "b".into(), asked_at: second(1_001), divergence: fits });
        assert_eq!(decided(&observation).postgres, PostgresStep::Start(start.clone()), "something else stopped it");
    }
    let report = DivergenceReport { leader: "b".into(), asked_at: second(1_001), divergence: Divergence::Diverged };
    observation.divergence = Some(report);
    assert_eq!(decided(&observation).postgres, PostgresStep::Rewind { from: "b".into() });
    observation.local.data = data(ClusterState::InArchiveRecovery, RecoverySignal::Present);
    assert_eq!(decided(&observation).postgres, PostgresStep::Recover, "pg_rewind wants a directory in order");
    observation.memory.recovered = Recovered::Yes;
    assert_eq!(decided(&observation).postgres, PostgresStep::Rewind { from: "b".into() });
}

#[test]
fn the_first_of_an_empty_cluster_claims_it_and_bootstraps() {
    let decision = decided(&empty(None, Initialize::Absent));
    assert_eq!(decision.documents, [DocumentStep::ClaimInitialize]);
    assert_eq!(decision.postgres, PostgresStep::Bootstrap);
}

#[test]
fn an_empty_member_waits_while_another_bootstraps_or_the_leader_is_away() {
    for initialize in [Initialize::InProgress(Holder::Other), Initialize::Done(ID)] {
        let decision = decided(&empty(None, initialize));
        assert_eq!(decision.postgres, PostgresStep::Leave);
        assert_eq!(decision.reason, Reason::WaitingForLeader);
    }
}

#[test]
fn an_empty_member_clones_from_the_leader_or_from_one_that_offers_itself() {
    let mut observation = empty(THEIRS, Initialize::Done(ID));
    assert!(matches!(decided(&observation).postgres, PostgresStep::Clone(source) if source.name == "b".into()));
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    cluster.members.get_mut(&"c".into()).expect("a member").tags.clonefrom = true;
    assert!(matches!(decided(&observation).postgres, PostgresStep::Clone(source) if source.name == "c".into()));
}

#[test]
fn a_failed_clone_is_tried_again_after_a_while() {
    let mut observation = empty(THEIRS, Initialize::Done(ID));
    let source = tamada::core::local::CloneSource {
        name: "b".into(),
        address: address("b"),
        kind: tamada::core::local::CloneFrom::Leader,
    };
    observation.memory = failed(Job::Clone { from: source });
    observation.now = second(999);
    assert!(matches!(decided(&observation).reason, Reason::BackingOff { failures: 1, .. }));
}

#[test]
fn a_failed_bootstrap_gives_the_claim_back_and_ends_the_agent() {
    let mut observation = empty(None, Initialize::InProgress(Holder::Us));
    observation.memory = failed(Job::Bootstrap);
    let decision = decided(&observation);
    assert_eq!(decision.documents, [DocumentStep::UnclaimInitialize]);
    assert!(matches!(decision.exit, Some(Exit::Fatal(_))));
}

#[test]
fn an_empty_leader_gives_the_lock_up() {
    let decision = decided(&renewed(empty(OURS, Initialize::Done(ID)), 1));
    assert_eq!(decision.lease, LeaseStep::Release { last_position: None });
}

#[test]
fn a_single_server_starts_directly_as_a_primary() {
    let mut policy = policy();
    policy.mode = Mode::Single;
    let observation = stopped(None, ClusterState::ShutDown, RecoverySignal::None);
    assert_eq!(decide(&policy, &observation).postgres, PostgresStep::Start(StartAs::Primary));
}

#[test]
fn a_failed_promotion_is_stopped_before_the_lock_is_given_up() {
    let mut observation = renewed(seen(view(OURS), standby_at(500, "b")), 0);
    observation.memory = Memory { lease_valid_until: observation.memory.lease_valid_until, ..failed(Job::Promote) };
    assert!(matches!(decided(&observation).postgres, PostgresStep::Stop { .. }));
    assert_eq!(decided(&observation).lease, LeaseStep::Keep);

    let stop =
        Job::Stop { mode: tamada::core::local::StopMode::Immediate, why: tamada::core::local::StopWhy::LostLock };
    let result = JobResult::Done(tamada::core::observation::JobProduct::Nothing);
    let ended = Event::JobEnded(FinishedJob { job: stop, at: now(), result });
    observation.memory = note(observation.memory, &ended);
    observation.local.postgres = Postgres::Stopped;
    observation.local.data = data(ClusterState::InArchiveRecovery, RecoverySignal::Present);
    assert_eq!(decided(&observation).lease, LeaseStep::Release { last_position: None });
}

#[test]
fn a_requested_restart_starts_nothing_where_there_is_nothing_to_start() {
    let policies = [Pause::Running, Pause::Paused].map(|pause| Policy { pause, ..policy() });
    for policy in policies {
        for unusable in [DataDir::Empty, DataDir::Unusable("made by another version".to_owned())] {
            let mut asked = stopped(THEIRS, ClusterState::ShutDown, RecoverySignal::None);
            asked.requests.restart = Some(RestartRequest { timeout: None });
            assert!(matches!(decide(&policy, &asked).postgres, PostgresStep::Start(_)));
            asked.local.data = unusable;
            let decision = decide(&policy, &asked);
            assert!(!matches!(decision.postgres, PostgresStep::Start(_)), "{decision:?}");
        }
    }
}
