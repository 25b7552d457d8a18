//! The configuration of a node in these tests, read as any other from variables.

use std::ffi::OsString;

use tamada::config::{Account, Config, FoundData, HostFacts, KubernetesAccess};

/// A member of the cluster `demo` with ttl 30, loop_wait 10, retry_timeout 10.
pub fn config(name: &str) -> Config {
    with(name, &[("PATRONI_TTL", "30"), ("PATRONI_LOOP_WAIT", "10"), ("PATRONI_RETRY_TIMEOUT", "10")])
}

/// The same with these variables of the cluster's.
pub fn with(name: &str, more: &[(&str, &str)]) -> Config {
    let member = [
        ("PATRONI_NAME", name),
        ("PATRONI_SCOPE", "demo"),
        ("PATRONI_ETCD3_HOSTS", "etcd:2379"),
        ("PATRONI_SUPERUSER_PASSWORD", "a"),
        ("PATRONI_REPLICATION_PASSWORD", "b"),
        ("PATRONI_POSTGRESQL_CONNECT_ADDRESS", name),
        ("PATRONI_RESTAPI_CONNECT_ADDRESS", name),
        ("PATRONI_POSTGRESQL_USE_PG_REWIND", "true"),
    ];
    single_or_member(name, member.iter().chain(more))
}

/// A plain server without a DCS.
pub fn single(name: &str) -> Config {
    single_or_member(name, [("POSTGRES_PASSWORD", "a")].iter())
}

fn single_or_member<'a>(name: &str, variables: impl Iterator<Item = &'a (&'a str, &'a str)>) -> Config {
    let host = HostFacts {
        host_name: name.to_owned(),
        kubernetes: KubernetesAccess::default(),
        account: Account::Named("postgres".to_owned()),
        inspect: Box::new(|_| FoundData::None),
        unusable: |_, _| Vec::new(),
    };
    let variables = variables.chain([("PGDATA", "/nowhere")].iter());
    let variables = variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::from_environment(variables.collect::<Vec<_>>().into_iter(), None, &host).unwrap()
}
