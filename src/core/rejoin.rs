//! There are data and PostgreSQL does not run: in which role it may start, and what must be repaired before.

use std::time::Duration;

use super::context::Ctx;
use super::decision::{Decision, PostgresStep, Question};
use super::follower;
use super::follows::{self, upstream};
use super::lease::Hold;
use super::local::{ClusterState, Data, HistoryOf, Job, RecoverySignal, Reinit, Source, StartAs, Upstream};
use super::observation::{Divergence, JobResult, Recovered};
use super::policy::{ClusterKind, RewindPolicy};
use super::reason::Reason;
use super::serving::{self, Successor};
use super::units::{Instant, Lsn};
use super::view::{AfterPromote, Holder, Member, MemberRole};
use super::{bootstrap, canvass, switchover, sync, watchdog};

/// Tries of pg_rewind before a clone takes its place.
const REWIND_TRIES: u32 = 2;
/// The same of crash recovery: what a full disk stops may succeed a little later.
const RECOVERY_TRIES: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub fn decide(ctx: &Ctx, data: &Data) -> Decision {
    if let Some(handover) = &ctx.seen.memory.handover
        && let Some(decision) = switchover::after_stop(ctx, handover)
    {
        return decision;
    }
    match ctx.hold() {
        Hold::Held { .. } => match &ctx.policy.cluster {
            ClusterKind::Primary => with_lock(ctx, data),
            ClusterKind::Standby(source) => with_lock_of_standbys(ctx, data, source),
        },
        Hold::Unconfirmed if ctx.is_taken_unawares() && !may_have_kept_it(ctx, data) => ctx.give_back(),
        Hold::Unconfirmed => ctx.idle(Reason::ConfirmingLock),
        Hold::NotOurs => without_lock(ctx, data),
    }
}

/// The lock was ours all the while, so nobody else was a primary since: a primary may start where it stopped.
fn with_lock(ctx: &Ctx, data: &Data) -> Decision {
    if data.signal == RecoverySignal::RewindUnfinished {
        return ctx.release(Reason::RewindUnfinished);
    }
    if let Some(control) = &data.control
        && let Some(cluster) = ctx.view.history.timeline()
        && control.timeline < cluster
    {
        return ctx.give_up(Reason::TimelineBehind { own: control.timeline, cluster });
    }
    if let Some(decision) = watchdog::before_primary(ctx).filter(|_| was_primary(data) || watchdog::is_failed(ctx)) {
        return decision;
    }
    let tried = ctx.seen.memory.primary_starts > 0;
    if !was_primary(data) && ctx.promotion_refused_until().is_some() {
        return ctx.give_up(Reason::PrePromoteFailed);
    }
    if !was_primary(data) {
        let failed = ctx.seen.memory.backoff.is_some();
        return match ctx.backing_off() {
            None if !failed => {
                ctx.step(PostgresStep::Start(StartAs::Standby(Upstream::None)), Reason::StartingReadOnly)
            }
            Some(_) | None => ctx.give_up(Reason::StartFailedRelease),
        };
    }
    let overdue = serving::is_overdue(ctx);
    if tried || overdue || ctx.policy.primary_start_timeout.is_zero() {
        let reason = if overdue { Reason::StartTimeout } else { Reason::FailingOver };
        return fail_over(ctx, data, if tried { Reason::StartFailedRelease } else { reason });
    }
    if let Some(Lost { end, published }) = lost_wal(ctx, data) {
        return fail_over(ctx, data, Reason::WalBehindPublished { end, published });
    }
    sync::postpone(ctx).unwrap_or_else(|| ctx.step(PostgresStep::Start(StartAs::Primary), in_place(data)))
}

/// The lock of a standby cluster: whether this server was a primary or a standby before, it starts as a standby.
fn with_lock_of_standbys(ctx: &Ctx, data: &Data, source: &Source) -> Decision {
    if standby_start_failed(ctx).is_some() {
        match serving::successor(ctx) {
            Successor::Asked(missing) => return canvass::ask(ctx, missing, Reason::Sweeping),
            Successor::Ready => return ctx.give_up(Reason::StartFailedRelease),
            Successor::Nobody => {}
        }
    }
    if let Some(wait) = ctx.backing_off() {
        return wait;
    }
    let start = || ctx.step(PostgresStep::Start(StartAs::Standby(upstream(ctx))), Reason::StartingStandbyLeader);
    let Some(history) = source.history() else { return start() };
    if data.signal == RecoverySignal::RewindUnfinished {
        return repair(ctx, data, &history);
    }
    match relation(ctx, data, &history) {
        Relation::Fits | Relation::WalGone => start(),
        Relation::Diverged => repair(ctx, data, &history),
        Relation::RecoverFirst => recover(ctx),
        Relation::Unknown => check(ctx, history),
    }
}

fn check(ctx: &Ctx, history: HistoryOf) -> Decision {
    let ask = Some(Question::Divergence { leader: history.clone() });
    Decision { ask, ..ctx.again_after(LOOK_AGAIN, Reason::CheckingDivergence { leader: history }) }
}

