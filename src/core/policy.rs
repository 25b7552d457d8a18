//! The settings that decisions depend on, already merged and checked by `config`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::units::MemberName;
use super::upstream::Source;
use super::view::{ClusterView, MemberKind, Tags};

/// How long a stop that nothing hurries may take before it escalates.
pub const UNHURRIED: Duration = Duration::from_secs(3600);

/// What one member decides by, for one cycle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    pub name: MemberName,
    pub mode: Mode,
    pub timing: Timing,
    pub pause: Pause,
    pub cluster: ClusterKind,
    /// In bytes.
    pub maximum_lag_on_failover: u64,
    /// How long a crashed primary may take to start in place; zero: fail over at once.
    pub primary_start_timeout: Duration,
    /// How long a stop of this member may take in all; whoever asked for it kills the member afterwards.
    pub stop_timeout: Duration,
    /// How long the stop of a primary may take that nothing hurries: in synchronous mode `primary_stop_timeout`, if that
    /// is set. Its standbys have every commit that was confirmed.
    pub stop_limit: Duration,
    pub rewind: RewindPolicy,
    /// Remove a diverged data directory and clone anew when pg_rewind may not be used.
    pub remove_diverged_data: Switch,
    /// The same when pg_rewind has failed.
    pub remove_data_after_failed_rewind: Switch,
    pub tags: Tags,
    /// May this member initialise a new cluster?
    pub bootstrap: Switch,
    pub slots: SlotSettings,
    pub synchronous: Synchronous,
    /// `failsafe_mode`.
    pub failsafe: Switch,
}

/// What the cluster's configuration says about synchronous replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Synchronous {
    pub mode: SyncMode,
    /// Whether commits wait where there is no synchronous standby.
    pub strict: Switch,
    /// How many standbys are to confirm a commit.
    pub node_count: usize,
    /// In bytes: a standby that is further behind is not chosen. `None`: however far it is behind.
    pub maximum_lag: Option<u64>,
}

/// `synchronous_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncMode {
    Off,
    /// The chosen standbys confirm each commit, and they alone may take over.
    Priority,
    /// Some of the standbys confirm a commit; who wants to take over has to compare itself with enough of them.
    Quorum,
}

/// As without any configuration.
impl Default for Synchronous {
    fn default() -> Self {
        Synchronous { mode: SyncMode::Off, strict: Switch::Off, node_count: 1, maximum_lag: None }
    }
}

/// What the cluster's configuration says about replication slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlotSettings {
    pub use_slots: Switch,
    /// Whether slots of members that stream from elsewhere are kept (`member_slots_ttl` is not zero).
    pub keep_for_failover: Switch,
    /// By name: those that are there whether or not somebody uses them.
    pub permanent: BTreeMap<String, PermanentSlot>,
    pub ignored: Vec<IgnoredSlot>,
}

/// As without any configuration.
impl Default for SlotSettings {
    fn default() -> Self {
        SlotSettings {
            use_slots: Switch::On,
            keep_for_failover: Switch::On,
            permanent: BTreeMap::new(),
            ignored: Vec::new(),
        }
    }
}

/// An entry of `slots`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PermanentSlot {
    Physical,
    Logical { database: String, plugin: String },
}

/// An entry of `ignore_slots`: each property that is given has to match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct IgnoredSlot {
    pub name: Option<String>,
    pub kind: Option<String>,
    pub database: Option<String>,
    pub plugin: Option<String>,
}

/// Whether the member has a DCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// One of a cluster.
    Cluster,
    /// A plain server with the in-process DCS: starts as a primary, has no lease to lose.
    Single,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Switch {
    On,
    Off,
}

impl Switch {
    pub fn is_on(self) -> bool {
        self == Switch::On
    }
}

impl From<bool> for Switch {
    fn from(on: bool) -> Self {
        if on { Switch::On } else { Switch::Off }
    }
}

/// What the lock is good for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClusterKind {
    /// Whoever holds it is the primary.
    Primary,
    /// `standby_cluster`: whoever holds it follows this source and the others follow it; nobody takes writes.
    Standby(Source),
}

impl ClusterKind {
    pub fn source(&self) -> Option<&Source> {
        match self {
            ClusterKind::Primary => None,
            ClusterKind::Standby(source) => Some(source),
        }
    }
}

/// `pause` in the cluster's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pause {
    Running,
    Paused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RewindPolicy {
    Allowed,
    Forbidden,
}

/// The three timers, as set or as in force, and what a watchdog makes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    pub ttl: Duration,
    pub loop_wait: Duration,
    pub retry_timeout: Duration,
    /// How long before the lease's end an armed watchdog resets the machine; zero without one.
    pub reset_before: Duration,
}

impl std::fmt::Display for Timing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Timing { ttl, loop_wait, retry_timeout, reset_before: _ } = self;
        write!(f, "ttl {ttl:?}, loop_wait {loop_wait:?}, retry_timeout {retry_timeout:?}")
    }
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Timing { ttl: seconds(30), loop_wait: seconds(10), retry_timeout: seconds(10), reset_before: Duration::ZERO }
    }
}

