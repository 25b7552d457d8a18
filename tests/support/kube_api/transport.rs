//! TCP, TLS and HTTP of the server and of the proxy: a thread with a runtime of its own, so that a test whose runtime
//! stalls does not stall them.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslMethod, SslRef, SslVerifyMode, select_next_proto};
use openssl::x509::X509VerifyResult;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_openssl::SslStream;

use super::access::User;
use super::authority::{Authority, Leaf};
use super::gate::{Gate, Gated};

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body that comes in parts.
pub struct Parts(pub mpsc::Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|part| part.map(|part| part.map(Frame::data)))
    }
}

pub fn whole(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Who is at the other end of a connection, and a way to cut it.
#[derive(Clone)]
pub struct Peer {
    /// What the client's certificate says, if it has one: `Err` if no trusted authority signed it.
    pub certificate: Option<Result<User, ()>>,
    cut: Arc<Notify>,
}

impl Peer {
    /// Ends the connection with a reset.
    pub fn reset(&self) {
        self.cut.notify_one();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    Http1,
    /// The client chooses.
    Both,
}

/// The acceptor of a server with this certificate, which trusts users of the same authority.
pub fn acceptor(authority: &Authority, leaf: &Leaf, protocols: Protocols) -> SslAcceptor {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).expect("OpenSSL knows TLS");
    builder.set_certificate(&leaf.cert).expect("a certificate that was just made");
    builder.set_private_key(&leaf.key).expect("its own key");
    builder.cert_store_mut().add_cert(authority.cert.clone()).expect("a certificate");
    builder.add_client_ca(&authority.cert).expect("a certificate");
    builder.set_session_id_context(b"kube").expect("short enough");
    // As the server has it: a certificate that is not trusted is refused with 401, not in the handshake.
    builder.set_verify_callback(SslVerifyMode::PEER, |_, _| {
        // Else the complaint stands in OpenSSL's queue until the next read finds it there.
        drop(ErrorStack::get());
        true
    });
    let offered: &'static [u8] = match protocols {
        Protocols::Http1 => b"\x08http/1.1",
        Protocols::Both => b"\x02h2\x08http/1.1",
    };
    builder.set_alpn_select_callback(move |_, asked| select_next_proto(offered, asked).ok_or(AlpnError::NOACK));
    builder.build()
}

/// A thread that serves until it is told to stop; with it every connection ends.
pub struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// The answers come from `answer`, on the thread's runtime.
    pub fn serve<A, F>(listener: TcpListener, acceptor: SslAcceptor, gate: Gate, answer: A) -> Self
    where
        A: Fn(Request<Incoming>, Peer) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, acceptor, gate, Arc::new(answer)) => {}
                    _ = stopped => {}
                }
            });
            // Nothing that is under way is waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("kube-api".to_owned()).spawn(serve).expect("a thread");
        Background { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server's thread panicked");
        }
    }
}

async fn accept<A, F>(listener: TcpListener, acceptor: SslAcceptor, gate: Gate, answer: Arc<A>)
where
    A: Fn(Request<Incoming>, Peer) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    listener.set_nonblocking(true).expect("a socket can be set");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listening socket");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, mostly: they are closed in the meantime.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (acceptor, gate, answer) = (acceptor.clone(), gate.clone(), Arc::clone(&answer));
        tokio::spawn(async move {
            // Whoever went away knows it; nobody else has to.
            connection(stream, &acceptor, gate, answer).await.ok();
        });
    }
}

async fn connection<A, F>(stream: TcpStream, acceptor: &SslAcceptor, gate: Gate, answer: Arc<A>) -> io::Result<()>
where
    A: Fn(Request<Incoming>, Peer) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    stream.set_nodelay(true)?;
    let socket = stream.as_fd().try_clone_to_owned()?;
    let ssl = Ssl::new(acceptor.context()).map_err(io::Error::other)?;
    let mut stream = SslStream::new(ssl, Gated { inner: stream, gate }).map_err(io::Error::other)?;
    Pin::new(&mut stream).accept().await.map_err(io::Error::other)?;
    let is_http2 = stream.ssl().selected_alpn_protocol() == Some(b"h2");
    let cut = Arc::new(Notify::new());
    let peer = Peer { certificate: certificate(stream.ssl()), cut: Arc::clone(&cut) };
    let service = service_fn(move |request| {
        let answer = answer(request, peer.clone());
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let stream = TokioIo::new(stream);
    let serve: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>> = if is_http2 {
        Box::pin(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service))
    } else {
        Box::pin(hyper::server::conn::http1::Builder::new().serve_connection(stream, service))
    };
    tokio::select! {
        served = serve => served.map_err(io::Error::other),
        () = cut.notified() => socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)),
    }
}

fn certificate(ssl: &SslRef) -> Option<Result<User, ()>> {
    let certificate = ssl.peer_certificate()?;
    if ssl.verify_result() != X509VerifyResult::OK {
        return Some(Err(()));
    }
    let texts = |nid| {
        let entries = certificate.subject_name().entries_by_nid(nid);
        entries.filter_map(|entry| entry.data().to_string().ok()).collect::<Vec<String>>()
    };
    let user = texts(Nid::COMMONNAME).into_iter().next().unwrap_or_default();
    Some(Ok(User { name: user, groups: texts(Nid::ORGANIZATIONNAME) }))
}

/// Where a server listens: an address in a network namespace.
pub struct Place {
    pub address: SocketAddr,
    namespace: File,
}

const NAMESPACE: &str = "/proc/thread-self/ns/net";

impl Place {
    /// In the network namespace of the calling thread. Port 0 is a free one, which then stays.
    pub fn bind(address: SocketAddr) -> io::Result<(Self, TcpListener)> {
        let listener = TcpListener::bind(address)?;
        let place = Place { address: listener.local_addr()?, namespace: File::open(NAMESPACE)? };
        Ok((place, listener))
    }

    /// Once more, from whatever namespace.
    pub fn bind_again(&self) -> io::Result<TcpListener> {
        let bind = || {
            if !is_same_file(&File::open(NAMESPACE)?, &self.namespace)? {
                nix::sched::setns(&self.namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
            }
            TcpListener::bind(self.address)
        };
        // A thread of its own, since it may not come back from the namespace.
        std::thread::scope(|scope| scope.spawn(bind).join().expect("binding does not panic"))
    }
}

fn is_same_file(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}
