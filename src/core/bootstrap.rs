//! The data directory is empty: a new cluster, or a clone of one.

use super::context::Ctx;
use super::decision::{Decision, DocumentStep, Exit, PostgresStep};
use super::lease::Hold;
use super::local::{CloneFrom, CloneSource, Job, Reinit, Source};
use super::observation::{JobResult, ReinitRequest};
use super::policy::{ClusterKind, Switch};
use super::reason::Reason;
use super::view::{Holder, Initialize, Member, MemberState};
use super::watchdog;

pub fn decide(ctx: &Ctx) -> Decision {
    if ctx.hold() != Hold::NotOurs {
        return ctx.give_up(Reason::ReleasedEmpty);
    }
    if let Some(failed) = bootstrap_failed(ctx) {
        return failed;
    }
    if ctx.view.leader.is_some() {
        return match source(ctx, ReinitRequest::AnySource) {
            Some(source) => match ctx.backing_off() {
                Some(wait) => wait,
                None => ctx.step(PostgresStep::Clone(source.clone()), Reason::Cloning { source }),
            },
            None => ctx.idle(Reason::WaitingForLeader),
        };
    }
    if let Some(reason) = watchdog::bars_race(ctx) {
        return ctx.idle(reason);
    }
    match ctx.view.initialize {
        Initialize::Absent | Initialize::InProgress(Holder::Us) if may_bootstrap(ctx) && has_seen_cluster(ctx) => {
            ctx.idle(Reason::NotInitializing)
        }
        Initialize::Absent if may_bootstrap(ctx) => first_member(ctx, vec![DocumentStep::ClaimInitialize]),
        // Our own claim from before this agent was started anew.
        Initialize::InProgress(Holder::Us) if may_bootstrap(ctx) => first_member(ctx, Vec::new()),
        Initialize::Absent | Initialize::InProgress(_) | Initialize::Done(_) | Initialize::Invalid(_) => {
            ctx.idle(Reason::WaitingForLeader)
        }
    }
}

/// A new cluster, or the first copy of the one that a standby cluster follows.
fn first_member(ctx: &Ctx, claim: Vec<DocumentStep>) -> Decision {
    let decision = match &ctx.policy.cluster {
        ClusterKind::Primary => ctx.step(PostgresStep::Bootstrap, Reason::Bootstrapping),
        ClusterKind::Standby(Source::Archive) => return ctx.idle(Reason::NothingToCloneFrom),
        ClusterKind::Standby(Source::Remote(remote)) => {
            if let Some(wait) = ctx.backing_off() {
                return wait;
            }
            let source = CloneSource::remote(remote);
            ctx.step(PostgresStep::Clone(source.clone()), Reason::Cloning { source })
        }
    };
    Decision { documents: claim, ..decision }
}

fn may_bootstrap(ctx: &Ctx) -> bool {
    let policy = ctx.policy;
    policy.bootstrap.is_on() && !policy.tags.is_nofailover()
}

/// A cluster that the store no longer knows is still somewhere; a new one beside it would be two.
fn has_seen_cluster(ctx: &Ctx) -> bool {
    let memory = &ctx.seen.memory;
    memory.cluster.is_some() || memory.amnesia.is_some() || memory.last_leader.is_some()
}

pub fn new_cluster(ctx: &Ctx) -> Decision {
    let documents = vec![DocumentStep::ClaimInitialize];
    Decision { documents, ..ctx.step(PostgresStep::Bootstrap, Reason::Bootstrapping) }
}

/// A failed bootstrap ends this agent: whatever restarts it decides whether that is worth another try, and another
/// member may try meanwhile.
pub fn bootstrap_failed(ctx: &Ctx) -> Option<Decision> {
    let last = ctx.seen.memory.finished.as_ref().filter(|last| last.job == Job::Bootstrap)?;
    let JobResult::Failed(why) = &last.result else { return None };
    let exit = Some(Exit::Fatal(format!("{}: {why}", Reason::BootstrapFailed)));
    let documents = vec![DocumentStep::UnclaimInitialize];
    Some(Decision { documents, exit, ..ctx.idle(Reason::BootstrapFailed) })
}

/// Where to clone from: a running replica that offers itself, else the leader. `None`: the leader is not known well
/// enough, or is us.
pub fn source(ctx: &Ctx, wanted: ReinitRequest) -> Option<CloneSource> {
    let leader = ctx.view.other_leader().filter(|leader| leader.name != ctx.policy.name)?;
    let of = |member: &Member, kind| {
        let address = member.address.clone()?;
        Some(CloneSource { name: member.name.clone(), address, kind })
    };
    let offers = |member: &&Member| {
        let other = member.name != leader.name && member.name != ctx.policy.name;
        other && member.tags.clonefrom && member.state == MemberState::Running && member.address.is_some()
    };
    // The first after our own name, so that several members that clone at once spread over the sources.
    let offering: Vec<&Member> = ctx.view.alive().filter(offers).collect();
    let replica = offering.iter().find(|member| member.name > ctx.policy.name).or(offering.first());
    match (wanted, replica) {
        (ReinitRequest::AnySource, Some(replica)) => of(replica, CloneFrom::Replica),
        (ReinitRequest::AnySource, None) | (ReinitRequest::FromLeader, _) => of(leader, CloneFrom::Leader),
    }
}

/// A cluster of our own that came too late is replaced by a clone of the one that is.
pub fn replace_own(ctx: &Ctx) -> Decision {
    let Some(source) = source(ctx, ReinitRequest::FromLeader) else { return ctx.idle(Reason::WaitingForLeader) };
    let step = PostgresStep::Reinitialize { from: source.clone(), why: Reinit::Diverged };
    ctx.step(step, Reason::Cloning { source })
}

/// `POST /reinitialize`; refused there when there is no other leader, so a request without a source is void.
pub fn reinitialize(ctx: &Ctx, wanted: ReinitRequest) -> Option<Decision> {
    let source = source(ctx, wanted)?;
    let step = PostgresStep::Reinitialize { from: source.clone(), why: Reinit::Requested };
    Some(ctx.step(step, Reason::Reinitializing { source }))
}

/// A clone of the leader in place of our data. `None`: they may not be replaced, or there is no source.
pub fn reclone(ctx: &Ctx, why: Reinit, may_remove: Switch) -> Option<Decision> {
    let source = source(ctx, ReinitRequest::FromLeader).filter(|_| may_remove.is_on())?;
    let reason = match why {
        Reinit::Requested => Reason::Reinitializing { source: source.clone() },
        Reinit::Diverged => Reason::Recloning { source: source.clone() },
        Reinit::WalGone => Reason::RecloningWalGone { source: source.clone() },
        Reinit::Unrecovered => Reason::RecloningUnrecovered { source: source.clone() },
    };
    Some(ctx.step(PostgresStep::Reinitialize { from: source, why }, reason))
}
