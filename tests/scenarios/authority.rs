//! Who may be a primary, and for how long: what each job may do, what PID 1 is told after a cycle, and how long a call to
//! the store may take. The timers are the defaults: PID 1 kills a second before the lease's end, a stop begins two
//! seconds before that.

use std::time::Duration;

use tamada::core::authority::{Tenure, call_limit, is_no_primary, may_be_primary, may_take_writes, stop_begins};
use tamada::core::local::{
    CloneFrom, CloneSource, Guard, Job, LastRole, LocalState, Postgres, Reinit, RunningJob, StartAs, StopMode, StopWhy,
    Upstream,
};
use tamada::core::observation::{Amnesia, FinishedJob, JobResult, LeaseOutcome, Observation};
use tamada::core::policy::{Mode, Pause, Policy, Timing};
use tamada::core::units::{Instant, Revision};
use tamada::core::view::Holder;

use super::build::*;

/// The jobs that make PostgreSQL a primary of a cluster that may have another.
fn to_primary() -> [Job; 3] {
    [Job::Promote, Job::Start(StartAs::Primary), Job::Restart(StartAs::Primary)]
}

fn stop(mode: StopMode) -> Job {
    Job::Stop { mode, why: StopWhy::Handover }
}

/// The jobs after which PostgreSQL is a standby or stopped.
fn to_standby() -> Vec<Job> {
    let from = CloneSource { name: "b".into(), address: address("b"), kind: CloneFrom::Leader };
    vec![
        Job::Start(StartAs::Standby(Upstream::None)),
        Job::Restart(StartAs::Standby(Upstream::None)),
        Job::Clone { from: from.clone() },
        Job::Reinitialize { from, why: Reinit::Diverged },
        Job::Rewind { from: "b".into() },
        Job::Recover,
        Job::Follow(Upstream::None),
        stop(StopMode::CheckpointThenFast),
        stop(StopMode::Fast),
        stop(StopMode::Immediate),
    ]
}

/// What an agent knows after a cycle's lease step, by itself.
struct Known {
    policy: Policy,
    seen: Observation,
    job: Option<Job>,
    guard: Guard,
    valid_until: Option<Instant>,
    outcome: LeaseOutcome,
}

impl Known {
    fn of(leader: Option<(&str, Holder)>, postgres: Postgres) -> Known {
        Known {
            policy: policy(),
            seen: seen(view(leader), postgres),
            job: None,
            guard: Guard::NoDeadline,
            valid_until: None,
            outcome: LeaseOutcome::None,
        }
    }

    fn tenure(&self) -> Tenure<'_> {
        Tenure {
            policy: &self.policy,
            seen: &self.seen,
            job: self.job.as_ref(),
            guard: self.guard,
            valid_until: self.valid_until,
            outcome: &self.outcome,
        }
    }

    fn guard_after(&self) -> Guard {
        self.tenure().guard_after()
    }
}

fn job_in(postgres: Postgres, job: Option<Job>) -> LocalState {
    let job = job.map(|job| RunningJob { job, since: now() });
    LocalState { job, ..seen(view(None), postgres).local }
}

fn silent(role: LastRole) -> [Postgres; 2] {
    [Postgres::Starting { since: now(), role }, Postgres::Unresponsive { since: now(), role }]
}

#[test]
fn each_job_is_known_for_what_it_makes_of_postgresql() {
    for job in to_primary() {
        assert!(job.needs_lock() && job.may_make_primary() && job.takes_writes(), "{job:?}");
    }
    // A bootstrap makes a primary, but of a cluster that has no other.
    assert!(!Job::Bootstrap.needs_lock() && Job::Bootstrap.may_make_primary() && !Job::Bootstrap.takes_writes());
    for job in to_standby() {
        assert!(!job.needs_lock() && !job.may_make_primary(), "{job:?}");
        assert_eq!(job.takes_writes(), job == stop(StopMode::CheckpointThenFast), "{job:?}");
    }
}

