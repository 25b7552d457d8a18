//! Time without an absolute clock: it is always the same moment, and a tick moves everything else into the past. What
//! lies longer ago than any rule asks is as good as the oldest, so that the states stay finite.

use std::sync::Arc;
use std::time::Duration;

use tamada::core::local::Guard;
use tamada::core::observation::{HandoverStage, Memory, Observation};
use tamada::core::policy::Timing;
use tamada::core::units::Instant;

use super::state::{Node, State};

pub const NOW: Instant = Instant(Duration::from_secs(1_000));
pub const TICK: Duration = Duration::from_millis(250);

/// Longer than a ttl. Answers of peers, which count for longer, live for one cycle here.
const OLDEST: Duration = Duration::from_secs(2);

/// Five ticks of lease: renewed after one, the stop begins after two, the guard kills after four.
pub const TIMING: Timing =
    Timing { ttl: Duration::from_millis(1_250), loop_wait: TICK, retry_timeout: TICK, reset_before: Duration::ZERO };

fn back(instant: &mut Instant) {
    *instant = (*instant - TICK).max(NOW - OLDEST);
}

impl State {
    /// A quarter of a second later, before anything has happened of itself.
    pub fn shift(&mut self) {
        self.nodes.iter_mut().for_each(Node::shift);
        self.store.leases.iter_mut().flatten().for_each(back);
    }
}

impl Node {
    fn shift(&mut self) {
        shift_memory(&mut self.memory);
        self.guard.iter_mut().for_each(back);
        self.job.iter_mut().for_each(|running| back(&mut running.since));
        self.peers.values_mut().for_each(|report| back(&mut report.asked_at));
        self.divergence.iter_mut().for_each(|report| back(&mut report.asked_at));
        if let Some(pending) = &mut self.pending {
            shift_observation(&mut Arc::make_mut(pending).seen);
        }
    }
}

fn shift_observation(seen: &mut Observation) {
    back(&mut seen.now);
    shift_memory(&mut seen.memory);
    if let Guard::Until(deadline) = &mut seen.local.guard {
        back(deadline);
    }
    seen.local.job.iter_mut().for_each(|running| back(&mut running.since));
    seen.peers.values_mut().for_each(|report| back(&mut report.asked_at));
    seen.divergence.iter_mut().for_each(|report| back(&mut report.asked_at));
}

fn shift_memory(memory: &mut Memory) {
    memory.lease_valid_until.iter_mut().for_each(back);
    memory.unlocked_since.iter_mut().for_each(back);
    memory.finished.iter_mut().for_each(|finished| back(&mut finished.at));
    memory.backoff.iter_mut().for_each(|backoff| back(&mut backoff.until));
    memory.cleared_for.iter_mut().for_each(|cleared| back(&mut cleared.at));
    if let Some(handover) = &mut memory.handover {
        back(&mut handover.since);
        match &mut handover.stage {
            HandoverStage::Stopping => {}
            HandoverStage::Confirming { since, .. } => back(since),
            HandoverStage::Released { at } => back(at),
        }
    }
}
