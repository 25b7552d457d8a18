//! A cluster whose state is kept in Kubernetes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::kube_api::{KubeApi, Options};
use crate::load::{Habit, TABLE, Writer, longest_gap, lost};
use crate::member::Member;
use crate::wait::{seconds, until};
use crate::world::{Cluster, SOON, Store};

const NAMESPACE: &str = "demo";

/// The objects that hold the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    Endpoints,
    ConfigMaps,
    Leases,
}

pub struct Kubernetes {
    api: KubeApi,
    pub objects: Objects,
    folder: tempfile::TempDir,
}

impl Kubernetes {
    pub fn start(objects: Objects) -> Self {
        let folder = crate::world::folder();
        let api = KubeApi::start(Options::loopback());
        let file = api.kubeconfig(folder.path(), api.admin(), NAMESPACE);
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("ours");
        Kubernetes { api, objects, folder }
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    pub fn put_pod(&self, name: &str, ip: &str, labels: &Value) {
        self.api.put_pod(NAMESPACE, name, ip, labels);
    }

    pub fn config_maps(&self) -> Vec<String> {
        let all = self.api.list("configmaps", NAMESPACE);
        let name = |object: &Value| object["metadata"]["name"].as_str().map(str::to_owned);
        // The API server's own, in each namespace.
        all.iter().filter_map(|object| name(object)).filter(|name| name != "kube-root-ca.crt").collect()
    }

    fn leader(&self) -> (&'static str, &'static str) {
        match self.objects {
            Objects::Endpoints => ("endpoints", "demo"),
            Objects::ConfigMaps => ("configmaps", "demo-leader"),
            Objects::Leases => ("leases", "demo"),
        }
    }

    pub fn holder(&self) -> Option<String> {
        let (resource, object) = self.leader();
        let object = self.api.get(resource, NAMESPACE, object)?;
        let name = match self.objects {
            Objects::Endpoints | Objects::ConfigMaps => &object["metadata"]["annotations"]["leader"],
            Objects::Leases => &object["spec"]["holderIdentity"],
        };
        name.as_str().map(str::to_owned)
    }

    fn label(&self, pod: &str, label: &str) -> Option<String> {
        self.api.get("pods", NAMESPACE, pod)?["metadata"]["labels"][label].as_str().map(str::to_owned)
    }

    pub fn address_of(name: &str) -> String {
        format!("10.244.0.{}", name.trim_start_matches('m'))
    }

    /// Where the Service leads.
    fn addresses(&self) -> Vec<String> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match self.objects {
            Objects::ConfigMaps => Vec::new(),
            Objects::Endpoints => {
                let endpoints = self.api.get("endpoints", NAMESPACE, "demo");
                let subsets = endpoints.map(|endpoints| list(&endpoints["subsets"])).unwrap_or_default();
                let addresses = subsets.iter().flat_map(|subset| list(&subset["addresses"]));
                addresses.filter_map(|address| text(&address["ip"])).collect()
            }
            Objects::Leases => {
                let slice = self.api.get("endpointslices", NAMESPACE, "demo-primary");
                let endpoints = slice.map(|slice| list(&slice["endpoints"])).unwrap_or_default();
                let addresses = endpoints.iter().flat_map(|endpoint| list(&endpoint["addresses"]));
                addresses.filter_map(|address| text(&address)).collect()
            }
        }
    }
}

impl Store for Kubernetes {
    /// With its pod, as a StatefulSet makes it.
    fn join(&self, member: &mut Member) {
        let labels = json!({"application": "patroni", "cluster-name": "demo"});
        self.put_pod(&member.name, &Self::address_of(&member.name), &labels);
        let file = self.kubeconfig().display().to_string();
        member.set("KUBECONFIG", &file).set("PATRONI_KUBERNETES_LABELS", "application: patroni");
        for (name, objects) in [("ENDPOINTS", Objects::Endpoints), ("LEASES", Objects::Leases)] {
            member.set(&format!("PATRONI_KUBERNETES_USE_{name}"), &(self.objects == objects).to_string());
        }
    }
}

fn a_cluster_begins_changes_and_loses_its_leader(objects: Objects) {
    let mut cluster = Cluster::start_on(Kubernetes::start(objects), 3);
    let (first, _) = cluster.whole(SOON);
    let name = cluster.members[first].name.clone();
    assert_eq!(cluster.store.holder(), Some(name.clone()));
    until(SOON, "labels", || cluster.store.label(&name, "role").as_deref() == Some("primary"));
    let replicas = |cluster: &Cluster<Kubernetes>| {
        let names = cluster.members.iter().map(|member| cluster.store.label(&member.name, "role"));
        names.filter(|role| role.as_deref() == Some("replica")).count()
    };
    until(SOON, "labels of replicas", || replicas(&cluster) == 2);
    let leads_to = |cluster: &Cluster<Kubernetes>, name: &str| {
        objects == Objects::ConfigMaps || cluster.store.addresses() == [Kubernetes::address_of(name)]
    };
    until(SOON, "the Service leads to the leader", || leads_to(&cluster, &name));
    cluster.members[first].must(TABLE);
    let order: Vec<&Member> = (0..3).map(|at| &cluster.members[(first + at) % 3]).collect();
    let writer = Writer::start(&order, Habit::Roams, 1);
    let second = (first + 1) % 3;
    let to = cluster.members[second].name.clone();
    let reply = cluster.members[first].send("POST", "/switchover", &json!({"leader": name, "candidate": to}));
    assert_eq!(reply.expect("an answer").code, 200);
    assert_eq!(cluster.whole(SOON).0, second);
    let acks = writer.stop();
    println!("{} acknowledged writes, longest gap of the switchover {:?}", acks.len(), longest_gap(&acks));
    assert_eq!(lost(&acks, &cluster.members[second]), [0; 0]);

    cluster.members[second].kill();
    let (third, took) = cluster.primary(seconds(20));
    println!("a new primary {took:?} after the loss of the old one");
    assert_ne!(third, second);
    let new = cluster.members[third].name.clone();
    until(SOON, "the Service leads to the new leader", || leads_to(&cluster, &new));
    until(SOON, "the dead leader's label goes", || cluster.store.label(&to, "role").is_none());
    cluster.members[second].start();
    assert_eq!(cluster.whole(SOON).0, third);
}

#[test]
fn on_endpoints() {
    a_cluster_begins_changes_and_loses_its_leader(Objects::Endpoints);
}

#[test]
fn on_config_maps() {
    a_cluster_begins_changes_and_loses_its_leader(Objects::ConfigMaps);
}

#[test]
fn on_leases() {
    a_cluster_begins_changes_and_loses_its_leader(Objects::Leases);
}
