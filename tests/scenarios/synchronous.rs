//! Synchronous replication: what the key promises, what the server waits for, and who may lead.

use std::collections::BTreeSet;
use std::time::Duration;

use tamada::core::decide;
use tamada::core::decision::{Decision, LeaseStep, PostgresStep, SyncKey, SyncStep, Wake};
use tamada::core::local::{ClusterState, Duty, NamesOf, RecoverySignal, Sender, StartAs};
use tamada::core::observation::{NamesSeen, Observation, RestartRequest, ShutdownRequest};
use tamada::core::policy::{Policy, Switch, SyncMode, Synchronous};
use tamada::core::reason::Reason;
use tamada::core::standby_names::{Method, StandbyNames};
use tamada::core::units::{Lsn, MemberName, Revision};
use tamada::core::view::{MemberState, SyncState, Tags};

use super::build::{
    OURS, THEIRS, answers, kept_up, policy, primary, renewed, request, second, seen, standby_at, stopped, unreachable,
    view,
};

fn set(names: &[&str]) -> BTreeSet<MemberName> {
    names.iter().map(|name| MemberName::from(*name)).collect()
}

fn in_mode(mode: SyncMode) -> Policy {
    Policy { synchronous: Synchronous { mode, ..Synchronous::default() }, ..policy() }
}

fn strict(mode: SyncMode) -> Policy {
    Policy { synchronous: Synchronous { mode, strict: Switch::On, ..Synchronous::default() }, ..policy() }
}

fn key(leader: &str, quorum: u32, standbys: &[&str]) -> SyncState {
    SyncState { leader: Some(leader.into()), quorum, standbys: set(standbys), revision: Some(Revision(9)) }
}

/// We lead. The key is this, the server waits for these, and these stream: name, duty, position.
fn leading(key: SyncState, names: &str, senders: &[(&str, Duty, u64)]) -> Observation {
    let mut seen = kept_up(renewed(seen(view(OURS), primary()), 1));
    seen.cluster.as_mut().expect("a view").sync = key;
    let sender = |(name, duty, position): &(&str, Duty, u64)| Sender {
        standby: (*name).to_owned(),
        duty: *duty,
        position: Lsn(*position),
    };
    seen.local.sync.names = StandbyNames::parse(names);
    seen.local.sync.whose = NamesOf::Us;
    seen.local.sync.senders = senders.iter().map(sender).collect();
    seen.memory.standby_names =
        Some(NamesSeen { names: StandbyNames::parse(names), since: second(999), flushed: Lsn(900) });
    seen
}

fn published(decision: &Decision) -> Option<(usize, Vec<&str>)> {
    match &decision.sync {
        SyncStep::Publish { key, seen } => {
            assert_eq!((key.leader.as_str(), *seen), ("a", Some(Revision(9))));
            Some((key.quorum, key.standbys.iter().map(MemberName::as_str).collect()))
        }
        SyncStep::Leave | SyncStep::Unpublish { .. } | SyncStep::Set(_) | SyncStep::GiveBack => None,
    }
}

fn set_to(decision: &Decision) -> Option<String> {
    match &decision.sync {
        SyncStep::Set(names) => Some(names.to_string()),
        SyncStep::Leave | SyncStep::Unpublish { .. } | SyncStep::Publish { .. } | SyncStep::GiveBack => None,
    }
}

const PRIORITY: SyncMode = SyncMode::Priority;
const QUORUM: SyncMode = SyncMode::Quorum;

#[test]
fn a_standby_is_set_first_then_awaited_then_published() {
    let decided = |seen| decide(&in_mode(PRIORITY), &seen);
    let begun = leading(SyncState::default(), "", &[("b", Duty::Async, 1_000)]);
    let first = decided(begun);
    let expected = SyncKey { leader: "a".into(), quorum: 0, standbys: set(&[]) };
    assert_eq!(first.sync, SyncStep::Publish { key: expected, seen: None });
    assert_eq!(set_to(&decided(leading(key("a", 0, &[]), "", &[("b", Duty::Async, 1_000)]))).as_deref(), Some("b"));
    let behind = decided(leading(key("a", 0, &[]), "b", &[("b", Duty::Sync, 899)]));
    assert_eq!(behind.sync, SyncStep::Leave, "clients may have been told of what it lacks");
    assert!(matches!(behind.wake, Wake::At(at) if at < second(1_003)), "it is looked at again soon: {:?}", behind.wake);
    let caught_up = decided(leading(key("a", 0, &[]), "b", &[("b", Duty::Sync, 900)]));
    assert_eq!(published(&caught_up), Some((0, vec!["b"])));
    let settled = decided(leading(key("a", 0, &["b"]), "b", &[("b", Duty::Sync, 900), ("c", Duty::Async, 950)]));
    assert_eq!(settled.sync, SyncStep::Leave);
}

