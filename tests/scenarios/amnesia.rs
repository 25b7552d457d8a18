//! The store has lost its data: restored from a backup, or wiped.

use tamada::core::decision::{Decision, DocumentStep, LastWord, LeaseStep, PostgresStep, RolesStep, Wake};
use tamada::core::local::{ClusterState, DataDir, Guard, Postgres, RecoverySignal, StartAs, Upstream};
use tamada::core::lock_seen::LockSeen;
use tamada::core::observation::{Event, LeaderRecord, LeaseOutcome, Observation, Outcome, ShutdownRequest};
use tamada::core::policy::{Pause, Policy};
use tamada::core::reason::Reason;
use tamada::core::units::{Revision, SystemId};
use tamada::core::view::{ClusterView, ConfigKey, History, Holder, Initialize, MemberRole};
use tamada::core::{decide, learn, note};

use super::build::*;

/// Noticed `ago` seconds ago, with the lock as the observation's view has it.
fn forgot(mut seen: Observation, ago: u64) -> Observation {
    let lock = seen.cluster.as_ref().ok().and_then(|view| view.lock_revision);
    let at = second(1_000 - ago);
    seen.memory = note(seen.memory, &Event::StoreForgot { at, ttl: policy().timing.ttl, lock });
    seen.memory.unlocked_since = Some(at);
    seen
}

/// A store that was restored from a time when this member led, by a key of revision 50.
fn restored(leader: &str, holder: Holder) -> ClusterView {
    ClusterView { lock_revision: Some(Revision(50)), ..view(Some((leader, holder))) }
}

fn wiped() -> ClusterView {
    ClusterView {
        initialize: Initialize::Absent,
        config: ConfigKey::Missing,
        history: History::Unknown,
        members: Default::default(),
        ..view(None)
    }
}

fn after(seen: &Observation, lease: LeaseOutcome) -> Observation {
    let outcome = Outcome { now: seen.now, lease, started: None, asked: None, reason: Reason::StoreForgot };
    Observation { memory: learn(seen.memory.clone(), seen, &outcome), ..seen.clone() }
}

fn takes_again(seen: Option<u64>) -> Decision {
    let lease = LeaseStep::Acquire { seen: LockSeen { lock: seen.map(Revision), ..LockSeen::default() } };
    Decision { lease, ..Decision::idle(Reason::StoreForgotMyLock, Wake::Now) }
}

#[test]
fn a_leader_whose_lock_is_valid_takes_it_again_at_once_in_a_wiped_store() {
    assert_eq!(decided(&kept_up(forgot(renewed(seen(wiped(), primary()), 9), 0))), takes_again(None));
}

#[test]
fn a_leader_whose_lock_is_valid_takes_it_again_over_the_key_of_a_leader_of_long_ago() {
    for (name, holder) in [("b", Holder::Other), ("a", Holder::Other)] {
        let observation = forgot(renewed(seen(restored(name, holder), primary()), 9), 0);
        assert_eq!(decided(&kept_up(observation)), takes_again(Some(50)));
    }
    let ours = forgot(renewed(seen(restored("a", Holder::Us), primary()), 9), 0);
    assert_eq!(decided(&kept_up(ours)), Decision { lease: LeaseStep::Renew, ..takes_again(None) });
}

#[test]
fn a_leader_keeps_its_validity_until_it_has_taken_the_lock_again() {
    let observation = forgot(renewed(seen(wiped(), primary()), 9), 0);
    let unanswered = after(&observation, LeaseOutcome::Unknown);
    assert_eq!(decided(&kept_up(unanswered)), takes_again(None));
    let until = second(1_030);
    let held = after(&observation, LeaseOutcome::Held { until });
    assert_eq!((held.memory.lease_valid_until, held.memory.amnesia), (Some(until), None));
}

#[test]
fn a_leader_whose_lock_has_run_out_stops_and_takes_nothing() {
    for cluster in [wiped(), restored("a", Holder::Us)] {
        let decision = decided(&forgot(renewed(seen(cluster, primary()), 28), 0));
        assert!(matches!(decision.postgres, PostgresStep::Stop { .. }), "{decision:?}");
        assert_eq!(decision.lease, LeaseStep::Keep);
    }
}

#[test]
fn a_new_agent_takes_the_lock_again_as_long_as_pid_1_guards_it() {
    let mut observation = forgot(seen(wiped(), primary()), 0);
    observation.local.guard = Guard::Until(second(1_020));
    assert_eq!(decided(&kept_up(observation.clone())), takes_again(None));
    observation.local.guard = Guard::Until(second(1_001));
    assert!(matches!(decided(&observation).postgres, PostgresStep::Stop { .. }));
}

