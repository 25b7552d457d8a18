//! PostgreSQL runs as a primary.

use super::authority;
use super::branch::{self, Standing};
use super::context::Ctx;
use super::decision::{Decision, DocumentStep, LeaseStep, PostgresStep, Question, Wake};
use super::lease::{self, Hold};
use super::local::{Data, DataDir, Guard, PrimaryFacts, StopMode, StopWhy};
use super::observation::LockLost;
use super::reason::Reason;
use super::units::{Instant, Timeline};
use super::view::{AfterPromote, ConfigKey, History, Holder, Initialize};
use super::{failsafe, serving, standby_leader, switchover, watchdog};

pub fn decide(ctx: &Ctx, data: &DataDir, facts: &PrimaryFacts) -> Decision {
    let data = match data {
        DataDir::Present(data) => data,
        DataDir::Empty | DataDir::Unusable(_) => return without_data(ctx),
    };
    match ctx.hold() {
        Hold::Held { until } if ctx.now() >= lease::stop_deadline(until, ctx.timing()) => cannot_renew(ctx, until),
        Hold::Held { .. } => standby_leader::demotion(ctx).unwrap_or_else(|| lead(ctx, data, facts)),
        Hold::Unconfirmed => unconfirmed(ctx),
        Hold::NotOurs => match &ctx.view.leader {
            None if ctx.seen.memory.lock_lost == LockLost::No => {
                standby_leader::without_lock(ctx).unwrap_or_else(|| unlocked(ctx, data, facts))
            }
            None | Some(_) => not_ours(ctx),
        },
    }
}

/// The server runs, but its data cannot be looked at. It goes on for as long as it may, since the cause may pass; without
/// the lock nothing can be said for it.
fn without_data(ctx: &Ctx) -> Decision {
    match ctx.hold() {
        Hold::Held { until } if ctx.now() >= lease::stop_deadline(until, ctx.timing()) => cannot_renew(ctx, until),
        Hold::Held { .. } => serving::overdue(ctx).unwrap_or_else(|| ctx.idle(ctx.broken_data())),
        Hold::Unconfirmed => unconfirmed(ctx),
        Hold::NotOurs => not_ours(ctx),
    }
}

/// The key is on our lease, as after a restart of the agent, and no renewal has been answered yet: PID 1 knows until when
/// the lock was ours.
fn unconfirmed(ctx: &Ctx) -> Decision {
    let ends = authority::stop_begins(None, ctx.seen.local.guard, ctx.timing());
    match (ends, ctx.seen.local.guard) {
        (Some(ends), Guard::Until(deadline)) if ends <= ctx.now() => {
            let limit = deadline.left(ctx.now()).saturating_sub(ctx.timing().reset_before) / 2;
            let stop = PostgresStep::Stop { mode: StopMode::Fast, why: StopWhy::LostLock, limit };
            Decision { postgres: stop, ..Decision::idle(Reason::DemotedNoDcs, Wake::At(ctx.now() + lease::RETRY)) }
        }
        (_, _) => ctx.idle(Reason::ConfirmingLock),
    }
}

/// The renewals have brought no answer for too long. An orderly stop, done before the guard would do it the hard way.
pub fn cannot_renew(ctx: &Ctx, until: Instant) -> Decision {
    let left = lease::guard_deadline(until, ctx.timing()).left(ctx.now());
    let limit = left.saturating_sub(ctx.timing().reset_before) / 2;
    let stop = PostgresStep::Stop { mode: StopMode::Fast, why: StopWhy::LostLock, limit };
    Decision { postgres: stop, ..Decision::idle(Reason::DemotedNoDcs, Wake::At(ctx.now() + lease::RETRY)) }
}

/// A primary without the lock.
pub fn not_ours(ctx: &Ctx) -> Decision {
    match &ctx.view.leader {
        Some(leader) if leader.holder == Holder::Other => {
            ctx.stop_at_once(Reason::DemotedOtherLeader { leader: leader.name.clone() })
        }
        Some(_) | None => ctx.stop_at_once(Reason::DemotedLockLost),
    }
}

