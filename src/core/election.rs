//! PostgreSQL runs as a standby and nobody else holds the lock: who takes it, and when the taker promotes.
//!
//! The store lets exactly one of several takers win; the comparisons only see to it that the best one tries.

use std::time::Duration;

use super::authority;
use super::canvass::{
    self, Canvass, PEER_LIMIT, acquire, behind_released, leader_may_live, other_branch, timeline_behind, within_lag,
};
use super::context::{self, Ctx};
use super::decision::{Decision, DocumentStep, PostgresStep, Question, Wake};
use super::electors;
use super::failsafe;
use super::lease;
use super::local::{Data, Job, Postgres, Running, StandbyFacts};
use super::observation::{JobResult, Observation};
use super::policy::{Mode, Pause, Policy, SyncMode};
use super::reason::Reason;
use super::standby_leader;
use super::switchover;
use super::sync;
use super::units::{Instant, Lsn};
use super::view::{Holder, Initialize};
use super::watchdog;

/// How soon a member that may not take the lock yet looks again, when nothing wakes it before.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A promotion that failed may still come about. It must not once the lock is not ours, so that PostgreSQL stops first of
/// all: in a pause, in an outage of the store and after a loss of its data too.
pub fn stop_failed_promotion(policy: &Policy, seen: &Observation) -> Option<Decision> {
    let may_come = authority::may_still_promote(&seen.memory);
    let is_standby = matches!(seen.local.postgres, Postgres::Running(Running::Standby(_)));
    let rests = policy.mode == Mode::Cluster && seen.local.job.is_none();
    let refused = seen.memory.finished.as_ref().is_some_and(|last| matches!(last.result, JobResult::Refused(_)));
    // In a pause PID 1 has no deadline that a former agent's promotion could have been begun under: the lock is given up.
    if refused && policy.pause == Pause::Paused {
        return None;
    }
    let reason = if refused { Reason::PrePromoteFailed } else { Reason::PromotionFailed };
    (may_come && is_standby && rests).then(|| context::stop_at_once(policy, seen, reason))
}

/// The lock is ours: promote, if it lasts long enough to be renewed afterwards.
pub fn promote(ctx: &Ctx, until: Instant) -> Decision {
    if ctx.now() >= lease::stop_deadline(until, ctx.timing()) {
        return ctx.again_after(lease::RETRY, Reason::LockExpiring);
    }
    if ctx.promotion_refused_until().is_some() {
        return ctx.give_up(Reason::PrePromoteFailed);
    }
    if let Some(first) = watchdog::before_primary(ctx) {
        return first;
    }
    sync::postpone(ctx).unwrap_or_else(|| ctx.step(PostgresStep::Promote, Reason::Promoting))
}

pub fn decide(ctx: &Ctx, data: &Data, facts: &StandbyFacts) -> Decision {
    if let Some(first) = standby_leader::first(ctx, data) {
        return first;
    }
    match ctx.view.initialize {
        Initialize::Done(_) => {}
        Initialize::InProgress(Holder::Other) if ctx.seen.memory.cluster != Some(data.system_id) => {
            return ctx.idle(Reason::NoClusterId);
        }
        Initialize::Absent | Initialize::Invalid(_) | Initialize::InProgress(_) => {
            let documents = vec![DocumentStep::SetInitialize(data.system_id)];
            return Decision { documents, ..Decision::idle(Reason::NoClusterId, Wake::At(ctx.now() + LOOK_AGAIN)) };
        }
    }
    if let Some(reason) = barred(ctx) {
        return ctx.idle(reason);
    }
    if let Some(wait) = ctx.after_refused_promotion() {
        return wait;
    }
    if let Some(wait) = switchover::before_race(ctx, facts) {
        return wait;
    }
    if let Some(decision) = backing_off(ctx) {
        return decision;
    }
    let others = Canvass::of_all(ctx).since(canvass::freed(ctx));
    let others = switchover::without_former_leader(ctx, others, facts);
    if let Some(reason) = timeline_behind(ctx, facts) {
        // A standby that has not streamed since its start tells the timeline of its last restartpoint, which may be
        // older than the one it has replayed; a new one says how it is.
        return Decision { ask: Some(Question::Checkpoint), ..ctx.again_after(LOOK_AGAIN, reason) };
    }
    if let Some(reason) = should_wait(ctx, facts) {
        return ctx.again_after(LOOK_AGAIN, reason);
    }
    if let Some(missing) = others.missing() {
        return canvass::ask(ctx, missing, Reason::AskingPeers);
    }
    if gave_way(ctx) && others.has_candidate(|position| may_take_over(ctx, position)) {
        return ctx.again_after(LOOK_AGAIN, Reason::LeftToOthers);
    }
    match others.better_than(facts).or_else(|| lacks_votes(ctx, &others, facts)) {
        Some(reason) => ctx.again_after(PEER_LIMIT, reason),
        None => acquire(ctx),
    }
}