#[test]
fn only_a_stopped_server_and_a_standby_that_answers_are_no_primary() {
    let possible = silent(LastRole::Primary).into_iter().chain([primary(), Postgres::Stopping]);
    for postgres in possible {
        assert!(may_be_primary(&postgres), "{postgres:?}");
        assert!(!is_no_primary(&job_in(postgres.clone(), None)), "{postgres:?}");
    }
    for postgres in silent(LastRole::Standby) {
        assert!(!may_be_primary(&postgres), "{postgres:?}");
        assert!(!is_no_primary(&job_in(postgres.clone(), None)), "it was not asked: {postgres:?}");
    }
    for postgres in [standby_at(900, "b"), Postgres::Stopped] {
        assert!(!may_be_primary(&postgres), "{postgres:?}");
        assert!(is_no_primary(&job_in(postgres.clone(), None)), "{postgres:?}");
    }
    // What is under way counts too.
    for job in to_primary().into_iter().chain([Job::Bootstrap]) {
        assert!(!is_no_primary(&job_in(Postgres::Stopped, Some(job))));
    }
    assert!(is_no_primary(&job_in(Postgres::Stopped, Some(Job::Recover))));
    assert!(!is_no_primary(&job_in(standby_at(900, "b"), Some(Job::Recover))));
    let fenced = LocalState { guard: Guard::Until(second(1_020)), ..job_in(standby_at(900, "b"), None) };
    assert!(!is_no_primary(&fenced), "a former agent may have told it to promote");
}

#[test]
fn writes_are_taken_by_a_primary_that_is_not_stopping_and_by_a_job_that_lets_it_serve() {
    let taken = |postgres: Postgres, job: Option<Job>| may_take_writes(&job_in(postgres, job));
    assert!(taken(primary(), None) && taken(standby_at(900, "b"), Some(Job::Promote)));
    assert!(taken(primary(), Some(stop(StopMode::CheckpointThenFast))));
    assert!(!taken(primary(), Some(stop(StopMode::Fast))));
    assert!(!taken(Postgres::Stopping, None) && !taken(Postgres::Stopped, None) && !taken(standby_at(900, "b"), None));
}

#[test]
fn a_job_that_makes_a_primary_begins_only_in_time_for_the_lease_and_for_pid_1() {
    let begins = |known: &Known, millis: u64| {
        let begun = to_primary().map(|job| known.tenure().may_begin(&job, Instant::from_millis(millis)));
        assert!(begun.iter().all(|may| *may == begun[0]), "{begun:?}");
        begun[0]
    };
    let mut known = Known::of(OURS, standby_at(900, "b"));
    known.guard = Guard::Until(second(1_029));
    known.outcome = LeaseOutcome::Held { until: second(1_030) };
    assert!(begins(&known, 1_000_000) && begins(&known, 1_026_999));
    assert!(!begins(&known, 1_027_000) && !begins(&known, 1_028_000), "a stop would have to begin");
    known.guard = Guard::Until(second(1_010));
    assert!(begins(&known, 1_009_999) && !begins(&known, 1_010_000) && !begins(&known, 1_011_000), "PID 1 kills it");
    known.guard = Guard::NoDeadline;
    assert!(!begins(&known, 1_000_000), "PID 1 does not know until when");
}

#[test]
fn a_job_that_makes_a_primary_begins_only_while_the_lock_is_ours_by_the_last_that_was_heard() {
    let mut known = Known::of(OURS, standby_at(900, "b"));
    known.guard = Guard::Until(second(1_029));
    let mut begins = |outcome: LeaseOutcome, valid_until: Option<Instant>| {
        (known.outcome, known.valid_until) = (outcome, valid_until);
        known.tenure().may_begin(&Job::Promote, now())
    };
    for outcome in [LeaseOutcome::None, LeaseOutcome::Unknown] {
        assert!(begins(outcome.clone(), Some(second(1_030))), "the old validity stands: {outcome:?}");
        assert!(!begins(outcome.clone(), Some(second(1_002))) && !begins(outcome, None));
    }
    for outcome in [LeaseOutcome::Lost, LeaseOutcome::Released, LeaseOutcome::ReleaseUnknown] {
        assert!(!begins(outcome.clone(), Some(second(1_030))), "{outcome:?}");
    }
}

#[test]
fn a_job_that_makes_no_primary_and_a_single_server_need_no_lock() {
    let mut known = Known::of(THEIRS, Postgres::Stopped);
    for job in to_standby().into_iter().chain([Job::Bootstrap]) {
        assert!(known.tenure().may_begin(&job, now()), "{job:?}");
    }
    assert!(!known.tenure().may_begin(&Job::Promote, now()));
    known.policy.mode = Mode::Single;
    assert!(known.tenure().may_begin(&Job::Promote, now()));
}

