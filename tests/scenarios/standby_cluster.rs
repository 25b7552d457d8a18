//! A standby cluster: whoever holds the lock follows a server elsewhere, the others follow it, and nobody takes writes.

use tamada::core::authority::Tenure;
use tamada::core::decide;
use tamada::core::decision::{Decision, DocumentStep, LeaseStep, PostgresStep, Question};
use tamada::core::local::{
    CloneFrom, CloneSource, ClusterState, DataDir, Guard, HistoryOf, Job, Postgres, RecoverySignal, Remote, Running,
    Source, StartAs, StopMode, StopWhy, Upstream,
};
use tamada::core::observation::{
    Divergence, DivergenceReport, FinishedJob, Handover, HandoverPurpose, HandoverStage, JobResult, LeaseOutcome,
    Observation, RestartRequest,
};
use tamada::core::policy::{ClusterKind, Pause, Policy};
use tamada::core::reason::Reason;
use tamada::core::units::{Lsn, SystemId};
use tamada::core::view::{Address, Holder, Initialize, MemberRole};

use super::build::*;

fn remote() -> Remote {
    Remote { host: "elsewhere".into(), port: 5432, slot: None }
}

fn of(source: Source) -> Policy {
    Policy { cluster: ClusterKind::Standby(source), ..policy() }
}

fn decided(seen: &Observation) -> Decision {
    decide(&of(Source::Remote(remote())), seen)
}

fn behind(upstream: Upstream) -> Postgres {
    let mut postgres = standby_at(500, "b");
    if let Postgres::Running(Running::Standby(facts)) = &mut postgres {
        facts.upstream = upstream;
    }
    postgres
}

fn leading() -> Observation {
    renewed(seen(view(OURS), behind(Upstream::Remote(remote()))), 1)
}

#[test]
fn the_holder_of_the_lock_follows_the_source_and_is_not_promoted() {
    let won = decided(&renewed(seen(view(OURS), standby_at(500, "b")), 1));
    assert_eq!(won.postgres, PostgresStep::Follow(Upstream::Remote(remote())));
    let streams = decided(&kept_up(leading()));
    assert_eq!((streams.postgres, streams.reason), (PostgresStep::Leave, Reason::LeadingStandbys { name: "a".into() }));
    let archive = decide(&of(Source::Archive), &renewed(seen(view(OURS), standby_at(500, "b")), 1));
    assert_eq!(archive.postgres, PostgresStep::Follow(Upstream::Archive));
}

#[test]
fn the_others_follow_its_leader() {
    let mut cluster = view(THEIRS);
    cluster.members.get_mut(&"b".into()).expect("b").role = MemberRole::StandbyLeader;
    let decision = decided(&kept_up(seen(cluster.clone(), standby_at(500, "b"))));
    let following = Reason::FollowingStandbyLeader { name: "a".into(), leader: "b".into() };
    assert_eq!((decision.postgres, decision.reason), (PostgresStep::Leave, following));
    let other = decided(&seen(cluster, standby_at(500, "c")));
    assert_eq!(other.postgres, PostgresStep::Follow(Upstream::Member { name: "b".into(), address: address("b") }));
}

#[test]
fn a_primary_with_the_lock_stops_in_order_and_keeps_it() {
    let decision = decided(&renewed(seen(view(OURS), primary()), 1));
    let PostgresStep::Stop { mode, why, .. } = decision.postgres else { panic!("{decision:?}") };
    assert_eq!((mode, why), (StopMode::CheckpointThenFast, StopWhy::StandbyCluster));
    assert!(!decision.lease.gives_up());
    let mut stopped = renewed(stopped(OURS, ClusterState::ShutDown, RecoverySignal::None), 1);
    let asks = decided(&stopped);
    assert_eq!(asks.ask, Some(Question::Divergence { leader: HistoryOf::Remote }));
    stopped.divergence =
        Some(DivergenceReport { leader: HistoryOf::Remote, asked_at: now(), divergence: Divergence::None });
    let starts = decided(&stopped);
    assert_eq!(starts.postgres, PostgresStep::Start(StartAs::Standby(Upstream::Remote(remote()))));
    stopped.divergence =
        Some(DivergenceReport { leader: HistoryOf::Remote, asked_at: now(), divergence: Divergence::Undecided });
    assert!(matches!(decided(&stopped).postgres, PostgresStep::Start(_)), "reads go on while the source is away");
    stopped.divergence =
        Some(DivergenceReport { leader: HistoryOf::Remote, asked_at: now(), divergence: Divergence::Diverged });
    assert_eq!(decided(&stopped).postgres, PostgresStep::Rewind { from: HistoryOf::Remote });
}

