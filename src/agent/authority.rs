//! The lock and the fence: lease calls, what PID 1 is told, and whether PostgreSQL may be made a primary now.
//!
//! **Invariant:** PID 1 knows the deadline before anything is begun that could make PostgreSQL a primary, and the
//! deadline of a running primary is lifted by a pause or in single mode only. Validity counts from the instant before
//! the request that renewed the lease was sent.

use std::time::Duration;

use super::act::needs_authority;
use super::cycle::Agent;
use super::publish::leader_of;
use super::shared::SHUTDOWN_GRACE;
use crate::core::decision::LeaseStep;
use crate::core::lease;
use crate::core::local::{Guard, LastRole, Postgres, Running};
use crate::core::observation::{LeaseOutcome, Observation};
use crate::core::policy::{Mode, Pause, Timing};
use crate::core::units::{Instant, Lsn, Revision};
use crate::core::view::{ClusterStatus, ClusterView};
use crate::dcs::{Dcs, DcsError, Lock};
use crate::postgres::Instance;

/// A call to the store gets at least so much, however little time is left.
const PATIENCE_MIN: Duration = Duration::from_millis(100);

/// Whether PostgreSQL may be made a primary at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authority {
    Given,
    Missing,
}

/// Whether another member is known to have everything up to the last position, or none was there to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirmed {
    Yes,
    No,
}

impl<D: Dcs, I: Instance> Agent<D, I> {
    /// How long one call to the store may take: `retry_timeout`, and never past the point where a primary that could
    /// not renew has to begin its stop.
    pub(super) fn patience(&self) -> Duration {
        let timing = &self.settings.timing;
        let lease = self.memory.lease_valid_until.map(|until| lease::stop_deadline(until, timing));
        let guard = match self.guard {
            Guard::NoDeadline => None,
            Guard::Until(deadline) => Some(deadline - timing.stop_margin()),
        };
        let left = [lease, guard].into_iter().flatten().map(|end| end.left(self.shared.now())).min();
        let limit = left.map_or(timing.retry_timeout, |left| left.min(timing.retry_timeout)).max(PATIENCE_MIN);
        match self.shared.inbox().shutdown {
            None => limit,
            Some(_) => limit.min(SHUTDOWN_GRACE),
        }
    }

    /// The same for what is not the lease: where there is a lock to be renewed, that must still be possible afterwards.
    pub(super) fn short_patience(&self) -> Duration {
        match self.guard {
            Guard::NoDeadline => self.patience(),
            Guard::Until(_) => self.patience().min(self.settings.timing.retry_timeout / 2),
        }
    }

    pub(super) async fn carry_out_lease(&mut self, step: &LeaseStep, seen: &Observation) -> LeaseOutcome {
        let outcome = match step {
            LeaseStep::Keep => LeaseOutcome::None,
            LeaseStep::Acquire { seen: lock } => self.acquire(*lock, seen).await,
            LeaseStep::Renew => self.renew(seen).await,
            LeaseStep::Release { last_position } => self.release(*last_position, Confirmed::Yes, seen).await,
            LeaseStep::ReleaseUnconfirmed { last_position } => {
                self.release(Some(*last_position), Confirmed::No, seen).await
            }
        };
        self.settle_guard(&outcome, seen);
        self.show_authority(&outcome);
        outcome
    }

    async fn acquire(&mut self, lock: Option<Revision>, seen: &Observation) -> LeaseOutcome {
        let started = self.shared.now();
        let limit = self.patience();
        let answer = self.shared.bounded(limit, self.shared.dcs.acquire(lock, limit)).await;
        let outcome = self.judge("acquire", started, answer);
        if let (LeaseOutcome::Held { .. }, Ok(view)) = (&outcome, &seen.cluster) {
            self.retained.inherit(started, view);
            self.status_pace.forget();
            self.slots_synced = None;
            self.keep_slots(seen);
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
            status.into_iter().for_each(|status| self.status_pace.wrote(status, now, leader));
            record.into_iter().for_each(|record| self.record_pace.wrote(record, now, leader));
        } else {
            self.status_pace.forget();
            self.record_pace.forget();
        }
        outcome
    }

    fn judge(&self, attempted: &'static str, started: Instant, answer: Option<Result<Lock, DcsError>>) -> LeaseOutcome {
        match answer {
            Some(Ok(Lock::Held { valid_for })) => LeaseOutcome::Held { until: started + valid_for },
            Some(Ok(Lock::NotHeld)) => LeaseOutcome::Lost,
            Some(Err(error)) => {
                tracing::warn!("cannot {attempted} the leader lock: {error}");
                LeaseOutcome::Unknown
            }
            None => {
                tracing::warn!("cannot {attempted} the leader lock: no answer in time");
                LeaseOutcome::Unknown
            }
        }
    }

