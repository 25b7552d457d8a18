//! The API server of the tests, tested: over HTTP as any client would ask it, with kubectl, and with Patroni.

mod access;
mod basics;
mod client;
mod faulty;
mod handle;
#[path = "../support/kube_api/mod.rs"]
mod kube_api;
mod kubectl;
mod lists;
mod patches;
mod patroni;
mod real;
mod serve;
mod validation;
#[path = "../support/wait.rs"]
mod wait;
mod watches;
