//! Which API server the requests go to: the one that the credentials name, in a pod the Service `kubernetes`, or with
//! `bypass_api_service` each server at its own address, so that one that is dead costs one attempt and not a share of all.

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::http::Request;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use serde::Deserialize;

use super::failure::Failure;
use super::session::locked;
use crate::core::policy::Switch;

/// Where the API servers stand, whatever namespace the cluster is in.
pub(super) const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints/kubernetes";
const PORT: &str = "https";

/// Clients with the credentials of one time.
pub(super) struct Servers {
    pub(super) namespace: String,
    config: Config,
    /// For TCP: how long what was sent may stay without an acknowledgement.
    patience: Duration,
    /// At the address that the credentials name.
    named: Client,
    own: Mutex<Own>,
    is_due: AtomicBool,
}

/// The servers at their own addresses; none where that is not wanted.
#[derive(Default)]
struct Own {
    servers: Vec<(SocketAddr, Client)>,
    /// The one that is asked, counted on; past the last it is the named address.
    turn: usize,
}

/// Whom a request went to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn(usize);

impl Servers {
    pub(super) fn new(config: Config, namespace: String, patience: Duration, bypass: Switch) -> kube::Result<Servers> {
        let named = client(&config, patience)?;
        let is_due = AtomicBool::new(bypass.is_on());
        Ok(Servers { namespace, config, patience, named, own: Mutex::default(), is_due })
    }

    pub(super) fn current(&self) -> (Client, Turn) {
        let own = locked(&self.own);
        let server = own.servers.get(own.turn).map_or(&self.named, |(_, client)| client);
        (server.clone(), Turn(own.turn))
    }

    /// No answer came from there, or one that says that this server can't serve: the next request goes to the next.
    pub(super) fn failed(&self, turn: Turn) {
        let mut own = locked(&self.own);
        if own.servers.is_empty() || own.turn != turn.0 {
            return;
        }
        own.turn = (own.turn + 1) % (own.servers.len() + 1);
        self.is_due.store(true, Ordering::Relaxed);
    }

    /// Whether it is to be asked where the servers are: at first, and after each failure. True once.
    pub(super) fn take_due(&self) -> bool {
        self.is_due.swap(false, Ordering::Relaxed)
    }

    pub(super) fn ask_again(&self) {
        self.is_due.store(true, Ordering::Relaxed);
    }

    /// Takes over where they are. Connections to those that stay are kept; where none of those that were known has served, one
    /// that is new goes first, else the named address goes on.
    pub(super) fn found(&self, endpoints: &Endpoints) -> Result<usize, Failure> {
        let mut own = locked(&self.own);
        let asked = own.servers.get(own.turn).map(|(address, _)| *address);
        let is_new = |address: &SocketAddr| !own.servers.iter().any(|(known, _)| known == address);
        let new = endpoints.servers().iter().position(is_new);
        let mut servers = Vec::new();
        for address in endpoints.servers() {
            let known = own.servers.iter().find(|(known, _)| *known == address);
            let client = match known {
                Some((_, client)) => client.clone(),
                None => self.at(address)?,
            };
            servers.push((address, client));
        }
        let same = asked.and_then(|asked| servers.iter().position(|(address, _)| *address == asked));
        own.turn = same.or(new).unwrap_or(servers.len());
        own.servers = servers;
        Ok(own.servers.len())
    }

    /// Its certificate has to be good for the name that the credentials give, as behind the Service.
    fn at(&self, address: SocketAddr) -> Result<Client, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Answer(format!("API server {address}: {error}"));
        let mut config = self.config.clone();
        if config.tls_server_name.is_none() {
            let host = config.cluster_url.host().unwrap_or_default();
            config.tls_server_name = Some(host.trim_matches(['[', ']']).to_owned());
        }
        config.cluster_url = format!("https://{address}/").parse().map_err(|error| failed(&error))?;
        client(&config, self.patience).map_err(|error| failed(&error))
    }
}

fn client(config: &Config, patience: Duration) -> kube::Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(patience));
    tcp.set_tcp_user_timeout(Some(patience));
    tcp.set_connect_timeout(Some(patience));
    // Without ALPN it is HTTP/1.1: a connection for each request at a time, so that a dead one holds up one alone.
    let connector = config.openssl_https_connector_with_connector(tcp)?;
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
    let client = tower::ServiceExt::<Request<Body>>::map_err(client, tower::BoxError::from);
    let (headers, auth, base) = (config.extra_headers_layer()?, config.auth_layer()?, config.base_uri_layer());
    let stack = ClientBuilder::new(client, config.default_namespace.clone())
        .with_layer(&headers)
        .with_layer(&tower::util::option_layer(auth))
        .with_layer(&base);
    Ok(stack.build())
}

/// What is read of the Endpoints `kubernetes`.
#[derive(Deserialize)]
pub(super) struct Endpoints {
    #[serde(default)]
    subsets: Vec<Subset>,
}

#[derive(Deserialize)]
struct Subset {
    #[serde(default)]
    addresses: Vec<Address>,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
struct Address {
    ip: IpAddr,
}

#[derive(Deserialize)]
struct Port {
    #[serde(default)]
    name: String,
    port: u16,
    #[serde(default)]
    protocol: String,
}

impl Endpoints {
    fn servers(&self) -> Vec<SocketAddr> {
        let is_served = |port: &&Port| port.name == PORT && (port.protocol.is_empty() || port.protocol == "TCP");
        let of_subset = |subset: &Subset| {
            let port = subset.ports.iter().find(is_served).map(|port| port.port);
            let of_port = |port| subset.addresses.iter().map(move |address| SocketAddr::new(address.ip, port));
            port.into_iter().flat_map(of_port).collect::<Vec<_>>()
        };
        self.subsets.iter().flat_map(of_subset).collect()
    }
}
