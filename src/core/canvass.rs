//! Asking the other members: whom, who has answered, who of them could take over, who of them is better than we, and what
//! lies within the lag that is allowed. Elections, hand-overs and a leader that gives way all ask here.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use super::branch::{self, Standing};
use super::context::Ctx;
use super::decision::{Decision, LeaseStep, Question, Wake};
use super::electors;
use super::local::StandbyFacts;
use super::observation::{
    LeaderRecord, Memory, Observation, PeerAnswer, PeerReport, PeerRole, PeerStatus, PeerWatchdog,
};
use super::reason::Reason;
use super::units::{Instant, Lsn, MemberName};
use super::view::{ClusterStatus, ClusterView, Member, MemberKind, MemberRole, MemberState};

/// How long a member that is alive by its lease may take to answer.
pub const PEER_LIMIT: Duration = Duration::from_secs(2);
/// The same for one whose record or whose lock has expired: it is asked in case it lives, but not waited for long.
const EXPIRED_PEER_LIMIT: Duration = Duration::from_millis(300);
/// For how long an answer counts. More than a question takes, so that a peer that does not answer at all is not asked for
/// ever.
const ANSWER_AGE: Duration = Duration::from_secs(4);
/// A question takes no longer, with what the loop adds.
const ROUND: Duration = Duration::from_millis(2_500);

/// Some members, and from when on their answers count: an old position is never a vote.
pub struct Canvass<'a> {
    ctx: Ctx<'a>,
    asked: BTreeMap<MemberName, Duration>,
    since: Instant,
}

impl<'a> Canvass<'a> {
    /// All that might take over or know better: the members of the view, and those that were there when a leader was last
    /// seen, since their records may expire together with the leader's.
    pub fn of_all(ctx: &Ctx<'a>) -> Self {
        // A person may name any member.
        let wanted = ctx.view.switchover.as_ref().filter(|request| request.leader.is_none());
        let wanted = wanted.and_then(|request| request.candidate.as_ref());
        let counts = |name: &MemberName| electors::is_elector(ctx, name) || wanted == Some(name);
        let may_answer = |member: &&Member| {
            let able = member.api_url.is_some() && !member.tags.is_nofailover();
            member.name != ctx.policy.name && able && counts(&member.name)
        };
        let expired = ctx.seen.memory.last_members.values().filter(|member| !ctx.view.is_alive(&member.name));
        let expired = expired.filter(may_answer).map(|member| (member.name.clone(), EXPIRED_PEER_LIMIT));
        let limit = |name: &MemberName| if ran_out(ctx, name) { EXPIRED_PEER_LIMIT } else { PEER_LIMIT };
        let alive = ctx.view.alive().filter(may_answer);
        let alive = alive.map(|member| (member.name.clone(), limit(&member.name)));
        Canvass { ctx: *ctx, asked: expired.chain(alive).collect(), since: ctx.now() - ANSWER_AGE }
    }

    /// Those of the view that may take over from a leader: the one that is named, or all.
    pub fn of_candidates(ctx: &Ctx<'a>, named: Option<&MemberName>) -> Self {
        let mut canvass = Canvass::of_all(ctx);
        let may = |name: &MemberName| ctx.view.is_alive(name) && named.is_none_or(|named| named == name);
        canvass.asked.retain(|name, _| may(name));
        canvass
    }

    /// Only answers to questions from this moment on count.
    pub fn since(mut self, since: Instant) -> Self {
        self.since = self.since.max(since);
        self
    }

    pub fn without(mut self, name: &MemberName) -> Self {
        self.asked.remove(name);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    pub fn names(&self) -> impl Iterator<Item = &MemberName> {
        self.asked.keys()
    }

    /// What this member was last heard to say; `None` while that is awaited.
    pub fn answer(&self, peer: &MemberName) -> Option<&'a PeerAnswer> {
        let report = self.ctx.seen.peers.get(peer).filter(|report: &&PeerReport| report.asked_at >= self.since)?;
        Some(&report.answer)
    }

    /// Who is to be asked now; `None`: all have answered. An answer that would be too old when the missing ones have
    /// come is asked for again with them, or they would take turns for ever.
    pub fn missing(&self) -> Option<BTreeMap<MemberName, Duration>> {
        if self.asked.keys().all(|peer| self.answer(peer).is_some()) {
            return None;
        }
        let fresh = self.ctx.now() + ROUND - ANSWER_AGE;
        let is_fresh = |peer: &MemberName| {
            let report = self.ctx.seen.peers.get(peer);
            report.is_some_and(|report| report.asked_at >= self.since.max(fresh))
        };
        let missing = self.asked.iter().filter(|(peer, _)| !is_fresh(peer));
        Some(missing.map(|(peer, limit)| (peer.clone(), *limit)).collect())
    }

