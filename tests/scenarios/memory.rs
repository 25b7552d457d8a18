//! What one cycle leaves for the next, and what ends in between.

use std::time::Duration;

use tamada::core::decision::Wake;
use tamada::core::local::{
    CloneFrom, CloneSource, Job, Postgres, Reinit, RunningJob, StartAs, StopMode, StopWhy, Upstream,
};
use tamada::core::observation::{
    Amnesia, Backoff, Clearance, Event, FinishedJob, FirstCycle, Handover, HandoverPurpose, HandoverStage, JobProduct,
    JobResult, LeaseOutcome, LockLost, Memory, Observation, Outcome, PeerAnswer, Recovered,
};
use tamada::core::reason::Reason;
use tamada::core::units::{Instant, Lsn, MemberName, Revision, SystemId};
use tamada::core::view::{AfterPromote, Holder, Initialize, MemberRole};
use tamada::core::{learn, next_wake, note};

use super::build::*;

fn outcome(lease: LeaseOutcome, started: Option<Job>) -> Outcome {
    Outcome { now: now(), lease, started, asked: None, reason: Reason::Starting }
}

fn learned(seen: &Observation) -> Memory {
    learn(seen.memory.clone(), seen, &outcome(LeaseOutcome::None, None))
}

fn learned_lease(seen: &Observation, lease: LeaseOutcome) -> Memory {
    learn(seen.memory.clone(), seen, &outcome(lease, None))
}

fn started(seen: &Observation, job: Job) -> Memory {
    learn(seen.memory.clone(), seen, &outcome(LeaseOutcome::None, Some(job)))
}

fn ended(memory: Memory, job: Job, result: JobResult) -> Memory {
    note(memory, &Event::JobEnded(FinishedJob { job, at: now(), result }))
}

fn failed() -> JobResult {
    JobResult::Failed("it went wrong".to_owned())
}

fn done() -> JobResult {
    JobResult::Done(JobProduct::Nothing)
}

fn stop(why: StopWhy) -> Job {
    Job::Stop { mode: StopMode::Fast, why }
}

fn source() -> CloneSource {
    CloneSource { name: "b".into(), address: address("b"), kind: CloneFrom::Leader }
}

fn handover(stage: HandoverStage) -> Handover {
    let purpose = HandoverPurpose::Switchover;
    Handover { purpose, candidate: None, since: second(990), stage, best: None }
}

fn confirming() -> HandoverStage {
    HandoverStage::Confirming { position: Lsn(1_000), since: second(999) }
}

#[test]
fn a_renewal_without_an_answer_is_tried_again_soon_and_an_awaited_one_ends_the_wait() {
    let wakes =
        |wake: Wake, lease: LeaseOutcome, reason: Reason| next_wake(wake, &Outcome { reason, ..outcome(lease, None) });
    let (later, soon) = (Wake::At(second(1_010)), Wake::At(Instant::from_millis(1_000_500)));
    let sooner = Wake::At(Instant::from_millis(1_000_100));
    for unknown in [LeaseOutcome::Unknown, LeaseOutcome::ReleaseUnknown] {
        assert_eq!(wakes(later, unknown.clone(), Reason::Starting), soon);
        assert_eq!(wakes(sooner, unknown.clone(), Reason::Starting), sooner);
        assert_eq!(wakes(Wake::Now, unknown, Reason::Starting), soon, "not at once, or it would never rest");
    }
    assert_eq!(wakes(later, LeaseOutcome::Lost, Reason::Starting), Wake::Now);
    let held = LeaseOutcome::Held { until: second(1_030) };
    assert_eq!(wakes(later, held.clone(), Reason::ConfirmingLock), Wake::Now);
    assert_eq!(wakes(later, held, Reason::Starting), later);
    assert_eq!(wakes(later, LeaseOutcome::None, Reason::ConfirmingLock), later);
}

