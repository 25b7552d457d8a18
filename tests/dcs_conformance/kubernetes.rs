//! The world in which the store is an API server of Kubernetes: keys are annotations of its objects.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tamada::config::StateObjects;
use tamada::core::policy::Timing;
use tamada::dcs::LeaseToken;
use tamada::dcs::kubernetes::KubernetesDcs;

use super::World;
use super::kube_api::{KubeApi, Options};
use super::kubernetes_config;

const NAMESPACE: &str = "demo";
const STATUS: [&str; 5] = ["optime", "slots", "retain_slots", "tamada_released_by", "tamada_gave_way"];
const REQUEST: [&str; 3] = ["leader", "member", "scheduled_at"];
const SYNC: [&str; 3] = ["leader", "sync_standby", "quorum"];

pub(super) struct Kubernetes {
    api: KubeApi,
    state: StateObjects,
    folder: tempfile::TempDir,
}

/// Where a key is kept.
enum Place {
    /// One annotation.
    Text {
        resource: &'static str,
        object: String,
        annotation: String,
    },
    /// An object's annotations, a field each.
    Fields {
        resource: &'static str,
        object: String,
        annotations: &'static [&'static str],
    },
    /// The Lease's `holderIdentity`.
    Holder,
    Nowhere,
}

impl Kubernetes {
    fn open_with(state: StateObjects) -> Self {
        let api = KubeApi::start(Options::loopback());
        let world = Kubernetes { api, state, folder: tempfile::tempdir().expect("there is room") };
        world.api.kubeconfig(world.folder.path(), world.api.admin(), NAMESPACE);
        world.put_pods();
        world
    }

    fn put_pods(&self) {
        for at in 0..12 {
            let labels = json!({"application": "patroni", "cluster-name": "demo"});
            self.api.put_pod(NAMESPACE, &format!("n{at}"), &format!("10.244.0.{}", at + 1), &labels);
        }
    }

