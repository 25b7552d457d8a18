//! A standby cluster: whoever holds the lock is a standby, too, and the others follow it. It follows a server that is no
//! member of this cluster, or the archive of one.
//!
//! **Invariant:** holding the lock of a standby cluster makes nobody writable. A primary that finds its cluster to be one
//! stops, keeping the lock, and starts as a standby; the holder is promoted once the cluster is none any more.

use super::canvass;
use super::context::Ctx;
use super::decision::{Decision, DocumentStep, PostgresStep};
use super::follower;
use super::follows;
use super::local::{Data, Guard, Replay, StandbyFacts, StopMode, StopWhy, Upstream};
use super::policy::UNHURRIED;
use super::reason::Reason;
use super::switchover;
use super::units::MemberName;
use super::upstream::Source;
use super::view::{ClusterView, ConfigKey, History, Holder, Initialize, ReplicationState, SyncState};

/// What of the view counts in a standby cluster: `history` and `sync` are of a time when it had a primary of its own.
pub fn believed(view: &ClusterView) -> ClusterView {
    ClusterView { history: History::Unknown, sync: SyncState::default(), ..view.clone() }
}

/// The member that the source is, if it is one: a cluster that followed itself would have no primary anywhere.
pub fn is_itself(ctx: &Ctx) -> Option<MemberName> {
    let Source::Remote(remote) = ctx.policy.cluster.source()? else { return None };
    remote.member_of(ctx.view).map(|member| member.name.clone())
}

/// A primary that holds the lock of what has become a standby cluster stops; its members keep what they have. `None`: the
/// cluster has a primary.
pub fn demotion(ctx: &Ctx) -> Option<Decision> {
    ctx.policy.cluster.source()?;
    if let Some(member) = is_itself(ctx) {
        return Some(ctx.idle(Reason::StandbyOfItself { member }));
    }
    let stop =
        PostgresStep::Stop { mode: StopMode::CheckpointThenFast, why: StopWhy::StandbyCluster, limit: UNHURRIED };
    Some(ctx.step(stop, Reason::DemotingCluster))
}

/// A primary that finds a standby cluster without a leader, as with data that were a primary's.
pub fn without_lock(ctx: &Ctx) -> Option<Decision> {
    ctx.policy.cluster.source()?;
    let stop = PostgresStep::Stop { mode: StopMode::Fast, why: StopWhy::Rejoin, limit: UNHURRIED };
    Some(ctx.step(stop, Reason::NotPrimaryOfStandbys))
}

/// The lock is ours and PostgreSQL runs as a standby.
pub fn decide(ctx: &Ctx, data: &Data, facts: &StandbyFacts, source: &Source) -> Decision {
    if ctx.seen.local.guard != Guard::NoDeadline {
        // A former agent may have told it to promote, which only a stop undoes.
        let stop = PostgresStep::Stop { mode: StopMode::Fast, why: StopWhy::Rejoin, limit: UNHURRIED };
        return ctx.step(stop, Reason::MayBePromoting);
    }
    if let Some(member) = is_itself(ctx) {
        return ctx.idle(Reason::StandbyOfItself { member });
    }
    if facts.replay == Replay::Paused {
        return ctx.step(PostgresStep::ResumeReplay, Reason::ResumingReplay);
    }
    let history = source.history();
    if let Some(stop) = history.as_ref().and_then(|history| follower::stop_diverged(ctx, history)) {
        return stop;
    }
    let wanted = follows::upstream(ctx);
    if facts.upstream != wanted {
        let reason = match &wanted {
            Upstream::None => Reason::StreamsFromNobody,
            Upstream::Member { .. } | Upstream::Remote(_) | Upstream::Archive | Upstream::Foreign => Reason::NewSource,
        };
        return ctx.backing_off().unwrap_or_else(|| ctx.step(PostgresStep::Follow(wanted), reason));
    }
    let documents = documents(ctx, data);
    if let Some(decision) = switchover::on_standby_leader(ctx, facts) {
        return Decision { documents: [documents, decision.documents].concat(), ..decision };
    }
    let leading = Reason::LeadingStandbys { name: ctx.policy.name.clone() };
    let streams = facts.replication == Some(ReplicationState::Streaming);
    let decision = match history.filter(|_| !streams && wanted != Upstream::None) {
        Some(history) => follower::compare(ctx, &history, leading),
        None => ctx.idle(leading),
    };
    let wake = switchover::not_after_due(ctx, decision.wake);
    Decision { documents, wake, ..decision }
}

/// What the holder of the lock keeps in order.
fn documents(ctx: &Ctx, data: &Data) -> Vec<DocumentStep> {
    let mut steps = Vec::new();
    if !matches!(ctx.view.initialize, Initialize::Done(_)) {
        steps.push(DocumentStep::SetInitialize(data.system_id));
    }
    match ctx.view.config {
        ConfigKey::Valid => {}
        ConfigKey::Missing | ConfigKey::Invalid => steps.push(DocumentStep::RestoreConfig),
    }
    steps
}

/// The first member of a new standby cluster, which has claimed it and now runs, takes the lock at once. `None`: the
/// ordinary race.
pub fn first(ctx: &Ctx, data: &Data) -> Option<Decision> {
    ctx.policy.cluster.source()?;
    let claimed = ctx.view.initialize == Initialize::InProgress(Holder::Us);
    let documents = vec![DocumentStep::SetInitialize(data.system_id), DocumentStep::RestoreConfig];
    claimed.then(|| Decision { documents, reason: Reason::Initialized, ..canvass::acquire(ctx) })
}
