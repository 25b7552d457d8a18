//! PostgreSQL runs as a standby and another member holds the lock.

use std::time::Duration;

use super::context::Ctx;
use super::decision::{Decision, PostgresStep, Question};
use super::lease::Hold;
use super::local::{HistoryOf, LastRole, Reinit, Replay, StandbyFacts, StartAs, StopMode, StopWhy, Upstream};
use super::observation::Divergence;
use super::policy::{ClusterKind, UNHURRIED};
use super::reason::Reason;
use super::sync;
use super::units::Instant;
use super::view::{Member, MemberRole, ReplicationState};
use super::{bootstrap, follows};

/// How old a comparison with the leader's history may be to be acted upon.
const DIVERGENCE_AGE: Duration = Duration::from_secs(5);
/// How long a standby may take to accept connections before it is made.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// How often the comparison is made while it brings no remedy.
const RECHECK: Duration = Duration::from_secs(2);

/// Whether the leader, by its record, is what the others are to follow: it has their slots then.
fn is_ready(leader: &Member) -> bool {
    // One with `nostream` that leads a standby cluster follows nobody that would show.
    let is_silent = leader.tags.nostream && leader.role == MemberRole::Replica;
    matches!(leader.role, MemberRole::Primary | MemberRole::StandbyLeader) || is_silent
}

/// Whose history our WAL is to fit. In a standby cluster it is that of the server elsewhere; an archive cannot be asked.
pub fn history(ctx: &Ctx, leader: &Member) -> Option<HistoryOf> {
    match &ctx.policy.cluster {
        ClusterKind::Primary => Some(HistoryOf::Member(leader.name.clone())),
        ClusterKind::Standby(source) => source.history(),
    }
}

pub fn decide(ctx: &Ctx, facts: &StandbyFacts) -> Decision {
    let Some(leader) = &ctx.view.leader else { return ctx.idle(Reason::NoClusterId) };
    if leader.name == ctx.policy.name {
        return ctx.idle(Reason::OwnNameHeldElsewhere);
    }
    let Some(record) = follows::leader(ctx) else {
        return ctx.idle(Reason::LeaderWithoutAddress { leader: leader.name.clone() });
    };
    let wanted = follows::upstream(ctx);
    if facts.replay == Replay::Paused {
        return ctx.step(PostgresStep::ResumeReplay, Reason::ResumingReplay);
    }
    let history = history(ctx, record);
    // The comparison comes first where WAL may have diverged: an orderly stop is cheaper before the new settings.
    if let Some(stop) = history.as_ref().and_then(|history| stop_diverged(ctx, history)) {
        return stop;
    }
    if facts.upstream != wanted && follows::is_of(&wanted, record) && !is_ready(record) {
        // Its slot for us comes with its promotion; without one the WAL receiver would fail and rest for seconds.
        return ctx.again_after(RECHECK, Reason::LeaderNotReady { leader: leader.name.clone() });
    }
    if facts.upstream != wanted
        && let Some(wait) = ctx.backing_off()
    {
        return wait;
    }
    if facts.upstream != wanted {
        let reason = match &wanted {
            Upstream::None => Reason::StreamsFromNobody,
            Upstream::Member { name, .. } if *name != record.name => Reason::NewParent { member: name.clone() },
            Upstream::Member { .. } | Upstream::Remote(_) | Upstream::Archive | Upstream::Foreign => {
                Reason::NewUpstream { leader: leader.name.clone() }
            }
        };
        return ctx.step(PostgresStep::Follow(wanted), reason);
    }
    let (name, leader) = (ctx.policy.name.clone(), leader.name.clone());
    let following = match &ctx.policy.cluster {
        ClusterKind::Primary => Reason::Following { name, leader },
        ClusterKind::Standby(_) => Reason::FollowingStandbyLeader { name, leader },
    };
    let is_streaming = facts.replication == Some(ReplicationState::Streaming);
    if let Some(restart) = take_slots_in(ctx, &wanted).filter(|_| is_streaming) {
        return restart;
    }
    let Some(history) = history.filter(|_| is_ready(record)) else { return ctx.idle(following) };
    if is_streaming {
        return ctx.idle(following);
    }
    // Nothing shows a member that does not stream that its history is not the leader's, so it asks once.
    let compared = report_since(ctx, &history, Instant::default());
    if wanted == Upstream::None && matches!(compared, Some(Divergence::None | Divergence::WalGone)) {
        return ctx.idle(following);
    }
    // It should stream and does not: our WAL may hold what the leader's history does not.
    compare(ctx, &history, following)
}

