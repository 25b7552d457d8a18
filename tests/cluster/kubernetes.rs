//! A cluster whose state is kept in Kubernetes.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::kube_api::{KubeApi, Options};
use crate::load::{Habit, TABLE, Writer, longest_gap, lost};
use crate::member::Member;
use crate::wait::{seconds, until};
use crate::world::{Cluster, SOON, Store};

const NAMESPACE: &str = "demo";

/// The objects that hold the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Objects {
    Endpoints,
    ConfigMaps,
}

struct Kubernetes {
    api: KubeApi,
    objects: Objects,
    folder: tempfile::TempDir,
}

impl Kubernetes {
    fn start(objects: Objects) -> Self {
        let folder = crate::world::folder();
        let api = KubeApi::start(Options::loopback());
        let file = api.kubeconfig(folder.path(), api.admin(), NAMESPACE);
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("ours");
        Kubernetes { api, objects, folder }
    }

    fn leader(&self) -> (&'static str, &'static str) {
        match self.objects {
            Objects::Endpoints => ("endpoints", "demo"),
            Objects::ConfigMaps => ("configmaps", "demo-leader"),
        }
    }

    fn annotation(&self, resource: &str, name: &str, annotation: &str) -> Option<String> {
        let object = self.api.get(resource, NAMESPACE, name)?;
        object["metadata"]["annotations"][annotation].as_str().map(str::to_owned)
    }

    fn label(&self, pod: &str, label: &str) -> Option<String> {
        self.api.get("pods", NAMESPACE, pod)?["metadata"]["labels"][label].as_str().map(str::to_owned)
    }

    fn address_of(name: &str) -> String {
        format!("10.244.0.{}", name.trim_start_matches('m'))
    }

    /// Where the Service leads.
    fn addresses(&self) -> Vec<String> {
        let endpoints = self.api.get("endpoints", NAMESPACE, "demo");
        let subsets = endpoints.as_ref().and_then(|endpoints| endpoints["subsets"].as_array().cloned());
        let of = |subset: Value| subset["addresses"].as_array().cloned().unwrap_or_default();
        let addresses = subsets.into_iter().flatten().flat_map(of);
        addresses.filter_map(|address| address["ip"].as_str().map(str::to_owned)).collect()
    }
}

impl Store for Kubernetes {
    /// With its pod, as a StatefulSet makes it.
    fn join(&self, member: &mut Member) {
        let labels = json!({"application": "patroni", "cluster-name": "demo"});
        self.api.put_pod(NAMESPACE, &member.name, &Self::address_of(&member.name), &labels);
        let file = self.folder.path().join("kubeconfig").display().to_string();
        member.set("KUBECONFIG", &file).set("PATRONI_KUBERNETES_LABELS", "application: patroni");
        let uses_endpoints = (self.objects == Objects::Endpoints).to_string();
        member.set("PATRONI_KUBERNETES_USE_ENDPOINTS", &uses_endpoints);
    }
}

fn a_cluster_begins_changes_and_loses_its_leader(objects: Objects) {
    let mut cluster = Cluster::start_on(Kubernetes::start(objects), 3);
    let (first, _) = cluster.whole(SOON);
    let name = cluster.members[first].name.clone();
    let (resource, object) = cluster.store.leader();
    assert_eq!(cluster.store.annotation(resource, object, "leader"), Some(name.clone()));
    until(SOON, "labels", || cluster.store.label(&name, "role").as_deref() == Some("primary"));
    let replicas = |cluster: &Cluster<Kubernetes>| {
        let names = cluster.members.iter().map(|member| cluster.store.label(&member.name, "role"));
        names.filter(|role| role.as_deref() == Some("replica")).count()
    };
    until(SOON, "labels of replicas", || replicas(&cluster) == 2);
    if objects == Objects::Endpoints {
        assert_eq!(cluster.store.addresses(), [Kubernetes::address_of(&name)]);
    }
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
