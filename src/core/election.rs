//! PostgreSQL runs as a standby and nobody else holds the lock: who takes it, and when the taker promotes.
//!
//! The store lets exactly one of several takers win; the comparisons only see to it that the best one tries.

use std::collections::BTreeMap;
use std::time::Duration;

use super::context::{Ctx, PEER_LIMIT};
use super::decision::{Decision, DocumentStep, LeaseStep, PostgresStep, Question, Wake};
use super::lease;
use super::local::{Data, Job, StandbyFacts};
use super::observation::{JobResult, PeerRole, PeerStatus};
use super::reason::Reason;
use super::switchover;
use super::units::{Instant, MemberName};
use super::view::{Holder, Initialize, MemberKind, MemberRole, MemberState};

/// How soon a member that may not take the lock yet looks again, when nothing wakes it before.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The lock is ours: promote, if it lasts long enough to be renewed afterwards.
pub fn promote(ctx: &Ctx, until: Instant) -> Decision {
    let failed = ctx.seen.memory.finished.as_ref().filter(|last| last.job == Job::Promote);
    let failed = failed.is_some_and(|last| matches!(last.result, JobResult::Failed(_) | JobResult::Cancelled));
    if failed {
        // The promotion may still come about. It must not once the lock is given up, so PostgreSQL stops first.
        return ctx.stop_at_once(Reason::PromotionFailed);
    }
    if ctx.now() >= lease::stop_deadline(until, ctx.timing()) {
        return Decision { lease: LeaseStep::Renew, ..ctx.again_after(lease::RETRY, Reason::LockExpiring) };
    }
    ctx.step(PostgresStep::Promote, Reason::Promoting)
}

pub fn decide(ctx: &Ctx, data: &Data, facts: &StandbyFacts) -> Decision {
    match ctx.view.initialize {
        Initialize::Done(_) => {}
        Initialize::Absent | Initialize::Invalid(_) | Initialize::InProgress(Holder::Us) => {
            let documents = vec![DocumentStep::SetInitialize(data.system_id)];
            return Decision { documents, ..Decision::idle(Reason::NoClusterId, Wake::At(ctx.now() + LOOK_AGAIN)) };
        }
        Initialize::InProgress(Holder::Other) if ctx.seen.memory.cluster == Some(data.system_id) => {
            let documents = vec![DocumentStep::SetInitialize(data.system_id)];
            return Decision { documents, ..Decision::idle(Reason::NoClusterId, Wake::At(ctx.now() + LOOK_AGAIN)) };
        }
        Initialize::InProgress(Holder::Other) => return ctx.idle(Reason::NoClusterId),
    }
    if let Some(reason) = barred(ctx) {
        return ctx.idle(reason);
    }
    if let Some(wait) = switchover::before_race(ctx, facts) {
        return wait;
    }
    if let Some(decision) = backing_off(ctx) {
        return decision;
    }
    let asked = switchover::without_former_leader(ctx, ctx.electorate(), facts);
    if let Some(reason) = timeline_behind(ctx, facts) {
        // A standby that has not streamed since its start tells the timeline of its last restartpoint, which may be
        // older than the one it has replayed; a new one says how it is.
        return Decision { ask: Some(Question::Checkpoint), ..ctx.again_after(LOOK_AGAIN, reason) };
    }
    if let Some(reason) = should_wait(ctx, facts) {
        return ctx.again_after(LOOK_AGAIN, reason);
    }
    let since = ask_since(ctx);
    let missing = ctx.unanswered(&asked, since);
    if !missing.is_empty() {
        return ctx.ask(missing, Reason::AskingPeers);
    }
    match better(ctx, &asked, since, facts) {
        Some(reason) => ctx.again_after(PEER_LIMIT, reason),
        None => acquire(ctx),
    }
}

pub fn acquire(ctx: &Ctx) -> Decision {
    let lease = LeaseStep::Acquire { seen: ctx.view.lock_revision };
    Decision { lease, ..Decision::idle(Reason::Acquiring, Wake::Now) }
}

/// Answers count from when the lock became free.
fn ask_since(ctx: &Ctx) -> Instant {
    let freed = ctx.seen.memory.unlocked_since.unwrap_or(ctx.now());
    freed.max(ctx.answers_count_from())
}

/// What keeps this member out of every automatic race.
fn barred(ctx: &Ctx) -> Option<Reason> {
    if !ctx.policy.refused_settings.is_empty() {
        return Some(Reason::RefusedSettings { settings: ctx.policy.refused_settings.join(", ") });
    }
    let asked_for = switchover::names_me(ctx);
    (ctx.policy.tags.is_nofailover() && !asked_for).then_some(Reason::NotAllowedToPromote)
}

