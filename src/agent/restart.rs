//! Restarts on request: their filters and their schedule. The restart itself is
//! a decision's; here a request becomes one that is due.

use std::time::Duration;

use super::cycle::Agent;
use super::inbox::{PendingRestart, ScheduledRestart};
use super::mailbox::RestartBody;
use super::observe::earlier;
use super::publish::postgres_status;
use super::status::Status;
use crate::core::decision::Wake;
use crate::core::observation::RestartRequest;
use crate::core::policy::Pause;
use crate::core::units::{Instant, WallTime};
use crate::dcs::Dcs;
use crate::postgres::Instance;

/// A request that no cycle has begun by then is given up.
pub(super) const BEGIN_WITHIN: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filters {
    Match,
    DoNot,
}

/// Whether the server is one that the request means.
pub(super) fn filters(body: &RestartBody, status: &Status) -> Filters {
    let other_role = body.role.is_some_and(|role| role != status.role);
    let new_enough = match (body.postgres_version, status.postgres.server_version) {
        (Some(wanted), Some(running)) => running >= wanted,
        (Some(_), None) | (None, _) => false,
    };
    let nothing_pending = body.restart_pending && status.pending_restart.is_empty();
    if other_role || new_enough || nothing_pending { Filters::DoNot } else { Filters::Match }
}

/// What is to be done about a scheduled restart now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Now,
    /// In so long.
    Later(Duration),
    /// The time is long over, for example because the cluster was paused.
    Stale,
}

fn due(schedule: WallTime, now: WallTime, loop_wait: Duration) -> Due {
    let ahead = schedule.0.saturating_sub(now.0);
    match u64::try_from(ahead) {
        Ok(0) => Due::Now,
        Ok(ahead) => Due::Later(Duration::from_millis(ahead)),
        Err(_) if Duration::from_millis(ahead.unsigned_abs()) > loop_wait * 3 / 2 => Due::Stale,
        Err(_) => Due::Now,
    }
}

impl<D: Dcs, I: Instance> Agent<D, I> {
    /// Turns a scheduled restart that is due into a request.
    pub(super) fn execute_schedule(&mut self) {
        let Some(scheduled) = self.shared.inbox().scheduled.clone() else { return };
        let locked = self.snapshot.as_ref().is_some_and(|snapshot| snapshot.view.leader.is_some());
        if self.settings.dynamic.pause == Pause::Paused || self.jobs.running().is_some() || !locked {
            return;
        }
        let running = postgres_status(&self.probe).postmaster_start_time;
        if running.is_some() && running != scheduled.postmaster_start_time {
            let at = running.unwrap_or_default();
            tracing::info!("Cancelling scheduled restart: postgres restart has already happened at {at}");
            self.shared.inbox().scheduled = None;
            return;
        }
        let Some(schedule) = scheduled.body.schedule else { return };
        match due(schedule, self.shared.clock.wall(), self.settings.timing.loop_wait) {
            Due::Later(_) => {}
            Due::Stale => {
                tracing::warn!("Found a stale restart value, cleaning up");
                self.shared.inbox().scheduled = None;
            }
            Due::Now => self.begin_scheduled(&scheduled),
        }
    }

    fn begin_scheduled(&self, scheduled: &ScheduledRestart) {
        let matches = filters(&scheduled.body, &self.shared.status());
        let until = self.shared.now() + BEGIN_WITHIN;
        let mut inbox = self.shared.inbox();
        inbox.scheduled = None;
        match matches {
            Filters::Match => {
                let request = RestartRequest { timeout: scheduled.body.timeout };
                inbox.restart.get_or_insert(PendingRestart { request, answer: None, until });
            }
            Filters::DoNot => tracing::info!("Scheduled restart: restart conditions are not satisfied"),
        }
    }

    /// A cycle begins when a scheduled restart is due.
    pub(super) fn with_schedule(&self, wake: Wake) -> Wake {
        let Wake::At(at) = wake else { return wake };
        let schedule = self.shared.inbox().scheduled.as_ref().and_then(|scheduled| scheduled.body.schedule);
        let wall = self.shared.clock.wall();
        let ahead = schedule.and_then(|schedule| u64::try_from(schedule.0.saturating_sub(wall.0)).ok());
        let begins: Option<Instant> = ahead.map(|ahead| self.shared.now() + Duration::from_millis(ahead));
        Wake::At(earlier(at, begins))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_due_at_its_time_and_stale_long_after() {
        let loop_wait = Duration::from_secs(10);
        let at = |now| due(WallTime(100_000), WallTime(now), loop_wait);
        assert_eq!(at(99_000), Due::Later(Duration::from_secs(1)));
        assert_eq!(at(100_000), Due::Now);
        assert_eq!(at(115_000), Due::Now);
        assert_eq!(at(115_001), Due::Stale);
    }
}
