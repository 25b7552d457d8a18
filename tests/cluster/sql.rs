//! A client of PostgreSQL that blocks, and never for long.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

const PATIENCE: Duration = Duration::from_secs(5);

pub struct Sql {
    runtime: Runtime,
    client: Client,
    patience: Duration,
}

impl Sql {
    pub fn connect(address: SocketAddr, user: &str, password: &str) -> Result<Sql, String> {
        Self::connect_within(PATIENCE, address, user, password)
    }

    pub fn connect_within(patience: Duration, address: SocketAddr, user: &str, password: &str) -> Result<Sql, String> {
        let mut config = Config::new();
        config.host(address.ip().to_string()).port(address.port()).user(user).password(password).dbname("postgres");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (client, connection) = within(&runtime, patience, config.connect(NoTls))?;
        runtime.spawn(async move { drop(connection.await) });
        Ok(Sql { runtime, client, patience })
    }

    /// The rows of the last statement.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        let messages = within(&self.runtime, self.patience, self.client.simple_query(sql))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The first value of the first row, empty without one.
    pub fn value(&self, sql: &str) -> Result<String, String> {
        let rows = self.rows(sql)?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).unwrap_or_default())
    }
}

fn within<T>(
    runtime: &Runtime,
    patience: Duration,
    attempt: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, String> {
    match runtime.block_on(async { tokio::time::timeout(patience, attempt).await }) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(match error.as_db_error() {
            Some(error) => format!("{} ({})", error.message(), error.code().code()),
            None => format!("{error:?}"),
        }),
        Err(_) => Err(format!("no answer within {patience:?}")),
    }
}
