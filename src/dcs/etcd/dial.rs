//! From a host name to a byte stream: look-up, TCP, TLS.
//!
//! Names are looked up anew each time, since addresses of containers swap. A look-up may block for 10 s in a network
//! that is cut off; it runs in tokio's pool of blocking threads, at most one a host at a time, and whoever waits for it
//! stops waiting when his own time is over. Nothing here retries.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::patience::Patience;
use super::tls::Tls;
use crate::config::HostPort;
use crate::core::policy::Timing;
use crate::core::units::Seconds;
use crate::dcs::causes::with_causes;

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

const SILENCE_MIN: Duration = Duration::from_secs(10);
const KEEPALIVES: u32 = 3;

type LookUp = JoinHandle<io::Result<Vec<SocketAddr>>>;

/// Where a node of etcd answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint(pub(super) HostPort);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub(super) struct Dialer {
    tls: Option<Tls>,
    /// Look-ups that nobody waits for any more; the next one for the same host takes over its answer.
    pending: Mutex<HashMap<String, LookUp>>,
}

impl Dialer {
    pub(super) fn new(tls: Option<Tls>) -> Self {
        Dialer { tls, pending: Mutex::default() }
    }

    /// The endpoint that a URL of etcd's names, if it can be reached in the way that is configured.
    pub(super) fn endpoint_of(&self, url: &str) -> Option<Endpoint> {
        let scheme = if self.tls.is_some() { "https://" } else { "http://" };
        HostPort::parse(url.strip_prefix(scheme)?.trim_end_matches('/'), None).map(Endpoint)
    }

    /// A stream to the endpoint. The caller stops waiting after `limit`, which is shared among the host's addresses.
    pub(super) async fn dial(
        &self,
        endpoint: &Endpoint,
        timing: Timing,
        limit: Duration,
    ) -> Result<(Box<dyn Stream>, Patience), String> {
        let tcp = self.connect(&endpoint.0, limit).await?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        guard(&tcp, timing).map_err(|error| error.to_string())?;
        let patience = Patience::on(&tcp).map_err(|error| error.to_string())?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => Box::new(tls.handshake(&endpoint.0.host, tcp).await?),
        };
        Ok((stream, patience))
    }

    async fn connect(&self, endpoint: &HostPort, limit: Duration) -> Result<TcpStream, String> {
        let addresses = self.look_up(endpoint).await?;
        // One dead address must not eat the time of the others.
        let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut last = format!("{} has no address", endpoint.host);
        for address in addresses {
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => last = format!("cannot connect to {address}: {}", with_causes(&error)),
                Err(_) => last = format!("cannot connect to {address} within {}", Seconds(share)),
            }
        }
        Err(last)
    }

    async fn look_up(&self, endpoint: &HostPort) -> Result<Vec<SocketAddr>, String> {
        let HostPort { host, port } = endpoint;
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, *port)]);
        }
        let mut running = Borrowed { dialer: self, host, look_up: Some(self.begin(host)) };
        let answer = running.answer().await;
        let mut addresses = answer.map_err(|error| format!("cannot look up {host}: {error}"))?;
        addresses.iter_mut().for_each(|address| address.set_port(*port));
        Ok(addresses)
    }

    /// The look-up that still runs for this host, or a new one.
    fn begin(&self, host: &str) -> LookUp {
        let left_over = self.pending().remove(host).filter(|look_up| !look_up.is_finished());
        let host = host.to_owned();
        left_over
            .unwrap_or_else(|| tokio::task::spawn_blocking(move || Ok((host.as_str(), 0).to_socket_addrs()?.collect())))
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<String, LookUp>> {
        self.pending.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A look-up that goes back to the dialer when its waiter gives up.
struct Borrowed<'a> {
    dialer: &'a Dialer,
    host: &'a str,
    look_up: Option<LookUp>,
}

impl Borrowed<'_> {
    async fn answer(&mut self) -> io::Result<Vec<SocketAddr>> {
        let Some(look_up) = &mut self.look_up else { return Err(io::ErrorKind::NotFound.into()) };
        let answer = Pin::new(look_up).await;
        self.look_up = None;
        answer.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(look_up) = self.look_up.take() {
            self.dialer.pending().insert(self.host.to_owned(), look_up);
        }
    }
}

/// TCP keepalive and TCP_USER_TIMEOUT, so that the kernel notices a peer that is gone without closing the connection:
/// after `loop_wait` without a byte, at least `SILENCE_MIN`, it asks, and after `retry_timeout` without an answer gives up.
/// That costs us no wake-up.
fn guard(tcp: &TcpStream, timing: Timing) -> io::Result<()> {
    let socket = SockRef::from(tcp);
    let interval = (timing.retry_timeout / KEEPALIVES).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(timing.loop_wait.max(SILENCE_MIN)).with_interval(interval);
    let keepalive = keepalive.with_retries(KEEPALIVES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(timing.ttl))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_nodes_become_endpoints_where_the_scheme_fits() {
        let dialer = Dialer::new(None);
        let endpoint = |url| dialer.endpoint_of(url).map(|endpoint| endpoint.to_string());
        assert_eq!(endpoint("http://10.0.0.1:2379").as_deref(), Some("10.0.0.1:2379"));
        assert_eq!(endpoint("http://etcd1:2379/").as_deref(), Some("etcd1:2379"));
        assert_eq!(endpoint("http://[fd00::1]:2379").as_deref(), Some("[fd00::1]:2379"));
        for useless in ["https://10.0.0.1:2379", "http://10.0.0.1", "http://:2379", "unix:///tmp/etcd", ""] {
            assert_eq!(endpoint(useless), None, "{useless}");
        }
    }
}
