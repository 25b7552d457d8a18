//! What follows where a member must not lead without a watchdog device. Not in a pause: PID 1 has no deadline then, and the
//! device is disarmed.

use super::context::Ctx;
use super::decision::Decision;
use super::local::Watchdog;
use super::policy::Pause;
use super::reason::Reason;
use super::{lease, serving};

pub fn is_failed(ctx: &Ctx) -> bool {
    ctx.policy.pause == Pause::Running && ctx.seen.local.watchdog == Watchdog::Failed
}

/// A member that could not lead, as far as it knows, leaves the lock to others.
pub fn bars_race(ctx: &Ctx) -> Option<Reason> {
    match ctx.seen.local.watchdog {
        _ if ctx.policy.pause == Pause::Paused => None,
        Watchdog::NotRequired | Watchdog::Usable | Watchdog::Active => None,
        Watchdog::Unknown => Some(Reason::AwaitingWatchdog),
        Watchdog::Failed => Some(Reason::WatchdogUnusable),
    }
}

/// Whether PostgreSQL, which is no primary, must not be made one at this moment.
pub fn before_primary(ctx: &Ctx) -> Option<Decision> {
    match ctx.seen.local.watchdog {
        _ if ctx.policy.pause == Pause::Paused => None,
        Watchdog::NotRequired | Watchdog::Active => None,
        Watchdog::Unknown | Watchdog::Usable => {
            let wait = || ctx.again_after(lease::RETRY, Reason::AwaitingWatchdog);
            Some(serving::overdue(ctx).unwrap_or_else(wait))
        }
        Watchdog::Failed => Some(ctx.give_up(Reason::WatchdogNotPromoting)),
    }
}

/// A leader whose device cannot be armed.
pub fn on_leader(ctx: &Ctx) -> Option<Decision> {
    is_failed(ctx).then(|| ctx.stop_at_once(Reason::WatchdogDemoting))
}
