//! The EndpointSlice that leads the Service of the scope's name to the leader, where a Lease is the lock. It is written only
//! while the lock is held, over the version that was read then, and emptied before the lock is given up.

use std::time::Duration;

use hyper::http::Method;
use serde_json::{Value, json};
use tracing::warn;

use super::api::Ask;
use super::failure::Failure;
use super::objects::Kind;
use super::session::{JSON, MERGE_PATCH, Session};
use crate::config::StateObjects;

/// Another leader may have written it meanwhile, or a person.
const TRIES: u32 = 5;

impl Session {
    /// Leads to us. Without it clients do not find the primary, which is told; the lock is ours all the same.
    pub(super) async fn lead_here(&self, limit: Duration) {
        if self.names.state != StateObjects::Leases {
            return;
        }
        let Some(endpoint) = self.endpoint() else {
            warn!("no address of this pod is known: set PATRONI_KUBERNETES_POD_IP, or the Service leads nowhere");
            return;
        };
        match self.write_slice(&[endpoint], limit).await {
            Ok(()) => {}
            Err(Failure::Unserved(detail)) => warn!(
                "the Service does not lead here: the API server has no {} of {} ({detail}): Kubernetes 1.21 and newer have them, \
                 and without PATRONI_KUBERNETES_USE_LEASES none are needed",
                Kind::EndpointSlices.plural(),
                Kind::EndpointSlices.version(),
            ),
            Err(failure) => warn!("the Service does not lead here: {}", failure.detail()),
        }
    }

    /// Leads nowhere: the lock is about to be given up.
    pub(super) async fn lead_nowhere(&self, limit: Duration) {
        if self.names.state != StateObjects::Leases {
            return;
        }
        match self.write_slice(&[], limit).await {
            Ok(()) | Err(Failure::Unserved(_)) => {}
            Err(failure) => warn!("the Service still leads here: {}", failure.detail()),
        }
    }

    async fn write_slice(&self, endpoints: &[Value], limit: Duration) -> Result<(), Failure> {
        let name = self.names.slice();
        let folder = Kind::EndpointSlices.path(&self.api.namespace().await?);
        for _ in 0..TRIES {
            let known = match self.api.ask::<Value>(&Ask::get(format!("{folder}/{name}")), limit).await {
                Ok(slice) => Some(slice),
                Err(Failure::Absent(_)) => None,
                Err(failure) => return Err(failure),
            };
            // Between the reading and now the lock may have become another's.
            if !self.holds() {
                return Ok(());
            }
            let mut slice = self.slice(endpoints);
            let (method, path, form) = match &known {
                Some(known) if known["endpoints"] == slice["endpoints"] && known["ports"] == slice["ports"] => {
                    return Ok(());
                }
                Some(known) => {
                    slice["metadata"]["resourceVersion"] = known["metadata"]["resourceVersion"].clone();
                    (Method::PATCH, format!("{folder}/{name}"), MERGE_PATCH)
                }
                None => (Method::POST, folder.clone(), JSON),
            };
            let ask = Ask { method, path, query: &[], body: Some((form, slice)) };
            match self.api.ask::<Value>(&ask, limit).await {
                Ok(_) => return Ok(()),
                Err(Failure::Conflict(_) | Failure::Exists(_) | Failure::Absent(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Gone(format!("the EndpointSlice {name} keeps changing")))
    }

    fn slice(&self, endpoints: &[Value]) -> Value {
        let mut labels = self.labels();
        labels.insert("kubernetes.io/service-name".to_owned(), self.names.leader.as_str().into());
        labels.insert("endpointslice.kubernetes.io/managed-by".to_owned(), "tamada".into());
        let owner = self.cache().state().leader().map(|lease| {
            json!([{ "apiVersion": Kind::Leases.version(), "kind": Kind::Leases.singular(),
                "name": lease.metadata.name, "uid": lease.metadata.uid }])
        });
        let ip = self.pod_ip();
        let family = if ip.is_some_and(|ip| ip.contains(':')) { "IPv6" } else { "IPv4" };
        let ports: Vec<Value> = self.config.ports.iter().map(|port| {
            json!({ "name": port.name.as_deref().unwrap_or_default(), "port": port.port, "protocol": port.protocol })
        }).collect();
        json!({
            "apiVersion": Kind::EndpointSlices.version(),
            "kind": Kind::EndpointSlices.singular(),
            "metadata": { "name": self.names.slice(), "labels": labels, "ownerReferences": owner },
            "addressType": family,
            "endpoints": endpoints,
            "ports": ports,
        })
    }

    fn endpoint(&self) -> Option<Value> {
        let ip = self.pod_ip()?;
        let mut endpoint =
            json!({ "addresses": [ip], "conditions": { "ready": true }, "hostname": self.name.as_str() });
        let cache = self.cache();
        if let (Some(pod), Some(endpoint)) = (cache.state().own_pod(), endpoint.as_object_mut()) {
            endpoint.extend(pod.node_name.as_ref().map(|node| ("nodeName".to_owned(), node.as_str().into())));
            endpoint.insert("targetRef".to_owned(), pod_reference(pod));
        }
        Some(endpoint)
    }
}

/// What an address belongs to.
pub(super) fn pod_reference(pod: &super::objects::Object) -> Value {
    json!({ "kind": Kind::Pods.singular(), "name": pod.metadata.name, "uid": pod.metadata.uid })
}
