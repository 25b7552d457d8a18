//! The lock and the fence: the calls to the store, and telling PID 1 what `core::authority` says that it is to know.
//!
//! Validity counts from the instant before the request that renewed the lease was sent.

use std::time::Duration;

use super::cycle::Agent;
use super::promise::Race;
use super::publish::{leader_of, tell};
use super::publisher::Due;
use super::reading::Outage;
use super::retain;
use super::shared::SHUTDOWN_GRACE;
use crate::core::authority::{self, Tenure};
use crate::core::decision::{LastWord, LeaseStep};
use crate::core::failsafe::{self, Store};
use crate::core::lease;
use crate::core::local::{Guard, Job, Postgres, Running};
use crate::core::lock_seen::LockSeen;
use crate::core::observation::{LeaseOutcome, Observation};
use crate::core::policy::{Pause, Policy};
use crate::core::slots;
use crate::core::units::{Instant, Lsn};
use crate::core::view::ClusterStatus;
use crate::dcs::{Dcs, DcsError, Lock};
use crate::postgres::Instance;

/// What a leader says when it gives the lock up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It stopped in order, and another member is known to have everything up to this position, or none was there to be
    /// asked.
    HandedOver(Lsn),
    /// It stopped in order, and no other member has everything.
    Unconfirmed(Lsn),
    /// It cannot serve.
    GaveWay,
    /// Nothing, in place of what another leader had said before.
    Nothing,
}

impl<D: Dcs, I: Instance> Agent<D, I> {
    /// How long one call to the store may take: `retry_timeout`, and never past the point where a primary that could
    /// not renew has to begin its stop.
    pub(super) fn patience(&self) -> Duration {
        let timing = self.settings.guarded_timing();
        let limit =
            authority::call_limit(self.memory.lease_valid_until, self.fence.guard(), &timing, self.shared.now());
        let store = match self.reading.outage() {
            Outage::No => Store::Answers,
            Outage::Yes => Store::IsSilent,
        };
        let limit = failsafe::call_limit(&self.settings.policy(), self.memory.lease_valid_until, store, limit);
        match self.shared.inbox().shutdown {
            None => limit,
            Some(_) => limit.min(SHUTDOWN_GRACE),
        }
    }

    /// The same for what is not the lease: where there is a lock to be renewed, that must still be possible afterwards.
    pub(super) fn short_patience(&self) -> Duration {
        match self.fence.guard() {
            Guard::NoDeadline => self.patience(),
            Guard::Until(_) => self.patience().min(self.settings.timing.retry_timeout / 2),
        }
    }

    pub(super) async fn carry_out_lease(&mut self, step: &LeaseStep, seen: &Observation) -> LeaseOutcome {
        let outcome = match step {
            LeaseStep::Keep => LeaseOutcome::None,
            LeaseStep::Acquire { seen: lock } => self.acquire(*lock, seen).await,
            LeaseStep::Renew => self.renew(seen).await,
            LeaseStep::Vouched { until } => LeaseOutcome::Vouched { until: *until },
            LeaseStep::Release { last_position: Some(position) } => {
                self.release(Some(Word::HandedOver(*position)), seen).await
            }
            LeaseStep::Release { last_position: None } => self.release(Some(Word::GaveWay), seen).await,
            LeaseStep::ReleaseUnconfirmed { last_position } => {
                self.release(Some(Word::Unconfirmed(*last_position)), seen).await
            }
            LeaseStep::GiveBack { word: LastWord::Stands } => self.release(None, seen).await,
            LeaseStep::GiveBack { word: LastWord::IsOver } => self.release(Some(Word::Nothing), seen).await,
        };
        self.settle_guard(&outcome, seen);
        self.show_authority(&outcome);
        outcome
    }

