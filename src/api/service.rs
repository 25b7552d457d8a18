//! One connection's requests. Health checks are answered here, at once and from the last status; everything else goes
//! through access control to the router.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_util::service::TowerToHyperService;
use tracing::debug;

use super::access::{Peer, Reader, Refusal};
use super::answer::{self, HangUp};
use super::health::{self, Verdict};
use super::places::{Changes, Place};
use super::query::Query;
use super::routes::Routes;
use super::state::State;
use crate::agent::status::Status;
use crate::boottime;

/// The body of an answer: whole, or whatever the router makes.
pub type Payload = Either<Full<Bytes>, Body>;

#[derive(Clone, Debug)]
pub struct Service {
    state: Arc<State>,
    routes: Routes,
    peer: Peer,
    place: Arc<Place>,
}

/// The answer is withheld and the connection closed.
#[derive(Debug, thiserror::Error)]
#[error("the request cannot be answered")]
pub struct Withheld;

/// An answer that is there already, or one that has to be waited for.
pub enum Answering {
    Now(Option<Response<Payload>>),
    Later(Pin<Box<dyn Future<Output = Result<Response<Payload>, Withheld>> + Send>>),
}

impl Future for Answering {
    type Output = Result<Response<Payload>, Withheld>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Answering::Now(response) => Poll::Ready(response.take().ok_or(Withheld)),
            Answering::Later(future) => future.as_mut().poll(context),
        }
    }
}

impl Service {
    pub fn new(state: Arc<State>, routes: Routes, peer: Peer, place: Arc<Place>) -> Self {
        Service { state, routes, peer, place }
    }
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Payload>;
    type Error = Withheld;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let endpoint = Endpoint::of(&self.routes, request.method(), request.uri().path());
        let connection = Connection::asked_for(&request);
        if let Some(response) = self.at_once(endpoint, &request) {
            return Answering::Now(Some(connection.finish(response)));
        }
        let busy = self.place.answering(changes(request.method()));
        let answering = self.clone().in_time(endpoint, request);
        Answering::Later(Box::pin(async move {
            let _busy = busy;
            Ok(connection.finish(answering.await?))
        }))
    }
}

impl Service {
    /// What can be answered from the last status.
    fn at_once(&self, endpoint: Endpoint, request: &Request<Incoming>) -> Option<Response<Payload>> {
        if endpoint == Endpoint::Routed {
            return None;
        }
        let uri = request.uri();
        let query = Query::parse(uri.query());
        let document = endpoint == Endpoint::Health && request.method() == Method::GET;
        if query.get("lag").is_some() || (document && uri.path() == "/") {
            return None;
        }
        let status = self.state.status();
        Some(self.health(endpoint, request.method(), uri, &query, &status))
    }

