//! Real PostgreSQL servers, of every major version found, under the hands of `LocalPostgres`.

#[path = "support/unprivileged.rs"]
mod unprivileged;

#[path = "support/installations.rs"]
mod installations;

#[path = "postgres/support.rs"]
mod support;

#[path = "postgres/lifecycle.rs"]
mod lifecycle;

#[path = "postgres/crash.rs"]
mod crash;

#[path = "postgres/clone.rs"]
mod clone;

#[path = "postgres/rewind.rs"]
mod rewind;

#[path = "postgres/takeover.rs"]
mod takeover;

#[path = "postgres/settings.rs"]
mod settings;

#[path = "postgres/tls.rs"]
mod tls;