#[test]
fn failures_are_tried_again_after_ever_longer_up_to_half_a_minute() {
    let mut memory = Memory::default();
    for (failures, millis) in [(1, 500), (2, 1_000), (3, 2_000), (4, 4_000), (5, 8_000), (6, 16_000), (7, 30_000)] {
        memory = ended(memory, Job::Recover, failed());
        assert_eq!(memory.backoff, Some(Backoff { failures, until: now() + Duration::from_millis(millis) }));
    }
    for _ in 0..60 {
        memory = ended(memory, Job::Recover, failed());
    }
    assert_eq!(memory.backoff, Some(Backoff { failures: 67, until: second(1_030) }));
    // A stop mends nothing, and what was cut short tells nothing.
    for kept in [
        ended(memory.clone(), stop(StopWhy::Rejoin), done()),
        ended(memory.clone(), Job::Recover, JobResult::Cancelled),
    ] {
        assert_eq!(kept.backoff, memory.backoff);
    }
    assert_eq!(ended(memory, Job::Follow(Upstream::None), done()).backoff, None);
}

#[test]
fn what_a_repair_brought_is_kept_and_what_failed_is_counted() {
    let rewind = Job::Rewind { from: "b".into() };
    let twice = ended(ended(Memory::default(), rewind.clone(), failed()), rewind.clone(), failed());
    assert_eq!(twice.failed_rewinds, 2);
    let cleared = Some(Clearance { leader: "b".into(), at: now() });
    let rewound = ended(twice.clone(), rewind, done());
    assert_eq!((rewound.failed_rewinds, &rewound.cleared_for), (0, &cleared));

    let twice = ended(ended(twice, Job::Recover, failed()), Job::Recover, failed());
    assert_eq!((twice.failed_recoveries, twice.recovered), (2, Recovered::No));
    let recovered = ended(twice.clone(), Job::Recover, done());
    assert_eq!((recovered.failed_recoveries, recovered.recovered), (0, Recovered::Yes));

    for clone in [Job::Clone { from: source() }, Job::Reinitialize { from: source(), why: Reinit::Diverged }] {
        let before = Memory { recovered: Recovered::Yes, bootstrapped: Some(ID), ..twice.clone() };
        let cloned = ended(before, clone, done());
        assert_eq!((cloned.failed_rewinds, cloned.failed_recoveries, cloned.recovered), (0, 0, Recovered::No));
        assert_eq!((cloned.bootstrapped, &cloned.cleared_for), (None, &cleared));
    }
    let made = ended(Memory::default(), Job::Bootstrap, JobResult::Done(JobProduct::Initialized(ID)));
    assert_eq!(made.bootstrapped, Some(ID));
    assert_eq!(
        note(Memory { checkpoint: AfterPromote::Pending, ..made }, &Event::CheckpointDone).checkpoint,
        AfterPromote::Done
    );
}

#[test]
fn a_shorter_ttl_shortens_what_is_known_of_the_lease_and_a_longer_one_does_not_lengthen_it() {
    let after = |ttl: u64, until: Option<u64>| {
        let memory = Memory { lease_valid_until: until.map(second), ..Memory::default() };
        note(memory, &Event::TtlChanged { at: now(), ttl: Duration::from_secs(ttl) }).lease_valid_until
    };
    assert_eq!(after(10, Some(1_025)), Some(second(1_010)));
    assert_eq!(after(60, Some(1_025)), Some(second(1_025)));
    assert_eq!(after(10, None), None);
}

#[test]
fn a_stop_for_a_hand_over_leads_to_its_confirmation_only_if_it_ended_in_order() {
    let before = || Memory { handover: Some(handover(HandoverStage::Stopping)), ..Memory::default() };
    let stage =
        |result: JobResult| ended(before(), stop(StopWhy::Handover), result).handover.map(|handover| handover.stage);
    let position = JobResult::Done(JobProduct::StoppedAt(Lsn(1_000)));
    assert_eq!(stage(position), Some(HandoverStage::Confirming { position: Lsn(1_000), since: now() }));
    assert_eq!(stage(JobResult::Cancelled), Some(HandoverStage::Stopping), "a harder stop follows");
    assert_eq!((stage(failed()), stage(done())), (None, None));
    let other = ended(before(), Job::Follow(Upstream::None), failed());
    assert!(other.handover.is_some() && other.finished.is_some());
}

