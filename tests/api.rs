//! The REST API over real sockets: a server on loopback, with the test at the loop's end of the mailbox.

#[path = "api/access.rs"]
mod access;
#[path = "api/checks.rs"]
mod checks;
#[path = "api/control.rs"]
mod control;
#[path = "api/ctl.rs"]
mod ctl;
#[path = "support/etcd.rs"]
mod etcd;
// Unit tests of the library use more of it than is used here.
#[allow(dead_code)]
#[path = "api/fixture.rs"]
mod fixture;
#[path = "api/server.rs"]
mod server;
#[path = "api/switchover.rs"]
mod switchover;
#[path = "api/tls.rs"]
mod tls;
