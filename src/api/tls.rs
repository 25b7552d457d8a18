//! TLS of the server: OpenSSL, since users' certificates are self-signed authorities that serve as server and client
//! certificate at once, X.509 v1, keys with passwords, cipher strings. Certificates are read when it is loaded.

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{Ssl, SslAcceptor, SslContext, SslMethod, SslVerifyMode};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::ApiError;
use super::access::ClientCertificate;
use crate::config::{Secret, ServerTls, VerifyClient};

/// The context for new connections. Existing ones keep the one that they began with.
pub fn load(config: &ServerTls) -> Result<SslContext, ApiError> {
    build(config).map_err(|cause| {
        let certfile = config.certfile.display().to_string();
        ApiError::Tls { certfile, cause }
    })
}

fn build(config: &ServerTls) -> Result<SslContext, TlsCause> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    if let Some(ciphers) = &config.ciphers {
        builder.set_cipher_list(ciphers)?;
    }
    builder.set_certificate_chain_file(&config.certfile)?;
    let keyfile = config.keyfile.as_ref().unwrap_or(&config.certfile);
    let unread = |cause| TlsCause::Read { file: keyfile.display().to_string(), cause };
    let pem = std::fs::read(keyfile).map_err(unread)?;
    // With no password an empty one: OpenSSL would otherwise ask for it on the terminal.
    let password = config.keyfile_password.as_ref().map_or("", Secret::expose);
    let key = PKey::private_key_from_pem_passphrase(&pem, password.as_bytes())?;
    builder.set_private_key(&key)?;
    builder.check_private_key()?;
    if let Some(cafile) = &config.cafile {
        builder.set_ca_file(cafile)?;
        builder.set_client_ca_list(openssl::x509::X509Name::load_client_ca_file(cafile)?);
    }
    builder.set_verify(match config.verify_client {
        VerifyClient::None => SslVerifyMode::NONE,
        VerifyClient::Optional => SslVerifyMode::PEER,
        VerifyClient::Required => SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
    });
    // Without it OpenSSL refuses to resume sessions of clients that have a certificate.
    builder.set_session_id_context(b"tamada")?;
    Ok(builder.build().into_context())
}

/// Why a TLS set-up was refused.
#[derive(Debug, thiserror::Error)]
pub enum TlsCause {
    #[error("cannot read {file}: {cause}")]
    Read { file: String, cause: std::io::Error },
    #[error("{0}")]
    OpenSsl(#[from] ErrorStack),
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
