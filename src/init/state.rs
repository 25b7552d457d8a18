//! The state of PID 1 and the next action: pure, so that each rule has a unit test. `supervisor` passes events in and
//! performs the actions; time is a parameter (CLOCK_BOOTTIME).
//!
//! **Invariants:** a deadline that has passed is carried out before anything else, and is cleared by that alone; a crashed
//! agent is restarted, with the deadline in force; every wait that begins with a request to stop is bounded.

use std::time::Duration;

use super::fence::Place;
use super::sys::Ended;
use crate::wire::{Guard, LeaseToken, SILENCE_MAX, ToInit};

/// An agent that ends earlier than this after its start is restarted with a growing delay.
const QUICK: Duration = Duration::from_secs(2);
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// The limit while a deadline is set: there is a running primary to keep.
const GUARDED_DELAY_MAX: Duration = Duration::from_millis(500);
/// After this many quick ends in a row, without a postmaster, the start has failed.
const QUICK_ENDS_MAX: u32 = 8;
/// After this many crashes during a stop PID 1 stops PostgreSQL itself.
const CRASHES_WHILE_STOPPING_MAX: u32 = 3;
/// How long PID 1 waits for a fast shutdown, then for an immediate one.
const FAST_MAX: Duration = Duration::from_secs(60);
const IMMEDIATE_MAX: Duration = Duration::from_secs(5);
/// A second request to stop shortens the wait for an agent that has not answered the first.
const PATIENCE: Duration = Duration::from_secs(1);

/// The next action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The deadline has passed: kill everything below us.
    Fence,
    StartAgent,
    /// The agent does not respond to a request to stop: kill it and stop PostgreSQL from here.
    TakeOver,
    /// PostgreSQL does not stop in time: escalate to the next mode.
    Escalate(Way),
    Leave(u8),
}

/// How PID 1 stops PostgreSQL itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Fast,
    Immediate,
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agent {
    StartAt(Duration),
    Running {
        since: Duration,
        bye: Option<u8>,
    },
    /// Will not be started again.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    /// The agent was told. Without any message until `silent_at` it counts as frozen.
    Asked {
        at: Duration,
        answered: bool,
        silent_at: Duration,
        crashes: u32,
    },
    /// PID 1 stops PostgreSQL: the mode, its time limit, and the exit code afterwards.
    Ourselves {
        way: Way,
        until: Duration,
        code: u8,
    },
    Leave(u8),
}

/// Whether the deadline is still to come, or there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadline {
    Ahead,
    Passed,
}

/// Whether there is a postmaster that outlives the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Postmaster {
    Runs,
    None,
}

pub(super) struct State {
    pub(super) place: Place,
    /// The deadline in force when the agent began, or ended. While one runs, the timer that it sets tells.
    pub(super) guard: Guard,
    deadline: Deadline,
    pub(super) lease: Option<LeaseToken>,
    pub(super) starts: u32,
    agent: Agent,
    stop: Stop,
    quick_ends: u32,
    was_ready: bool,
}

impl State {
    pub(super) fn new(place: Place) -> Self {
        State {
            place,
            guard: Guard::NoDeadline,
            deadline: Deadline::Ahead,
            lease: None,
            starts: 0,
            agent: Agent::StartAt(Duration::ZERO),
            stop: Stop::No,
            quick_ends: 0,
            was_ready: false,
        }
    }

    /// The action that is due first, if any.
    pub(super) fn due(&self, now: Duration) -> Option<Due> {
        if let Stop::Leave(code) = self.stop {
            return Some(Due::Leave(code));
        }
        if self.deadline == Deadline::Passed {
            return Some(Due::Fence);
        }
        match self.stop {
            Stop::Asked { silent_at, .. } if silent_at <= now => return Some(Due::TakeOver),
            Stop::Ourselves { way: Way::Fast, until, .. } if until <= now => {
                return Some(Due::Escalate(Way::Immediate));
            }
            Stop::Ourselves { way: Way::Immediate | Way::Kill, until, .. } if until <= now => {
                return Some(Due::Escalate(Way::Kill));
            }
            Stop::No | Stop::Asked { .. } | Stop::Ourselves { .. } | Stop::Leave(_) => {}
        }
        matches!(self.agent, Agent::StartAt(at) if at <= now).then_some(Due::StartAgent)
    }

