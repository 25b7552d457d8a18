//! TLS of the server: OpenSSL, since users' certificates are self-signed authorities that serve as server and client
//! certificate at once, X.509 v1, keys with passwords, cipher strings. Certificates are read when it is loaded.

use std::path::Path;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslAcceptor, SslContext, SslMethod, SslVerifyMode};
use openssl::x509::X509Name;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::ApiError;
use super::access::ClientCertificate;
use crate::config::{ServerTls, VerifyClient};
use crate::http::pem::{pem_key, reasons};

/// The context for new connections. Existing ones keep the one that they began with.
pub fn load(config: &ServerTls) -> Result<SslContext, ApiError> {
    let certfile = &config.certfile;
    let keyfile = config.keyfile.as_ref().unwrap_or(certfile);
    let keyfile_is = if config.keyfile.is_some() { "restapi.keyfile" } else { "restapi.certfile" };
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).map_err(unusable("restapi", ""))?;
    if let Some(ciphers) = &config.ciphers {
        builder.set_cipher_list(ciphers).map_err(unusable("restapi.ciphers", ciphers))?;
    }
    builder.set_certificate_chain_file(certfile).map_err(unusable("restapi.certfile", certfile))?;
    let key =
        pem_key(keyfile, config.keyfile_password.as_ref()).map_err(|why| not_loaded(keyfile_is, keyfile, &why))?;
    builder.set_private_key(&key).map_err(unusable(keyfile_is, keyfile))?;
    if let Some(cafile) = &config.cafile {
        builder.set_ca_file(cafile).map_err(unusable("restapi.cafile", cafile))?;
        let names = X509Name::load_client_ca_file(cafile).map_err(unusable("restapi.cafile", cafile))?;
        builder.set_client_ca_list(names);
    }
    builder.set_verify(match config.verify_client {
        VerifyClient::None => SslVerifyMode::NONE,
        VerifyClient::Optional => SslVerifyMode::PEER,
        VerifyClient::Required => SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
    });
    // Without it OpenSSL refuses to resume sessions of clients that have a certificate.
    builder.set_session_id_context(b"tamada").map_err(unusable("restapi", ""))?;
    Ok(builder.build().into_context())
}

fn unusable(setting: &'static str, given: impl AsRef<Path>) -> impl FnOnce(ErrorStack) -> ApiError {
    move |cause| not_loaded(setting, given.as_ref(), &reasons(&cause))
}

fn not_loaded(setting: &'static str, given: &Path, why: &str) -> ApiError {
    ApiError::Tls { setting, given: format!("{given:?} given, {why}") }
}

/// The handshake. A failure is the client's business and never more than debug noise.
pub async fn accept(context: &SslContext, stream: TcpStream) -> Result<SslStream<TcpStream>, openssl::ssl::Error> {
    let mut stream = SslStream::new(Ssl::new(context)?, stream)?;
    std::pin::Pin::new(&mut stream).accept().await?;
    Ok(stream)
}

/// A certificate that was presented has been verified by the handshake, which fails otherwise.
pub fn client_certificate(stream: &SslStream<TcpStream>) -> ClientCertificate {
    match stream.ssl().peer_certificate() {
        Some(_) => ClientCertificate::Valid,
        None => ClientCertificate::None,
    }
}
