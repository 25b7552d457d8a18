//! The decisions. Pure: no async, no clock, no environment, no files, no logging, no randomness.

pub mod decision;
pub mod local;
pub mod observation;
pub mod policy;
pub mod reason;
pub mod units;
pub mod view;

/// The version of Patroni whose documents and behaviour ours match: `version` in member records and in the API.
pub const REFERENCE_VERSION: &str = "4.1.5";
