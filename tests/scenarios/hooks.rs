//! `pre_promote` has refused a promotion.

use tamada::core::decision::{Decision, LeaseStep, PostgresStep, Wake};
use tamada::core::local::{ClusterState, Job, Postgres, RecoverySignal, StopMode, StopWhy};
use tamada::core::observation::{Event, FinishedJob, JobProduct, JobResult, Memory, Observation};
use tamada::core::policy::{Pause, Policy};
use tamada::core::reason::Reason;
use tamada::core::{decide, note};

use super::build::*;

const RELEASED: LeaseStep = LeaseStep::Release { last_position: None };

fn ended(memory: Memory, job: Job, result: JobResult, at: u64) -> Memory {
    note(memory, &Event::JobEnded(FinishedJob { job, result, at: second(at) }))
}

/// At this second; now is the thousandth.
fn refused(mut observation: Observation, at: u64) -> Observation {
    let result = JobResult::Refused("it ended with exit status: 1".to_owned());
    observation.memory = ended(observation.memory, Job::Promote, result, at);
    observation
}

fn paused(observation: &Observation) -> Decision {
    decide(&Policy { pause: Pause::Paused, ..policy() }, observation)
}

#[test]
fn a_refused_promotion_stops_the_server_before_the_lock_is_given_up() {
    let mut observation = refused(renewed(seen(view(OURS), standby_at(500, "b")), 0), 999);
    let decision = decided(&observation);
    assert_eq!((decision.lease, decision.reason), (LeaseStep::Keep, Reason::PrePromoteFailed));
    assert!(matches!(decision.postgres, PostgresStep::Stop { .. }));

    let stop = Job::Stop { mode: StopMode::Immediate, why: StopWhy::LostLock };
    observation.memory = ended(observation.memory, stop, JobResult::Done(JobProduct::Nothing), 1_000);
    observation.local.postgres = Postgres::Stopped;
    observation.local.data = data(ClusterState::InArchiveRecovery, RecoverySignal::Present);
    let decision = decided(&observation);
    assert_eq!((decision.lease, decision.reason), (RELEASED, Reason::PrePromoteFailed));
}

#[test]
fn for_ttl_the_member_takes_no_part_in_a_race() {
    // Its server was stopped and started since.
    let free = |at| {
        let raced = answers(seen(view(None), standby_at(500, "b")), &[("b", 400), ("c", 400)]);
        let mut observation = refused(raced, at);
        (observation.memory.finished, observation.memory.backoff) = (None, None);
        observation
    };
    let mut observation = free(980);
    let decision = decided(&observation);
    assert_eq!((decision.lease, decision.reason), (LeaseStep::Keep, Reason::PrePromoteBackoff));
    assert_eq!(decision.wake, Wake::At(second(1_010)));
    // A person that names it does not change that.
    request(observation.cluster.as_mut().expect("a view"), None, Some("a"));
    assert_eq!(decided(&observation).reason, Reason::PrePromoteBackoff);
    assert_eq!(paused(&observation).reason, Reason::PrePromoteBackoff);
    assert!(matches!(decided(&free(970)).lease, LeaseStep::Acquire { .. }));
}

#[test]
fn a_lock_that_it_has_all_the_same_is_given_up_and_not_used() {
    let mut observation = refused(renewed(seen(view(OURS), standby_at(500, "b")), 0), 990);
    observation.memory.finished = None;
    assert_eq!(decided(&observation).reason, Reason::PrePromoteFailed);
    observation.memory.promotion_refused = Some(second(970));
    assert_eq!(decided(&observation).postgres, PostgresStep::Promote);
}

/// PID 1 has no deadline then, under which a former agent could have begun a promotion.
#[test]
fn in_a_pause_the_lock_is_given_up_without_a_stop() {
    let mut cluster = view(OURS);
    request(&mut cluster, None, Some("a"));
    let decision = paused(&refused(renewed(seen(cluster, standby_at(500, "b")), 0), 999));
    assert_eq!((decision.postgres, decision.lease), (PostgresStep::Leave, RELEASED));
    assert_eq!(decision.reason, Reason::PrePromoteFailed);
}

#[test]
fn a_promotion_that_came_about_ends_the_back_off() {
    let memory = refused(seen(view(None), standby_at(500, "b")), 999).memory;
    assert_eq!(memory.promotion_refused, Some(second(999)));
    let memory = ended(memory, Job::Promote, JobResult::Done(JobProduct::Nothing), 1_000);
    assert_eq!(memory.promotion_refused, None);
}