    /// Those that have answered and could take over.
    pub fn candidates(&self) -> impl Iterator<Item = &'a PeerStatus> {
        let Ctx { seen, view, .. } = self.ctx;
        self.asked.keys().filter_map(|peer| heir(seen, view, self.answer(peer)?))
    }

    pub fn has_candidate(&self, fits: impl Fn(Lsn) -> bool) -> bool {
        self.candidates().any(|status| fits(status.position))
    }

    /// Why one of them should take the lock rather than we, if one should. All have answered.
    pub fn better_than(&self, facts: &StandbyFacts) -> Option<Reason> {
        self.asked.keys().find_map(|peer| {
            let status = eligible(self.answer(peer)?)?;
            let better = better(&self.ctx, peer, status, facts)?;
            // What a former leader alone has, no client was told of.
            let is_unconfirmed = status.role == PeerRole::Standby && electors::is_former_leader(&self.ctx, peer);
            if is_unconfirmed {
                return None;
            }
            (!is_given_up(&self.ctx, peer, status, facts)).then_some(better)
        })
    }
}

impl Canvass<'_> {
    /// Those that have answered, could take over, and are not ahead of us.
    pub fn not_ahead(&self, facts: &StandbyFacts) -> impl Iterator<Item = &MemberName> {
        self.asked.keys().filter(|peer| {
            let status = self.answer(peer).and_then(eligible);
            status.is_some_and(|status| !is_ahead(&self.ctx, status, facts))
        })
    }
}

/// The decision that asks these, and goes on when they have answered (which wakes the loop) or could have.
pub fn ask(ctx: &Ctx, peers: BTreeMap<MemberName, Duration>, reason: Reason) -> Decision {
    let decision = ctx.again_after(PEER_LIMIT + Duration::from_millis(100), reason);
    Decision { ask: Some(Question::Peers(peers)), ..decision }
}

/// The decision that takes the lock.
pub fn acquire(ctx: &Ctx) -> Decision {
    let lease = LeaseStep::Acquire { seen: ctx.view.lock_and_status_seen() };
    Decision { lease, ..Decision::idle(Reason::Acquiring, Wake::Now) }
}

/// Whether no more is lost than the cluster allows if this position takes over and `last` was the last one.
pub fn within_lag(ctx: &Ctx, position: Lsn, last: Lsn) -> bool {
    position.behind(last) <= ctx.policy.maximum_lag_on_failover
}

/// What a member answered that could take over. One on an older timeline or on another branch could not: whatever its
/// position, it lacks what was written since.
pub fn heir<'a>(seen: &Observation, view: &ClusterView, answer: &'a PeerAnswer) -> Option<&'a PeerStatus> {
    let status = eligible(answer)?;
    // The newest timeline that is known to be the cluster's: by its history, or because we are on it.
    let timeline = branch::own_timeline(seen).max(view.history.timeline());
    let behind = status.timeline.is_some_and(|theirs| Some(theirs) < timeline);
    let is_other = branch::has_left(seen, view, status) || branch::is_abandoned(seen, view, status);
    (status.role == PeerRole::Standby && !behind && !is_other).then_some(status)
}

/// A peer that answered and may become leader.
fn eligible(answer: &PeerAnswer) -> Option<&PeerStatus> {
    match answer {
        PeerAnswer::Status(status) if !status.tags.is_nofailover() && status.watchdog == PeerWatchdog::Fine => {
            Some(status)
        }
        PeerAnswer::Status(_) | PeerAnswer::Unreachable => None,
    }
}

/// Whether this standby is on an older timeline than the cluster.
pub fn timeline_behind(ctx: &Ctx, facts: &StandbyFacts) -> Option<Reason> {
    let (own, cluster) = (facts.timeline?, ctx.view.history.timeline()?);
    (own < cluster).then_some(Reason::TimelineBehind { own, cluster })
}