    async fn acquire(&mut self, lock: LockSeen, seen: &Observation) -> LeaseOutcome {
        let started = self.shared.now();
        if self.shared.inbox().promise.race(started) == Race::Bound {
            return LeaseOutcome::None;
        }
        let limit = self.patience();
        let answer = self.shared.bounded(limit, self.shared.dcs.acquire(lock, limit)).await;
        let outcome = self.judge("acquire", started, answer);
        if let (LeaseOutcome::Held { .. }, Ok(view)) = (&outcome, &seen.cluster) {
            self.publisher.begin_term(started, view);
        }
        outcome
    }

    async fn renew(&mut self, seen: &Observation) -> LeaseOutcome {
        let started = self.shared.now();
        let limit = self.patience();
        let status = self.status_to_publish(seen);
        // Two keys changed by one request are one message to each watch. Only at rest: what a job changes in our record
        // is not known before the lease is settled.
        let record = status.is_some().then(|| self.record_due(&LeaseOutcome::None, seen));
        let renewal = self.shared.dcs.renew(status.as_ref(), record.as_ref(), limit);
        let answer = self.shared.bounded(limit, renewal).await;
        let outcome = self.judge("renew", started, answer);
        if let LeaseOutcome::Held { .. } = outcome {
            let (now, leader) = (self.shared.now(), leader_of(seen));
            status.into_iter().for_each(|status| self.publisher.status_stands(status, now, leader));
            record.into_iter().for_each(|record| self.publisher.record_stands(record, now, leader));
        } else {
            self.publisher.status_unknown();
            self.publisher.record_unknown();
        }
        outcome
    }

    fn judge(&self, attempted: &'static str, started: Instant, answer: Option<Result<Lock, DcsError>>) -> LeaseOutcome {
        match answer {
            Some(Ok(Lock::Held { valid_for })) => LeaseOutcome::Held { until: started + valid_for },
            Some(Ok(Lock::NotHeld)) => LeaseOutcome::Lost,
            Some(Err(error)) => {
                tell(&error, format_args!("cannot {attempted} the leader lock"));
                LeaseOutcome::Unknown
            }
            None => {
                tracing::warn!("cannot {attempted} the leader lock: no answer in time");
                LeaseOutcome::Unknown
            }
        }
    }

    /// Our record goes with it: without a last position it alone tells the others that the key was not lost by accident.
    async fn release(&mut self, word: Option<Word>, seen: &Observation) -> LeaseOutcome {
        let status = word.map(|word| {
            let last = self.reading.last().map(|snapshot| snapshot.view.status.clone()).unwrap_or_default();
            let last = ClusterStatus { released_by: None, gave_way: None, ..last };
            let me = Some(self.settings.config.name.clone());
            match word {
                Word::HandedOver(position) => ClusterStatus { optime: Some(position), released_by: me, ..last },
                Word::Unconfirmed(position) => ClusterStatus { optime: Some(position), ..last },
                Word::GaveWay => ClusterStatus { gave_way: me, ..last },
                Word::Nothing => last,
            }
        });
        let record = self.record_due(&LeaseOutcome::Released, seen);
        let limit = self.patience();
        let release = self.shared.dcs.release(status.as_ref(), Some(&record), limit);
        match self.shared.bounded(limit, release).await {
            Some(Ok(())) => {
                self.publisher.record_stands(record, self.shared.now(), leader_of(seen));
                return LeaseOutcome::Released;
            }
            Some(Err(error)) => tell(&error, format_args!("cannot release the leader lock")),
            None => tracing::warn!("cannot release the leader lock: no answer in time"),
        }
        self.publisher.record_unknown();
        LeaseOutcome::ReleaseUnknown
    }

