//! SQL sessions: where they go, as whom, with which settings and with what TLS.
//!
//! A statement that must cost the server exactly one is sent with the
//! simple protocol. A session ends with its value.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{Client, Connection, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::quiet_socket::QuietSocket;
use super::tls::connector;
use super::version::Version;
use super::{PostgresError, own_passfile};
use crate::config::Credentials;

pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// The folder of a Unix socket.
    Socket(PathBuf),
    /// This machine: `localhost` in certificates, the loopback address on the wire, without a name lookup.
    Loopback,
    Tcp(String),
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Host::Socket(dir) => write!(f, "socket in {}", dir.display()),
            Host::Loopback => f.write_str("localhost"),
            Host::Tcp(host) => f.write_str(host),
        }
    }
}

/// Everything about one session but the credentials.
#[derive(Clone, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) database: &'a str,
    pub(crate) application_name: String,
    /// `0`: statements may take for ever.
    pub(crate) statement_timeout: Duration,
    pub(crate) whose: Whose,
}

impl Host {
    /// As a password file may name it.
    fn names(&self) -> Vec<String> {
        match self {
            Host::Socket(folder) => vec!["localhost".to_owned(), folder.to_string_lossy().into_owned()],
            Host::Loopback => vec!["localhost".to_owned()],
            Host::Tcp(host) => vec![host.clone()],
        }
    }
}

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Ours, as the superuser: what we ask is kept out of the statistics.
    Ours,
    /// Another member's, as a role that may not set that.
    AnotherMembers,
}

/// One open session.
pub(crate) struct Session {
    client: Client,
    driver: Option<tokio::task::JoinHandle<()>>,
    pub(crate) version: Option<Version>,
}

/// How long a session may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

impl Drop for Session {
    /// The server is told, so that its log has nothing to complain of; one that does not listen is not waited for.
    fn drop(&mut self) {
        let (Some(mut driver), Ok(runtime)) = (self.driver.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            if tokio::time::timeout(FAREWELL, &mut driver).await.is_err() {
                driver.abort();
            }
        });
    }
}

impl Session {
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The rows of one statement, as text.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, tokio_postgres::Error> {
        let messages = self.client.simple_query(sql).await?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .collect())
    }

    /// The first column of the first row.
    pub(crate) async fn value(&self, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
        let rows = self.rows(sql).await?;
        Ok(rows.first().and_then(|row| row.get(0)).map(str::to_owned))
    }

    pub(crate) async fn run(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }
}

/// What a server's refusal or a broken connection means.
pub(crate) fn is_starting_up(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::CANNOT_CONNECT_NOW)
}

pub(crate) fn is_statement_timeout(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::QUERY_CANCELED)
}