/// Whether this standby is on a timeline that is none of the cluster's, although its number is no older. One that `history`
/// tells apart takes no part, like one on an older timeline. One that is known to be abandoned by us alone leaves the lock
/// to the others; if none of them has taken it after a while, none is left that could.
pub fn other_branch(ctx: &Ctx, facts: &StandbyFacts) -> Option<Reason> {
    let is_other = branch::is_other(ctx.seen, ctx.view, facts);
    let other = ctx.view.history.timeline().filter(|_| is_other);
    let abandoned = || branch::abandoned_for(ctx.seen, ctx.view, facts).filter(|_| !is_left_alone(ctx));
    other.or_else(abandoned).map(|timeline| Reason::OtherBranch { timeline })
}

/// After a clean release the position is known at which nothing is lost: a candidate behind it waits up to ttl for a
/// better one.
pub fn behind_released(ctx: &Ctx, facts: &StandbyFacts) -> Option<Reason> {
    ctx.view.status.released_by.as_ref()?;
    let released = ctx.view.status.optime?;
    let own = facts.position();
    if is_unlocked_for_ttl(ctx) {
        return None;
    }
    let lacks_it = (own < released).then_some(Reason::BehindReleased { own, released });
    timeline_behind(ctx, facts).or_else(|| other_branch(ctx, facts)).or(lacks_it)
}

/// Whether a leader may be writable although there is no leader key.
pub fn leader_may_live(ctx: &Ctx) -> Option<Reason> {
    if is_unlocked_for_ttl(ctx) && unseen_primary(ctx.view, &ctx.seen.memory).is_none() {
        return None;
    }
    match lease_alive(ctx) {
        Some(leader) => Some(Reason::LeaderLeaseAlive { leader }),
        None => store_knows_no_leader(ctx).then_some(Reason::StoreKnowsNoLeader),
    }
}

/// A member that says that it is a primary, or becomes one, which it was not when a leader was last seen: it has led
/// between two of our readings.
pub fn unseen_primary<'a>(view: &'a ClusterView, memory: &Memory) -> Option<&'a Member> {
    view.alive().find(|member| {
        let known = memory.last_leader.as_ref() == Some(&member.name)
            || memory.last_members.get(&member.name).is_some_and(is_known_primary)
            || view.status.gave_up(&member.name);
        is_known_primary(member) && !known
    })
}

fn is_known_primary(member: &Member) -> bool {
    member.kind == MemberKind::Ours
        && matches!(member.role, MemberRole::Primary | MemberRole::Promoted)
        && is_up(member)
}

fn is_up(member: &Member) -> bool {
    use MemberState::{Restarting, Running, Starting, Stopping};
    // Clients write until the checkpoint before a stop is made.
    matches!(member.state, Running | Restarting | Starting | Stopping)
}

/// Whether it is known to be the one whose lock ran out, where its record does not go with it.
fn ran_out(ctx: &Ctx, name: &MemberName) -> bool {
    ctx.view.lock_ran_out && ctx.seen.memory.last_leader.as_ref() == Some(name)
}

/// The leader key went but the record on the same lease is still there: it was removed by hand, not given up and not
/// expired. Its holder may still be writable and will take it again, whatever its record says: one that was about to be promoted
/// has not said so yet, and what it wrote before it took the lock may arrive late.
fn lease_alive(ctx: &Ctx) -> Option<MemberName> {
    let memory = &ctx.seen.memory;
    let others = |member: &&Member| member.name != ctx.policy.name;
    if let Some(unseen) = unseen_primary(ctx.view, memory).filter(others) {
        return Some(unseen.name.clone());
    }
    // Whoever held the lock last: a late call may have taken it for a member that gave it back.
    let says_so = |member: &&Member| {
        is_known_primary(member) && !ctx.view.status.gave_up(&member.name) && !ran_out(ctx, &member.name)
    };
    if !is_unlocked_for_ttl(ctx)
        && let Some(primary) = ctx.view.alive().filter(others).find(says_so)
    {
        return Some(primary.name.clone());
    }
    let last = memory.last_leader.as_ref()?;
    let gave_up = ctx.view.status.gave_up(last) && memory.is_last_word(&ctx.view.status);
    if gave_up || ran_out(ctx, last) || *last == ctx.policy.name {
        return None;
    }
    let record = ctx.view.alive().find(|member| member.name == *last)?;
    let may_serve = record.kind == MemberKind::Ours && memory.leader_record == LeaderRecord::There;
    (may_serve && !is_unlocked_for_ttl(ctx)).then(|| last.clone())
}

