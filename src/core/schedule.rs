//! Restarts at a time: when one is due, and whether it means the server that runs then. It is begun as a request like any
//! other, and only once.

use std::time::Duration;

use super::decision::{Decision, Overtaken, ScheduleStep, Wake};
use super::local::About;
use super::observation::{Observation, RestartConditions};
use super::policy::{Pause, Policy};
use super::units::WallTime;

impl RestartConditions {
    pub fn are_met(&self, about: &About) -> bool {
        let is_role = self.role.is_none_or(|role| role == about.role);
        let is_new = self.older_than.zip(about.version).is_some_and(|(wanted, runs)| runs >= wanted);
        let has_reason = !self.is_pending || about.is_restart_pending;
        is_role && !is_new && has_reason
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Now,
    Later(Duration),
    Stale,
}

fn due(schedule: WallTime, now: WallTime, loop_wait: Duration) -> Due {
    let ahead = schedule.0.saturating_sub(now.0);
    match u64::try_from(ahead) {
        Ok(0) => Due::Now,
        Ok(ahead) => Due::Later(Duration::from_millis(ahead)),
        Err(_) if Duration::from_millis(ahead.unsigned_abs()) > loop_wait * 3 / 2 => Due::Stale,
        Err(_) => Due::Now,
    }
}

/// `decision` with what becomes of the scheduled restart: it disturbs nothing else that is decided. `rests`: nothing else goes on.
pub fn decide(policy: &Policy, seen: &Observation, rests: bool, decision: Decision) -> Decision {
    let Some(scheduled) = &seen.requests.scheduled else { return decision };
    let is_due = due(scheduled.at, seen.wall, policy.timing.loop_wait);
    let decision = match (is_due, decision.wake) {
        (Due::Later(ahead), Wake::At(at)) => Decision { wake: Wake::At(at.min(seen.now + ahead)), ..decision },
        (Due::Later(_) | Due::Now | Due::Stale, _) => decision,
    };
    let is_locked = seen.cluster.as_ref().is_ok_and(|view| view.leader.is_some());
    if policy.pause == Pause::Paused || !is_locked || !rests || seen.requests.restart.is_some() {
        return decision;
    }
    let about = &seen.local.about;
    let started_since = about.started.clone().filter(|started| Some(started) != scheduled.started.as_ref());
    let schedule = match (started_since, is_due) {
        (Some(at), _) => ScheduleStep::Drop(Overtaken::ByAnotherRestart { at }),
        (None, Due::Later(_)) => return decision,
        (None, Due::Stale) => ScheduleStep::Drop(Overtaken::ByTime),
        (None, Due::Now) if !scheduled.conditions.are_met(about) => ScheduleStep::Drop(Overtaken::ByConditions),
        (None, Due::Now) => return Decision { schedule: ScheduleStep::Begin, wake: Wake::Now, ..decision },
    };
    Decision { schedule, ..decision }
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