#[test]
fn a_stop_of_a_leader_begins_a_hand_over() {
    let mut cluster = view(OURS);
    request(&mut cluster, Some("a"), Some("b"));
    let leads = renewed(seen(cluster, primary()), 1);
    let begun = |seen: &Observation, why: StopWhy| started(seen, stop(why)).handover;
    let since = |purpose, candidate: Option<&str>| {
        let candidate = candidate.map(Into::into);
        Some(Handover { purpose, candidate, since: now(), stage: HandoverStage::Stopping, best: None })
    };
    assert_eq!(begun(&leads, StopWhy::Handover), since(HandoverPurpose::Switchover, Some("b")));
    assert_eq!(begun(&leads, StopWhy::Shutdown), since(HandoverPurpose::Shutdown, None));
    for other in [StopWhy::LostLock, StopWhy::Refused, StopWhy::Rejoin] {
        let mut under_way = leads.clone();
        under_way.memory.handover = Some(handover(HandoverStage::Stopping));
        assert_eq!(begun(&under_way, other), None, "{other:?}");
    }
    let mut standby = leads.clone();
    standby.local.postgres = standby_at(500, "b");
    let mut unlocked = leads.clone();
    unlocked.memory.lease_valid_until = None;
    for none in [standby, unlocked] {
        assert_eq!(begun(&none, StopWhy::Handover), None);
        // One that is under way changes its purpose: the person who waits is another.
        let mut under_way = none;
        under_way.memory.handover = Some(handover(confirming()));
        let purpose = begun(&under_way, StopWhy::Shutdown).map(|handover| (handover.purpose, handover.stage));
        assert_eq!(purpose, Some((HandoverPurpose::Shutdown, confirming())));
    }
    let mut cut_off = outage(leads);
    assert_eq!(begun(&cut_off, StopWhy::Shutdown), since(HandoverPurpose::Shutdown, None));
    cut_off.memory.lease_valid_until = Some(now());
    assert_eq!(begun(&cut_off, StopWhy::Shutdown), None);
}

#[test]
fn a_hand_over_is_over_when_another_leads_or_nobody_has_come() {
    let kept = |stage: HandoverStage, leader| {
        let mut observation = seen(view(leader), Postgres::Stopped);
        observation.memory.handover = Some(handover(stage));
        learned(&observation).handover.is_some()
    };
    for stage in [HandoverStage::Stopping, confirming(), HandoverStage::Released { at: second(999) }] {
        assert!(kept(stage, None) && kept(stage, OURS) && !kept(stage, THEIRS), "{stage:?}");
    }
    assert!(kept(HandoverStage::Released { at: second(998) }, None));
    assert!(!kept(HandoverStage::Released { at: second(997) }, None));
    for job in [Job::Promote, Job::Start(StartAs::Primary)] {
        let mut again = seen(view(OURS), Postgres::Stopped);
        again.memory.handover = Some(handover(confirming()));
        assert_eq!(started(&again, job).handover, None);
    }
}

#[test]
fn the_best_position_of_a_candidate_and_when_it_came_are_kept() {
    let best = |positions: &[(&str, u64)], before: Option<u64>, candidate: Option<&str>, asked_at: u64| {
        let mut observation = answers(seen(view(OURS), Postgres::Stopped), positions);
        for report in observation.peers.values_mut() {
            report.asked_at = second(asked_at);
        }
        let best = before.map(|position| (Lsn(position), second(995)));
        let candidate = candidate.map(Into::into);
        observation.memory.handover = Some(Handover { candidate, best, ..handover(confirming()) });
        learned(&observation).handover.and_then(|handover| handover.best).map(|(position, at)| (position.0, at))
    };
    let both = [("b", 800), ("c", 900)];
    assert_eq!(best(&both, None, None, 999), Some((900, now())));
    assert_eq!(best(&both, None, Some("b"), 999), Some((800, now())), "only the one that is named");
    assert_eq!(best(&both, None, None, 998), None, "they answered before the stop");
    assert_eq!(best(&both, Some(850), None, 1_000), Some((900, now())));
    assert_eq!(best(&both, Some(900), None, 1_000), Some((900, second(995))), "nothing has come since");
    let mut barred = answers(seen(view(OURS), Postgres::Stopped), &[("b", 900)]);
    if let Some(PeerAnswer::Status(status)) = barred.peers.get_mut(&"b".into()).map(|report| &mut report.answer) {
        status.tags.failover_priority = 0;
    }
    barred.memory.handover = Some(handover(confirming()));
    assert_eq!(learned(&barred).handover.and_then(|handover| handover.best), None);
}

