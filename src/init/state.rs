//! What PID 1 knows and what is due: pure, so that each rule is a test. `supervisor` feeds it events and carries out what
//! it says; the time is a parameter (CLOCK_BOOTTIME since boot).
//!
//! **Invariants:** a deadline is dropped by nothing but a message of the agent or its own execution; an agent that
//! crashes is started again; each wait that begins with a request to stop has an end.

use std::time::Duration;

use super::fence::Place;
use super::sys::Ended;
use crate::wire::{Guard, LeaseToken, SILENCE_MAX, ToInit};

/// An agent that ended sooner than this after its start ended quickly: it is started again with a growing delay.
const QUICK: Duration = Duration::from_secs(2);
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// While a deadline stands there is a running primary to be kept.
const GUARDED_DELAY_MAX: Duration = Duration::from_millis(500);
/// So many quick ends in a row, with nothing running to be looked after, are one failed start.
const QUICK_ENDS_MAX: u32 = 8;
/// So many agents may crash after a request to stop before PID 1 stops PostgreSQL itself.
const CRASHES_WHILE_STOPPING_MAX: u32 = 3;
/// How long PostgreSQL may take when PID 1 stops it: fast, then immediate.
const FAST_MAX: Duration = Duration::from_secs(60);
const IMMEDIATE_MAX: Duration = Duration::from_secs(5);
/// An unanswered second request to stop does not wait out the silence.
const PATIENCE: Duration = Duration::from_secs(1);

/// What has to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The deadline has passed: kill everything below us.
    Fence,
    StartAgent,
    /// The agent was asked to stop and does not: kill it and stop PostgreSQL ourselves.
    TakeOver,
    /// PostgreSQL does not stop in time: the next, harder way.
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
    /// Not to be started any more.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    /// The agent was told. It is taken for frozen at `silent_at`, unless it says something before.
    Asked {
        at: Duration,
        answered: bool,
        silent_at: Duration,
        crashes: u32,
    },
    /// PID 1 stops PostgreSQL, in this way until then, and leaves with that code.
    Ourselves {
        way: Way,
        until: Duration,
        code: u8,
    },
    Leave(u8),
}

/// Whether there is a postmaster that outlives the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Postmaster {
    Runs,
    None,
}

pub(super) struct State {
    place: Place,
    pub(super) guard: Guard,
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
            lease: None,
            starts: 0,
            agent: Agent::StartAt(Duration::ZERO),
            stop: Stop::No,
            quick_ends: 0,
            was_ready: false,
        }
    }

    /// What is due first, if anything.
    pub(super) fn due(&self, now: Duration) -> Option<Due> {
        if let Stop::Leave(code) = self.stop {
            return Some(Due::Leave(code));
        }
        if self.deadline().is_some_and(|deadline| deadline <= now) {
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

    /// When `due` has to be asked again if nothing happens.
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
        [self.deadline(), stop, agent].into_iter().flatten().min()
    }

    fn deadline(&self) -> Option<Duration> {
        match self.guard {
            Guard::NoDeadline => None,
            Guard::Until(nanos) => Some(Duration::from_nanos(nanos)),
        }
    }

    /// A message of the agent; which postmaster it names is the supervisor's to keep.
    pub(super) fn heard(&mut self, message: ToInit, now: Duration) {
        if let Stop::Asked { answered, silent_at, .. } = &mut self.stop {
            *answered = true;
            *silent_at = now + SILENCE_MAX;
        }
        match message {
            ToInit::Ready => self.was_ready = true,
            ToInit::Guard(guard) => self.guard = guard,
            ToInit::Lease(lease) => self.lease = lease,
            ToInit::Bye(code) => {
                if let Agent::Running { bye, .. } = &mut self.agent {
                    *bye = Some(code);
                }
            }
            ToInit::Alive | ToInit::Postmaster(_) => {}
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

    /// No process could be made; it is tried again for as long as it takes.
    pub(super) fn start_failed(&mut self, now: Duration) {
        self.quick_ends = self.quick_ends.saturating_add(1);
        self.agent = Agent::StartAt(now + self.delay());
    }

    /// The agent's process has ended and its last messages were heard. Returns how the end is to be told.
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

    /// Nothing for the first quick end, then doubled from the smallest delay to the largest.
    fn delay(&self) -> Duration {
        let max = if self.guard == Guard::NoDeadline { DELAY_MAX } else { GUARDED_DELAY_MAX };
        match self.quick_ends {
            0 | 1 => Duration::ZERO,
            ends => DELAY_MIN.saturating_mul(1 << (ends - 2).min(16)).min(max),
        }
    }

    /// Everything below us was killed. The agent starts anew, unless we were on our way out.
    pub(super) fn fenced(&mut self, now: Duration) {
        self.guard = Guard::NoDeadline;
        self.stop = match self.stop {
            Stop::No => Stop::No,
            Stop::Asked { .. } => Stop::Leave(super::FATAL),
            Stop::Ourselves { code, .. } | Stop::Leave(code) => Stop::Leave(code),
        };
        self.agent = if self.stop == Stop::No { Agent::StartAt(now) } else { Agent::Over };
    }

    /// The agent is out of the way and PostgreSQL, if there is one, was told to stop fast.
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

/// How the end of an agent is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AgentEnd {
    Expected,
    /// It said goodbye and left a postmaster behind, which has now to be told to stop.
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
