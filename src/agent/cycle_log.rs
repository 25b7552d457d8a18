//! What the log says of the cycles: each new reason, and that nothing had to be done again each `loop_wait`, which monitoring
//! counts.
//!
//! Patroni has one cycle each `loop_wait` and one line of it. Ours come with every change too, so that the line is due by
//! the clock and not with the cycle.

use std::time::Duration;

use crate::core::decision::{Decision, Exit};
use crate::core::policy::Switch;
use crate::core::reason::Reason;
use crate::core::units::{Instant, MemberName};

/// What Patroni's lines of a cycle in which nothing had to be done begin with.
const HEARTBEATS: [&str; 2] = ["no action", "PAUSE: no action"];

/// A renewal may come this part of `loop_wait` before it is due (`core::lease`), and so may the line.
const EARLY: u32 = 20;

#[derive(Debug, Default)]
pub(super) struct CycleLog {
    due: Option<Instant>,
}

/// What a cycle is told with.
pub(super) struct Cycle<'a> {
    pub now: Instant,
    pub loop_wait: Duration,
    pub deduplicate: Switch,
    pub name: &'a MemberName,
    /// `None`: nobody holds the lock, or the store does not answer.
    pub lock_owner: Option<&'a MemberName>,
}

impl CycleLog {
    /// The lines of a cycle after one with the reason `before`.
    pub(super) fn tell(&mut self, before: &Reason, decision: &Decision, cycle: &Cycle<'_>) {
        tracing::debug!(?decision, "decided");
        let reason = &decision.reason;
        let text = reason.to_string();
        let is_due = self.is_due(cycle);
        // A fatal reason is told once, as the error that the process ends with.
        let is_told_at_the_end = match &decision.exit {
            Some(Exit::Fatal(why) | Exit::FatalLeaveRunning(why)) => *why == text,
            Some(Exit::Stopped) | None => false,
        };
        let is_heartbeat = HEARTBEATS.iter().any(|heartbeat| text.starts_with(heartbeat));
        // Anything else lasts until it changes, and is told once.
        let is_repeated = is_due && is_heartbeat && !cycle.deduplicate.is_on();
        if is_told_at_the_end || (is_same(before, reason) && !is_repeated) {
            return;
        }
        if let Some(owner) = cycle.lock_owner
            && (!is_heartbeat || tracing::enabled!(tracing::Level::DEBUG))
        {
            tracing::info!("Lock owner: {owner}; I am {}", cycle.name);
        }
        if needs_a_person(reason) {
            tracing::error!("{text}");
        } else {
            tracing::info!("{text}");
        }
    }

    fn is_due(&mut self, cycle: &Cycle<'_>) -> bool {
        let Cycle { now, loop_wait, .. } = *cycle;
        let due = self.due.unwrap_or(now);
        if now + loop_wait / EARLY < due {
            return false;
        }
        let next = due.min(now) + loop_wait;
        self.due = Some(if next > now { next } else { now + loop_wait });
        true
    }
}

fn is_same(before: &Reason, now: &Reason) -> bool {
    match (before, now) {
        // The rest of the wait is another one each time.
        (Reason::BackingOff { failures: before, .. }, Reason::BackingOff { failures, .. }) => before == failures,
        (before, now) => before == now,
    }
}

/// What lasts until somebody does something about it.
fn needs_a_person(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::Unusable { .. }
            | Reason::DivergedNoRemedy { .. }
            | Reason::WalGoneNoRemedy { .. }
            | Reason::StartingWithoutPublished { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::{Event, Level, Metadata};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;
    use crate::core::decision::Wake;

    #[derive(Clone)]
    struct Lines(Arc<Mutex<Vec<String>>>, Level);

    struct Message<'a>(&'a mut Vec<String>);

    impl Visit for Message<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0.push(format!("{value:?}"));
            }
        }
    }

    impl<S: tracing::Subscriber> Layer<S> for Lines {
        fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
            *metadata.level() <= self.1
        }

        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            event.record(&mut Message(&mut self.0.lock().expect("one thread")));
        }
    }

    /// The lines of cycles at these tenths of a second; `loop_wait` is 10 s.
    fn told(cycles: &[(u64, Reason)], deduplicate: Switch, level: Level) -> Vec<String> {
        let lines = Lines(Arc::default(), level);
        let (name, owner) = (MemberName::from("n1"), MemberName::from("n2"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines.clone()), || {
            let mut log = CycleLog::default();
            let mut before = Reason::NotStarted;
            for (tenths, reason) in cycles {
                let now = Instant::default() + Duration::from_millis(*tenths * 100);
                let loop_wait = Duration::from_secs(10);
                let cycle = Cycle { now, loop_wait, deduplicate, name: &name, lock_owner: Some(&owner) };
                log.tell(&before, &Decision::idle(reason.clone(), Wake::Now), &cycle);
                before = reason.clone();
            }
        });
        let lines = lines.0.lock().expect("one thread").clone();
        lines.into_iter().filter(|line| line != "decided").collect()
    }

    fn following() -> Reason {
        Reason::Following { name: "n1".into(), leader: "n2".into() }
    }

    const FOLLOWING: &str = "no action. I am (n1), a secondary, and following a leader (n2)";

    #[test]
    fn there_is_one_line_each_loop_wait_however_many_cycles() {
        let cycles: Vec<_> = (0..200).map(|half| (half * 5, following())).collect();
        let count = told(&cycles, Switch::Off, Level::INFO).len();
        assert!((10..=11).contains(&count), "at most a twentieth more: {count}");
        // A cycle each loop_wait, a little late or early each time.
        for late in [1, 0] {
            let cycles: Vec<_> = (0..50).map(|cycle| (cycle * (100 + late), following())).collect();
            assert_eq!(told(&cycles, Switch::Off, Level::INFO), vec![FOLLOWING; 50]);
        }
        let early: Vec<_> = (0..50).map(|cycle| (cycle * 100 - cycle % 2 * 5, following())).collect();
        assert_eq!(told(&early, Switch::Off, Level::INFO), vec![FOLLOWING; 50]);
    }

    #[test]
    fn a_change_is_told_at_once_and_the_lock_owner_with_what_is_no_heartbeat() {
        let cycles =
            [(0, following()), (1, following()), (2, Reason::ResumingReplay), (3, following()), (100, following())];
        let expected =
            [FOLLOWING, "Lock owner: n2; I am n1", "WAL replay was paused; resuming it", FOLLOWING, FOLLOWING];
        assert_eq!(told(&cycles, Switch::Off, Level::INFO), expected);
        assert_eq!(told(&cycles, Switch::On, Level::INFO), expected[..4], "the last one is a repetition");
        let at_debug = told(&cycles[..1], Switch::Off, Level::DEBUG);
        assert_eq!(at_debug, ["Lock owner: n2; I am n1", FOLLOWING]);
    }

    #[test]
    fn what_is_no_heartbeat_is_told_once() {
        let cycles: Vec<_> = (0..3).map(|cycle| (cycle * 100, Reason::WaitingForLeader)).collect();
        let expected = ["Lock owner: n2; I am n1", "waiting for leader to bootstrap"];
        assert_eq!(told(&cycles, Switch::Off, Level::INFO), expected);
        let paused = || Reason::PausedIdle { name: "n1".into() };
        let cycles: Vec<_> = (0..3).map(|cycle| (cycle * 100, paused())).collect();
        assert_eq!(told(&cycles, Switch::Off, Level::INFO), vec!["PAUSE: no action. I am (n1)"; 3]);
        assert_eq!(told(&cycles, Switch::On, Level::INFO).len(), 1);
    }
}
