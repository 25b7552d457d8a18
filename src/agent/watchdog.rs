//! What PID 1 is told of the watchdog device, and what it has answered: armed and kept alive by each confirmed renewal while
//! PID 1 has a deadline, disarmed once nothing here can be a primary.
//!
//! Deliberately not here: what follows for who leads (`core::watchdog`).

use std::sync::Arc;
use std::time::Duration;

use super::init_link::InitLink;
use crate::config::{WatchdogConfig, WatchdogMode};
use crate::core::local;
use crate::core::policy::Timing;
use crate::core::units::{Instant, Seconds};
use crate::wire::watchdog::{Device, Need, WatchdogOrder, WatchdogState};

/// PID 1 answers at once or something is wrong.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How often it is asked whether the device could be armed.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// The least time that a renewal may take for it to count.
const GRACE: Duration = Duration::from_secs(1);

pub(super) struct Watchdog {
    init: Arc<dyn InitLink>,
    config: WatchdogConfig,
    state: State,
    /// Whether the device may be armed, by an agent before this one too.
    armed: Armed,
    /// What the last check said.
    usable: Usable,
    checked: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Asked {
        since: Instant,
    },
    Active,
    /// Until the configuration is read again: another try would fail too, and each ends a term.
    Failed,
    /// The timers leave no room for it.
    Unfit(Timing),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Armed {
    Maybe,
    No,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Usable {
    Unknown,
    Yes,
    No,
}

impl Watchdog {
    pub(super) fn new(init: Arc<dyn InitLink>, config: WatchdogConfig) -> Self {
        let (state, armed, usable) = (State::Idle, Armed::Maybe, Usable::Unknown);
        Watchdog { init, config, state, armed, usable, checked: None }
    }

    pub(super) fn reloaded(&mut self, config: &WatchdogConfig) {
        if self.config.device != config.device {
            (self.usable, self.checked) = (Usable::Unknown, None);
        }
        self.config.clone_from(config);
        if matches!(self.state, State::Failed | State::Unfit(_)) {
            self.state = State::Idle;
        }
        if config.mode == WatchdogMode::Off {
            self.lift();
        }
    }

    /// The lock was renewed and lasts until then.
    pub(super) fn renewed(&mut self, until: Instant, timing: &Timing, now: Instant) {
        match (self.config.mode, self.state) {
            (WatchdogMode::Off, _) => return self.lift(),
            (_, State::Failed) => return,
            (_, _) => {}
        }
        let timeout = self.config.timeout(timing.ttl);
        let Ok(seconds @ 1..) = u16::try_from(timeout) else { return self.unfit(timeout, timing) };
        if timeout < timing.loop_wait.as_secs() {
            return self.unfit(timeout, timing);
        }
        // So that the machine is reset before the lease ends.
        let by = (until - Duration::from_secs(timeout)).max(until - timing.ttl + GRACE);
        if now > by {
            tracing::warn!(
                "the lock was renewed too slowly for the watchdog, which counts down since the renewal before"
            );
            return;
        }
        let Some(device) = self.device() else { return self.fail() };
        let by = u64::try_from(by.0.as_nanos()).unwrap_or(u64::MAX);
        self.init.watchdog(WatchdogOrder::Keep {
            device,
            need: if self.config.mode == WatchdogMode::Required { Need::Required } else { Need::Optional },
            timeout: seconds,
            by,
        });
        self.armed = Armed::Maybe;
        match self.state {
            State::Idle | State::Unfit(_) => self.state = State::Asked { since: now },
            State::Asked { .. } | State::Active | State::Failed => {}
        }
    }

    /// The configuration takes no other.
    fn device(&self) -> Option<Device> {
        Device::new(self.config.device.as_os_str().as_encoded_bytes())
    }

    fn unfit(&mut self, timeout: u64, timing: &Timing) {
        if self.state != State::Unfit(*timing) {
            tracing::warn!(
                "no watchdog is used: its timeout {} is shorter than loop_wait {} (ttl {} less watchdog.safety_margin)",
                Seconds(Duration::from_secs(timeout)),
                Seconds(timing.loop_wait),
                Seconds(timing.ttl)
            );
        }
        self.lift();
        self.state = State::Unfit(*timing);
    }

    /// Nothing here is a primary or becomes one.
    pub(super) fn lift(&mut self) {
        if self.armed == Armed::Maybe {
            self.init.watchdog(WatchdogOrder::Disarm);
            self.armed = Armed::No;
        }
        if matches!(self.state, State::Asked { .. } | State::Active) {
            self.state = State::Idle;
        }
    }

    /// Once a cycle: whether this member could lead.
    pub(super) fn check(&mut self, now: Instant) {
        let due = self.checked.is_none_or(|at| at + CHECK_EVERY <= now);
        if self.config.mode == WatchdogMode::Required && self.state == State::Idle && due {
            if let Some(device) = self.device() {
                self.init.watchdog(WatchdogOrder::Check(device));
            }
            self.checked = Some(now);
        }
        if let State::Asked { since } = self.state
            && since + ANSWER_LIMIT <= now
        {
            tracing::warn!("PID 1 has not said within {} whether the watchdog is armed", Seconds(ANSWER_LIMIT));
            self.fail();
        }
    }

    pub(super) fn heard(&mut self, heard: WatchdogState, timing: &Timing) {
        match heard {
            WatchdogState::Usable => self.usable = Usable::Yes,
            WatchdogState::Unusable => self.usable = Usable::No,
            WatchdogState::Failed => self.fail(),
            WatchdogState::Armed { timeout } if matches!(self.state, State::Asked { .. } | State::Active) => {
                self.armed(u64::from(timeout), timing);
            }
            // It was given up meanwhile.
            WatchdogState::Armed { .. } => {}
        }
    }

    /// The driver may have chosen another time.
    fn armed(&mut self, timeout: u64, timing: &Timing) {
        let (device, wanted) = (self.config.device.display().to_string(), self.config.timeout(timing.ttl));
        let slack = timeout.checked_sub(timing.loop_wait.as_secs());
        let (in_seconds, asked) = (Seconds(Duration::from_secs(timeout)), Seconds(Duration::from_secs(wanted)));
        let Some(slack) = slack else {
            tracing::warn!("watchdog {device} has a timeout of {in_seconds}, less than loop_wait: it is not used");
            return self.fail();
        };
        if timeout > wanted {
            let text = format!("watchdog {device} has a timeout of {in_seconds} instead of {asked}");
            if self.config.mode == WatchdogMode::Required {
                tracing::warn!("{text}, later than the lock may end: it is not used");
                return self.fail();
            }
            tracing::warn!("{text}: the lock may end before the machine is reset");
        }
        self.state = State::Active;
        let slack = Seconds(Duration::from_secs(slack));
        tracing::info!("watchdog {device} activated with a timeout of {in_seconds}, timing slack {slack}");
    }

    fn fail(&mut self) {
        self.lift();
        self.state = State::Failed;
    }

    /// How long before the lease's end the machine is reset, where it is.
    pub(super) fn reset_before(&self, timing: &Timing) -> Duration {
        match self.state {
            State::Asked { .. } | State::Active => {
                timing.ttl.saturating_sub(Duration::from_secs(self.config.timeout(timing.ttl)))
            }
            State::Idle | State::Failed | State::Unfit(_) => Duration::ZERO,
        }
    }

    /// As a decision sees it.
    pub(super) fn seen(&self) -> local::Watchdog {
        match (self.config.mode, self.state) {
            (WatchdogMode::Off | WatchdogMode::Automatic, _) => local::Watchdog::NotRequired,
            (WatchdogMode::Required, State::Active) => local::Watchdog::Active,
            (WatchdogMode::Required, State::Failed | State::Unfit(_)) => local::Watchdog::Failed,
            (WatchdogMode::Required, State::Asked { .. }) => local::Watchdog::Usable,
            (WatchdogMode::Required, State::Idle) => match self.usable {
                Usable::Unknown => local::Watchdog::Unknown,
                Usable::Yes => local::Watchdog::Usable,
                Usable::No => local::Watchdog::Failed,
            },
        }
    }
}

#[cfg(test)]
#[path = "watchdog_tests.rs"]
mod tests;
