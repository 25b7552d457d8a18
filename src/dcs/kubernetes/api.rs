//! Requests to the API server, each answered within its time or given up.
//!
//! `kube` knows how to reach it: credentials of the pod or of a kubeconfig, and their renewal. Its own repetitions are left
//! out, since each request here has to be judged anew before it is sent again.

use std::convert::identity;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http_body_util::{BodyExt, Limited};
use hyper::http::{Method, Request, StatusCode, header};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::{Status, WatchEvent};
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::failure::{Failure, refused};
use super::objects::{Kind, List, Object};
use super::servers::{ENDPOINTS, Endpoints, Servers, Turn};
use crate::config::{KubernetesConfig, KubernetesCredentials};
use crate::core::policy::Timing;
use crate::core::units::Seconds;
use crate::dcs::causes::with_causes;

/// The largest answer that is read: a page of pods.
const ANSWER_MAX: usize = 64 << 20;
/// Of a list that is read page by page.
const PAGE: u32 = 500;

/// Access to one namespace.
pub(super) struct Api {
    config: KubernetesConfig,
    /// For TCP: how long what was sent may stay without an acknowledgement.
    patience: Duration,
    reached: Mutex<Option<Arc<Servers>>>,
    /// Whether the last question for the servers' own addresses was: it is told once.
    bypass_refused: AtomicBool,
}

/// A request before it has an address.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Below the server's address.
    pub(super) path: String,
    pub(super) query: &'a [(&'a str, String)],
    /// With its content type.
    pub(super) body: Option<(&'static str, Value)>,
}

impl Api {
    pub(super) fn new(config: &KubernetesConfig, timing: Timing) -> Api {
        Api {
            config: config.clone(),
            patience: timing.retry_timeout,
            reached: Mutex::default(),
            bypass_refused: AtomicBool::new(false),
        }
    }

    /// The namespace of the cluster's objects.
    pub(super) async fn namespace(&self) -> Result<String, Failure> {
        Ok(self.reach().await?.namespace.clone())
    }

    /// The next request reads all credentials anew.
    async fn forget_credentials(&self) {
        *self.reached.lock().await = None;
    }

    async fn reach(&self) -> Result<Arc<Servers>, Failure> {
        let mut reached = self.reached.lock().await;
        if let Some(reached) = &*reached {
            return Ok(reached.clone());
        }
        let config = self.client_config().await?;
        let namespace = self.config.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let servers = Servers::new(config, namespace, self.patience, self.config.bypass_api_service)
            .map_err(|error| Failure::Unasked(format!("no client: {error}")))?;
        Ok(reached.insert(Arc::new(servers)).clone())
    }

    /// Learns where the API servers are, where that is wanted and may have changed. That it can't be learned is no failure:
    /// whatever was known is used on.
    pub(super) async fn look_for_servers(&self, limit: Duration) {
        let Ok(servers) = self.reach().await else { return };
        if !servers.take_due() {
            return;
        }
        let found = match self.ask::<Endpoints>(&Ask::get(ENDPOINTS.to_owned()), limit).await {
            Ok(endpoints) => servers.found(&endpoints),
            Err(failure) => Err(failure),
        };
        let was_refused = self.bypass_refused.swap(found.is_err(), Ordering::Relaxed);
        match found {
            Ok(0) => warn!("bypass_api_service: the Endpoints kubernetes names no server: its Service is used"),
            Ok(count) => info!("bypass_api_service: {count} API servers are asked at their own addresses"),
            // A server that has just started refuses everything for a moment.
            Err(failure) => {
                servers.ask_again();
                if !was_refused {
                    warn!("bypass_api_service has no effect yet: {}", failure.detail());
                }
            }
        }
    }

