//! What a member does in one situation each: an observation from small constructors, `decide`, and the decision.

mod amnesia;
mod build;
mod follower;
mod leader;
mod planned;
mod stale;
mod stopped;
mod unknown;
mod unlocked;
