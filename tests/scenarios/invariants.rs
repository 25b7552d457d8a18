//! What no decision may ask for, whatever was seen: the judge of all other tests.

use tamada::core::decision::{Decision, LeaseStep, PostgresStep, Wake};
use tamada::core::invariants::{is_safe, one_writable};
use tamada::core::local::{Postgres, StartAs};
use tamada::core::observation::Observation;
use tamada::core::policy::{Mode, Pause, Policy};
use tamada::core::reason::Reason;
use tamada::core::view::Holder;

use super::build::*;

const OURS: Option<(&str, Holder)> = Some(("a", Holder::Us));

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

    let takes = deciding(LeaseStep::Acquire { seen: None }, PostgresStep::Leave);
    assert!(judged(&seen(view(None), primary()), &takes).is_ok());
    assert!(judged(&outage(seen(view(None), primary())), &takes).is_err(), "nobody has looked at the lock");

    for other in [Policy { mode: Mode::Single, ..policy() }, Policy { pause: Pause::Paused, ..policy() }] {
        assert!(is_safe(&other, &serving, &gives_up).is_ok(), "{:?} {:?}", other.mode, other.pause);
    }
}
