//! The store has lost its data: it was restored from a backup, or wiped. What it says about the lock does not count: a
//! key that is there may name somebody who led long ago, and one that is missing may be missing under a living leader.
//!
//! - Whoever holds a lock that is valid by our own clock takes it again at once, over a key that nobody has touched since.
//! - Nobody else takes it before a ttl has passed since the loss was noticed: until then a leader that is cut off from
//!   the store may be writable. Then there is a race as always, newest timeline first.
//! - A lock that only the store gave us back is released.
//! - Nobody who has seen a cluster initialises another one (`bootstrap`).
//!
//! It is over when the lock is ours again, or when the ttl is over and a primary holds it. Whoever has taken it since is
//! followed before that, but it is not raced for if it becomes free again: it may have been taken by a call of before the
//! loss, while a leader that is cut off is still writable.

use super::authority;
use super::context::Ctx;
use super::decision::{Decision, DocumentStep, LeaseStep, Wake};
use super::lease::Hold;
use super::local::{DataDir, Job, Postgres, Running, StopWhy};
use super::observation::{Amnesia, Observation};
use super::policy::{Mode, Pause, Policy};
use super::reason::Reason;
use super::units::{Instant, SystemId};
use super::view::{ClusterStatus, ClusterView, Holder, Initialize, MemberRole};

/// What a loss of the store's data leads to.
pub enum Verdict {
    /// Nothing: there was none, or it is over.
    Over,
    Decided(Box<Decision>),
    /// The ordinary rules hold, with no more of the view than this.
    Believed(Box<ClusterView>),
}

pub fn judge(ctx: &Ctx) -> Verdict {
    let Some(amnesia) = &ctx.seen.memory.amnesia else { return Verdict::Over };
    if ctx.policy.mode == Mode::Single || is_believed(amnesia, ctx.view, ctx.now()) {
        return Verdict::Over;
    }
    if may_retake(ctx) {
        return Verdict::Decided(Box::new(retake(ctx)));
    }
    if ctx.view.is_ours() && ctx.seen.local.job.is_none() && authority::is_no_primary(&ctx.seen.local) {
        return Verdict::Decided(Box::new(ctx.release(Reason::StoreForgot)));
    }
    let believed = believed(ctx.view);
    match waiting(&Ctx { view: &believed, ..*ctx }, amnesia) {
        Some(wait) => Verdict::Decided(Box::new(wait)),
        None => Verdict::Believed(Box::new(believed)),
    }
}

/// Whether somebody is known to hold the lock in the store as it is now, and nobody by what it was before. A key that has
/// outlived a ttl is renewed.
fn is_held(amnesia: &Amnesia, view: &ClusterView, now: Instant) -> bool {
    let has_waited = amnesia.until <= now;
    match view.leader.as_ref().map(|leader| leader.holder) {
        None => false,
        Some(Holder::Other) => has_waited,
        Some(Holder::Us) => has_waited && view.lock_revision != amnesia.lock,
    }
}

/// Whether it is behind us. Until somebody has led since, what the store says of releases and requests is of before.
pub fn is_over(amnesia: &Amnesia, view: &ClusterView, now: Instant) -> bool {
    let leads = view.is_ours() || view.other_leader().is_some_and(|leader| leader.role == MemberRole::Primary);
    leads && is_held(amnesia, view, now)
}

/// Whether what the store says of the lock counts.
pub fn is_believed(amnesia: &Amnesia, view: &ClusterView, now: Instant) -> bool {
    is_held(amnesia, view, now) || is_taken_since(amnesia, view)
}

/// Whether another member has taken the lock since the loss was noticed.
fn is_taken_since(amnesia: &Amnesia, view: &ClusterView) -> bool {
    let is_others = view.leader.as_ref().is_some_and(|leader| leader.holder == Holder::Other);
    is_others && view.lock_revision != amnesia.lock
}

