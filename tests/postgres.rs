//! Real PostgreSQL servers, of every major version found, under the hands of `LocalPostgres`.

#[path = "support/unprivileged.rs"]
mod unprivileged;

#[path = "postgres/support.rs"]
mod support;

#[path = "postgres/lifecycle.rs"]
mod lifecycle;
