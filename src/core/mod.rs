//! The decisions. Pure: no async, no clock, no environment, no files, no logging, no randomness.
//!
//! `decide` looks at one observation and fills in one form. It never assumes that an earlier action worked: the next
//! observation tells. `learn` and `note` are the only writers of what is carried from one cycle to the next.

pub mod authority;
pub mod decision;
pub mod failsafe;
pub mod invariants;
pub mod lease;
pub mod local;
pub mod lock_seen;
pub mod observation;
pub mod policy;
pub mod reason;
pub mod requests;
pub mod slots;
pub mod standby_names;
pub mod sync;
pub mod tags;
pub mod tree;
pub mod units;
pub mod upstream;
pub mod view;
pub mod vouching;

mod amnesia;
mod bootstrap;
mod branch;
mod busy;
mod canvass;
mod context;
mod election;
mod electors;
mod follower;
mod follows;
mod leader;
mod memory;
mod outage;
mod pause;
mod rejoin;
mod schedule;
mod serving;
mod shutdown;
mod single;
mod standby_leader;
mod switchover;
mod upkeep;
mod watchdog;

pub use memory::{learn, next_wake, note};

use amnesia::Verdict;
use context::Ctx;
use decision::{Decision, Exit};
use lease::Hold;
use local::{DataDir, LastRole, Postgres, RecoverySignal, Running};
use observation::{FirstCycle, Observation};
use policy::{ClusterKind, Mode, Pause, Policy};
use reason::Reason;
use view::Initialize;

/// The version of Patroni whose behaviour this program matches; published in the member's record, since Patroni's
/// members compare it.
pub const PATRONI_VERSION: &str = "4.1.5";

/// What is to be done now. Total: never fails, never panics.
pub fn decide(policy: &Policy, seen: &Observation) -> Decision {
    let decision = sync::with(policy, seen, upkeep::with(policy, seen, decided(policy, seen)));
    if let Err(what) = invariants::is_safe(policy, seen, &decision) {
        debug_assert!(false, "{what}: {decision:?} on {seen:?}");
    }
    decision
}

fn decided(policy: &Policy, seen: &Observation) -> Decision {
    if let Some(how) = seen.requests.shutdown {
        return shutdown::decide(policy, seen, how);
    }
    if let Some(stop) = election::stop_failed_promotion(policy, seen) {
        return stop;
    }
    match &seen.cluster {
        Err(outage) => outage::decide(policy, seen, outage),
        Ok(view) => {
            let ctx = Ctx { policy, seen, view };
            match amnesia::judge(&ctx) {
                Verdict::Over => with_promise(&ctx),
                Verdict::Decided(decision) => *decision,
                Verdict::Believed(view) => with_promise(&Ctx { view: &view, ..ctx }),
            }
        }
    }
}

/// A primary that we have vouched for leads, whatever the store says of its lock.
fn with_promise(ctx: &Ctx) -> Decision {
    match failsafe::with_promised(ctx.seen, ctx.view) {
        Some(view) => of_kind(&Ctx { view: &view, ..*ctx }),
        None => failsafe::keeps_promise(ctx).unwrap_or_else(|| of_kind(ctx)),
    }
}

fn of_kind(ctx: &Ctx) -> Decision {
    match &ctx.policy.cluster {
        ClusterKind::Primary => connected(ctx),
        ClusterKind::Standby(_) => connected(&Ctx { view: &standby_leader::believed(ctx.view), ..*ctx }),
    }
}

/// The DCS answers and nobody asked us to end.
fn connected(ctx: &Ctx) -> Decision {
    if let Some(running) = &ctx.seen.local.job {
        return busy::decide(ctx, &running.job);
    }
    match ctx.policy.mode {
        Mode::Single => return single::decide(ctx),
        Mode::Cluster => {}
    }
    match ctx.policy.pause {
        Pause::Paused => return pause::decide(ctx),
        Pause::Running => {}
    }
    if let Some(refusal) = wrong_cluster(ctx) {
        return refusal;
    }
    if let Some(decision) = restart_requested(ctx) {
        return decision;
    }
    // A primary without the lock stops first, and faster than a clone would stop it.
    if let Some(wanted) = ctx.seen.requests.reinitialize
        && !authority::may_be_primary(&ctx.seen.local.postgres)
        && let Some(decision) = bootstrap::reinitialize(ctx, wanted)
    {
        return decision;
    }
    // The server comes first: whatever its data look like, it may be a primary as long as it is not known to be stopped.
    match (&ctx.seen.local.postgres, &ctx.seen.local.data) {
        (Postgres::Stopped, DataDir::Empty) => bootstrap::decide(ctx),
        (Postgres::Stopped, DataDir::Unusable(why)) => unusable(ctx, why),
        (Postgres::Stopped, DataDir::Present(data)) => rejoin::decide(ctx, data),
        (Postgres::Starting { role, since }, _) => {
            follower::starting(ctx, *role, *since).unwrap_or_else(|| without_answer(ctx, *role, Reason::Starting))
        }
        (Postgres::Unresponsive { role, .. }, _) => without_answer(ctx, *role, Reason::NotAnswering),
        (Postgres::Stopping, _) => serving::overdue(ctx).unwrap_or_else(|| ctx.idle(Reason::Stopping)),
        (Postgres::Running(Running::Primary(facts)), data) => leader::decide(ctx, data, facts),
        (Postgres::Running(Running::Standby(facts)), data) => match (ctx.hold(), data) {
            (Hold::Held { until }, DataDir::Present(data)) => match &ctx.policy.cluster {
                ClusterKind::Primary => election::promote(ctx, until),
                ClusterKind::Standby(source) => standby_leader::decide(ctx, data, facts, source),
            },
            (Hold::Held { .. }, DataDir::Empty | DataDir::Unusable(_)) => ctx.stop_at_once(ctx.broken_data()),
            // A call that came late has taken it, or one whose answer was lost: what was true when it was sent may not be
            // true any more. Only a promotion that is under way by a former agent goes on.
            (Hold::Unconfirmed, _) if ctx.is_taken_unawares() => ctx.give_back(),
            (Hold::Unconfirmed, _) => ctx.idle(Reason::ConfirmingLock),
            (Hold::NotOurs, _) if ctx.view.leader.is_some() => follower::decide(ctx, facts),
            (Hold::NotOurs, DataDir::Present(data)) => election::decide(ctx, data, facts),
            (Hold::NotOurs, DataDir::Empty | DataDir::Unusable(_)) => ctx.idle(ctx.broken_data()),
        },
    }
}

