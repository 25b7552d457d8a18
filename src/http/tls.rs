//! TLS of the client: whom it believes and what it shows.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslVerifyMode};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509PurposeId, X509StoreContext};

use super::pem::{pem_key, reasons};
use super::{Caller, HttpError};
use crate::config::{CtlConfig, Secret, ServerTls};

#[derive(Clone, Debug)]
pub struct Tls {
    verification: Verification,
    authorities: Option<Authorities>,
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

/// Whom the other side's certificate is to be signed by.
#[derive(Clone, Debug)]
struct Authorities {
    setting: &'static str,
    file: PathBuf,
}

impl Authorities {
    fn of(ctl: &CtlConfig, rest: Option<&ServerTls>) -> Option<Self> {
        let of_api = || ctl.cafile_of_api.as_ref().or(rest.and_then(|tls| tls.cafile.as_ref()));
        let own = ctl.cacert.as_ref().map(|file| ("ctl.cacert", file));
        let found = own.or_else(|| of_api().map(|file| ("restapi.cafile", file)));
        found.map(|(setting, file)| Authorities { setting, file: file.clone() })
    }

    /// Whether these are authorities of clients only: those of the REST API, which have not signed its own certificate.
    /// Then they cannot tell whether another member's is right. What cannot be read is told when it is used.
    fn sign_clients_alone(&self, rest: Option<&ServerTls>) -> bool {
        let Some(tls) = rest.filter(|_| self.setting == "restapi.cafile") else { return false };
        vouches(&self.file, &tls.certfile).is_ok_and(|vouches| !vouches)
    }
}

/// Whether a server's certificate is signed by one of these authorities, whatever the time.
fn vouches(authorities: &Path, certfile: &Path) -> Result<bool, Box<dyn std::error::Error>> {
    let mut store = X509StoreBuilder::new()?;
    for authority in X509::stack_from_pem(&std::fs::read(authorities)?)? {
        store.add_cert(authority)?;
    }
    store.set_purpose(X509PurposeId::SSL_SERVER)?;
    store.set_flags(X509VerifyFlags::NO_CHECK_TIME)?;
    let mut chain = Stack::new()?;
    let mut certificates = X509::stack_from_pem(&std::fs::read(certfile)?)?.into_iter();
    let own = certificates.next().ok_or("it holds no certificate")?;
    certificates.try_for_each(|certificate| chain.push(certificate))?;
    Ok(X509StoreContext::new()?.init(&store.build(), &own, &chain, |context| context.verify_cert())?)
}

/// Whether members do not verify each other's certificates although there are authorities: those sign clients only.
pub fn signs_clients_alone(ctl: &CtlConfig, rest: Option<&ServerTls>) -> bool {
    let is_in_force = !ctl.insecure && ctl.certfile.is_none();
    is_in_force && Authorities::of(ctl, rest).is_some_and(|authorities| authorities.sign_clients_alone(rest))
}

#[derive(Clone, Debug)]
struct Certificate {
    file: PathBuf,
    key: PathBuf,
    password: Option<Secret>,
}

impl Tls {
    pub fn new(caller: Caller, ctl: &CtlConfig, rest: Option<&ServerTls>) -> Result<Self, HttpError> {
        let authorities = Authorities::of(ctl, rest);
        let verification = match (caller, ctl.insecure, ctl.certfile.is_some()) {
            (Caller::Itself, _, _) | (Caller::Member | Caller::Operator, true, false) => Verification::None,
            (Caller::Member, false, false) if authorities.is_none() || signs_clients_alone(ctl, rest) => {
                Verification::None
            }
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
        let is_configured = ctl.cacert.is_some() || ctl.cafile_of_api.is_some();
        let tls = Tls { verification, authorities, certificate, context: OnceLock::new() };
        if tls.certificate.is_some() || is_configured {
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
        match (self.verification, &self.authorities) {
            (Verification::None, _) => {}
            (_, Some(Authorities { setting, file })) => builder.set_ca_file(file).map_err(unusable(setting, file))?,
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
