//! A planned change of the leader: a switchover, a manual failover, the hand-over before a shutdown.
//!
//! The leader checks that somebody can take over, stops, sees that a member has received its last WAL, and only then
//! gives the lock up, with that position. If nobody has it, the leader starts again: nothing acknowledged is lost.

use std::time::Duration;

use super::branch;
use super::canvass::{
    self, Canvass, PEER_LIMIT, behind_released, is_unlocked_for_ttl, leader_may_live, other_branch, timeline_behind,
    within_lag,
};
use super::context::Ctx;
use super::decision::{Decision, DocumentStep, LeaseStep, PostgresStep, Wake};
use super::follows;
use super::lease::Hold;
use super::local::{PrimaryFacts, StandbyFacts, StartAs, StopMode, StopWhy};
use super::observation::{Handover, HandoverPurpose, HandoverStage, PeerAnswer};
use super::policy::{ClusterKind, Pause};
use super::reason::Reason;
use super::sync;
use super::units::{Instant, Lsn, MemberName};
use super::view::{MemberKind, MemberState, Schedule, SwitchoverRequest};
use super::watchdog;

/// How long a candidate may receive nothing of the last WAL of a leader that has shut down.
const CONFIRM: Duration = Duration::from_secs(3);
/// The release and the exit take no longer.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often it is asked.
const CONFIRM_EVERY: Duration = Duration::from_millis(30);
/// How long a former leader waits, stopped, for another to take the lock before it starts again.
pub const LEFT_TO_OTHERS: Duration = Duration::from_secs(3);

/// On the holder of the lock: what a request wants of it now. `None`: nothing.
pub fn on_leader(ctx: &Ctx, facts: &PrimaryFacts) -> Option<Decision> {
    let stop =
        PostgresStep::Stop { mode: StopMode::CheckpointThenFast, why: StopWhy::Handover, limit: ctx.policy.stop_limit };
    match request_now(ctx, facts.flushed)? {
        Asked::Decided(decision) => Some(*decision),
        Asked::HandOver => Some(ctx.step(stop, Reason::HandingOver)),
    }
}

/// The same in a standby cluster. Nobody writes, and its leader goes on as a standby: it gives the lock up with its position.
pub fn on_standby_leader(ctx: &Ctx, facts: &StandbyFacts) -> Option<Decision> {
    let lease = LeaseStep::Release { last_position: Some(facts.position()) };
    match request_now(ctx, facts.position())? {
        Asked::Decided(decision) => Some(*decision),
        Asked::HandOver => Some(Decision { lease, ..Decision::idle(Reason::HandingOver, Wake::Now) }),
    }
}

/// What a request comes to on the leader.
enum Asked {
    Decided(Box<Decision>),
    /// It is due, and somebody can take over.
    HandOver,
}

fn request_now(ctx: &Ctx, position: Lsn) -> Option<Asked> {
    let request = ctx.view.switchover.as_ref()?;
    let clear = |reason| {
        let documents = vec![DocumentStep::ClearSwitchover { seen: request.revision }];
        Some(Asked::Decided(Box::new(Decision { documents, ..ctx.idle(reason) })))
    };
    match &request.scheduled_at {
        Schedule::Now if ctx.policy.pause == Pause::Paused && request.candidate.is_none() => {
            return clear(Reason::PausedNeedsCandidate);
        }
        Schedule::Now => {}
        Schedule::Invalid(given) => return clear(Reason::RequestInvalid { given: given.clone() }),
        Schedule::At(_) if ctx.policy.pause == Pause::Paused => return None,
        Schedule::At(at) => {
            let late = ctx.seen.wall.0 - at.0;
            if late < 0 {
                return None;
            }
            if u128::from(late.unsigned_abs()) > (ctx.timing().loop_wait * 3 / 2).as_millis() {
                return clear(Reason::RequestStale);
            }
        }
    }
    let me = &ctx.policy.name;
    let from_me = request.leader.as_ref() == Some(me);
    if !from_me && request.candidate.as_ref().is_none_or(|candidate| candidate == me) {
        return clear(Reason::RequestFulfilled);
    }
    if request.leader.as_ref().is_some_and(|leader| leader != me) || request.candidate.as_ref() == Some(me) {
        return clear(Reason::RequestMismatch);
    }
    // What members said before, in an election for instance, was of another leader: they are asked for this request.
    let known = ctx.seen.memory.request.filter(|(revision, _)| *revision == request.revision);
    let since = known.map_or(ctx.now(), |(_, since)| since);
    let candidates = Canvass::of_candidates(ctx, request.candidate.as_ref()).since(since);
    if let Some(missing) = candidates.missing() {
        return Some(Asked::Decided(Box::new(canvass::ask(ctx, missing, Reason::CheckingCandidates))));
    }
    if !candidates.has_candidate(|theirs| within_lag(ctx, theirs, position)) {
        return clear(Reason::NoHealthyCandidate);
    }
    Some(Asked::HandOver)
}

