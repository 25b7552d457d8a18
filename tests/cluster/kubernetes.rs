//! A cluster whose state is kept in Kubernetes: each member with its pod's address, clients that find the primary through
//! the Service alone.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kube_api::{KubeApi, Options};
use crate::load::{Service, TABLE, Writer, longest_gap, lost};
use crate::member::Member;
use crate::pods::Pods;
use crate::wait::{seconds, until};
use crate::world::{Cluster, SOON, Store};

pub const NAMESPACE: &str = "demo";

/// The objects that hold the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    Endpoints,
    ConfigMaps,
    Leases,
}

pub struct Kubernetes {
    pub api: Arc<KubeApi>,
    pub objects: Objects,
    /// Whose Service leads to the leader: that of the mode, unless the server has not what it takes.
    leads_by: Objects,
    /// Where it is not that of all clusters here.
    pub ttl: Option<u32>,
    folder: tempfile::TempDir,
    pub pods: Pods,
}

impl Kubernetes {
    /// In a network that the calling thread is moved into.
    pub fn start(objects: Objects) -> Self {
        let folder = crate::world::folder();
        let pods = Pods::around_this_thread();
        let api = Arc::new(KubeApi::start(Options::at(pods.hub())));
        let has_none = objects == Objects::Leases && api.lacks("endpointslices");
        let leads_by = if has_none { Objects::ConfigMaps } else { objects };
        let kubernetes = Kubernetes { api, objects, leads_by, ttl: None, folder, pods };
        kubernetes.write_token(kubernetes.api.admin());
        kubernetes
    }

    /// What members are let in with from now on.
    pub fn write_token(&self, token: &str) -> PathBuf {
        let file = self.api.kubeconfig(self.folder.path(), token, NAMESPACE);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("ours");
        file
    }

    /// Puts the pod of a member there, as a StatefulSet makes it.
    pub fn put_pod(&self, member: &Member) {
        let labels = json!({"application": "patroni", "cluster-name": "demo"});
        self.api.put_pod(NAMESPACE, &member.name, &address_of(member), &labels);
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
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

    /// When the holder says that it renewed the lock last; of Endpoints and ConfigMaps.
    pub fn renewed(&self) -> Timestamp {
        let (resource, object) = self.leader();
        let object = self.api.get(resource, NAMESPACE, object).expect("it is there");
        let time = object["metadata"]["annotations"]["renewTime"].as_str().expect("it was renewed");
        time.parse().expect("a time")
    }

    pub fn label(&self, pod: &str, label: &str) -> Option<String> {
        self.api.get("pods", NAMESPACE, pod)?["metadata"]["labels"][label].as_str().map(str::to_owned)
    }

    /// As a node's proxy sees the Service of the scope's name.
    pub fn service(&self) -> Service {
        let (api, leads_by) = (self.api.clone(), self.leads_by);
        Arc::new(move || {
            let addresses = addresses(&api, leads_by);
            let ip: IpAddr = addresses.first()?.parse().ok()?;
            Some(SocketAddr::new(ip, 5432))
        })
    }
}

pub fn address_of(member: &Member) -> String {
    member.sql.ip().to_string()
}

/// Where the Service leads.
fn addresses(api: &KubeApi, leads_by: Objects) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match leads_by {
        // Whoever its selector finds.
        Objects::ConfigMaps => {
            let pods = api.list("pods", NAMESPACE).into_iter();
            let primaries = pods.filter(|pod| pod["metadata"]["labels"]["role"] == "primary");
            primaries.filter_map(|pod| text(&pod["status"]["podIP"])).collect()
        }
        Objects::Endpoints => {
            let endpoints = api.get("endpoints", NAMESPACE, "demo");
            let subsets = endpoints.map(|endpoints| list(&endpoints["subsets"])).unwrap_or_default();
            let addresses = subsets.iter().flat_map(|subset| list(&subset["addresses"]));
            addresses.filter_map(|address| text(&address["ip"])).collect()
        }
        Objects::Leases => {
            let slice = api.get("endpointslices", NAMESPACE, "demo-primary");
            let endpoints = slice.map(|slice| list(&slice["endpoints"])).unwrap_or_default();
            let addresses = endpoints.iter().flat_map(|endpoint| list(&endpoint["addresses"]));
            addresses.filter_map(|address| text(&address)).collect()
        }
    }
}

impl Store for Kubernetes {
    /// In a pod of its own.
    fn join(&self, member: &mut Member) {
        member.move_to(self.pods.add());
        self.put_pod(member);
        let file = self.kubeconfig().display().to_string();
        member.set("KUBECONFIG", &file).set("PATRONI_KUBERNETES_LABELS", "application: patroni");
        if let Some(ttl) = self.ttl {
            member.set("PATRONI_TTL", &ttl.to_string());
        }
        // The test's thread sends requests too.
        member.set("PATRONI_RESTAPI_ALLOWLIST", "10.244.0.0/16");
        for (name, objects) in [("ENDPOINTS", Objects::Endpoints), ("LEASES", Objects::Leases)] {
            member.set(&format!("PATRONI_KUBERNETES_USE_{name}"), &(self.objects == objects).to_string());
        }
    }

    fn freeze(&self) {
        self.api.freeze();
    }

    fn thaw(&self) {
        self.api.thaw();
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
    let leads_to = |cluster: &Cluster<Kubernetes>, at: usize| {
        addresses(&cluster.store.api, cluster.store.leads_by) == [address_of(&cluster.members[at])]
    };
    until(SOON, "the Service leads to the leader", || leads_to(&cluster, first));
    cluster.members[first].must(TABLE);
    let writer = Writer::through(cluster.store.service(), &cluster.members.iter().collect::<Vec<_>>(), 1);
    let second = (first + 1) % 3;
    let to = cluster.members[second].name.clone();
    let reply = cluster.members[first].send("POST", "/switchover", &json!({"leader": name, "candidate": to}));
    assert_eq!(reply.expect("an answer").code, 200);
    assert_eq!(cluster.whole(SOON).0, second);
    let acks = writer.stop();
    println!("{} acknowledged writes, longest gap seen through the Service {:?}", acks.len(), longest_gap(&acks));
    assert_eq!(lost(&acks, &cluster.members[second]), [0; 0]);

    cluster.members[second].kill();
    let (third, took) = cluster.primary(seconds(20));
    println!("a new primary {took:?} after the loss of the old one");
    assert_ne!(third, second);
    until(SOON, "the Service leads to the new leader", || leads_to(&cluster, third));
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
