//! The resources that there are, and what is peculiar to each.

use super::shape::{Field, METADATA, Merge, Shape, always, field, pointer};

pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub short: &'static [&'static str],
    pub fields: &'static [Field],
    pub traits: &'static [Trait],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Trait {
    /// Not in a namespace.
    Cluster,
    /// Has the subresource `status`, and only through it the status changes.
    Status,
    /// `metadata.generation` counts the changes of what is neither metadata nor status.
    Generation,
    /// PUT makes an object that is not there.
    CreateOnUpdate,
    /// PUT needs no resourceVersion.
    Unconditional,
    /// DELETE answers with the object instead of a Status.
    ReturnsDeleted,
    /// Deleted in two steps where a node has it.
    Graceful,
}

use Trait::{Cluster, CreateOnUpdate, Generation, Graceful, ReturnsDeleted, Status, Unconditional};

const KIND: Field = always("kind", Shape::Text);
const API_VERSION: Field = always("apiVersion", Shape::Text);
const META: Field = always("metadata", Shape::Object(&METADATA));
const SPEC: Field = field("spec", Shape::Any);
const STATUS: Field = field("status", Shape::Any);

const GENERIC: [Field; 5] = [KIND, API_VERSION, META, SPEC, STATUS];

const CONFIG_MAP: [Field; 6] = [
    KIND,
    API_VERSION,
    META,
    field("data", Shape::TextMap),
    field("binaryData", Shape::TextMap),
    pointer("immutable", Shape::Bool),
];

const SECRET: [Field; 5] = [KIND, API_VERSION, META, field("data", Shape::TextMap), field("type", Shape::Text)];

const TARGET: [Field; 7] = [
    field("kind", Shape::Text),
    field("namespace", Shape::Text),
    field("name", Shape::Text),
    field("uid", Shape::Text),
    field("apiVersion", Shape::Text),
    field("resourceVersion", Shape::Text),
    field("fieldPath", Shape::Text),
];
const ADDRESS: [Field; 4] = [
    always("ip", Shape::Text),
    field("hostname", Shape::Text),
    pointer("nodeName", Shape::Text),
    pointer("targetRef", Shape::Object(&TARGET)),
];
const PORT: [Field; 4] = [
    field("name", Shape::Text),
    always("port", Shape::Int),
    field("protocol", Shape::Text),
    pointer("appProtocol", Shape::Text),
];
const SUBSET: [Field; 3] = [
    field("addresses", Shape::List(&Shape::Object(&ADDRESS), Merge::Replace)),
    field("notReadyAddresses", Shape::List(&Shape::Object(&ADDRESS), Merge::Replace)),
    field("ports", Shape::List(&Shape::Object(&PORT), Merge::Replace)),
];
const ENDPOINTS: [Field; 4] =
    [KIND, API_VERSION, META, field("subsets", Shape::List(&Shape::Object(&SUBSET), Merge::Replace))];

const LEASE_SPEC: [Field; 7] = [
    pointer("holderIdentity", Shape::Text),
    pointer("leaseDurationSeconds", Shape::Int),
    pointer("acquireTime", Shape::MicroTime),
    pointer("renewTime", Shape::MicroTime),
    pointer("leaseTransitions", Shape::Int),
    pointer("strategy", Shape::Text),
    pointer("preferredHolder", Shape::Text),
];
const LEASE: [Field; 4] = [KIND, API_VERSION, META, always("spec", Shape::Object(&LEASE_SPEC))];

const CONDITIONS: [Field; 3] =
    [pointer("ready", Shape::Bool), pointer("serving", Shape::Bool), pointer("terminating", Shape::Bool)];
const ENDPOINT: [Field; 7] = [
    always("addresses", Shape::List(&Shape::Text, Merge::Replace)),
    always("conditions", Shape::Object(&CONDITIONS)),
    pointer("hostname", Shape::Text),
    pointer("targetRef", Shape::Object(&TARGET)),
    pointer("nodeName", Shape::Text),
    pointer("zone", Shape::Text),
    pointer("hints", Shape::Any),
];
const SLICE_PORT: [Field; 4] = [
    pointer("name", Shape::Text),
    pointer("port", Shape::Int),
    pointer("protocol", Shape::Text),
    pointer("appProtocol", Shape::Text),
];
const SLICE: [Field; 6] = [
    KIND,
    API_VERSION,
    META,
    always("addressType", Shape::Text),
    always("endpoints", Shape::List(&Shape::Object(&ENDPOINT), Merge::Replace)),
    always("ports", Shape::List(&Shape::Object(&SLICE_PORT), Merge::Replace)),
];