/// Seed 413496: the new leader stood still between the lock and the promotion for longer than ttl.
#[test]
fn in_a_pause_a_job_that_makes_a_primary_needs_the_lock_but_no_deadline_of_pid_1() {
    let mut known = Known::of(OURS, standby_at(900, "b"));
    known.policy = Policy { pause: Pause::Paused, ..policy() };
    known.outcome = LeaseOutcome::Held { until: second(1_030) };
    for job in to_primary() {
        assert!(known.tenure().may_begin(&job, second(1_026)), "{job:?}");
        assert!(!known.tenure().may_begin(&job, second(1_031)), "{job:?}: somebody else may have taken the lock since");
    }
    known.outcome = LeaseOutcome::Lost;
    assert!(!known.tenure().may_begin(&Job::Promote, now()));
}

#[test]
fn a_renewal_sets_the_deadline_and_a_single_server_and_a_pause_have_none() {
    let mut known = Known::of(OURS, primary());
    known.guard = Guard::Until(second(1_009));
    known.outcome = LeaseOutcome::Held { until: second(1_030) };
    assert_eq!(known.guard_after(), Guard::Until(second(1_029)));
    known.policy.mode = Mode::Single;
    assert_eq!(known.guard_after(), Guard::NoDeadline);
    known.policy = Policy { pause: Pause::Paused, ..policy() };
    assert_eq!(known.guard_after(), Guard::NoDeadline);
}

#[test]
fn the_deadline_is_lifted_by_a_fact_alone() {
    let mut known = Known::of(THEIRS, Postgres::Stopped);
    known.guard = Guard::Until(second(1_020));
    let kept = known.guard;
    for harmless in [Postgres::Stopped, standby_at(900, "b")] {
        known.seen.local.postgres = harmless;
        assert_eq!(known.guard_after(), Guard::NoDeadline);
        known.job = Some(Job::Follow(Upstream::None));
        assert_eq!(known.guard_after(), kept, "something is under way");
        known.job = None;
        known.seen.cluster = Ok(view(OURS));
        assert_eq!(known.guard_after(), kept, "a former agent's promotion may be under way");
        for given_up in [LeaseOutcome::Released, LeaseOutcome::ReleaseUnknown, LeaseOutcome::Lost] {
            known.outcome = given_up;
            assert_eq!(known.guard_after(), Guard::NoDeadline, "the view is older than the answer");
        }
        known.outcome = LeaseOutcome::None;
        known.seen.cluster = Ok(view(THEIRS));
    }
    let unknown = silent(LastRole::Primary).into_iter().chain(silent(LastRole::Standby));
    for postgres in unknown.chain([primary(), Postgres::Stopping]) {
        known.seen.local.postgres = postgres;
        assert_eq!(known.guard_after(), kept, "{:?}", known.seen.local.postgres);
    }
    // In an outage the lock of a standby cannot be looked at; a stopped server needs none.
    known.seen = outage(known.seen);
    known.seen.local.postgres = standby_at(900, "b");
    assert_eq!(known.guard_after(), kept);
    known.seen.local.postgres = Postgres::Stopped;
    assert_eq!(known.guard_after(), Guard::NoDeadline);
}

/// Seed 1001528: the store lost its data between a promotion that failed and the stop that was to follow.
#[test]
fn a_standby_whose_promotion_has_failed_is_no_harmless_one_before_it_has_stopped() {
    let mut known = Known::of(THEIRS, standby_at(900, "b"));
    known.guard = Guard::Until(second(1_020));
    let kept = known.guard;
    for result in [JobResult::Failed("not promoted in time".into()), JobResult::Cancelled] {
        known.seen.memory.finished = Some(FinishedJob { job: Job::Promote, result, at: now() });
        assert_eq!(known.guard_after(), kept);
    }
    known.seen.local.postgres = Postgres::Stopped;
    assert_eq!(known.guard_after(), Guard::NoDeadline);
}

/// Seed 14223543: a former agent's promotion is under way, and the store's word on the lock does not count.
#[test]
fn a_standby_s_deadline_is_kept_as_long_as_the_store_does_not_know_whose_the_lock_is() {
    let mut known = Known::of(THEIRS, standby_at(900, "b"));
    known.guard = Guard::Until(second(1_020));
    known.seen.memory.amnesia = Some(Amnesia { until: second(1_025), lock: Some(Revision(7)) });
    assert_eq!(known.guard_after(), known.guard);
    known.seen.local.postgres = Postgres::Stopped;
    assert_eq!(known.guard_after(), Guard::NoDeadline);
}

