//! What goes on beside the decisions: slots, roles, restarts at a time.

use tamada::core::decision::{Decision, LeaseStep, Overtaken, PostgresStep, RolesStep, ScheduleStep, Wake};
use tamada::core::local::{DataDir, Job, LastRole, Postgres, RunningJob};
use tamada::core::observation::{
    Event, Observation, Outcome, RestartConditions, RestartRequest, ScheduledRestart, ShutdownRequest,
};
use tamada::core::policy::{Mode, Pause, Policy};
use tamada::core::slots::SlotWanted;
use tamada::core::units::{Lsn, SystemId, WallTime};
use tamada::core::view::{Initialize, MemberRole};
use tamada::core::{decide, learn, note};

use super::build::*;

fn leading() -> Observation {
    renewed(seen(view(OURS), primary()), 4)
}

fn following() -> Observation {
    seen(view(THEIRS), standby_at(500, "b"))
}

fn busy(mut observation: Observation) -> Observation {
    observation.local.job = Some(RunningJob { job: Job::Recover, since: now() });
    observation
}

fn names(decision: &Decision) -> Vec<&str> {
    decision.slots.iter().flat_map(|slots| slots.physical.keys()).map(String::as_str).collect()
}

#[test]
fn a_leader_brings_the_slots_of_the_others_about_once() {
    let decision = decided(&leading());
    assert_eq!(names(&decision), ["b", "c"]);
    assert_eq!(decision.slots.map(|slots| slots.role), Some(LastRole::Primary));
    let kept = kept_up(leading());
    assert_eq!(decided(&kept).slots, None);
    let mut joined = kept;
    if let Ok(view) = &mut joined.cluster {
        view.members.insert("d".into(), member("d", MemberRole::Replica));
    }
    assert_eq!(names(&decided(&joined)), ["b", "c", "d"]);
}

#[test]
fn the_winner_of_the_lock_has_the_slots_made_with_it() {
    let mut observation = answers(seen(view(None), standby_at(500, "b")), &[("b", 500), ("c", 500)]);
    if let Ok(view) = &mut observation.cluster {
        view.status.retain_slots.insert("z".to_owned());
    }
    let decision = decided(&observation);
    assert!(matches!(decision.lease, LeaseStep::Acquire { .. }));
    assert_eq!(names(&decision), ["b", "c", "z"]);
    let slots = decision.slots.expect("some");
    assert_eq!((slots.role, slots.physical["b"]), (LastRole::Primary, SlotWanted::Streams));
}

#[test]
fn a_leader_keeps_what_it_retains_and_a_standby_what_the_leader_publishes() {
    let mut leads = leading();
    leads.retained_slots.insert("y".to_owned());
    assert_eq!(names(&decided(&leads)), ["b", "c", "y"]);
    let mut follows = following();
    follows.retained_slots.insert("y".to_owned());
    if let Ok(view) = &mut follows.cluster {
        view.status.retain_slots.insert("z".to_owned());
        view.status.slots.insert("c".to_owned(), Lsn(400));
    }
    let slots = decided(&follows).slots.expect("some");
    let expected = [("b", None), ("c", Some(Lsn(400))), ("z", None)];
    let expected = expected.map(|(name, at)| (name.to_owned(), SlotWanted::Kept(at)));
    assert_eq!(slots.physical, expected.into());
}

#[test]
fn nothing_is_kept_up_while_something_else_is_done_or_nobody_leads() {
    let outside = |observation: &Observation| {
        let decision = decided(observation);
        (decision.slots, decision.roles)
    };
    let nothing = (None, RolesStep::Leave);
    assert_eq!(outside(&busy(leading())), nothing);
    assert_eq!(outside(&outage(leading())), nothing);
    assert_eq!(outside(&seen(view(THEIRS), Postgres::Stopped)), nothing);
    assert_eq!(outside(&seen(view(THEIRS), standby_at(500, "c"))), nothing, "it changes whom it follows");
    assert_eq!(outside(&seen(view(None), standby_at(500, "b"))), nothing, "it asks the others first");
    let mut shut_down = leading();
    shut_down.requests.shutdown = Some(ShutdownRequest::Fast);
    assert_eq!(outside(&shut_down), nothing);
    let single = decide(&Policy { mode: Mode::Single, ..policy() }, &leading());
    assert_eq!((single.slots, single.roles), nothing);
}

#[test]
fn slots_are_looked_at_again_when_the_server_was_down() {
    let kept = kept_up(following());
    let stopped = Observation { local: seen(view(THEIRS), Postgres::Stopped).local, ..kept.clone() };
    let outcome = Outcome {
        now: now(),
        lease: tamada::core::observation::LeaseOutcome::None,
        started: None,
        asked: None,
        reason: decided(&stopped).reason,
    };
    assert_eq!(learn(kept.memory.clone(), &kept, &outcome).slots, kept.memory.slots);
    assert_eq!(learn(kept.memory.clone(), &stopped, &outcome).slots, None);
}

/// A try that failed half-way has changed some of them: what was wanted before is not there any more.
#[test]
fn slots_are_looked_at_again_after_a_try_that_did_not_end_well() {
    let mut kept = kept_up(leading());
    assert_eq!(decided(&kept).slots, None);
    let wanted = kept.memory.slots.clone().expect("they stand");
    kept.memory = note(kept.memory, &Event::SlotsTouched(wanted));
    assert_eq!(names(&decided(&kept)), ["b", "c"]);
}

