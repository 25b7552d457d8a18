//! What a member does with the data that it has, or has not, behind another leader; and when a leader gives way.

use tamada::core::decision::{Decision, PostgresStep, Question};
use tamada::core::local::{
    CloneFrom, CloneSource, ClusterState, DataDir, Job, LastRole, Postgres, RecoverySignal, Reinit, Running, StartAs,
    Upstream,
};
use tamada::core::observation::{
    Backoff, Clearance, Divergence, DivergenceReport, FinishedJob, JobProduct, JobResult, LeaseOutcome, Observation,
    Outcome, ReinitRequest,
};
use tamada::core::policy::{Policy, Switch};
use tamada::core::reason::Reason;
use tamada::core::units::{Instant, WallTime};
use tamada::core::view::{Holder, Initialize, MemberRole, MemberState, Schedule, Tags};
use tamada::core::{decide, learn};

use super::build::*;

fn start_behind(upstream: Upstream) -> PostgresStep {
    PostgresStep::Start(StartAs::Standby(upstream))
}

fn behind_b() -> Upstream {
    Upstream::Member { name: "b".into(), address: address("b") }
}

fn compares(decision: &Decision) -> bool {
    decision.ask == Some(Question::Divergence { leader: "b".into() })
}

fn backing_off(mut observation: Observation) -> Observation {
    observation.memory.backoff = Some(Backoff { failures: 1, until: second(1_001) });
    observation
}

#[test]
fn a_stopped_leader_on_an_older_timeline_gives_the_lock_up() {
    let on = |left: Option<u32>| {
        let mut observation = renewed(stopped(OURS, ClusterState::ShutDown, RecoverySignal::None), 1);
        let cluster = observation.cluster.as_mut().expect("there is a view");
        left.into_iter().for_each(|left| left_timeline(cluster, left));
        decided(&observation)
    };
    assert!(matches!(on(Some(1)).reason, Reason::TimelineBehind { .. }) && on(Some(1)).lease.gives_up());
    // Neither without a history nor with one that ends where it is.
    assert_eq!(on(Some(0)).postgres, PostgresStep::Start(StartAs::Primary));
    assert_eq!(on(None).postgres, PostgresStep::Start(StartAs::Primary));
}

#[test]
fn a_stopped_member_whose_name_holds_the_lock_elsewhere_starts_behind_nobody() {
    let elsewhere = Some(("a", Holder::Other));
    let whole = decided(&stopped(elsewhere, ClusterState::ShutDown, RecoverySignal::None));
    assert_eq!((whole.postgres, whole.reason), (start_behind(Upstream::None), Reason::OwnNameHeldElsewhere));
    let half = decided(&stopped(elsewhere, ClusterState::ShutDown, RecoverySignal::RewindUnfinished));
    assert_eq!((half.postgres, half.reason), (PostgresStep::Leave, Reason::RewindUnfinished));
}

#[test]
fn a_former_primary_is_compared_unless_a_repair_has_made_it_fit_this_leader() {
    let cleared = |leader: &str| {
        let mut observation = stopped(THEIRS, ClusterState::ShutDown, RecoverySignal::None);
        observation.memory.cleared_for = Some(Clearance { leader: leader.into(), at: second(990) });
        decided(&observation)
    };
    assert_eq!(cleared("b").postgres, start_behind(behind_b()));
    assert!(compares(&cleared("c")), "{:?}", cleared("c"));
}

#[test]
fn a_stopped_standby_is_compared_only_if_its_start_as_one_has_failed() {
    let after = |job: Job, result: JobResult| {
        let mut observation = stopped(THEIRS, ClusterState::ShutDownInRecovery, RecoverySignal::Present);
        observation.memory.finished = Some(FinishedJob { job, at: second(990), result });
        decided(&observation)
    };
    let start = Job::Start(StartAs::Standby(Upstream::None));
    let failed = JobResult::Failed("it went wrong".to_owned());
    assert!(compares(&after(start.clone(), failed.clone())));
    for (job, result) in [
        (start.clone(), JobResult::Cancelled),
        (start, JobResult::Done(JobProduct::Nothing)),
        (Job::Follow(Upstream::None), failed),
    ] {
        assert_eq!(after(job, result).postgres, start_behind(behind_b()));
    }
}

fn empty(leader: Option<(&str, Holder)>, initialize: Initialize) -> Observation {
    let mut observation = seen(view(leader), Postgres::Stopped);
    observation.local.data = DataDir::Empty;
    observation.cluster.as_mut().expect("there is a view").initialize = initialize;
    observation
}

