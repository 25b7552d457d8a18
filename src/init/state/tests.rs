use super::*;

const CRASH: Ended = Ended::Killed(9);

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn until(millis: u64) -> Guard {
    Guard::Until(millis * 1_000_000)
}

fn running() -> State {
    let mut state = State::new(Place::Init);
    assert_eq!(state.due(at(0)), Some(Due::StartAgent));
    state.agent_started(at(0));
    state.heard(ToInit::Ready, at(1));
    state
}

#[test]
fn fences_when_the_deadline_has_passed_and_not_before() {
    let mut state = running();
    state.left_in_force(until(20_000));
    assert_eq!((state.due(at(30_000)), state.wake_at()), (None, None), "the timer tells");
    state.deadline_passed();
    assert_eq!(state.due(at(20_000)), Some(Due::Fence));
    state.fenced(at(20_000));
    assert_eq!(state.due(at(20_000)), Some(Due::StartAgent));
    assert_eq!(state.guard, Guard::NoDeadline);
}

#[test]
fn a_crash_leaves_deadline_and_lease_as_they_are() {
    let mut state = running();
    state.heard(ToInit::Lease(LeaseToken::new(b"42")), at(1_000));
    state.left_in_force(until(20_000));
    let end = state.agent_ended(CRASH, Postmaster::Runs, at(5_000));
    assert_eq!(end, AgentEnd::Restart(Duration::ZERO));
    assert_eq!(state.due(at(5_000)), Some(Due::StartAgent));
    state.agent_started(at(5_000));
    assert_eq!((state.lease, state.starts, state.guard), (LeaseToken::new(b"42"), 2, until(20_000)));
}

#[test]
fn a_deadline_that_passes_between_two_agents_goes_first() {
    let mut state = running();
    state.left_in_force(until(20_000));
    state.agent_ended(CRASH, Postmaster::Runs, at(20_000));
    state.deadline_passed();
    assert_eq!(state.due(at(20_000)), Some(Due::Fence));
}

#[test]
fn quick_crashes_are_answered_with_growing_delays() {
    let mut state = running();
    let mut now = at(100);
    let mut delays = Vec::new();
    for _ in 0..9 {
        match state.agent_ended(CRASH, Postmaster::Runs, now) {
            AgentEnd::Restart(delay) => delays.push(delay.as_millis()),
            other => panic!("{other:?}"),
        }
        now += at(5_000);
        state.agent_started(now);
        now += at(100);
    }
    assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    now += at(2_000);
    assert_eq!(state.agent_ended(CRASH, Postmaster::Runs, now), AgentEnd::Restart(Duration::ZERO), "it lived long");
}

#[test]
fn a_primary_does_not_wait_long_for_its_agent() {
    let mut state = running();
    state.left_in_force(until(1_000_000));
    for _ in 0..30 {
        match state.agent_ended(CRASH, Postmaster::Runs, at(10)) {
            AgentEnd::Restart(delay) => assert!(delay <= at(500), "{delay:?}"),
            other => panic!("{other:?}"),
        }
        state.agent_started(at(10));
    }
}

#[test]
fn gives_up_when_the_agent_never_comes_up_and_nothing_runs() {
    let mut state = running();
    for _ in 1..QUICK_ENDS_MAX {
        assert!(matches!(state.agent_ended(Ended::Exited(101), Postmaster::None, at(10)), AgentEnd::Restart(_)));
        state.agent_started(at(10));
    }
    assert_eq!(state.agent_ended(Ended::Exited(101), Postmaster::None, at(10)), AgentEnd::GivenUp);
    assert_eq!(state.due(at(10)), Some(Due::Leave(101)));
}

#[test]
fn an_agent_that_cannot_be_executed_is_not_tried_again() {
    let mut state = State::new(Place::Init);
    state.agent_started(at(0));
    assert_eq!(state.agent_ended(Ended::Exited(126), Postmaster::None, at(1)), AgentEnd::GivenUp);
    assert_eq!(state.due(at(1)), Some(Due::Leave(126)));
}

#[test]
fn no_process_to_be_had_is_no_reason_to_give_up() {
    let mut state = State::new(Place::Init);
    for tries in 0..100 {
        assert_eq!(state.due(at(tries * 10_000)), Some(Due::StartAgent));
        state.start_failed(at(tries * 10_000));
    }
}

