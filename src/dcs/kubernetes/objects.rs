//! The objects of a cluster: what they are called, what of them is read, and how their annotations read as keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::{KubernetesConfig, StateObjects};

/// What is read of an object; `subsets` of Endpoints, `status` of pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Object {
    pub(super) metadata: Metadata,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(super) subsets: Value,
    #[serde(default, skip_serializing)]
    pub(super) status: PodStatus,
    #[serde(default, skip_serializing)]
    pub(super) spec: PodSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) resource_version: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct PodStatus {
    #[serde(rename = "podIP")]
    pub(super) pod_ip: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    pub(super) node_name: Option<String>,
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
    /// Those whose annotations hold the cluster's state.
    State(StateObjects),
    Pods,
}

impl Kind {
    /// As RBAC and the path name it.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Kind::State(StateObjects::Endpoints) => "endpoints",
            Kind::State(StateObjects::ConfigMaps) => "configmaps",
            Kind::Pods => "pods",
        }
    }

    pub(super) fn singular(self) -> &'static str {
        match self {
            Kind::State(StateObjects::Endpoints) => "Endpoints",
            Kind::State(StateObjects::ConfigMaps) => "ConfigMap",
            Kind::Pods => "Pod",
        }
    }

    /// Of all of a namespace.
    pub(super) fn path(self, namespace: &str) -> String {
        format!("/api/v1/namespaces/{namespace}/{}", self.plural())
    }
}

/// What the cluster's objects are called, and what marks them.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) state: StateObjects,
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
            StateObjects::Endpoints => scope.to_owned(),
            StateObjects::ConfigMaps => format!("{scope}-leader"),
        };
        let mut labels = config.labels.clone();
        labels.insert(config.scope_label.clone(), scope.to_owned());
        let [config_name, failover, sync] = ["config", "failover", "sync"].map(|what| format!("{scope}-{what}"));
        Names { state: config.state, leader, config: config_name, failover, sync, labels }
    }

    /// What selects the cluster's objects.
    pub(super) fn selector(&self) -> String {
        let labels = self.labels.iter().map(|(name, value)| format!("{name}={value}"));
        labels.collect::<Vec<_>>().join(",")
    }

    pub(super) fn kind(&self) -> Kind {
        Kind::State(self.state)
    }
}

/// Annotations to be set, and (`None`) to be removed.
pub(super) type Changes = BTreeMap<&'static str, Option<String>>;

/// The body of a strategic merge patch, and of a new object: nothing that is to be removed stands in that.
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
        let annotations: Map<String, Value> =
            self.annotations.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), self.name.into());
        metadata.insert("annotations".to_owned(), annotations.into());
        if !self.labels.is_empty() {
            metadata.insert("labels".to_owned(), self.labels.clone().into());
        }
        if let Some(version) = version {
            metadata.insert("resourceVersion".to_owned(), version.into());
        }
        self.with_subsets(json!({ "metadata": metadata }))
    }

    pub(super) fn create(&self) -> Value {
        let set =
            self.annotations.iter().filter_map(|(name, value)| Some(((*name).to_owned(), json!(value.as_ref()?))));
        let metadata = json!({
            "name": self.name,
            "labels": self.labels,
            "annotations": set.collect::<Map<String, Value>>(),
        });
        self.with_subsets(json!({ "apiVersion": "v1", "kind": self.kind.singular(), "metadata": metadata }))
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
