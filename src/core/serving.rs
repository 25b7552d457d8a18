//! Whoever holds the lock and takes no writes is bounded by `primary_start_timeout`, whatever keeps it: a crash that
//! does not end, a start that takes too long, a server or a disk that hangs. Then it gives way, if somebody can take over.

use std::collections::BTreeMap;
use std::time::Duration;

use super::canvass::{self, Canvass, within_lag};
use super::context::Ctx;
use super::decision::Decision;
use super::lease::Hold;
use super::local::{ClusterState, DataDir, LastRole, LocalState, Postgres, Running};
use super::policy::{ClusterKind, Pause};
use super::reason::Reason;
use super::units::{Instant, MemberName};
use super::view::Schedule;

/// Whether it is known that this server takes writes and its data are there.
pub fn is_serving(local: &LocalState) -> bool {
    let runs = matches!(local.postgres, Postgres::Running(Running::Primary(_)));
    runs && matches!(local.data, DataDir::Present(_))
}

/// A primary under our lock that has taken no writes for too long stops, so that it can give way. `None`: it has time, or
/// nobody can take over.
pub fn overdue(ctx: &Ctx) -> Option<Decision> {
    if !is_overdue(ctx) {
        return None;
    }
    let reason = if is_asked_to_give_way(ctx) { Reason::HandingOver } else { Reason::StartTimeout };
    match successor(ctx) {
        Successor::Asked(missing) => Some(canvass::ask(ctx, missing, Reason::Sweeping)),
        Successor::Ready => Some(ctx.stop_at_once(reason)),
        Successor::Nobody => None,
    }
}

/// Whether the time that a leader may take to serve is over, or a person wants another one.
pub fn is_overdue(ctx: &Ctx) -> bool {
    let held = matches!(ctx.hold(), Hold::Held { .. });
    let ends = since(ctx).map(|since| since + limit(ctx));
    let over = ends.is_some_and(|ends| ends <= ctx.now()) || is_asked_to_give_way(ctx);
    held && ctx.policy.pause == Pause::Running && over
}

/// A switchover or failover that was asked for after a crash is not kept waiting for the end of crash recovery.
fn is_asked_to_give_way(ctx: &Ctx) -> bool {
    if !has_crashed(&ctx.seen.local) {
        return false;
    }
    let Some(request) = &ctx.view.switchover else { return false };
    let me = &ctx.policy.name;
    let from_me = request.leader.as_ref().is_none_or(|leader| leader == me);
    let to_another = request.candidate.as_ref().is_none_or(|candidate| candidate != me);
    request.scheduled_at == Schedule::Now && from_me && to_another
}

/// Since when we hold the lock without serving, as far as is known.
fn since(ctx: &Ctx) -> Option<Instant> {
    let began = match ctx.seen.local.postgres {
        Postgres::Starting { since, .. } | Postgres::Unresponsive { since, .. } => Some(since),
        Postgres::Running(_) | Postgres::Stopped | Postgres::Stopping => None,
    };
    // The leader of a standby cluster takes no writes.
    let not_serving = ctx.seen.memory.not_serving_since.filter(|_| ctx.policy.cluster == ClusterKind::Primary);
    began.into_iter().chain(not_serving).min()
}

/// `primary_start_timeout: 0` asks for a failover after a crash; a server that is silent for a moment has not crashed.
fn limit(ctx: &Ctx) -> Duration {
    match ctx.seen.local.postgres {
        Postgres::Starting { role: LastRole::Primary, .. } => ctx.policy.primary_start_timeout,
        Postgres::Starting { role: LastRole::Standby, .. }
        | Postgres::Unresponsive { .. }
        | Postgres::Running(_)
        | Postgres::Stopped
        | Postgres::Stopping => ctx.policy.primary_start_timeout.max(ctx.timing().retry_timeout),
    }
}

fn has_crashed(local: &LocalState) -> bool {
    match (&local.postgres, &local.data) {
        (Postgres::Starting { role: LastRole::Primary, .. }, _) => true,
        (Postgres::Stopped, DataDir::Present(data)) => {
            data.control.as_ref().is_some_and(|control| control.state != ClusterState::ShutDown)
        }
        (_, _) => false,
    }
}

/// Who could take over from a leader that gives way.
pub enum Successor {
    /// These are to be asked first.
    Asked(BTreeMap<MemberName, Duration>),
    Ready,
    Nobody,
}

/// A member that has answered, may become leader and lags no more than is allowed behind the last position that was
/// published.
pub fn successor(ctx: &Ctx) -> Successor {
    let named = ctx.view.switchover.as_ref().filter(|_| is_asked_to_give_way(ctx));
    let canvass = Canvass::of_candidates(ctx, named.and_then(|request| request.candidate.as_ref()));
    if let Some(missing) = canvass.missing() {
        return Successor::Asked(missing);
    }
    let last = ctx.view.status.optime.unwrap_or_default();
    match canvass.has_candidate(|position| within_lag(ctx, position, last)) {
        true => Successor::Ready,
        false => Successor::Nobody,
    }
}
