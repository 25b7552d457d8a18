//! What a reading of the configuration is given besides its sources.

use std::path::Path;

use super::{CtlConfig, RestConfig};

/// What a configuration depends on besides its sources.
pub struct HostFacts {
    pub host_name: String,
    pub account: Account,
    /// What is in a data directory; `inspect_data_dir`, or something else in a test.
    pub inspect: Box<dyn Fn(&Path) -> FoundData + Send + Sync>,
    /// Which settings of the REST API and of requests to members name what cannot be used, or does not do what it is for.
    pub unusable: CheckTls,
}

/// Loads certificates, keys and authorities and throws them away: only those who use them know what is wrong with them.
pub type CheckTls = fn(&RestConfig, &CtlConfig) -> Vec<Unusable>;

/// A setting that names a file or holds a value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The setting's path: `restapi.certfile`.
    pub setting: &'static str,
    /// What was given and why it is of no use.
    pub given: String,
    pub accepted: &'static str,
    pub weight: Weight,
}

/// What becomes of a start with such a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    Error,
    Warning,
}

/// The account that PostgreSQL runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    Named(String),
    /// A uid that the system has no name for (`--user 12345`): `peer` cannot work.
    Unnamed,
}

/// What is in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundData {
    None,
    /// Data that were never a cluster's.
    Plain,
    /// `patroni.dynamic.json` is there: a former member of a cluster.
    ClusterMember,
    /// It cannot be looked into.
    Unreadable,
}

/// Looks into a data directory; changes nothing.
pub fn inspect_data_dir(path: &Path) -> FoundData {
    let exists = |name: &str| path.join(name).try_exists();
    match (exists("PG_VERSION"), exists("patroni.dynamic.json")) {
        (Err(_), _) | (_, Err(_)) => FoundData::Unreadable,
        (Ok(_), Ok(true)) => FoundData::ClusterMember,
        (Ok(true), Ok(false)) => FoundData::Plain,
        (Ok(false), Ok(false)) => FoundData::None,
    }
}

/// What a configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A member starts: the files that the settings name have to be there.
    Start,
    /// A member that runs reads its configuration again.
    Reload,
    /// Commands ask members and the DCS, perhaps from elsewhere: no data directory and no role's password is needed.
    CommandLine,
}