/// A scheduled request wakes the leader when it is due.
pub fn not_after_due(ctx: &Ctx, wake: Wake) -> Wake {
    let Some(SwitchoverRequest { scheduled_at: Schedule::At(due), .. }) = &ctx.view.switchover else { return wake };
    let left = Duration::from_millis(u64::try_from(due.0 - ctx.seen.wall.0).unwrap_or(0));
    match wake {
        Wake::At(at) => Wake::At(at.min(ctx.now() + left)),
        Wake::Now => Wake::Now,
    }
}

/// PostgreSQL has been stopped for a hand-over. `None`: that is over, and the ordinary rules hold.
pub fn after_stop(ctx: &Ctx, handover: &Handover) -> Option<Decision> {
    match (handover.stage, ctx.hold()) {
        (HandoverStage::Stopping, _) => None,
        (HandoverStage::Confirming { position, since }, Hold::Held { .. }) => {
            Some(confirm(ctx, handover, position, since))
        }
        (HandoverStage::Confirming { .. }, Hold::Unconfirmed) => Some(ctx.idle(Reason::ConfirmingLock)),
        (HandoverStage::Confirming { .. }, Hold::NotOurs) => None,
        (HandoverStage::Released { at }, _) => {
            let patient = at + LEFT_TO_OTHERS > ctx.now() && ctx.view.leader.is_none();
            patient.then(|| ctx.again_after((at + LEFT_TO_OTHERS).left(ctx.now()), Reason::LeftToOthers))
        }
    }
}

fn confirm(ctx: &Ctx, handover: &Handover, position: Lsn, since: Instant) -> Decision {
    let candidates = Canvass::of_candidates(ctx, handover.candidate.as_ref()).since(since);
    // One that was promoted a moment ago has not written its history yet: without it a member that is behind cannot know.
    let is_known = branch::own_timeline(ctx.seen).is_some_and(|timeline| {
        let own = branch::own(ctx.seen, Some(timeline));
        own.is_none_or(|own| branch::is_in_history(ctx.view, timeline, Some(own)))
    });
    let release = Decision {
        lease: LeaseStep::Release { last_position: Some(position) },
        ..Decision::idle(Reason::Released, Wake::Now)
    };
    if is_known && candidates.has_candidate(|theirs| theirs >= position) {
        return release;
    }
    // As long as somebody receives what is still under way, it is waited for.
    let moved = handover.best.map_or(since, |(_, at)| at.max(since));
    let given_up = candidates.is_empty() || moved + CONFIRM <= ctx.now();
    match handover.purpose {
        // All the others are stopping too, or gone: whoever comes back first waits for the one that has everything.
        HandoverPurpose::Shutdown if is_known && nobody_runs(ctx, &candidates) => return release,
        HandoverPurpose::Shutdown if given_up || no_time_left(ctx, handover) => {
            return release_unconfirmed(ctx, handover, position);
        }
        HandoverPurpose::Switchover if given_up => return take_back(ctx),
        HandoverPurpose::Shutdown | HandoverPurpose::Switchover => {}
    }
    // Those that have not been asked since a moment ago: an answer that came too early is asked for anew.
    let again = candidates.since(ctx.now() - CONFIRM_EVERY).missing();
    let reason = Reason::ConfirmingHandover { position };
    let documents = if is_known { Vec::new() } else { vec![DocumentStep::UpdateHistory] };
    let Some(again) = again else { return Decision { documents, ..ctx.again_after(CONFIRM_EVERY, reason) } };
    let decision = canvass::ask(ctx, again, reason.clone());
    let wake = ctx.again_after(PEER_LIMIT.min(CONFIRM_EVERY * 10), reason).wake;
    Decision { documents, wake, ..decision }
}

