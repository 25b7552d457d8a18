//! Whom this member streams from.

use super::context::Ctx;
use super::lease::Hold;
use super::policy::ClusterKind;
use super::tree;
use super::upstream::Upstream;
use super::view::Member;

/// The leader that we are to follow, unless that is us or has no address.
pub fn leader<'a>(ctx: &Ctx<'a>) -> Option<&'a Member> {
    ctx.view.other_leader().filter(|leader| leader.name != ctx.policy.name && leader.address.is_some())
}

/// Where we are to stream from. A member with the tag `nostream` streams from nobody: it has its WAL from the archive.
pub fn upstream(ctx: &Ctx) -> Upstream {
    if ctx.policy.tags.nostream {
        return Upstream::None;
    }
    if let (ClusterKind::Standby(source), Hold::Held { .. }) = (&ctx.policy.cluster, ctx.hold()) {
        return source.clone().into();
    }
    let wanted = tree::parent(ctx.policy, ctx.view).ok().flatten().or(leader(ctx));
    match wanted.and_then(|member| Some((&member.name, member.address.as_ref()?))) {
        Some((name, address)) => Upstream::Member { name: name.clone(), address: address.clone() },
        None => Upstream::None,
    }
}

/// Whether this upstream is that member.
pub fn is_of(upstream: &Upstream, member: &Member) -> bool {
    matches!(upstream, Upstream::Member { name, .. } if *name == member.name)
}
