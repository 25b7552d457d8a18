//! What PID 1 may do once it is set up, and what nobody below it may come by.
//!
//! Children inherit `no_new_privs` and the empty bounding set: no setuid program and no file capability gives the agent,
//! PostgreSQL or a hook more than they have. PID 1 itself keeps what it needs to start an agent as another user and to
//! kill what belongs to that user.

use super::sys::{self, Capability};

const KEPT: [Capability; 3] = [Capability::KILL, Capability::SETGID, Capability::SETUID];

/// Whether processes below PID 1 can gain privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privileges {
    Sealed,
    /// `TAMADA_NO_NEW_PRIVS=off`: hooks use sudo.
    Gainable,
}

impl Privileges {
    /// What the variable says. A word that is no switch is for the agent to refuse.
    pub(super) fn of(word: Option<&str>) -> Self {
        match word.map(str::to_ascii_lowercase).as_deref() {
            Some("off" | "false" | "no" | "0") => Privileges::Gainable,
            Some(_) | None => Privileges::Sealed,
        }
    }

    /// After all that needs more, and before the first child.
    pub(super) fn narrow(self) -> std::io::Result<()> {
        sys::clear_ambient_capabilities();
        if self == Privileges::Sealed {
            sys::set_no_new_privileges()?;
            sys::clear_bounding_set();
        }
        sys::keep_capabilities(&KEPT)
    }
}
