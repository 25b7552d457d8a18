//! TLS of the client: whom it believes and what it shows.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::OnceLock;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslVerifyMode};

use super::{Caller, HttpError};
use crate::config::{CtlConfig, Secret, ServerTls};

#[derive(Clone, Debug)]
pub struct Tls {
    verification: Verification,
    cafile: Option<PathBuf>,
    certificate: Option<Certificate>,
    /// Made when it is first needed, or at once where certificates are configured: most requests need none, and the
    /// system's list of authorities alone takes megabytes.
    context: OnceLock<SslContext>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verification {
    None,
    Authority,
    AuthorityAndName,
}

#[derive(Clone, Debug)]
struct Certificate {
    file: PathBuf,
    key: PathBuf,
    password: Option<Secret>,
}

impl Tls {
    pub fn new(caller: Caller, ctl: &CtlConfig, rest: Option<&ServerTls>) -> Result<Self, HttpError> {
        let cafile = ctl.cacert.clone().or(rest.and_then(|tls| tls.cafile.clone()));
        let verification = match (caller, ctl.insecure, ctl.certfile.is_some()) {
            (Caller::Itself, _, _) | (Caller::Member | Caller::Operator, true, false) => Verification::None,
            (Caller::Member, false, false) if cafile.is_none() => Verification::None,
            (Caller::Member, _, _) | (Caller::Operator, true, true) => Verification::Authority,
            (Caller::Operator, false, _) => Verification::AuthorityAndName,
        };
        let own = ctl.certfile.as_ref().map(|file| (file, &ctl.keyfile, &ctl.keyfile_password));
        let server = rest.filter(|_| caller == Caller::Itself);
        let server = server.map(|tls| (&tls.certfile, &tls.keyfile, &tls.keyfile_password));
        let certificate = own.or(server).map(|(file, key, password)| Certificate {
            file: file.clone(),
            key: key.as_ref().unwrap_or(file).clone(),
            password: password.clone(),
        });
        let tls = Tls { verification, cafile, certificate, context: OnceLock::new() };
        if tls.certificate.is_some() || ctl.cacert.is_some() {
            tls.context()?;
        }
        Ok(tls)
    }

    /// A session with this host, a name or an address.
    pub fn session(&self, host: &str) -> Result<Ssl, HttpError> {
        let context = self.context()?;
        self.prepare(context, host).map_err(|cause| HttpError::Setting { setting: "OpenSSL", cause })
    }

    fn prepare(&self, context: &SslContext, host: &str) -> Result<Ssl, ErrorStack> {
        let mut ssl = Ssl::new(context)?;
        let address: Result<IpAddr, _> = host.parse();
        if address.is_err() {
            ssl.set_hostname(host)?;
        }
        if self.verification == Verification::AuthorityAndName {
            match address {
                Ok(address) => ssl.param_mut().set_ip(address)?,
                Err(_) => ssl.param_mut().set_host(host)?,
            }
        }
        Ok(ssl)
    }

    fn context(&self) -> Result<&SslContext, HttpError> {
        match self.context.get() {
            Some(context) => Ok(context),
            None => {
                let context = self.build()?;
                Ok(self.context.get_or_init(|| context))
            }
        }
    }

    fn build(&self) -> Result<SslContext, HttpError> {
        let mut builder = SslContext::builder(SslMethod::tls_client()).map_err(setting("OpenSSL"))?;
        builder.set_verify(match self.verification {
            Verification::None => SslVerifyMode::NONE,
            Verification::Authority | Verification::AuthorityAndName => SslVerifyMode::PEER,
        });
        match (self.verification, &self.cafile) {
            (Verification::None, _) => {}
            (_, Some(cafile)) => builder.set_ca_file(cafile).map_err(setting("ctl.cacert"))?,
            (_, None) => builder.set_default_verify_paths().map_err(setting("the system's authorities"))?,
        }
        if let Some(certificate) = &self.certificate {
            builder.set_certificate_chain_file(&certificate.file).map_err(setting("ctl.certfile"))?;
            certificate.add_key(&mut builder)?;
        }
        Ok(builder.build())
    }
}

impl Certificate {
    fn add_key(&self, builder: &mut SslContextBuilder) -> Result<(), HttpError> {
        let unread = |cause| HttpError::File { setting: "ctl.keyfile", file: self.key.clone(), cause };
        let pem = std::fs::read(&self.key).map_err(unread)?;
        // With no password an empty one: OpenSSL would otherwise ask for it on the terminal.
        let password = self.password.as_ref().map_or("", Secret::expose);
        let key = PKey::private_key_from_pem_passphrase(&pem, password.as_bytes()).map_err(setting("ctl.keyfile"))?;
        builder.set_private_key(&key).map_err(setting("ctl.keyfile"))
    }
}

fn setting(setting: &'static str) -> impl Fn(ErrorStack) -> HttpError {
    move |cause| HttpError::Setting { setting, cause }
}
