//! What the command line needs to reach a cluster from anywhere: the DCS, the scope, credentials for the REST API. It
//! asks for no data directory and no roles, and passes over everything else that may be set or wrong.

use std::ffi::OsString;
use std::path::Path;

use super::document::Document;
use super::error::{ConfigErrors, Report};
use super::raw::RawEnv;
use super::reader::Reader;
use super::{CtlConfig, EtcdConfig, etcd, node};

#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub scope: Option<String>,
    /// Without slashes at its ends.
    pub namespace: String,
    /// `None`: no DCS is named.
    pub dcs: Option<EtcdConfig>,
    pub ctl: CtlConfig,
}

impl ClientConfig {
    /// From the same sources as a member's configuration; so it works in a member's container with its environment.
    pub fn from_environment(
        vars: impl Iterator<Item = (OsString, OsString)>,
        file: Option<&Path>,
    ) -> Result<ClientConfig, ConfigErrors> {
        let mut report = Report::default();
        let raw = RawEnv::read(vars.filter(|(name, _)| is_for_clients(&name.to_string_lossy())), &mut report);
        let document = Document::gather(&raw, file, &mut report);
        let mut reader = Reader::new(&document, &mut report);
        let rest_auth = node::auth(&mut reader, "restapi", "PATRONI_RESTAPI");
        let config = ClientConfig {
            scope: reader.text("scope"),
            namespace: node::namespace(&mut reader),
            dcs: document.get("etcd3").and_then(|_| etcd::read(&mut reader)),
            ctl: node::ctl(&mut reader, rest_auth),
        };
        if report.errors.is_empty() { Ok(config) } else { Err(ConfigErrors(report.errors)) }
    }
}

fn is_for_clients(name: &str) -> bool {
    const NAMES: [&str; 6] = [
        "PATRONI_CONFIGURATION",
        "PATRONI_SCOPE",
        "PATRONI_NAMESPACE",
        "PATRONI_RESTAPI_USERNAME",
        "PATRONI_RESTAPI_PASSWORD",
        "PATRONI_RESTAPI_CAFILE",
    ];
    let name = name.strip_suffix("_FILE").unwrap_or(name);
    NAMES.contains(&name) || name.starts_with("PATRONI_ETCD3_") || name.starts_with("PATRONI_CTL_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(vars: &[(&str, &str)]) -> Result<ClientConfig, ConfigErrors> {
        ClientConfig::from_environment(vars.iter().map(|(name, value)| (name.into(), value.into())), None)
    }

    #[test]
    fn a_client_needs_neither_data_nor_roles() {
        let config = client(&[
            ("PATRONI_SCOPE", "main"),
            ("PATRONI_ETCD3_HOSTS", "e:2379"),
            ("PATRONI_RESTAPI_USERNAME", "u"),
            ("PATRONI_RESTAPI_PASSWORD", "p"),
            ("PATRONI_RESTAPI_CAFILE", "/ca"),
            ("PATRONI_TTL", "nonsense"),
            ("PATRONI_SUPERUSER_PASSWORD_FILE", "/not/readable"),
        ])
        .unwrap();
        assert_eq!((config.scope.as_deref(), config.namespace.as_str()), (Some("main"), "service"));
        assert_eq!(config.dcs.unwrap().endpoints[0].to_string(), "e:2379");
        assert_eq!(config.ctl.auth.unwrap().username, "u");
        assert_eq!(config.ctl.cacert, Some("/ca".into()));
        assert!(client(&[]).unwrap().dcs.is_none());
    }

    #[test]
    fn what_a_client_needs_must_be_right() {
        let errors = client(&[("PATRONI_ETCD3_HOSTS", "e:x"), ("PATRONI_CTL_INSECURE", "maybe")]).unwrap_err();
        assert_eq!(errors.0.len(), 2, "{errors}");
    }
}
