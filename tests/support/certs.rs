//! Certificates for tests, made with OpenSSL: an authority, and leaf certificates that name a loopback address.

// Each test crate uses its own part of this.
#![allow(dead_code)]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Extension, X509NameBuilder, X509v3Context};

pub struct Authority {
    name: String,
    cert: X509,
    key: PKey<Private>,
}

/// The files of one leaf certificate.
#[derive(Clone)]
pub struct Leaf {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = new_key().expect("OpenSSL makes a key");
        let cert = build(name, None, &key, |_| Ok(vec![BasicConstraints::new().critical().ca().build()?]));
        Authority { name: name.to_owned(), cert: cert.expect("OpenSSL makes a certificate"), key }
    }

    /// Write the authority's certificate into the directory.
    pub fn write(&self, directory: &Path) -> PathBuf {
        let file = directory.join(format!("{}.crt", self.name));
        std::fs::write(&file, self.cert.to_pem().expect("a certificate has a PEM form")).expect("it can be written");
        file
    }

    /// A certificate for a server and a client at this address, in files in the directory.
    pub fn issue(&self, directory: &Path, name: &str, host: Ipv4Addr) -> Leaf {
        let key = new_key().expect("OpenSSL makes a key");
        let made = build(name, Some(self), &key, |context| {
            let names = SubjectAlternativeName::new().ip(&host.to_string()).dns("localhost").build(context)?;
            Ok(vec![names, ExtendedKeyUsage::new().server_auth().client_auth().build()?])
        });
        let cert = made.expect("OpenSSL makes a certificate").to_pem().expect("a certificate has a PEM form");
        let leaf = Leaf { cert: directory.join(format!("{name}.crt")), key: directory.join(format!("{name}.key")) };
        std::fs::write(&leaf.cert, cert).expect("it can be written");
        let key = key.private_key_to_pem_pkcs8().expect("a key has a PEM form");
        std::fs::write(&leaf.key, key).expect("it can be written");
        leaf
    }
}

fn new_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

fn build(
    name: &str,
    issuer: Option<&Authority>,
    key: &PKey<Private>,
    extensions: impl FnOnce(&X509v3Context<'_>) -> Result<Vec<X509Extension>, ErrorStack>,
) -> Result<X509, ErrorStack> {
    let mut subject = X509NameBuilder::new()?;
    subject.append_entry_by_text("CN", name)?;
    let subject = subject.build();
    let mut serial = BigNum::new()?;
    serial.rand(64, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(&subject)?;
    builder.set_issuer_name(issuer.map_or(&*subject, |issuer| issuer.cert.subject_name()))?;
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
