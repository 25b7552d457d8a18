//! TLS of the client: whom it believes and what it shows.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslVerifyMode};

use super::pem::{pem_key, reasons};
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
        self.prepare(context, host).map_err(unusable("ctl", ""))
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
        let mut builder = SslContext::builder(SslMethod::tls_client()).map_err(unusable("ctl", ""))?;
        builder.set_verify(match self.verification {
            Verification::None => SslVerifyMode::NONE,
            Verification::Authority | Verification::AuthorityAndName => SslVerifyMode::PEER,
        });
        match (self.verification, &self.cafile) {
            (Verification::None, _) => {}
            (_, Some(cafile)) => builder.set_ca_file(cafile).map_err(unusable("ctl.cacert", cafile))?,
            (_, None) => builder.set_default_verify_paths().map_err(unusable("ctl.cacert", ""))?,
        }
        if let Some(certificate) = &self.certificate {
            let file = &certificate.file;
            builder.set_certificate_chain_file(file).map_err(unusable("ctl.certfile", file))?;
            certificate.add_key(&mut builder)?;
        }
        Ok(builder.build())
    }
}

impl Certificate {
    fn add_key(&self, builder: &mut SslContextBuilder) -> Result<(), HttpError> {
        let key = pem_key(&self.key, self.password.as_ref());
        let key = key.map_err(|why| not_loaded("ctl.keyfile", &self.key, &why))?;
        builder.set_private_key(&key).map_err(unusable("ctl.keyfile", &self.key))
    }
}

fn unusable(setting: &'static str, given: impl AsRef<Path>) -> impl FnOnce(ErrorStack) -> HttpError {
    move |cause| not_loaded(setting, given.as_ref(), &reasons(&cause))
}

fn not_loaded(setting: &'static str, given: &Path, why: &str) -> HttpError {
    HttpError::Setting { setting, given: format!("{given:?} given, {why}") }
}
