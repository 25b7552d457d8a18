//! What a member decides by where nothing is configured. Use: `#[path = "../support/policy.rs"] mod policy;` in the test's
//! root file.

use std::time::Duration;

use tamada::core::policy::{
    ClusterKind, Mode, Pause, Policy, RewindPolicy, SlotSettings, Switch, Synchronous, Timing, UNHURRIED,
};
use tamada::core::units::MemberName;
use tamada::core::view::Tags;

pub fn policy_of(name: MemberName) -> Policy {
    Policy {
        name,
        mode: Mode::Cluster,
        timing: Timing::default(),
        pause: Pause::Running,
        cluster: ClusterKind::Primary,
        maximum_lag_on_failover: 1 << 20,
        primary_start_timeout: Duration::from_secs(300),
        stop_timeout: Duration::from_secs(60),
        stop_limit: UNHURRIED,
        rewind: RewindPolicy::Allowed,
        remove_diverged_data: Switch::On,
        remove_data_after_failed_rewind: Switch::On,
        tags: Tags::default(),
        bootstrap: Switch::On,
        slots: SlotSettings::default(),
        synchronous: Synchronous::default(),
        failsafe: Switch::Off,
    }
}