#[test]
fn a_leader_creates_missing_roles_once_and_nobody_else_does() {
    assert_eq!(decided(&leading()).roles, RolesStep::Ensure);
    assert_eq!(decided(&kept_up(leading())).roles, RolesStep::Leave);
    assert_eq!(decided(&following()).roles, RolesStep::Leave);
    assert_eq!(decided(&seen(view(OURS), primary())).roles, RolesStep::Leave, "the lock is not confirmed");
    let run_out = renewed(seen(view(OURS), primary()), 30);
    assert_eq!(
        (decided(&run_out).roles, decided(&run_out).slots),
        (RolesStep::Leave, None),
        "the lease has just ended"
    );
}

/// A restart so many milliseconds from now, of the server that runs.
fn scheduled(observation: Observation, ahead: i64) -> Observation {
    let mut observation = kept_up(observation);
    let at = WallTime(observation.wall.0 + ahead);
    observation.local.about.started = Some("then".to_owned());
    let conditions = RestartConditions::default();
    observation.requests.scheduled = Some(ScheduledRestart { at, started: Some("then".to_owned()), conditions });
    observation
}

#[test]
fn a_scheduled_restart_is_begun_at_its_time() {
    let early = decided(&scheduled(following(), 3_000));
    assert_eq!((early.schedule, early.wake), (ScheduleStep::Keep, Wake::At(second(1_003))));
    let later = decided(&scheduled(following(), 60_000));
    assert_eq!(later.wake, decided(&following()).wake, "the cycle before it comes first");
    let due = decided(&scheduled(following(), 0));
    assert_eq!((due.schedule, due.postgres, due.wake), (ScheduleStep::Begin, PostgresStep::Leave, Wake::Now));
    let late = decided(&scheduled(following(), -15_001));
    assert_eq!(late.schedule, ScheduleStep::Drop(Overtaken::ByTime));
}

#[test]
fn a_scheduled_restart_waits_for_what_is_more_urgent() {
    let step = |observation: &Observation| decided(observation).schedule;
    assert_eq!(step(&busy(scheduled(leading(), 0))), ScheduleStep::Keep);
    assert_eq!(step(&outage(scheduled(leading(), 0))), ScheduleStep::Keep);
    assert_eq!(step(&scheduled(seen(view(None), standby_at(500, "b")), 0)), ScheduleStep::Keep, "nobody leads");
    assert_eq!(step(&scheduled(seen(view(THEIRS), standby_at(500, "c")), 0)), ScheduleStep::Keep);
    let paused = Policy { pause: Pause::Paused, ..policy() };
    assert_eq!(decide(&paused, &scheduled(leading(), 0)).schedule, ScheduleStep::Keep);
    let mut asked = scheduled(leading(), 0);
    asked.requests.restart = Some(RestartRequest { timeout: None });
    assert_eq!(step(&asked), ScheduleStep::Keep);
    let mut gives_way = scheduled(renewed(seen(view(OURS), Postgres::Stopped), 4), 0);
    gives_way.local.data = DataDir::Unusable("not readable".to_owned());
    assert!(matches!(decided(&gives_way).lease, LeaseStep::Release { .. }));
    assert_eq!(step(&gives_way), ScheduleStep::Keep);
}

#[test]
fn a_scheduled_restart_means_the_server_that_it_was_asked_of() {
    let mut restarted = scheduled(leading(), 60_000);
    restarted.local.about.started = Some("since".to_owned());
    let overtaken = Overtaken::ByAnotherRestart { at: "since".to_owned() };
    assert_eq!(decided(&restarted).schedule, ScheduleStep::Drop(overtaken));
    let with = |conditions: RestartConditions| {
        let mut observation = scheduled(leading(), 0);
        (observation.local.about.role, observation.local.about.version) = (MemberRole::Primary, Some(150_020));
        observation.requests.scheduled.as_mut().expect("scheduled").conditions = conditions;
        decided(&observation).schedule
    };
    let dropped = ScheduleStep::Drop(Overtaken::ByConditions);
    assert_eq!(with(RestartConditions { role: Some(MemberRole::Replica), ..Default::default() }), dropped);
    assert_eq!(with(RestartConditions { role: Some(MemberRole::Primary), ..Default::default() }), ScheduleStep::Begin);
    assert_eq!(with(RestartConditions { older_than: Some(150_020), ..Default::default() }), dropped);
    assert_eq!(with(RestartConditions { older_than: Some(150_021), ..Default::default() }), ScheduleStep::Begin);
    assert_eq!(with(RestartConditions { is_pending: true, ..Default::default() }), dropped);
}

#[test]
fn a_scheduled_restart_waits_for_one_that_was_asked_for_and_for_the_end_of_the_agent() {
    let starting = Postgres::Starting { since: now(), role: LastRole::Standby };
    let mut asked = scheduled(seen(view(THEIRS), starting), 0);
    asked.requests.restart = Some(RestartRequest { timeout: None });
    let decision = decided(&asked);
    assert_eq!((decision.schedule, decision.postgres), (ScheduleStep::Keep, PostgresStep::Leave));
    let mut refused = scheduled(following(), 0);
    refused.cluster.as_mut().expect("there is a view").initialize = Initialize::Done(SystemId(1));
    assert!(decided(&refused).exit.is_some());
    assert_eq!(decided(&refused).schedule, ScheduleStep::Keep);
}
