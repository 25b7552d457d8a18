//! Listening and accepting. Options of the listening socket are inherited by the accepted ones, so a connection costs
//! no call beyond its own.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use super::access::{ClientCertificate, Peer};
use super::places::{Places, Taken};
use super::routes::Routes;
use super::service::Service;
use super::settings::Settings;
use super::state::{LogGauge, State};
use super::{ApiError, tls};
use crate::agent::mailbox::Mailbox;
use crate::agent::status::Status;
use crate::config::{HostPort, RestConfig};
use crate::core::policy::Mode;
use crate::http::local_api::OwnApi;

/// The shortest kernel queue: a burst of checks beyond it would lose its SYNs and come again a second later.
const BACKLOG_MIN: u32 = 1024;

/// How long requests may go on after the end was ordered.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// How long a request that has not arrived as a whole may go on then.
const UNFINISHED_LIMIT: Duration = Duration::from_millis(100);

/// What the API is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Each value sent is a reload: certificates are read anew even when nothing else differs.
    pub rest: watch::Receiver<Arc<RestConfig>>,
    pub mode: Mode,
    pub status: watch::Receiver<Arc<Status>>,
    pub mailbox: Mailbox,
    pub log: LogGauge,
    /// Tells local clients how this API is reached.
    pub announce: Option<PathBuf>,
}

/// The API on its thread. Dropping it stops the API without waiting.
#[derive(Debug)]
pub struct Running {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Running {
    /// No new connections; those that are there get `DRAIN_LIMIT` to finish. Blocks until then.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            warn!("the REST API's thread has panicked");
        }
    }
}

/// Listen, then serve on a thread of its own. Returns when connections are accepted.
pub fn start(options: Options) -> Result<Running, ApiError> {
    let (stop, stopped) = oneshot::channel();
    let (ready, is_ready) = std_mpsc::sync_channel(1);
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(cause) => return drop(ready.send(Err(ApiError::Thread(cause)))),
        };
        runtime.block_on(async move {
            match Server::bind(options).await {
                Err(error) => drop(ready.send(Err(error))),
                Ok(server) => {
                    drop(ready.send(Ok(server.address())));
                    server.run(stopped).await;
                }
            }
        });
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name("rest-api".into()).spawn(work).map_err(ApiError::Thread)?;
    let ended = || ApiError::Thread(io::Error::other("it ended before it began to listen"));
    let address = is_ready.recv().map_err(|_| ended())??;
    Ok(Running { address, stop, thread })
}

/// A listening server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    rest: watch::Receiver<Arc<RestConfig>>,
    listen: HostPort,
    announce: Option<PathBuf>,
    state: Arc<State>,
    routes: Routes,
    places: Arc<Places>,
}

impl Server {
    pub async fn bind(mut options: Options) -> Result<Self, ApiError> {
        let config = options.rest.borrow_and_update().clone();
        let settings = Settings::load(&config).await?;
        if options.mode == Mode::Cluster && settings.access.is_unprotected() {
            warn!(
                "the REST API has no credentials: only this host and the members may switch over, restart or \
                reconfigure; set PATRONI_RESTAPI_USERNAME and PATRONI_RESTAPI_PASSWORD, or PATRONI_RESTAPI_ALLOWLIST"
            );
        }
        let listener = listen(&config).await?;
        let state =
            Arc::new(State::new(options.mode, options.mailbox, options.log, options.status, Arc::new(settings)));
        let server = Server {
            listener,
            rest: options.rest,
            listen: config.listen.clone(),
            announce: options.announce,
            routes: Routes::new(state.clone()),
            state,
            places: Arc::default(),
        };
        server.announce(&config);
        Ok(server)
    }

    /// Where it listens; the port is the one given by the kernel when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }

