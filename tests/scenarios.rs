//! What a member does in one situation each: an observation from small constructors, `decide`, and the decision.

#[path = "scenarios/build.rs"]
mod build;
#[path = "scenarios/follower.rs"]
mod follower;
#[path = "scenarios/leader.rs"]
mod leader;
#[path = "scenarios/planned.rs"]
mod planned;
#[path = "scenarios/stale.rs"]
mod stale;
#[path = "scenarios/stopped.rs"]
mod stopped;
#[path = "scenarios/unlocked.rs"]
mod unlocked;
