//! What a decision to take the lock goes by: it is carried out only as long as that stands.

use super::units::Revision;
use super::view::ClusterView;

/// What a member has seen when it decides to take the lock; as long as that stands, it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LockSeen {
    /// `ClusterView::lock_revision`; `None`: there was no leader key.
    pub lock: Option<Revision>,
    pub status: StatusSeen,
}

/// The status that a decision went by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StatusSeen {
    /// It does not matter.
    #[default]
    Any,
    Absent,
    At(Revision),
}

impl ClusterView {
    /// For a primary whose lock is valid by its own clock, whatever the store remembers of it.
    pub fn lock_seen(&self) -> LockSeen {
        LockSeen { lock: self.lock_revision, status: StatusSeen::Any }
    }

    /// For everybody else: what the last leader said decides who may take the lock, and a leader of since may have said
    /// something else, and be gone too.
    pub fn lock_and_status_seen(&self) -> LockSeen {
        let status = self.status_revision.map_or(StatusSeen::Absent, StatusSeen::At);
        LockSeen { lock: self.lock_revision, status }
    }
}
