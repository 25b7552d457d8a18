//! What every situation looks at: the policy, the observation and the view in it, and the few questions that all ask.

use std::time::Duration;

use super::authority;
use super::decision::{Decision, LastWord, LeaseStep, PostgresStep, Wake};
use super::lease::{self, Hold};
use super::local::{DataDir, Postgres, Running, StopMode, StopWhy};
use super::observation::Observation;
use super::policy::{ClusterKind, Policy, Timing};
use super::reason::Reason;
use super::units::{Instant, Seconds};
use super::view::ClusterView;

#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    pub policy: &'a Policy,
    pub seen: &'a Observation,
    pub view: &'a ClusterView,
}

impl<'a> Ctx<'a> {
    pub fn now(&self) -> Instant {
        self.seen.now
    }

    pub fn timing(&self) -> &'a Timing {
        &self.policy.timing
    }

    pub fn hold(&self) -> Hold {
        Hold::of(self.view, &self.seen.memory, self.seen.now)
    }

    /// Whether the lock, which is on our lease, was never confirmed to this agent, and nothing here can be a primary. In a
    /// standby cluster that is as it should be: its leader goes on after a restart of the agent.
    pub fn is_taken_unawares(&self) -> bool {
        self.policy.cluster == ClusterKind::Primary
            && self.seen.memory.lease_valid_until.is_none()
            && authority::is_no_primary(&self.seen.local)
    }

    /// Nothing to do but to keep the lock if we have it.
    pub fn idle(&self, reason: Reason) -> Decision {
        let (lease, wake) = lease::heartbeat(self.hold(), self.timing(), self.now());
        Decision { lease, ..Decision::idle(reason, wake) }
    }

    /// As `idle`, with something for PostgreSQL to do.
    pub fn step(&self, postgres: PostgresStep, reason: Reason) -> Decision {
        Decision { postgres, ..self.idle(reason) }
    }

    /// As `idle`, but looked at again after this time.
    pub fn again_after(&self, pause: Duration, reason: Reason) -> Decision {
        let decision = self.idle(reason);
        let Wake::At(at) = decision.wake else { return decision };
        Decision { wake: Wake::At(at.min(self.now() + pause)), ..decision }
    }

    /// Give the lock up, with nothing to say about our WAL: at once if it is a fact that PostgreSQL is no primary, else it
    /// is stopped first.
    pub fn give_up(&self, reason: Reason) -> Decision {
        match authority::is_no_primary(&self.seen.local) {
            true => self.release(reason),
            false => self.stop_at_once(reason),
        }
    }

    /// The release alone, for whoever knows that nothing of ours can be a primary.
    pub fn release(&self, reason: Reason) -> Decision {
        let lease = LeaseStep::Release { last_position: None };
        Decision { lease, ..Decision::idle(reason, Wake::Now) }
    }

    /// A call of ours that nobody waited for any more has taken the lock. It is given back, so that the best member takes it.
    pub fn give_back(&self) -> Decision {
        let own = match (&self.seen.local.postgres, &self.seen.local.data) {
            (Postgres::Running(Running::Standby(facts)), _) => Some(facts.position()),
            (_, DataDir::Present(data)) => data.control.as_ref().map(|control| control.checkpoint),
            (_, DataDir::Empty | DataDir::Unusable(_)) => None,
        };
        // Nobody has more than a leader that handed over but one that has led since.
        let status = &self.view.status;
        let has_led = status.released_by.is_some() && own > status.optime;
        let word = if has_led { LastWord::IsOver } else { LastWord::Stands };
        Decision { lease: LeaseStep::GiveBack { word }, ..Decision::idle(Reason::TakenUnawares, Wake::Now) }
    }

    /// Why the data directory is of no use; only for one that is not `Present`.
    pub fn broken_data(&self) -> Reason {
        let why = match &self.seen.local.data {
            DataDir::Unusable(why) => why.clone(),
            DataDir::Empty | DataDir::Present(_) => "it is empty".to_owned(),
        };
        Reason::Unusable { why }
    }

    /// Stop being a primary, at once and without waiting for anybody.
    pub fn stop_at_once(&self, reason: Reason) -> Decision {
        stop_at_once(self.policy, self.seen, reason)
    }

    /// Until when this member leaves the lock to others, because `pre_promote` has refused to let it promote.
    pub fn promotion_refused_until(&self) -> Option<Instant> {
        let until = self.seen.memory.promotion_refused? + self.timing().ttl;
        (until > self.now()).then_some(until)
    }

    /// Takes no part in races for that long.
    pub fn after_refused_promotion(&self) -> Option<Decision> {
        let until = self.promotion_refused_until()?;
        Some(self.again_after(until.left(self.now()), Reason::PrePromoteBackoff))
    }

    /// The back-off in force after failures, if any.
    pub fn backing_off(&self) -> Option<Decision> {
        let backoff = self.seen.memory.backoff.filter(|backoff| backoff.until > self.now())?;
        let left = backoff.until.left(self.now());
        Some(self.again_after(left, Reason::BackingOff { failures: backoff.failures, left: Seconds(left) }))
    }
}

/// Stop being a primary, at once and without waiting for anybody, whatever the store says.
pub fn stop_at_once(policy: &Policy, seen: &Observation, reason: Reason) -> Decision {
    let timing = &policy.timing;
    let stop = PostgresStep::Stop { mode: StopMode::Immediate, why: StopWhy::LostLock, limit: timing.guard_margin() };
    Decision { postgres: stop, ..Decision::idle(reason, Wake::At(seen.now + timing.loop_wait)) }
}
