//! Where our newest timeline began, as its history file says. The file is read beside the loop, once for each timeline.

use super::background_task::{AtEnd, BackgroundTask, Report};
use super::cycle::Agent;
use crate::core::local::{DataDir, Postgres, Running};
use crate::core::policy::Mode;
use crate::core::units::{Branch, Timeline};
use crate::dcs::Dcs;
use crate::postgres::{Instance, Probe};

impl<D: Dcs, I: Instance> Agent<D, I> {
    /// A file that is not there is looked for once a cycle; without it only the timeline's number counts.
    pub(super) fn read_branch(&mut self) {
        let Some(timeline) = timeline(self.server.probe()).filter(|timeline| timeline.0 > 1) else { return };
        if self.branch.is_of(timeline) || self.settings.mode() == Mode::Single {
            return;
        }
        // The first answer is shown at once, since an election or a hand-over may be under way.
        let at_end = if self.branch.asks_again(timeline) { AtEnd::Wait } else { AtEnd::Wake };
        let (shared, replaced) = (self.shared.clone(), self.branch.replaced());
        let work = async move {
            match shared.instance.history(timeline).await {
                Ok(entries) => entries.last().map_or(Report::Done, |last| Report::Branch {
                    replaced,
                    branch: Branch { timeline, began: last.at },
                }),
                Err(error) => {
                    tracing::debug!("cannot tell where timeline {timeline} began: {error}");
                    Report::Done
                }
            }
        };
        self.background.begin(BackgroundTask::ReadBranch, at_end, work);
    }
}

fn timeline(probe: &Probe) -> Option<Timeline> {
    match (&probe.postgres, &probe.data) {
        (Postgres::Running(Running::Primary(facts)), _) => Some(facts.timeline),
        (Postgres::Running(Running::Standby(facts)), _) => facts.timeline,
        (Postgres::Stopped, DataDir::Present(data)) => data.control.as_ref().map(|control| control.timeline),
        (Postgres::Stopped | Postgres::Starting { .. } | Postgres::Unresponsive { .. } | Postgres::Stopping, _) => None,
    }
}