#[test]
fn a_setting_that_has_just_changed_confirms_nobody() {
    let mut seen = leading(key("a", 0, &[]), "b", &[("b", Duty::Sync, 5_000)]);
    seen.memory.standby_names = Some(NamesSeen { names: StandbyNames::default(), since: second(1), flushed: Lsn(1) });
    assert_eq!(decide(&in_mode(PRIORITY), &seen).sync, SyncStep::Leave);
}

#[test]
fn a_standby_that_is_gone_leaves_the_key_first() {
    let decided = |seen| decide(&in_mode(PRIORITY), &seen);
    let gone = decided(leading(key("a", 0, &["b"]), "b", &[("c", Duty::Async, 1_000)]));
    assert_eq!(published(&gone), Some((0, vec![])));
    assert_eq!(set_to(&decided(leading(key("a", 0, &[]), "b", &[("c", Duty::Async, 1_000)]))).as_deref(), Some("c"));
    let alone = decided(leading(key("a", 0, &[]), "b", &[]));
    assert_eq!(set_to(&alone).as_deref(), Some(""), "commits wait for nobody where there is nobody");
}

#[test]
fn in_strict_mode_commits_wait_where_there_is_nobody() {
    let decided = |seen| decide(&strict(PRIORITY), &seen);
    let alone = decided(leading(key("a", 0, &[]), "", &[]));
    assert_eq!(set_to(&alone), Some(StandbyNames::nobody(Method::First).to_string()));
    let gone = decided(leading(key("a", 0, &["b"]), "b", &[]));
    assert_eq!(gone.sync, SyncStep::Leave, "the key still says who has everything");
}

#[test]
fn tags_say_who_is_chosen() {
    let mut seen = leading(key("a", 0, &[]), "", &[("b", Duty::Async, 1_000), ("c", Duty::Async, 900)]);
    let tag = |seen: &mut Observation, name: &str, tags| {
        seen.cluster.as_mut().expect("a view").members.get_mut(&MemberName::from(name)).expect("a member").tags = tags;
    };
    let chosen = |seen: &Observation| set_to(&decide(&in_mode(PRIORITY), seen));
    assert_eq!(chosen(&seen).as_deref(), Some("b"), "the one that is ahead");
    tag(&mut seen, "c", Tags { sync_priority: 2, ..Tags::default() });
    assert_eq!(chosen(&seen).as_deref(), Some("c"));
    tag(&mut seen, "c", Tags { sync_priority: 2, failover_priority: 0, ..Tags::default() });
    assert_eq!(chosen(&seen).as_deref(), Some("b"), "one that may not lead comes last");
    tag(&mut seen, "b", Tags { sync_priority: 0, ..Tags::default() });
    assert_eq!(chosen(&seen).as_deref(), Some("c"));
    seen.cluster.as_mut().expect("a view").members.get_mut(&MemberName::from("c")).expect("c").state =
        MemberState::Stopping;
    assert_eq!(chosen(&seen), None, "nobody is left, and nobody is waited for");
}

#[test]
fn who_lags_too_far_is_not_chosen() {
    let synchronous = Synchronous { mode: PRIORITY, maximum_lag: Some(50), node_count: 2, ..Synchronous::default() };
    let seen = leading(key("a", 0, &[]), "", &[("b", Duty::Async, 1_000), ("c", Duty::Async, 949)]);
    let decision = decide(&Policy { synchronous, ..policy() }, &seen);
    assert_eq!(set_to(&decision).as_deref(), Some("b"));
}

