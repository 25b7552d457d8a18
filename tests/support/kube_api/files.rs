//! What clients are configured with: a kubeconfig, and the folder that a pod has of its service account.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::authority::Leaf;
use super::{KubeApi, Proxy};

impl KubeApi {
    /// A kubeconfig with one context, `test`, for a token.
    pub fn kubeconfig(&self, folder: &Path, token: &str, namespace: &str) -> PathBuf {
        kubeconfig(folder, &self.url(), &self.authority.pem(), &json!({"token": token}), namespace)
    }

    /// A kubeconfig for a client certificate.
    pub fn kubeconfig_for(&self, folder: &Path, leaf: &Leaf, namespace: &str) -> PathBuf {
        let data = |bytes: Vec<u8>| STANDARD.encode(bytes);
        let user = json!({
            "client-certificate-data": data(leaf.cert.to_pem().expect("a certificate has a PEM form")),
            "client-key-data": data(leaf.key_pem()),
        });
        kubeconfig(folder, &self.url(), &self.authority.pem(), &user, namespace)
    }

    /// `token`, `ca.crt` and `namespace`, as below /var/run/secrets/kubernetes.io/serviceaccount.
    pub fn write_service_account(&self, folder: &Path, token: &str, namespace: &str) {
        write_service_account(folder, &self.authority.pem(), token, namespace);
    }
}

impl Proxy {
    /// As the server's, but by way of the proxy.
    pub fn kubeconfig(&self, folder: &Path, token: &str, namespace: &str) -> PathBuf {
        kubeconfig(folder, &self.url(), &self.authority().pem(), &json!({"token": token}), namespace)
    }
}

/// The file `kubeconfig` in the folder. JSON is YAML too.
pub fn kubeconfig(folder: &Path, url: &str, authority: &[u8], user: &serde_json::Value, namespace: &str) -> PathBuf {
    let cluster = json!({"server": url, "certificate-authority-data": STANDARD.encode(authority)});
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        "current-context": "test",
    });
    let file = folder.join("kubeconfig");
    std::fs::write(&file, config.to_string()).expect("it can be written");
    file
}

pub fn write_service_account(folder: &Path, authority: &[u8], token: &str, namespace: &str) {
    for (name, content) in [("ca.crt", authority), ("token", token.as_bytes()), ("namespace", namespace.as_bytes())] {
        // Renamed into its place, as a pod's volume is changed.
        let (new, file) = (folder.join(format!(".{name}.new")), folder.join(name));
        std::fs::write(&new, content).expect("it can be written");
        std::fs::rename(&new, &file).expect("it can be renamed");
    }
}