/// Data of another cluster never run under this cluster's lock, and nothing is done to them.
fn wrong_cluster(ctx: &Ctx) -> Option<Decision> {
    let own = ctx.seen.local.data.system_id()?;
    let cluster = match ctx.view.initialize {
        Initialize::Done(cluster) if cluster != own => cluster,
        Initialize::Done(_) => return None,
        Initialize::Absent | Initialize::InProgress(_) | Initialize::Invalid(_) => return replica_before_cluster(ctx),
    };
    if ctx.hold() != Hold::NotOurs {
        return Some(ctx.give_up(Reason::ReleasedForeign));
    }
    // Made by ourselves a moment ago, too late: another member's claim came between. Nobody has ever used it.
    if ctx.seen.memory.bootstrapped == Some(own) {
        return Some(bootstrap::replace_own(ctx));
    }
    let reason = Reason::SystemIdMismatch { name: ctx.policy.name.clone(), own, cluster };
    let exit = Some(Exit::Fatal(reason.to_string()));
    Some(Decision { exit, ..ctx.idle(reason) })
}

/// A running standby must not become the first member of a cluster: its primary is somewhere else.
fn replica_before_cluster(ctx: &Ctx) -> Option<Decision> {
    let running_standby = matches!(ctx.seen.local.postgres, Postgres::Running(Running::Standby(_)));
    let first = ctx.seen.memory.first_cycle == FirstCycle::Pending;
    let is_known = ctx.seen.memory.cluster == ctx.seen.local.data.system_id() || ctx.seen.memory.amnesia.is_some();
    let is_expected = is_known || ctx.policy.cluster.source().is_some();
    if !(first && running_standby && ctx.view.leader.is_none()) || is_expected {
        return None;
    }
    let reason = Reason::ReplicaBeforeCluster;
    Some(Decision { exit: Some(Exit::FatalLeaveRunning(reason.to_string())), ..ctx.idle(reason) })
}

/// A server that runs without telling its role. As a primary without the lock it must not go on.
fn without_answer(ctx: &Ctx, role: LastRole, reason: Reason) -> Decision {
    match (role, ctx.hold()) {
        (LastRole::Primary, Hold::NotOurs) => leader::not_ours(ctx),
        (LastRole::Primary, Hold::Held { until }) if ctx.now() >= lease::stop_deadline(until, ctx.timing()) => {
            leader::cannot_renew(ctx, until)
        }
        (_, Hold::Held { .. }) => serving::overdue(ctx).unwrap_or_else(|| ctx.again_after(lease::RETRY * 2, reason)),
        (_, Hold::Unconfirmed | Hold::NotOurs) => ctx.again_after(lease::RETRY * 2, reason),
    }
}

fn unusable(ctx: &Ctx, why: &str) -> Decision {
    match ctx.hold() {
        Hold::NotOurs => ctx.idle(Reason::Unusable { why: why.to_owned() }),
        Hold::Held { .. } | Hold::Unconfirmed => ctx.give_up(Reason::Unusable { why: why.to_owned() }),
    }
}

/// A restart keeps the role, and a leader keeps the lock. `None`: nobody asked, it is not the time yet, or it has to be
/// settled first whether the lock is ours.
fn restart_requested(ctx: &Ctx) -> Option<Decision> {
    use decision::PostgresStep::{Restart, Start};
    use local::StartAs;
    ctx.seen.requests.restart.filter(|_| ctx.hold() != Hold::Unconfirmed)?;
    match &ctx.seen.local.data {
        DataDir::Present(data) if data.signal == RecoverySignal::RewindUnfinished => return None,
        DataDir::Present(_) => {}
        DataDir::Empty | DataDir::Unusable(_) => return None,
    }
    // A primary of what has become a standby cluster is on its way to another role.
    let may_lead = matches!(ctx.hold(), Hold::Held { .. }) && ctx.policy.cluster == ClusterKind::Primary;
    Some(match &ctx.seen.local.postgres {
        Postgres::Running(Running::Primary(_)) if may_lead => match watchdog::before_primary(ctx) {
            Some(_) => return None,
            None => ctx.step(Restart(StartAs::Primary), Reason::Restarting),
        },
        Postgres::Running(Running::Standby(_)) | Postgres::Unresponsive { role: LastRole::Standby, .. } => {
            sync::ask_for_release(ctx)
                .unwrap_or_else(|| ctx.step(Restart(StartAs::Standby(follows::upstream(ctx))), Reason::Restarting))
        }
        Postgres::Stopped => ctx.step(Start(StartAs::Standby(follows::upstream(ctx))), Reason::Restarting),
        // What a primary without the lock does, or one that does not answer, is for the ordinary rules to say.
        Postgres::Running(Running::Primary(_)) | Postgres::Unresponsive { role: LastRole::Primary, .. } => return None,
        Postgres::Starting { .. } | Postgres::Stopping => return None,
    })
}