#[test]
fn a_lock_that_somebody_has_taken_since_is_theirs() {
    let mut observation = forgot(renewed(seen(wiped(), primary()), 9), 0);
    observation.cluster = Ok(ClusterView { lock_revision: Some(Revision(3)), ..view(Some(("b", Holder::Other))) });
    let decision = decided(&observation);
    assert!(matches!(decision.postgres, PostgresStep::Stop { .. }), "{decision:?}");
    assert_eq!(after(&observation, LeaseOutcome::None).memory.lease_valid_until, None);
}

#[test]
fn a_lock_is_not_taken_over_a_leader_on_a_newer_timeline() {
    let mut cluster = restored("b", Holder::Other);
    left_timeline(&mut cluster, 1);
    let decision = decided(&forgot(renewed(seen(cluster, primary()), 9), 0));
    assert!(matches!(decision.postgres, PostgresStep::Stop { .. }), "{decision:?}");
}

#[test]
fn a_standby_gives_a_lock_back_that_only_the_store_remembers() {
    let decision = decided(&forgot(seen(restored("a", Holder::Us), standby_at(1_000, "b")), 0));
    assert_eq!(decision.lease, LeaseStep::Release { last_position: None });
    assert_eq!((decision.postgres, decision.reason), (PostgresStep::Leave, Reason::StoreForgot));
}

#[test]
fn a_standby_waits_a_ttl_before_it_races() {
    let race =
        |ago| decided(&forgot(answers(seen(view(None), standby_at(1_000, "b")), &[("b", 900), ("c", 900)]), ago));
    let waiting = race(29);
    assert_eq!((waiting.lease, waiting.reason), (LeaseStep::Keep, Reason::StoreForgot));
    assert_eq!(waiting.wake, Wake::At(second(1_001)));
    assert_eq!(race(30).lease, LeaseStep::Acquire { seen: FREE });
}

/// In Kubernetes a lock that nobody holds has a version too.
#[test]
fn a_lock_that_nobody_holds_is_taken_over_the_version_that_it_has() {
    let mut cluster = view(None);
    cluster.lock_revision = Some(Revision(50));
    let free = answers(seen(cluster, standby_at(1_000, "b")), &[("b", 900), ("c", 900)]);
    let taken = decided(&forgot(free, 30)).lease;
    assert_eq!(taken, LeaseStep::Acquire { seen: LockSeen { lock: Some(Revision(50)), ..FREE } });
}

#[test]
fn a_key_of_long_ago_is_nobodys_lock_until_it_has_outlived_a_ttl() {
    let follow = |ago| decided(&forgot(seen(restored("c", Holder::Other), standby_at(1_000, "b")), ago));
    assert_eq!(follow(29).reason, Reason::StoreForgot);
    assert_eq!(follow(30).reason, Reason::NewUpstream { leader: "c".into() });
}

#[test]
fn the_ttl_of_before_counts_where_it_was_longer() {
    let mut observation = seen(view(None), standby_at(1_000, "b"));
    let event = Event::StoreForgot { at: now(), ttl: policy().timing.ttl * 2, lock: None };
    observation.memory = note(observation.memory, &event);
    assert_eq!(observation.memory.amnesia.map(|amnesia| amnesia.until), Some(second(1_060)));
}

#[test]
fn what_the_store_says_of_a_former_hand_over_does_not_count() {
    let mut cluster = view(None);
    cluster.status.released_by = Some("b".into());
    request(&mut cluster, Some("b"), Some("a"));
    let observation = forgot(answers(seen(cluster, standby_at(1_000, "b")), &[("b", 2_000), ("c", 900)]), 30);
    assert_eq!(decided(&observation).reason, Reason::PeerAhead { peer: "b".into() });
}

#[test]
fn a_standby_says_whose_data_it_has_before_anybody_makes_another_cluster() {
    let decision = decided(&forgot(seen(wiped(), standby_at(1_000, "b")), 0));
    assert_eq!(decision.documents, [DocumentStep::SetInitialize(ID)]);
    let claimed = ClusterView { initialize: Initialize::InProgress(Holder::Other), ..wiped() };
    let mut observation = forgot(seen(claimed, standby_at(1_000, "b")), 0);
    assert_eq!(decided(&observation).documents, []);
    observation.memory.cluster = Some(ID);
    assert_eq!(decided(&observation).documents, [DocumentStep::SetInitialize(ID)]);
}