    /// A leader's status; nothing while a job runs, or PostgreSQL is neither a primary nor what leads a standby cluster.
    fn status_to_publish(&mut self, seen: &Observation) -> Option<ClusterStatus> {
        let (Postgres::Running(running), None, Ok(view)) = (&seen.local.postgres, self.jobs.running(), &seen.cluster)
        else {
            return None;
        };
        let position = match running {
            Running::Primary(facts) => facts.flushed,
            Running::Standby(facts) if facts.upstream.is_elsewhere() => facts.position(),
            Running::Standby(_) => return None,
        };
        let name = &self.settings.config.name;
        let policy = self.settings.policy();
        let retained = self.publisher.retained();
        let found = &self.server.probe().facts.slots;
        let slots = slots::published(&policy, view, &retained, found, position);
        let permanent = &policy.slots.permanent;
        let settings = retain::Settings { ttl: self.settings.dynamic.member_slots_ttl, permanent };
        let retain_slots = self.publisher.retain_slots(self.shared.now(), name, view, &slots, &settings);
        // What lies between two positions of a logical slot is sent again after a failover.
        let is_exact = slots::logical_moved(permanent, &view.status.slots, &slots);
        let step = if is_exact { 0 } else { self.step() };
        let status = ClusterStatus { optime: Some(position), slots, retain_slots, released_by: None, gave_way: None };
        let due = Due { now: self.shared.now(), leader: leader_of(seen), step };
        Some(self.publisher.status_due(status, &view.status, due))
    }

    fn tenure<'a>(&'a self, policy: &'a Policy, seen: &'a Observation, outcome: &'a LeaseOutcome) -> Tenure<'a> {
        let job = self.jobs.running().map(|running| &running.job);
        Tenure { policy, seen, job, guard: self.fence.guard(), valid_until: self.memory.lease_valid_until, outcome }
    }

    fn settle_guard(&mut self, outcome: &LeaseOutcome, seen: &Observation) {
        let policy = self.settings.policy();
        let guard = self.tenure(&policy, seen, outcome).guard_after();
        self.fence.set_guard(guard);
        self.keep_watchdog(outcome, seen);
        let until = self.tenure(&policy, seen, outcome).may_lead_until();
        self.shared.let_lead_until(until);
    }

    /// Alive with each renewal, and disarmed where PID 1 has no deadline and nothing can be a primary.
    fn keep_watchdog(&mut self, outcome: &LeaseOutcome, seen: &Observation) {
        let timing = self.settings.timing;
        let is_paused = self.settings.dynamic.pause == Pause::Paused;
        match (self.fence.guard(), outcome) {
            (Guard::Until(_), LeaseOutcome::Held { until }) => {
                self.watchdog.renewed(*until, &timing, self.shared.now());
            }
            (Guard::NoDeadline, _) if is_paused || !authority::may_be_primary(&seen.local.postgres) => {
                self.watchdog.lift();
            }
            (Guard::NoDeadline | Guard::Until(_), _) => {}
        }
        self.settings.reset_before = self.watchdog.reset_before(&timing);
    }

    /// Asked right before a job begins.
    pub(super) fn may_begin(&self, job: &Job, seen: &Observation, outcome: &LeaseOutcome) -> bool {
        self.tenure(&self.settings.policy(), seen, outcome).may_begin(job, self.shared.now())
    }

    /// After the lease's validity was found to be shorter.
    pub(super) fn shorten_guard(&mut self) {
        let until = self.memory.lease_valid_until.map(|until| lease::guard_deadline(until, &self.settings.timing));
        if let Some(until) = until {
            self.fence.bring_forward(until);
        }
    }

    /// Health checks flip at once, not at the cycle's end.
    fn show_authority(&self, outcome: &LeaseOutcome) {
        match outcome {
            LeaseOutcome::Held { until } | LeaseOutcome::Vouched { until } => self.show_leader(Some(*until)),
            LeaseOutcome::Lost | LeaseOutcome::Released | LeaseOutcome::ReleaseUnknown => self.show_leader(None),
            LeaseOutcome::None | LeaseOutcome::Unknown => {}
        }
    }

    /// The same when the reading says that the lock is another's.
    pub(super) fn show_loss(&self, seen: &Observation) {
        if seen.cluster.as_ref().is_ok_and(|view| !view.is_ours()) {
            self.show_leader(None);
        }
    }

    pub(super) fn show_leader(&self, until: Option<Instant>) {
        self.shared.show_leader(until.filter(|_| !self.is_stepping_down()));
    }
}
