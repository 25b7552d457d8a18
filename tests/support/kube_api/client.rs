//! What the proxy and the handle of a real server ask it with.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use openssl::ssl::{SslConnector, SslMethod};
use openssl::x509::X509;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

const ANSWER_MAX: Duration = Duration::from_secs(30);

pub fn connector(root: &X509) -> SslConnector {
    let mut builder = SslConnector::builder(SslMethod::tls()).expect("OpenSSL knows TLS");
    builder.cert_store_mut().add_cert(root.clone()).expect("a certificate");
    builder.build()
}

/// A connection for one request.
pub async fn connect(server: SocketAddr, connector: &SslConnector) -> io::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let config = connector.configure().map_err(io::Error::other)?;
    let ssl = config.into_ssl(&server.ip().to_string()).map_err(io::Error::other)?;
    let mut stream = SslStream::new(ssl, stream).map_err(io::Error::other)?;
    std::pin::Pin::new(&mut stream).connect().await.map_err(io::Error::other)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A superuser's access to a server, which blocks the thread.
pub struct Caller {
    pub server: SocketAddr,
    pub connector: SslConnector,
    pub token: String,
}

impl Caller {
    /// Code and body; null where that is no JSON.
    pub fn ask(&self, method: Method, path: &str, media: &str, body: Option<&Value>) -> io::Result<(u16, Value)> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let ask = async {
            let mut sender = connect(self.server, &self.connector).await?;
            let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, media);
            let request = request.header(HOST, self.server.to_string());
            let request = request.header(AUTHORIZATION, format!("Bearer {}", self.token));
            let request = request.body(Full::new(Bytes::from(body))).map_err(io::Error::other)?;
            let answer = sender.send_request(request).await.map_err(io::Error::other)?;
            let code = answer.status().as_u16();
            let body = answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
            Ok((code, serde_json::from_slice(&body).unwrap_or_default()))
        };
        // A thread of its own, since the caller's may be part of a runtime.
        std::thread::scope(|scope| {
            let run = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let answer = async { tokio::time::timeout(ANSWER_MAX, ask).await };
                runtime.block_on(answer).map_err(io::Error::other)?
            };
            scope.spawn(run).join().expect("asking does not panic")
        })
    }
}
