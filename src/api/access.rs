//! Who may use the endpoints that change something (rest-api.md 2): networks first, then the client's certificate,
//! then the password. The first check that fails answers.
//!
//! Host names of the allowlist are resolved once, when the settings are loaded; those of members for each request,
//! since members move.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use openssl::sha::sha256;
use tracing::warn;

use crate::config::{RestConfig, VerifyClient};
use crate::core::policy::Switch;
use crate::core::view::ClusterView;

/// How long the names of all members may take to resolve, for one request.
const RESOLVE_LIMIT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct Access {
    networks: Vec<Network>,
    members: Switch,
    certificate: CertificateRule,
    /// Digest of the whole expected header: comparing digests takes the same time wherever two headers differ.
    authorization: Option<[u8; 32]>,
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
    CertificateRequired,
    NoAuthHeader,
    NotAuthenticated,
}

impl Refusal {
    pub fn code(self) -> u16 {
        match self {
            Refusal::Denied | Refusal::CertificateRequired => 403,
            Refusal::NoAuthHeader | Refusal::NotAuthenticated => 401,
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Refusal::Denied => "Access is denied",
            Refusal::CertificateRequired => "client certificate required",
            Refusal::NoAuthHeader => "no auth header received",
            Refusal::NotAuthenticated => "not authenticated",
        }
    }
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
        Access {
            networks: networks(&config.allowlist).await,
            members: config.allowlist_include_members,
            certificate,
            authorization,
        }
    }

    /// Whether anything at all stands between a stranger and the control endpoints.
    pub fn is_open(&self) -> bool {
        let filtered = !self.networks.is_empty() || self.members.is_on();
        !filtered && self.certificate == CertificateRule::NotNeeded && self.authorization.is_none()
    }

    /// `view` is the last one of the cluster; without it nobody counts as a member.
    pub async fn check(
        &self,
        peer: &Peer,
        authorization: Option<&[u8]>,
        view: Option<&ClusterView>,
    ) -> Result<(), Refusal> {
        if !self.admits(peer.address, view).await {
            return Err(Refusal::Denied);
        }
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

    async fn admits(&self, address: IpAddr, view: Option<&ClusterView>) -> bool {
        if self.networks.is_empty() && !self.members.is_on() {
            return true;
        }
        let address = address.to_canonical();
        if self.networks.iter().any(|network| network.contains(address)) {
            return true;
        }
        match view {
            Some(view) if self.members.is_on() => member_addresses(view).await.contains(&address),
            Some(_) | None => false,
        }
    }
}

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
        let full = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(full), |prefix| prefix.parse().ok()).filter(|prefix| *prefix <= full)?;
        Some(Network { address, prefix })
    }

    fn one(address: IpAddr) -> Self {
        Network { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    fn contains(&self, other: IpAddr) -> bool {
        let (own, other, width) = match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u128::from(own.to_bits()), u128::from(other.to_bits()), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        (own ^ other).checked_shr(width - u32::from(self.prefix)).unwrap_or(0) == 0
    }
}

async fn networks(allowlist: &[String]) -> Vec<Network> {
    let mut networks = Vec::new();
    for entry in allowlist {
        match Network::parse(entry) {
            Some(network) => networks.push(network),
            None => {
                let found = resolve(entry).await;
                if found.is_empty() {
                    warn!("restapi.allowlist: {entry:?} is no network and its name cannot be resolved");
                    // Never an open door: an entry that matches nobody keeps the list non-empty.
                    networks.push(Network::one(IpAddr::from([0, 0, 0, 0])));
                }
                networks.extend(found.into_iter().map(Network::one));
            }
        }
    }
    networks
}

async fn member_addresses(view: &ClusterView) -> BTreeSet<IpAddr> {
    let hosts: BTreeSet<&str> =
        view.members.values().filter_map(|member| host_of(member.api_url.as_deref()?)).collect();
    let resolving = futures_util::future::join_all(hosts.into_iter().map(resolve));
    resolving.await.into_iter().flatten().collect()
}

/// The host of a URL, without brackets.
fn host_of(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, authority)| authority);
    match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next(),
        None => authority.split(':').next(),
    }
}

async fn resolve(host: &str) -> Vec<IpAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return vec![address.to_canonical()];
    }
    match tokio::time::timeout(RESOLVE_LIMIT, tokio::net::lookup_host((host, 0))).await {
        Ok(Ok(found)) => found.map(|address| address.ip().to_canonical()).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses_only() {
        let cases = [
            ("10.1.2.3/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "203.0.113.7", true),
            ("0.0.0.0/0", "::1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db9::1", true),
        ];
        for (network, address, expected) in cases {
            let network = Network::parse(network).expect("a network");
            assert_eq!(network.contains(address.parse().expect("an address")), expected, "{network:?} {address}");
        }
        for wrong in ["10.0.0.0/33", "::/129", "name", "10.0.0.0/x", ""] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn finds_the_host_of_a_url() {
        assert_eq!(host_of("http://n1.example:8008/patroni"), Some("n1.example"));
        assert_eq!(host_of("https://[2001:db8::1]:8008/patroni"), Some("2001:db8::1"));
        assert_eq!(host_of("nonsense"), None);
    }
}
