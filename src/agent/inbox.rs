//! What has come for the loop since its last cycle: requests and signals. Written by the tasks beside the loop, read
//! at the beginning of each cycle. Everything here is small and replaced rather than queued.

use std::time::Duration;

use tokio::sync::oneshot;

use super::init_link::FromInit;
use super::mailbox::{RestartBody, RestartResult, reply};
use super::promise::Promised;
use crate::core::observation::{self, ReinitRequest, Requests, RestartRequest, ShutdownRequest};
use crate::core::units::Instant;
use crate::wire::watchdog::WatchdogState;

/// A request that no cycle has begun by then is given up.
pub(crate) const BEGIN_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) shutdown: Option<ShutdownRequest>,
    pub(crate) reload: Reload,
    pub(crate) restart: Option<PendingRestart>,
    pub(crate) scheduled: Option<ScheduledRestart>,
    pub(crate) reinitialize: Option<PendingReinit>,
    /// Whether a request forces the running job out of its way.
    pub(crate) force: ForceOut,
    /// What was promised to a primary in failsafe mode, and whether anything may be promised now.
    pub(crate) promise: Promised,
    /// What PID 1 has said of the watchdog: an answer to an order each, so that there are few.
    pub(crate) watchdog: Vec<WatchdogState>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reload {
    #[default]
    NotAsked,
    Asked,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ForceOut {
    #[default]
    No,
    CancelJob,
}

/// A restart that was asked for and has not been begun.
#[derive(Debug)]
pub(crate) struct PendingRestart {
    pub(crate) request: RestartRequest,
    /// `None`: a scheduled one, whose end only the log tells.
    pub(crate) answer: Option<oneshot::Sender<RestartResult>>,
    /// Given up when it has not begun by then.
    pub(crate) until: Instant,
}

/// A restart for later; lives in memory and in the member's record.
#[derive(Clone, Debug)]
pub(crate) struct ScheduledRestart {
    pub(crate) body: RestartBody,
    /// The server it was meant for: if that has been restarted meanwhile, there is nothing left to do.
    pub(crate) postmaster_start_time: Option<String>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingReinit {
    pub(crate) request: ReinitRequest,
    pub(crate) until: Instant,
}

impl Inbox {
    /// A signal: each further TERM escalates.
    pub(crate) fn hear(&mut self, message: FromInit) {
        match message {
            FromInit::Terminate => {
                self.shutdown = Some(match self.shutdown {
                    None => ShutdownRequest::Graceful,
                    Some(ShutdownRequest::Graceful) => ShutdownRequest::Fast,
                    Some(ShutdownRequest::Fast | ShutdownRequest::Immediate) => ShutdownRequest::Immediate,
                });
            }
            FromInit::Reload => self.reload = Reload::Asked,
            FromInit::Watchdog(state) => self.watchdog.push(state),
        }
    }

    /// The requests as a decision sees them. What has waited too long is answered and dropped.
    pub(crate) fn requests(&mut self, now: Instant) -> Requests {
        if let Some(late) = self.restart.take_if(|restart| now >= restart.until) {
            late.answer(RestartResult::Failed);
        }
        self.reinitialize.take_if(|reinit| now >= reinit.until);
        Requests {
            shutdown: self.shutdown,
            restart: self.restart.as_ref().map(|restart| restart.request),
            reinitialize: self.reinitialize.map(|reinit| reinit.request),
            scheduled: self.scheduled.as_ref().and_then(ScheduledRestart::as_seen),
        }
    }
}

impl ScheduledRestart {
    fn as_seen(&self) -> Option<observation::ScheduledRestart> {
        Some(observation::ScheduledRestart {
            at: self.body.schedule?,
            started: self.postmaster_start_time.clone(),
            conditions: self.body.conditions.clone(),
        })
    }
}

impl PendingRestart {
    pub(crate) fn answer(self, result: RestartResult) {
        match self.answer {
            Some(answer) => reply(answer, result),
            None => tracing::info!("Scheduled restart: {}", text(&result)),
        }
    }
}

/// Patroni's words for how a restart ended.
fn text(result: &RestartResult) -> String {
    match result {
        RestartResult::Restarted => "restarted successfully".to_owned(),
        RestartResult::Scheduled => "Restart scheduled".to_owned(),
        RestartResult::AlreadyScheduled => "Another restart is already scheduled".to_owned(),
        RestartResult::ConditionsNotSatisfied => "restart conditions are not satisfied".to_owned(),
        RestartResult::Busy(text) => text.clone(),
        RestartResult::StillStarting => "postgres is still starting".to_owned(),
        RestartResult::Failed => "restart failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_further_terminate_escalates() {
        let mut inbox = Inbox::default();
        let mut heard = || {
            inbox.hear(FromInit::Terminate);
            inbox.shutdown
        };
        assert_eq!(heard(), Some(ShutdownRequest::Graceful));
        assert_eq!(heard(), Some(ShutdownRequest::Fast));
        assert_eq!(heard(), Some(ShutdownRequest::Immediate));
        assert_eq!(heard(), Some(ShutdownRequest::Immediate));
    }

    #[test]
    fn a_restart_that_never_begins_is_answered() {
        let (answer, mut answered) = oneshot::channel();
        let request = RestartRequest { timeout: None };
        let now = Instant::from_millis(1_000);
        let mut inbox = Inbox {
            restart: Some(PendingRestart { request, answer: Some(answer), until: now + Duration::from_secs(1) }),
            ..Inbox::default()
        };
        assert_eq!(inbox.requests(now).restart, Some(request));
        assert_eq!(inbox.requests(now + Duration::from_secs(1)).restart, None);
        assert_eq!(answered.try_recv(), Ok(RestartResult::Failed));
    }
}
