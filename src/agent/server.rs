//! What is known of the server: its last answer, or what it has to be taken for without one. Pure.

use crate::core::local::{DataDir, Job, LastRole, Postgres, Running};
use crate::core::units::Instant;
use crate::postgres::{Probe, ServerFacts};

#[derive(Debug)]
pub(super) struct Server {
    probe: Probe,
    /// The role that the server has to be taken for while it does not answer.
    silent_as: LastRole,
    /// The postmaster whose exit began a cycle; not waited for again while it seems to live on.
    exit_seen: Option<i32>,
}

impl Server {
    /// Before the first answer nothing is known: the server counts as a primary that does not answer.
    pub(super) fn not_probed_yet(now: Instant) -> Self {
        let probe = Probe {
            data: DataDir::Unusable("it has not been looked at yet".to_owned()),
            postgres: Postgres::Unresponsive { since: now, role: LastRole::Primary },
            facts: ServerFacts::default(),
        };
        Server { probe, silent_as: LastRole::Primary, exit_seen: None }
    }

    pub(super) fn probe(&self) -> &Probe {
        &self.probe
    }

    /// `None`: no answer.
    pub(super) fn take_probe(&mut self, probe: Option<Probe>, job: Option<&Job>, now: Instant) {
        let Some(probe) = probe else {
            self.probe.postgres = self.without_answer(now);
            return;
        };
        self.silent_as = match &probe.postgres {
            _ if job.is_some_and(Job::may_make_primary) => LastRole::Primary,
            Postgres::Running(Running::Primary(_)) => LastRole::Primary,
            Postgres::Running(Running::Standby(_)) | Postgres::Stopped => LastRole::Standby,
            Postgres::Starting { role, .. } | Postgres::Unresponsive { role, .. } => *role,
            Postgres::Stopping => self.silent_as,
        };
        self.probe = probe;
    }

    /// "Stopped" and "a standby" are facts of one observation: without an answer neither holds any longer, and after a
    /// job that could make it a primary the server counts as one.
    fn without_answer(&self, now: Instant) -> Postgres {
        match self.probe.postgres.clone() {
            Postgres::Running(_) | Postgres::Stopped => Postgres::Unresponsive { since: now, role: self.silent_as },
            Postgres::Starting { since, .. } => Postgres::Starting { since, role: self.silent_as },
            Postgres::Unresponsive { since, .. } => Postgres::Unresponsive { since, role: self.silent_as },
            Postgres::Stopping => Postgres::Stopping,
        }
    }

    /// From the beginning of a job on that may make it a primary.
    pub(super) fn job_begins(&mut self, job: &Job) {
        if job.may_make_primary() {
            self.silent_as = LastRole::Primary;
        }
    }

    /// The postmaster whose exit begins a cycle: one that runs by the last probe, unless a job ends it anyhow.
    pub(super) fn exit_to_wait_for(&self, job: Option<&Job>) -> Option<i32> {
        let pid = self.probe.facts.postmaster_pid.unwrap_or(0);
        match &self.probe.postgres {
            Postgres::Stopped => None,
            Postgres::Running(_) | Postgres::Starting { .. } | Postgres::Unresponsive { .. } | Postgres::Stopping => {
                (job.is_none() && self.exit_seen != Some(pid)).then_some(pid)
            }
        }
    }

    pub(super) fn exited(&mut self, pid: Option<i32>) {
        self.exit_seen = pid;
    }
}