    /// When `due` must be called again if no event comes, the deadline's among them.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        let stop = match self.stop {
            Stop::No => None,
            Stop::Asked { silent_at, .. } => Some(silent_at),
            Stop::Ourselves { until, .. } => Some(until),
            Stop::Leave(_) => Some(Duration::ZERO),
        };
        let agent = match self.agent {
            Agent::StartAt(at) => Some(at),
            Agent::Running { .. } | Agent::Over => None,
        };
        [stop, agent].into_iter().flatten().min()
    }

    /// The timer that holds the deadline has expired.
    pub(super) fn deadline_passed(&mut self) {
        self.deadline = Deadline::Passed;
    }

    /// The deadline that an agent which has ended has left behind.
    pub(super) fn left_in_force(&mut self, guard: Guard) {
        self.guard = guard;
    }

    /// A message of the agent; the supervisor keeps the postmaster's pidfd.
    pub(super) fn heard(&mut self, message: ToInit, now: Duration) {
        if let Stop::Asked { answered, silent_at, .. } = &mut self.stop {
            *answered = true;
            *silent_at = now + SILENCE_MAX;
        }
        match message {
            ToInit::Ready => self.was_ready = true,
            ToInit::Lease(lease) => self.lease = lease,
            ToInit::Bye(code) => {
                if let Agent::Running { bye, .. } = &mut self.agent {
                    *bye = Some(code);
                }
            }
            ToInit::Alive | ToInit::Postmaster(_) | ToInit::Watchdog(_) => {}
        }
    }

    /// SIGTERM or SIGINT came.
    pub(super) fn asked_to_stop(&mut self, now: Duration) {
        match &mut self.stop {
            Stop::No => {
                let silent_at = now + SILENCE_MAX;
                self.stop = Stop::Asked { at: now, answered: false, silent_at, crashes: 0 };
                if let Agent::StartAt(at) = &mut self.agent {
                    // Only an agent can hand the primary's role over, so one is needed even now.
                    *at = now;
                }
            }
            Stop::Asked { at, answered: false, silent_at, .. } => *silent_at = (*at + PATIENCE).max(now),
            Stop::Asked { answered: true, .. } | Stop::Leave(_) => {}
            Stop::Ourselves { until, .. } => *until = now,
        }
    }

    /// Whether a new agent has to be told to stop.
    pub(super) fn is_asked_to_stop(&self) -> bool {
        !matches!(self.stop, Stop::No)
    }

    pub(super) fn agent_started(&mut self, now: Duration) {
        self.starts = self.starts.saturating_add(1);
        self.was_ready = false;
        self.agent = Agent::Running { since: now, bye: None };
    }

    /// fork failed; retried without limit.
    pub(super) fn start_failed(&mut self, now: Duration) {
        self.quick_ends = self.quick_ends.saturating_add(1);
        self.agent = Agent::StartAt(now + self.delay());
    }

    /// The agent's process has ended and its last messages were read. Returns what to log.
    pub(super) fn agent_ended(&mut self, ended: Ended, postmaster: Postmaster, now: Duration) -> AgentEnd {
        let Agent::Running { since, bye } = self.agent else { return AgentEnd::Expected };
        if let Some(code) = bye {
            // A postmaster that the agent leaves running on purpose (in pause, a standby) outlives us only when we are
            // not PID 1, and only without a deadline: nobody would be left to hold it to that.
            let may_stay = self.place == Place::SubReaper && self.guard == Guard::NoDeadline;
            if postmaster == Postmaster::Runs && !may_stay {
                self.leave(code, Postmaster::Runs, now);
                return AgentEnd::StopPostgres;
            }
            self.leave(code, Postmaster::None, now);
            return AgentEnd::Expected;
        }
        if let Stop::Asked { crashes, silent_at, .. } = &mut self.stop {
            *crashes += 1;
            if *crashes >= CRASHES_WHILE_STOPPING_MAX {
                *silent_at = now;
            }
        }
        self.quick_ends = if now < since + QUICK { self.quick_ends.saturating_add(1) } else { 0 };
        let cannot_run = matches!(ended, Ended::Exited(125..=127)) && !self.was_ready;
        if postmaster == Postmaster::None && (cannot_run || self.quick_ends >= QUICK_ENDS_MAX) {
            self.agent = Agent::Over;
            self.stop = Stop::Leave(exit_code(ended));
            return AgentEnd::GivenUp;
        }
        let delay = self.delay();
        self.agent = Agent::StartAt(now + delay);
        AgentEnd::Restart(delay)
    }

    /// No delay for the first quick end, then doubled up to the limit.
    fn delay(&self) -> Duration {
        let max = if self.guard == Guard::NoDeadline { DELAY_MAX } else { GUARDED_DELAY_MAX };
        match self.quick_ends {
            0 | 1 => Duration::ZERO,
            ends => DELAY_MIN.saturating_mul(1 << (ends - 2).min(16)).min(max),
        }
    }

    /// Everything below PID 1 was killed. The agent is restarted unless PID 1 is stopping.
    pub(super) fn fenced(&mut self, now: Duration) {
        self.guard = Guard::NoDeadline;
        self.deadline = Deadline::Ahead;
        self.stop = match self.stop {
            Stop::No => Stop::No,
            Stop::Asked { .. } => Stop::Leave(super::FATAL),
            Stop::Ourselves { code, .. } | Stop::Leave(code) => Stop::Leave(code),
        };
        self.agent = if self.stop == Stop::No { Agent::StartAt(now) } else { Agent::Over };
    }

    /// The agent was killed, and PostgreSQL, if it runs, was sent SIGINT.
    pub(super) fn taken_over(&mut self, postmaster: Postmaster, now: Duration) {
        self.leave(super::FATAL, postmaster, now);
    }

    pub(super) fn escalated(&mut self, way: Way, now: Duration) {
        if let Stop::Ourselves { code, .. } = self.stop {
            self.stop = match way {
                Way::Fast => Stop::Ourselves { way, until: now + FAST_MAX, code },
                Way::Immediate => Stop::Ourselves { way, until: now + IMMEDIATE_MAX, code },
                Way::Kill => Stop::Leave(code),
            };
        }
    }

    pub(super) fn postmaster_gone(&mut self) {
        if let Stop::Ourselves { code, .. } = self.stop {
            self.stop = Stop::Leave(code);
        }
    }

    fn leave(&mut self, code: u8, postmaster: Postmaster, now: Duration) {
        self.agent = Agent::Over;
        self.stop = match postmaster {
            Postmaster::Runs => Stop::Ourselves { way: Way::Fast, until: now + FAST_MAX, code },
            Postmaster::None => Stop::Leave(code),
        };
    }
}

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AgentEnd {
    Expected,
    /// On purpose, with a postmaster left running, which must be stopped.
    StopPostgres,
    Restart(Duration),
    GivenUp,
}

fn exit_code(ended: Ended) -> u8 {
    match ended {
        // A failure is never reported as success.
        Ended::Exited(0) => super::FATAL,
        Ended::Exited(code) => code,
        Ended::Killed(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
    }
}

#[cfg(test)]
mod tests;
