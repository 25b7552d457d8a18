//! The REST API: health checks for load balancers, information for people and peers, requests to the loop.
//!
//! It reads the last `Status` and posts `Request`s; it never touches PostgreSQL or the DCS itself. It runs on a thread
//! with a runtime of its own, so that no flood of requests delays the HA loop.
//!
//! **Invariants:** a health check never asks anybody, except where its answer is read as a vote (`/`, `/patroni`,
//! `lag=`); connections, waiting requests, bodies and waits are bounded.

mod access;
mod answer;
mod ask;
pub mod clock;
mod configuration;
mod control;
pub mod document;
pub mod health;
mod members;
mod metrics;
mod places;
pub mod query;
mod routes;
mod server;
mod service;
mod settings;
mod state;
mod switchover;
mod times;
mod tls;
pub mod types;

pub use server::{Options, Running, Server, start};

use crate::config::{Config, HostPort};
use crate::http::{Caller, Client};

/// Why the API could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("cannot listen on {listen} for the REST API: {cause}")]
    Listen { listen: HostPort, cause: std::io::Error },
    #[error("cannot load the REST API's certificate {certfile}: {cause}")]
    Tls { certfile: String, cause: tls::TlsCause },
    #[error("{setting}: {name:?} cannot be a header with the value given")]
    Header { setting: &'static str, name: String },
    #[error("cannot start the REST API's thread: {0}")]
    Thread(std::io::Error),
}

/// What of the configuration cannot be used: certificates, keys, authorities, ciphers and headers, both of the API and
/// of requests to other members, where a person's need the most.
pub fn problems(config: &Config) -> Vec<String> {
    let api = settings::check(&config.rest).err().map(|error| error.to_string());
    let requests = Client::new(Caller::Operator, &config.ctl, &config.rest).err().map(|error| error.to_string());
    api.into_iter().chain(requests).collect()
}

#[cfg(test)]
#[path = "../../tests/api/fixture.rs"]
mod fixture;
