//! Which changes a member should act on. The same rule for every backend.

use super::Snapshot;
use crate::core::units::{MemberName, Revision};
use crate::core::view::{AfterPromote, Member, MemberKind, MemberRole, MemberState, ReplicationState};

/// Whether changes are heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum WatchState {
    /// Not alive yet, for the first time.
    #[default]
    Starting,
    Alive,
    Lost,
}

impl WatchState {
    /// Whether going from one state to the other is a change of its own. The first beginning is none.
    pub(super) fn has_turned(self, now: WatchState) -> bool {
        self != now && self != WatchState::Starting
    }
}

/// Whether somebody else's change from `old` to `new` is one to wake up for. A change of `status` is, while a Patroni
/// member is present that follows it.
pub(super) fn matters(old: &Snapshot, new: &Snapshot, own: &MemberName) -> bool {
    old.losses != new.losses
        || old.view.leader != new.view.leader
        || old.view.initialize != new.view.initialize
        || revision(&old.documents.config) != revision(&new.documents.config)
        || revision(&old.documents.switchover) != revision(&new.documents.switchover)
        || old.view.sync != new.view.sync
        || others(old, own).ne(others(new, own))
        || (old.view.status != new.view.status && has_patroni_member(new, own))
}

fn revision(document: &Option<super::Document>) -> Option<Revision> {
    document.as_ref().map(|document| document.revision)
}

type Face<'a> = (&'a MemberName, MemberState, MemberRole, AfterPromote, Option<ReplicationState>, bool);

fn others<'a>(snapshot: &'a Snapshot, own: &'a MemberName) -> impl Iterator<Item = Face<'a>> {
    let face = |member: &'a Member| {
        let (state, role) = (member.state, member.role);
        (&member.name, state, role, member.checkpoint, member.replication, member.tags.is_nosync())
    };
    snapshot.view.members.values().filter(move |member| member.name != *own).map(face)
}

fn has_patroni_member(snapshot: &Snapshot, own: &MemberName) -> bool {
    snapshot.view.members.values().any(|member| member.name != *own && member.kind == MemberKind::Patroni)
}
