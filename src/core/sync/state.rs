//! The `sync` key and the server's setting side by side.

use std::collections::BTreeSet;

use super::candidates::as_members;
use crate::core::context::Ctx;
use crate::core::decision::SyncKey;
use crate::core::local::NamesOf;
use crate::core::standby_names::StandbyNames;
use crate::core::units::MemberName;

/// What a leader does next about its synchronous standbys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    Set(StandbyNames),
    Publish(SyncKey),
    /// A standby has to confirm first.
    Awaited,
}

/// What has to hold before a server takes writes.
pub(super) struct Before {
    pub(super) names: StandbyNames,
    pub(super) key: Option<SyncKey>,
}

/// The key and the setting, with names as the members spell them.
pub(super) struct State<'a> {
    pub(super) leader: Option<MemberName>,
    pub(super) quorum: usize,
    pub(super) published: BTreeSet<MemberName>,
    pub(super) set: BTreeSet<MemberName>,
    ctx: Ctx<'a>,
}

impl<'a> State<'a> {
    pub(super) fn of(ctx: &Ctx<'a>) -> Self {
        let key = &ctx.view.sync;
        let leader = key.leader.iter().cloned().collect();
        State {
            leader: as_members(ctx, &leader).pop_first(),
            quorum: key.quorum as usize,
            published: as_members(ctx, &key.standbys),
            set: as_members(ctx, &ctx.seen.local.sync.names.members()),
            ctx: *ctx,
        }
    }

    pub(super) fn is_set_to(&self, names: &StandbyNames) -> bool {
        let now = &self.ctx.seen.local.sync;
        let same_names = as_members(&self.ctx, &now.names.names) == names.names;
        let same_rule = now.names.method == names.method && now.names.count == names.count;
        now.whose == NamesOf::Us && same_names && (same_rule || names.names.is_empty())
    }
}