#[test]
fn an_empty_member_that_has_seen_a_cluster_makes_no_other() {
    let mut observation = seen(wiped(), Postgres::Stopped);
    observation.local.data = DataDir::Empty;
    assert_eq!(decided(&observation).reason, Reason::Bootstrapping);
    for ago in [0, 30, 300] {
        assert_eq!(decided(&forgot(observation.clone(), ago)).postgres, PostgresStep::Leave, "{ago}");
    }
    observation.cluster = Ok(view(None));
    let mut later = after(&observation, LeaseOutcome::None);
    later.cluster = Ok(wiped());
    assert_eq!(decided(&later).reason, Reason::NotInitializing);
    later.memory.cluster = None;
    later.memory.last_leader = Some("b".into());
    assert_eq!(decided(&later).reason, Reason::NotInitializing);
}

#[test]
fn data_of_another_cluster_take_no_lock_again() {
    let mut cluster = wiped();
    cluster.initialize = Initialize::Done(SystemId(7_000_000_000_000_000_001));
    let decision = decided(&forgot(renewed(seen(cluster, primary()), 9), 0));
    assert_eq!(decision.lease, LeaseStep::Keep);
}

#[test]
fn in_a_paused_cluster_a_valid_lock_is_taken_again_and_nothing_else_happens() {
    let paused = Policy { pause: Pause::Paused, ..policy() };
    let leader = forgot(renewed(seen(wiped(), primary()), 9), 0);
    let beside = Decision { slots: None, roles: RolesStep::Leave, ..decide(&paused, &leader) };
    assert_eq!(beside, takes_again(None));
    let late = forgot(renewed(seen(wiped(), primary()), 40), 0);
    assert_eq!((decide(&paused, &late).lease, decide(&paused, &late).postgres), (LeaseStep::Keep, PostgresStep::Leave));
}

#[test]
fn who_led_before_is_remembered_and_not_who_leads_by_an_old_key() {
    let mut observation = forgot(seen(restored("c", Holder::Other), standby_at(1_000, "b")), 0);
    observation.memory.last_leader = Some("b".into());
    let later = after(&observation, LeaseOutcome::None);
    assert_eq!(later.memory.last_leader, Some("b".into()));
    assert!(later.memory.unlocked_since.is_some());
    let mut taken = later;
    let mut cluster = restored("c", Holder::Other);
    cluster.lock_revision = Some(Revision(60));
    cluster.members.insert("c".into(), member("c", MemberRole::Primary));
    taken.cluster = Ok(cluster);
    let followed = after(&taken, LeaseOutcome::None);
    assert_eq!(decided(&followed).reason, Reason::NewUpstream { leader: "c".into() });
    assert_eq!((followed.memory.last_leader, followed.memory.unlocked_since), (Some("c".into()), None));
}

#[test]
fn a_lock_that_was_taken_and_given_up_within_the_ttl_is_not_raced_for_before_its_end() {
    // Whoever took it may have asked before the loss, and a leader that is cut off may be writable all the while.
    let after_it = |ago: u64| {
        let mut observation = forgot(seen(restored("c", Holder::Other), standby_at(1_000, "b")), ago);
        observation.cluster.as_mut().expect("there is a view").lock_revision = Some(Revision(60));
        let mut free = after(&observation, LeaseOutcome::None);
        free.memory.leader_record = LeaderRecord::Gone;
        free.cluster = Ok(view(None));
        decided(&answers(free, &[("b", 900), ("c", 900)]))
    };
    assert_eq!((after_it(29).lease, after_it(29).reason), (LeaseStep::Keep, Reason::StoreForgot));
    assert_eq!(after_it(30).lease, LeaseStep::Acquire { seen: FREE });
}

#[test]
fn a_member_that_is_asked_to_end_renews_no_lock_that_only_the_store_remembers() {
    let asked = |mut observation: Observation| {
        observation.requests.shutdown = Some(ShutdownRequest::Graceful);
        decided(&observation)
    };
    let unawares = forgot(seen(restored("a", Holder::Us), standby_at(1_000, "b")), 1);
    assert_eq!(asked(unawares).lease, LeaseStep::Keep);
    let by_our_own_clock = forgot(renewed(seen(restored("a", Holder::Us), primary()), 20), 1);
    assert_eq!(asked(by_our_own_clock).lease, LeaseStep::Renew);
}

#[test]
fn a_lock_that_only_the_store_remembers_is_not_renewed() {
    // PID 1 has a deadline: a former agent may have told this standby to promote, so the lock is not given back yet.
    let mut observation = forgot(seen(restored("a", Holder::Us), standby_at(1_000, "b")), 0);
    observation.local.guard = Guard::Until(second(1_001));
    let decision = decided(&observation);
    assert_eq!((decision.lease, decision.reason), (LeaseStep::Keep, Reason::StoreForgot));
}