#[test]
fn what_a_view_says_of_the_leader_and_the_cluster_is_remembered() {
    let mut led = seen(view(THEIRS), standby_at(500, "b"));
    led.memory.unlocked_since = Some(second(990));
    let memory = learned(&led);
    assert_eq!((memory.unlocked_since, memory.last_leader.as_ref()), (None, Some(&"b".into())));
    assert_eq!((memory.last_members.len(), memory.cluster, memory.first_cycle), (3, Some(ID), FirstCycle::Done));
    let mut free = seen(view(None), standby_at(500, "b"));
    assert_eq!(learned(&free).unlocked_since, Some(now()));
    free.memory.unlocked_since = Some(second(990));
    let unlocked = learned(&free);
    assert_eq!(unlocked.unlocked_since, Some(second(990)));
    // Somebody has led since, whom this member has not seen.
    let mut led_since = Observation { memory: unlocked, ..free.clone() };
    assert_eq!(learned(&led_since).unlocked_since, Some(second(990)));
    led_since.cluster.as_mut().expect("there is a view").status.optime = Some(Lsn(700));
    assert_eq!(learned(&led_since).unlocked_since, Some(now()));
    let nothing = learned(&outage(free));
    assert_eq!((nothing.first_cycle, nothing.cluster), (FirstCycle::Pending, None));
    // What a store that has lost its data says does not count.
    let mut forgot = seen(view(THEIRS), standby_at(500, "b"));
    forgot.memory.amnesia = Some(Amnesia { until: second(1_010), lock: None });
    forgot.cluster.as_mut().expect("there is a view").lock_revision = None;
    let memory = learned(&forgot);
    assert_eq!((memory.cluster, memory.last_leader, memory.unlocked_since), (None, None, Some(now())));
}

#[test]
fn a_cluster_of_our_own_is_remembered_until_the_store_knows_it() {
    let after = |initialize: Initialize| {
        let mut observation = seen(view(None), primary());
        observation.cluster.as_mut().expect("there is a view").initialize = initialize;
        observation.memory.bootstrapped = Some(ID);
        learned(&observation).bootstrapped
    };
    assert_eq!(after(Initialize::Done(ID)), None);
    assert_eq!(after(Initialize::Done(SystemId(1))), Some(ID));
    assert_eq!(after(Initialize::InProgress(Holder::Us)), Some(ID));
}

#[test]
fn a_server_that_runs_has_been_repaired_but_not_while_a_job_is_under_way() {
    let after = |postgres: Postgres, job: Option<Job>| {
        let mut observation = seen(view(OURS), postgres);
        observation.local.job = job.map(|job| RunningJob { job, since: now() });
        observation.memory = Memory {
            primary_starts: 2,
            recovered: Recovered::Yes,
            failed_recoveries: 2,
            cleared_for: Some(Clearance { leader: "b".into(), at: second(990) }),
            checkpoint: AfterPromote::Pending,
            ..Memory::default()
        };
        let memory = learned(&observation);
        let repaired = (memory.primary_starts, memory.recovered, memory.failed_recoveries) == (0, Recovered::No, 0);
        (repaired, memory.cleared_for.is_none(), memory.checkpoint == AfterPromote::Done)
    };
    assert_eq!(after(primary(), None), (true, true, false));
    assert_eq!(after(standby_at(500, "b"), None), (true, false, true));
    for postgres in [primary(), standby_at(500, "b")] {
        assert_eq!(after(postgres, Some(Job::Promote)), (false, false, false));
    }
    assert_eq!(after(Postgres::Stopped, None), (false, false, false));
}

#[test]
fn starts_as_a_primary_are_counted_and_a_promotion_owes_a_checkpoint() {
    let mut down = seen(view(OURS), Postgres::Stopped);
    down.memory.primary_starts = 1;
    assert_eq!(started(&down, Job::Start(StartAs::Primary)).primary_starts, 2);
    assert_eq!(started(&down, Job::Start(StartAs::Standby(Upstream::None))).primary_starts, 1);
    assert_eq!(started(&down, Job::Promote).checkpoint, AfterPromote::Pending);
}

