//! etcd out of space: after the alarm NOSPACE it refuses every write and every new lease until somebody makes room and
//! disarms it. Reads, deletions and keepalives go on, so a leader keeps its lock.
//!
//! A refused write is not asked for again before a pause has passed, which grows; all writes share it.

use std::future::Future;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::failure::Failure;

const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often the alarm is told of.
const TELL_EVERY: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Space(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Since the first refusal: when to ask again, the pause before that, and when the log was told last.
    full: Option<Full>,
}

#[derive(Clone, Copy, Debug)]
struct Full {
    again: Instant,
    pause: Duration,
    told: Instant,
}

impl Space {
    /// A request that writes; it is not sent while etcd is known to be full.
    pub(super) async fn write<T>(
        &self,
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Failure> {
        self.check(Instant::now())?;
        let answer = request.await.map_err(Failure::from);
        match &answer {
            Ok(_) => self.accepted(),
            Err(Failure::Full) => self.refused(Instant::now()),
            Err(_) => {}
        }
        answer
    }

    fn check(&self, now: Instant) -> Result<(), Failure> {
        match self.state().full {
            Some(full) if now < full.again => Err(Failure::Full),
            Some(_) | None => Ok(()),
        }
    }

    fn accepted(&self) {
        if self.state().full.take().is_some() {
            info!("etcd takes writes again");
        }
    }

    fn refused(&self, now: Instant) {
        let mut state = self.state();
        let pause = state.full.map_or(PAUSE_MIN, |full| (full.pause * 2).min(PAUSE_MAX));
        let told = state.full.map(|full| full.told).filter(|told| now.duration_since(*told) < TELL_EVERY);
        if told.is_none() {
            warn!(
                "etcd is out of space (alarm NOSPACE) and refuses writes: a leader keeps its lock, but nobody can become \
                 one. Compact and defragment etcd, then run: etcdctl alarm disarm"
            );
        }
        state.full = Some(Full { again: now + pause, pause, told: told.unwrap_or(now) });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_write_is_tried_again_after_a_pause_that_grows() {
        let space = Space::default();
        let mut now = Instant::now();
        assert!(space.check(now).is_ok());
        for seconds in [1, 2, 4, 8, 10, 10] {
            space.refused(now);
            let pause = Duration::from_secs(seconds);
            assert!(space.check(now + pause - Duration::from_millis(1)).is_err());
            now += pause;
            assert!(space.check(now).is_ok());
        }
        space.accepted();
        space.refused(now);
        assert!(space.check(now + Duration::from_secs(1)).is_ok(), "the pause begins anew");
    }

    #[test]
    fn the_alarm_is_told_once_and_again_after_ten_minutes() {
        let space = Space::default();
        let begin = Instant::now();
        let told = |space: &Space| space.state().full.map(|full| full.told);
        space.refused(begin);
        space.refused(begin + Duration::from_secs(599));
        assert_eq!(told(&space), Some(begin));
        space.refused(begin + TELL_EVERY);
        assert_eq!(told(&space), Some(begin + TELL_EVERY));
    }
}
