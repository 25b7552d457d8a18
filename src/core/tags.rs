//! The tags of a member that decisions look at.

use super::units::MemberName;

/// The tags that steer decisions, already interpreted. Own tags stay with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tags {
    /// 0 means that the member never becomes leader (`nofailover`).
    pub failover_priority: i32,
    pub noloadbalance: bool,
    pub clonefrom: bool,
    /// 0 means that no commit ever waits for the member (`nosync`); the higher, the sooner it is chosen.
    pub sync_priority: i32,
    /// It streams from nobody: its WAL comes from the archive alone.
    pub nostream: bool,
    /// The member that it streams from in place of the leader.
    pub replicatefrom: Option<MemberName>,
}

impl Default for Tags {
    fn default() -> Self {
        Tags {
            failover_priority: 1,
            noloadbalance: false,
            clonefrom: false,
            sync_priority: 1,
            nostream: false,
            replicatefrom: None,
        }
    }
}

impl Tags {
    pub fn is_nofailover(&self) -> bool {
        self.failover_priority <= 0
    }

    pub fn is_nosync(&self) -> bool {
        self.sync_priority <= 0
    }
}
