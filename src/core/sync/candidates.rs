//! Which standbys may be waited for: those that stream from here now and are members that run.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::core::context::Ctx;
use crate::core::local::{Duty, PrimaryFacts};
use crate::core::units::{Lsn, MemberName};
use crate::core::view::{Member, MemberState};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standby {
    pub name: MemberName,
    pub duty: Duty,
    position: Lsn,
    pub is_nofailover: bool,
    sync_priority: i32,
}

/// In the order in which they are chosen: by the tag `sync_priority`, then those that have the duty already, then the one
/// that is ahead. One that may not become leader comes last.
pub fn standbys(ctx: &Ctx, facts: &PrimaryFacts) -> Vec<Standby> {
    let senders = ctx.seen.local.sync.senders.iter();
    let found = senders.filter_map(|sender| {
        let member = ctx.view.alive().find(|member| member.name.is_standby(&sender.standby))?;
        let fits = member.state == MemberState::Running && !member.tags.is_nosync() && member.name != ctx.policy.name;
        fits.then(|| Standby {
            name: member.name.clone(),
            duty: sender.duty,
            position: sender.position,
            is_nofailover: member.tags.is_nofailover(),
            sync_priority: member.tags.sync_priority,
        })
    });
    let mut found: Vec<Standby> = found.collect();
    found.sort_by_key(|standby| Reverse((standby.sync_priority, standby.duty, standby.position)));
    found.sort_by_key(|standby| standby.is_nofailover);
    let furthest = found.iter().map(|standby| standby.position).max().filter(|_| found.len() > 1);
    let reference = furthest.unwrap_or(facts.flushed);
    if let Some(limit) = ctx.policy.synchronous.maximum_lag {
        found.retain(|standby| standby.position.behind(reference) <= limit);
    }
    let mut names = BTreeSet::new();
    found.retain(|standby| names.insert(standby.name.clone()));
    found
}

/// Whether a member runs that could be waited for and does not stream yet.
pub fn is_one_on_its_way(ctx: &Ctx, found: &[Standby]) -> bool {
    let may_come = |member: &&Member| {
        let is_found = found.iter().any(|standby| standby.name == member.name);
        let runs = matches!(member.state, MemberState::Running | MemberState::Starting | MemberState::CreatingReplica);
        member.name != ctx.policy.name && runs && !member.tags.is_nosync() && !is_found
    };
    ctx.view.alive().any(|member| may_come(&member))
}

/// Whether it has everything that clients may have been told of before it was chosen.
pub fn has_caught_up(ctx: &Ctx, standby: &Standby) -> bool {
    let change = ctx.seen.memory.standby_names.as_ref();
    change.is_some_and(|change| change.names == ctx.seen.local.sync.names && standby.position >= change.flushed)
}

/// Names as the members spell their own.
pub fn as_members(ctx: &Ctx, names: &BTreeSet<MemberName>) -> BTreeSet<MemberName> {
    let known = |name: &MemberName| {
        let members = ctx.view.members.keys().chain([&ctx.policy.name]);
        members.into_iter().find(|member| member.is_standby(name.as_str())).unwrap_or(name).clone()
    };
    names.iter().map(known).collect()
}