#[test]
fn a_cluster_is_made_only_by_a_member_that_may_and_that_can_lead_it() {
    let barred = [
        Policy { bootstrap: Switch::Off, ..policy() },
        Policy { tags: Tags { failover_priority: 0, ..Tags::default() }, ..policy() },
    ];
    for initialize in [Initialize::Absent, Initialize::InProgress(Holder::Us)] {
        assert_eq!(decided(&empty(None, initialize.clone())).postgres, PostgresStep::Bootstrap);
        for policy in &barred {
            let decision = decide(policy, &empty(None, initialize.clone()));
            assert_eq!((decision.postgres, decision.reason), (PostgresStep::Leave, Reason::WaitingForLeader));
            assert_eq!(decision.documents, []);
        }
    }
}

#[test]
fn a_clone_is_taken_from_a_replica_only_if_it_offers_itself_and_can() {
    let source = |state: MemberState, clonefrom: bool, has_address: bool| {
        let mut observation = empty(THEIRS, Initialize::Done(ID));
        let cluster = observation.cluster.as_mut().expect("there is a view");
        let replica = cluster.members.get_mut(&"c".into()).expect("a member");
        (replica.state, replica.tags.clonefrom) = (state, clonefrom);
        replica.address = replica.address.take().filter(|_| has_address);
        let PostgresStep::Clone(source) = decided(&observation).postgres else { panic!("no clone") };
        (source.name.as_str().to_owned(), source.kind)
    };
    let leader = ("b".to_owned(), CloneFrom::Leader);
    assert_eq!(source(MemberState::Running, true, true), ("c".to_owned(), CloneFrom::Replica));
    assert_eq!(source(MemberState::Running, false, true), leader);
    assert_eq!(source(MemberState::Starting, true, true), leader);
    assert_eq!(source(MemberState::Running, true, false), leader);
    // The leader's own offer, and this member's, are none.
    let mut observation = empty(THEIRS, Initialize::Done(ID));
    let cluster = observation.cluster.as_mut().expect("there is a view");
    for name in ["a", "b"] {
        cluster.members.get_mut(&name.into()).expect("a member").tags.clonefrom = true;
    }
    assert!(matches!(decided(&observation).postgres, PostgresStep::Clone(source) if source.kind == CloneFrom::Leader));
}