    /// Accept until `stop` is used or dropped, then drain.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let (draining, drained) = watch::channel(());
        // Each connection holds an end; nothing is ever sent.
        let (open, mut all_closed) = mpsc::channel::<()>(1);
        loop {
            tokio::select! {
                _ = &mut stop => break,
                Ok(()) = self.rest.changed() => self.reload().await,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.serve(stream, peer, drained.clone(), open.clone()),
                    Err(cause) => {
                        // Usually a lack of file descriptors, which others give back.
                        warn!("cannot accept a connection to the REST API: {cause}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(self.listener);
        drop((draining, open));
        if tokio::time::timeout(DRAIN_LIMIT, all_closed.recv()).await.is_err() {
            info!("the REST API has ended before all requests were answered");
        }
    }

    fn serve(&self, stream: TcpStream, from: SocketAddr, drained: watch::Receiver<()>, open: mpsc::Sender<()>) {
        let address = from.ip().to_canonical();
        let Some(taken) = self.places.take(address) else {
            return debug!("connection from {address} refused: all places are taken");
        };
        let (state, routes) = (self.state.clone(), self.routes.clone());
        let tls = state.settings().tls.clone();
        tokio::spawn(async move {
            let _open = open;
            let mut peer = Peer { address, certificate: ClientCertificate::None };
            let service = |peer| Service::new(state, routes, peer, taken.place.clone());
            let Some(context) = tls else {
                return exchange(stream, service(peer), drained, &taken).await;
            };
            let mut aborted = drained.clone();
            let handshake = tokio::select! {
                handshake = tokio::time::timeout(taken.limit, tls::accept(&context, stream)) => handshake,
                () = taken.given_up() => return,
                _ = aborted.changed() => return,
            };
            match handshake {
                Ok(Ok(stream)) => {
                    peer.certificate = tls::client_certificate(&stream);
                    exchange(stream, service(peer), drained, &taken).await;
                }
                Ok(Err(cause)) => debug!("TLS handshake with {address}: {cause}"),
                Err(_) => debug!("TLS handshake with {address}: not completed in {:?}", taken.limit),
            }
        });
    }

    async fn reload(&mut self) {
        let config = self.rest.borrow_and_update().clone();
        match Settings::load(&config).await {
            Ok(settings) => self.state.replace_settings(Arc::new(settings)),
            Err(error) => {
                return warn!("the new settings of the REST API cannot be used, the old ones stay in force: {error}");
            }
        }
        if config.listen != self.listen {
            match listen(&config).await {
                Ok(listener) => {
                    info!("the REST API listens on {} from now on", config.listen);
                    self.listener = listener;
                    self.listen = config.listen.clone();
                }
                Err(error) => warn!("the REST API stays at {}: {error}", self.listen),
            }
        }
        self.announce(&config);
    }

    fn announce(&self, config: &RestConfig) {
        let Some(file) = &self.announce else { return };
        if let Err(cause) = OwnApi::new(&self.listen, config.tls.as_ref()).write(file) {
            warn!("cannot write {}, so `tamada health` goes by the configuration: {cause}", file.display());
        }
    }
}

/// One connection, until either side closes it, its place is needed or the end was ordered.
async fn exchange<S>(stream: S, service: Service, mut drained: watch::Receiver<()>, taken: &Taken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(taken.limit).pipeline_flush(true).max_buf_size(64 * 1024);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = taken.given_up() => return,
        _ = drained.changed() => {
            connection.as_mut().graceful_shutdown();
            match taken.place.is_waiting() {
                true => tokio::time::timeout(UNFINISHED_LIMIT, connection).await.unwrap_or(Ok(())),
                false => connection.await,
            }
        }
    };
    if let Err(cause) = ended {
        debug!("connection to the REST API: {cause}");
    }
}

/// A socket for the address configured: an empty host or `*` means all addresses, IPv6 too where there is any.
async fn listen(config: &RestConfig) -> Result<TcpListener, ApiError> {
    let HostPort { host, port } = &config.listen;
    let backlog = config.request_queue_size.max(BACKLOG_MIN) as i32;
    let failed = |cause| ApiError::Listen { listen: config.listen.clone(), cause };
    let mut last = io::Error::other("the name has no address");
    for address in candidates(host, *port).await.map_err(failed)? {
        match open(address, backlog) {
            Ok(listener) => return Ok(listener),
            Err(cause) => last = cause,
        }
    }
    Err(failed(last))
}

async fn candidates(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.is_empty() || host == "*" {
        return Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]);
    }
    let mut found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found)
}

fn open(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let (idle, interval) = (Duration::from_secs(3), Duration::from_secs(2));
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(3))?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(10)))?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    TcpListener::from_std(socket.into())
}
