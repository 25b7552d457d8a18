//! A certificate authority of the test's own, and what it issues to servers and to users.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Extension, X509Name, X509NameBuilder, X509v3Context};

#[derive(Clone)]
pub struct Authority {
    pub cert: X509,
    key: PKey<Private>,
}

/// A certificate and its key.
pub struct Leaf {
    pub cert: X509,
    pub key: PKey<Private>,
}

impl Authority {
    pub fn new() -> Self {
        let key = new_key().expect("OpenSSL makes a key");
        let subject = name("kube-api-test", &[]).expect("a plain name");
        let cert = build(&subject, None, &key, |_| {
            let usage = KeyUsage::new().critical().key_cert_sign().digital_signature().build()?;
            Ok(vec![BasicConstraints::new().critical().ca().build()?, usage])
        });
        Authority { cert: cert.expect("OpenSSL makes a certificate"), key }
    }

    pub fn pem(&self) -> Vec<u8> {
        self.cert.to_pem().expect("a certificate has a PEM form")
    }

    /// For a server at these addresses, also under the names that an API server has inside its cluster.
    pub fn issue_server(&self, addresses: &[IpAddr]) -> Leaf {
        let key = new_key().expect("OpenSSL makes a key");
        let subject = name("kube-apiserver", &[]).expect("a plain name");
        let cert = build(&subject, Some(self), &key, |context| {
            let mut names = SubjectAlternativeName::new();
            for address in addresses {
                names.ip(&address.to_string());
            }
            for inner in ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"] {
                names.dns(inner);
            }
            Ok(vec![names.build(context)?, ExtendedKeyUsage::new().server_auth().build()?])
        });
        Leaf { cert: cert.expect("OpenSSL makes a certificate"), key }
    }

    /// For a user with these groups.
    pub fn issue_user(&self, user: &str, groups: &[&str]) -> Leaf {
        let key = new_key().expect("OpenSSL makes a key");
        let subject = name(user, groups).expect("a plain name");
        let cert = build(&subject, Some(self), &key, |_| Ok(vec![ExtendedKeyUsage::new().client_auth().build()?]));
        Leaf { cert: cert.expect("OpenSSL makes a certificate"), key }
    }
}

impl Leaf {
    /// `NAME.crt` and `NAME.key` in the folder.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        std::fs::write(&cert, self.cert.to_pem().expect("a certificate has a PEM form")).expect("it can be written");
        std::fs::write(&key, self.key_pem()).expect("it can be written");
        (cert, key)
    }

    pub fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().expect("a key has a PEM form")
    }
}

fn new_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

/// User and groups as Kubernetes reads them from a certificate.
fn name(user: &str, groups: &[&str]) -> Result<X509Name, ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    for group in groups {
        name.append_entry_by_text("O", group)?;
    }
    name.append_entry_by_text("CN", user)?;
    Ok(name.build())
}

fn build(
    subject: &X509Name,
    issuer: Option<&Authority>,
    key: &PKey<Private>,
    extensions: impl FnOnce(&X509v3Context<'_>) -> Result<Vec<X509Extension>, ErrorStack>,
) -> Result<X509, ErrorStack> {
    let mut serial = BigNum::new()?;
    serial.rand(64, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer.map_or(subject, |issuer| issuer.cert.subject_name()))?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(2)?)?;
    let extensions = extensions(&builder.x509v3_context(issuer.map(|issuer| &*issuer.cert), None))?;
    for extension in extensions {
        builder.append_extension(extension)?;
    }
    builder.sign(issuer.map_or(key, |issuer| &issuer.key), MessageDigest::sha256())?;
    Ok(builder.build())
}
