//! Synchronous replication: what the `sync` key promises about each standby, and what the server waits for.
//!
//! Key and server's setting are two things, and a crash may come between any two steps. So each cycle takes one step,
//! looks at what there is, and takes the next one (ADR 22).

pub mod quorum;

mod candidates;
mod priority;
mod state;

use std::time::Duration;

use super::context::Ctx;
use super::decision::{Decision, PostgresStep, SyncStep, Wake};
use super::electors::active;
use super::local::{NamesOf, Postgres, PrimaryFacts, Running};
use super::observation::{Memory, NamesSeen, Observation};
use super::policy::{Mode, Policy, SyncMode};
use super::reason::Reason;
use state::{Before, Next, State};

/// How soon a standby that has just been chosen is looked at again, and for how long so soon.
const SOON: Duration = Duration::from_millis(50);
const SOON_FOR: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(1);

/// What has to be done before this server takes writes, so that no commit is confirmed that the key's members may lack.
pub fn before_primary(ctx: &Ctx) -> SyncStep {
    let state = State::of(ctx);
    let Before { names, key } = match ctx.policy.synchronous.mode {
        SyncMode::Off if ctx.seen.local.sync.whose == NamesOf::Us => return SyncStep::GiveBack,
        SyncMode::Off => return SyncStep::Leave,
        SyncMode::Priority => priority::before_primary(ctx, &state),
        SyncMode::Quorum => quorum::before_primary(ctx, &state),
    };
    match key {
        _ if !state.is_set_to(&names) => SyncStep::Set(names),
        Some(key) => SyncStep::Publish { key, seen: ctx.view.sync.revision },
        None => SyncStep::Leave,
    }
}

/// The decision that does it first. `None`: nothing stands in the way.
pub fn postpone(ctx: &Ctx) -> Option<Decision> {
    let step = before_primary(ctx);
    let wake = match &step {
        SyncStep::Leave => return None,
        SyncStep::Publish { .. } | SyncStep::Unpublish { .. } => Wake::Now,
        SyncStep::Set(_) | SyncStep::GiveBack => Wake::At(ctx.now() + LATER),
    };
    let decision = ctx.idle(Reason::PreparingSynchronous);
    Some(Decision { sync: step, wake: sooner(wake, decision.wake), ..decision })
}

/// Beside whatever a leader does: the next step towards the standbys that the cluster wants.
pub fn with(policy: &Policy, seen: &Observation, decision: Decision) -> Decision {
    let Ok(view) = &seen.cluster else { return decision };
    let Postgres::Running(Running::Primary(facts)) = &seen.local.postgres else { return decision };
    let ctx = Ctx { policy, seen, view };
    let leads = view.is_ours() && seen.memory.lease_valid_until.is_some_and(|until| until > seen.now);
    let rests = decision.postgres == PostgresStep::Leave && !decision.lease.gives_up() && decision.exit.is_none();
    let is_busy = seen.local.job.is_some() || seen.requests.shutdown.is_some() || seen.memory.amnesia.is_some();
    if policy.mode != Mode::Cluster || !leads || !rests || is_busy {
        return decision;
    }
    let next = match policy.synchronous.mode {
        SyncMode::Off => return off(&ctx, decision),
        SyncMode::Priority => priority::next(&ctx, facts),
        SyncMode::Quorum => quorum::next(&ctx, facts),
    };
    let (sync, wake) = match next {
        Next::Nothing => return decision,
        Next::Set(names) => (SyncStep::Set(names), Wake::At(seen.now + LATER)),
        Next::Publish(key) => (SyncStep::Publish { key, seen: view.sync.revision }, Wake::Now),
        Next::Awaited => (SyncStep::Leave, Wake::At(seen.now + pace(seen))),
    };
    Decision { sync, wake: sooner(wake, decision.wake), ..decision }
}

/// The mode was switched off: first nothing is promised any more, then nobody is waited for.
fn off(ctx: &Ctx, decision: Decision) -> Decision {
    match ctx.view.sync.revision.filter(|_| ctx.view.sync.leader.is_some()) {
        Some(seen) => Decision { sync: SyncStep::Unpublish { seen }, wake: Wake::Now, ..decision },
        None if ctx.seen.local.sync.whose == NamesOf::Us => Decision { sync: SyncStep::GiveBack, ..decision },
        None => decision,
    }
}

fn pace(seen: &Observation) -> Duration {
    let change = seen.memory.standby_names.as_ref();
    match change {
        Some(change) if change.since + SOON_FOR < seen.now => LATER,
        Some(_) | None => SOON,
    }
}

fn sooner(one: Wake, other: Wake) -> Wake {
    match (one, other) {
        (Wake::At(one), Wake::At(other)) => Wake::At(one.min(other)),
        (Wake::Now, _) | (_, Wake::Now) => Wake::Now,
    }
}

/// A synchronous standby that is to stop asks the leader first to wait for another one, for so long. `None`: it is free.
pub fn ask_for_release(ctx: &Ctx) -> Option<Decision> {
    let me = &ctx.policy.name;
    let is_standby = matches!(ctx.seen.local.postgres, Postgres::Running(Running::Standby(_)));
    let serves = ctx.view.sync.standbys.iter().any(|name| name.is_standby(me.as_str()));
    let led = ctx.view.other_leader().is_some();
    let limit = (ctx.timing().loop_wait * 2).min(ctx.policy.stop_timeout / 2);
    let is_over = ctx.seen.memory.release_asked.is_some_and(|since| since + limit <= ctx.now());
    let asks = is_standby && serves && led && active(ctx).is_some() && !ctx.policy.tags.is_nosync() && !is_over;
    asks.then(|| ctx.again_after(SOON * 2, Reason::AskingForRelease))
}

/// What a cycle has seen of the setting and of the wait for a release.
pub(super) fn learn(memory: &mut Memory, seen: &Observation, reason: &Reason) {
    let names = &seen.local.sync.names;
    match &seen.local.postgres {
        Postgres::Running(Running::Primary(PrimaryFacts { flushed, .. })) => {
            if memory.standby_names.as_ref().is_none_or(|known| known.names != *names) {
                memory.standby_names = Some(NamesSeen { names: names.clone(), since: seen.now, flushed: *flushed });
            }
        }
        // It says nothing for a moment.
        Postgres::Unresponsive { .. } => {}
        Postgres::Running(Running::Standby(_)) | Postgres::Stopped | Postgres::Starting { .. } | Postgres::Stopping => {
            memory.standby_names = None;
        }
    }
    let is_wanted = seen.requests.shutdown.is_some() || seen.requests.restart.is_some() || seen.local.job.is_some();
    match reason {
        Reason::AskingForRelease => memory.release_asked = memory.release_asked.or(Some(seen.now)),
        _ if is_wanted => {}
        _ => memory.release_asked = None,
    }
}
