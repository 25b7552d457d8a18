//! Two members that are promoted without knowing of each other may give their timelines the same number. What tells such
//! timelines apart is where each left its parent; positions on them do not compare.

use super::local::{DataDir, Postgres, Running, StandbyFacts, Upstream};
use super::observation::{Abandoned, Memory, Observation, PeerStatus};
use super::units::{Branch, Timeline};
use super::view::{ClusterView, History, MemberRole, ReplicationState};

/// How a timeline stands to the cluster's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    OfTheCluster,
    Other,
    /// Where it began, here or there, is not known: only its number counts.
    Unknown,
}

pub fn standing(view: &ClusterView, branch: Option<Branch>) -> Standing {
    let known = branch.and_then(|branch| Some((branch.began, view.history.began(branch.timeline)?)));
    match known {
        Some((own, cluster)) if own == cluster => Standing::OfTheCluster,
        Some(_) => Standing::Other,
        None => Standing::Unknown,
    }
}

/// Where our newest timeline began, if that is the one of these facts.
pub fn own(seen: &Observation, timeline: Option<Timeline>) -> Option<Branch> {
    seen.local.branch.filter(|branch| Some(branch.timeline) == timeline)
}

/// Whether this standby is known to be on another branch than the cluster.
pub fn is_other(seen: &Observation, view: &ClusterView, facts: &StandbyFacts) -> bool {
    standing(view, own(seen, facts.timeline)) == Standing::Other
}

/// Whether this standby is on a newer timeline than the cluster's history knows of.
pub fn is_newer(view: &ClusterView, facts: &StandbyFacts) -> bool {
    let known = facts.timeline.zip(view.history.timeline());
    known.is_some_and(|(own, cluster)| own > cluster)
}

/// Whether this is none of the timelines that the last leader was on, however new, by its word that it gave the lock up in
/// order: before that it had noted where its own began. Whoever has led since may have been on it.
fn is_unknown_to_released(view: &ClusterView, memory: &Memory, branch: Option<Branch>) -> bool {
    let is_last_word = view.status.released_by.is_some() && memory.is_last_word(&view.status);
    let (Some(branch), Some(cluster)) = (branch, view.history.timeline()) else { return false };
    is_last_word && branch.timeline > cluster && !is_in_history(view, branch.timeline, Some(branch))
}

/// What a reading teaches of our own timeline. A member on an older one may lead after a failover by hand, or after a loss of
/// the store's data: then a newer number is no sign of more.
pub fn learn_abandoned(memory: &mut Memory, seen: &Observation, view: &ClusterView) {
    if view.is_ours() {
        memory.abandoned = None;
        return;
    }
    let Some(leader) = view.other_leader().filter(|leader| leader.role == MemberRole::Primary) else { return };
    let streams = match &seen.local.postgres {
        Postgres::Running(Running::Standby(facts)) => {
            let from_leader = matches!(&facts.upstream, Upstream::Member { name, .. } if *name == leader.name);
            from_leader && facts.replication == Some(ReplicationState::Streaming)
        }
        _ => false,
    };
    let own = match &seen.local.postgres {
        Postgres::Running(_) => own_timeline(seen),
        // It does not tell, and its control file, if it can be read, says where its last checkpoint was.
        Postgres::Starting { .. } | Postgres::Unresponsive { .. } | Postgres::Stopping | Postgres::Stopped => {
            seen.local.branch.map(|branch| branch.timeline).or(own_timeline(seen))
        }
    };
    match (own, leader.timeline) {
        // Whatever its record says: that may be older.
        (_, Some(_)) if streams => memory.abandoned = None,
        (Some(timeline), Some(cluster)) if timeline > cluster && view.leader_has_spoken => {
            memory.abandoned = Some(Abandoned { timeline, cluster });
        }
        (_, _) => {}
    }
}

/// What `history` teaches of our own timeline: one that stood there and is newer than all that stand there now was left by
/// a leader of since. A store that has lost its data may have lost it, too.
pub fn learn_noted(memory: &mut Memory, seen: &Observation, view: &ClusterView) {
    let own = seen.local.branch;
    match (own, view.history.timeline()) {
        _ if memory.amnesia.is_some() => memory.noted = None,
        _ if standing(view, own) == Standing::OfTheCluster => memory.noted = own,
        (Some(Branch { timeline, .. }), Some(cluster)) if memory.noted == own && timeline > cluster => {
            memory.abandoned = Some(Abandoned { timeline, cluster });
        }
        (_, _) => {}
    }
}

/// The timeline that the cluster is on, if it is known to have abandoned the one that this standby is on.
pub fn abandoned_for(seen: &Observation, view: &ClusterView, facts: &StandbyFacts) -> Option<Timeline> {
    let is_unknown = is_unknown_to_released(view, &seen.memory, own(seen, facts.timeline));
    let learned = seen.memory.abandoned.filter(|abandoned| Some(abandoned.timeline) == facts.timeline);
    let released = view.history.timeline().filter(|_| is_unknown);
    released.or(learned.map(|abandoned| abandoned.cluster))
}

/// The same of a member, by what it says of itself and by the last leader's word.
pub fn is_abandoned(seen: &Observation, view: &ClusterView, peer: &PeerStatus) -> bool {
    peer.is_abandoned || is_unknown_to_released(view, &seen.memory, peer.branch())
}

/// Whether a member is known to be on another branch than the cluster: than we, if we lead, else than its history says.
pub fn has_left(seen: &Observation, view: &ClusterView, peer: &PeerStatus) -> bool {
    let leads = leading_timeline(seen).filter(|_| view.is_ours());
    if let (Some(own), Some(theirs)) = (leads, peer.timeline)
        && theirs != own
    {
        return theirs > own;
    }
    match (own(seen, leads), peer.branch()) {
        (Some(own), Some(theirs)) => own != theirs,
        (_, branch) => standing(view, branch) == Standing::Other,
    }
}

/// The newest timeline of our data, as far as it can be told.
pub fn own_timeline(seen: &Observation) -> Option<Timeline> {
    match (&seen.local.postgres, &seen.local.data) {
        (Postgres::Running(Running::Primary(facts)), _) => Some(facts.timeline),
        (Postgres::Running(Running::Standby(facts)), _) => facts.timeline,
        (_, DataDir::Present(data)) => data.control.as_ref().map(|control| control.timeline),
        (_, DataDir::Empty | DataDir::Unusable(_)) => None,
    }
}

/// The timeline of a server that leads or has led until its stop.
fn leading_timeline(seen: &Observation) -> Option<Timeline> {
    match &seen.local.postgres {
        Postgres::Running(Running::Standby(_)) => None,
        Postgres::Running(Running::Primary(_)) | Postgres::Stopped => own_timeline(seen),
        Postgres::Starting { .. } | Postgres::Unresponsive { .. } | Postgres::Stopping => None,
    }
}

/// Whether the cluster's history ends where the leader's timeline began: by it others know that theirs is behind. Where
/// that is not known only the numbers tell.
pub fn is_in_history(view: &ClusterView, timeline: Timeline, own: Option<Branch>) -> bool {
    match (&view.history, own) {
        (History::Unknown, _) => timeline == Timeline(1),
        (History::Known(entries), Some(own)) => {
            entries.last().is_some_and(|last| last.left < timeline && last.at == own.began)
        }
        (History::Known(_), None) => view.history.timeline() == Some(timeline),
    }
}
