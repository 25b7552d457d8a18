//! TLS towards PostgreSQL with libpq's options: `sslmode`, `sslrootcert`, `sslcrl`, `sslcrldir`, `sslcert`, `sslkey`, `sslpassword`.

use std::error::Error;
use std::fmt::Display;

use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslFiletype, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::{X509Lookup, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use postgres_openssl::MakeTlsConnector;

use crate::config::Credentials;

/// As libpq does it: `require` checks the chain only where `sslrootcert` is given, `verify-full` the name too. Errors
/// name the option and the file.
pub(super) fn connector(credentials: &Credentials) -> Result<MakeTlsConnector, String> {
    let option = |name: &str| credentials.options.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let mut builder =
        SslConnector::builder(SslMethod::tls_client()).map_err(|cause| format!("cannot set TLS up: {cause}"))?;
    let root = option("sslrootcert");
    if let Some(file) = root.filter(|root| *root != "system") {
        trust(&mut builder, file, option("sslcrl"), option("sslcrldir"))
            .map_err(|cause| unusable("sslrootcert, sslcrl or sslcrldir", file, &*cause))?;
    }
    let mode = option("sslmode").unwrap_or("prefer");
    let verifies = matches!(mode, "verify-ca" | "verify-full") || (mode == "require" && root.is_some());
    builder.set_verify(if verifies { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
    if let Some(file) = option("sslcert") {
        builder.set_certificate_chain_file(file).map_err(|cause| unusable("sslcert", file, &cause))?;
        let key = option("sslkey").unwrap_or(file);
        use_key(&mut builder, key, credentials).map_err(|cause| unusable("sslkey", key, &*cause))?;
    }
    let mut connector = MakeTlsConnector::new(builder.build());
    let verifies_name = mode == "verify-full";
    connector.set_callback(move |ssl, _| {
        ssl.set_verify_hostname(verifies_name);
        Ok(())
    });
    Ok(connector)
}

fn unusable(what: &str, file: &str, cause: &(impl Display + ?Sized)) -> String {
    format!("cannot use {what} {file}: {cause}")
}

/// Trusts these authorities and no others.
fn trust(
    builder: &mut SslConnectorBuilder,
    roots: &str,
    crl: Option<&str>,
    crl_dir: Option<&str>,
) -> Result<(), Box<dyn Error>> {
    let mut store = X509StoreBuilder::new()?;
    for root in X509::stack_from_pem(&std::fs::read(roots)?)? {
        store.add_cert(root)?;
    }
    if let Some(crl) = crl {
        store.add_lookup(X509Lookup::file())?.load_crl_file(crl, SslFiletype::PEM)?;
    }
    if let Some(dir) = crl_dir {
        store.add_lookup(X509Lookup::hash_dir())?.add_dir(dir, SslFiletype::PEM)?;
    }
    if crl.or(crl_dir).is_some() {
        store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)?;
    }
    builder.set_cert_store(store.build());
    Ok(())
}

fn use_key(builder: &mut SslConnectorBuilder, file: &str, credentials: &Credentials) -> Result<(), Box<dyn Error>> {
    match &credentials.sslpassword {
        None => builder.set_private_key_file(file, SslFiletype::PEM)?,
        Some(password) => {
            let pem = std::fs::read(file)?;
            let key = PKey::private_key_from_pem_passphrase(&pem, password.expose().as_bytes())?;
            builder.set_private_key(&key)?;
        }
    }
    Ok(())
}