    fn health(
        &self,
        endpoint: Endpoint,
        method: &Method,
        uri: &Uri,
        query: &Query,
        status: &Arc<Status>,
    ) -> Response<Payload> {
        let now = boottime::now();
        let verdict = match endpoint {
            Endpoint::Liveness => health::liveness(status, now),
            Endpoint::Readiness => health::readiness(status, query, now),
            Endpoint::Health | Endpoint::Routed => health::check(status, uri.path(), query, now),
        };
        let has_document = endpoint == Endpoint::Health && method == Method::GET;
        let body = if has_document { self.state.body(status) } else { Bytes::new() };
        let mut response = Response::new(Either::Left(Full::new(body)));
        *response.status_mut() = match verdict {
            Verdict::Healthy => StatusCode::OK,
            Verdict::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
        };
        *response.headers_mut() = self.state.settings().headers.clone();
        if has_document {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        debug!("{} {method} {uri} {}", self.peer.address, response.status().as_u16());
        response
    }

    /// What has to ask somebody.
    async fn in_time(self, endpoint: Endpoint, mut request: Request<Incoming>) -> Result<Response<Payload>, Withheld> {
        if endpoint != Endpoint::Routed {
            let status = self.state.probed().await;
            let query = Query::parse(request.uri().query());
            return Ok(self.health(endpoint, request.method(), request.uri(), &query, &status));
        }
        let began = std::time::Instant::now();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let mut answer = match self.refusal(&mut request).await {
            Some(refusal) => refusal,
            None => self.route(request).await,
        };
        debug!("{} {method} {path} {} {:?}", self.peer.address, answer.status().as_u16(), began.elapsed());
        if answer.extensions().get::<HangUp>().is_some() {
            return Err(Withheld);
        }
        for (name, value) in &self.state.settings().headers {
            answer.headers_mut().insert(name, value.clone());
        }
        Ok(answer.map(Either::Right))
    }

    /// Lets a request pass, or answers it. Documents are for everybody; the one that may hold secrets is told who reads.
    async fn refusal(&self, request: &mut Request<Incoming>) -> Option<answer::Answer> {
        if changes(request.method()) == Changes::Nothing {
            if first_segment(request.uri().path()) == "config" {
                let reader = self.admit(request).await.map_or(Reader::Stranger, |()| Reader::Admitted);
                request.extensions_mut().insert(reader);
            }
            return None;
        }
        let refusal = self.admit(request).await.err()?;
        let mut answer = answer::text(refusal.code(), refusal.text());
        if refusal.code() == 401 {
            let realm = HeaderValue::from_static("Basic realm=\"Patroni\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        }
        Some(answer)
    }

    async fn admit(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let settings = self.state.settings();
        let status = self.state.status();
        let view = status.cluster.as_ref().map(|cluster| &cluster.view);
        let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        settings.access.check(&self.peer, given, view).await
    }

    /// The router sees the first segment of the path alone.
    async fn route(&self, mut request: Request<Incoming>) -> answer::Answer {
        let segment = first_segment(request.uri().path());
        let target = match request.uri().query() {
            Some(query) => format!("/{segment}?{query}"),
            None => format!("/{segment}"),
        };
        let Ok(uri) = Uri::try_from(target) else { return answer::error(StatusCode::BAD_REQUEST) };
        *request.uri_mut() = uri;
        match hyper::service::Service::call(&TowerToHyperService::new(self.routes.router()), request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Close,
    KeepAlive,
}

impl Connection {
    fn asked_for(request: &Request<Incoming>) -> Self {
        let given = request.headers().get(header::CONNECTION).map_or(&b""[..], HeaderValue::as_bytes);
        let mut options = given.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        match options.any(|option| option.eq_ignore_ascii_case(b"keep-alive")) {
            true => Connection::KeepAlive,
            false => Connection::Close,
        }
    }

    /// As Patroni answers: HTTP/1.0 whatever the request said, which load balancers are configured to expect. The
    /// connection stays open only if the client asked for it.
    fn finish(self, mut response: Response<Payload>) -> Response<Payload> {
        *response.version_mut() = Version::HTTP_10;
        response.headers_mut().insert(
            header::CONNECTION,
            HeaderValue::from_static(match self {
                Connection::Close => "close",
                Connection::KeepAlive => "keep-alive",
            }),
        );
        response
    }
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Health,
    Liveness,
    Readiness,
    Routed,
}

impl Endpoint {
    /// HEAD and OPTIONS exist only as health checks, and so does GET of whatever has no handler.
    fn of(routes: &Routes, method: &Method, path: &str) -> Self {
        if method == Method::HEAD || method == Method::OPTIONS {
            return Endpoint::Health;
        }
        if method != Method::GET {
            return Endpoint::Routed;
        }
        match first_segment(path) {
            "liveness" => Endpoint::Liveness,
            "readiness" => Endpoint::Readiness,
            segment if routes.is_document(segment) => Endpoint::Routed,
            _ => Endpoint::Health,
        }
    }
}

fn first_segment(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

fn changes(method: &Method) -> Changes {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Changes::Nothing,
        _ => Changes::Something,
    }
}