/// Whether no other member runs that could confirm anything.
fn nobody_runs(ctx: &Ctx, candidates: &Canvass) -> bool {
    let is_gone = |name: &MemberName| {
        let state = ctx.view.members.get(name).map(|member| member.state);
        matches!(state, Some(MemberState::Stopping | MemberState::Stopped))
            || matches!(candidates.answer(name), Some(PeerAnswer::Unreachable))
    };
    candidates.names().all(is_gone)
}

/// Whether whoever asked for the stop is about to kill us.
fn no_time_left(ctx: &Ctx, handover: &Handover) -> bool {
    handover.since + ctx.policy.stop_timeout.saturating_sub(FAREWELL) <= ctx.now()
}

fn release_unconfirmed(ctx: &Ctx, handover: &Handover, position: Lsn) -> Decision {
    let known = handover.best.map(|(best, _)| best).or(ctx.view.status.optime).unwrap_or_default();
    let reason = Reason::ReleasedUnconfirmed { missing: known.behind(position), own: ctx.policy.name.clone() };
    let lease = LeaseStep::ReleaseUnconfirmed { last_position: position };
    Decision { lease, ..Decision::idle(reason, Wake::Now) }
}

/// Nobody has the last WAL: the lock is still ours, so nobody else was a primary meanwhile.
fn take_back(ctx: &Ctx) -> Decision {
    if ctx.policy.cluster != ClusterKind::Primary {
        // It has become a standby cluster since the stop began; the request stands.
        let start = PostgresStep::Start(StartAs::Standby(follows::upstream(ctx)));
        return ctx.step(start, Reason::StartingStandbyLeader);
    }
    if let Some(first) = watchdog::before_primary(ctx).or_else(|| sync::postpone(ctx)) {
        return first;
    }
    let clear = ctx.view.switchover.as_ref().map(|request| DocumentStep::ClearSwitchover { seen: request.revision });
    let documents = clear.into_iter().collect();
    Decision { documents, ..ctx.step(PostgresStep::Start(StartAs::Primary), Reason::HandoverAborted) }
}

/// The request that is to be carried out by now. A leader that handed over had found it due by its own clock.
fn in_force<'a>(ctx: &Ctx<'a>) -> Option<&'a SwitchoverRequest> {
    let request = ctx.view.switchover.as_ref()?;
    let due = match &request.scheduled_at {
        Schedule::Now => true,
        Schedule::At(at) => ctx.seen.wall.0 >= at.0 || handed_over(ctx, request),
        Schedule::Invalid(_) => false,
    };
    due.then_some(request)
}

/// Whether the leader that a switchover relieves stopped in order and then gave the lock up, and nobody is known to have led
/// since. Patroni's leaders do so too but leave no word of it.
fn handed_over(ctx: &Ctx, request: &SwitchoverRequest) -> bool {
    let Some(leader) = &request.leader else { return false };
    let (memory, status) = (&ctx.seen.memory, &ctx.view.status);
    if status.released_by.as_ref() == Some(leader) {
        return memory.is_last_word(status);
    }
    let record = ctx.view.members.get(leader).or_else(|| memory.last_members.get(leader));
    record.is_some_and(|record| record.kind == MemberKind::Patroni)
        && memory.last_leader.as_ref().is_none_or(|last| last == leader)
}

/// Whether a request that is in force names this member as the new leader.
pub fn names_me(ctx: &Ctx) -> bool {
    in_force(ctx).and_then(|request| request.candidate.as_ref()) == Some(&ctx.policy.name)
}