    /// Our record goes with it: without a last position it alone tells the others that the key was not lost by accident.
    async fn release(&mut self, last_position: Option<Lsn>, confirmed: Confirmed, seen: &Observation) -> LeaseOutcome {
        let status = last_position.map(|position| {
            let last = self.snapshot.as_ref().map(|snapshot| snapshot.view.status.clone()).unwrap_or_default();
            let released_by = (confirmed == Confirmed::Yes).then(|| self.settings.config.name.clone());
            ClusterStatus { optime: Some(position), released_by, ..last }
        });
        let record = self.record_due(&LeaseOutcome::Released, seen);
        let limit = self.patience();
        let release = self.shared.dcs.release(status.as_ref(), Some(&record), limit);
        match self.shared.bounded(limit, release).await {
            Some(Ok(())) => {
                self.record_pace.wrote(record, self.shared.now(), leader_of(seen));
                return LeaseOutcome::Released;
            }
            Some(Err(error)) => tracing::warn!("cannot release the leader lock: {error}"),
            None => tracing::warn!("cannot release the leader lock: no answer in time"),
        }
        self.record_pace.forget();
        LeaseOutcome::ReleaseUnknown
    }

    /// A leader's status; nothing while a job runs or PostgreSQL is no primary (`dcs.md` D-26).
    fn status_to_publish(&mut self, seen: &Observation) -> Option<ClusterStatus> {
        let (Postgres::Running(Running::Primary(facts)), None, Ok(view)) =
            (&seen.local.postgres, self.jobs.running(), &seen.cluster)
        else {
            return None;
        };
        let name = &self.settings.config.name;
        let ttl = self.settings.dynamic.member_slots_ttl;
        let mut slots = std::collections::BTreeMap::new();
        if self.settings.dynamic.use_slots.is_on() && !ttl.is_zero() {
            slots.clone_from(&self.probe.facts.slots);
            slots.insert(name.slot_name(), facts.flushed);
        }
        let retain_slots = self.retained.refresh(self.shared.now(), name, view, &slots, ttl);
        let status = ClusterStatus { optime: Some(facts.flushed), slots, retain_slots, released_by: None };
        self.status_pace.compare(&view.status);
        Some(self.status_pace.due(status, self.shared.now(), leader_of(seen), self.step()))
    }

    fn settle_guard(&mut self, outcome: &LeaseOutcome, seen: &Observation) {
        let timing = &self.settings.timing;
        let wanted = match (self.settings.mode(), self.settings.dynamic.pause, outcome) {
            (Mode::Single, _, _) | (Mode::Cluster, Pause::Paused, _) => Guard::NoDeadline,
            (Mode::Cluster, Pause::Running, LeaseOutcome::Held { until }) => {
                Guard::Until(lease::guard_deadline(*until, timing))
            }
            (
                Mode::Cluster,
                Pause::Running,
                LeaseOutcome::None
                | LeaseOutcome::Lost
                | LeaseOutcome::Unknown
                | LeaseOutcome::Released
                | LeaseOutcome::ReleaseUnknown,
            ) => match self.guard_without_renewal(outcome, seen) {
                Some(guard) => guard,
                None => return,
            },
        };
        self.tell_guard(wanted);
    }

    /// `None`: as it is.
    fn guard_without_renewal(&self, outcome: &LeaseOutcome, seen: &Observation) -> Option<Guard> {
        if self.is_harmless(outcome, seen) {
            return Some(Guard::NoDeadline);
        }
        match (self.guard, self.memory.lease_valid_until) {
            // The deadline was lifted while the lock was ours, by a pause or an outage: it holds again at once, not from
            // the next renewal on.
            (Guard::NoDeadline, Some(until)) if self.may_lead(outcome, seen) => {
                Some(Guard::Until(lease::guard_deadline(until, &self.settings.timing)))
            }
            (Guard::NoDeadline | Guard::Until(_), _) => None,
        }
    }

    fn tell_guard(&mut self, wanted: Guard) {
        if wanted != self.guard {
            self.shared.init.guard(wanted);
            self.guard = wanted;
        }
    }

    /// After the lease's validity was found to be shorter.
    pub(super) fn shorten_guard(&mut self) {
        let until = self.memory.lease_valid_until.map(|until| lease::guard_deadline(until, &self.settings.timing));
        if let (Guard::Until(deadline), Some(until)) = (self.guard, until)
            && until < deadline
        {
            self.tell_guard(Guard::Until(until));
        }
    }

