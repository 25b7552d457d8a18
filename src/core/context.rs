//! What every situation looks at: the policy, the observation and the view in it, and the few questions that all ask.

use std::collections::BTreeMap;
use std::time::Duration;

use super::decision::{Decision, LeaseStep, PostgresStep, Question, Wake};
use super::lease::{self, Hold};
use super::local::{DataDir, Postgres, Running, StopMode, StopWhy};
use super::observation::{Observation, PeerAnswer, PeerReport, PeerRole, PeerStatus};
use super::policy::{Policy, Timing};
use super::reason::{Reason, Seconds};
use super::units::{Instant, MemberName, Timeline};
use super::view::{ClusterView, Member};

/// How long a stop that nothing hurries may take before it escalates.
pub const UNHURRIED: Duration = Duration::from_secs(3600);
/// How long a member that is alive by its lease may take to answer.
pub const PEER_LIMIT: Duration = Duration::from_secs(2);
/// The same for one whose record has expired: it is asked in case it lives, but not waited for long.
pub const EXPIRED_PEER_LIMIT: Duration = Duration::from_millis(300);

#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    pub policy: &'a Policy,
    pub seen: &'a Observation,
    pub view: &'a ClusterView,
}

impl<'a> Ctx<'a> {
    pub fn now(&self) -> Instant {
        self.seen.now
    }

