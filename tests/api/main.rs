//! The REST API over real sockets: a server on loopback, with the test at the loop's end of the mailbox.

mod access;
mod checks;
mod control;
mod crowd;
mod ctl;
#[path = "../support/etcd.rs"]
mod etcd;
// Unit tests of the library use more of it than is used here.
#[allow(dead_code)]
mod fixture;
mod server;
mod switchover;
mod tls;