    async fn client_config(&self) -> Result<Config, Failure> {
        let mut config = match &self.config.credentials {
            KubernetesCredentials::Pod => {
                Config::incluster_env().map_err(|error| Failure::Unasked(with_causes(&error)))?
            }
            KubernetesCredentials::Kubeconfig { path, context } => {
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                let no = |error: &dyn std::error::Error| {
                    let place = path.as_deref().unwrap_or(Path::new("~/.kube/config")).display();
                    Failure::Unasked(format!("kubeconfig {place}: {}", with_causes(error)))
                };
                let read = kubeconfig(path.as_deref()).map_err(|error| no(&error))?;
                let loaded = Config::from_custom_kubeconfig(read, &options).await;
                loaded.map_err(|error| no(&error))?
            }
        };
        if let Some(path) = &self.config.cacert {
            let read = tokio::fs::read(path).await.map_err(|error| format!("{}: {error}", path.display()));
            let certificates = read.and_then(|pem| {
                openssl::x509::X509::stack_from_pem(&pem)
                    .and_then(|found| found.iter().map(|certificate| certificate.to_der()).collect())
                    .map_err(|error| format!("{}: {error}", path.display()))
            });
            config.root_cert = Some(certificates.map_err(Failure::Unasked)?);
            config.root_cert_file = None;
        }
        Ok(config)
    }

    /// The object of an answer.
    pub(super) async fn ask<T: DeserializeOwned>(&self, ask: &Ask<'_>, limit: Duration) -> Result<T, Failure> {
        let end = Instant::now() + limit;
        let late = |_| Failure::Gone(format!("{} {}: no answer within {}", ask.method, ask.path, Seconds(limit)));
        let servers = timeout_at(end, self.reach()).await.map_err(late)??;
        let (client, turn) = servers.current();
        let answer = timeout_at(end, self.ask_once(&client, ask)).await.map_err(late).and_then(identity);
        let gone = |error| Failure::Gone(format!("{} {}: {error}", ask.method, ask.path));
        match answer.and_then(|answer| serde_json::from_slice(&answer).map_err(gone)) {
            Ok(object) => Ok(object),
            Err(failure) => Err(self.noted(&servers, turn, failure).await),
        }
    }

    async fn ask_once(&self, client: &Client, ask: &Ask<'_>) -> Result<bytes::Bytes, Failure> {
        let place = || format!("{} {}", ask.method, ask.path);
        let request = ask.request().map_err(|error| Failure::Answer(format!("{}: {error}", place())))?;
        let gone = |error: kube::Error| Failure::Gone(format!("{}: {}", place(), with_causes(&error)));
        let answer = client.send(request).await.map_err(gone)?;
        let (head, body) = answer.into_parts();
        let whole = Limited::new(body, ANSWER_MAX).collect().await;
        let bytes = whole.map_err(|error| Failure::Gone(format!("{}: {error}", place())))?.to_bytes();
        if head.status.is_success() {
            return Ok(bytes);
        }
        Err(self.refusal(head.status, &head.headers, &bytes, &place()))
    }

    /// What follows from a failure for the requests to come.
    async fn noted(&self, servers: &Servers, turn: Turn, failure: Failure) -> Failure {
        match &failure {
            Failure::Token(_) => self.forget_credentials().await,
            Failure::Gone(_) | Failure::Busy { .. } => servers.failed(turn),
            Failure::Unasked(_)
            | Failure::Denied(_)
            | Failure::Absent(_)
            | Failure::Unserved(_)
            | Failure::Exists(_)
            | Failure::Conflict(_)
            | Failure::Expired(_)
            | Failure::Forgot
            | Failure::Answer(_) => {}
        }
        failure
    }

    fn refusal(&self, code: StatusCode, headers: &header::HeaderMap, body: &[u8], place: &str) -> Failure {
        let mut status = serde_json::from_slice::<Status>(body).unwrap_or_default();
        status.code = code.as_u16();
        let told = Some(status.message.clone()).filter(|message| !message.is_empty());
        let text = told.unwrap_or_else(|| String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned());
        let after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = format!("{place}: {code}: {text}");
        debug!("{text}");
        refused(&status, &self.config.retriable_codes, after.map(Duration::from_secs), text)
    }

    /// All objects of a kind that a selector finds, and the version of the list.
    pub(super) async fn list(
        &self,
        kind: Kind,
        selector: &str,
        limit: Duration,
    ) -> Result<(Vec<Object>, String), Failure> {
        let (mut items, mut rest) = (Vec::new(), String::new());
        let path = kind.path(&self.namespace().await?);
        loop {
            let mut query = vec![("labelSelector", selector.to_owned()), ("limit", PAGE.to_string())];
            if !rest.is_empty() {
                query.push(("continue", rest));
            }
            let ask = Ask { method: Method::GET, path: path.clone(), query: &query, body: None };
            let page: List = self.ask(&ask, limit).await?;
            items.extend(page.items);
            rest = page.metadata.rest;
            if rest.is_empty() {
                return Ok((items, page.metadata.resource_version));
            }
        }
    }

