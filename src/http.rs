//! The HTTP client for other members' REST API: the agent asks its peers with it, the command line its members.
//!
//! One connection for each request, one deadline for all of it, bounded answers. Deliberately without a pool, redirects
//! and proxies: peers are few and asked rarely. **Invariant:** credentials go into a header of the request and nowhere
//! else; no error shows them.

pub mod json;
pub mod local_api;
pub mod pem;
mod tls;
pub mod warning;

use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT, WARNING};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use self::local_api::OwnApi;
use self::tls::Tls;
pub use self::tls::signs_clients_alone;
use crate::config::{CtlConfig, HostPort, RestConfig};
use crate::core::PATRONI_VERSION;

/// The largest answer that is read.
const ANSWER_MAX: usize = 8 << 20;

/// On whose behalf requests are made; decides what a certificate must prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The agent: where a CA or `ctl.certfile` is configured the authority is verified, unless `ctl.insecure` is set
    /// without a certificate, or the CA signs clients only; the name never is. Credentials go with requests that change something and not with GET,
    /// which needs none: records in the DCS say whom it is sent to.
    Member,
    /// A person: authority and name are verified. `ctl.insecure` lifts both, or with `ctl.certfile` the name alone.
    Operator,
    /// A local client, over loopback: nothing is verified, and where the server wants a certificate and
    /// `ctl` has none, the server's own is shown.
    Itself,
}

#[derive(Clone, Debug)]
pub struct Client {
    tls: Tls,
    authorization: Option<HeaderValue>,
    caller: Caller,
}

/// An answer, whatever its code.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: u16,
    pub body: Bytes,
    /// What the member wants to be known besides.
    pub warnings: Vec<String>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{0:?} is no URL of the form http://host:port/path")]
    Url(String),
    #[error("cannot connect to {address}: {cause}")]
    Connect { address: String, cause: std::io::Error },
    #[error("no TLS with {address}: {cause}")]
    Tls { address: String, cause: openssl::ssl::Error },
    /// The connection broke before the answer was complete; what was asked may have happened.
    #[error("no answer from {address}: {cause}")]
    Broken { address: String, cause: Box<dyn std::error::Error + Send + Sync> },
    #[error("no answer from {url} within {}", crate::core::units::Seconds(*limit))]
    TooLong { url: String, limit: Duration },
    #[error("cannot use {setting}: {given}")]
    Setting { setting: &'static str, given: String },
}

impl HttpError {
    /// Whether the request never reached anybody.
    pub fn is_unsent(&self) -> bool {
        match self {
            HttpError::Url(_) | HttpError::Connect { .. } | HttpError::Tls { .. } | HttpError::Setting { .. } => true,
            HttpError::Broken { .. } | HttpError::TooLong { .. } => false,
        }
    }
}

/// `path` on the server that `api_url` names.
pub fn endpoint(api_url: &str, path: &str) -> String {
    let authority_at = api_url.find("://").map_or(0, |at| at + 3);
    let end = api_url[authority_at..].find('/').map_or(api_url.len(), |at| authority_at + at);
    format!("{}{path}", &api_url[..end])
}

impl Client {
    pub fn new(caller: Caller, ctl: &CtlConfig, rest: &RestConfig) -> Result<Self, HttpError> {
        let auth = ctl.auth.as_ref().or(rest.auth.as_ref());
        let authorization = auth.map(|auth| {
            let pair = format!("{}:{}", auth.username, auth.password.expose());
            let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
            let mut header = HeaderValue::try_from(text).expect("base64 is plain ASCII");
            header.set_sensitive(true);
            header
        });
        Ok(Client { tls: Tls::new(caller, ctl, rest.tls.as_ref())?, authorization, caller })
    }

    /// For questions to our own member that need no credentials.
    pub fn of_own_member(own: &OwnApi) -> Result<Self, HttpError> {
        let shown = CtlConfig { certfile: own.certfile.clone(), keyfile: own.keyfile.clone(), ..CtlConfig::default() };
        Ok(Client { tls: Tls::new(Caller::Itself, &shown, None)?, authorization: None, caller: Caller::Itself })
    }

