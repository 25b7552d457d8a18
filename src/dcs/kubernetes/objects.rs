//! The objects of a cluster: what they are called, what of them is read, and how their annotations read as keys.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::state::{ACQUIRE_TIME, LEADER, RENEW_TIME, TRANSITIONS, TTL};
use crate::config::{KubernetesConfig, StateObjects};

/// What is read of an object; `subsets` of Endpoints, `status` and `spec` of pods. What a Lease has for the holder of a lock
/// reads as the annotations that other objects have for it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Received")]
pub(super) struct Object {
    pub(super) metadata: Metadata,
    pub(super) subsets: Value,
    pub(super) pod_ip: Option<String>,
    pub(super) node_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Received {
    metadata: Metadata,
    subsets: Value,
    status: Status,
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    #[serde(flatten)]
    lease: LeaseSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LeaseSpec {
    holder_identity: Option<String>,
    lease_duration_seconds: Option<u64>,
    acquire_time: Option<String>,
    renew_time: Option<String>,
    lease_transitions: Option<u64>,
}

impl From<Received> for Object {
    fn from(received: Received) -> Object {
        let Received { mut metadata, subsets, status, spec } = received;
        let LeaseSpec { holder_identity, lease_duration_seconds, acquire_time, renew_time, lease_transitions } =
            spec.lease;
        let fields = [
            (LEADER, holder_identity),
            (TTL, lease_duration_seconds.map(|ttl| ttl.to_string())),
            (ACQUIRE_TIME, acquire_time),
            (RENEW_TIME, renew_time),
            (TRANSITIONS, lease_transitions.map(|count| count.to_string())),
        ];
        let set = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        metadata.annotations.extend(set);
        Object { metadata, subsets, pod_ip: status.pod_ip, node_name: spec.node_name }
    }
}

impl Object {
    /// The version of the whole object. The API calls it opaque; every server counts with it, and so do its own clients.
    pub(super) fn revision(&self) -> u64 {
        self.metadata.resource_version.parse().unwrap_or(0)
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.annotations.get(name).map(String::as_str)
    }

    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.metadata.labels.get(name).map(String::as_str)
    }
}

/// A list, or a page of one.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct List {
    #[serde(default)]
    pub(super) metadata: ListMetadata,
    #[serde(default)]
    pub(super) items: Vec<Object>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMetadata {
    pub(super) resource_version: String,
    /// Set: there is another page.
    #[serde(rename = "continue")]
    pub(super) rest: String,
}

/// Kinds of objects that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Endpoints,
    ConfigMaps,
    Leases,
    EndpointSlices,
    Pods,
}

impl Kind {
    /// Group and version, the name in the path and in RBAC, and that of one object.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Kind::Endpoints => ("v1", "endpoints", "Endpoints"),
            Kind::ConfigMaps => ("v1", "configmaps", "ConfigMap"),
            Kind::Leases => ("coordination.k8s.io/v1", "leases", "Lease"),
            Kind::EndpointSlices => ("discovery.k8s.io/v1", "endpointslices", "EndpointSlice"),
            Kind::Pods => ("v1", "pods", "Pod"),
        }
    }

    pub(super) fn version(self) -> &'static str {
        self.names().0
    }

    pub(super) fn plural(self) -> &'static str {
        self.names().1
    }

    pub(super) fn singular(self) -> &'static str {
        self.names().2
    }

    /// Of all of a namespace.
    pub(super) fn path(self, namespace: &str) -> String {
        let (version, plural, _) = self.names();
        let root = if version == "v1" { "api" } else { "apis" };
        format!("/{root}/{version}/namespaces/{namespace}/{plural}")
    }
}

/// What the cluster's objects are called, and what marks them.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) state: StateObjects,
    pub(super) scope: String,
    pub(super) leader: String,
    pub(super) config: String,
    pub(super) failover: String,
    pub(super) sync: String,
    /// All labels of the cluster's objects.
    pub(super) labels: BTreeMap<String, String>,
}

impl Names {
    pub(super) fn of(config: &KubernetesConfig, scope: &str) -> Names {
        let leader = match config.state {
            StateObjects::Endpoints | StateObjects::Leases => scope.to_owned(),
            StateObjects::ConfigMaps => format!("{scope}-leader"),
        };
        let mut labels = config.labels.clone();
        labels.insert(config.scope_label.clone(), scope.to_owned());
        let [config_name, failover, sync] = ["config", "failover", "sync"].map(|what| format!("{scope}-{what}"));
        Names { state: config.state, scope: scope.to_owned(), leader, config: config_name, failover, sync, labels }
    }

    /// What selects the cluster's objects.
    pub(super) fn selector(&self) -> String {
        selector_of(&self.labels)
    }

    /// Of the objects that hold the configuration and requests.
    pub(super) fn kind(&self) -> Kind {
        match self.state {
            StateObjects::Endpoints => Kind::Endpoints,
            StateObjects::ConfigMaps | StateObjects::Leases => Kind::ConfigMaps,
        }
    }