/// Whether the lock may have been ours since this server was a primary: whoever leads takes the word of a release back.
fn may_have_kept_it(ctx: &Ctx, data: &Data) -> bool {
    let status = &ctx.view.status;
    was_primary(data) && status.released_by.is_none() && status.gave_way.is_none()
}

fn was_primary(data: &Data) -> bool {
    use ClusterState::{InArchiveRecovery, InCrashRecovery, InProduction, ShutDown};
    use ClusterState::{ShutDownInRecovery, ShuttingDown, StartingUp};
    let state = data.control.as_ref().map(|control| control.state);
    data.signal == RecoverySignal::None
        && match state {
            Some(InProduction | InCrashRecovery | ShutDown | ShuttingDown) => true,
            Some(StartingUp | ShutDownInRecovery | InArchiveRecovery) | None => false,
        }
}

fn was_shut_down(data: &Data) -> bool {
    let state = data.control.as_ref().map(|control| control.state);
    matches!(state, Some(ClusterState::ShutDown | ClusterState::ShutDownInRecovery))
}

/// What the data directory has lost of the WAL that this leader has published: it is an older copy, or the disk did not
/// keep what it was told to.
struct Lost {
    end: Lsn,
    published: Lsn,
}

/// `optime` may be a former leader's. The position of our own slot is what we have had flushed ourselves, as a leader or as
/// a standby, whoever wrote it.
fn lost_wal(ctx: &Ctx, data: &Data) -> Option<Lost> {
    let published = *ctx.view.status.slots.get(&ctx.policy.name.slot_name())?;
    let end = data.control.as_ref()?.wal_end.filter(|end| !end.reaches(published))?;
    Some(Lost { end: end.page, published })
}

/// What the start of a primary in place is.
pub fn in_place(data: &Data) -> Reason {
    if was_shut_down(data) { Reason::StartingPrimary } else { Reason::StartingInPlace }
}

/// What the start of a standby is. A copy that was never started has not failed.
fn standby_reason(data: &Data) -> Reason {
    match data.signal {
        RecoverySignal::None | RecoverySignal::Present if !was_shut_down(data) => Reason::RestartingStandby,
        RecoverySignal::None | RecoverySignal::Present => Reason::StartingStandby,
        RecoverySignal::BackupLabel | RecoverySignal::RewindUnfinished => Reason::StartingStandby,
    }
}

/// Give the lock to a member that can take it; if there is none, a start in place is all that is left.
fn fail_over(ctx: &Ctx, data: &Data, reason: Reason) -> Decision {
    match serving::successor(ctx) {
        Successor::Asked(missing) => canvass::ask(ctx, missing, Reason::Sweeping),
        Successor::Ready => ctx.give_up(reason),
        Successor::Nobody => match ctx.backing_off() {
            Some(wait) => wait,
            None => {
                let reason = match lost_wal(ctx, data) {
                    Some(Lost { end, published }) => Reason::StartingWithoutPublished { end, published },
                    None => in_place(data),
                };
                sync::postpone(ctx).unwrap_or_else(|| ctx.step(PostgresStep::Start(StartAs::Primary), reason))
            }
        },
    }
}

fn without_lock(ctx: &Ctx, data: &Data) -> Decision {
    if let Some(wait) = ctx.backing_off() {
        return wait;
    }
    let standby = |upstream, reason| ctx.step(PostgresStep::Start(StartAs::Standby(upstream)), reason);
    let may_start = data.signal != RecoverySignal::RewindUnfinished;
    let leader = match &ctx.view.leader {
        Some(leader) => leader,
        None if may_start => return standby(without_leader(ctx, data), standby_reason(data)),
        None => return ctx.idle(Reason::RewindUnfinished),
    };
    if leader.name == ctx.policy.name || leader.holder == Holder::Us {
        if !may_start {
            return ctx.idle(Reason::RewindUnfinished);
        }
        return standby(Upstream::None, Reason::OwnNameHeldElsewhere);
    }
    let Some(record) = follows::leader(ctx) else {
        return ctx.again_after(LOOK_AGAIN, Reason::LeaderWithoutAddress { leader: leader.name.clone() });
    };
    let wanted = upstream(ctx);
    let Some(history) = follower::history(ctx, record) else {
        return match may_start {
            true => standby(wanted, standby_reason(data)),
            false => ctx.idle(Reason::RewindUnfinished),
        };
    };
    if !may_start {
        return repair(ctx, data, &history);
    }
    match relation(ctx, data, &history) {
        Relation::Fits => standby(wanted, standby_reason(data)),
        Relation::Diverged => repair(ctx, data, &history),
        Relation::WalGone => bootstrap::reclone(ctx, Reinit::WalGone, ctx.policy.remove_diverged_data)
            .unwrap_or_else(|| standby(wanted, standby_reason(data))),
        Relation::RecoverFirst => recover(ctx),
        Relation::Unknown => check(ctx, history),
    }
}

/// While nobody leads: the member that `replicatefrom` names. A copy that was never started may need WAL before it lets
/// anybody in, which only the source of a standby cluster has.
fn without_leader(ctx: &Ctx, data: &Data) -> Upstream {
    match ctx.policy.cluster.source() {
        Some(source) if data.signal == RecoverySignal::BackupLabel => source.clone().into(),
        Some(_) | None => upstream(ctx),
    }
}

