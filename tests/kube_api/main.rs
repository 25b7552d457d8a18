//! The API server of the tests, tested: over HTTP as any client would ask it, with kubectl, and with Patroni.

mod basics;
mod client;
#[path = "../support/kube_api/mod.rs"]
mod kube_api;
mod patches;
mod serve;
