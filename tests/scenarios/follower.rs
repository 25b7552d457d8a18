//! A standby behind another member's lock.

use tamada::core::decide;
use tamada::core::decision::{Decision, Exit, PostgresStep, Question, Wake};
use tamada::core::local::{
    ClusterState, LastRole, LocalState, Postgres, RecoverySignal, Reinit, Running, StartAs, StopMode, StopWhy, Upstream,
};
use tamada::core::observation::{Clearance, Divergence, DivergenceReport, FirstCycle, Observation};
use tamada::core::policy::{Policy, Switch};
use tamada::core::reason::Reason;
use tamada::core::units::SystemId;
use tamada::core::view::{Initialize, MemberRole};

use super::build::*;

fn not_streaming(mut observation: Observation) -> Observation {
    if let Postgres::Running(Running::Standby(facts)) = &mut observation.local.postgres {
        facts.replication = None;
    }
    observation
}

fn compared(mut observation: Observation, divergence: Divergence, at: u64) -> Observation {
    observation.divergence = Some(DivergenceReport { leader: "b".into(), asked_at: second(at), divergence });
    observation
}

#[test]
fn a_streaming_standby_does_nothing() {
    let following = Reason::Following { name: "a".into(), leader: "b".into() };
    let decision = decided(&kept_up(seen(view(THEIRS), standby_at(500, "b"))));
    assert_eq!(decision, Decision::idle(following, Wake::At(second(1_010))));
}

#[test]
fn follows_a_new_leader_at_once() {
    let decision = decided(&seen(view(THEIRS), standby_at(500, "c")));
    assert_eq!(decision.postgres, PostgresStep::Follow(Upstream::Member { name: "b".into(), address: address("b") }));
}

#[test]
fn compares_its_wal_with_the_leaders_when_it_does_not_stream() {
    let decision = decided(&not_streaming(seen(view(THEIRS), standby_at(500, "b"))));
    assert_eq!(decision.ask, Some(Question::Divergence { leader: "b".into() }));
}

#[test]
fn stops_to_be_repaired_when_it_has_diverged() {
    let observation = compared(not_streaming(seen(view(THEIRS), standby_at(500, "b"))), Divergence::Diverged, 999);
    assert!(matches!(
        decided(&observation).postgres,
        PostgresStep::Stop { mode: StopMode::Fast, why: StopWhy::Rejoin, .. }
    ));
}

#[test]
fn a_standby_that_lets_nobody_in_for_long_is_compared_and_stopped_to_be_repaired() {
    let starting = |since| seen(view(THEIRS), Postgres::Starting { since: second(since), role: LastRole::Standby });
    assert_eq!(decided(&starting(991)).ask, None, "it may be replaying");
    let decision = decided(&starting(990));
    assert_eq!((decision.reason, decision.postgres), (Reason::Starting, PostgresStep::Leave));
    assert_eq!(decision.ask, Some(Question::Divergence { leader: "b".into() }));
    let decision = decided(&compared(starting(990), Divergence::Diverged, 999));
    assert!(matches!(decision.postgres, PostgresStep::Stop { why: StopWhy::Rejoin, .. }));
    assert_eq!(decided(&compared(starting(990), Divergence::None, 999)).postgres, PostgresStep::Leave);
}

#[test]
fn a_standby_whose_wal_is_gone_is_cloned_anew_where_that_is_allowed() {
    let idle = not_streaming(seen(view(THEIRS), standby_at(500, "b")));
    let starting = seen(view(THEIRS), Postgres::Starting { since: second(990), role: LastRole::Standby });
    for observation in [idle, starting] {
        let observation = compared(observation, Divergence::WalGone, 999);
        let decision = decided(&observation);
        assert!(matches!(decision.postgres, PostgresStep::Reinitialize { why: Reinit::WalGone, .. }), "{decision:?}");
        let kept = Policy { remove_diverged_data: Switch::Off, ..policy() };
        let decision = decide(&kept, &observation);
        assert_eq!(decision.postgres, PostgresStep::Leave);
        assert_eq!(decision.reason, Reason::WalGoneNoRemedy { leader: "b".into() });
    }
    let streams = compared(seen(view(THEIRS), standby_at(500, "b")), Divergence::WalGone, 999);
    assert_eq!(decided(&streams).postgres, PostgresStep::Leave);
}

