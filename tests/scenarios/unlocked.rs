//! Nobody holds the lock.

use std::time::Duration;

use tamada::core::decision::{Decision, DocumentStep, LeaseStep, PostgresStep, Question, Wake};
use tamada::core::local::{LastRole, Postgres};
use tamada::core::observation::{FirstCycle, LeaderRecord, LeaseOutcome, Memory, Observation, Outcome, RestartRequest};
use tamada::core::policy::{Pause, Policy};
use tamada::core::reason::Reason;
use tamada::core::units::{Instant, Lsn, SystemId};
use tamada::core::view::{ClusterStatus, Holder, Initialize, Member, MemberRole, MemberState, Tags};
use tamada::core::{decide, learn};

use super::build::*;

fn acquires(decision: &Decision) -> bool {
    decision.lease == LeaseStep::Acquire { seen: FREE }
}

#[test]
fn asks_the_others_before_it_takes_the_lock() {
    let decision = decided(&answers(seen(view(None), standby_at(500, "b")), &[]));
    let limit = Duration::from_secs(2);
    assert_eq!(decision.ask, Some(Question::Peers([("b".into(), limit), ("c".into(), limit)].into())));
    assert_eq!(decision.lease, LeaseStep::Keep);
}

#[test]
fn members_whose_records_expired_with_the_leaders_are_asked_but_not_waited_for_long() {
    let mut observation = answers(seen(view(None), standby_at(500, "b")), &[]);
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    observation.memory.last_members.clone_from(&cluster.members);
    cluster.members.remove(&"b".into());
    let Some(Question::Peers(asked)) = decided(&observation).ask else { panic!("nobody is asked") };
    assert_eq!(asked[&"b".into()], Duration::from_millis(300));
    assert_eq!(asked[&"c".into()], Duration::from_secs(2));
}

/// In Kubernetes the record of a lost node stays, and its address answers nothing.
#[test]
fn a_last_leader_that_let_the_lock_run_out_is_not_waited_for_long() {
    let mut observation = answers(seen(view(None), standby_at(500, "b")), &[]);
    observation.memory.last_leader = Some("b".into());
    observation.memory.leader_record = LeaderRecord::There;
    assert_eq!(decided(&observation).reason, Reason::LeaderLeaseAlive { leader: "b".into() });
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    cluster.lock_ran_out = true;
    let Some(Question::Peers(asked)) = decided(&observation).ask else { panic!("nobody is asked") };
    assert_eq!(asked[&"b".into()], Duration::from_millis(300));
    assert_eq!(asked[&"c".into()], Duration::from_secs(2));
}

#[test]
fn the_one_with_the_most_wal_takes_the_lock() {
    let ahead = answers(seen(view(None), standby_at(500, "b")), &[("b", 500), ("c", 499)]);
    assert_eq!(
        decided(&kept_up(ahead)),
        Decision { lease: LeaseStep::Acquire { seen: FREE }, ..Decision::idle(Reason::Acquiring, Wake::Now) }
    );
    let behind = answers(seen(view(None), standby_at(500, "b")), &[("b", 500), ("c", 501)]);
    assert_eq!(decided(&behind).reason, Reason::PeerAhead { peer: "c".into() });
}

#[test]
fn an_unreachable_member_blocks_nobody() {
    let observation = answers(seen(view(None), standby_at(500, "b")), &[("c", 400)]);
    assert!(acquires(&decided(&unreachable(observation, "b"))));
}

#[test]
fn an_answer_from_before_the_lock_was_free_is_not_a_vote() {
    let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 400)]);
    observation.peers.get_mut(&"c".into()).expect("it answered").asked_at = second(998);
    assert_eq!(decided(&observation).reason, Reason::AskingPeers);
}

#[test]
fn priority_breaks_a_tie_and_nothing_else() {
    let tie = |own: i32, position: u64| {
        let observation = answers(seen(view(None), standby_at(500, "b")), &[("b", position), ("c", 400)]);
        let tags = Tags { failover_priority: own, ..Tags::default() };
        let mut policy = policy();
        policy.tags = tags;
        let mut seen = observation;
        if let Some(report) = seen.peers.get_mut(&"b".into())
            && let tamada::core::observation::PeerAnswer::Status(status) = &mut report.answer
        {
            status.tags.failover_priority = 2;
        }
        decide(&policy, &seen)
    };
    assert!(!acquires(&tie(1, 500)));
    assert!(acquires(&tie(2, 500)));
    assert!(acquires(&tie(1, 499)));
}

#[test]
fn a_member_that_may_not_fail_over_never_takes_the_lock() {
    let mut policy = policy();
    policy.tags.failover_priority = 0;
    let observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 1), ("c", 1)]);
    assert_eq!(decide(&policy, &observation).reason, Reason::NotAllowedToPromote);
}

