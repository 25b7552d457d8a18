//! What this member publishes: how its state is called, what of it stands in the store, and the last reading as the
//! API gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::member_state::Shown;
use super::pace::{self, Pace};
use super::retain::{self, Retained};
use super::status::ClusterStatusDocuments;
use crate::core::local::{DataDir, Job, Postgres};
use crate::core::observation::FinishedJob;
use crate::core::policy::Pause;
use crate::core::units::{Instant, Lsn, MemberName};
use crate::core::view::{ClusterStatus, ClusterView, MemberRole, MemberState};
use crate::dcs::Snapshot;

/// What decides whether a change is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due<'a> {
    pub(super) now: Instant,
    pub(super) leader: Option<&'a MemberName>,
    /// By how much a position may differ from the published one for a while.
    pub(super) step: u64,
}

#[derive(Debug, Default)]
pub(super) struct Publisher {
    shown: Shown,
    /// Our record and the status, as the store has them from us.
    record: Pace<Value>,
    status: Pace<ClusterStatus>,
    retained: Retained,
    /// The last reading as the API gets it.
    documents: Option<(Arc<Snapshot>, Arc<ClusterStatusDocuments>)>,
}

impl Publisher {
    /// A job has ended: a failure shows until something else happens.
    pub(super) fn job_ended(&mut self, ended: &FinishedJob) {
        self.shown.ended(ended);
    }

    /// What our node is, after whatever a cycle has begun.
    pub(super) fn refresh(&mut self, data: &DataDir, postgres: &Postgres, job: Option<&Job>, pause: Pause) {
        self.shown.refresh(data, postgres, job, pause);
    }

    pub(super) fn state(&self) -> MemberState {
        self.shown.state
    }

    pub(super) fn role(&self) -> MemberRole {
        self.shown.role
    }

    /// The lock was won: the status that stands there is another's.
    pub(super) fn begin_term(&mut self, now: Instant, view: &ClusterView) {
        self.retained.inherit(now, view);
        self.status.forget();
    }

    /// Our record as it is to stand in the store now. `optime`: the leader's published position.
    pub(super) fn record_due(&self, record: Value, optime: Option<Lsn>, due: Due<'_>) -> Value {
        let is_wrong = self.record.standing().is_some_and(|old| pace::shows_lag_made_up(old, &record, optime));
        let step = if is_wrong { 0 } else { due.step };
        self.record.due(record, due.now, due.leader, step)
    }

    /// The store has answered that it has this record.
    pub(super) fn record_stands(&mut self, record: Value, now: Instant, leader: Option<&MemberName>) {
        self.record.wrote(record, now, leader);
    }

    /// Whether the store has our record is not known.
    pub(super) fn record_unknown(&mut self) {
        self.record.forget();
    }

    /// A leader's status as it is to stand in the store now; `found`: as it was read.
    pub(super) fn status_due(&mut self, status: ClusterStatus, found: &ClusterStatus, due: Due<'_>) -> ClusterStatus {
        self.status.compare(found);
        self.status.due(status, due.now, due.leader, due.step)
    }

    pub(super) fn status_stands(&mut self, status: ClusterStatus, now: Instant, leader: Option<&MemberName>) {
        self.status.wrote(status, now, leader);
    }

    pub(super) fn status_unknown(&mut self) {
        self.status.forget();
    }

    /// The slots of members that a leader keeps. `slots` are those that the status publishes.
    pub(super) fn retain_slots(
        &mut self,
        now: Instant,
        me: &MemberName,
        view: &ClusterView,
        slots: &BTreeMap<String, Lsn>,
        settings: &retain::Settings<'_>,
    ) -> BTreeSet<String> {
        self.retained.refresh(now, me, view, slots, settings)
    }

    /// After each reading.
    pub(super) fn goes_on(&mut self, now: Instant, view: &ClusterView) {
        self.retained.go_on(now, view);
    }

    pub(super) fn retained(&self) -> BTreeSet<String> {
        self.retained.names().collect()
    }

    /// Made anew only when the reading is another one.
    pub(super) fn cluster_documents(&mut self, reading: &Arc<Snapshot>) -> Arc<ClusterStatusDocuments> {
        match &self.documents {
            Some((last, documents)) if Arc::ptr_eq(last, reading) => documents.clone(),
            Some(_) | None => {
                let documents = Arc::new(ClusterStatusDocuments::of(reading));
                self.documents = Some((reading.clone(), documents.clone()));
                documents
            }
        }
    }
}