#[test]
fn in_quorum_mode_voters_are_published_once_they_have_caught_up() {
    let decided = |seen| decide(&in_mode(QUORUM), &seen);
    let both = |duty, at| [("b", duty, at), ("c", duty, at)];
    let first = decided(leading(key("a", 0, &[]), "", &both(Duty::Async, 1_000)));
    assert_eq!(set_to(&first).as_deref(), Some("ANY 1 (b,c)"));
    let behind = decided(leading(key("a", 0, &[]), "ANY 1 (b,c)", &both(Duty::Quorum, 10)));
    assert_eq!(behind.sync, SyncStep::Leave);
    let caught_up = decided(leading(key("a", 0, &[]), "ANY 1 (b,c)", &both(Duty::Quorum, 1_000)));
    assert_eq!(published(&caught_up), Some((1, vec!["b", "c"])));
    let gone = decided(leading(key("a", 1, &["b", "c"]), "ANY 1 (b,c)", &[("b", Duty::Quorum, 1_000)]));
    assert_eq!(set_to(&gone).as_deref(), Some("ANY 1 (b)"));
}

#[test]
fn switching_the_mode_rewrites_key_and_setting_and_switching_off_ends_both() {
    let to_quorum = leading(key("a", 0, &["b"]), "b", &[("b", Duty::Sync, 1_000), ("c", Duty::Async, 1_000)]);
    let decision = decide(&in_mode(QUORUM), &to_quorum);
    assert_eq!(published(&decision), Some((1, vec!["b", "c"])), "{decision:?}");
    let to_priority = leading(key("a", 1, &["b", "c"]), "ANY 1 (b,c)", &[("b", Duty::Quorum, 1_000)]);
    assert_eq!(published(&decide(&in_mode(PRIORITY), &to_priority)), Some((0, vec![])));
    let off = leading(key("a", 0, &["b"]), "b", &[("b", Duty::Sync, 1_000)]);
    assert_eq!(decide(&policy(), &off).sync, SyncStep::Unpublish { seen: Revision(9) });
    let unpublished = leading(SyncState::default(), "b", &[("b", Duty::Sync, 1_000)]);
    assert_eq!(decide(&policy(), &unpublished).sync, SyncStep::GiveBack);
}

/// Nobody leads; `a` is ours, a standby at 1,000, and the others are at these positions.
fn race(key: SyncState, peers: &[(&str, u64)]) -> Observation {
    let mut seen = answers(seen(view(None), standby_at(1_000, "b")), peers);
    let view = seen.cluster.as_mut().expect("a view");
    view.sync = key;
    // The leader's record ran out with its lock.
    view.members.remove(&MemberName::from("b"));
    seen
}

#[test]
fn in_priority_mode_only_those_in_the_key_race() {
    let decided = |seen| decide(&in_mode(PRIORITY), &seen);
    let other = decided(race(key("b", 0, &["c"]), &[("c", 500)]));
    assert_eq!((other.lease, other.reason), (LeaseStep::Keep, Reason::NotSynchronous));
    let mut ours = race(key("b", 0, &["A"]), &[("c", 5_000)]);
    assert!(matches!(decided(ours.clone()).lease, LeaseStep::Acquire { .. }), "what c has alone no client was told of");
    ours.memory.amnesia = Some(tamada::core::observation::Amnesia { until: second(900), lock: None });
    assert_eq!(decided(ours).lease, LeaseStep::Keep, "after a loss of the store's data the key may be an old one");
    let unknown = decided(race(SyncState::default(), &[("c", 500)]));
    assert!(matches!(unknown.lease, LeaseStep::Acquire { .. }), "as long as no leader keeps the key all race");
}

#[test]
fn a_person_may_name_any_member() {
    let mut seen = race(key("b", 0, &["c"]), &[("c", 5_000)]);
    request(seen.cluster.as_mut().expect("a view"), None, Some("a"));
    assert!(matches!(decide(&in_mode(PRIORITY), &seen).lease, LeaseStep::Acquire { .. }));
}

#[test]
fn in_quorum_mode_a_candidate_needs_votes() {
    let decided = |seen| decide(&in_mode(QUORUM), &seen);
    let voters = || key("b", 1, &["a", "c"]);
    assert!(matches!(decided(race(voters(), &[("c", 1_000)])).lease, LeaseStep::Acquire { .. }));
    let alone = decided(unreachable(race(voters(), &[]), "c"));
    assert_eq!(alone.reason, Reason::TooFewVotes { votes: 0, needed: 1 });
    let ahead = decided(race(voters(), &[("c", 1_001)]));
    assert_eq!(ahead.reason, Reason::PeerAhead { peer: "c".into() });
    let no_voter = decided(race(key("b", 1, &["c", "d"]), &[("c", 900)]));
    assert_eq!(no_voter.reason, Reason::TooFewVotes { votes: 1, needed: 2 });
}