/// The lock is ours and valid.
fn lead(ctx: &Ctx, data: &Data, facts: &PrimaryFacts) -> Decision {
    if let Some(decision) = watchdog::on_leader(ctx) {
        return decision;
    }
    let mut documents = documents(ctx, data, facts);
    if let Some(decision) = switchover::on_leader(ctx, facts) {
        // What tells the others which branch is the cluster's waits for no request.
        documents.extend(decision.documents);
        return Decision { documents, ..decision };
    }
    let checkpoint_owed = ctx.seen.memory.checkpoint == AfterPromote::Pending;
    let decision = ctx.idle(Reason::Leading { name: ctx.policy.name.clone() });
    Decision {
        documents,
        ask: checkpoint_owed.then_some(Question::Checkpoint),
        wake: switchover::not_after_due(ctx, decision.wake),
        ..decision
    }
}

/// What the holder of the lock keeps in order.
fn documents(ctx: &Ctx, data: &Data, facts: &PrimaryFacts) -> Vec<DocumentStep> {
    let mut steps = Vec::new();
    match ctx.view.initialize {
        Initialize::Done(_) => {}
        Initialize::Absent | Initialize::InProgress(_) | Initialize::Invalid(_) => {
            steps.push(DocumentStep::SetInitialize(data.system_id));
        }
    }
    match ctx.view.config {
        ConfigKey::Valid => {}
        ConfigKey::Missing | ConfigKey::Invalid => steps.push(DocumentStep::RestoreConfig),
    }
    let own = branch::own(ctx.seen, Some(facts.timeline));
    if !branch::is_in_history(ctx.view, facts.timeline, own) || is_without_leader(&ctx.view.history, facts.timeline) {
        steps.push(DocumentStep::UpdateHistory);
    }
    let wanted = failsafe::wanted(ctx.policy, ctx.view);
    if ctx.policy.failsafe.is_on() && ctx.view.failsafe != wanted {
        steps.push(DocumentStep::SetFailsafe { members: wanted });
    }
    steps
}

/// Whether it is not noted yet who made the switch to our timeline.
fn is_without_leader(history: &History, timeline: Timeline) -> bool {
    let History::Known(entries) = history else { return false };
    entries.last().is_some_and(|last| last.left.0 + 1 == timeline.0 && last.new_leader.is_none())
}

/// Nobody holds the lock and we are a primary: just bootstrapped, adopted, or the key was removed by hand. A running
/// primary needs no comparison with others, but one on an old timeline must not win.
fn unlocked(ctx: &Ctx, data: &Data, facts: &PrimaryFacts) -> Decision {
    let lease = LeaseStep::Acquire { seen: ctx.view.lock_and_status_seen() };
    let acquire = |reason, documents| Decision { lease: lease.clone(), documents, ..Decision::idle(reason, Wake::Now) };
    let claimed = ctx.view.initialize == Initialize::InProgress(Holder::Us);
    if claimed || ctx.seen.memory.bootstrapped == Some(data.system_id) {
        let documents = vec![DocumentStep::SetInitialize(data.system_id), DocumentStep::RestoreConfig];
        return acquire(Reason::Initialized, documents);
    }
    match ctx.view.initialize {
        Initialize::Done(_) => {}
        Initialize::Absent | Initialize::Invalid(_) => {
            let documents = vec![DocumentStep::SetInitialize(data.system_id)];
            return Decision { documents, ..Decision::idle(Reason::AcquiredAsPrimary, Wake::Now) };
        }
        Initialize::InProgress(_) if ctx.seen.memory.cluster == Some(data.system_id) => {}
        Initialize::InProgress(_) => return ctx.idle(Reason::NoClusterId),
    }
    match ctx.view.history.timeline() {
        Some(cluster) if facts.timeline < cluster => {
            ctx.stop_at_once(Reason::TimelineBehind { own: facts.timeline, cluster })
        }
        Some(timeline) if is_other_branch(ctx, facts) => ctx.stop_at_once(Reason::OtherBranch { timeline }),
        Some(_) | None => acquire(Reason::AcquiredAsPrimary, Vec::new()),
    }
}

fn is_other_branch(ctx: &Ctx, facts: &PrimaryFacts) -> bool {
    branch::standing(ctx.view, branch::own(ctx.seen, Some(facts.timeline))) == Standing::Other
}
