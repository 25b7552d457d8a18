//! Priority mode: each commit waits for all of the chosen standbys, and they alone may take over.
//!
//! **Invariant:** a standby that the `sync` key names is waited for by the server, and has everything from before that was
//! so. A name comes into the server's setting first and into the key once it is confirmed; it leaves the key first.

use std::collections::BTreeSet;

use super::candidates::{Standby, has_caught_up, is_one_on_its_way, standbys};
use super::state::{Before, Next, State};
use crate::core::context::Ctx;
use crate::core::decision::SyncKey;
use crate::core::local::{Duty, PrimaryFacts};
use crate::core::standby_names::{Method, StandbyNames};
use crate::core::units::MemberName;

pub(super) fn next(ctx: &Ctx, facts: &PrimaryFacts) -> Next {
    let state = State::of(ctx);
    if state.leader != Some(ctx.policy.name.clone()) {
        return publish(ctx, BTreeSet::new());
    }
    let found = standbys(ctx, facts);
    let wanted = ctx.policy.synchronous.node_count;
    let is_strict = ctx.policy.synchronous.strict.is_on();
    let picked: BTreeSet<MemberName> = found.iter().take(wanted).map(|standby| standby.name.clone()).collect();
    let is_confirmed = |standby: &&Standby| {
        let is_new = !state.published.contains(&standby.name);
        let is_named = state.set.contains(&standby.name);
        is_named && standby.duty == Duty::Sync && (!is_new || has_caught_up(ctx, standby))
    };
    let confirmed: BTreeSet<MemberName> =
        found.iter().take(wanted).filter(is_confirmed).map(|standby| standby.name.clone()).collect();
    let is_kept_by_strict = is_strict && picked.is_empty();
    let names = match is_kept_by_strict {
        true if state.published.is_empty() => StandbyNames::nobody(Method::First),
        // Whoever is in the key is waited for until it comes back: the key says that it has everything.
        true => StandbyNames::all_of(state.published.clone()),
        false => StandbyNames::all_of(picked.clone()),
    };
    let published: BTreeSet<MemberName> = state.published.intersection(&confirmed).cloned().collect();
    if published != state.published && !is_kept_by_strict {
        return publish(ctx, published);
    }
    if !state.is_set_to(&names) {
        return Next::Set(names);
    }
    match confirmed == state.published || confirmed.is_empty() {
        true if picked.len() < wanted && is_one_on_its_way(ctx, &found) => Next::Awaited,
        true if confirmed == picked || is_kept_by_strict => Next::Nothing,
        true => Next::Awaited,
        false => publish(ctx, confirmed),
    }
}

/// A leader that starts again waits for no fewer than before. A new one begins with nobody; in strict mode with those that
/// had everything, the former leader among them.
pub(super) fn before_primary(ctx: &Ctx, state: &State) -> Before {
    let me = &ctx.policy.name;
    let is_strict = ctx.policy.synchronous.strict.is_on();
    let now = &ctx.seen.local.sync.names;
    let is_mine = state.leader.as_ref() == Some(me);
    let kept = match &state.leader {
        _ if is_mine => state.published.clone(),
        Some(former) if is_strict => {
            state.published.iter().chain([former]).filter(|name| *name != me).cloned().collect()
        }
        Some(_) | None => BTreeSet::new(),
    };
    let keeps_more = is_mine && state.set.is_superset(&kept) && now.count == state.set.len();
    let names = match kept.is_empty() {
        true if is_strict => StandbyNames::nobody(Method::First),
        false if keeps_more => now.clone(),
        true | false => StandbyNames::all_of(kept.clone()),
    };
    let key = SyncKey { leader: me.clone(), quorum: 0, standbys: kept };
    Before { names, key: (state.leader.is_some() && !is_mine).then_some(key) }
}

fn publish(ctx: &Ctx, standbys: BTreeSet<MemberName>) -> Next {
    Next::Publish(SyncKey { leader: ctx.policy.name.clone(), quorum: 0, standbys })
}
