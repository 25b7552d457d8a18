//! Real PostgreSQL servers, of every major version found, under the hands of `LocalPostgres`.

#[path = "../support/unprivileged.rs"]
mod unprivileged;

#[path = "../support/installations.rs"]
mod installations;

mod support;

mod lifecycle;

mod crash;

mod clone;

mod hooks;

mod libpq;

mod rewind;

mod slow_link;
mod takeover;

mod settings;

mod slots;

mod sockets;

mod tls;

#[path = "../support/wait.rs"]
mod wait;