#[test]
fn a_primary_without_a_leader_anywhere_does_not_take_the_lock() {
    let decision = decided(&seen(view(None), primary()));
    assert_eq!(decision.lease, LeaseStep::Keep);
    assert!(matches!(decision.postgres, PostgresStep::Stop { why: StopWhy::Rejoin, .. }), "{decision:?}");
}

#[test]
fn once_the_section_is_gone_the_holder_is_promoted() {
    let decision = decide(&policy(), &leading());
    assert_eq!((decision.postgres, decision.reason), (PostgresStep::Promote, Reason::Promoting));
}

#[test]
fn a_promotion_that_may_be_under_way_is_undone_by_a_stop() {
    let mut seen = leading();
    seen.local.guard = Guard::Until(second(1_020));
    let decision = decided(&seen);
    assert!(matches!(decision.postgres, PostgresStep::Stop { why: StopWhy::Rejoin, .. }), "{decision:?}");
    assert_eq!(decision.reason, Reason::MayBePromoting);
}

#[test]
fn the_lock_of_a_standby_cluster_is_no_right_to_write() {
    let (policy, seen) = (of(Source::Remote(remote())), leading());
    let outcome = LeaseOutcome::Held { until: second(1_030) };
    let valid_until = Some(second(1_030));
    let tenure =
        Tenure { policy: &policy, seen: &seen, job: None, guard: Guard::NoDeadline, valid_until, outcome: &outcome };
    assert_eq!((tenure.guard_after(), tenure.may_lead_until()), (Guard::NoDeadline, None));
    assert!(!tenure.may_begin(&Job::Promote, now()) && !tenure.may_begin(&Job::Start(StartAs::Primary), now()));
    let under_way = Tenure { guard: Guard::Until(second(1_005)), ..tenure };
    assert!(matches!(under_way.guard_after(), Guard::Until(_)), "a promotion may be under way");
    let (demoting, ours) = (renewed(self::seen(view(OURS), primary()), 1), LeaseOutcome::Held { until: second(1_030) });
    let primary = Tenure { seen: &demoting, outcome: &ours, guard: Guard::NoDeadline, ..under_way };
    assert!(matches!(primary.guard_after(), Guard::Until(_)), "a primary has its deadline until it has stopped");
}

#[test]
fn a_race_asks_for_positions_and_not_for_the_history_of_former_days() {
    let mut cluster = view(None);
    left_timeline(&mut cluster, 7);
    let seen = answers(seen(cluster, standby_at(500, "b")), &[("b", 400), ("c", 400)]);
    assert!(matches!(decided(&seen).lease, LeaseStep::Acquire { .. }), "{:?}", decided(&seen));
    assert_eq!(decide(&policy(), &seen).lease, LeaseStep::Keep, "with a primary of its own the timeline counts");
    let behind = answers(seen, &[("b", 600), ("c", 400)]);
    assert_eq!(decided(&behind).reason, Reason::PeerAhead { peer: "b".into() });
}

#[test]
fn a_switchover_hands_the_lock_over_without_a_stop() {
    let mut cluster = view(OURS);
    request(&mut cluster, Some("a"), Some("b"));
    let mut seen = renewed(self::seen(cluster, behind(Upstream::Remote(remote()))), 1);
    assert!(matches!(decided(&seen).ask, Some(Question::Peers(_))));
    seen = answers(seen, &[("b", 500)]);
    seen.memory.unlocked_since = None;
    let decision = decided(&seen);
    assert_eq!(decision.lease, LeaseStep::Release { last_position: Some(Lsn(500)) }, "{decision:?}");
    assert_eq!(decision.postgres, PostgresStep::Leave);
}