#[test]
fn a_member_that_lags_too_much_never_takes_the_lock() {
    let mut cluster = view(None);
    cluster.status.optime = Some(Lsn(500 + (1 << 20) + 1));
    let observation = answers(seen(cluster, standby_at(500, "b")), &[("b", 1), ("c", 1)]);
    assert!(matches!(decided(&observation).reason, Reason::LagTooLarge { .. }));
}

#[test]
fn after_a_clean_release_one_that_is_behind_waits_for_a_better_member() {
    let mut cluster = view(None);
    cluster.status.optime = Some(Lsn(600));
    cluster.status.released_by = Some("b".into());
    let mut observation = answers(seen(cluster, standby_at(500, "b")), &[("b", 400), ("c", 400)]);
    assert!(matches!(decided(&observation).reason, Reason::BehindReleased { .. }));
    // But not for ever.
    observation.memory.unlocked_since = Some(second(960));
    assert!(acquires(&decided(&observation)));
}

#[test]
fn a_leader_whose_key_was_removed_by_hand_is_not_raced() {
    let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 400)]);
    observation.memory.last_leader = Some("b".into());
    observation.memory.leader_record = LeaderRecord::Gone;
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    cluster.members.insert("b".into(), member("b", MemberRole::Primary));
    assert_eq!(decided(&observation).reason, Reason::LeaderLeaseAlive { leader: "b".into() });
}

/// It had taken the lock and was about to be promoted when the key was removed: its record does not say so yet.
#[test]
fn a_leader_is_waited_for_whose_word_is_another_members_or_older_than_its_lock() {
    let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 400)]);
    observation.memory.last_leader = Some("b".into());
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    observation.memory.last_members.clone_from(&cluster.members);
    let waits = Reason::LeaderLeaseAlive { leader: "b".into() };
    cluster.status.released_by = Some("c".into());
    assert_eq!(decided(&observation).reason, waits);
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    cluster.status.released_by = Some("b".into());
    let word = cluster.status.given_up();
    assert_eq!(decided(&observation).reason, Reason::Acquiring);
    observation.memory.outlived = word;
    assert_eq!(decided(&observation).reason, waits);
}

/// Seed 3026425: a late call had taken the lock for c meanwhile, which gave it back.
#[test]
fn whoever_says_that_it_is_a_primary_is_waited_for_whoever_held_the_lock_last() {
    let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 400)]);
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    cluster.members.insert("b".into(), member("b", MemberRole::Primary));
    cluster.status.released_by = Some("c".into());
    observation.memory.last_members.clone_from(&cluster.members);
    observation.memory.last_leader = Some("c".into());
    assert_eq!(decided(&observation).reason, Reason::LeaderLeaseAlive { leader: "b".into() });
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    cluster.status.gave_way = Some("b".into());
    assert_eq!(decided(&observation).reason, Reason::Acquiring);
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    cluster.status.gave_way = None;
    observation.memory.unlocked_since = Some(second(960));
    assert_eq!(decided(&observation).reason, Reason::Acquiring);
}

#[test]
fn a_leader_that_was_seen_is_no_unseen_one_whichever_tells_of_it() {
    let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 400)]);
    observation.memory.unlocked_since = Some(second(960));
    let primary = member("b", MemberRole::Primary);
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    cluster.members.insert("b".into(), primary.clone());
    assert_eq!(decided(&observation).reason, Reason::LeaderLeaseAlive { leader: "b".into() });
    let mut led = observation.clone();
    led.memory.last_leader = Some("b".into());
    assert_eq!(decided(&led).reason, Reason::Acquiring);
    observation.memory.last_members.insert("b".into(), primary);
    assert_eq!(decided(&observation).reason, Reason::Acquiring);
}

/// Seed 2033559: the leader key was removed by hand.
#[test]
fn a_restart_that_was_asked_for_keeps_no_primary_that_does_not_answer_and_has_lost_the_lock() {
    for postgres in [
        Postgres::Unresponsive { since: second(990), role: LastRole::Primary },
        Postgres::Starting { since: second(990), role: LastRole::Primary },
    ] {
        let mut silent = seen(view(None), postgres);
        let without = decided(&silent);
        silent.requests.restart = Some(RestartRequest { timeout: None });
        assert_eq!(decided(&silent), without);
        assert!(matches!(without.postgres, PostgresStep::Stop { .. }), "{without:?}");
    }
}

#[test]
fn a_leader_whose_key_was_removed_while_it_stops_is_not_raced() {
    // It makes its checkpoint first, and clients write meanwhile.
    let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 400)]);
    observation.memory.last_leader = Some("b".into());
    let stopping = Member { state: MemberState::Stopping, ..member("b", MemberRole::Primary) };
    observation.cluster.as_mut().expect("there is a view").members.insert("b".into(), stopping);
    let waits = Reason::LeaderLeaseAlive { leader: "b".into() };
    assert_eq!(decided(&observation).reason, waits);
    request(observation.cluster.as_mut().expect("there is a view"), None, Some("a"));
    assert_eq!(decided(&observation).reason, waits);
}

