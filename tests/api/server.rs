//! A server on a free port of its own, with a stand-in for the loop at the other end of the mailbox.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tamada::agent::mailbox::Request;
use tamada::agent::status::Status;
use tamada::api::{Options, Running, start};
use tamada::config::{HostPort, RestConfig};
use tamada::core::policy::{Mode, Switch};
use tokio::sync::{mpsc, watch};

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
        let (status, seen) = watch::channel(Arc::new(status));
        let (mailbox, requests) = mpsc::channel(16);
        let (rest, settings) = watch::channel(Arc::new(rest));
        let running = start(Options { rest: settings, mode, status: seen, mailbox }).expect("a server");
        Harness { address: running.address, status, rest, requests, running }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn stop(self) {
        self.running.stop();
    }
}

/// Loopback, any port, no protection.
pub fn open_settings() -> RestConfig {
    let anywhere = HostPort { host: "127.0.0.1".into(), port: 0 };
    RestConfig {
        listen: anywhere.clone(),
        connect_address: anywhere,
        auth: None,
        tls: None,
        allowlist: Vec::new(),
        allowlist_include_members: Switch::Off,
        http_extra_headers: BTreeMap::new(),
        https_extra_headers: BTreeMap::new(),
        request_queue_size: 5,
    }
}