#[test]
fn our_own_name_on_the_lock_counts_only_if_it_is_new_and_a_ttl_has_passed() {
    let revisited = |revision: u64, ago: u64| {
        let mut observation = forgot(seen(restored("a", Holder::Us), standby_at(1_000, "b")), ago);
        observation.cluster.as_mut().expect("there is a view").lock_revision = Some(Revision(revision));
        decided(&observation)
    };
    let given_back = LeaseStep::Release { last_position: None };
    for (revision, ago) in [(50, 29), (60, 29), (50, 30)] {
        assert_eq!(revisited(revision, ago).lease, given_back, "revision {revision}, {ago} s ago");
    }
    let taken = revisited(60, 30);
    assert_eq!((taken.lease, taken.reason), (LeaseStep::GiveBack { word: LastWord::Stands }, Reason::TakenUnawares));
}

#[test]
fn a_member_that_gave_way_before_the_loss_counts_again() {
    let mut cluster = view(None);
    cluster.status.gave_way = Some("b".into());
    let observation = forgot(answers(seen(cluster, standby_at(1_000, "b")), &[("b", 2_000), ("c", 900)]), 30);
    assert_eq!(decided(&observation).reason, Reason::PeerAhead { peer: "b".into() });
}

#[test]
fn a_stopped_member_starts_behind_nobody_rather_than_behind_a_leader_of_long_ago() {
    let start = |cluster: ClusterView, ago: u64| {
        let mut observation = forgot(seen(cluster, Postgres::Stopped), ago);
        observation.local.data = data(ClusterState::ShutDownInRecovery, RecoverySignal::Present);
        decided(&observation).postgres
    };
    let nobody = PostgresStep::Start(StartAs::Standby(Upstream::None));
    assert_eq!(start(restored("b", Holder::Other), 29), nobody);
    let upstream = Upstream::Member { name: "b".into(), address: address("b") };
    assert_eq!(start(restored("b", Holder::Other), 30), PostgresStep::Start(StartAs::Standby(upstream)));
}

#[test]
fn a_failover_that_was_asked_for_before_the_loss_does_not_count() {
    let mut cluster = view(None);
    request(&mut cluster, None, Some("a"));
    let observation = forgot(answers(seen(cluster, standby_at(1_000, "b")), &[("b", 900), ("c", 2_000)]), 30);
    assert_eq!(decided(&observation).reason, Reason::PeerAhead { peer: "c".into() });
}

#[test]
fn a_lock_is_taken_again_only_before_a_stop_would_have_to_begin() {
    assert_eq!(decided(&kept_up(forgot(renewed(seen(wiped(), primary()), 26), 0))), takes_again(None));
    let late = decided(&forgot(renewed(seen(wiped(), primary()), 27), 0));
    assert!(matches!(late.postgres, PostgresStep::Stop { .. }), "{late:?}");
}

#[test]
fn in_a_pause_a_key_that_only_the_store_remembers_is_not_taken_over() {
    let paused = Policy { pause: Pause::Paused, ..policy() };
    let late = forgot(seen(restored("a", Holder::Us), primary()), 30);
    // It fails as long as the key is there, which nobody renews.
    assert_eq!(decide(&paused, &late).lease, LeaseStep::Acquire { seen: FREE });
}

/// b has taken the lock since, and the ttl is over.
#[test]
fn requests_and_releases_of_before_do_not_count_until_somebody_has_led() {
    let leads = |role: MemberRole| {
        let mut observation = forgot(seen(restored("c", Holder::Other), standby_at(1_000, "b")), 31);
        let mut cluster = ClusterView { lock_revision: Some(Revision(60)), ..view(THEIRS) };
        cluster.members.insert("b".into(), member("b", role));
        observation.cluster = Ok(cluster);
        after(&observation, LeaseOutcome::None)
    };
    assert_eq!(leads(MemberRole::Primary).memory.amnesia, None);
    let mut later = leads(MemberRole::Replica);
    assert!(later.memory.amnesia.is_some());
    let mut cluster = view(None);
    cluster.members.remove(&"b".into());
    request(&mut cluster, Some("c"), Some("a"));
    cluster.status.released_by = Some("c".into());
    later.cluster = Ok(cluster);
    assert_eq!(decided(&later).reason, Reason::AskingPeers);
    later.memory.amnesia = None;
    assert_eq!(decided(&later).reason, Reason::Acquiring, "the request is carried out");
}