    fn resource(&self) -> &'static str {
        match self.state {
            StateObjects::Endpoints => "endpoints",
            StateObjects::ConfigMaps | StateObjects::Leases => "configmaps",
        }
    }

    fn leader(&self) -> String {
        match self.state {
            StateObjects::Endpoints | StateObjects::Leases => "demo".to_owned(),
            StateObjects::ConfigMaps => "demo-leader".to_owned(),
        }
    }

    fn place(&self, path: &str) -> Place {
        let text = |object: &str, annotation: &str| Place::Text {
            resource: self.resource(),
            object: object.to_owned(),
            annotation: annotation.to_owned(),
        };
        let fields = |object: &str, annotations| Place::Fields {
            resource: self.resource(),
            object: object.to_owned(),
            annotations,
        };
        let lock = if self.state == StateObjects::Leases { "leases" } else { self.resource() };
        match path {
            "leader" if self.state == StateObjects::Leases => Place::Holder,
            "leader" | "failsafe" => Place::Text { resource: lock, object: self.leader(), annotation: path.to_owned() },
            "initialize" | "config" | "history" => text("demo-config", path),
            "status" => Place::Fields { resource: lock, object: self.leader(), annotations: &STATUS },
            "failover" => fields("demo-failover", &REQUEST),
            "sync" => fields("demo-sync", &SYNC),
            _ => match path.strip_prefix("members/") {
                Some(name) => {
                    Place::Text { resource: "pods", object: name.to_owned(), annotation: "status".to_owned() }
                }
                None => Place::Nowhere,
            },
        }
    }

    fn annotate(&self, resource: &str, object: &str, annotations: Map<String, Value>) {
        if self.api.get(resource, NAMESPACE, object).is_none() {
            let labels = json!({"application": "patroni", "cluster-name": "demo"});
            self.api.put(resource, NAMESPACE, json!({"metadata": {"name": object, "labels": labels}}));
        }
        self.api.patch(resource, NAMESPACE, object, &json!({"metadata": {"annotations": annotations}}));
    }

    fn annotations(&self, resource: &str, object: &str) -> BTreeMap<String, String> {
        let object = self.api.get(resource, NAMESPACE, object);
        let annotations = object.as_ref().and_then(|object| object["metadata"]["annotations"].as_object());
        let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        annotations.into_iter().flatten().filter_map(text).collect()
    }

    fn write(&self, path: &str, value: Option<&str>) {
        match self.place(path) {
            Place::Text { resource, object, annotation } => {
                self.annotate(resource, &object, Map::from_iter([(annotation, json!(value))]));
            }
            Place::Holder => {
                let spec = json!({"holderIdentity": value, "leaseDurationSeconds": 30});
                match self.api.get("leases", NAMESPACE, "demo") {
                    Some(_) => drop(self.api.patch("leases", NAMESPACE, "demo", &json!({ "spec": spec }))),
                    None => {
                        let labels = json!({"application": "patroni", "cluster-name": "demo"});
                        let metadata = json!({"name": "demo", "labels": labels});
                        self.api.put("leases", NAMESPACE, json!({"metadata": metadata, "spec": spec}));
                    }
                }
            }
            Place::Fields { resource, object, annotations } => {
                let fields: Value = serde_json::from_str(value.unwrap_or("{}")).expect("it is JSON");
                let of = |name: &&str| match &fields[*name] {
                    Value::Null => ((*name).to_owned(), Value::Null),
                    Value::String(text) => ((*name).to_owned(), text.as_str().into()),
                    other => ((*name).to_owned(), other.to_string().into()),
                };
                self.annotate(resource, &object, annotations.iter().map(of).collect());
            }
            Place::Nowhere => {}
        }
    }

    fn read(&self, path: &str) -> Option<String> {
        match self.place(path) {
            Place::Text { resource, object, annotation } => self.annotations(resource, &object).remove(&annotation),
            Place::Holder => {
                let lease = self.api.get("leases", NAMESPACE, "demo")?;
                lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
            }
            Place::Fields { resource, object, annotations } => {
                self.api.get(resource, NAMESPACE, &object)?;
                let found = self.annotations(resource, &object);
                let json = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str()));
                let fields = annotations.iter().filter_map(|name| Some(((*name).to_owned(), json(found.get(*name)?))));
                let fields: Map<String, Value> = fields.collect();
                let is_nothing = fields.is_empty() && path == "status";
                (!is_nothing).then(|| Value::Object(fields).to_string())
            }
            Place::Nowhere => None,
        }
    }

    fn resume(&self, name: &str, timing: Timing, lease: Option<&LeaseToken>) -> KubernetesDcs {
        let config = kubernetes_config::by_default(self.state, self.folder.path().join("kubeconfig"));
        KubernetesDcs::member(&config, "demo", name.into(), timing, lease)
    }
}

/// Each kind of state objects as a world.
macro_rules! worlds {
    ($($world:ident: $state:ident;)*) => {
        $(pub(super) struct $world(Kubernetes);

        impl World for $world {
            type Dcs = KubernetesDcs;
            const ANNOTATIONS: bool = true;
            async fn open() -> Self {
                $world(Kubernetes::open_with(StateObjects::$state))
            }
            fn resume(&self, name: &str, timing: Timing, lease: Option<&LeaseToken>) -> KubernetesDcs {
                self.0.resume(name, timing, lease)
            }
            async fn put(&mut self, path: &str, value: &str) {
                self.0.write(path, Some(value));
            }
            async fn delete(&mut self, path: &str) {
                self.0.write(path, None);
            }
            async fn get(&mut self, path: &str) -> Option<String> {
                self.0.read(path)
            }
            async fn wipe(&mut self) {
                self.0.api.wipe();
                self.0.put_pods();
            }
        })*
    };
}

worlds! {
    OnEndpoints: Endpoints;
    OnConfigMaps: ConfigMaps;
    OnLeases: Leases;
}
