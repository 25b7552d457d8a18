//! TLS to etcd through OpenSSL. The files are read at each connection, so that renewed certificates are taken up.

use std::path::PathBuf;
use std::pin::Pin;

use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::config::EtcdConfig;
use crate::dcs::causes::with_causes;

/// gRPC needs HTTP/2, by its name in ALPN.
const ALPN_HTTP2: &[u8] = b"\x02h2";

#[derive(Clone, Debug)]
pub(super) struct Tls {
    /// `None`: the server's certificate is not verified, as in Patroni; `config` warns of it.
    cacert: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Tls {
    pub(super) fn new(config: &EtcdConfig) -> Self {
        let EtcdConfig { cacert, cert, key, .. } = config.clone();
        Tls { cacert, key: key.or_else(|| cert.clone()), cert }
    }

    pub(super) async fn handshake(&self, host: &str, tcp: TcpStream) -> Result<SslStream<TcpStream>, String> {
        let tls = self.clone();
        let connector = tokio::task::spawn_blocking(move || tls.connector()).await;
        let connector = connector.map_err(|error| error.to_string())??;
        let mut setup = connector.configure().map_err(|error| error.to_string())?;
        if self.cacert.is_none() {
            setup.set_verify_hostname(false);
        }
        let ssl = setup.into_ssl(host).map_err(|error| error.to_string())?;
        let mut stream = SslStream::new(ssl, tcp).map_err(|error| error.to_string())?;
        let handshake = Pin::new(&mut stream).connect().await;
        handshake.map_err(|error| format!("TLS handshake failed: {}", with_causes(&error)))?;
        Ok(stream)
    }

    fn connector(&self) -> Result<SslConnector, String> {
        let refused = |what: &str, file: &PathBuf, error: openssl::error::ErrorStack| {
            format!("cannot use {what} {}: {error}", file.display())
        };
        let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(|error| error.to_string())?;
        builder.set_alpn_protos(ALPN_HTTP2).map_err(|error| error.to_string())?;
        match &self.cacert {
            Some(file) => builder.set_ca_file(file).map_err(|error| refused("the CA certificate", file, error))?,
            None => builder.set_verify(SslVerifyMode::NONE),
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            builder.set_certificate_chain_file(cert).map_err(|error| refused("the certificate", cert, error))?;
            // An empty passphrase, lest OpenSSL ask the terminal for one.
            let pem = std::fs::read(key).map_err(|error| format!("cannot read {}: {error}", key.display()))?;
            PKey::private_key_from_pem_passphrase(&pem, b"")
                .and_then(|key| builder.set_private_key(&key))
                .and_then(|()| builder.check_private_key())
                .map_err(|error| refused("the private key", key, error))?;
        }
        Ok(builder.build())
    }
}
