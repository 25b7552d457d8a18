//! The DCS does not answer. Only the lease's remaining time counts, never the kind of error.

use super::authority;
use super::decision::{Decision, LeaseStep, PostgresStep, Wake};
use super::failsafe;
use super::lease;
use super::local::{DataDir, Guard, Postgres, RecoverySignal, StartAs, StopMode, StopWhy, Upstream};
use super::observation::{DcsOutage, Handover, HandoverStage, Observation};
use super::policy::{Pause, Policy, UNHURRIED};
use super::reason::Reason;
use super::units::Seconds;

pub fn decide(policy: &Policy, seen: &Observation, outage: &DcsOutage) -> Decision {
    let reason = Reason::DcsOutage { error: outage.error.clone() };
    let wait = Decision::idle(reason, Wake::At(seen.now + lease::RETRY * 2));
    if policy.pause == Pause::Paused {
        return wait;
    }
    if authority::may_take_writes(&seen.local) {
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

/// PostgreSQL was stopped for a hand-over and the lock is still ours to give up.
pub fn handing_over(seen: &Observation) -> bool {
    let confirming = |handover: &Handover| matches!(handover.stage, HandoverStage::Confirming { .. });
    seen.memory.handover.as_ref().is_some_and(confirming)
        && seen.memory.lease_valid_until.is_some_and(|until| until > seen.now)
}

/// As long as the lock is ours nobody else can be a primary; before that ends we stop.
fn as_primary(policy: &Policy, seen: &Observation) -> Decision {
    let timing = &policy.timing;
    let ends = authority::stop_begins(seen.memory.lease_valid_until, seen.local.guard, timing);
    let deadline = ends.unwrap_or(seen.now);
    if let Some(decision) = failsafe::instead_of_stop(policy, seen) {
        return decision;
    }
    if seen.now < deadline {
        let left = deadline.left(seen.now);
        let retry = (seen.now + lease::RETRY).min(deadline);
        let decision = Decision::idle(Reason::LockNotConfirmed { left: Seconds(left) }, Wake::At(retry));
        return Decision { lease: LeaseStep::Renew, ..decision };
    }
    let mode = if seen.local.job.is_some() { StopMode::Immediate } else { StopMode::Fast };
    let limit = match seen.local.guard {
        Guard::Until(guard) => guard.left(seen.now).saturating_sub(timing.reset_before) / 2,
        Guard::NoDeadline => UNHURRIED.min(timing.stop_margin()),
    };
    let stop = PostgresStep::Stop { mode, why: StopWhy::LostLock, limit };
    Decision { postgres: stop, ..Decision::idle(Reason::DemotedNoDcs, Wake::At(seen.now + lease::RETRY)) }
}