#[test]
fn a_leader_between_two_readings_is_not_raced() {
    let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 400)]);
    observation.memory.last_leader = Some("c".into());
    // For us the lock has been free for longer than ttl.
    observation.memory.unlocked_since = Some(second(960));
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    cluster.members.insert("b".into(), member("b", MemberRole::Promoted));
    assert_eq!(decided(&observation).reason, Reason::LeaderLeaseAlive { leader: "b".into() });
    let outcome =
        Outcome { now: now(), lease: LeaseOutcome::None, started: None, asked: None, reason: Reason::NotStarted };
    observation.memory = learn(observation.memory.clone(), &observation, &outcome);
    assert_eq!(observation.memory.unlocked_since, Some(now()));
    assert_eq!(decided(&observation).reason, Reason::LeaderLeaseAlive { leader: "b".into() });
    observation.memory.unlocked_since = Some(second(960));
    assert!(acquires(&decided(&observation)), "it is not waited for longer than ttl");
}

#[test]
fn a_new_agent_waits_where_the_store_has_never_heard_of_a_leader() {
    let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 400)]);
    let mut forgetful = observation.clone();
    forgetful.cluster.as_mut().expect("there is a view").status = ClusterStatus::default();
    assert_eq!(decided(&forgetful).reason, Reason::StoreKnowsNoLeader);
    forgetful.memory.unlocked_since = Some(second(960));
    assert!(acquires(&decided(&forgetful)));
    observation.memory.last_leader = None;
    assert!(acquires(&decided(&observation)), "where it has, nobody waits");
}

#[test]
fn a_leader_that_handed_over_and_alone_has_its_last_wal_is_asked() {
    let mut cluster = view(None);
    request(&mut cluster, Some("b"), None);
    (cluster.status.released_by, cluster.status.optime) = (Some("b".into()), Some(Lsn(600)));
    let mut observation = answers(seen(cluster, standby_at(500, "b")), &[("b", 600), ("c", 400)]);
    observation.memory.unlocked_since = Some(second(960));
    assert_eq!(decided(&observation).reason, Reason::PeerAhead { peer: "b".into() });
}

#[test]
fn a_leader_whose_key_was_removed_while_it_was_promoted_is_not_raced() {
    let led = seen(view(Some(("b", Holder::Other))), standby_at(500, "b"));
    let unlocked = |role| {
        let mut led = led.clone();
        led.cluster.as_mut().expect("there is a view").members.insert("b".into(), member("b", MemberRole::Replica));
        let outcome =
            Outcome { now: now(), lease: LeaseOutcome::None, started: None, asked: None, reason: Reason::NotStarted };
        let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 400)]);
        observation.memory = Memory { unlocked_since: Some(second(999)), ..learn(Memory::default(), &led, &outcome) };
        observation.cluster.as_mut().expect("there is a view").members.insert("b".into(), member("b", role));
        (observation, outcome)
    };
    let waits = Reason::LeaderLeaseAlive { leader: "b".into() };
    assert_eq!(decided(&unlocked(MemberRole::Replica).0).reason, waits, "it has not said that it is being promoted");
    assert_eq!(decided(&unlocked(MemberRole::Promoted).0).reason, waits);
    // Its record went with the lock, and is another one now.
    let (mut expired, outcome) = unlocked(MemberRole::Replica);
    let mut without = expired.clone();
    without.cluster.as_mut().expect("there is a view").members.remove(&"b".into());
    expired.memory = learn(expired.memory.clone(), &without, &outcome);
    assert!(acquires(&decided(&expired)));
}

#[test]
fn a_failover_by_hand_does_not_race_a_leader_whose_key_was_removed_by_hand() {
    let mut cluster = view(None);
    request(&mut cluster, None, Some("a"));
    let mut observation = seen(cluster, standby_at(500, "b"));
    observation.memory.last_leader = Some("b".into());
    // The first reading without the key.
    observation.memory.unlocked_since = None;
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    let record = cluster.members.insert("b".into(), member("b", MemberRole::Primary));
    assert_eq!(decided(&observation).reason, Reason::LeaderLeaseAlive { leader: "b".into() });
    observation.cluster.as_mut().expect("there is a view").members.remove(&"b".into());
    assert!(record.is_some() && acquires(&decided(&observation)));
}