    /// Of the object that is the lock.
    pub(super) fn lock_kind(&self) -> Kind {
        match self.state {
            StateObjects::Endpoints | StateObjects::ConfigMaps => self.kind(),
            StateObjects::Leases => Kind::Leases,
        }
    }

    /// Whether it has the labels of the cluster's objects.
    pub(super) fn marks(&self, object: &Object) -> bool {
        self.labels.iter().all(|(name, value)| object.label(name) == Some(value.as_str()))
    }

    /// The EndpointSlice that leads the Service to the leader, where a Lease is the lock.
    pub(super) fn slice(&self) -> String {
        format!("{}-primary", self.leader)
    }

    /// What is deleted with the cluster, in this order.
    pub(super) fn removed(&self) -> Vec<(Kind, String)> {
        let slice = (self.state == StateObjects::Leases).then(|| (Kind::EndpointSlices, self.slice()));
        let documents = [&self.failover, &self.sync].map(|name| (self.kind(), name.clone()));
        let [lock, config] = [(self.lock_kind(), self.leader.clone()), (self.kind(), self.config.clone())];
        slice.into_iter().chain(documents).chain([lock, config]).collect()
    }

    /// What is listed and watched.
    pub(super) fn watched(&self) -> Vec<Kind> {
        let mut kinds = vec![self.lock_kind(), self.kind(), Kind::Pods];
        kinds.dedup();
        kinds
    }
}

/// What selects objects with these labels.
pub(super) fn selector_of(labels: &BTreeMap<String, String>) -> String {
    let labels = labels.iter().map(|(name, value)| format!("{name}={value}"));
    labels.collect::<Vec<_>>().join(",")
}

/// Annotations to be set, and (`None`) to be removed.
pub(super) type Changes = BTreeMap<&'static str, Option<String>>;

/// The body of a JSON merge patch, and of a new object: nothing that is to be removed stands in that.
pub(super) struct Write<'a> {
    pub(super) kind: Kind,
    pub(super) name: &'a str,
    pub(super) labels: Map<String, Value>,
    pub(super) annotations: Changes,
    /// `None`: they stay as they are.
    pub(super) subsets: Option<Value>,
}

impl Write<'_> {
    /// `version`: the one that the object must have.
    pub(super) fn patch(&self, version: Option<&str>) -> Value {
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), self.name.into());
        if !self.labels.is_empty() {
            metadata.insert("labels".to_owned(), self.labels.clone().into());
        }
        if let Some(version) = version {
            metadata.insert("resourceVersion".to_owned(), version.into());
        }
        self.body(metadata, |_| true)
    }

    pub(super) fn create(&self) -> Value {
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), self.name.into());
        metadata.insert("labels".to_owned(), self.labels.clone().into());
        let mut body = self.body(metadata, |value| !value.is_null());
        if let Some(body) = body.as_object_mut() {
            body.insert("apiVersion".to_owned(), self.kind.version().into());
            body.insert("kind".to_owned(), self.kind.singular().into());
        }
        body
    }

    /// With those annotations that are wanted.
    fn body(&self, mut metadata: Map<String, Value>, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let (mut annotations, mut spec) = (Map::new(), Map::new());
        for (name, value) in &self.annotations {
            let (place, name, value) = match lease_field(name).filter(|_| self.kind == Kind::Leases) {
                Some((field, Form::Text)) => (&mut spec, field, json!(value)),
                Some((field, Form::Number)) => {
                    (&mut spec, field, json!(value.as_ref().and_then(|value| value.parse::<u64>().ok())))
                }
                None => (&mut annotations, *name, json!(value)),
            };
            if is_wanted(&value) {
                place.insert(name.to_owned(), value);
            }
        }
        metadata.insert("annotations".to_owned(), annotations.into());
        let mut body = json!({ "metadata": metadata });
        if let Some(body) = body.as_object_mut().filter(|_| !spec.is_empty()) {
            body.insert("spec".to_owned(), spec.into());
        }
        self.with_subsets(body)
    }

    fn with_subsets(&self, mut body: Value) -> Value {
        if let (Some(subsets), Some(body)) = (&self.subsets, body.as_object_mut()) {
            body.insert("subsets".to_owned(), subsets.clone());
        }
        body
    }

    /// Whether the object has all of it.
    pub(super) fn stands_in(&self, object: &Object) -> bool {
        let annotations = self.annotations.iter().all(|(name, value)| object.annotation(name) == value.as_deref());
        let labels = self.labels.iter().all(|(name, value)| object.label(name) == value.as_str());
        annotations && labels && self.subsets.as_ref().is_none_or(|subsets| *subsets == object.subsets)
    }
}

enum Form {
    Text,
    Number,
}

/// Where a Lease has what other objects have in this annotation.
fn lease_field(annotation: &str) -> Option<(&'static str, Form)> {
    match annotation {
        LEADER => Some(("holderIdentity", Form::Text)),
        TTL => Some(("leaseDurationSeconds", Form::Number)),
        ACQUIRE_TIME => Some(("acquireTime", Form::Text)),
        RENEW_TIME => Some(("renewTime", Form::Text)),
        TRANSITIONS => Some(("leaseTransitions", Form::Number)),
        _ => None,
    }
}