/// The smallest timers that every member of a cluster can keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Floor {
    /// All members are ours: ttl 5 s, loop_wait 1 s, retry_timeout 1 s.
    Ours,
    /// A Patroni member, or one of unknown kind, is present: 20 s, 1 s, 3 s.
    Patroni,
}

impl Floor {
    /// The floor that the members present impose.
    pub fn of(view: &ClusterView) -> Self {
        match view.members.values().all(|member| member.kind == MemberKind::Ours) {
            true => Floor::Ours,
            false => Floor::Patroni,
        }
    }

    fn minima(self) -> Timing {
        let seconds = Duration::from_secs;
        match self {
            Floor::Ours => Timing {
                ttl: seconds(5),
                loop_wait: seconds(1),
                retry_timeout: seconds(1),
                reset_before: Duration::ZERO,
            },
            Floor::Patroni => Timing {
                ttl: seconds(20),
                loop_wait: seconds(1),
                retry_timeout: seconds(3),
                reset_before: Duration::ZERO,
            },
        }
    }
}

impl Timing {
    /// The timers in force: raised to the floor, then `loop_wait + 2 * retry_timeout <= ttl` by giving up loop_wait
    /// first. Whole seconds, since leases are granted in seconds.
    pub fn effective(self, floor: Floor) -> Timing {
        let minima = floor.minima();
        let ttl = self.ttl.max(minima.ttl).as_secs();
        let mut loop_wait = self.loop_wait.max(minima.loop_wait).as_secs();
        let mut retry_timeout = self.retry_timeout.max(minima.retry_timeout).as_secs();
        if 1 + 2 * retry_timeout > ttl {
            loop_wait = 1;
            retry_timeout = (ttl - 1) / 2;
        } else if loop_wait + 2 * retry_timeout > ttl {
            loop_wait = ttl - 2 * retry_timeout;
        }
        let seconds = Duration::from_secs;
        Timing {
            ttl: seconds(ttl),
            loop_wait: seconds(loop_wait),
            retry_timeout: seconds(retry_timeout),
            reset_before: Duration::ZERO,
        }
    }

    /// How long before the lease's end the guard kills: the time a kill takes and the drift of two clocks.
    pub fn guard_margin(&self) -> Duration {
        (self.ttl / 20).clamp(Duration::from_millis(250), Duration::from_secs(1))
    }

    /// How long before the guard's deadline a primary that could not renew begins an orderly stop: in time for its end to come
    /// before a watchdog's, too.
    pub fn stop_margin(&self) -> Duration {
        self.stop_time() + self.reset_before
    }

    /// What a stop takes.
    fn stop_time(&self) -> Duration {
        (self.ttl / 10).clamp(Duration::from_millis(500), Duration::from_secs(2))
    }

    /// The timers with a watchdog that resets the machine so long before the lease's end. The next renewal must be possible
    /// before a stop begins: where the watchdog leaves no time for both, the stop comes later than its end.
    pub fn with_watchdog(self, reset_before: Duration) -> Timing {
        let needed = self.loop_wait + Duration::from_secs(1) + self.stop_time() + self.guard_margin();
        Timing { reset_before: reset_before.min(self.ttl.saturating_sub(needed)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(ttl: u64, loop_wait: u64, retry_timeout: u64) -> Timing {
        let seconds = Duration::from_secs;
        Timing {
            ttl: seconds(ttl),
            loop_wait: seconds(loop_wait),
            retry_timeout: seconds(retry_timeout),
            reset_before: Duration::ZERO,
        }
    }

    #[test]
    fn timers_are_adjusted_as_in_patroni() {
        let cases = [
            ((30, 10, 10), (30, 10, 10)),
            ((25, 10, 10), (25, 5, 10)),
            ((20, 10, 10), (20, 1, 9)),
            ((10, 0, 1), (20, 1, 3)),
            ((30, 20, 10), (30, 10, 10)),
            ((61, 10, 40), (61, 1, 30)),
        ];
        for ((t, l, r), (et, el, er)) in cases {
            assert_eq!(timing(t, l, r).effective(Floor::Patroni), timing(et, el, er));
        }
    }

    #[test]
    fn a_stop_is_over_before_a_watchdog_ends_and_begins_after_a_renewal_was_possible() {
        let seconds = Duration::from_secs;
        let stop_begins = |reset_before| {
            let timing = Timing::default().with_watchdog(seconds(reset_before));
            (timing.ttl - timing.guard_margin() - timing.stop_margin()).as_secs()
        };
        assert_eq!((stop_begins(0), stop_begins(5)), (27, 22), "of 30, with a reset after 25");
        assert_eq!(stop_begins(15), 12, "with a reset after 15");
        assert_eq!(stop_begins(20), 11, "loop_wait is 10");
        assert_eq!(timing(5, 1, 1).with_watchdog(seconds(60)).stop_margin(), Duration::from_millis(2_750));
    }

    #[test]
    fn our_own_clusters_may_go_lower() {
        assert_eq!(timing(5, 1, 1).effective(Floor::Ours), timing(5, 1, 1));
        assert_eq!(timing(1, 0, 0).effective(Floor::Ours), timing(5, 1, 1));
        assert_eq!(timing(5, 1, 1).effective(Floor::Patroni), timing(20, 1, 3));
    }
}
