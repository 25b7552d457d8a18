//! What PID 1 was told: until when PostgreSQL may be a primary, the lease, the postmaster. It acts by the last word
//! when this agent is gone, so each change is sent at once, and nothing is sent twice.

use std::sync::Arc;

use super::init_link::InitLink;
use crate::core::local::Guard;
use crate::core::units::Instant;
use crate::dcs::LeaseToken;

pub(super) struct Fence {
    init: Arc<dyn InitLink>,
    guard: Guard,
    lease: Option<LeaseToken>,
    postmaster: Option<i32>,
}

impl Fence {
    /// `guard`: what PID 1 goes by already, from an earlier agent.
    pub(super) fn new(init: Arc<dyn InitLink>, guard: Guard) -> Self {
        Fence { init, guard, lease: None, postmaster: None }
    }

    pub(super) fn guard(&self) -> Guard {
        self.guard
    }

    pub(super) fn set_guard(&mut self, guard: Guard) {
        if guard != self.guard {
            self.init.guard(guard);
            self.guard = guard;
        }
    }

    /// An earlier deadline replaces the one in force; a later one does not, and none is set where there was none.
    pub(super) fn bring_forward(&mut self, deadline: Instant) {
        if let Guard::Until(in_force) = self.guard
            && deadline < in_force
        {
            self.set_guard(Guard::Until(deadline));
        }
    }

    /// PID 1 keeps the lease for the next agent.
    pub(super) fn tell_lease(&mut self, lease: Option<LeaseToken>) {
        if let Some(lease) = lease.filter(|lease| self.lease.as_ref() != Some(lease)) {
            self.init.lease(&lease);
            self.lease = Some(lease);
        }
    }

    pub(super) fn tell_postmaster(&mut self, pid: Option<i32>) {
        if self.postmaster != pid {
            self.init.postmaster(pid);
            self.postmaster = pid;
        }
    }
}