/// An error with everything that the server or the system said; tokio-postgres' own text names the kind alone.
pub(crate) fn explain(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// Opens a session, in at most [`CONNECT_TIMEOUT`].
pub(crate) async fn connect(target: &Target<'_>, credentials: &Credentials) -> Result<Session, ConnectError> {
    let mut config = tokio_postgres::Config::new();
    match &target.host {
        Host::Socket(dir) => config.host_path(dir),
        Host::Loopback => config.host("localhost").hostaddr(std::net::Ipv4Addr::LOCALHOST.into()),
        Host::Tcp(host) => config.host(host),
    };
    config.port(target.port).dbname(target.database).user(&credentials.username);
    config.application_name(&target.application_name).connect_timeout(CONNECT_TIMEOUT);
    let statistics = match target.whose {
        Whose::Ours => " -c pg_stat_statements.track=none",
        Whose::AnotherMembers => "",
    };
    config.options(format!(
        "-c statement_timeout={}{statistics} -c search_path=pg_catalog -c standard_conforming_strings=on \
         -c synchronous_commit=local",
        target.statement_timeout.as_millis()
    ));
    let of_account =
        || own_passfile::password(&target.host.names(), target.port, target.database, &credentials.username);
    if let Some(password) = credentials.password.clone().or_else(of_account) {
        config.password(password.expose());
    }
    let option = |name: &str| credentials.options.get(name).map(String::as_str);
    config.channel_binding(match option("channel_binding") {
        Some("disable") => ChannelBinding::Disable,
        Some("require") => ChannelBinding::Require,
        _ => ChannelBinding::Prefer,
    });
    let opening = async {
        match tls_for(&target.host, option("sslmode")) {
            Tls::Never => match &target.host {
                Host::Socket(dir) => open_socket(&config, &dir.join(format!(".s.PGSQL.{}", target.port))).await,
                Host::Loopback | Host::Tcp(_) => open(&config, SslMode::Disable, NoTls).await,
            },
            Tls::IfAsked => match open(&config, SslMode::Disable, NoTls).await {
                // The server wants TLS of this connection (`hostssl` alone fits).
                Err(ConnectError::Sql(error)) if is_refused_by_hba(&error) => {
                    open(&config, SslMode::Require, connector(credentials).map_err(ConnectError::Tls)?).await
                }
                result => result,
            },
            Tls::IfOffered => open(&config, SslMode::Prefer, connector(credentials).map_err(ConnectError::Tls)?).await,
            Tls::Always => {
                if option("sslnegotiation") == Some("direct") {
                    config.ssl_negotiation(SslNegotiation::Direct);
                }
                open(&config, SslMode::Require, connector(credentials).map_err(ConnectError::Tls)?).await
            }
        }
    };
    tokio::time::timeout(CONNECT_TIMEOUT, opening).await.unwrap_or(Err(ConnectError::TooLong))
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{}", explain(.0))]
    Sql(tokio_postgres::Error),
    #[error("error connecting to server: {0}")]
    Socket(std::io::Error),
    #[error("no answer within {}", crate::core::units::Seconds(CONNECT_TIMEOUT))]
    TooLong,
    #[error("{0}")]
    Tls(String),
    /// What each place said.
    #[error("{0}")]
    Nowhere(String),
}

impl ConnectError {
    pub(crate) fn is_starting_up(&self) -> bool {
        matches!(self, ConnectError::Sql(error) if is_starting_up(error))
    }
}

fn is_refused_by_hba(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    Never,
    /// Plain first: on this machine nobody listens in, and a handshake costs more than the query.
    IfAsked,
    IfOffered,
    Always,
}

fn tls_for(host: &Host, sslmode: Option<&str>) -> Tls {
    match (host, sslmode.unwrap_or("prefer")) {
        (Host::Socket(_), _) | (_, "disable") => Tls::Never,
        (_, "require" | "verify-ca" | "verify-full") => Tls::Always,
        (_, "allow") | (Host::Loopback, _) => Tls::IfAsked,
        (Host::Tcp(_), _) => Tls::IfOffered,
    }
}

async fn open<T>(config: &tokio_postgres::Config, mode: SslMode, tls: T) -> Result<Session, ConnectError>
where
    T: tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket> + 'static,
    T::TlsConnect: Send,
    T::Stream: Send + 'static,
    <T::TlsConnect as tokio_postgres::tls::TlsConnect<tokio_postgres::Socket>>::Future: Send,
{
    let mut config = config.clone();
    let opened = config.ssl_mode(mode).connect(tls).await.map_err(ConnectError::Sql)?;
    Ok(session(opened))
}

async fn open_socket(config: &tokio_postgres::Config, path: &Path) -> Result<Session, ConnectError> {
    let socket = QuietSocket::connect(path).await.map_err(ConnectError::Socket)?;
    let mut config = config.clone();
    let opened = config.ssl_mode(SslMode::Disable).connect_raw(socket, NoTls).await.map_err(ConnectError::Sql)?;
    Ok(session(opened))
}

fn session<S, T>((client, connection): (Client, Connection<S, T>)) -> Session
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsStream + Unpin + Send + 'static,
{
    let version = connection.parameter("server_version").and_then(|text| Version::from_program(&format!(") {text}")));
    // An error of the connection shows in whatever uses the session.
    let driver = tokio::spawn(async move {
        let _ = connection.await;
    });
    Session { client, driver: Some(driver), version }
}

impl PostgresError {
    pub(crate) fn failed(attempted: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        PostgresError::Failed { attempted: attempted.into(), cause: cause.to_string() }
    }

    pub(crate) fn sql(attempted: impl Into<String>, cause: &tokio_postgres::Error) -> Self {
        PostgresError::Failed { attempted: attempted.into(), cause: explain(cause) }
    }

    pub(crate) fn too_long(attempted: impl Into<String>, limit: Duration) -> Self {
        PostgresError::TooLong { attempted: attempted.into(), limit }
    }
}
