//! What the agent tells PID 1 and hears from it, without the wire: `run` puts the socket behind it, tests a recorder.
//!
//! Telling never blocks and never fails visibly: the socket holds a few small messages and PID 1 does nothing but read
//! them. When PID 1 is gone the kernel ends us.

use crate::core::local::Guard;
use crate::dcs::LeaseToken;
use crate::wire::watchdog::{WatchdogOrder, WatchdogState};

/// The way to PID 1.
pub trait InitLink: Send + Sync + 'static {
    /// Until when PostgreSQL may run as a primary.
    fn guard(&self, guard: Guard);
    /// The lease that our keys hang on, for the agent that comes after us.
    fn lease(&self, token: &LeaseToken);
    fn watchdog(&self, order: WatchdogOrder);
    /// The postmaster that runs by the last probe; for the case that this agent ends.
    fn postmaster(&self, pid: Option<i32>);
}

/// What PID 1 tells us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromInit {
    /// SIGTERM or SIGINT; the second and the third escalate.
    Terminate,
    /// SIGHUP.
    Reload,
    Watchdog(WatchdogState),
}
