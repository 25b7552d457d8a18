//! The cluster is paused: a person is at work, and nothing happens by itself. The lock is kept by whoever is a primary.

use super::context::Ctx;
use super::decision::{Decision, LeaseStep, PostgresStep, Wake};
use super::lease::Hold;
use super::local::{Data, DataDir, Job, Postgres, PrimaryFacts, Running, StandbyFacts, StartAs, StopWhy, Upstream};
use super::observation::FinishedJob;
use super::policy::ClusterKind;
use super::reason::Reason;
use super::view::Initialize;
use super::{bootstrap, follows, switchover, sync};

pub fn decide(ctx: &Ctx) -> Decision {
    if let Some(wanted) = ctx.seen.requests.reinitialize
        && let Some(decision) = bootstrap::reinitialize(ctx, wanted)
    {
        return decision;
    }
    if let Some(decision) = super::restart_requested(ctx) {
        return decision;
    }
    match (&ctx.seen.local.postgres, &ctx.seen.local.data) {
        (Postgres::Stopped, DataDir::Empty) => without_primary(ctx, Reason::PausedEmpty),
        (Postgres::Stopped, DataDir::Unusable(_)) => without_primary(ctx, ctx.broken_data()),
        (Postgres::Stopped, DataDir::Present(_)) => stopped(ctx),
        (Postgres::Starting { .. } | Postgres::Stopping, _) => ctx.idle(Reason::Starting),
        (Postgres::Unresponsive { .. }, _) => ctx.idle(Reason::NotAnswering),
        (Postgres::Running(_), DataDir::Empty | DataDir::Unusable(_)) => ctx.idle(ctx.broken_data()),
        (Postgres::Running(Running::Primary(facts)), DataDir::Present(data)) => primary(ctx, data, facts),
        (Postgres::Running(Running::Standby(facts)), DataDir::Present(_)) => standby(ctx, facts),
    }
}

fn without_primary(ctx: &Ctx, reason: Reason) -> Decision {
    match ctx.hold() {
        Hold::NotOurs => ctx.idle(reason),
        Hold::Held { .. } | Hold::Unconfirmed => ctx.release(Reason::PausedReleased),
    }
}

fn stopped(ctx: &Ctx) -> Decision {
    // A switchover in a paused cluster stops the old leader and starts it again behind the new one.
    if let Some(handover) = &ctx.seen.memory.handover
        && let Some(decision) = switchover::after_stop(ctx, handover)
    {
        return decision;
    }
    let handed_over = |last: &&FinishedJob| matches!(last.job, Job::Stop { why: StopWhy::Handover, .. });
    let stopped_for_it = ctx.seen.memory.finished.as_ref().filter(handed_over).is_some();
    if stopped_for_it && ctx.view.other_leader().is_some() {
        return ctx.step(PostgresStep::Start(StartAs::Standby(follows::upstream(ctx))), Reason::StartingStandby);
    }
    without_primary(ctx, Reason::PausedNotRunning)
}

fn primary(ctx: &Ctx, data: &Data, facts: &PrimaryFacts) -> Decision {
    let own_cluster = match ctx.view.initialize {
        Initialize::Done(cluster) => cluster == data.system_id,
        Initialize::Absent | Initialize::Invalid(_) => true,
        Initialize::InProgress(_) => false,
    };
    match ctx.hold() {
        Hold::Held { .. } if !own_cluster => ctx.release(Reason::ReleasedForeign),
        Hold::Held { .. } | Hold::Unconfirmed => match switchover::on_leader(ctx, facts) {
            Some(decision) => decision,
            None => ctx.idle(Reason::PausedLeading { name: ctx.policy.name.clone() }),
        },
        Hold::NotOurs if ctx.view.leader.is_none() && own_cluster && ctx.policy.cluster == ClusterKind::Primary => {
            let lease = LeaseStep::Acquire { seen: ctx.view.lock_and_status_seen() };
            Decision { lease, ..Decision::idle(Reason::AcquiredAsPrimary, Wake::Now) }
        }
        Hold::NotOurs => ctx.idle(Reason::PausedWithoutLock),
    }
}

fn standby(ctx: &Ctx, facts: &StandbyFacts) -> Decision {
    match ctx.hold() {
        Hold::Held { .. } if ctx.promotion_refused_until().is_some() => ctx.give_up(Reason::PrePromoteFailed),
        Hold::Held { .. } if switchover::names_me(ctx) && ctx.policy.cluster == ClusterKind::Primary => {
            sync::postpone(ctx).unwrap_or_else(|| ctx.step(PostgresStep::Promote, Reason::PausedPromoting))
        }
        Hold::Unconfirmed => ctx.idle(Reason::ConfirmingLock),
        Hold::Held { .. } if ctx.policy.cluster != ClusterKind::Primary => {
            ctx.idle(Reason::PausedStandbyLeader { name: ctx.policy.name.clone() })
        }
        Hold::Held { .. } => ctx.release(Reason::PausedReleased),
        Hold::NotOurs if ctx.view.leader.is_none() && switchover::takes_over(ctx) => {
            let idle = ctx.idle(Reason::PausedIdle { name: ctx.policy.name.clone() });
            if let Some(wait) = ctx.after_refused_promotion() {
                return wait;
            }
            switchover::before_race(ctx, facts).unwrap_or(idle)
        }
        Hold::NotOurs => {
            let wanted = follows::upstream(ctx);
            match &wanted {
                Upstream::Member { name, .. } if facts.upstream != wanted => {
                    let leader = name.clone();
                    ctx.step(PostgresStep::Follow(wanted), Reason::NewUpstream { leader })
                }
                // A standby that has been given `nostream` streams on until the pause ends, as with Patroni: its slot is not
                // dropped before that either.
                Upstream::Member { .. }
                | Upstream::Remote(_)
                | Upstream::Archive
                | Upstream::None
                | Upstream::Foreign => ctx.idle(Reason::PausedIdle { name: ctx.policy.name.clone() }),
            }
        }
    }
}