    /// One request with the whole exchange, resolving the name included, inside `limit`.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Answer, HttpError> {
        match tokio::time::timeout(limit, self.exchange(method, url, body)).await {
            Ok(result) => result,
            Err(_) => Err(HttpError::TooLong { url: url.to_owned(), limit }),
        }
    }

    async fn exchange(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Answer, HttpError> {
        let target = Target::parse(url)?;
        let request = self.request(method, &target, body)?;
        let address = target.address();
        let tcp = TcpStream::connect((target.host.as_str(), target.port)).await;
        let tcp = tcp.map_err(|cause| HttpError::Connect { address: address.clone(), cause })?;
        // Without it a small request may wait for an acknowledgement; an error only means that it does.
        let _ = tcp.set_nodelay(true);
        match target.scheme {
            Scheme::Http => converse(tcp, request, address).await,
            Scheme::Https => converse(self.handshake(tcp, &target).await?, request, address).await,
        }
    }

    async fn handshake(&self, tcp: TcpStream, target: &Target) -> Result<SslStream<TcpStream>, HttpError> {
        let failed = |cause: openssl::ssl::Error| HttpError::Tls { address: target.address(), cause };
        let ssl = self.tls.session(&target.host)?;
        let mut stream = SslStream::new(ssl, tcp).map_err(|cause| failed(cause.into()))?;
        std::pin::Pin::new(&mut stream).connect().await.map_err(failed)?;
        Ok(stream)
    }

    fn request(
        &self,
        method: Method,
        target: &Target,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, HttpError> {
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let agent = concat!(" tamada/", env!("CARGO_PKG_VERSION"));
        let is_question = self.caller == Caller::Member && method == Method::GET;
        let mut request = Request::builder()
            .method(method)
            .uri(&target.path)
            .header(HOST, target.address())
            .header(USER_AGENT, format!("Patroni/{PATRONI_VERSION}{agent}"))
            .header(CONNECTION, "close");
        if let Some(authorization) = self.authorization.as_ref().filter(|_| !is_question) {
            request = request.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json").header(CONTENT_LENGTH, bytes.len());
        }
        request.body(Full::new(bytes)).map_err(|_| HttpError::Url(target.path.clone()))
    }
}

/// Send one request and read its answer. The connection is driven by this future and ends with it.
async fn converse<S>(stream: S, request: Request<Full<Bytes>>, address: String) -> Result<Answer, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let result: Result<Answer, Box<dyn std::error::Error + Send + Sync>> = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let asking = async {
            let response = sender.send_request(request).await?;
            let code = response.status().as_u16();
            let warnings = response.headers().get_all(WARNING).iter().filter_map(warning::text).collect();
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await?.to_bytes();
            Ok(Answer { code, body, warnings })
        };
        let mut asking = std::pin::pin!(asking);
        tokio::select! {
            answer = &mut asking => answer,
            // The connection ends first when the server closes it; what has arrived is read to its end.
            _ = connection => asking.await,
        }
    }
    .await;
    result.map_err(|cause| HttpError::Broken { address, cause })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// A URL in its parts; the host without brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    scheme: Scheme,
    host: String,
    port: u16,
    path: String,
}

impl Target {
    fn parse(url: &str) -> Result<Self, HttpError> {
        let wrong = || HttpError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let (scheme, port) = match uri.scheme_str() {
            Some("http") => (Scheme::Http, 80),
            Some("https") => (Scheme::Https, 443),
            Some(_) | None => return Err(wrong()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Target { scheme, host, port: uri.port_u16().unwrap_or(port), path })
    }

    fn address(&self) -> String {
        HostPort { host: self.host.clone(), port: self.port }.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_replace_the_path_of_the_api_url() {
        assert_eq!(endpoint("http://h:8008/patroni", "/config"), "http://h:8008/config");
        assert_eq!(endpoint("https://[::1]:8008", "/x"), "https://[::1]:8008/x");
    }

    #[test]
    fn urls_are_taken_apart() {
        let target = Target::parse("https://[2001:db8::1]:8008/patroni?x=1").expect("a URL");
        assert_eq!(target.host, "2001:db8::1");
        assert_eq!(target.address(), "[2001:db8::1]:8008");
        assert_eq!(target.path, "/patroni?x=1");
        assert_eq!(Target::parse("http://h").expect("a URL").port, 80);
        for wrong in ["h:8008/patroni", "ftp://h/", "", "/patroni", "http:///x"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