#[test]
fn a_lease_counts_from_its_renewal_and_no_longer_than_the_store_agrees() {
    let held = renewed(seen(view(OURS), primary()), 1);
    let until = Some(second(1_029));
    let mut forgot = held.clone();
    forgot.memory.lock_lost = LockLost::Yes;
    forgot.memory.amnesia = Some(Amnesia { until: second(1_010), lock: None });
    let memory = learned_lease(&forgot, LeaseOutcome::Held { until: second(1_040) });
    assert_eq!((memory.lease_valid_until, memory.lock_lost, memory.amnesia), (Some(second(1_040)), LockLost::No, None));
    let memory = learned_lease(&held, LeaseOutcome::Lost);
    assert_eq!((memory.lease_valid_until, memory.lock_lost), (None, LockLost::Yes));
    let mut stopped = held.clone();
    stopped.memory.handover = Some(handover(confirming()));
    let memory = learned_lease(&stopped, LeaseOutcome::Released);
    let stage = memory.handover.map(|handover| handover.stage);
    assert_eq!((memory.lease_valid_until, stage), (None, Some(HandoverStage::Released { at: now() })));
    let memory = learned_lease(&stopped, LeaseOutcome::ReleaseUnknown);
    assert_eq!((memory.lease_valid_until, memory.handover), (None, Some(handover(confirming()))));
    for silent in [LeaseOutcome::None, LeaseOutcome::Unknown] {
        assert_eq!(learned_lease(&held, silent.clone()).lease_valid_until, until);
        assert_eq!(learned_lease(&outage(held.clone()), silent.clone()).lease_valid_until, until);
        let theirs = Observation { cluster: Ok(view(THEIRS)), ..held.clone() };
        assert_eq!(learned_lease(&theirs, silent).lease_valid_until, None);
    }
}

#[test]
fn a_store_that_has_lost_its_data_takes_no_validity_away() {
    let after = |until: u64, amnesia: bool| {
        let mut observation = seen(view(None), primary());
        observation.memory.lease_valid_until = Some(second(until));
        observation.memory.amnesia = amnesia.then_some(Amnesia { until: second(1_010), lock: None });
        learned(&observation).lease_valid_until
    };
    assert_eq!(after(1_020, true), Some(second(1_020)));
    assert_eq!((after(1_000, true), after(1_020, false)), (None, None));
}

#[test]
fn a_lost_lock_is_remembered_until_postgresql_is_seen_to_be_no_primary() {
    let after = |postgres: Postgres| {
        let mut observation = seen(view(None), postgres);
        observation.memory.lock_lost = LockLost::Yes;
        learned(&observation).lock_lost
    };
    assert_eq!(after(primary()), LockLost::Yes);
    assert_eq!(after(Postgres::Stopping), LockLost::Yes);
    assert_eq!(after(Postgres::Stopped), LockLost::No);
    assert_eq!(after(standby_at(500, "b")), LockLost::No);
}

#[test]
fn a_leader_remembers_since_when_it_has_seen_a_request_and_nobody_else_does() {
    let mut cluster = view(OURS);
    request(&mut cluster, Some("a"), None);
    let mut observation = seen(cluster, primary());
    observation.memory = learned(&observation);
    assert_eq!(observation.memory.request, Some((Revision(7), now())));
    observation.now = second(1_003);
    observation.memory = learned(&observation);
    assert_eq!(observation.memory.request, Some((Revision(7), now())), "the same one");
    let another = observation.cluster.as_mut().expect("there").switchover.as_mut().expect("there");
    another.revision = Revision(8);
    observation.memory = learned(&observation);
    assert_eq!(observation.memory.request, Some((Revision(8), second(1_003))), "another one");

    let mut theirs = view(THEIRS);
    request(&mut theirs, Some("b"), None);
    assert_eq!(learned(&seen(theirs, primary())).request, None, "the lock is another member's");
    observation.local.postgres = Postgres::Stopped;
    assert_eq!(learned(&observation).request, None, "a leader that takes no writes answers no request");
}

#[test]
fn a_leader_whose_record_says_later_that_it_is_a_primary_is_no_new_one() {
    let mut observation = seen(view(THEIRS), standby_at(1_000, "b"));
    let role = |observation: &mut Observation, role| {
        let cluster = observation.cluster.as_mut().expect("there");
        cluster.members.get_mut(&MemberName::from("b")).expect("there").role = role;
    };
    role(&mut observation, MemberRole::Replica);
    observation.memory = learned(&observation);
    observation.cluster.as_mut().expect("there").leader = None;
    observation.memory = learned(&observation);
    assert_eq!(observation.memory.unlocked_since, Some(now()));
    observation.now = second(1_002);
    role(&mut observation, MemberRole::Primary);
    assert_eq!(learned(&observation).unlocked_since, Some(now()), "the ttl does not begin anew");
}
