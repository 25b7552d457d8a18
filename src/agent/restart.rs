//! Restarts at a time: one that is due becomes a request. The restart itself is a decision's.

use std::time::Duration;

use super::cycle::Agent;
use super::inbox::{PendingRestart, ScheduledRestart};
use super::schedule::{BEGIN_WITHIN, Due, Filters, due, filters};
use super::status::PostgresStatus;
use crate::core::decision::Wake;
use crate::core::observation::RestartRequest;
use crate::core::policy::Pause;
use crate::core::units::Instant;
use crate::dcs::Dcs;
use crate::postgres::Instance;

impl<D: Dcs, I: Instance> Agent<D, I> {
    /// Turns a scheduled restart that is due into a request.
    pub(super) fn execute_schedule(&mut self) {
        let Some(scheduled) = self.shared.inbox().scheduled.clone() else { return };
        let locked = self.snapshot.as_ref().is_some_and(|snapshot| snapshot.view.leader.is_some());
        if self.settings.dynamic.pause == Pause::Paused || self.jobs.running().is_some() || !locked {
            return;
        }
        let running = PostgresStatus::of(self.server.probe()).postmaster_start_time;
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
        Wake::At(begins.map_or(at, |begins| at.min(begins)))
    }
}