    /// Whether the key is on our lease by the last reading.
    fn is_locked(&self, outcome: &LeaseOutcome, seen: &Observation) -> bool {
        match outcome {
            LeaseOutcome::Released | LeaseOutcome::ReleaseUnknown | LeaseOutcome::Lost => false,
            // Confirmed or not: a promotion that a former agent began may be under way.
            LeaseOutcome::None | LeaseOutcome::Unknown | LeaseOutcome::Held { .. } => {
                seen.cluster.as_ref().is_ok_and(ClusterView::is_ours)
            }
        }
    }

    /// Whether PostgreSQL is a primary as far as is known, or may become one by the lock or by what is under way.
    fn may_lead(&self, outcome: &LeaseOutcome, seen: &Observation) -> bool {
        let is_primary = match &seen.local.postgres {
            Postgres::Running(Running::Primary(_)) | Postgres::Stopping => true,
            Postgres::Starting { role, .. } | Postgres::Unresponsive { role, .. } => *role == LastRole::Primary,
            Postgres::Running(Running::Standby(_)) | Postgres::Stopped => false,
        };
        let becomes_one = self.jobs.running().is_some_and(|running| needs_authority(&running.job));
        is_primary || becomes_one || self.is_locked(outcome, seen)
    }

    /// Whether it is a fact of this observation that PostgreSQL is no primary and that nothing under way makes it one.
    /// A standby that was told to promote, by this agent or by one before it, may still come to it as long as the lock
    /// may be ours; a stopped server does not.
    fn is_harmless(&self, outcome: &LeaseOutcome, seen: &Observation) -> bool {
        let quiet = match (&seen.local.postgres, &seen.cluster) {
            (Postgres::Stopped, _) | (Postgres::Running(Running::Standby(_)), Ok(_)) => true,
            (
                Postgres::Running(_) | Postgres::Starting { .. } | Postgres::Unresponsive { .. } | Postgres::Stopping,
                _,
            ) => false,
        };
        quiet && !self.is_locked(outcome, seen) && self.jobs.running().is_none()
    }

    /// Whether the lock is ours beyond the margin and PID 1 knows; asked right before PostgreSQL is made a primary.
    pub(super) fn authority(&self, outcome: &LeaseOutcome) -> Authority {
        let now = self.shared.now();
        let valid_until = match outcome {
            LeaseOutcome::Held { until } => Some(*until),
            LeaseOutcome::None | LeaseOutcome::Unknown => self.memory.lease_valid_until,
            LeaseOutcome::Lost | LeaseOutcome::Released | LeaseOutcome::ReleaseUnknown => None,
        };
        match (self.settings.mode(), self.settings.dynamic.pause) {
            (Mode::Single, _) | (Mode::Cluster, Pause::Paused) => Authority::Given,
            (Mode::Cluster, Pause::Running) => authority_at(now, valid_until, self.guard, &self.settings.timing),
        }
    }

    /// Health checks flip at once, not at the cycle's end.
    fn show_authority(&self, outcome: &LeaseOutcome) {
        match outcome {
            LeaseOutcome::Held { until } => self.show_leader(Some(*until)),
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

/// Whether there is time left for being a primary, and PID 1 knows how much.
fn authority_at(now: Instant, valid_until: Option<Instant>, guard: Guard, timing: &Timing) -> Authority {
    let in_time = valid_until.is_some_and(|until| now < lease::stop_deadline(until, timing));
    match guard {
        Guard::Until(deadline) if in_time && now < deadline => Authority::Given,
        Guard::Until(_) | Guard::NoDeadline => Authority::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant(Duration::from_secs(seconds))
    }

    #[test]
    fn a_primary_needs_a_lease_with_time_left_and_a_guard_that_knows_it() {
        let timing = Timing::default();
        let armed = Guard::Until(at(129));
        let given = |now, valid_until, guard| authority_at(at(now), valid_until, guard, &timing);
        assert_eq!(given(100, Some(at(130)), armed), Authority::Given);
        assert_eq!(given(100, None, armed), Authority::Missing);
        assert_eq!(given(100, Some(at(130)), Guard::NoDeadline), Authority::Missing);
        assert_eq!(given(100, Some(at(130)), Guard::Until(at(100))), Authority::Missing);
        assert_eq!(given(126, Some(at(130)), armed), Authority::Given);
        assert_eq!(given(127, Some(at(130)), armed), Authority::Missing, "a stop would have to begin at once");
    }
}