    /// The events of a watch; the request itself is answered within `limit`.
    pub(super) async fn watch(&self, ask: &Ask<'_>, limit: Duration) -> Result<Events<'_>, Failure> {
        let servers = self.reach().await?;
        let (client, turn) = servers.current();
        let request = ask.request().map_err(|error| Failure::Answer(error.to_string()))?.map(|_| Vec::new());
        let place = format!("watch of {}", ask.path);
        let late = |_| Failure::Gone(format!("{place}: no answer within {}", Seconds(limit)));
        let opened = timeout(limit, client.request_events::<Object>(request)).await.map_err(late);
        match opened.and_then(|opened| opened.map_err(|error| self.failure_of(error, &place))) {
            Ok(stream) => Ok(Events { api: self, servers, turn, place, stream: Box::pin(stream) }),
            Err(failure) => Err(self.noted(&servers, turn, failure).await),
        }
    }

    fn failure_of(&self, error: kube::Error, place: &str) -> Failure {
        match error {
            kube::Error::Api(status) => {
                let text = format!("{place}: {}: {}", status.code, status.message);
                refused(&status, &self.config.retriable_codes, None, text)
            }
            other => Failure::Gone(format!("{place}: {}", with_causes(&other))),
        }
    }
}

/// Several files, with colons between them, are laid over one another.
fn kubeconfig(paths: Option<&Path>) -> Result<Kubeconfig, KubeconfigError> {
    let Some(paths) = paths else { return Kubeconfig::read() };
    let mut files = std::env::split_paths(paths).filter(|path| !path.as_os_str().is_empty()).map(Kubeconfig::read_from);
    let first = files.next().unwrap_or_else(|| Ok(Kubeconfig::default()))?;
    files.try_fold(first, |merged, next| merged.merge(next?))
}

/// A watch that runs.
pub(super) struct Events<'a> {
    api: &'a Api,
    servers: Arc<Servers>,
    turn: Turn,
    place: String,
    stream: BoxStream<'static, kube::Result<WatchEvent<Object>>>,
}

impl Events<'_> {
    /// What comes within this time.
    pub(super) async fn next(&mut self, limit: Duration) -> Result<Heard, Failure> {
        let failure = match timeout(limit, self.stream.next()).await {
            Err(_) => return Ok(Heard::Nothing),
            Ok(None) => return Ok(Heard::End),
            Ok(Some(Ok(event))) => return Ok(Heard::Event(Box::new(event))),
            Ok(Some(Err(error))) => self.api.failure_of(error, &self.place),
        };
        Err(self.api.noted(&self.servers, self.turn, failure).await)
    }

    /// Nothing was heard for too long: the next request goes to another server, where there is one.
    pub(super) fn give_up(self) {
        self.servers.failed(self.turn);
    }
}

pub(super) enum Heard {
    Event(Box<WatchEvent<Object>>),
    /// The watch has ended in good order.
    End,
    /// Nothing has changed, or the watch is dead.
    Nothing,
}

impl Ask<'_> {
    pub(super) fn get(path: String) -> Ask<'static> {
        Ask { method: Method::GET, path, query: &[], body: None }
    }

    fn request(&self) -> Result<Request<Body>, hyper::http::Error> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.query.iter().map(|(name, value)| (*name, value.as_str())));
        let query = query.finish();
        let separator = if query.is_empty() { "" } else { "?" };
        let request = Request::builder()
            .method(self.method.clone())
            .uri(format!("{}{separator}{query}", self.path))
            .header(header::ACCEPT, "application/json");
        match &self.body {
            Some((content_type, body)) => {
                request.header(header::CONTENT_TYPE, *content_type).body(Body::from(body.to_string().into_bytes()))
            }
            None => request.body(Body::empty()),
        }
    }
}