#[test]
fn leaves_with_the_code_of_the_agents_goodbye() {
    let mut state = running();
    state.heard(ToInit::Bye(64), at(100));
    assert_eq!(state.due(at(100)), None, "not before its process has ended");
    assert_eq!(state.agent_ended(Ended::Exited(64), Postmaster::None, at(200)), AgentEnd::Expected);
    assert_eq!(state.due(at(200)), Some(Due::Leave(64)));
}

#[test]
fn stops_what_the_agent_left_behind() {
    let mut state = running();
    state.heard(ToInit::Bye(1), at(100));
    assert_eq!(state.agent_ended(Ended::Exited(1), Postmaster::Runs, at(200)), AgentEnd::StopPostgres);
    assert_eq!(state.due(at(200)), None);
    assert_eq!(state.due(at(60_200)), Some(Due::Escalate(Way::Immediate)));
    state.escalated(Way::Immediate, at(60_200));
    assert_eq!(state.due(at(65_200)), Some(Due::Escalate(Way::Kill)));
    state.postmaster_gone();
    assert_eq!(state.due(at(65_200)), Some(Due::Leave(1)));
}

#[test]
fn leaves_postgresql_running_on_purpose_when_not_pid_1() {
    let mut state = State::new(Place::SubReaper);
    state.agent_started(at(0));
    state.heard(ToInit::Bye(0), at(100));
    assert_eq!(state.agent_ended(Ended::Exited(0), Postmaster::Runs, at(200)), AgentEnd::Expected);
    assert_eq!(state.due(at(200)), Some(Due::Leave(0)));
}

#[test]
fn no_primary_outlives_the_keeper_of_its_deadline() {
    let mut state = State::new(Place::SubReaper);
    state.agent_started(at(0));
    state.heard(ToInit::Bye(64), at(100));
    state.left_in_force(until(20_000));
    assert_eq!(state.agent_ended(Ended::Exited(64), Postmaster::Runs, at(200)), AgentEnd::StopPostgres);
    assert_eq!(state.due(at(19_999)), None);
    state.deadline_passed();
    assert_eq!(state.due(at(20_000)), Some(Due::Fence), "it did not stop in time");
    state.fenced(at(20_000));
    assert_eq!(state.due(at(20_000)), Some(Due::Leave(64)));
}

#[test]
fn an_agent_that_answers_may_take_its_time_to_stop() {
    let mut state = running();
    state.asked_to_stop(at(1_000));
    for second in 2..100 {
        assert_eq!(state.due(at(second * 1_000)), None);
        state.heard(ToInit::Alive, at(second * 1_000));
    }
    state.asked_to_stop(at(99_500));
    assert_eq!(state.due(at(101_999)), None, "how to escalate is the agent's decision while it answers");
    assert_eq!(state.due(at(102_000)), Some(Due::TakeOver));
}

#[test]
fn a_frozen_agent_is_overtaken_sooner_at_the_second_request() {
    let mut state = running();
    state.asked_to_stop(at(1_000));
    assert_eq!(state.due(at(3_999)), None);
    assert_eq!(state.due(at(4_000)), Some(Due::TakeOver));
    state.asked_to_stop(at(1_500));
    assert_eq!(state.due(at(2_000)), Some(Due::TakeOver));
    state.taken_over(Postmaster::Runs, at(2_000));
    assert_eq!(state.agent_ended(CRASH, Postmaster::Runs, at(2_001)), AgentEnd::Expected);
    assert_eq!(state.due(at(2_001)), None);
    state.asked_to_stop(at(2_500));
    assert_eq!(state.due(at(2_500)), Some(Due::Escalate(Way::Immediate)), "a third request");
}

#[test]
fn an_agent_that_keeps_crashing_while_stopping_is_overtaken() {
    let mut state = running();
    state.asked_to_stop(at(1_000));
    for crash in 1..=3 {
        state.heard(ToInit::Alive, at(1_000 + crash));
        state.agent_ended(CRASH, Postmaster::Runs, at(1_000 + crash));
        assert!(crash == 3 || state.due(at(2_000)) == Some(Due::StartAgent));
        state.agent_started(at(1_000 + crash));
    }
    assert_eq!(state.due(at(1_003)), Some(Due::TakeOver));
}

#[test]
fn the_deadline_holds_while_stopping() {
    let mut state = running();
    state.asked_to_stop(at(1_000));
    state.deadline_passed();
    assert_eq!(state.due(at(2_000)), Some(Due::Fence));
    state.fenced(at(2_000));
    assert_eq!(state.due(at(2_000)), Some(Due::Leave(1)));
}
