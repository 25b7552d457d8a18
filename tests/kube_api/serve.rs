//! The server by hand, for kubectl, Patroni and other programs:
//!
//! `KUBE_API_ADDRESS=10.0.0.1:6443 cargo test --test kube_api serve -- --ignored --nocapture`
//!
//! prints one line of JSON and serves until its standard input is closed. In the folder (`KUBE_API_FOLDER`, else a temporary
//! one) stand a kubeconfig and the folder of a service account with every right in the namespace
//! (`KUBE_API_NAMESPACE`, else `demo`).
//!
//! Lines on standard input are commands, each answered by a line of JSON: `pod NAME IP {"label":"value"}`, `delete RESOURCE
//! NAME`, `expire TOKEN`, `freeze`, `thaw`, `stop`, `restart`, `compact`, `drop` (all watches), `wipe`, `requests` (how many of
//! each kind since the last time).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use crate::kube_api::{Ending, KubeApi, Options, Rule};

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
    let mut seen = 0;
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match command(&api, &namespace, &line, &mut seen) {
            Some(answer) => println!("{answer}"),
            None => println!("{}", json!({"error": "no such command", "command": line})),
        }
    }
}

/// What a line on standard input asks for; see the head of this file.
fn command(api: &KubeApi, namespace: &str, line: &str, seen: &mut usize) -> Option<Value> {
    let words: Vec<&str> = line.trim().splitn(4, ' ').collect();
    match words[..] {
        ["pod", name, ip, labels] => {
            let labels: Value = serde_json::from_str(labels).ok()?;
            return Some(Value::clone(&api.put_pod(namespace, name, ip, &labels)));
        }
        ["delete", resource, name] => return Some(json!(api.delete(resource, namespace, name))),
        ["expire", token] => api.expire(token, Instant::now()),
        ["freeze"] => api.freeze(),
        ["thaw"] => api.thaw(),
        ["stop"] => api.stop(),
        ["restart"] => api.restart(),
        ["compact"] => api.compact(),
        ["drop"] => api.drop_watches(Ending::Clean),
        ["wipe"] => api.wipe(),
        ["requests"] => {
            let records = api.records();
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            for record in records.iter().skip(*seen) {
                let (asked, code) = (&record.asked, record.code);
                let key = format!("{} {} {} {code}", record.user, asked.verb, asked.full_resource());
                *counts.entry(key).or_default() += 1;
            }
            *seen = records.len();
            return Some(json!(counts));
        }
        _ => return None,
    }
    Some(json!({"done": line}))
}
