//! The section `kubernetes`: which objects hold the cluster's state, what they are called, and how the API server is
//! reached.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::Value;

use super::error::Reported;
use super::given::{HostFacts, SERVICE_ACCOUNT};
use super::origin::Origin;
use super::reader::{Reader, parse_port};
use crate::core::policy::Switch;

/// Kubernetes' API as the DCS. Names and values of labels are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesConfig {
    pub state: StateObjects,
    /// Whether a setting says which. A member without one uses ConfigMaps; commands look at what there is.
    pub is_state_given: bool,
    /// No setting names this store: a command uses it because it is within reach.
    pub is_found: bool,
    /// `None`: that of the service account, else of the kubeconfig's context, else `default`.
    pub namespace: Option<String>,
    /// At least one; without the scope's.
    pub labels: BTreeMap<String, String>,
    pub scope_label: String,
    pub role_label: String,
    pub leader_value: String,
    pub follower_value: String,
    pub standby_leader_value: String,
    pub tmp_role_label: Option<String>,
    pub bootstrap_labels: BTreeMap<String, String>,
    /// `None`: the address in the pod's status.
    pub pod_ip: Option<IpAddr>,
    /// At least one.
    pub ports: Vec<EndpointPort>,
    /// `None`: the service account's, or what the kubeconfig says.
    pub cacert: Option<PathBuf>,
    pub credentials: KubernetesCredentials,
    pub bypass_api_service: Switch,
    /// Besides 500, 503 and 504.
    pub retriable_codes: Vec<u16>,
}

/// Where the API server is, and as whom it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KubernetesCredentials {
    /// The service account of the pod that we are in.
    Pod,
    Kubeconfig {
        /// `None`: `~/.kube/config`.
        path: Option<PathBuf>,
        /// `None`: the current one.
        context: Option<String>,
    },
}

/// The kind of objects whose annotations hold the cluster's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateObjects {
    Endpoints,
    ConfigMaps,
    /// The lock and the status are a Lease's, all else ConfigMaps'.
    Leases,
}

/// A port of the leader's Endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    pub name: Option<String>,
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

const PORTS: &str = "a list of maps with port, name and protocol: [{name: postgresql, port: 5432}]";
const PORT_NAME: &str = "a name for each port where there are several: it is that of the Service's port";
/// The longest value of a label, and the longest name in front of a slash.
const LABEL_MAX: usize = 63;

pub(super) fn read(reader: &mut Reader<'_>, host: &HostFacts) -> Result<KubernetesConfig, Reported> {
    let is_other = |value: &&Value| !value.is_object() && !value.is_null();
    if reader.document.get("kubernetes").filter(is_other).is_some() {
        return Err(reader.wrong("kubernetes", "a map"));
    }
    const USES: [&str; 2] = ["kubernetes.use_endpoints", "kubernetes.use_leases"];
    let uses = USES.map(|path| reader.switch_or(path, Switch::Off));
    let state = match uses {
        [Switch::On, Switch::On] => return Err(reader.wrong("kubernetes.use_leases", "off where endpoints are used")),
        [Switch::On, Switch::Off] => StateObjects::Endpoints,
        [Switch::Off, Switch::On] => StateObjects::Leases,
        [Switch::Off, Switch::Off] => StateObjects::ConfigMaps,
    };
    let labels = labels(reader, "kubernetes.labels");
    let config = KubernetesConfig {
        state,
        is_state_given: USES.iter().any(|path| reader.document.get(path).is_some()),
        is_found: reader.document.get("kubernetes").is_none() && reader.document.get("environment.dcs").is_none(),
        namespace: reader.text("kubernetes.namespace"),
        labels: if labels.is_empty() { default_labels() } else { labels },
        scope_label: label_name(reader, "kubernetes.scope_label", "cluster-name"),
        role_label: label_name(reader, "kubernetes.role_label", "role"),
        leader_value: label_value(reader, "kubernetes.leader_label_value", "primary"),
        follower_value: label_value(reader, "kubernetes.follower_label_value", "replica"),
        standby_leader_value: label_value(reader, "kubernetes.standby_leader_label_value", "primary"),
        tmp_role_label: reader.text("kubernetes.tmp_role_label"),
        bootstrap_labels: labels_of(reader, "kubernetes.bootstrap_labels"),
        pod_ip: pod_ip(reader),
        ports: ports(reader),
        cacert: reader.file("kubernetes.cacert"),
        credentials: credentials(reader, host),
        bypass_api_service: reader.switch_or("kubernetes.bypass_api_service", Switch::Off),
        retriable_codes: retriable_codes(reader),
    };
    Ok(config)
}

fn default_labels() -> BTreeMap<String, String> {
    BTreeMap::from([("application".to_owned(), "patroni".to_owned())])
}

fn labels(reader: &mut Reader<'_>, path: &str) -> BTreeMap<String, String> {
    let labels = labels_of(reader, path);
    if labels.is_empty() {
        reader.note(path, "application: patroni", Origin::Default);
    }
    labels
}

/// A map of labels, each with a name and a value that the API server takes.
fn labels_of(reader: &mut Reader<'_>, path: &str) -> BTreeMap<String, String> {
    let labels = reader.texts(path);
    for (name, value) in &labels {
        if !is_label_name(name) || !is_label_value(value) {
            let given = format!("the label {name}={value}");
            reader.error(path, given, "names and values of labels: letters, digits, -, _ and ., at most 63 of them");
        }
    }
    labels
}

