//! Tamada: highly available PostgreSQL in containers.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::unwrap_used))]

pub mod agent;
pub mod api;
pub mod boottime;
pub mod config;
pub mod core;
pub mod ctl;
pub mod dcs;
pub mod environment;
pub mod http;
pub mod init;
pub mod mounts;
pub mod postgres;
pub mod process;
pub mod run;
pub mod telemetry;
pub mod wire;

// Test fixtures are shared with the integration tests and name the crate as those do.
#[cfg(test)]
extern crate self as tamada;
