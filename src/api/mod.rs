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
mod shown;
mod state;
mod switchover;
mod times;
mod tls;
pub mod types;

pub use server::{Options, Running, Server, start};
pub use state::LogGauge;

use crate::config::{CtlConfig, HostPort, RestConfig, Unusable, Weight};
use crate::http::{Caller, Client, HttpError, signs_clients_alone};

/// Why the API could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("cannot listen on {listen} for the REST API: {cause}")]
    Listen { listen: HostPort, cause: std::io::Error },
    #[error("cannot use {setting} for the REST API: {given}")]
    Tls { setting: &'static str, given: String },
    #[error("{setting}: {name:?} cannot be a header with the value given")]
    Header { setting: &'static str, name: String },
    #[error("cannot start the REST API's thread: {0}")]
    Thread(std::io::Error),
}

/// What of these settings cannot be used: certificates, keys, authorities, ciphers and headers, both of the API and of
/// requests to other members, where a person's need the most.
pub fn problems(rest: &RestConfig, ctl: &CtlConfig) -> Vec<Unusable> {
    let api = settings::check(rest).err().and_then(|error| match error {
        ApiError::Tls { setting, given } => Some(unusable(setting, given)),
        ApiError::Header { setting, name } => Some(unusable(setting, format!("the header {name:?} cannot be sent"))),
        ApiError::Listen { .. } | ApiError::Thread(_) => None,
    });
    let requests = Client::new(Caller::Operator, ctl, rest).err().and_then(|error| match error {
        HttpError::Setting { setting, given } => Some(unusable(setting, given)),
        HttpError::Url(_)
        | HttpError::Connect { .. }
        | HttpError::Tls { .. }
        | HttpError::Broken { .. }
        | HttpError::TooLong { .. } => None,
    });
    let of_clients = signs_clients_alone(ctl, rest.tls.as_ref()).then(|| Unusable {
        setting: "restapi.cafile",
        given: "these authorities have not signed the certificate of restapi.certfile, so members do not verify each \
                other's certificates, and commands refuse them"
            .to_owned(),
        accepted: "set PATRONI_CTL_CACERT to the authorities that have signed them",
        weight: Weight::Warning,
    });
    api.into_iter().chain(requests).chain(of_clients).collect()
}

fn unusable(setting: &'static str, given: String) -> Unusable {
    let accepted = match setting.rsplit('.').next() {
        Some("certfile") => "a certificate in PEM, followed by those that it was signed with",
        Some("keyfile") => "the certificate's key in PEM, and its password in keyfile_password where it has one",
        Some("cafile" | "cacert") => "certificates of authorities in PEM",
        Some("ciphers") => "a list of ciphers as OpenSSL takes it (openssl ciphers -v)",
        _ => "what HTTP and OpenSSL take",
    };
    Unusable { setting, given, accepted, weight: Weight::Error }
}

#[cfg(test)]
#[path = "../../tests/api/fixture.rs"]
mod fixture;
