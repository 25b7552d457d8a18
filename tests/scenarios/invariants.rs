//! What no decision may ask for, whatever was seen: the judge of all other tests.

use tamada::core::decision::{Decision, LeaseStep, PostgresStep, RolesStep, ScheduleStep, Wake};
use tamada::core::invariants::{is_safe, one_writable};
use tamada::core::local::{Job, LastRole, Postgres, RunningJob, StartAs};
use tamada::core::observation::Observation;
use tamada::core::policy::{Mode, Pause, Policy, SlotSettings, Switch};
use tamada::core::reason::Reason;
use tamada::core::slots::{SlotWanted, SlotsWanted};
use tamada::core::units::Lsn;

use super::build::*;

fn deciding(lease: LeaseStep, postgres: PostgresStep) -> Decision {
    Decision { lease, postgres, ..Decision::idle(Reason::Starting, Wake::Now) }
}

fn release() -> LeaseStep {
    LeaseStep::Release { last_position: None }
}

#[test]
fn two_servers_that_take_writes_are_one_too_many() {
    assert!(one_writable([]).is_ok() && one_writable(["a"]).is_ok());
    assert_eq!(one_writable(["a", "b"]), Err("two writable primaries [\"a\", \"b\"]".to_owned()));
}

#[test]
fn a_decision_that_breaks_a_rule_is_refused() {
    let held = renewed(seen(view(OURS), Postgres::Stopped), 1);
    let judged = |seen: &Observation, decision: &Decision| is_safe(&policy(), seen, decision);
    let start = PostgresStep::Start(StartAs::Primary);

    let gives_up = deciding(release(), PostgresStep::Leave);
    assert!(judged(&held, &gives_up).is_ok());
    let serving = renewed(seen(view(OURS), primary()), 1);
    assert!(judged(&serving, &gives_up).is_err(), "PostgreSQL is not stopped");

    let begins = deciding(LeaseStep::Keep, start.clone());
    assert!(judged(&held, &begins).is_ok());
    let unconfirmed = seen(view(OURS), Postgres::Stopped);
    for without in [unconfirmed, outage(held.clone()), seen(view(None), Postgres::Stopped)] {
        assert!(judged(&without, &begins).is_err(), "there is no lock that is confirmed");
    }
    assert!(judged(&held, &deciding(release(), start)).is_err(), "the lock is given up at the same time");

    let takes = deciding(LeaseStep::Acquire { seen: FREE }, PostgresStep::Leave);
    assert!(judged(&seen(view(None), primary()), &takes).is_ok());
    assert!(judged(&outage(seen(view(None), primary())), &takes).is_err(), "nobody has looked at the lock");

    for other in [Policy { mode: Mode::Single, ..policy() }, Policy { pause: Pause::Paused, ..policy() }] {
        assert!(is_safe(&other, &serving, &gives_up).is_ok(), "{:?} {:?}", other.mode, other.pause);
    }
}

/// What a leader's server is to have: slots of b and c.
fn slots() -> SlotsWanted {
    let physical = ["b", "c"].map(|name| (name.to_owned(), SlotWanted::Streams)).into();
    let (logical, source, ignored) = Default::default();
    SlotsWanted { role: LastRole::Primary, physical, logical, source, pause: Pause::Running, ignored }
}

fn idle() -> Decision {
    deciding(LeaseStep::Keep, PostgresStep::Leave)
}

#[test]
fn what_goes_on_beside_a_decision_keeps_out_of_the_way_of_a_job() {
    let leads = renewed(seen(view(OURS), primary()), 1);
    let mut busy = leads.clone();
    busy.local.job = Some(RunningJob { job: Job::Recover, since: now() });
    let besides = [
        Decision { slots: Some(slots()), ..idle() },
        Decision { roles: RolesStep::Ensure, ..idle() },
        Decision { schedule: ScheduleStep::Begin, ..idle() },
    ];
    for beside in besides {
        assert_eq!(is_safe(&policy(), &leads, &beside), Ok(()));
        assert!(is_safe(&policy(), &busy, &beside).is_err(), "{beside:?}");
        let restarts = Decision { postgres: PostgresStep::Restart(StartAs::Primary), ..beside };
        assert!(is_safe(&policy(), &leads, &restarts).is_err(), "{restarts:?}");
    }
    assert_eq!(is_safe(&policy(), &busy, &idle()), Ok(()));
}

#[test]
fn no_scheduled_restart_begins_in_a_pause_or_with_a_release() {
    let begins = Decision { schedule: ScheduleStep::Begin, ..idle() };
    let stopped = renewed(seen(view(OURS), Postgres::Stopped), 1);
    assert_eq!(is_safe(&policy(), &stopped, &begins), Ok(()));
    assert!(is_safe(&policy(), &stopped, &Decision { lease: release(), ..begins.clone() }).is_err());
    let paused = Policy { pause: Pause::Paused, ..policy() };
    assert!(is_safe(&paused, &stopped, &begins).is_err());
    assert_eq!(is_safe(&paused, &stopped, &idle()), Ok(()));
}

#[test]
fn no_slot_is_missing_that_a_member_streams_from() {
    let judged = |policy: &Policy, change: &dyn Fn(&mut Observation, &mut SlotsWanted)| {
        let (mut observation, mut wanted) = (renewed(seen(view(OURS), primary()), 1), slots());
        change(&mut observation, &mut wanted);
        is_safe(policy, &observation, &Decision { slots: Some(wanted), ..idle() })
    };
    assert_eq!(judged(&policy(), &|_, _| {}), Ok(()));
    let without_c = |_: &mut Observation, wanted: &mut SlotsWanted| {
        wanted.physical.remove("c");
    };
    assert!(judged(&policy(), &without_c).is_err());
    let of_standby = |_: &mut Observation, wanted: &mut SlotsWanted| {
        wanted.physical.remove("c");
        wanted.role = LastRole::Standby;
    };
    assert_eq!(judged(&policy(), &of_standby), Ok(()));
    let streams_from_nobody = |observation: &mut Observation, wanted: &mut SlotsWanted| {
        wanted.physical.remove("c");
        let cluster = observation.cluster.as_mut().expect("there is a view");
        cluster.members.get_mut(&"c".into()).expect("a member").tags.nostream = true;
    };
    assert_eq!(judged(&policy(), &streams_from_nobody), Ok(()));
    let unused = SlotSettings { use_slots: Switch::Off, ..SlotSettings::default() };
    assert_eq!(judged(&Policy { slots: unused, ..policy() }, &without_c), Ok(()));
    assert!(judged(&Policy { mode: Mode::Single, ..policy() }, &|_, _| {}).is_err());
    assert!(judged(&Policy { pause: Pause::Paused, ..policy() }, &|_, _| {}).is_err(), "they would be dropped");
}

#[test]
fn no_slot_is_moved_on_to_a_position_that_the_leader_has_not_published() {
    let judged = |position: Option<u64>| {
        let mut observation = renewed(seen(view(OURS), primary()), 1);
        observation.cluster.as_mut().expect("there is a view").status.slots.insert("c".to_owned(), Lsn(60));
        let mut wanted = slots();
        wanted.role = LastRole::Standby;
        wanted.physical.insert("c".to_owned(), SlotWanted::Kept(position.map(Lsn)));
        is_safe(&policy(), &observation, &Decision { slots: Some(wanted), ..idle() })
    };
    assert_eq!((judged(None), judged(Some(60))), (Ok(()), Ok(())));
    assert!(judged(Some(59)).is_err() && judged(Some(61)).is_err());
}
