//! A plain HTTP client: one connection for each request, JSON in and out, watches line by line.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use openssl::ssl::{SslConnector, SslMethod};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::kube_api::authority::Leaf;
use crate::kube_api::{Authority, KubeApi, Options, Rule};

/// Enough for any answer, on a busy machine too.
pub const LIMIT: Duration = Duration::from_secs(10);

pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const MERGE: &str = "application/merge-patch+json";
pub const JSON_PATCH: &str = "application/json-patch+json";

/// A server with the namespace `demo`: a real one where there is one, since it must pass these tests too.
pub fn server() -> KubeApi {
    KubeApi::start(Options::loopback())
}

/// The server in this process, for what only that can.
pub fn stand_in() -> KubeApi {
    KubeApi::stand_in(Options::loopback())
}

/// `/api/v1/namespaces/demo/RESOURCE`
pub fn core(rest: &str) -> String {
    format!("/api/v1/namespaces/demo/{rest}")
}

pub fn leases(rest: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/demo/leases{rest}")
}

pub fn slices(rest: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/demo/endpointslices{rest}")
}

#[derive(Clone)]
pub struct Client {
    address: std::net::SocketAddr,
    connector: SslConnector,
    pub token: Option<String>,
}

pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The message of a Status, whose reason and code are checked.
    pub fn refusal(&self, code: u16, reason: &str) -> String {
        let status = self.json();
        assert_eq!(self.code, code, "{status}");
        assert_eq!((&status["kind"], &status["status"]), (&"Status".into(), &"Failure".into()), "{status}");
        assert_eq!((&status["reason"], &status["code"]), (&reason.into(), &code.into()), "{status}");
        status["message"].as_str().expect("a message").to_owned()
    }

    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.code), "{} {}", self.code, self.text);
        self.json()
    }

    pub fn version(self) -> u64 {
        version(&self.ok())
    }
}

pub fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).expect("a resourceVersion")
}

impl Client {
    pub fn admin(api: &KubeApi) -> Self {
        Self::with_token(api, api.admin())
    }

    pub fn with_token(api: &KubeApi, token: &str) -> Self {
        Client { token: Some(token.to_owned()), ..Self::anonymous(api) }
    }

    /// The service account `demo` of the namespace `demo`, with these rights.
    pub fn account(api: &KubeApi, rules: Vec<Rule>) -> Self {
        Self::with_token(api, &api.service_account("demo", "demo", rules))
    }

    pub fn anonymous(api: &KubeApi) -> Self {
        Self::at(api.address(), api.authority())
    }

    pub fn at(address: std::net::SocketAddr, authority: &Authority) -> Self {
        Self::build(address, authority, None)
    }

    pub fn with_certificate(api: &KubeApi, leaf: &Leaf) -> Self {
        Self::build(api.address(), api.authority(), Some(leaf))
    }

    fn build(address: std::net::SocketAddr, authority: &Authority, leaf: Option<&Leaf>) -> Self {
        let mut builder = SslConnector::builder(SslMethod::tls()).expect("OpenSSL knows TLS");
        builder.cert_store_mut().add_cert(authority.cert.clone()).expect("a certificate");
        if let Some(leaf) = leaf {
            builder.set_certificate(&leaf.cert).expect("a certificate");
            builder.set_private_key(&leaf.key).expect("its key");
        }
        Client { address, connector: builder.build(), token: None }
    }

    /// The answer's head; its body has still to be read.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> std::io::Result<Response<Incoming>> {
        let stream = TcpStream::connect(self.address).await?;
        let config = self.connector.configure().expect("a connector");
        let ssl = config.into_ssl(&self.address.ip().to_string()).expect("an address");
        let mut stream = SslStream::new(ssl, stream).expect("a stream");
        std::pin::Pin::new(&mut stream).connect().await.map_err(std::io::Error::other)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", self.address.to_string());
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default()))).expect("a request");
        let response = sender.send_request(request).await.map_err(std::io::Error::other)?;
        Ok(response)
    }

    pub async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Vec<u8>>) -> Answer {
        let ask = async {
            let response = self.send(method.clone(), path, headers, body).await?;
            let (code, headers) = (response.status().as_u16(), response.headers().clone());
            let bytes = response.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok::<_, std::io::Error>(Answer { code, headers, text })
        };
        let answer = tokio::time::timeout(LIMIT, ask).await;
        answer.unwrap_or_else(|_| panic!("no answer to {method} {path}")).unwrap_or_else(|error| panic!("{error:?}"))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], None).await
    }

    pub async fn create(&self, path: &str, object: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.ask(Method::POST, path, &headers, Some(object.to_string().into_bytes())).await
    }

    pub async fn update(&self, path: &str, object: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.ask(Method::PUT, path, &headers, Some(object.to_string().into_bytes())).await
    }

    pub async fn patch(&self, path: &str, kind: &str, patch: &Value) -> Answer {
        self.ask(Method::PATCH, path, &[("content-type", kind)], Some(patch.to_string().into_bytes())).await
    }

    pub async fn delete(&self, path: &str, options: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.ask(Method::DELETE, path, &headers, Some(options.to_string().into_bytes())).await
    }

    /// A watch that has begun.
    pub async fn watch(&self, path: &str) -> Watch {
        let response = tokio::time::timeout(LIMIT, self.send(Method::GET, path, &[], None)).await;
        let response = response.expect("an answer in time").expect("an answer");
        assert_eq!(response.status().as_u16(), 200);
        Watch::of(response.into_body())
    }
}

pub struct Watch {
    body: Incoming,
    text: String,
}

impl Watch {
    pub fn of(body: Incoming) -> Self {
        Watch { body, text: String::new() }
    }

    /// The next event; `None` at the end of the answer, `Err` where it breaks off.
    pub async fn next(&mut self) -> Result<Option<Value>, hyper::Error> {
        let read = async {
            loop {
                if let Some((line, rest)) = self.text.split_once('\n') {
                    let event = serde_json::from_str(line).expect("each line is an event");
                    self.text = rest.to_owned();
                    return Ok(Some(event));
                }
                match self.body.frame().await {
                    None => return Ok(None),
                    Some(frame) => {
                        let data = frame?.into_data().expect("no trailers");
                        self.text.push_str(std::str::from_utf8(&data).expect("UTF-8"));
                    }
                }
            }
        };
        tokio::time::timeout(LIMIT, read).await.expect("an event in time")
    }

    /// Type, name and version of the next event.
    pub async fn event(&mut self) -> (String, String, u64) {
        let event = self.next().await.expect("an unbroken answer").expect("not the end");
        let object = &event["object"];
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        (event["type"].as_str().expect("a type").to_owned(), name, version(object))
    }
}
