//! Tamada: highly available PostgreSQL in containers.

pub mod agent;
pub mod config;
pub mod core;
pub mod dcs;
pub mod postgres;
pub mod wire;
