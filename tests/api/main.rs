//! The REST API over real sockets: a server on loopback, with the test at the loop's end of the mailbox.

mod access;
mod checks;
mod command;
mod control;
mod crowd;
mod ctl;
mod ctl_kubernetes;
mod ctl_remove;
#[path = "../support/etcd.rs"]
mod etcd;
// Unit tests of the library use more of it than is used here.
#[allow(dead_code)]
mod fixture;
#[path = "../support/kube_api/mod.rs"]
mod kube_api;
#[path = "../support/kubernetes_config.rs"]
mod kubernetes_config;
mod server;
mod switchover;
mod tls;