    pub fn timing(&self) -> &'a Timing {
        &self.policy.timing
    }

    pub fn hold(&self) -> Hold {
        Hold::of(self.view, &self.seen.memory, self.seen.now)
    }

    /// Nothing to do but to keep the lock if we have it.
    pub fn idle(&self, reason: Reason) -> Decision {
        let (lease, wake) = lease::heartbeat(self.hold(), self.timing(), self.now());
        Decision { lease, ..Decision::idle(reason, wake) }
    }

    /// As `idle`, with something for PostgreSQL to do.
    pub fn step(&self, postgres: PostgresStep, reason: Reason) -> Decision {
        Decision { postgres, ..self.idle(reason) }
    }

    /// As `idle`, but looked at again after this time.
    pub fn again_after(&self, pause: Duration, reason: Reason) -> Decision {
        let decision = self.idle(reason);
        let Wake::At(at) = decision.wake else { return decision };
        Decision { wake: Wake::At(at.min(self.now() + pause)), ..decision }
    }

    /// Give the lock up, with nothing to say about our WAL: at once if it is a fact that PostgreSQL is stopped, else it is
    /// stopped first.
    pub fn give_up(&self, reason: Reason) -> Decision {
        match self.seen.local.postgres {
            Postgres::Stopped => self.release(reason),
            Postgres::Running(_) | Postgres::Starting { .. } | Postgres::Unresponsive { .. } | Postgres::Stopping => {
                self.stop_at_once(reason)
            }
        }
    }

    /// The release alone, for whoever knows that nothing of ours can be a primary.
    pub fn release(&self, reason: Reason) -> Decision {
        let lease = LeaseStep::Release { last_position: None };
        Decision { lease, ..Decision::idle(reason, Wake::Now) }
    }

    /// Why the data directory is of no use; only for one that is not `Present`.
    pub fn broken_data(&self) -> Reason {
        let why = match &self.seen.local.data {
            DataDir::Unusable(why) => why.clone(),
            DataDir::Empty | DataDir::Present(_) => "it is empty".to_owned(),
        };
        Reason::Unusable { why }
    }

    /// Stop being a primary, at once and without waiting for anybody.
    pub fn stop_at_once(&self, reason: Reason) -> Decision {
        let stop = PostgresStep::Stop {
            mode: StopMode::Immediate,
            why: StopWhy::LostLock,
            limit: self.timing().guard_margin(),
        };
        Decision { postgres: stop, ..Decision::idle(reason, Wake::At(self.now() + self.timing().loop_wait)) }
    }

    /// The back-off in force after failures, if any.
    pub fn backing_off(&self) -> Option<Decision> {
        let backoff = self.seen.memory.backoff.filter(|backoff| backoff.until > self.now())?;
        let left = backoff.until.left(self.now());
        Some(self.again_after(left, Reason::BackingOff { failures: backoff.failures, left: Seconds(left) }))
    }

    /// Members that might take over or know better, and how long each may take to answer: those of the view, and those
    /// that were there when a leader was last seen, since their records may expire together with the leader's.
    pub fn electorate(&self) -> BTreeMap<MemberName, Duration> {
        let may_answer = |member: &&Member| {
            member.name != self.policy.name && member.api_url.is_some() && !member.tags.is_nofailover()
        };
        let expired = self.seen.memory.last_members.values().filter(|member| !self.view.is_alive(&member.name));
        let expired = expired.filter(may_answer).map(|member| (member.name.clone(), EXPIRED_PEER_LIMIT));
        let alive = self.view.alive().filter(may_answer).map(|member| (member.name.clone(), PEER_LIMIT));
        expired.chain(alive).collect()
    }

    /// The answer of a peer that was asked at `since` or later; `None` while it is awaited.
    pub fn answer(&self, peer: &MemberName, since: Instant) -> Option<&'a PeerAnswer> {
        self.seen.peers.get(peer).filter(|report: &&PeerReport| report.asked_at >= since).map(|report| &report.answer)
    }

    /// What of `asked` has not been answered since then.
    pub fn unanswered(&self, asked: &BTreeMap<MemberName, Duration>, since: Instant) -> BTreeMap<MemberName, Duration> {
        let missing = asked.iter().filter(|(peer, _)| self.answer(peer, since).is_none());
        missing.map(|(peer, limit)| (peer.clone(), *limit)).collect()
    }

    /// From when on an answer counts: an old position is never a vote. Twice the limit, so that a peer that does not
    /// answer at all is not asked for ever.
    pub fn answers_count_from(&self) -> Instant {
        self.now() - PEER_LIMIT * 2
    }

    /// Ask these, and go on when they have answered (which wakes the loop) or could have.
    pub fn ask(&self, peers: BTreeMap<MemberName, Duration>, reason: Reason) -> Decision {
        let decision = self.again_after(PEER_LIMIT + Duration::from_millis(100), reason);
        Decision { ask: Some(Question::Peers(peers)), ..decision }
    }

    /// The newest timeline that is known to be the cluster's: by its history, or because we are on it.
    fn timeline(&self) -> Option<Timeline> {
        let own = match (&self.seen.local.postgres, &self.seen.local.data) {
            (Postgres::Running(Running::Primary(facts)), _) => Some(facts.timeline),
            (Postgres::Running(Running::Standby(facts)), _) => facts.timeline,
            (_, DataDir::Present(data)) => data.control.as_ref().map(|control| control.timeline),
            (_, DataDir::Empty | DataDir::Unusable(_)) => None,
        };
        own.max(self.view.history.timeline())
    }

    /// What a standby that could take over has answered since then. One on an older timeline could not: whatever its
    /// position, it lacks what was written since.
    pub fn candidate(&self, peer: &MemberName, since: Instant) -> Option<&'a PeerStatus> {
        let status = self.answer(peer, since).and_then(Ctx::eligible)?;
        let behind = status.timeline.is_some_and(|theirs| Some(theirs) < self.timeline());
        (status.role == PeerRole::Standby && !behind).then_some(status)
    }

    /// A peer that answered and may become leader.
    pub fn eligible(answer: &PeerAnswer) -> Option<&PeerStatus> {
        use super::observation::PeerWatchdog;
        match answer {
            PeerAnswer::Status(status) if !status.tags.is_nofailover() && status.watchdog == PeerWatchdog::Fine => {
                Some(status)
            }
            PeerAnswer::Status(_) | PeerAnswer::Unreachable => None,
        }
    }
}
