//! Who counts in an election of a cluster that replicates synchronously: those that the `sync` key names.

use super::context::Ctx;
use super::policy::SyncMode;
use super::reason::Reason;
use super::units::MemberName;
use super::view::ClusterView;

/// What the members go by: the mode of the cluster's configuration, once a leader has begun to keep the key.
pub fn active(ctx: &Ctx) -> Option<SyncMode> {
    let mode = ctx.policy.synchronous.mode;
    // A store that has lost its data may show a key of long ago: then whoever has most goes first, of all members. Where
    // that one does not come, as it goes by the key, so do we in the end.
    let memory = &ctx.seen.memory;
    let is_left_alone = memory.unlocked_since.is_some_and(|since| since + ctx.timing().ttl * 3 <= ctx.now());
    let is_known = memory.amnesia.is_none() || is_left_alone;
    let is_active = mode != SyncMode::Off && ctx.view.sync.leader.is_some() && is_known;
    // A key of quorum mode says what it says, whatever the mode has become since: its voters need not have everything.
    let mode = if ctx.view.sync.quorum > 0 { SyncMode::Quorum } else { mode };
    is_active.then_some(mode)
}

/// Whether this member counts in an election: it has kept the key, or the key names it. Without synchronous mode all do.
pub fn is_elector(ctx: &Ctx, name: &MemberName) -> bool {
    active(ctx).is_none() || is_listed(ctx.view, name)
}

/// Whether the key names this member, as the leader that keeps it or as a standby.
pub fn is_listed(view: &ClusterView, name: &MemberName) -> bool {
    let is_name = |listed: &MemberName| listed.is_standby(name.as_str());
    view.sync.leader.iter().chain(&view.sync.standbys).any(is_name)
}

/// Whether this is the leader that kept the key: what it is ahead by no client was told of.
pub fn is_former_leader(ctx: &Ctx, name: &MemberName) -> bool {
    active(ctx).is_some() && ctx.view.sync.leader.as_ref().is_some_and(|leader| leader.is_standby(name.as_str()))
}

/// What keeps this member from taking the lock by itself: in priority mode that it is no synchronous standby.
pub fn barred(ctx: &Ctx) -> Option<Reason> {
    let is_barred = active(ctx) == Some(SyncMode::Priority) && !is_listed(ctx.view, &ctx.policy.name);
    is_barred.then_some(Reason::NotSynchronous)
}
