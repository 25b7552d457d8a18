//! A proxy before an API server, which does wrong what the test wants: it ends TLS with a certificate of the test's
//! authority, speaks HTTP/1.1, and passes requests with their bearer tokens on. Client certificates it cannot pass on.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::http::request::Parts as Head;
use hyper::{Method, Request, Response, StatusCode};
use openssl::ssl::SslConnector;
use openssl::x509::X509;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::authority::{Authority, Leaf};
use super::client::{connect, connector};
use super::faults::{Fault, Faults, Loss, RuleId, When};
use super::gate::Gate;
use super::transport::{Background, Body, Parts, Peer, Place, Protocols, acceptor, whole};

pub struct Proxy {
    place: Place,
    authority: Authority,
    leaf: Leaf,
    gate: Gate,
    link: Arc<Link>,
    running: Mutex<Option<Background>>,
}

/// What each request needs.
struct Link {
    server: SocketAddr,
    connector: SslConnector,
    faults: Faults,
    requests: AtomicU32,
}

impl Proxy {
    /// Listens on the address, in the network namespace of the calling thread, from which it also reaches the server.
    /// `root` is what the server's certificate is signed by; the proxy's own is the authority's.
    pub fn start(address: SocketAddr, authority: &Authority, server: SocketAddr, root: &X509) -> Self {
        let (place, listener) = Place::bind(address).expect("the address can be listened on");
        let link = Link { server, connector: connector(root), faults: Faults::default(), requests: AtomicU32::new(0) };
        let proxy = Proxy {
            leaf: authority.issue_server(&[place.address.ip()]),
            place,
            authority: authority.clone(),
            gate: Gate::default(),
            link: Arc::new(link),
            running: Mutex::default(),
        };
        proxy.serve(listener);
        proxy
    }

    fn serve(&self, listener: std::net::TcpListener) {
        let acceptor = acceptor(&self.authority, &self.leaf, Protocols::Http1);
        let link = Arc::clone(&self.link);
        let answer = move |request, peer| Arc::clone(&link).answer(request, peer);
        let running = Background::serve(listener, acceptor, self.gate.clone(), answer);
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }

    pub fn address(&self) -> SocketAddr {
        self.place.address
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.place.address)
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// From now on, with requests that fit and that no earlier rule takes.
    pub fn add(&self, when: When, fault: Fault) -> RuleId {
        self.link.faults.add(when, fault)
    }

    pub fn remove(&self, rule: RuleId) {
        self.link.faults.remove(rule);
    }

    pub fn clear(&self) {
        self.link.faults.clear();
    }

    /// How often the rule was applied.
    pub fn hits(&self, rule: RuleId) -> u32 {
        self.link.faults.hits(rule)
    }

    /// Blocks until it was.
    pub fn wait_for_hits(&self, limit: Duration, rule: RuleId, hits: u32) {
        self.link.faults.wait_for_hits(limit, rule, hits);
    }

    /// How many requests came, watches among them.
    pub fn requests(&self) -> u32 {
        self.link.requests.load(Ordering::Relaxed)
    }

    /// Nothing is read and nothing is answered, while connections are accepted.
    pub fn freeze(&self) {
        self.gate.shut();
    }

    pub fn thaw(&self) {
        self.gate.open();
    }

    /// Ends every connection and refuses new ones.
    pub fn stop(&self) {
        drop(self.running.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.gate.open();
    }

    pub fn restart(&self) {
        self.stop();
        self.serve(self.place.bind_again().expect("the address can be listened on again"));
    }
}

impl Link {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let method = head.method.clone();
        let Ok(body) = body.collect().await else { return lost(Loss::Reset, &peer).await };
        let body = body.to_bytes();
        let fault = self.faults.of_request(&method, &path);
        let delay = match &fault {
            Some(Fault::LoseRequest(loss)) => return lost(*loss, &peer).await,
            Some(Fault::Answer(code, retry_after)) => return refusal(*code, *retry_after),
            Some(Fault::Delay(time)) => *time,
            _ => Duration::ZERO,
        };
        // A task of its own, which goes on when the sender has given up.
        let forward = {
            let (link, path) = (Arc::clone(&self), path.clone());
            tokio::spawn(async move {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                link.forward(head, &path, body).await
            })
        };
        // Where the server is away, there is no proxy either.
        let Ok(response) = forward.await.map_err(io::Error::other).and_then(|done| done) else {
            return lost(Loss::Reset, &peer).await;
        };
        let end = match fault {
            Some(Fault::LoseAnswer(loss)) => {
                // A whole answer shows that the server is done with it.
                response.into_body().collect().await.ok();
                return lost(loss, &peer).await;
            }
            Some(Fault::Truncate(bytes)) => Some(bytes),
            _ => None,
        };
        self.deliver(method, path, response, end)
    }

