//! What is carried from one cycle to the next, and how it comes about.

use std::time::Duration;

use super::amnesia;
use super::branch;
use super::canvass::{heir, is_as_freed, unseen_primary};
use super::decision::Wake;
use super::failsafe;
use super::lease::{Hold, RETRY};
use super::local::{Job, Postgres, Running, StartAs, StopWhy};
use super::observation::{
    Amnesia, Backoff, Clearance, Event, FinishedJob, FirstCycle, Handover, HandoverPurpose, HandoverStage, JobProduct,
    JobResult, LeaderRecord, LeaseOutcome, LockLost, Memory, Observation, Outcome, Recovered, Roles,
};
use super::reason::Reason;
use super::serving::is_serving;
use super::switchover::LEFT_TO_OTHERS;
use super::sync;
use super::units::{Instant, Revision};
use super::view::{AfterPromote, ClusterView, Holder, Initialize};

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// After a cycle: what its observation and its actions taught.
pub fn learn(mut memory: Memory, seen: &Observation, outcome: &Outcome) -> Memory {
    learn_view(&mut memory, seen);
    learn_local(&mut memory, seen);
    learn_started(&mut memory, seen, outcome);
    learn_lease(&mut memory, seen, outcome);
    learn_best(&mut memory, seen);
    sync::learn(&mut memory, seen, &outcome.reason);
    memory
}

/// Between cycles: what ended, before the next decision.
pub fn note(mut memory: Memory, event: &Event) -> Memory {
    match event {
        Event::CheckpointDone => memory.checkpoint = AfterPromote::Done,
        Event::SlotsTouched(wanted) => (memory.slots, memory.slots_wanted) = (None, Some(wanted.clone())),
        Event::SlotsBrought(slots) => memory.slots = Some(slots.clone()),
        Event::SlotsCopied(names) => memory.slot_copies.clone_from(names),
        Event::RolesEnsured => memory.roles = Roles::Ensured,
        Event::JobEnded(ended) => job_ended(&mut memory, ended),
        Event::TtlChanged { at, ttl } => {
            memory.lease_valid_until = memory.lease_valid_until.map(|until| until.min(*at + *ttl));
        }
        Event::StoreForgot { at, ttl, lock } => memory.amnesia = Some(Amnesia { until: *at + *ttl, lock: *lock }),
    }
    memory
}

/// The wake-up after a cycle's actions: a renewal without an answer is tried again soon, an awaited one ends the wait.
pub fn next_wake(wake: Wake, outcome: &Outcome) -> Wake {
    match (&outcome.lease, wake) {
        (LeaseOutcome::Unknown | LeaseOutcome::ReleaseUnknown, Wake::At(at)) => Wake::At(at.min(outcome.now + RETRY)),
        (LeaseOutcome::Unknown | LeaseOutcome::ReleaseUnknown, Wake::Now) => Wake::At(outcome.now + RETRY),
        (LeaseOutcome::Lost, Wake::At(_)) => Wake::Now,
        // What waited for the confirmation goes on at once.
        (LeaseOutcome::Held { .. }, Wake::At(_)) if outcome.reason == Reason::ConfirmingLock => Wake::Now,
        (_, wake) => wake,
    }
}

fn learn_view(memory: &mut Memory, seen: &Observation) {
    let Ok(view) = &seen.cluster else { return };
    memory.first_cycle = FirstCycle::Done;
    memory.amnesia = memory.amnesia.filter(|amnesia| !amnesia::is_over(amnesia, view, seen.now));
    if let (Initialize::Done(cluster), None) = (&view.initialize, &memory.amnesia) {
        memory.cluster = Some(*cluster);
    }
    branch::learn_noted(memory, seen, view);
    failsafe::learn(memory, view);
    match view.leader.as_ref().filter(|_| !is_in_doubt(memory, view, seen.now)) {
        Some(leader) => {
            (memory.unlocked_since, memory.unlocked_status) = (None, None);
            memory.leader_record = LeaderRecord::There;
            memory.last_leader = Some(leader.name.clone());
            memory.outlived = view.status.given_up();
            memory.last_members.clone_from(&view.members);
            branch::learn_abandoned(memory, seen, view);
        }
        None => {
            let since = memory.unlocked_since.filter(|_| is_as_freed(memory, &view.status));
            memory.unlocked_since = since.or(Some(seen.now));
            memory.unlocked_status = Some(view.status.clone());
            if let Some(primary) = unseen_primary(view, memory).filter(|_| memory.amnesia.is_none()) {
                memory.unlocked_since = Some(seen.now);
                memory.leader_record = LeaderRecord::There;
                memory.last_leader = Some(primary.name.clone());
                memory.outlived = view.status.given_up();
                memory.last_members.clone_from(&view.members);
            }
            if view.lock_ran_out || memory.last_leader.as_ref().is_none_or(|last| !view.is_alive(last)) {
                memory.leader_record = LeaderRecord::Gone;
            }
        }
    }
    memory.request = request_seen(memory, view, seen);
    if memory.bootstrapped.is_some_and(|own| view.initialize == Initialize::Done(own)) {
        memory.bootstrapped = None;
    }
    let other = view.leader.as_ref().is_some_and(|leader| leader.holder == Holder::Other);
    let over = memory.handover.as_ref().is_some_and(|handover| match handover.stage {
        HandoverStage::Released { at } => other || at + LEFT_TO_OTHERS <= seen.now,
        HandoverStage::Stopping | HandoverStage::Confirming { .. } => other,
    });
    if over {
        memory.handover = None;
    }
}