/// Its vote would say that we have what it has.
#[test]
fn a_former_leader_that_is_ahead_neither_stands_in_the_way_nor_votes() {
    let decided = |mode, seen| decide(&in_mode(mode), &seen);
    let mut back = race(key("b", 1, &["a", "c"]), &[("b", 2_000)]);
    back.cluster.as_mut().expect("a view").members.insert("b".into(), super::build::member("b", Default::default()));
    let alone = decided(QUORUM, unreachable(back.clone(), "c"));
    assert_eq!(alone.reason, Reason::TooFewVotes { votes: 0, needed: 1 });
    back.cluster.as_mut().expect("a view").sync = key("b", 0, &["a"]);
    assert!(matches!(decided(PRIORITY, back).lease, LeaseStep::Acquire { .. }));
}

#[test]
fn after_a_release_in_order_no_votes_are_needed() {
    let mut seen = unreachable(race(key("b", 1, &["a", "c"]), &[]), "c");
    let status = &mut seen.cluster.as_mut().expect("a view").status;
    (status.released_by, status.optime) = (Some("b".into()), Some(Lsn(1_000)));
    seen.memory.unlocked_status = Some(status.clone());
    assert!(matches!(decide(&in_mode(QUORUM), &seen).lease, LeaseStep::Acquire { .. }));
}

/// We hold the lock and are to be promoted.
fn promotes(key: SyncState, names: &str) -> Observation {
    let mut seen = renewed(seen(view(OURS), standby_at(1_000, "b")), 1);
    seen.cluster.as_mut().expect("a view").sync = key;
    seen.local.sync.names = StandbyNames::parse(names);
    seen.local.sync.whose = NamesOf::Us;
    seen
}

#[test]
fn before_a_promotion_the_key_is_ours_and_the_server_waits_for_whom_it_must() {
    let decided = |policy: &Policy, key, names| decide(policy, &promotes(key, names));
    let loose = decided(&in_mode(PRIORITY), key("b", 0, &["a"]), "");
    assert_eq!((published(&loose), &loose.postgres), (Some((0, vec![])), &PostgresStep::Leave));
    let ready = decided(&in_mode(PRIORITY), key("a", 0, &[]), "");
    assert_eq!(ready.postgres, PostgresStep::Promote);
    let strictly = decided(&strict(PRIORITY), key("b", 0, &["a"]), "");
    assert_eq!(set_to(&strictly).as_deref(), Some("b"), "the old leader has everything that it confirmed");
    let strictly = decided(&strict(PRIORITY), key("b", 0, &["a"]), "b");
    assert_eq!(published(&strictly), Some((0, vec!["b"])));
    let quorum = decided(&in_mode(QUORUM), key("b", 1, &["a", "c"]), "");
    assert_eq!(set_to(&quorum).as_deref(), Some("ANY 1 (b,c)"));
    let quorum = decided(&in_mode(QUORUM), key("b", 1, &["a", "c"]), "ANY 1 (b,c)");
    assert_eq!((published(&quorum), &quorum.postgres), (Some((1, vec!["b", "c"])), &PostgresStep::Leave));
    let quorum = decided(&in_mode(QUORUM), key("a", 1, &["b", "c"]), "ANY 1 (b,c)");
    assert_eq!((quorum.postgres, quorum.sync), (PostgresStep::Promote, SyncStep::Leave));
    let no_voter = decided(&in_mode(QUORUM), key("b", 1, &["c", "d"]), "");
    assert_eq!(set_to(&no_voter).as_deref(), Some("ANY 2 (b,c,d)"));
}