#[test]
fn a_comparison_from_before_the_repair_no_longer_counts() {
    let mut observation = compared(not_streaming(seen(view(THEIRS), standby_at(500, "b"))), Divergence::Diverged, 998);
    observation.memory.cleared_for = Some(Clearance { leader: "b".into(), at: second(999) });
    assert_eq!(decided(&observation).postgres, PostgresStep::Leave);
}

#[test]
fn data_of_another_cluster_are_refused_untouched() {
    let mut cluster = view(THEIRS);
    cluster.initialize = Initialize::Done(SystemId(1_234_567_890));
    let decision = decided(&seen(cluster, standby_at(500, "b")));
    assert_eq!(decision.postgres, PostgresStep::Leave);
    assert!(matches!(&decision.exit, Some(Exit::Fatal(why)) if why.contains("1234567890")));
}

#[test]
fn a_running_replica_is_never_the_first_of_a_cluster() {
    let mut cluster = view(None);
    cluster.initialize = Initialize::Absent;
    let mut observation = seen(cluster, standby_at(500, "b"));
    assert!(matches!(decided(&observation).exit, Some(Exit::FatalLeaveRunning(_))));
    observation.memory.first_cycle = FirstCycle::Done;
    assert_eq!(decided(&observation).exit, None);
}

#[test]
fn follows_a_new_leader_only_when_it_is_a_primary() {
    let mut cluster = view(THEIRS);
    cluster.members.get_mut(&"b".into()).expect("a member").role = MemberRole::Replica;
    let decision = decided(&seen(cluster, standby_at(500, "c")));
    assert_eq!(decision.postgres, PostgresStep::Leave);
    assert_eq!(decision.reason, Reason::LeaderNotReady { leader: "b".into() });
}

fn nostream(observation: &Observation) -> Decision {
    let mut policy = policy();
    policy.tags.nostream = true;
    decide(&policy, observation)
}

fn without_upstream(observation: Observation) -> Observation {
    let mut observation = not_streaming(observation);
    if let Postgres::Running(Running::Standby(facts)) = &mut observation.local.postgres {
        facts.upstream = Upstream::None;
    }
    observation
}

#[test]
fn a_nostream_member_streams_from_nobody() {
    let streaming = seen(view(THEIRS), standby_at(500, "b"));
    assert_eq!(nostream(&streaming).postgres, PostgresStep::Follow(Upstream::None));
    let archive_only = without_upstream(streaming);
    assert_eq!(nostream(&archive_only).ask, Some(Question::Divergence { leader: "b".into() }));
    let fits = nostream(&compared(archive_only.clone(), Divergence::None, 500));
    assert_eq!((fits.postgres, fits.ask), (PostgresStep::Leave, None), "once it has been compared it asks no more");
    let gone = nostream(&compared(archive_only.clone(), Divergence::WalGone, 999));
    assert_eq!(gone.postgres, PostgresStep::Leave, "the leader's WAL is not what it waits for");
    let diverged = nostream(&compared(archive_only, Divergence::Diverged, 999));
    assert!(matches!(diverged.postgres, PostgresStep::Stop { why: StopWhy::Rejoin, .. }));
}

#[test]
fn a_nostream_member_is_started_behind_nobody() {
    let observation = seen(view(THEIRS), Postgres::Stopped);
    let stopped = data(ClusterState::ShutDownInRecovery, RecoverySignal::Present);
    let local = LocalState { data: stopped, ..observation.local.clone() };
    let decision = nostream(&Observation { local, ..observation });
    assert_eq!(decision.postgres, PostgresStep::Start(StartAs::Standby(Upstream::None)));
}