const ROLE: [Field; 4] = [KIND, API_VERSION, META, always("rules", Shape::Any)];
const BINDING: [Field; 5] = [KIND, API_VERSION, META, field("subjects", Shape::Any), always("roleRef", Shape::Any)];
const ACCOUNT: [Field; 6] = [
    KIND,
    API_VERSION,
    META,
    field("secrets", Shape::Any),
    field("imagePullSecrets", Shape::Any),
    pointer("automountServiceAccountToken", Shape::Bool),
];

/// The order of a store's keys, and of the groups in discovery.
static RESOURCES: [Resource; 16] = [
    resource(
        "",
        "v1",
        "pods",
        "Pod",
        &["po"],
        &GENERIC,
        &[Status, Generation, Unconditional, ReturnsDeleted, Graceful],
    ),
    resource("", "v1", "configmaps", "ConfigMap", &["cm"], &CONFIG_MAP, &[Unconditional]),
    resource("", "v1", "endpoints", "Endpoints", &["ep"], &ENDPOINTS, &[CreateOnUpdate, Unconditional]),
    resource(
        "",
        "v1",
        "services",
        "Service",
        &["svc"],
        &GENERIC,
        &[Status, CreateOnUpdate, Unconditional, ReturnsDeleted],
    ),
    resource("", "v1", "secrets", "Secret", &[], &SECRET, &[Unconditional]),
    resource("", "v1", "serviceaccounts", "ServiceAccount", &["sa"], &ACCOUNT, &[ReturnsDeleted]),
    resource("", "v1", "namespaces", "Namespace", &["ns"], &GENERIC, &[Cluster, Status, Unconditional]),
    resource("apps", "v1", "statefulsets", "StatefulSet", &["sts"], &GENERIC, &[Status, Generation, Unconditional]),
    resource("coordination.k8s.io", "v1", "leases", "Lease", &[], &LEASE, &[CreateOnUpdate]),
    resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", &[], &SLICE, &[Generation, Unconditional]),
    resource(
        "networking.k8s.io",
        "v1",
        "networkpolicies",
        "NetworkPolicy",
        &["netpol"],
        &GENERIC,
        &[Generation, Unconditional],
    ),
    resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", &["pdb"], &GENERIC, &[Status, Generation]),
    resource(
        "rbac.authorization.k8s.io",
        "v1",
        "clusterrolebindings",
        "ClusterRoleBinding",
        &[],
        &BINDING,
        &[Cluster, CreateOnUpdate],
    ),
    resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", &[], &ROLE, &[Cluster, CreateOnUpdate]),
    resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", &[], &BINDING, &[CreateOnUpdate]),
    resource("rbac.authorization.k8s.io", "v1", "roles", "Role", &[], &ROLE, &[CreateOnUpdate]),
];

const fn resource(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    fields: &'static [Field],
    traits: &'static [Trait],
) -> Resource {
    Resource { group, version, plural, kind, short, fields, traits }
}

impl Resource {
    pub fn is(&self, what: Trait) -> bool {
        self.traits.contains(&what)
    }

    /// `v1`, `coordination.k8s.io/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods`, `leases.coordination.k8s.io`: its name in messages.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Its place in the table.
    pub fn index(&self) -> usize {
        let same = |other: &Resource| other.plural == self.plural && other.group == self.group;
        RESOURCES.iter().position(same).expect("it is in the table")
    }
}

/// All of them, at their lasting place.
pub fn all() -> &'static [Resource] {
    &RESOURCES
}

pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    all().iter().find(|r| r.group == group && r.version == version && r.plural == plural)
}

/// By its plural name alone.
pub fn named(plural: &str) -> &'static Resource {
    all().iter().find(|resource| resource.plural == plural).unwrap_or_else(|| panic!("no resource {plural}"))
}