/// Whether what the store says of the lock does not count.
fn is_in_doubt(memory: &Memory, view: &ClusterView, now: Instant) -> bool {
    memory.amnesia.is_some_and(|amnesia| !amnesia::is_believed(&amnesia, view, now))
}

fn request_seen(memory: &Memory, view: &ClusterView, seen: &Observation) -> Option<(Revision, Instant)> {
    let serves = match &seen.local.postgres {
        Postgres::Running(Running::Primary(_)) => true,
        // The leader of a standby cluster.
        Postgres::Running(Running::Standby(facts)) => facts.upstream.is_elsewhere(),
        Postgres::Stopped | Postgres::Starting { .. } | Postgres::Unresponsive { .. } | Postgres::Stopping => false,
    };
    let leads = view.is_ours() && serves;
    let request = view.switchover.as_ref().filter(|_| leads)?;
    let known = memory.request.filter(|(revision, _)| *revision == request.revision);
    known.or(Some((request.revision, seen.now)))
}

fn learn_local(memory: &mut Memory, seen: &Observation) {
    let quiet = seen.local.job.is_none();
    let leads = seen.cluster.as_ref().map(ClusterView::is_ours);
    memory.not_serving_since = match leads {
        _ if is_serving(&seen.local) => None,
        Ok(true) => memory.not_serving_since.or(Some(seen.now)),
        Ok(false) => None,
        Err(_) => memory.not_serving_since,
    };
    if !matches!(seen.local.postgres, Postgres::Running(_)) {
        // What replaces its data has none of them.
        memory.slots = None;
        memory.slot_copies.clear();
    }
    if memory.is_vouched && !matches!(seen.local.postgres, Postgres::Running(Running::Primary(_))) {
        (memory.lease_valid_until, memory.is_vouched) = (None, false);
    }
    match &seen.local.postgres {
        Postgres::Running(Running::Primary(_)) if quiet => {
            memory.primary_starts = 0;
            (memory.recovered, memory.failed_recoveries) = (Recovered::No, 0);
            memory.cleared_for = None;
        }
        Postgres::Running(Running::Standby(_)) if quiet => {
            memory.primary_starts = 0;
            (memory.recovered, memory.failed_recoveries) = (Recovered::No, 0);
            memory.checkpoint = AfterPromote::Done;
        }
        Postgres::Running(_) | Postgres::Stopped | Postgres::Starting { .. } => {}
        Postgres::Unresponsive { .. } | Postgres::Stopping => {}
    }
}

fn learn_started(memory: &mut Memory, seen: &Observation, outcome: &Outcome) {
    match &outcome.started {
        Some(Job::Promote) => {
            memory.checkpoint = AfterPromote::Pending;
            memory.handover = None;
        }
        Some(Job::Start(StartAs::Primary)) => {
            memory.primary_starts += 1;
            memory.handover = None;
        }
        Some(Job::Stop { why, .. }) => begin_handover(memory, seen, *why, outcome.now),
        Some(Job::Bootstrap | Job::Clone { .. } | Job::Reinitialize { .. } | Job::Rewind { .. } | Job::Recover) => {}
        // It takes the copies in.
        Some(Job::Restart(_)) => memory.slot_copies.clear(),
        Some(Job::Start(StartAs::Standby(_)) | Job::Follow(_)) | None => {}
    }
}

/// A stop of a primary that holds the lock, so that another can take over.
fn begin_handover(memory: &mut Memory, seen: &Observation, why: StopWhy, now: Instant) {
    let purpose = match why {
        StopWhy::Handover => HandoverPurpose::Switchover,
        StopWhy::Shutdown => HandoverPurpose::Shutdown,
        StopWhy::LostLock | StopWhy::Refused | StopWhy::Rejoin | StopWhy::StandbyCluster => {
            memory.handover = None;
            return;
        }
    };
    let primary = matches!(seen.local.postgres, Postgres::Running(Running::Primary(_)));
    let held = match &seen.cluster {
        Ok(view) => matches!(Hold::of(view, memory, seen.now), Hold::Held { .. }),
        // The lock stays ours as long as the lease lasts, whether or not the store answers at this moment.
        Err(_) => memory.lease_valid_until.is_some_and(|until| until > seen.now),
    };
    if primary && held {
        let named = seen.cluster.as_ref().ok().and_then(candidate);
        let candidate = named.filter(|_| purpose == HandoverPurpose::Switchover);
        memory.handover = Some(Handover { purpose, candidate, since: now, stage: HandoverStage::Stopping, best: None });
    } else if let Some(handover) = &mut memory.handover {
        handover.purpose = purpose;
    }
}