/// PostgreSQL reads its slots from disk at its start alone. Not while a change of the leader is asked for: it may need us.
fn take_slots_in(ctx: &Ctx, upstream: &Upstream) -> Option<Decision> {
    let copies = &ctx.seen.memory.slot_copies;
    if copies.is_empty() || ctx.view.switchover.is_some() {
        return None;
    }
    let names: Vec<String> = copies.iter().map(|name| format!("'{name}'")).collect();
    let reason = Reason::CopyingSlots { names: format!("[{}]", names.join(", ")) };
    let restart = PostgresStep::Restart(StartAs::Standby(upstream.clone()));
    Some(sync::ask_for_release(ctx).unwrap_or_else(|| ctx.step(restart, reason)))
}

/// A standby behind another leader that lets nobody in: it may wait for WAL of a history that is not the leader's.
pub fn starting(ctx: &Ctx, role: LastRole, since: Instant) -> Option<Decision> {
    let record = follows::leader(ctx)?;
    let takes_long = since + STARTS_WITHIN <= ctx.now();
    if role != LastRole::Standby || !is_ready(record) || !takes_long {
        return None;
    }
    let history = history(ctx, record)?;
    Some(stop_diverged(ctx, &history).unwrap_or_else(|| compare(ctx, &history, Reason::Starting)))
}

pub fn stop_diverged(ctx: &Ctx, history: &HistoryOf) -> Option<Decision> {
    let has_diverged = report(ctx, history) == Some(Divergence::Diverged);
    let stop = PostgresStep::Stop { mode: StopMode::Fast, why: StopWhy::Rejoin, limit: UNHURRIED };
    has_diverged.then(|| ctx.step(stop, Reason::StoppingToRejoin { leader: history.clone() }))
}

/// It does not get on: find out why. Nothing else helps where the WAL that it waits for is gone but a clone.
pub fn compare(ctx: &Ctx, history: &HistoryOf, reason: Reason) -> Decision {
    let ask = Some(Question::Divergence { leader: history.clone() });
    let is_gone = report_since(ctx, history, Instant::default()) == Some(Divergence::WalGone);
    let may_replace = ctx.policy.remove_diverged_data.is_on() && ctx.hold() == Hold::NotOurs;
    let reason = match is_gone && !may_replace {
        true => Reason::WalGoneNoRemedy { leader: history.clone() },
        false => reason,
    };
    let decision = ctx.again_after(RECHECK, reason);
    match report(ctx, history) {
        None | Some(Divergence::Undecided) => Decision { ask, ..decision },
        Some(Divergence::WalGone) if may_replace && ctx.backing_off().is_none() => {
            bootstrap::reclone(ctx, Reinit::WalGone, ctx.policy.remove_diverged_data).unwrap_or(decision)
        }
        Some(Divergence::None | Divergence::Diverged | Divergence::WalGone) => decision,
    }
}

/// The last comparison with this history, if it is recent.
fn report(ctx: &Ctx, history: &HistoryOf) -> Option<Divergence> {
    report_since(ctx, history, ctx.now() - DIVERGENCE_AGE)
}

/// The last comparison with this history that was made after `since` and after the last repair.
pub fn report_since(ctx: &Ctx, history: &HistoryOf, since: Instant) -> Option<Divergence> {
    let report = ctx.seen.divergence.as_ref().filter(|report| report.leader == *history)?;
    let repaired = ctx.seen.memory.cleared_for.as_ref().map_or(since, |cleared| cleared.at);
    (report.asked_at >= since.max(repaired)).then_some(report.divergence)
}
