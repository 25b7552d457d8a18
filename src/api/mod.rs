//! The REST API.

mod amounts;
pub mod document;
pub mod health;
pub mod query;

#[cfg(test)]
#[path = "../../tests/api/fixture.rs"]
mod fixture;
