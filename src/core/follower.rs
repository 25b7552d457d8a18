//! PostgreSQL runs as a standby and another member holds the lock.

use std::time::Duration;

use super::bootstrap;
use super::context::Ctx;
use super::decision::{Decision, PostgresStep, Question};
use super::local::{LastRole, Reinit, Replay, StandbyFacts, StopMode, StopWhy, Upstream};
use super::observation::Divergence;
use super::policy::UNHURRIED;
use super::reason::Reason;
use super::units::Instant;
use super::view::{Member, MemberRole, ReplicationState};

/// How old a comparison with the leader's history may be to be acted upon.
const DIVERGENCE_AGE: Duration = Duration::from_secs(5);
/// How long a standby may take to accept connections before it is made.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// How often the comparison is made while it brings no remedy.
const RECHECK: Duration = Duration::from_secs(2);

/// The leader that we are to follow, unless that is us or has no address.
pub fn leader<'a>(ctx: &Ctx<'a>) -> Option<&'a Member> {
    ctx.view.other_leader().filter(|leader| leader.name != ctx.policy.name && leader.address.is_some())
}

/// Where we are to stream from. A member with the tag `nostream` streams from nobody: it has its WAL from the archive.
pub fn upstream(ctx: &Ctx) -> Upstream {
    let leader = leader(ctx).filter(|_| !ctx.policy.tags.nostream);
    match leader.and_then(|leader| Some((&leader.name, leader.address.as_ref()?))) {
        Some((name, address)) => Upstream::Member { name: name.clone(), address: address.clone() },
        None => Upstream::None,
    }
}

pub fn decide(ctx: &Ctx, facts: &StandbyFacts) -> Decision {
    let Some(leader) = &ctx.view.leader else { return ctx.idle(Reason::NoClusterId) };
    if leader.name == ctx.policy.name {
        return ctx.idle(Reason::OwnNameHeldElsewhere);
    }
    let Some(record) = self::leader(ctx) else {
        return ctx.idle(Reason::LeaderWithoutAddress { leader: leader.name.clone() });
    };
    let wanted = upstream(ctx);
    if facts.replay == Replay::Paused {
        return ctx.step(PostgresStep::ResumeReplay, Reason::ResumingReplay);
    }
    // The comparison comes first where WAL may have diverged: an orderly stop is cheaper before the new settings.
    if let Some(stop) = stop_diverged(ctx, record) {
        return stop;
    }
    if facts.upstream != wanted && wanted != Upstream::None && record.role != MemberRole::Primary {
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
            Upstream::Member { .. } | Upstream::Foreign => Reason::NewUpstream { leader: leader.name.clone() },
        };
        return ctx.step(PostgresStep::Follow(wanted), reason);
    }
    let following = Reason::Following { name: ctx.policy.name.clone(), leader: leader.name.clone() };
    if facts.replication == Some(ReplicationState::Streaming) || record.role != MemberRole::Primary {
        return ctx.idle(following);
    }
    // Nothing shows a member that does not stream that its history is not the leader's, so it asks once.
    let compared = report_since(ctx, record, Instant::default());
    if wanted == Upstream::None && matches!(compared, Some(Divergence::None | Divergence::WalGone)) {
        return ctx.idle(following);
    }
    // It should stream and does not: our WAL may hold what the leader's history does not.
    compare(ctx, record, following)
}

/// A standby behind another leader that lets nobody in: it may wait for WAL of a history that is not the leader's.
pub fn starting(ctx: &Ctx, role: LastRole, since: Instant) -> Option<Decision> {
    let record = leader(ctx)?;
    let takes_long = since + STARTS_WITHIN <= ctx.now();
    if role != LastRole::Standby || record.role != MemberRole::Primary || !takes_long {
        return None;
    }
    Some(stop_diverged(ctx, record).unwrap_or_else(|| compare(ctx, record, Reason::Starting)))
}

fn stop_diverged(ctx: &Ctx, leader: &Member) -> Option<Decision> {
    let has_diverged = report(ctx, leader) == Some(Divergence::Diverged);
    let stop = PostgresStep::Stop { mode: StopMode::Fast, why: StopWhy::Rejoin, limit: UNHURRIED };
    has_diverged.then(|| ctx.step(stop, Reason::StoppingToRejoin { leader: leader.name.clone() }))
}

/// It does not get on: find out why. Nothing else helps where the WAL that it waits for is gone but a clone.
fn compare(ctx: &Ctx, leader: &Member, reason: Reason) -> Decision {
    let ask = Some(Question::Divergence { leader: leader.name.clone() });
    let never_again = report_since(ctx, leader, Instant::default()) == Some(Divergence::WalGone);
    let reason = match never_again && !ctx.policy.remove_diverged_data.is_on() {
        true => Reason::WalGoneNoRemedy { leader: leader.name.clone() },
        false => reason,
    };
    let decision = ctx.again_after(RECHECK, reason);
    match report(ctx, leader) {
        None | Some(Divergence::Undecided) => Decision { ask, ..decision },
        Some(Divergence::WalGone) if ctx.backing_off().is_none() => {
            bootstrap::reclone(ctx, Reinit::WalGone, ctx.policy.remove_diverged_data).unwrap_or(decision)
        }
        Some(Divergence::None | Divergence::Diverged | Divergence::WalGone) => decision,
    }
}

/// The last comparison with this leader, if it is recent.
fn report(ctx: &Ctx, leader: &Member) -> Option<Divergence> {
    report_since(ctx, leader, ctx.now() - DIVERGENCE_AGE)
}

/// The last comparison with this leader that was made after `since` and after the last repair.
pub fn report_since(ctx: &Ctx, leader: &Member, since: Instant) -> Option<Divergence> {
    let report = ctx.seen.divergence.as_ref().filter(|report| report.leader == leader.name)?;
    let repaired = ctx.seen.memory.cleared_for.as_ref().map_or(since, |cleared| cleared.at);
    (report.asked_at >= since.max(repaired)).then_some(report.divergence)
}
