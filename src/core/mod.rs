//! The decisions. Pure: no async, no clock, no environment, no files, no logging, no randomness.

pub mod decision;
pub mod local;
pub mod observation;
pub mod policy;
pub mod reason;
pub mod units;
pub mod view;
