//! The deadline: one timer of the kernel on CLOCK_BOOTTIME, which the agent sets and PID 1 waits for. A renewal moves it
//! without waking PID 1.
//!
//! Each agent gets a timer of its own, set to what was in force when it began. So whatever an agent that has ended did, or
//! whoever still holds its timer does, moves nothing any more.
//!
//! **Invariant:** the timer is never disarmed, "no deadline" being one in the far future (`Guard::expires`): the kernel tells
//! the same of a disarmed timer and of one that expires at this moment.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::wire::Guard;

pub(super) struct Deadline(TimerFd);

impl Deadline {
    pub(super) fn new(guard: Guard) -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        let at = Expiration::OneShot(TimeSpec::from_duration(guard.expires()));
        timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        Ok(Deadline(timer))
    }

    /// It is not read: an expiry stays until the timer is set anew.
    pub(super) fn has_passed(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO) == Ok(1)
    }

    /// What an agent that has ended has left in force. Never later than the truth: `now` was read before.
    pub(super) fn left(&self, now: Duration) -> Guard {
        match self.0.get() {
            Ok(Some(Expiration::OneShot(left) | Expiration::Interval(left) | Expiration::IntervalDelayed(left, _))) => {
                Guard::expiring(now.saturating_add(Duration::from(left)))
            }
            Ok(None) | Err(_) => Guard::expiring(now),
        }
    }
}

impl AsFd for Deadline {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boottime::since_boot;

    #[test]
    fn what_is_left_is_never_later_than_what_was_set() {
        for ahead in [Duration::from_secs(1), Duration::from_secs(100_000_000)] {
            let until = since_boot() + ahead;
            let deadline = Deadline::new(Guard::expiring(until)).expect("a timer");
            let Guard::Until(left) = deadline.left(since_boot()) else { panic!("{ahead:?}") };
            let left = Duration::from_nanos(left);
            assert!(left <= until && until - left < Duration::from_secs(1), "{left:?} {until:?}");
            assert!(!deadline.has_passed());
        }
    }

    #[test]
    fn none_stays_none_and_one_that_has_passed_is_not_taken_for_none() {
        let none = Deadline::new(Guard::NoDeadline).expect("a timer");
        assert_eq!((none.left(since_boot()), none.has_passed()), (Guard::NoDeadline, false));
        for until in [0, 1, u64::try_from(since_boot().as_nanos()).expect("less than 500 years")] {
            let passed = Deadline::new(Guard::Until(until)).expect("a timer");
            let asked = since_boot();
            assert_eq!(passed.left(asked), Guard::expiring(asked));
            assert!(passed.has_passed());
        }
    }
}