/// What a member that is asked to end goes by: it neither takes a lock again nor renews one that only the store remembers.
pub fn when_ending(policy: &Policy, seen: &Observation, view: &ClusterView) -> ClusterView {
    let in_force = seen.memory.amnesia.filter(|amnesia| !is_held(amnesia, view, seen.now));
    let is_ours = matches!(Hold::of(view, &seen.memory, seen.now), Hold::Held { .. });
    match in_force {
        Some(_) if !is_ours && policy.mode == Mode::Cluster => believed(view),
        Some(_) | None => view.clone(),
    }
}

/// What of the view counts: nothing about who leads, led, or is to lead.
fn believed(view: &ClusterView) -> ClusterView {
    let status = ClusterStatus { released_by: None, gave_way: None, ..view.status.clone() };
    // One that nobody holds is taken over the version that it has.
    let lock_revision = view.lock_revision.filter(|_| view.leader.is_none());
    ClusterView { leader: None, lock_revision, switchover: None, status, ..view.clone() }
}

/// Whether the lock is ours by our own clock, with the time that a stop takes to spare, and our data are the cluster's.
fn may_retake(ctx: &Ctx) -> bool {
    let (local, timing) = (&ctx.seen.local, ctx.timing());
    let ends = authority::stop_begins(ctx.seen.memory.lease_valid_until, local.guard, timing);
    let gives_up =
        local.job.as_ref().is_some_and(|running| matches!(running.job, Job::Stop { why: StopWhy::LostLock, .. }));
    ends.is_some_and(|ends| ctx.now() < ends) && !gives_up && has_the_clusters_data(ctx) && !is_on_older_timeline(ctx)
}

fn has_the_clusters_data(ctx: &Ctx) -> bool {
    match (&ctx.seen.local.data, &ctx.view.initialize) {
        (DataDir::Present(data), Initialize::Done(cluster)) => data.system_id == *cluster,
        (DataDir::Present(_), Initialize::Absent | Initialize::InProgress(_) | Initialize::Invalid(_)) => true,
        (DataDir::Empty | DataDir::Unusable(_), _) => false,
    }
}

/// Then somebody has been promoted in the store as it is now.
fn is_on_older_timeline(ctx: &Ctx) -> bool {
    match &ctx.seen.local.postgres {
        Postgres::Running(Running::Primary(facts)) => Some(facts.timeline) < ctx.view.history.timeline(),
        Postgres::Running(Running::Standby(_))
        | Postgres::Stopped
        | Postgres::Starting { .. }
        | Postgres::Unresponsive { .. }
        | Postgres::Stopping => false,
    }
}

fn retake(ctx: &Ctx) -> Decision {
    let lease = match ctx.view.is_ours() {
        true => LeaseStep::Renew,
        false => LeaseStep::Acquire { seen: ctx.view.lock_seen() },
    };
    Decision { lease, ..Decision::idle(Reason::StoreForgotMyLock, Wake::Now) }
}

/// Before the ttl is over. `None`: what is done without a leader is right.
fn waiting(ctx: &Ctx, amnesia: &Amnesia) -> Option<Decision> {
    if amnesia.until <= ctx.now() || ctx.seen.local.job.is_some() {
        return None;
    }
    let wait = ctx.again_after(amnesia.until.left(ctx.now()), Reason::StoreForgot);
    if ctx.policy.pause == Pause::Paused {
        return Some(wait);
    }
    match (&ctx.seen.local.postgres, &ctx.seen.local.data) {
        (Postgres::Running(Running::Primary(_)), _) => Some(ctx.stop_at_once(Reason::StoreForgot)),
        (Postgres::Running(Running::Standby(_)), DataDir::Present(data)) => {
            Some(Decision { documents: identity(ctx, data.system_id), ..wait })
        }
        (Postgres::Stopped, DataDir::Empty) => Some(wait),
        (_, _) => None,
    }
}

/// Whoever has the cluster's data says so at once, so that nobody initialises another.
fn identity(ctx: &Ctx, own: SystemId) -> Vec<DocumentStep> {
    match ctx.view.initialize {
        Initialize::Done(_) => Vec::new(),
        Initialize::InProgress(_) if ctx.seen.memory.cluster != Some(own) => Vec::new(),
        Initialize::Absent | Initialize::Invalid(_) | Initialize::InProgress(_) => {
            vec![DocumentStep::SetInitialize(own)]
        }
    }
}