/// A store that was wiped knows no position of a leader, nor does one under whose first leader it happened. An agent that
/// was there when it happened waits for ttl (`amnesia`); one that began since then knows of it by this alone.
fn store_knows_no_leader(ctx: &Ctx) -> bool {
    ctx.view.status == ClusterStatus::default() && ctx.seen.memory.last_leader.is_none()
}

/// When the lock became free, as far as we have seen it.
pub fn freed(ctx: &Ctx) -> Instant {
    let status = ctx.seen.cluster.as_ref().ok().map(|view| &view.status);
    let since =
        ctx.seen.memory.unlocked_since.filter(|_| status.is_none_or(|status| is_as_freed(&ctx.seen.memory, status)));
    since.unwrap_or(ctx.now())
}

/// Whether nobody has led since the lock was seen to be free.
pub fn is_as_freed(memory: &Memory, status: &ClusterStatus) -> bool {
    memory.unlocked_status.as_ref().is_none_or(|then| then == status)
}

/// Whether the lock has been free for so long that every lease of then has ended.
pub fn is_unlocked_for_ttl(ctx: &Ctx) -> bool {
    freed(ctx) + ctx.timing().ttl <= ctx.now()
}

/// Whether none of those on the cluster's timeline has taken the lock, although they wait for each other for ttl at most.
fn is_left_alone(ctx: &Ctx) -> bool {
    freed(ctx) + ctx.timing().ttl * 2 <= ctx.now()
}

/// A standby whose record has expired cannot take the lock, however alive it is: after ttl it is waited for no longer,
/// unless more than the cluster may lose is there alone (ADR 8). Nor is one that will not take it since it lags too far
/// behind what was published, as on a branch that the cluster has left: we do not.
fn is_given_up(ctx: &Ctx, peer: &MemberName, status: &PeerStatus, facts: &StandbyFacts) -> bool {
    let newer = compare_branches(ctx, status, facts) == Ordering::Greater;
    let cannot = !newer && !ctx.view.is_alive(peer) && within_lag(ctx, facts.position(), status.position);
    let may_not = ctx.view.status.optime.is_some_and(|last| !within_lag(ctx, status.position, last));
    status.role == PeerRole::Standby && is_unlocked_for_ttl(ctx) && (cannot || may_not)
}

/// Positions compare within a timeline only; a newer timeline is ahead of an older one whatever its position, and that of
/// the cluster is ahead of one that only has its number, and of one that the cluster has abandoned.
fn compare_branches(ctx: &Ctx, status: &PeerStatus, facts: &StandbyFacts) -> Ordering {
    let own = branch::own(ctx.seen, facts.timeline);
    // What each knows of it differs: in the end all compare alike, or they would wait for each other. Until then one
    // that is on such a timeline itself asks nobody (`other_branch`).
    if !is_left_alone(ctx) && branch::is_abandoned(ctx.seen, ctx.view, status) {
        return Ordering::Less;
    }
    match (status.timeline, facts.timeline) {
        (Some(theirs), Some(own)) if theirs == own => {}
        (Some(theirs), Some(own)) => return theirs.cmp(&own),
        (_, _) => return Ordering::Equal,
    }
    let theirs = branch::standing(ctx.view, status.branch());
    match (theirs, branch::standing(ctx.view, own)) {
        (Standing::OfTheCluster, Standing::Other) => Ordering::Greater,
        (Standing::Other, Standing::OfTheCluster) => Ordering::Less,
        (Standing::OfTheCluster | Standing::Other | Standing::Unknown, _) => Ordering::Equal,
    }
}

fn compare(ctx: &Ctx, status: &PeerStatus, facts: &StandbyFacts) -> Ordering {
    compare_branches(ctx, status, facts).then(status.position.cmp(&facts.position()))
}

fn is_ahead(ctx: &Ctx, status: &PeerStatus, facts: &StandbyFacts) -> bool {
    compare(ctx, status, facts) == Ordering::Greater
}

fn better(ctx: &Ctx, peer: &MemberName, status: &PeerStatus, facts: &StandbyFacts) -> Option<Reason> {
    if status.role == PeerRole::Primary {
        return Some(Reason::PrimaryAlive { peer: peer.clone() });
    }
    let (theirs, own) = (status.tags.failover_priority, ctx.policy.tags.failover_priority);
    match compare(ctx, status, facts) {
        Ordering::Greater => Some(Reason::PeerAhead { peer: peer.clone() }),
        Ordering::Equal if theirs > own => Some(Reason::PeerPreferred { peer: peer.clone(), theirs, own }),
        Ordering::Equal | Ordering::Less => None,
    }
}