    async fn forward(&self, head: Head, path: &str, body: Bytes) -> io::Result<Response<Incoming>> {
        let mut sender = connect(self.server, &self.connector).await?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = head.method;
        *request.uri_mut() = path.parse().map_err(io::Error::other)?;
        *request.headers_mut() = head.headers;
        let headers = request.headers_mut();
        for name in [CONNECTION, TRANSFER_ENCODING] {
            headers.remove(name);
        }
        headers.insert(HOST, HeaderValue::from_str(&self.server.to_string()).map_err(io::Error::other)?);
        sender.send_request(request).await.map_err(io::Error::other)
    }

    /// The server's answer, part by part; of so many bytes, if it is to break off.
    fn deliver(
        self: Arc<Self>,
        method: Method,
        path: String,
        response: Response<Incoming>,
        end: Option<usize>,
    ) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        for name in [CONNECTION, TRANSFER_ENCODING] {
            head.headers.remove(name);
        }
        let (arrived, parts) = mpsc::unbounded_channel();
        tokio::spawn(receive(body, arrived));
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move { self.pass(&method, &path, parts, end, sender).await });
        Response::from_parts(head, Parts(receiver).boxed_unsync())
    }

    async fn pass(
        &self,
        method: &Method,
        path: &str,
        mut parts: mpsc::UnboundedReceiver<(Instant, io::Result<Bytes>)>,
        mut end: Option<usize>,
        sender: mpsc::Sender<io::Result<Bytes>>,
    ) {
        loop {
            let part = tokio::select! {
                part = parts.recv() => part,
                () = sender.closed() => return,
            };
            let Some((at, mut part)) = part else { return };
            match self.faults.of_answer(method, path) {
                // As long as the client likes to wait.
                Some(Fault::Silence) => return sender.closed().await,
                Some(Fault::DelayEvents(time)) => tokio::time::sleep_until(at + time).await,
                _ => {}
            }
            let mut is_last = part.is_err();
            if let (Some(left), Ok(bytes)) = (&mut end, &mut part) {
                bytes.truncate(*left);
                *left -= bytes.len();
                is_last = *left == 0;
            }
            if sender.send(part).await.is_err() {
                return;
            }
            if is_last && end.is_some() {
                // What was sent is to reach the client before the connection ends.
                tokio::time::sleep(Duration::from_millis(20)).await;
                sender.send(Err(io::Error::other("the answer is cut off"))).await.ok();
            }
            if is_last {
                return;
            }
        }
    }
}

/// Takes the answer's parts as they come, with their time.
async fn receive(mut body: Incoming, arrived: mpsc::UnboundedSender<(Instant, io::Result<Bytes>)>) {
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = arrived.closed() => return,
        };
        let part = match frame {
            None => return,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => Ok(bytes),
                Err(_) => continue,
            },
            Some(Err(error)) => Err(io::Error::other(error)),
        };
        if arrived.send((Instant::now(), part)).is_err() {
            return;
        }
    }
}

async fn lost(loss: Loss, peer: &Peer) -> Response<Body> {
    if loss == Loss::Reset {
        peer.reset();
    }
    std::future::pending().await
}

/// The server's own way to say it, without the details.
fn refusal(code: u16, retry_after: Option<u32>) -> Response<Body> {
    let (reason, message) = match code {
        401 => ("Unauthorized", "Unauthorized"),
        429 => ("TooManyRequests", "Too many requests, please try again later."),
        500 => ("InternalError", "Internal error occurred: etcdserver: request timed out"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504 => ("Timeout", "Timeout: request did not complete within the allotted timeout"),
        _ => ("", "a fault of the test"),
    };
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"});
    status["message"] = json!(message);
    status["reason"] = json!(reason);
    status["code"] = json!(code);
    let mut response = Response::new(whole(status.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).expect("a code of HTTP");
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
