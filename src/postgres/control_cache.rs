//! The control file as it was last read, so that `pg_controldata` is not run for one that has not changed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::controldata::ControlData;
use super::files::Stamp;

#[derive(Default)]
pub(super) struct ControlCache(Mutex<Option<(Stamp, ControlData)>>);

impl ControlCache {
    /// The last reading, and of which file.
    pub(super) fn last(&self) -> Option<(Stamp, ControlData)> {
        self.lock().clone()
    }

    pub(super) fn keep(&self, of: Stamp, data: ControlData) {
        *self.lock() = Some((of, data));
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Stamp, ControlData)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