#[test]
fn in_pause_too_a_failover_by_hand_waits_for_what_the_last_leader_had() {
    let paused = Policy { pause: Pause::Paused, ..policy() };
    let mut cluster = view(None);
    request(&mut cluster, None, Some("a"));
    cluster.status.optime = Some(Lsn(600));
    cluster.status.released_by = Some("b".into());
    let mut observation = seen(cluster, standby_at(500, "b"));
    assert!(matches!(decide(&paused, &observation).reason, Reason::BehindReleased { .. }));
    observation.local.postgres = standby_at(600, "b");
    assert!(acquires(&decide(&paused, &observation)));
}

/// This member saw the lock free long ago and has not heard of the leader that there was since.
#[test]
fn the_ttl_counts_from_the_last_leader_even_if_it_was_not_seen() {
    let mut cluster = view(None);
    request(&mut cluster, None, Some("a"));
    let before = cluster.status.clone();
    cluster.status.optime = Some(Lsn(600));
    cluster.status.released_by = Some("b".into());
    let mut observation = seen(cluster.clone(), standby_at(500, "b"));
    observation.memory.unlocked_since = Some(second(900));
    observation.memory.unlocked_status = Some(cluster.status);
    assert!(acquires(&decided(&observation)));
    observation.memory.unlocked_status = Some(before);
    assert!(matches!(decided(&observation).reason, Reason::BehindReleased { .. }));
}

#[test]
fn one_on_an_old_timeline_leaves_the_lock_alone() {
    let mut cluster = view(None);
    left_timeline(&mut cluster, 1);
    let observation = answers(seen(cluster, standby_at(500, "b")), &[("b", 400), ("c", 400)]);
    let decision = decided(&observation);
    assert!(matches!(decision.reason, Reason::TimelineBehind { .. }));
    assert_eq!(decision.lease, LeaseStep::Keep);
    assert_eq!(decision.ask, Some(Question::Checkpoint), "its timeline may only be told late");
}

#[test]
fn promotes_only_with_a_lock_that_lasts() {
    let ours = Some(("a", Holder::Us));
    let fresh = renewed(seen(view(ours), standby_at(500, "b")), 0);
    assert_eq!(decided(&fresh).postgres, PostgresStep::Promote);
    let stale = renewed(seen(view(ours), standby_at(500, "b")), 28);
    assert_eq!(decided(&stale).postgres, PostgresStep::Leave);
    assert_eq!(decided(&stale).lease, LeaseStep::Renew);
    let unconfirmed = seen(view(ours), standby_at(500, "b"));
    assert_eq!(decided(&unconfirmed).postgres, PostgresStep::Leave);
}

#[test]
fn a_standby_tells_the_store_which_cluster_it_is_before_it_races() {
    let asked = |initialize: Initialize, known: Option<SystemId>| {
        let mut cluster = view(None);
        cluster.initialize = initialize;
        let mut observation = answers(seen(cluster, standby_at(500, "b")), &[("b", 400), ("c", 400)]);
        observation.memory.cluster = known;
        observation.memory.first_cycle = FirstCycle::Done;
        decided(&observation)
    };
    let tells = Decision {
        documents: vec![DocumentStep::SetInitialize(ID)],
        ..Decision::idle(Reason::NoClusterId, Wake::At(Instant::from_millis(1_000_500)))
    };
    for gone in [Initialize::Absent, Initialize::Invalid("?".to_owned()), Initialize::InProgress(Holder::Us)] {
        assert_eq!(asked(gone, None), tells);
    }
    // Another makes a cluster, perhaps a new one: only whoever knows that this one is older speaks against it.
    let another = Initialize::InProgress(Holder::Other);
    assert_eq!(asked(another.clone(), Some(ID)), tells);
    for unknown in [None, Some(SystemId(1))] {
        let decision = asked(another.clone(), unknown);
        assert_eq!((decision.documents, decision.reason), (Vec::new(), Reason::NoClusterId), "{unknown:?}");
    }
}

#[test]
fn a_member_that_gave_way_lets_another_go_first_as_long_as_one_can() {
    let mut cluster = view(None);
    cluster.status.gave_way = Some("a".into());
    cluster.status.optime = Some(Lsn(500 + (1 << 20)));
    let raced = |mut observation: Observation, freed: u64| {
        observation.memory.unlocked_since = Some(second(freed));
        decided(&observation)
    };
    let mut observation = answers(seen(cluster.clone(), standby_at(600, "b")), &[("b", 500), ("c", 400)]);
    assert_eq!(raced(observation.clone(), 999).reason, Reason::LeftToOthers);
    assert!(acquires(&raced(observation.clone(), 960)), "not for ever");
    observation = answers(observation, &[("b", 499)]);
    assert!(acquires(&raced(observation.clone(), 999)), "nobody else is within the lag");
    let Ok(cluster) = &mut observation.cluster else { unreachable!("there is a view") };
    cluster.status.gave_way = Some("b".into());
    assert!(acquires(&raced(answers(observation, &[("c", 600)]), 999)), "another gave way");
}
