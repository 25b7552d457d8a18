//! Validity arithmetic of the lock. All times are our own monotonic clock; validity counts from the START of the request
//! that renewed the lease, so that the store never lets it go before we think it has.

use super::decision::{LeaseStep, Wake};
use super::observation::{LockLost, Memory};
use super::policy::Timing;
use super::units::Instant;
use super::view::ClusterView;
use std::time::Duration;

/// How soon a renewal that brought no answer is tried again.
pub const RETRY: Duration = Duration::from_millis(500);

/// Where the lock stands for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The key is on our lease, which is valid until then by our own clock.
    Held {
        until: Instant,
    },
    /// The key is on our lease, but how long that is valid we do not know: it must be renewed before it counts.
    Unconfirmed,
    NotOurs,
}

impl Hold {
    /// What the view and our own memory say together.
    pub fn of(view: &ClusterView, memory: &Memory, now: Instant) -> Hold {
        if !view.is_ours() || memory.lock_lost == LockLost::Yes {
            return Hold::NotOurs;
        }
        match memory.lease_valid_until {
            Some(until) if until > now => Hold::Held { until },
            Some(_) | None => Hold::Unconfirmed,
        }
    }
}

/// When PID 1 is to end PostgreSQL unless the lease is renewed before.
pub fn guard_deadline(valid_until: Instant, timing: &Timing) -> Instant {
    valid_until - timing.guard_margin()
}

/// When a primary without a renewal begins to stop by itself, so that it is done before the guard's deadline.
pub fn stop_deadline(valid_until: Instant, timing: &Timing) -> Instant {
    guard_deadline(valid_until, timing) - timing.stop_margin()
}

/// How long `pre_promote` may take: no longer than the lease lasts that the promotion was begun with, were it not renewed.
pub fn pre_promote_limit(timing: &Timing) -> Duration {
    timing.ttl - timing.guard_margin() - timing.stop_margin()
}

/// When the next renewal is due: `loop_wait` after the last.
pub fn renewal_due(valid_until: Instant, timing: &Timing) -> Instant {
    valid_until - timing.ttl + timing.loop_wait
}

/// The lease step and the wake-up of a cycle in which nothing else is urgent.
pub fn heartbeat(hold: Hold, timing: &Timing, now: Instant) -> (LeaseStep, Wake) {
    match hold {
        Hold::Held { until } => {
            let due = renewal_due(until, timing);
            // A cycle that begins a little early renews all the same, rather than twice.
            if now + timing.loop_wait / 20 >= due {
                (LeaseStep::Renew, Wake::At(now + timing.loop_wait))
            } else {
                (LeaseStep::Keep, Wake::At(due))
            }
        }
        Hold::Unconfirmed => (LeaseStep::Renew, Wake::At(now + RETRY)),
        Hold::NotOurs => (LeaseStep::Keep, Wake::At(now + timing.loop_wait)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant(Duration::from_secs(seconds))
    }

    #[test]
    fn renews_loop_wait_after_the_last_renewal_and_not_before() {
        let timing = Timing::default();
        let hold = Hold::Held { until: at(130) };
        assert_eq!(heartbeat(hold, &timing, at(105)), (LeaseStep::Keep, Wake::At(at(110))));
        assert_eq!(heartbeat(hold, &timing, at(110)), (LeaseStep::Renew, Wake::At(at(120))));
    }

    #[test]
    fn stops_before_the_guard_and_the_guard_before_the_end() {
        let timing = Timing::default();
        assert!(stop_deadline(at(130), &timing) < guard_deadline(at(130), &timing));
        assert!(guard_deadline(at(130), &timing) < at(130));
    }
}
