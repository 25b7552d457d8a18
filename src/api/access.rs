//! Who may use the endpoints that change something: networks first, then the client's certificate, then the password.
//! The first check that fails answers.
//!
//! Where neither credentials nor client certificates nor an allowlist is configured, only this host and the members are
//! admitted. Host names of the allowlist are resolved once, when the settings are loaded; those of members when they are
//! needed, and never for a client that lacks the certificate or the password.

use std::net::IpAddr;

use base64::Engine;
use ipnet::IpNet;
use openssl::sha::sha256;
use tracing::warn;

use super::members::{Lookup, Members, resolve};
use crate::config::{RestConfig, VerifyClient};
use crate::core::policy::Switch;
use crate::core::view::ClusterView;

#[derive(Debug)]
pub struct Access {
    origin: Origin,
    certificate: CertificateRule,
    /// Digest of the whole expected header: comparing digests takes the same time wherever two headers differ.
    authorization: Option<[u8; 32]>,
    members: Members,
}

/// From where requests are admitted.
#[derive(Clone, Debug)]
enum Origin {
    Anywhere,
    /// `restapi.allowlist`, without or with the members.
    Listed(Vec<IpNet>, Switch),
    /// Nothing else protects the API: loopback and the members.
    HostAndMembers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateRule {
    NotNeeded,
    Needed,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    pub certificate: ClientCertificate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    None,
    Valid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Denied,
    /// As `Denied`, because nothing is configured that could admit anybody else.
    Unprotected,
    CertificateRequired,
    NoAuthHeader,
    NotAuthenticated,
}

const UNPROTECTED: &str = "Access is denied: without credentials, requests that change something are accepted only from \
    this host and from members of the cluster. Set PATRONI_RESTAPI_USERNAME and PATRONI_RESTAPI_PASSWORD, or \
    PATRONI_RESTAPI_ALLOWLIST (0.0.0.0/0,::/0 accepts every address)";

impl Refusal {
    pub fn code(self) -> u16 {
        match self {
            Refusal::Denied | Refusal::Unprotected | Refusal::CertificateRequired => 403,
            Refusal::NoAuthHeader | Refusal::NotAuthenticated => 401,
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Refusal::Denied => "Access is denied",
            Refusal::Unprotected => UNPROTECTED,
            Refusal::CertificateRequired => "client certificate required",
            Refusal::NoAuthHeader => "no auth header received",
            Refusal::NotAuthenticated => "not authenticated",
        }
    }
}

/// Who reads a document that may hold secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Might send requests that change something as well.
    Admitted,
    Stranger,
}

impl Access {
    pub async fn load(config: &RestConfig) -> Self {
        let certificate = match &config.tls {
            Some(tls) if tls.verify_client != VerifyClient::None => CertificateRule::Needed,
            Some(_) | None => CertificateRule::NotNeeded,
        };
        let authorization = config.auth.as_ref().map(|auth| {
            let pair = format!("{}:{}", auth.username, auth.password.expose());
            sha256(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)).as_bytes())
        });
        let origin = match (config.allowlist.is_empty(), config.allowlist_include_members) {
            (true, Switch::Off) if certificate == CertificateRule::NotNeeded && authorization.is_none() => {
                Origin::HostAndMembers
            }
            (true, Switch::Off) => Origin::Anywhere,
            (_, members) => Origin::Listed(networks(&config.allowlist).await, members),
        };
        Access { origin, certificate, authorization, members: Members::default() }
    }

    /// Whether nothing is configured that tells friend from foe.
    pub fn is_unprotected(&self) -> bool {
        matches!(self.origin, Origin::HostAndMembers)
    }

    /// `view` is the last one of the cluster; without it nobody counts as a member.
    pub async fn check(
        &self,
        peer: &Peer,
        authorization: Option<&[u8]>,
        view: Option<&ClusterView>,
    ) -> Result<(), Refusal> {
        let address = peer.address.to_canonical();
        let denied = if self.is_unprotected() { Refusal::Unprotected } else { Refusal::Denied };
        let identity = self.identify(peer, authorization);
        match self.admits(address, view) {
            Lookup::Found => identity,
            Lookup::Absent => Err(denied),
            // Nobody without the password makes us ask a name server.
            Lookup::Unresolved => match (identity, view) {
                (Ok(()), Some(view)) if self.members.resolve(view).await.contains(&address) => Ok(()),
                (Ok(()) | Err(_), _) => Err(denied),
            },
        }
    }

    fn identify(&self, peer: &Peer, authorization: Option<&[u8]>) -> Result<(), Refusal> {
        if self.certificate == CertificateRule::Needed && peer.certificate == ClientCertificate::None {
            return Err(Refusal::CertificateRequired);
        }
        let Some(expected) = &self.authorization else { return Ok(()) };
        let given = sha256(authorization.ok_or(Refusal::NoAuthHeader)?);
        match openssl::memcmp::eq(expected, &given) {
            true => Ok(()),
            false => Err(Refusal::NotAuthenticated),
        }
    }

    fn admits(&self, address: IpAddr, view: Option<&ClusterView>) -> Lookup {
        let by_members = || view.map_or(Lookup::Absent, |view| self.members.look_up(address, view));
        match &self.origin {
            Origin::Anywhere => Lookup::Found,
            Origin::HostAndMembers if address.is_loopback() => Lookup::Found,
            Origin::HostAndMembers => by_members(),
            Origin::Listed(networks, _) if networks.iter().any(|network| network.contains(&address)) => Lookup::Found,
            Origin::Listed(_, Switch::On) => by_members(),
            Origin::Listed(_, Switch::Off) => Lookup::Absent,
        }
    }
}

/// An entry that cannot be resolved matches nobody.
async fn networks(allowlist: &[String]) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for entry in allowlist {
        match network(entry) {
            Some(network) => networks.push(network),
            None => {
                let found = resolve(entry).await;
                if found.is_empty() {
                    warn!("restapi.allowlist: {entry:?} is neither an address, a network nor a name that resolves");
                }
                networks.extend(found.into_iter().map(IpNet::from));
            }
        }
    }
    networks
}

fn network(entry: &str) -> Option<IpNet> {
    let address: Option<IpAddr> = entry.trim_matches(['[', ']']).parse().ok();
    address.map(IpNet::from).or_else(|| entry.parse().ok())
}

#[cfg(test)]
mod tests;
