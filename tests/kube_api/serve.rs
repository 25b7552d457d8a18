//! The server by hand, for kubectl, Patroni and other programs:
//!
//! `KUBE_API_ADDRESS=10.0.0.1:6443 cargo test --test kube_api serve -- --ignored --nocapture`
//!
//! prints one line of JSON and serves until its standard input is closed. In the folder (`KUBE_API_FOLDER`, else a temporary
//! one) stand a kubeconfig and the folder of a service account with every right in the namespace
//! (`KUBE_API_NAMESPACE`, else `demo`).

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;

use crate::kube_api::{KubeApi, Options, Rule};

#[test]
#[ignore = "serves by hand"]
fn serve() {
    let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut options = Options::loopback();
    if let Some(address) = given("KUBE_API_ADDRESS") {
        options.address = address.parse::<SocketAddr>().expect("KUBE_API_ADDRESS is ADDRESS:PORT");
    }
    let namespace = given("KUBE_API_NAMESPACE").unwrap_or_else(|| "demo".to_owned());
    options.namespaces = vec![namespace.clone()];
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = given("KUBE_API_FOLDER").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let api = KubeApi::start(options);
    let all = Rule {
        groups: vec!["*".to_owned()],
        resources: vec!["*".to_owned()],
        verbs: vec!["*".to_owned()],
        names: Vec::new(),
        namespace: Some(namespace.clone()),
    };
    let account = api.service_account(&namespace, "default", vec![all]);
    let secrets = folder.join("serviceaccount");
    std::fs::create_dir_all(&secrets).expect("a folder");
    api.write_service_account(&secrets, &account, &namespace);
    let kubeconfig = api.kubeconfig(&folder, api.admin(), &namespace);
    let said = json!({
        "url": api.url(),
        "kubeconfig": kubeconfig,
        "serviceaccount": secrets,
        "ca": secrets.join("ca.crt"),
        "admin": api.admin(),
        "account": account,
    });
    println!("{said}");
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).expect("standard input can be read");
    if let Some(file) = given("KUBE_API_RECORDS") {
        let lines: Vec<String> = api.records().iter().map(|record| format!("{record:?}")).collect();
        std::fs::write(file, lines.join("\n")).expect("it can be written");
    }
}
