//! The words that others see: `state` and `role` of a member. Pure; decisions never look at them.

use crate::core::local::{DataDir, Job, LastRole, Postgres, RecoverySignal, Running, StartAs, StopWhy};
use crate::core::observation::{FinishedJob, JobResult};
use crate::core::policy::Pause;
use crate::core::view::{MemberRole, MemberState};

/// What was shown last, and what has happened since.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) state: MemberState,
    pub(super) role: MemberRole,
    /// Whether a stop of ours explains that PostgreSQL is down.
    stopped: StoppedBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoppedBy {
    Nobody,
    Us(StopWhy),
}

impl Default for Shown {
    fn default() -> Self {
        Shown { state: MemberState::Stopped, role: MemberRole::Uninitialized, stopped: StoppedBy::Nobody }
    }
}

impl Shown {
    /// A job has ended: a failure shows until something else happens.
    pub(super) fn ended(&mut self, finished: &FinishedJob) {
        if let Job::Stop { why, .. } = finished.job {
            self.stopped = StoppedBy::Us(why);
        }
        match finished.result {
            JobResult::Done(_) | JobResult::Refused(_) | JobResult::Cancelled => {}
            JobResult::Failed(_) => self.state = failed(&finished.job).unwrap_or(self.state),
        }
    }

    /// One cycle's picture.
    pub(super) fn refresh(&mut self, data: &DataDir, postgres: &Postgres, job: Option<&Job>, pause: Pause) {
        if let Some(Job::Stop { why, .. }) = job {
            self.stopped = StoppedBy::Us(*why);
        }
        self.role = self.next_role(data, postgres, job);
        self.state = match job {
            Some(job) => during(job).unwrap_or_else(|| self.at_rest(postgres)),
            // A person is at work; what ended was meant to.
            None if pause == Pause::Paused && *postgres == Postgres::Stopped => MemberState::Stopped,
            None => self.at_rest(postgres),
        };
        match postgres {
            Postgres::Running(_) | Postgres::Starting { .. } if job.is_none() => self.stopped = StoppedBy::Nobody,
            Postgres::Running(_)
            | Postgres::Starting { .. }
            | Postgres::Stopped
            | Postgres::Unresponsive { .. }
            | Postgres::Stopping => {}
        }
    }

    fn at_rest(&self, postgres: &Postgres) -> MemberState {
        match postgres {
            Postgres::Running(_) | Postgres::Unresponsive { .. } => MemberState::Running,
            Postgres::Starting { .. } => MemberState::Starting,
            Postgres::Stopping => MemberState::Stopping,
            Postgres::Stopped => match (self.state, self.stopped) {
                (
                    MemberState::StartFailed
                    | MemberState::RestartFailed
                    | MemberState::StopFailed
                    | MemberState::InitdbFailed
                    | MemberState::CustomBootstrapFailed,
                    _,
                ) => self.state,
                (_, StoppedBy::Us(_)) => MemberState::Stopped,
                (
                    MemberState::Running | MemberState::Starting | MemberState::Restarting | MemberState::Crashed,
                    StoppedBy::Nobody,
                ) => MemberState::Crashed,
                (
                    MemberState::InitializingNewCluster
                    | MemberState::RunningCustomBootstrap
                    | MemberState::CreatingReplica
                    | MemberState::StartingAfterCustomBootstrap
                    | MemberState::Stopping
                    | MemberState::Stopped
                    | MemberState::Unknown,
                    StoppedBy::Nobody,
                ) => MemberState::Stopped,
            },
        }
    }

    fn next_role(&self, data: &DataDir, postgres: &Postgres, job: Option<&Job>) -> MemberRole {
        if let Some(Job::Bootstrap | Job::Clone { .. } | Job::Reinitialize { .. }) = job {
            return MemberRole::Uninitialized;
        }
        // Others wait for one that may be a primary in a moment, whatever its data look like by now.
        if let Some(Job::Start(StartAs::Primary) | Job::Restart(StartAs::Primary)) = job {
            return MemberRole::Primary;
        }
        match postgres {
            Postgres::Running(Running::Primary(_)) => self.while_demoting(MemberRole::Primary),
            Postgres::Running(Running::Standby(_)) if job == Some(&Job::Promote) => MemberRole::Promoted,
            Postgres::Running(Running::Standby(facts)) => facts.upstream.role(),
            Postgres::Starting { role: LastRole::Primary, .. } => MemberRole::Primary,
            Postgres::Starting { role: LastRole::Standby, .. } => MemberRole::Replica,
            Postgres::Unresponsive { .. } | Postgres::Stopping => self.while_demoting(self.role),
            Postgres::Stopped => self.while_down(data),
        }
    }

    /// A former leader is `demoted` from the moment that it begins to stop for anything but the agent's own end.
    fn while_demoting(&self, role: MemberRole) -> MemberRole {
        let was_primary = matches!(role, MemberRole::Primary | MemberRole::Promoted);
        match self.stopped {
            StoppedBy::Us(StopWhy::LostLock | StopWhy::Handover | StopWhy::Rejoin | StopWhy::Refused)
                if was_primary =>
            {
                MemberRole::Demoted
            }
            StoppedBy::Us(_) | StoppedBy::Nobody => role,
        }
    }

    fn while_down(&self, data: &DataDir) -> MemberRole {
        match (data, self.role) {
            (DataDir::Empty | DataDir::Unusable(_), _) => MemberRole::Uninitialized,
            // Just begun, or just made: only the files tell.
            (DataDir::Present(data), MemberRole::Uninitialized) => match data.signal {
                RecoverySignal::Present | RecoverySignal::BackupLabel | RecoverySignal::RewindUnfinished => {
                    MemberRole::Replica
                }
                RecoverySignal::None => MemberRole::Demoted,
            },
            (DataDir::Present(_), role) => self.while_demoting(role),
        }
    }
}

/// The state while a job runs; `None`: as if there were none.
fn during(job: &Job) -> Option<MemberState> {
    match job {
        Job::Bootstrap => Some(MemberState::InitializingNewCluster),
        Job::Clone { .. } | Job::Reinitialize { .. } => Some(MemberState::CreatingReplica),
        Job::Start(_) => Some(MemberState::Starting),
        Job::Stop { .. } => Some(MemberState::Stopping),
        Job::Restart(_) => Some(MemberState::Restarting),
        Job::Rewind { .. } | Job::Recover | Job::Promote | Job::Follow(_) => None,
    }
}

/// The state after a job has failed; `None`: what is observed tells enough.
fn failed(job: &Job) -> Option<MemberState> {
    match job {
        Job::Bootstrap => Some(MemberState::InitdbFailed),
        Job::Start(_) => Some(MemberState::StartFailed),
        Job::Restart(_) => Some(MemberState::RestartFailed),
        Job::Stop { .. } => Some(MemberState::StopFailed),
        Job::Clone { .. }
        | Job::Reinitialize { .. }
        | Job::Rewind { .. }
        | Job::Recover
        | Job::Promote
        | Job::Follow(_) => None,
    }
}

#[cfg(test)]
#[path = "member_state_tests.rs"]
mod tests;