#[test]
fn a_leader_that_starts_in_place_waits_for_whom_it_has_promised_to() {
    let mut seen = renewed(stopped(OURS, ClusterState::InProduction, RecoverySignal::None), 1);
    seen.cluster.as_mut().expect("a view").sync = key("a", 0, &["b"]);
    let first = decide(&in_mode(PRIORITY), &seen);
    assert_eq!((set_to(&first).as_deref(), first.postgres), (Some("b"), PostgresStep::Leave));
    seen.local.sync.names = StandbyNames::parse("b");
    seen.local.sync.whose = NamesOf::Us;
    assert_eq!(decide(&in_mode(PRIORITY), &seen).postgres, PostgresStep::Start(StartAs::Primary));
}

/// We are a synchronous standby of b.
fn serving(standbys: &[&str]) -> Observation {
    let mut seen = kept_up(seen(view(THEIRS), standby_at(1_000, "b")));
    seen.cluster.as_mut().expect("a view").sync = key("b", 0, standbys);
    seen
}

#[test]
fn a_synchronous_standby_asks_to_be_released_before_it_stops() {
    let decided = |seen: &Observation| decide(&in_mode(PRIORITY), seen);
    let mut stopping = serving(&["a"]);
    stopping.requests.shutdown = Some(ShutdownRequest::Graceful);
    let asks = decided(&stopping);
    assert_eq!((asks.reason, asks.postgres), (Reason::AskingForRelease, PostgresStep::Leave));
    stopping.memory.release_asked = Some(second(979));
    assert!(matches!(decided(&stopping).postgres, PostgresStep::Stop { .. }), "after two loops it waits no longer");
    stopping.memory.release_asked = None;
    stopping.requests.shutdown = Some(ShutdownRequest::Fast);
    assert!(matches!(decided(&stopping).postgres, PostgresStep::Stop { .. }));
    let mut released = serving(&["c"]);
    released.requests.restart = Some(RestartRequest { timeout: None });
    assert!(matches!(decided(&released).postgres, PostgresStep::Restart(_)));
    let mut restarting = serving(&["a"]);
    restarting.requests.restart = Some(RestartRequest { timeout: None });
    assert_eq!(decided(&restarting).reason, Reason::AskingForRelease);
    let short = Policy { stop_timeout: Duration::from_secs(8), ..in_mode(PRIORITY) };
    stopping.requests.shutdown = Some(ShutdownRequest::Graceful);
    stopping.memory.release_asked = Some(second(996));
    assert!(matches!(decide(&short, &stopping).postgres, PostgresStep::Stop { .. }), "the time for a stop is longer");
}

#[test]
fn a_switchover_goes_to_a_synchronous_standby() {
    let mut seen =
        answers(leading(key("a", 0, &["b"]), "b", &[("b", Duty::Sync, 1_000)]), &[("b", 1_000), ("c", 1_000)]);
    request(seen.cluster.as_mut().expect("a view"), Some("a"), Some("c"));
    assert_eq!(decide(&in_mode(PRIORITY), &seen).reason, Reason::NoHealthyCandidate);
    request(seen.cluster.as_mut().expect("a view"), Some("a"), Some("b"));
    assert_eq!(decide(&in_mode(PRIORITY), &seen).reason, Reason::HandingOver);
    request(seen.cluster.as_mut().expect("a view"), None, Some("c"));
    assert_eq!(decide(&in_mode(PRIORITY), &seen).reason, Reason::HandingOver, "a person may name any member");
}

/// What the one that is gone has confirmed, the other may lack.
#[test]
fn a_voter_leaves_the_key_only_when_the_rest_has_caught_up() {
    let mut seen = leading(key("a", 1, &["b", "c"]), "ANY 1 (b)", &[("b", Duty::Quorum, 899)]);
    assert_eq!(decide(&in_mode(QUORUM), &seen).sync, SyncStep::Leave);
    seen.local.sync.senders[0].position = Lsn(900);
    assert_eq!(published(&decide(&in_mode(QUORUM), &seen)), Some((0, vec!["b"])));
}

#[test]
fn a_key_of_quorum_mode_asks_for_votes_although_the_mode_has_changed() {
    let decided = |seen| decide(&in_mode(PRIORITY), &seen);
    let alone = decided(unreachable(race(key("b", 1, &["a", "c"]), &[]), "c"));
    assert_eq!(alone.reason, Reason::TooFewVotes { votes: 0, needed: 1 });
    assert!(matches!(decided(race(key("b", 1, &["a", "c"]), &[("c", 1_000)])).lease, LeaseStep::Acquire { .. }));
}