#[test]
fn a_primary_of_which_no_lease_is_known_is_ended_by_pid_1_if_the_agent_does_not_stop_it() {
    let soon = Guard::Until(Instant::from_millis(1_000_500));
    assert!(stop_begins(None, soon, &policy().timing) <= Some(now()), "it is no lease's deadline");
    let starting = |role| Postgres::Starting { since: now(), role };
    for postgres in [starting(LastRole::Primary), primary()] {
        let mut known = Known::of(THEIRS, postgres);
        assert_eq!(known.guard_after(), soon, "{:?}", known.seen.local.postgres);
        known.guard = Guard::Until(Instant::from_millis(1_000_200));
        assert_eq!(known.guard_after(), known.guard, "the time is not given again");
    }
    let unknown = [LastRole::Primary, LastRole::Standby].map(|role| Postgres::Unresponsive { since: now(), role });
    let others = [starting(LastRole::Standby), standby_at(900, "b"), Postgres::Stopping, Postgres::Stopped];
    for postgres in others.into_iter().chain(unknown) {
        assert_eq!(Known::of(THEIRS, postgres).guard_after(), Guard::NoDeadline);
    }
    let mut known = Known::of(None, primary());
    known.seen.memory.bootstrapped = Some(ID);
    assert_eq!(known.guard_after(), Guard::Until(second(1_029)), "a call without an answer may have taken the lock");
    known.seen.memory.bootstrapped = None;
    known.job = Some(Job::Bootstrap);
    assert_eq!(known.guard_after(), Guard::NoDeadline);
}

#[test]
fn a_deadline_that_was_lifted_holds_again_at_once_for_whoever_may_lead() {
    let again = Guard::Until(second(1_029));
    let mut known = Known::of(THEIRS, primary());
    known.valid_until = Some(second(1_030));
    assert_eq!(known.guard_after(), again, "a primary, whoever holds the lock");
    known.seen = outage(known.seen);
    assert_eq!(known.guard_after(), again, "a primary in an outage");
    known.seen.local.postgres = standby_at(900, "b");
    assert_eq!(known.guard_after(), Guard::NoDeadline, "a standby in an outage is not killed");
    known.job = Some(Job::Follow(Upstream::None));
    assert_eq!(known.guard_after(), Guard::NoDeadline);
    known.job = Some(Job::Promote);
    assert_eq!(known.guard_after(), again);
    known.job = None;
    known.seen.cluster = Ok(view(OURS));
    assert_eq!(known.guard_after(), again, "a standby that holds the lock may be promoting");
    known.valid_until = None;
    assert_eq!(known.guard_after(), Guard::NoDeadline, "nothing is known of a lease");
}

#[test]
fn a_stop_begins_by_the_lease_or_by_pid_1_s_deadline_where_no_lease_is_known() {
    let timing = Timing::default();
    let guard = Guard::Until(second(1_020));
    assert_eq!(stop_begins(Some(second(1_030)), guard, &timing), Some(second(1_027)));
    assert_eq!(stop_begins(None, guard, &timing), Some(second(1_018)));
    assert_eq!(stop_begins(None, Guard::NoDeadline, &timing), None);
}

#[test]
fn no_call_to_the_store_outlasts_the_moment_at_which_a_stop_has_to_begin() {
    let timing = Timing::default();
    let limit = |lease: Option<u64>, guard: Option<u64>, now: u64| {
        let guard = guard.map_or(Guard::NoDeadline, |until| Guard::Until(second(until)));
        call_limit(lease.map(second), guard, &timing, second(now))
    };
    let seconds = Duration::from_secs;
    assert_eq!(limit(None, None, 1_000), seconds(10), "retry_timeout");
    assert_eq!(limit(Some(1_030), None, 1_000), seconds(10));
    assert_eq!(limit(Some(1_030), None, 1_020), seconds(7));
    assert_eq!(limit(Some(1_030), Some(1_020), 1_010), seconds(8), "whichever ends first");
    assert_eq!(limit(Some(1_015), Some(1_029), 1_010), seconds(2));
    assert_eq!(limit(None, Some(1_020), 1_010), seconds(8));
    assert_eq!(limit(Some(1_030), None, 1_028), Duration::from_millis(100), "too late, but it is tried");
}
