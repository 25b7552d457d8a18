//! The other members over HTTP.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use hyper::Method;
use serde_json::Value;

use crate::agent::peers::{PeerClient, PeerReply};
use crate::config::Config;
use crate::core::failsafe::Vouch;
use crate::http::{Caller, Client, HttpError, endpoint};

/// The other members over HTTP, with what the configuration says of certificates and credentials. Without a client,
/// which only a later agent may be, nobody is asked until a reload brings one.
pub(super) struct HttpPeers(RwLock<Option<Client>>);

impl HttpPeers {
    pub(super) fn new(config: &Config) -> Self {
        let client = Client::new(Caller::Member, &config.ctl, &config.rest);
        let client = client.inspect_err(|error| tracing::error!("no other member can be asked: {error}"));
        HttpPeers(RwLock::new(client.ok()))
    }

    pub(super) fn replace(&self, config: &Config) -> Result<(), HttpError> {
        let client = Client::new(Caller::Member, &config.ctl, &config.rest)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(client);
        Ok(())
    }
}

impl PeerClient for HttpPeers {
    fn vouch<'a>(&'a self, url: &'a str, body: &'a Value, limit: Duration) -> BoxFuture<'a, Vouch> {
        let client = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let url = endpoint(url, "failsafe");
        async move {
            let Some(client) = client else { return Vouch::NoAnswer };
            match client.send(Method::POST, &url, Some(body), limit).await {
                Ok(answer) if answer.code == 200 && answer.text() == "Accepted" => Vouch::Accepted,
                Ok(_) => Vouch::Refused,
                Err(error) => {
                    tracing::debug!("{error}");
                    Vouch::NoAnswer
                }
            }
        }
        .boxed()
    }

    fn get<'a>(&'a self, url: &'a str, limit: Duration) -> BoxFuture<'a, Option<PeerReply>> {
        let client = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        async move {
            match client?.send(Method::GET, url, None, limit).await {
                Ok(answer) => Some(PeerReply { status: answer.code, body: answer.json().unwrap_or(Value::Null) }),
                Err(error @ HttpError::Tls { .. }) => {
                    // Most likely a matter of certificates, which does not heal by itself.
                    tracing::warn!("cannot ask a member: {error}");
                    None
                }
                Err(error) => {
                    tracing::debug!("{error}");
                    None
                }
            }
        }
        .boxed()
    }
}
