//! A server on a free port of its own; the test holds the loop's end of the mailbox.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use tamada::agent::mailbox::Request;
use tamada::agent::status::Status;
use tamada::api::{LogGauge, Options, Running, start};
use tamada::config::{CtlConfig, RestConfig};
use tamada::core::policy::Mode;
use tamada::http::{Answer, Caller, Client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

pub use super::fixture::open_settings;

/// Longer than anything here may take.
pub const LIMIT: Duration = Duration::from_secs(15);

/// A running API and the ends that its loop would hold.
pub struct Harness {
    pub address: SocketAddr,
    pub status: watch::Sender<Arc<Status>>,
    pub rest: watch::Sender<Arc<RestConfig>>,
    pub requests: mpsc::Receiver<Request>,
    running: Running,
}

impl Harness {
    pub fn start(rest: RestConfig, mode: Mode, status: Status) -> Self {
        Self::with(rest, mode, status, None)
    }

    /// Its address stands in this file.
    pub fn announced(file: &Path, status: Status) -> Self {
        Self::with(open_settings(), Mode::Cluster, status, Some(file.to_owned()))
    }

    fn with(rest: RestConfig, mode: Mode, status: Status, announce: Option<PathBuf>) -> Self {
        let (status, seen) = watch::channel(Arc::new(status));
        let (mailbox, requests) = mpsc::channel(16);
        let (rest, settings) = watch::channel(Arc::new(rest));
        let running =
            start(Options { rest: settings, mode, status: seen, mailbox, log: LogGauge::default(), announce })
                .expect("a server");
        Harness { address: running.address, status, rest, requests, running }
    }

    /// With no protection.
    pub fn open(status: Status) -> Self {
        Self::start(open_settings(), Mode::Cluster, status)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn publish(&self, status: Status) {
        self.status.send_replace(Arc::new(status));
    }

    /// What the API asks of the loop next.
    pub async fn asked(&mut self) -> Request {
        timeout(LIMIT, self.requests.recv()).await.expect("a request in time").expect("an API")
    }

    /// Ends the server after what it is doing; blocks.
    pub fn stop(self) {
        self.running.stop();
    }
}

pub fn client() -> Client {
    Client::new(Caller::Member, &CtlConfig::default(), &open_settings()).expect("a client")
}

pub async fn send(url: String, method: Method, body: Option<Value>) -> Answer {
    client().send(method, &url, body.as_ref(), LIMIT).await.expect("an answer")
}

pub async fn get(harness: &Harness, path: &str) -> Answer {
    send(harness.url(path), Method::GET, None).await
}

/// Sends a request while the test goes on as the loop.
pub fn sending(harness: &Harness, method: Method, path: &str, body: Value) -> tokio::task::JoinHandle<Answer> {
    tokio::spawn(send(harness.url(path), method, Some(body)))
}

/// Everything that comes back for these bytes until the server closes the connection.
pub async fn raw(address: SocketAddr, request: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an end");
        String::from_utf8(answer).expect("text")
    };
    timeout(LIMIT, exchange).await.expect("an answer in time")
}