fn label_name(reader: &mut Reader<'_>, path: &str, default: &str) -> String {
    let name = reader.text_or(path, default);
    if !is_label_name(&name) {
        reader.wrong(path, "the name of a label, such as role or example.com/role");
    }
    name
}

fn label_value(reader: &mut Reader<'_>, path: &str, default: &str) -> String {
    let value = reader.text_or(path, default);
    if !is_label_value(&value) {
        reader.wrong(path, "the value of a label: at most 63 letters, digits, -, _ and .");
    }
    value
}

fn is_label_name(name: &str) -> bool {
    let (prefix, name) = name.rsplit_once('/').map_or((None, name), |(prefix, name)| (Some(prefix), name));
    let is_domain = |prefix: &str| !prefix.is_empty() && prefix.split('.').all(is_label_value) && prefix.len() <= 253;
    !name.is_empty() && is_label_value(name) && prefix.is_none_or(is_domain)
}

/// The value of a label may be empty.
pub(super) fn is_label_value(value: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = [value.bytes().next(), value.bytes().last()].into_iter().flatten();
    value.len() <= LABEL_MAX && value.bytes().all(is_inner) && ends.into_iter().all(|byte| byte.is_ascii_alphanumeric())
}

const SERVICE_HOST: &str = "environment.kubernetes_service_host";
const KUBECONFIG: &str = "environment.kubeconfig";

/// What any pod has in its environment, whichever store is used.
pub(super) fn surroundings(reader: &mut Reader<'_>) {
    for path in [KUBECONFIG, SERVICE_HOST, "environment.hostname"] {
        let _asked = reader.value(path);
    }
}

/// Whether there is anything to ask the API server with, for a command that was told no store.
pub(super) fn is_within_reach(reader: &mut Reader<'_>, host: &HostFacts) -> bool {
    let in_pod = reader.value(SERVICE_HOST).is_some() && host.kubernetes.service_account;
    in_pod || has_kubeconfig(reader, host)
}

/// What was looked for where nothing is within reach.
pub(super) fn looked_for() -> String {
    format!(
        "nothing to reach Kubernetes with was found either: no service account in {SERVICE_ACCOUNT}, no KUBECONFIG, no \
         ~/.kube/config"
    )
}

fn has_kubeconfig(reader: &mut Reader<'_>, host: &HostFacts) -> bool {
    reader.value(KUBECONFIG).is_some() || host.kubernetes.kubeconfig
}

/// The service account wins over a kubeconfig, unless a pod has none.
fn credentials(reader: &mut Reader<'_>, host: &HostFacts) -> KubernetesCredentials {
    let (path, context) = (reader.path(KUBECONFIG), reader.text("kubernetes.context"));
    let is_pod = reader.value(SERVICE_HOST).is_some();
    if !is_pod || (!host.kubernetes.service_account && has_kubeconfig(reader, host)) {
        return KubernetesCredentials::Kubeconfig { path, context };
    }
    if matches!(reader.document.origin("kubernetes.context"), Origin::Option(_)) {
        reader.wrong("kubernetes.context", "no context inside of a pod, where its service account is used");
    }
    KubernetesCredentials::Pod
}

/// Of the leader's own variable, else of POD_IP, whose value may be a host name.
fn pod_ip(reader: &mut Reader<'_>) -> Option<IpAddr> {
    let Some(text) = reader.text("kubernetes.pod_ip") else {
        return reader.text("environment.pod_ip").and_then(|text| text.parse().ok());
    };
    let ip = text.parse().ok();
    if ip.is_none() {
        reader.wrong("kubernetes.pod_ip", "an IPv4 or IPv6 address");
    }
    ip
}

fn ports(reader: &mut Reader<'_>) -> Vec<EndpointPort> {
    let path = "kubernetes.ports";
    let Some(value) = reader.value(path) else {
        reader.note(path, "[{port: 5432}]", Origin::Default);
        return vec![EndpointPort { name: None, port: 5432, protocol: "TCP".to_owned() }];
    };
    let ports: Option<Vec<EndpointPort>> =
        value.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(port).collect();
    let Some(ports) = ports.filter(|ports| !ports.is_empty()) else {
        reader.wrong(path, PORTS);
        return Vec::new();
    };
    if ports.len() > 1 && ports.iter().any(|port| port.name.is_none()) {
        reader.wrong(path, PORT_NAME);
    }
    ports
}

fn port(value: &Value) -> Option<EndpointPort> {
    let map = value.as_object()?;
    let text = |key: &str| map.get(key).filter(|value| !value.is_null()).map(super::reader::scalar);
    let port = parse_port(&super::reader::scalar(map.get("port")?)?)?;
    let protocol = text("protocol").unwrap_or(Some("TCP".to_owned()))?.to_ascii_uppercase();
    let is_known = ["TCP", "UDP", "SCTP"].contains(&protocol.as_str());
    let name = match text("name") {
        None => None,
        Some(name) => Some(name?),
    };
    is_known.then_some(EndpointPort { name, port, protocol })
}

fn retriable_codes(reader: &mut Reader<'_>) -> Vec<u16> {
    let path = "kubernetes.retriable_http_codes";
    let texts = match reader.value(path) {
        Some(Value::Number(number)) => Some(vec![number.to_string()]),
        Some(_) => reader.list(path),
        None => return Vec::new(),
    };
    let is_code = |code: &u16| (400..600).contains(code);
    let codes = texts.and_then(|texts| texts.iter().map(|text| text.parse().ok().filter(is_code)).collect());
    codes.unwrap_or_else(|| {
        reader.wrong(path, "HTTP codes from 400 to 599: 502, or [502, 520]");
        Vec::new()
    })
}
