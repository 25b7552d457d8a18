//! What a member does in one situation each: an observation from small constructors, `decide`, and the decision.

mod abandoned;
mod amnesia;
mod authority;
mod branches;
mod build;
mod busy;
mod follower;
mod hooks;
mod invariants;
mod leader;
mod memory;
mod outage;
mod pause;
mod permanent_slots;
mod planned;
#[path = "../support/policy.rs"]
mod policy;
mod quorum;
mod race;
mod repair;
mod shutdown;
mod single;
mod slots;
mod stale;
mod standby_cluster;
mod stopped;
mod synchronous;
mod trees;
mod unawares;
mod unknown;
mod unlocked;
mod upkeep;
mod watchdog;