#[test]
fn members_that_clone_at_once_spread_over_the_replicas_that_offer_themselves() {
    let source = |name: &str| {
        let mut observation = empty(THEIRS, Initialize::Done(ID));
        let cluster = observation.cluster.as_mut().expect("there is a view");
        for offering in ["a", "c", "e"] {
            let mut record = member(offering, MemberRole::Replica);
            record.tags.clonefrom = true;
            cluster.members.insert(offering.into(), record);
        }
        let policy = Policy { name: name.into(), ..policy() };
        match decide(&policy, &observation).postgres {
            PostgresStep::Clone(source) => source.name.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(["a", "bb", "d", "f"].map(source), ["c", "c", "e", "a"]);
}

/// Seed 3029012: n1 was a primary without the lock when a pause ended, and another had taken it.
#[test]
fn a_primary_without_the_lock_is_stopped_at_once_before_it_is_made_anew() {
    let mut observation = seen(view(THEIRS), primary());
    observation.requests.reinitialize = Some(ReinitRequest::FromLeader);
    assert_eq!(decided(&observation).reason, Reason::DemotedOtherLeader { leader: "b".into() });
    observation.local.postgres = Postgres::Stopped;
    assert!(matches!(decided(&observation).postgres, PostgresStep::Reinitialize { .. }));
}

#[test]
fn a_requested_reinitialization_takes_the_leader_or_who_offers_itself() {
    let asked = |leader, wanted: ReinitRequest| {
        let mut observation = seen(view(leader), standby_at(500, "b"));
        let cluster = observation.cluster.as_mut().expect("there is a view");
        cluster.members.get_mut(&"c".into()).expect("a member").tags.clonefrom = true;
        observation.requests.reinitialize = Some(wanted);
        decided(&observation).postgres
    };
    let from = |name: &str, kind: CloneFrom| PostgresStep::Reinitialize {
        from: CloneSource { name: name.into(), address: address(name), kind },
        why: Reinit::Requested,
    };
    assert_eq!(asked(THEIRS, ReinitRequest::AnySource), from("c", CloneFrom::Replica));
    assert_eq!(asked(THEIRS, ReinitRequest::FromLeader), from("b", CloneFrom::Leader));
    assert_eq!(asked(None, ReinitRequest::FromLeader), PostgresStep::Leave, "there is no leader");
}

#[test]
fn failures_hold_back_what_is_tried_anew_and_not_what_works() {
    let follows = decided(&backing_off(seen(view(THEIRS), standby_at(500, "b"))));
    assert_eq!(follows.reason, Reason::Following { name: "a".into(), leader: "b".into() });
    let moves = decided(&backing_off(seen(view(THEIRS), standby_at(500, "c"))));
    assert!(matches!(moves.reason, Reason::BackingOff { .. }) && moves.postgres == PostgresStep::Leave);
    let mut gone = seen(view(THEIRS), standby_at(500, "b"));
    if let Postgres::Running(Running::Standby(facts)) = &mut gone.local.postgres {
        facts.replication = None;
    }
    let report = DivergenceReport { leader: "b".into(), asked_at: second(999), divergence: Divergence::WalGone };
    gone.divergence = Some(report);
    assert!(matches!(decided(&gone).postgres, PostgresStep::Reinitialize { .. }));
    assert_eq!(decided(&backing_off(gone.clone())).postgres, PostgresStep::Leave);
    // That nothing can be done is said only where it is so.
    let kept = Policy { remove_diverged_data: Switch::Off, ..policy() };
    assert_eq!(decide(&kept, &gone).reason, Reason::WalGoneNoRemedy { leader: "b".into() });
    gone.divergence = None;
    let asks = decide(&kept, &gone);
    assert_eq!(asks.reason, Reason::Following { name: "a".into(), leader: "b".into() });
    assert!(compares(&asks));
}

#[test]
fn only_a_standby_behind_a_primary_is_compared_while_it_starts() {
    let starting = |role: LastRole, of: MemberRole, since: u64| {
        let mut observation = seen(view(THEIRS), Postgres::Starting { since: second(since), role });
        let cluster = observation.cluster.as_mut().expect("there is a view");
        cluster.members.get_mut(&"b".into()).expect("a member").role = of;
        decided(&observation)
    };
    assert!(compares(&starting(LastRole::Standby, MemberRole::Primary, 990)));
    assert!(!compares(&starting(LastRole::Standby, MemberRole::Primary, 991)));
    assert!(!compares(&starting(LastRole::Standby, MemberRole::Replica, 990)));
    let primary = starting(LastRole::Primary, MemberRole::Primary, 990);
    assert!(matches!(primary.postgres, PostgresStep::Stop { .. }) && !compares(&primary), "{primary:?}");
}

#[test]
fn a_leader_counts_as_not_serving_from_the_first_observation_without_a_primary_and_its_data() {
    let after = |observation: &Observation, before: Option<Instant>| {
        let mut memory = observation.memory.clone();
        memory.not_serving_since = before;
        let (lease, reason) = (LeaseOutcome::None, Reason::Starting);
        learn(memory, observation, &Outcome { now: now(), lease, started: None, asked: None, reason }).not_serving_since
    };
    let serves = renewed(seen(view(OURS), primary()), 1);
    assert_eq!(after(&serves, Some(second(900))), None);
    let mut blind = serves.clone();
    blind.local.data = DataDir::Unusable("it cannot be read".to_owned());
    for idle in [renewed(seen(view(OURS), Postgres::Stopped), 1), blind] {
        assert_eq!(after(&idle, None), Some(now()));
        assert_eq!(after(&idle, Some(second(900))), Some(second(900)));
        assert_eq!(after(&outage(idle), Some(second(900))), Some(second(900)), "the lock may still be ours");
    }
    assert_eq!(after(&seen(view(THEIRS), Postgres::Stopped), Some(second(900))), None);
}

#[test]
fn a_crashed_leader_gives_way_at_once_only_to_a_request_that_is_due_and_meant_for_it() {
    let asked = |leader: Option<&str>, candidate: Option<&str>, at: Schedule| {
        let mut cluster = view(OURS);
        request(&mut cluster, leader, candidate);
        cluster.switchover.as_mut().expect("requested").scheduled_at = at;
        let starting = Postgres::Starting { since: now(), role: LastRole::Primary };
        let observation = answers(renewed(seen(cluster, starting), 1), &[("b", 1_000), ("c", 1_000)]);
        decided(&observation).reason
    };
    assert_eq!(asked(Some("a"), Some("b"), Schedule::Now), Reason::HandingOver);
    let wall = seen(view(None), Postgres::Stopped).wall;
    assert_eq!(asked(Some("a"), Some("b"), Schedule::At(WallTime(wall.0 + 1_000))), Reason::Starting);
    assert_eq!(asked(Some("c"), Some("b"), Schedule::Now), Reason::Starting);
    assert_eq!(asked(Some("b"), Some("a"), Schedule::Now), Reason::Starting);
    assert_eq!(asked(None, Some("a"), Schedule::Now), Reason::Starting);
}

#[test]
fn a_leader_without_an_address_is_waited_for() {
    let behind = |postgres: Postgres| {
        let mut observation = seen(view(THEIRS), postgres);
        let cluster = observation.cluster.as_mut().expect("there is a view");
        cluster.members.get_mut(&"b".into()).expect("a member").address = None;
        decided(&observation)
    };
    for postgres in [standby_at(500, "c"), Postgres::Stopped] {
        let decision = behind(postgres);
        assert_eq!(decision.reason, Reason::LeaderWithoutAddress { leader: "b".into() });
        assert_eq!((decision.postgres, decision.ask), (PostgresStep::Leave, None));
    }
}