#[test]
fn the_first_member_copies_the_source_and_takes_the_lock() {
    let mut cluster = view(None);
    cluster.initialize = Initialize::Absent;
    let mut empty = seen(cluster.clone(), Postgres::Stopped);
    empty.local.data = DataDir::Empty;
    let decision = decided(&empty);
    let address = Address { host: "elsewhere".into(), port: 5432, database: "postgres".into() };
    let from = CloneSource { name: "elsewhere".into(), address, kind: CloneFrom::Remote };
    assert_eq!(decision.postgres, PostgresStep::Clone(from));
    assert_eq!(decision.documents, [DocumentStep::ClaimInitialize]);
    let archive = decide(&of(Source::Archive), &empty);
    assert_eq!((archive.postgres, archive.reason), (PostgresStep::Leave, Reason::NothingToCloneFrom));

    cluster.initialize = Initialize::InProgress(Holder::Us);
    let mut copied = seen(cluster.clone(), Postgres::Stopped);
    copied.local.data = data(ClusterState::InProduction, RecoverySignal::BackupLabel);
    assert_eq!(decided(&copied).postgres, PostgresStep::Start(StartAs::Standby(Upstream::Remote(remote()))));
    let runs = decided(&seen(cluster, behind(Upstream::Remote(remote()))));
    assert!(matches!(runs.lease, LeaseStep::Acquire { .. }), "{runs:?}");
    assert!(runs.documents.contains(&DocumentStep::SetInitialize(ID)));
}

#[test]
fn a_running_standby_is_what_a_standby_cluster_may_begin_with() {
    let mut cluster = view(None);
    cluster.initialize = Initialize::Absent;
    let found = seen(cluster, behind(Upstream::Foreign));
    assert!(decide(&policy(), &found).exit.is_some(), "its primary is somewhere else");
    assert_eq!(decided(&found).exit, None);
}

#[test]
fn a_cluster_that_is_to_follow_itself_changes_nothing() {
    let itself = of(Source::Remote(Remote { host: "C".into(), ..remote() }));
    for postgres in [primary(), behind(Upstream::Remote(remote()))] {
        let decision = decide(&itself, &renewed(seen(view(OURS), postgres), 1));
        assert_eq!(decision.postgres, PostgresStep::Leave);
        assert_eq!(decision.reason, Reason::StandbyOfItself { member: "c".into() });
    }
}

#[test]
fn a_leader_that_cannot_start_gives_way_to_one_that_can() {
    let mut stopped = renewed(stopped(OURS, ClusterState::ShutDownInRecovery, RecoverySignal::Present), 1);
    let job = Job::Start(StartAs::Standby(Upstream::Remote(remote())));
    stopped.memory.finished = Some(FinishedJob { job, at: second(999), result: JobResult::Failed("no".into()) });
    assert!(matches!(decided(&stopped).ask, Some(Question::Peers(_))));
    let answered = answers(stopped, &[("b", 500), ("c", 400)]);
    assert!(decided(&answered).lease.gives_up(), "{:?}", decided(&answered));
}

#[test]
fn a_hand_over_that_is_taken_back_makes_no_primary_any_more() {
    let mut stopped = renewed(stopped(OURS, ClusterState::ShutDown, RecoverySignal::None), 1);
    let stage = HandoverStage::Confirming { position: Lsn(1_000), since: second(900) };
    let (purpose, best) = (HandoverPurpose::Switchover, None);
    stopped.memory.handover = Some(Handover { purpose, candidate: None, since: second(890), stage, best });
    let seen = unreachable(unreachable(stopped, "b"), "c");
    assert_eq!(decide(&policy(), &seen).postgres, PostgresStep::Start(StartAs::Primary));
    assert_eq!(decided(&seen).postgres, PostgresStep::Start(StartAs::Standby(Upstream::Remote(remote()))));
}

#[test]
fn a_restart_that_was_asked_for_makes_no_primary_any_more() {
    let mut asked = renewed(seen(view(OURS), primary()), 1);
    asked.requests.restart = Some(RestartRequest { timeout: None });
    assert_eq!(decide(&policy(), &asked).postgres, PostgresStep::Restart(StartAs::Primary));
    assert!(matches!(decided(&asked).postgres, PostgresStep::Stop { why: StopWhy::StandbyCluster, .. }));
}

#[test]
fn data_of_another_cluster_stay_untouched() {
    let mut stopped = stopped(None, ClusterState::ShutDown, RecoverySignal::None);
    stopped.cluster.as_mut().expect("a view").initialize = Initialize::Done(SystemId(7));
    assert!(decided(&stopped).exit.is_some());
}

#[test]
fn in_a_pause_the_standby_leader_keeps_the_lock_and_no_primary_takes_it() {
    let paused = Policy { pause: Pause::Paused, ..of(Source::Remote(remote())) };
    let leads = decide(&paused, &leading());
    assert_eq!((leads.lease.gives_up(), leads.reason), (false, Reason::PausedStandbyLeader { name: "a".into() }));
    assert_eq!(decide(&paused, &seen(view(None), primary())).lease, LeaseStep::Keep);
}
