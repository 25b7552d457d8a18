//! The addresses of the members, by the hosts of their records.
//!
//! **Invariants:** looking up never waits; however many ask, names are resolved by one at a time and at most once in
//! `FRESH`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::core::view::ClusterView;

/// How long the names of all members may take to resolve.
const RESOLVE_LIMIT: Duration = Duration::from_secs(2);

/// How long resolved addresses count: members move.
const FRESH: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    Found,
    Absent,
    /// Only the names of members can tell.
    Unresolved,
}

#[derive(Debug, Default)]
pub struct Members {
    last: Mutex<Option<Resolved>>,
    resolving: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Resolved {
    at: Instant,
    names: BTreeSet<String>,
    addresses: Arc<BTreeSet<IpAddr>>,
}

impl Members {
    pub fn look_up(&self, address: IpAddr, view: &ClusterView) -> Lookup {
        let (addresses, names) = hosts(view);
        if addresses.contains(&address) {
            return Lookup::Found;
        }
        match self.resolved(&names) {
            Some(known) if known.contains(&address) => Lookup::Found,
            Some(_) => Lookup::Absent,
            None if names.is_empty() => Lookup::Absent,
            None => Lookup::Unresolved,
        }
    }

    /// The addresses that the members' names have now.
    pub async fn resolve(&self, view: &ClusterView) -> Arc<BTreeSet<IpAddr>> {
        let (_, names) = hosts(view);
        let _alone = self.resolving.lock().await;
        if let Some(known) = self.resolved(&names) {
            return known;
        }
        let found = futures_util::future::join_all(names.iter().map(|name| resolve(name))).await;
        let addresses: Arc<BTreeSet<IpAddr>> = Arc::new(found.into_iter().flatten().collect());
        let resolved = Resolved { at: Instant::now(), names, addresses: addresses.clone() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(resolved);
        addresses
    }

    fn resolved(&self, names: &BTreeSet<String>) -> Option<Arc<BTreeSet<IpAddr>>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.as_ref().filter(|last| last.at.elapsed() < FRESH && last.names == *names)?;
        Some(last.addresses.clone())
    }
}

/// The hosts of all members: REST API and PostgreSQL. Addresses, then names.
fn hosts(view: &ClusterView) -> (BTreeSet<IpAddr>, BTreeSet<String>) {
    let (mut addresses, mut names) = (BTreeSet::new(), BTreeSet::new());
    for member in view.members.values() {
        let api = member.api_url.as_deref().and_then(host_of);
        let postgres = member.address.as_ref().map(|address| address.host.clone());
        for host in api.into_iter().chain(postgres) {
            match host.parse::<IpAddr>() {
                Ok(address) => drop(addresses.insert(address.to_canonical())),
                Err(_) => drop(names.insert(host)),
            }
        }
    }
    (addresses, names)
}

/// The host of a URL, without brackets.
fn host_of(url: &str) -> Option<String> {
    let url: hyper::Uri = url.parse().ok()?;
    Some(url.host()?.trim_matches(['[', ']']).to_owned())
}

/// The addresses of a host; none if it does not resolve in time.
pub async fn resolve(host: &str) -> Vec<IpAddr> {
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
    fn finds_the_host_of_a_url() {
        assert_eq!(host_of("http://n1.example:8008/patroni").as_deref(), Some("n1.example"));
        assert_eq!(host_of("https://[2001:db8::1]:8008/patroni").as_deref(), Some("2001:db8::1"));
        assert_eq!(host_of("/nonsense"), None);
    }
}
