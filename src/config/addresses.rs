//! Whether other members can reach this one at the addresses that it gives them.

use std::net::IpAddr;

use super::reader::{Reader, parse_host_port};
use super::{EtcdConfig, HostPort, PostgresConfig, RestConfig};

/// An address on the loopback interface is everybody's own: warned about, unless the DCS is on it too, as where a whole
/// cluster runs on one machine.
pub(super) fn warn_of_loopback(
    reader: &mut Reader<'_>,
    etcd: &EtcdConfig,
    postgres: &PostgresConfig,
    rest: &RestConfig,
) {
    if etcd.endpoints.iter().all(|endpoint| is_loopback(&endpoint.host)) {
        return;
    }
    let connect =
        [("postgresql.connect_address", &postgres.connect_address), ("restapi.connect_address", &rest.connect_address)];
    for (path, address) in connect.into_iter().filter(|(_, address)| is_loopback(&address.host)) {
        let text = "is a loopback address, but the DCS is on another host: members that connect to it reach themselves";
        warn(reader, path, &format!("{address} {text}"));
    }
    let listens = [("postgresql.listen", postgres.listen_addresses.as_str()), ("restapi.listen", &rest.listen.host)];
    for (path, addresses) in listens.into_iter().filter(|(_, addresses)| addresses.split(',').all(is_loopback)) {
        let text = "is a loopback address, but the DCS is on another host: other members cannot connect to it";
        warn(reader, path, &format!("{addresses} {text}"));
    }
}

fn warn(reader: &mut Reader<'_>, path: &str, text: &str) {
    let place = reader.document.place(path);
    reader.report.warn(format!("{place}: {text}"));
}

pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

impl HostPort {
    /// `host:port`, `[v6]:port`; without a port where there is a default.
    pub fn parse(text: &str, default_port: Option<u16>) -> Option<HostPort> {
        parse_host_port(text, default_port)
    }
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
