//! The loop's timer: one of the kernel's on CLOCK_BOOTTIME. It wakes the thread once, where tokio's own wakes it several
//! times before a time that is seconds ahead, as its wheel comes nearer, and it counts the time that the machine slept.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use crate::core::units::Instant;

pub trait Alarm: Send + Sync {
    /// Returns at this instant, or at once if it has passed.
    fn at(&mut self, at: Instant) -> BoxFuture<'_, ()>;
}

pub(super) struct SystemAlarm {
    /// `None`: the kernel had none to give, and tokio's has to do.
    timer: Option<BootTimer>,
    now: fn() -> Instant,
}

impl SystemAlarm {
    /// `now`: what CLOCK_BOOTTIME shows.
    pub(super) fn new(now: fn() -> Instant) -> Self {
        let timer = BootTimer::new().inspect_err(|error| tracing::debug!("no timer of the kernel: {error}"));
        SystemAlarm { timer: timer.ok(), now }
    }
}

impl Alarm for SystemAlarm {
    fn at(&mut self, at: Instant) -> BoxFuture<'_, ()> {
        async move {
            let rung = match &self.timer {
                Some(timer) => timer.ring_at(at).await,
                None => Err(io::ErrorKind::Unsupported.into()),
            };
            if rung.is_err() {
                sleep(at.left((self.now)())).await;
            }
        }
        .boxed()
    }
}

struct BootTimer(AsyncFd<Timer>);

/// As tokio takes it.
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl BootTimer {
    fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = Timer(TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?);
        // SAFETY: the timer owns its descriptor and closes it when it is dropped, after tokio has let go of it.
        let watched = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
        Ok(BootTimer(watched.map_err(io::Error::from)?))
    }

    async fn ring_at(&self, Instant(at): Instant) -> io::Result<()> {
        // Zero would disarm it. What an earlier wait has left is gone with the setting.
        let at = Expiration::OneShot(TimeSpec::from_duration(at.max(Duration::from_nanos(1))));
        self.0.get_ref().0.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(rung) = ready.try_io(|timer| Ok(timer.get_ref().0.wait()?)) {
                return rung;
            }
        }
    }
}