/// Whether we gave the lock up because we could not serve: as long as somebody else can take over, it goes first.
fn gave_way(ctx: &Ctx) -> bool {
    ctx.view.status.gave_way.as_ref() == Some(&ctx.policy.name) && !canvass::is_unlocked_for_ttl(ctx)
}

fn may_take_over(ctx: &Ctx, position: Lsn) -> bool {
    within_lag(ctx, position, ctx.view.status.optime.unwrap_or_default())
}

/// What keeps this member out of every automatic race.
fn barred(ctx: &Ctx) -> Option<Reason> {
    if let Some(reason) = watchdog::bars_race(ctx) {
        return Some(reason);
    }
    let by_hand = switchover::takes_over(ctx);
    if let Some(reason) = failsafe::barred(ctx) {
        return Some(reason);
    }
    if let Some(reason) = electors::barred(ctx).filter(|_| !by_hand) {
        return Some(reason);
    }
    let asked_for = switchover::names_me(ctx);
    (ctx.policy.tags.is_nofailover() && !asked_for).then_some(Reason::NotAllowedToPromote)
}

/// What our own position says, before anybody is asked.
fn should_wait(ctx: &Ctx, facts: &StandbyFacts) -> Option<Reason> {
    if let Some(reason) = leader_may_live(ctx) {
        return Some(reason);
    }
    if let Some(reason) = other_branch(ctx, facts) {
        return Some(reason);
    }
    let last = ctx.view.status.optime?;
    if let Some(reason) = behind_released(ctx, facts) {
        return Some(reason);
    }
    let own = facts.position();
    (!within_lag(ctx, own, last)).then(|| Reason::LagTooLarge { lag: own.behind(last) })
}

/// Failures to become a primary hold this member back; what else has failed says nothing about whether it can.
fn backing_off(ctx: &Ctx) -> Option<Decision> {
    let counts = ctx.seen.memory.finished.as_ref().is_none_or(|last| match last.job {
        Job::Follow(_) | Job::Clone { .. } | Job::Reinitialize { .. } | Job::Rewind { .. } | Job::Recover => false,
        Job::Bootstrap | Job::Start(_) | Job::Stop { .. } | Job::Restart(_) | Job::Promote => true,
    });
    ctx.backing_off().filter(|_| counts)
}

/// In quorum mode: whether too few members are known not to be ahead. All that are asked have answered.
fn lacks_votes(ctx: &Ctx, others: &Canvass, facts: &StandbyFacts) -> Option<Reason> {
    if electors::active(ctx) != Some(SyncMode::Quorum) {
        return None;
    }
    let me = &ctx.policy.name;
    let needed = ctx.view.sync.quorum as usize;
    // A leader that stopped in order has told where its WAL ends: nobody can have been told of more.
    let status = &ctx.view.status;
    let has_all = ctx.seen.memory.is_last_word(status)
        && status.released_by.is_some()
        && status.optime.is_some_and(|released| released <= facts.position());
    let is_leader = electors::is_former_leader(ctx, me);
    // One that is no voter needs one more.
    let needed = if electors::is_listed(ctx.view, me) { needed } else { needed + 1 };
    let votes = others.not_ahead(facts).filter(|name| electors::is_listed(ctx.view, name)).count();
    (votes < needed && !is_leader && !has_all).then_some(Reason::TooFewVotes { votes, needed })
}
