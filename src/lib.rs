//! Tamada: highly available PostgreSQL in containers.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::unwrap_used))]

pub mod agent;
pub mod config;
pub mod core;
pub mod dcs;
pub mod init;
pub mod postgres;
pub mod process;
pub mod telemetry;
pub mod wire;
