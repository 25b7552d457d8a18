//! What a member does in one situation each: an observation from small constructors, `decide`, and the decision.

mod amnesia;
mod authority;
mod build;
mod follower;
mod leader;
mod outage;
mod planned;
mod race;
mod shutdown;
mod slots;
mod stale;
mod stopped;
mod unknown;
mod unlocked;
mod upkeep;
