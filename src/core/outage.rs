//! The DCS does not answer. Only the lease's remaining time counts, never the kind of error.

use super::busy::gives_authority;
use super::context::UNHURRIED;
use super::decision::{Decision, LeaseStep, PostgresStep, Wake};
use super::lease;
use super::local::{DataDir, Guard, LastRole, Postgres, RecoverySignal, Running, StartAs, StopMode, StopWhy, Upstream};
use super::observation::{DcsOutage, Handover, HandoverStage, Observation};
use super::policy::{Pause, Policy};
use super::reason::{Reason, Seconds};

pub fn decide(policy: &Policy, seen: &Observation, outage: &DcsOutage) -> Decision {
    let reason = Reason::DcsOutage { error: outage.error.clone() };
    let wait = Decision::idle(reason, Wake::At(seen.now + lease::RETRY * 2));
    if policy.pause == Pause::Paused {
        return wait;
    }
    if may_be_primary(seen) {
        return as_primary(policy, seen);
    }
    if handing_over(seen) {
        return wait;
    }
    let backing_off = seen.memory.backoff.is_some_and(|backoff| backoff.until > seen.now);
    match (&seen.local.data, &seen.local.postgres, &seen.local.job) {
        (DataDir::Present(data), Postgres::Stopped, None) if data.signal == RecoverySignal::RewindUnfinished => wait,
        // Reads go on: a server without a leader starts as a standby of nobody.
        (DataDir::Present(_), Postgres::Stopped, None) if !backing_off => {
            Decision { postgres: PostgresStep::Start(StartAs::Standby(Upstream::None)), ..wait }
        }
        (DataDir::Present(_) | DataDir::Empty | DataDir::Unusable(_), _, _) => wait,
    }
}

fn may_be_primary(seen: &Observation) -> bool {
    if let Some(running) = &seen.local.job {
        return gives_authority(&running.job);
    }
    match &seen.local.postgres {
        Postgres::Running(Running::Primary(_)) => true,
        Postgres::Starting { role, .. } | Postgres::Unresponsive { role, .. } => *role == LastRole::Primary,
        Postgres::Running(Running::Standby(_)) | Postgres::Stopped | Postgres::Stopping => false,
    }
}

/// PostgreSQL was stopped for a hand-over and the lock is still ours to give up.
pub fn handing_over(seen: &Observation) -> bool {
    let confirming = |handover: &Handover| matches!(handover.stage, HandoverStage::Confirming { .. });
    seen.memory.handover.as_ref().is_some_and(confirming)
        && seen.memory.lease_valid_until.is_some_and(|until| until > seen.now)
}

/// As long as the lock is ours nobody else can be a primary; before that ends we stop.
fn as_primary(policy: &Policy, seen: &Observation) -> Decision {
    let timing = &policy.timing;
    // After a restart of the agent only PID 1 knows until when the lock was ours.
    let deadline = match (seen.memory.lease_valid_until, seen.local.guard) {
        (Some(until), _) => lease::stop_deadline(until, timing),
        (None, Guard::Until(guard)) => guard - timing.stop_margin(),
        (None, Guard::NoDeadline) => seen.now,
    };
    if seen.now < deadline {
        let left = deadline.left(seen.now);
        let retry = (seen.now + lease::RETRY).min(deadline);
        let decision = Decision::idle(Reason::LockNotConfirmed { left: Seconds(left) }, Wake::At(retry));
        return Decision { lease: LeaseStep::Renew, ..decision };
    }
    let mode = if seen.local.job.is_some() { StopMode::Immediate } else { StopMode::Fast };
    let limit = match seen.local.guard {
        Guard::Until(guard) => guard.left(seen.now) / 2,
        Guard::NoDeadline => UNHURRIED.min(timing.stop_margin()),
    };
    let stop = PostgresStep::Stop { mode, why: StopWhy::LostLock, limit };
    Decision { postgres: stop, ..Decision::idle(Reason::DemotedNoDcs, Wake::At(seen.now + lease::RETRY)) }
}
