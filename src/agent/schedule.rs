//! Whether a restart that was asked for is due, and whether it means this server. Pure.

use std::time::Duration;

use super::mailbox::RestartBody;
use super::status::Status;
use crate::core::units::WallTime;

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
pub(super) enum Due {
    Now,
    /// In so long.
    Later(Duration),
    /// The time is long over, for example because the cluster was paused.
    Stale,
}

pub(super) fn due(schedule: WallTime, now: WallTime, loop_wait: Duration) -> Due {
    let ahead = schedule.0.saturating_sub(now.0);
    match u64::try_from(ahead) {
        Ok(0) => Due::Now,
        Ok(ahead) => Due::Later(Duration::from_millis(ahead)),
        Err(_) if Duration::from_millis(ahead.unsigned_abs()) > loop_wait * 3 / 2 => Due::Stale,
        Err(_) => Due::Now,
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