/// What the others have received of the last WAL since PostgreSQL was stopped.
fn learn_best(memory: &mut Memory, seen: &Observation) {
    let Some(handover) = &mut memory.handover else { return };
    let HandoverStage::Confirming { since, .. } = handover.stage else { return };
    let Ok(view) = &seen.cluster else { return };
    let asked = seen.peers.iter().filter(|(name, report)| {
        report.asked_at >= since && handover.candidate.as_ref().is_none_or(|candidate| candidate == *name)
    });
    let best = asked.filter_map(|(_, report)| heir(seen, view, &report.answer)).map(|status| status.position).max();
    if let Some(best) = best
        && handover.best.is_none_or(|(before, _)| before < best)
    {
        handover.best = Some((best, seen.now));
    }
}

fn candidate(view: &ClusterView) -> Option<super::units::MemberName> {
    view.switchover.as_ref().and_then(|request| request.candidate.clone())
}

fn learn_lease(memory: &mut Memory, seen: &Observation, outcome: &Outcome) {
    match outcome.lease {
        LeaseOutcome::Held { until } => {
            (memory.lease_valid_until, memory.is_vouched) = (Some(until), false);
            memory.lock_lost = LockLost::No;
            memory.amnesia = None;
        }
        LeaseOutcome::Vouched { until } => (memory.lease_valid_until, memory.is_vouched) = (Some(until), true),
        LeaseOutcome::Lost => {
            memory.lease_valid_until = None;
            memory.lock_lost = LockLost::Yes;
        }
        LeaseOutcome::Released => {
            memory.lease_valid_until = None;
            if let Some(handover) = &mut memory.handover {
                handover.stage = HandoverStage::Released { at: outcome.now };
            }
        }
        LeaseOutcome::ReleaseUnknown => memory.lease_valid_until = None,
        LeaseOutcome::None | LeaseOutcome::Unknown => {
            let Ok(view) = &seen.cluster else { return };
            if matches!(seen.local.postgres, Postgres::Stopped | Postgres::Running(Running::Standby(_))) {
                memory.lock_lost = LockLost::No;
            }
            // A store that has lost its data does not know whether the lock is ours.
            let is_valid = memory.lease_valid_until.is_some_and(|until| until > seen.now);
            if view.is_ours() || (is_valid && is_in_doubt(memory, view, seen.now)) {
                return;
            }
            memory.lease_valid_until = None;
        }
    }
}

fn job_ended(memory: &mut Memory, ended: &FinishedJob) {
    match (&ended.job, &ended.result) {
        (Job::Bootstrap, JobResult::Done(JobProduct::Initialized(id))) => memory.bootstrapped = Some(*id),
        (Job::Stop { .. }, result) => stop_ended(memory, ended.at, result),
        (Job::Recover, JobResult::Done(_)) => (memory.recovered, memory.failed_recoveries) = (Recovered::Yes, 0),
        (Job::Promote, JobResult::Refused(_)) => memory.promotion_refused = Some(ended.at),
        (Job::Promote, JobResult::Done(_)) => memory.promotion_refused = None,
        (Job::Recover, JobResult::Failed(_)) => memory.failed_recoveries += 1,
        (Job::Rewind { from }, JobResult::Done(_)) => {
            memory.failed_rewinds = 0;
            memory.abandoned = None;
            memory.cleared_for = Some(Clearance { leader: from.clone(), at: ended.at });
        }
        (Job::Rewind { .. }, JobResult::Failed(_)) => memory.failed_rewinds += 1,
        (Job::Clone { from } | Job::Reinitialize { from, .. }, JobResult::Done(_)) => {
            memory.bootstrapped = None;
            memory.abandoned = None;
            memory.failed_rewinds = 0;
            (memory.recovered, memory.failed_recoveries) = (Recovered::No, 0);
            memory.cleared_for = Some(Clearance { leader: from.history(), at: ended.at });
        }
        (_, _) => {}
    }
    memory.backoff = match &ended.result {
        JobResult::Failed(_) | JobResult::Refused(_) => Some(longer(memory.backoff, ended.at)),
        // A stop mends nothing that has failed.
        JobResult::Done(_) if matches!(ended.job, Job::Stop { .. }) => memory.backoff,
        JobResult::Done(_) => None,
        JobResult::Cancelled => memory.backoff,
    };
    memory.finished = Some(ended.clone());
}

fn stop_ended(memory: &mut Memory, at: Instant, result: &JobResult) {
    let Some(handover) = &mut memory.handover else { return };
    match result {
        JobResult::Done(JobProduct::StoppedAt(position)) => {
            handover.stage = HandoverStage::Confirming { position: *position, since: at };
        }
        // A harder stop follows; it says how it went.
        JobResult::Cancelled => {}
        JobResult::Done(JobProduct::Nothing | JobProduct::Initialized(_))
        | JobResult::Failed(_)
        | JobResult::Refused(_) => {
            memory.handover = None;
        }
    }
}

fn longer(backoff: Option<Backoff>, now: Instant) -> Backoff {
    let failures = backoff.map_or(0, |backoff| backoff.failures) + 1;
    let pause = FIRST_BACKOFF.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST_BACKOFF);
    Backoff { failures, until: now + pause }
}