/// Whether this member is to take the lock without comparing itself with the others: its predecessor has seen that
/// somebody has everything, or a person wants it so (a manual failover).
pub fn takes_over(ctx: &Ctx) -> bool {
    names_me(ctx) && in_force(ctx).is_some_and(|request| request.leader.is_none() || handed_over(ctx, request))
}

/// While nobody holds the lock: what a request means for this standby. `None`: the ordinary race.
pub fn before_race(ctx: &Ctx, facts: &StandbyFacts) -> Option<Decision> {
    let request = in_force(ctx)?;
    if names_me(ctx) {
        let may = takes_over(ctx) && (request.leader.is_none() || is_up_to_date(ctx, facts));
        let take = || {
            // A key that was removed by hand says nothing of the leader, which may be writable still.
            let wait = leader_may_live(ctx).or_else(|| behind_released(ctx, facts));
            wait.map_or_else(|| canvass::acquire(ctx), |reason| ctx.again_after(CONFIRM_EVERY * 10, reason))
        };
        return may.then(take);
    }
    if is_unlocked_for_ttl(ctx) {
        return None;
    }
    let Some(candidate) = &request.candidate else {
        // Whoever steps down leaves the race to the others for a while, unless one of them has led since.
        let me = Some(&ctx.policy.name);
        let is_done = ctx.seen.memory.last_leader.is_some() && ctx.seen.memory.last_leader.as_ref() != me;
        let stepped_down = request.leader.as_ref() == me && !is_done && !Canvass::of_all(ctx).is_empty();
        return stepped_down.then(|| ctx.again_after(PEER_LIMIT, Reason::LeftToOthers));
    };
    let asked = Canvass::of_candidates(ctx, Some(candidate)).since(canvass::freed(ctx));
    if let Some(missing) = asked.missing() {
        return Some(canvass::ask(ctx, missing, Reason::CandidateGoesFirst { candidate: candidate.clone() }));
    }
    // One that has to compare itself with the others will not take the lock while it is behind us.
    let goes_first = request.leader.is_none() || handed_over(ctx, request);
    let able = asked.has_candidate(|position| goes_first || position >= facts.position());
    able.then(|| ctx.again_after(PEER_LIMIT, Reason::CandidateGoesFirst { candidate: candidate.clone() }))
}

/// Whether the candidate of a switchover has what its predecessor had. After ttl without the last WAL it is a member like
/// the others, and compares itself with them.
fn is_up_to_date(ctx: &Ctx, facts: &StandbyFacts) -> bool {
    let status = &ctx.view.status;
    let has_all = status.released_by.is_none() || status.optime <= Some(facts.position());
    timeline_behind(ctx, facts).is_none()
        && other_branch(ctx, facts).is_none()
        && (has_all || !is_unlocked_for_ttl(ctx))
}

/// A leader that handed over is not asked whether it is better than a member that has its last position, and one that gave
/// way is not asked at all, unless somebody has led since: it may have followed that one.
pub fn without_former_leader<'a>(ctx: &Ctx<'a>, others: Canvass<'a>, facts: &StandbyFacts) -> Canvass<'a> {
    let last_word = Some(&ctx.view.status).filter(|status| ctx.seen.memory.is_last_word(status));
    let released = last_word.and_then(|status| status.released_by.as_ref());
    let has_all = ctx.view.status.optime <= Some(facts.position())
        && !branch::is_other(ctx.seen, ctx.view, facts)
        // Then somebody has led since that word, and it may have been the same one.
        && !branch::is_newer(ctx.view, facts);
    let released = released.filter(|_| has_all);
    let relieved = in_force(ctx).filter(|request| handed_over(ctx, request));
    let relieved = relieved.and_then(|request| request.leader.as_ref());
    // Nobody may have what it wrote last, although it gave the lock up in order.
    let relieved = relieved.filter(|leader| has_all || ctx.view.status.released_by.as_ref() != Some(leader));
    let gave_way = last_word.and_then(|status| status.gave_way.as_ref());
    released.into_iter().chain(relieved).chain(gave_way).fold(others, Canvass::without)
}
