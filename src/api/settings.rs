//! What the server holds of its configuration, made ready for use: headers, access rules, certificates. Loaded at the
//! start and anew on each reload; a set that cannot be loaded leaves the old one in force.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use openssl::ssl::SslContext;

use super::access::Access;
use super::{ApiError, tls};
use crate::config::{RestConfig, ServerTokens};
use crate::core::PATRONI_VERSION;

/// The `Server` header.
fn server(tokens: ServerTokens) -> HeaderValue {
    match tokens {
        ServerTokens::Original => HeaderValue::from_static(concat!("tamada/", env!("CARGO_PKG_VERSION"))),
        ServerTokens::Minimal => {
            HeaderValue::from_str(&format!("Patroni/{PATRONI_VERSION}")).expect("a version is printable ASCII")
        }
        ServerTokens::ProductOnly => HeaderValue::from_static("Patroni"),
    }
}

#[derive(Debug)]
pub struct Settings {
    pub access: Access,
    /// Added to every answer.
    pub headers: HeaderMap,
    pub tls: Option<SslContext>,
}

impl Settings {
    pub async fn load(config: &RestConfig) -> Result<Self, ApiError> {
        let (headers, tls) = (headers(config)?, context(config)?);
        Ok(Settings { access: Access::load(config).await, headers, tls })
    }
}

/// Whether `load` will succeed with these files.
pub fn check(config: &RestConfig) -> Result<(), ApiError> {
    headers(config)?;
    context(config).map(drop)
}

fn headers(config: &RestConfig) -> Result<HeaderMap, ApiError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::SERVER, server(config.server_tokens));
    add(&mut headers, "restapi.http_extra_headers", &config.http_extra_headers)?;
    if config.tls.is_some() {
        add(&mut headers, "restapi.https_extra_headers", &config.https_extra_headers)?;
    }
    Ok(headers)
}

fn context(config: &RestConfig) -> Result<Option<SslContext>, ApiError> {
    config.tls.as_ref().map(tls::load).transpose()
}

fn add(
    headers: &mut HeaderMap,
    setting: &'static str,
    extra: &std::collections::BTreeMap<String, String>,
) -> Result<(), ApiError> {
    for (name, value) in extra {
        let parsed = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
        let (header, value) = parsed.ok_or_else(|| ApiError::Header { setting, name: name.clone() })?;
        headers.insert(header, value);
    }
    Ok(())
}
