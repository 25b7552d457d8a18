//! What a reading of the configuration is given besides its sources.

use std::path::Path;

use super::{CtlConfig, RestConfig};

/// What a configuration depends on besides its sources.
pub struct HostFacts {
    pub host_name: String,
    pub account: Account,
    pub kubernetes: KubernetesAccess,
    /// What is in a data directory; `inspect_data_dir`, or something else in a test.
    pub inspect: Box<dyn Fn(&Path) -> FoundData + Send + Sync>,
    /// Which settings of the REST API and of requests to members name what cannot be used, or does not do what it is for.
    pub unusable: CheckTls,
}

/// What there is on this machine to ask Kubernetes' API with, besides what variables say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KubernetesAccess {
    /// The token of a pod's service account is mounted.
    pub service_account: bool,
    /// `~/.kube/config` is there.
    pub kubeconfig: bool,
}

/// Where Kubernetes mounts the service account into each pod.
pub(super) const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl KubernetesAccess {
    pub fn look() -> Self {
        KubernetesAccess {
            service_account: Path::new(SERVICE_ACCOUNT).join("token").exists(),
            kubeconfig: std::env::home_dir().is_some_and(|home| home.join(".kube/config").exists()),
        }
    }
}

/// What a command is told by its options: it wins over variables and files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandOptions {
    pub scope: Option<String>,
    /// Of Kubernetes.
    pub namespace: Option<String>,
    /// Of the kubeconfig.
    pub context: Option<String>,
}

impl CommandOptions {
    /// Each that is given: the path that it sets, its name, its value.
    pub(super) fn given(&self) -> impl Iterator<Item = (&'static str, &'static str, &str)> {
        let options = [
            ("scope", "--scope", &self.scope),
            ("kubernetes.namespace", "--namespace", &self.namespace),
            ("kubernetes.context", "--context", &self.context),
        ];
        options.into_iter().filter_map(|(path, option, value)| Some((path, option, value.as_deref()?)))
    }
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