/// What our own position says, before anybody is asked.
fn should_wait(ctx: &Ctx, facts: &StandbyFacts) -> Option<Reason> {
    if let Some(leader) = lease_alive(ctx) {
        return Some(Reason::LeaderLeaseAlive { leader });
    }
    let last = ctx.view.status.optime?;
    if let Some(reason) = behind_released(ctx, facts) {
        return Some(reason);
    }
    let lag = facts.position().behind(last);
    (lag > ctx.policy.maximum_lag_on_failover).then_some(Reason::LagTooLarge { lag })
}

/// Failures to become a primary hold this member back; what else has failed says nothing about whether it can.
fn backing_off(ctx: &Ctx) -> Option<Decision> {
    let counts = ctx.seen.memory.finished.as_ref().is_none_or(|last| match last.job {
        Job::Follow(_) | Job::Clone { .. } | Job::Reinitialize { .. } | Job::Rewind { .. } | Job::Recover => false,
        Job::Bootstrap | Job::Start(_) | Job::Stop { .. } | Job::Restart(_) | Job::Promote => true,
    });
    ctx.backing_off().filter(|_| counts)
}

pub fn timeline_behind(ctx: &Ctx, facts: &StandbyFacts) -> Option<Reason> {
    let (own, cluster) = (facts.timeline?, ctx.view.history.timeline()?);
    (own < cluster).then_some(Reason::TimelineBehind { own, cluster })
}

/// After a clean release the position is known at which nothing is lost: a candidate behind it waits up to ttl for a
/// better one.
pub fn behind_released(ctx: &Ctx, facts: &StandbyFacts) -> Option<Reason> {
    ctx.view.status.released_by.as_ref()?;
    let released = ctx.view.status.optime?;
    let since = ctx.seen.memory.unlocked_since.unwrap_or(ctx.now());
    let patience = since + ctx.timing().ttl > ctx.now();
    let own = facts.position();
    (own < released && patience).then_some(Reason::BehindReleased { own, released })
}

/// The leader key went but the record on the same lease is still there: it was removed by hand, not given up and not
/// expired. Its holder may still be writable and will take it again.
fn lease_alive(ctx: &Ctx) -> Option<MemberName> {
    let last = ctx.seen.memory.last_leader.as_ref()?;
    if ctx.view.status.released_by.as_ref() == Some(last) || *last == ctx.policy.name {
        return None;
    }
    let since = ctx.seen.memory.unlocked_since?;
    let record = ctx.view.alive().find(|member| member.name == *last)?;
    let serving = record.kind == MemberKind::Ours
        && record.role == MemberRole::Primary
        && matches!(record.state, MemberState::Running | MemberState::Restarting | MemberState::Starting);
    (serving && since + ctx.timing().ttl > ctx.now()).then(|| last.clone())
}

/// The peer that should take the lock rather than we, if there is one. All have answered.
fn better(ctx: &Ctx, asked: &BTreeMap<MemberName, Duration>, since: Instant, facts: &StandbyFacts) -> Option<Reason> {
    asked.keys().find_map(|peer| {
        let status = Ctx::eligible(ctx.answer(peer, since)?)?;
        better_than_us(ctx, peer, status, facts).filter(|_| !is_given_up(ctx, peer, status, facts))
    })
}

/// A standby whose record has expired cannot take the lock, however alive it is: after ttl it is waited for no longer,
/// unless more than the cluster may lose is there alone (ADR 8).
fn is_given_up(ctx: &Ctx, peer: &MemberName, status: &PeerStatus, facts: &StandbyFacts) -> bool {
    let since = ctx.seen.memory.unlocked_since.unwrap_or(ctx.now());
    let newer = status.timeline.is_some_and(|theirs| Some(theirs) > facts.timeline);
    status.role == PeerRole::Standby
        && !newer
        && !ctx.view.is_alive(peer)
        && since + ctx.timing().ttl <= ctx.now()
        && facts.position().behind(status.position) <= ctx.policy.maximum_lag_on_failover
}

/// Positions compare within a timeline only; a newer timeline is ahead of an older one whatever its position.
fn better_than_us(ctx: &Ctx, peer: &MemberName, status: &PeerStatus, facts: &StandbyFacts) -> Option<Reason> {
    if status.role == PeerRole::Primary {
        return Some(Reason::PrimaryAlive { peer: peer.clone() });
    }
    let timelines = match (status.timeline, facts.timeline) {
        (Some(theirs), Some(own)) => theirs.cmp(&own),
        (_, _) => std::cmp::Ordering::Equal,
    };
    let own_priority = ctx.policy.tags.failover_priority;
    let theirs = status.tags.failover_priority;
    match timelines.then(status.position.cmp(&facts.position())) {
        std::cmp::Ordering::Greater => Some(Reason::PeerAhead { peer: peer.clone() }),
        std::cmp::Ordering::Equal if theirs > own_priority => {
            Some(Reason::PeerPreferred { peer: peer.clone(), theirs, own: own_priority })
        }
        std::cmp::Ordering::Equal | std::cmp::Ordering::Less => None,
    }
}