/// How our WAL stands to the leader's history, as far as we know it.
enum Relation {
    Fits,
    Diverged,
    WalGone,
    /// Where our WAL ends is known only after crash recovery.
    RecoverFirst,
    Unknown,
}

fn relation(ctx: &Ctx, data: &Data, leader: &HistoryOf) -> Relation {
    let cleared = ctx.seen.memory.cleared_for.as_ref().filter(|cleared| cleared.leader == *leader);
    if follower::report_since(ctx, leader, Instant::default()) == Some(Divergence::Diverged) {
        return Relation::Diverged;
    }
    // A standby's WAL came from a primary; whether it fits shows when it streams (`follower`), or when it does not start.
    if cleared.is_some() || !was_primary(data) {
        let Some(failed_at) = standby_start_failed(ctx) else { return Relation::Fits };
        return match follower::report_since(ctx, leader, failed_at) {
            Some(Divergence::None | Divergence::Undecided) => Relation::Fits,
            Some(Divergence::Diverged) => Relation::Diverged,
            Some(Divergence::WalGone) => Relation::WalGone,
            None => Relation::Unknown,
        };
    }
    if is_unclean(ctx, data) {
        return Relation::RecoverFirst;
    }
    // What was found out before this server stopped says nothing about what it wrote last.
    let stopped = ctx.seen.memory.finished.as_ref().map_or(Instant::default(), |last| last.at);
    match follower::report_since(ctx, leader, stopped) {
        Some(Divergence::None) => Relation::Fits,
        Some(Divergence::Diverged) => Relation::Diverged,
        Some(Divergence::WalGone) => Relation::WalGone,
        // A server elsewhere may be away for long: until it answers this one serves what it has.
        Some(Divergence::Undecided) if *leader == HistoryOf::Remote => Relation::Fits,
        Some(Divergence::Undecided) | None => Relation::Unknown,
    }
}

/// When the last job was a start as a standby that failed: then.
fn standby_start_failed(ctx: &Ctx) -> Option<Instant> {
    let last = ctx.seen.memory.finished.as_ref()?;
    let is_start = matches!(last.job, Job::Start(StartAs::Standby(_)) | Job::Restart(StartAs::Standby(_)));
    (is_start && matches!(last.result, JobResult::Failed(_))).then_some(last.at)
}

/// Whether only crash recovery can tell where this server's WAL ends. pg_rewind takes no such directory, and cannot
/// recover that of a standby by itself: a single-user server refuses its signal file.
fn is_unclean(ctx: &Ctx, data: &Data) -> bool {
    !was_shut_down(data) && ctx.seen.memory.recovered == Recovered::No
}

/// Our WAL holds what the leader's history does not: rewind, or a clone where that is impossible.
fn repair(ctx: &Ctx, data: &Data, leader: &HistoryOf) -> Decision {
    if let HistoryOf::Member(name) = leader
        && ctx.view.members.get(name).is_none_or(owes_checkpoint)
    {
        return ctx.again_after(LOOK_AGAIN, Reason::WaitingForCheckpoint { leader: leader.clone() });
    }
    let may_remove = match ctx.policy.rewind {
        // pg_rewind wants a server that was shut down, and this one was never started.
        _ if data.signal == RecoverySignal::BackupLabel => ctx.policy.remove_diverged_data,
        // Crash recovery would make nothing whole of it.
        RewindPolicy::Allowed if data.signal == RecoverySignal::RewindUnfinished && is_unclean(ctx, data) => {
            ctx.policy.remove_data_after_failed_rewind
        }
        RewindPolicy::Allowed if ctx.seen.memory.failed_rewinds < REWIND_TRIES => {
            if is_unclean(ctx, data) {
                return recover(ctx);
            }
            let reason = Reason::Rewinding { leader: leader.clone() };
            return ctx.step(PostgresStep::Rewind { from: leader.clone() }, reason);
        }
        RewindPolicy::Allowed => ctx.policy.remove_data_after_failed_rewind,
        RewindPolicy::Forbidden => ctx.policy.remove_diverged_data,
    };
    bootstrap::reclone(ctx, Reinit::Diverged, may_remove)
        .unwrap_or_else(|| ctx.idle(Reason::DivergedNoRemedy { leader: leader.clone() }))
}

fn owes_checkpoint(leader: &Member) -> bool {
    leader.role != MemberRole::Primary || leader.checkpoint == AfterPromote::Pending
}

/// Crash recovery. Where it fails again and again, a clone; where that may not be, it is tried for as long as it takes.
fn recover(ctx: &Ctx) -> Decision {
    let given_up = ctx.seen.memory.failed_recoveries >= RECOVERY_TRIES;
    let replaced =
        given_up.then(|| bootstrap::reclone(ctx, Reinit::Unrecovered, ctx.policy.remove_diverged_data)).flatten();
    replaced.unwrap_or_else(|| ctx.step(PostgresStep::Recover, Reason::Recovering))
}
