//! What was asked of this node from outside.

use std::time::Duration;

use super::units::WallTime;
use super::view::MemberRole;

/// All of it, as it stands at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requests {
    /// SIGTERM, SIGINT.
    pub shutdown: Option<ShutdownRequest>,
    /// `POST /restart`, its filters already checked.
    pub restart: Option<RestartRequest>,
    /// `POST /reinitialize`.
    pub reinitialize: Option<ReinitRequest>,
    /// `POST /restart` with a time.
    pub scheduled: Option<ScheduledRestart>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShutdownRequest {
    /// Hand over, checkpoint, fast shutdown, release.
    Graceful,
    /// A second signal: no hand-over, fast stop at once.
    Fast,
    /// A third one: immediate.
    Immediate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RestartRequest {
    pub timeout: Option<Duration>,
}

/// A restart that was asked for, to be begun at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScheduledRestart {
    pub at: WallTime,
    /// When the server that it means was started: if another one runs by then, there is nothing left to do.
    pub started: Option<String>,
    pub conditions: RestartConditions,
}

/// Which server a restart means; what is not given is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RestartConditions {
    pub role: Option<MemberRole>,
    /// Only one that is older: 150020 for 15.20.
    pub older_than: Option<u32>,
    /// Only one that waits for a restart.
    pub is_pending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReinitRequest {
    /// From a `clonefrom` member if there is one.
    AnySource,
    FromLeader,
}
