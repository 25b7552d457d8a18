//! Sessions with another server than our own.

use std::path::PathBuf;
use std::time::Duration;

use super::PostgresError;
use super::connect::{self, Host, Session, Target, Whose};
use super::local::LocalPostgres;
use crate::config::Credentials;
use crate::core::view::Address;

impl LocalPostgres {
    /// A session with another server, in the database of its address. Of several hosts it is the first that takes writes.
    pub(super) async fn connect_to(
        &self,
        address: &Address,
        credentials: &Credentials,
    ) -> Result<Session, PostgresError> {
        if !address.host.contains(',') {
            return self.connect_to_one(address, credentials).await;
        }
        let mut refusals = Vec::new();
        for host in address.host.split(',') {
            let one = Address { host: host.to_owned(), ..address.clone() };
            match self.connect_to_one(&one, credentials).await {
                Ok(session) => match session.value("SELECT pg_is_in_recovery()").await {
                    Ok(answer) if answer.as_deref() == Some("f") => return Ok(session),
                    Ok(_) => refusals.push(format!("{host} takes no writes")),
                    Err(error) => refusals.push(format!("{host}: {}", connect::explain(&error))),
                },
                Err(error) => refusals.push(error.to_string()),
            }
        }
        Err(PostgresError::failed(format!("connect to {}:{}", address.host, address.port), refusals.join("; ")))
    }

    async fn connect_to_one(&self, address: &Address, credentials: &Credentials) -> Result<Session, PostgresError> {
        let target = Target {
            host: host_of(&address.host),
            port: address.port,
            database: &address.database,
            application_name: format!("tamada {}", self.name()),
            statement_timeout: Duration::from_secs(2),
            whose: Whose::AnotherMembers,
        };
        let session = connect::connect(&target, credentials).await;
        session.map_err(|c| PostgresError::failed(format!("connect to {}:{}", address.host, address.port), c))
    }
}

fn host_of(host: &str) -> Host {
    if host.starts_with('/') { Host::Socket(PathBuf::from(host)) } else { Host::Tcp(host.to_owned()) }
}
