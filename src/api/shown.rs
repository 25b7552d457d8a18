//! What this member shows of its PostgreSQL, in the status document and to the health checks alike. Pure.

use crate::agent::status::Status;
use crate::core::view::{MemberRole, MemberState};

/// The role that the document shows: what PostgreSQL says, else the one in memory.
pub(super) fn shown_role(status: &Status) -> MemberRole {
    match status.postgres.in_recovery.filter(|_| shows_postgres(status)) {
        Some(false) => MemberRole::Primary,
        Some(true) if status.role == MemberRole::StandbyLeader => MemberRole::StandbyLeader,
        Some(true) => MemberRole::Replica,
        None => status.role,
    }
}

/// The state that the document shows: a server that should run but gave no answer is `unknown`.
pub(super) fn shown_state(status: &Status) -> MemberState {
    match status.state {
        MemberState::Running if status.postgres.in_recovery.is_none() => MemberState::Unknown,
        state => state,
    }
}

/// Whether PostgreSQL can be expected to answer in this state.
pub(super) fn may_answer(state: MemberState) -> bool {
    matches!(state, MemberState::Running | MemberState::Restarting | MemberState::Starting)
}

pub(super) fn shows_postgres(status: &Status) -> bool {
    may_answer(status.state) && status.postgres.in_recovery.is_some()
}
