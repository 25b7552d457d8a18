//! The Services of Endpoints: one without a selector leads clients to the addresses that the leader writes, and one without
//! an address keeps the configuration's Endpoints from being cleaned up as nobody's.

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::http::Method;
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::api::Ask;
use super::failure::Failure;
use super::session::{JSON, Session};
use crate::config::StateObjects;

impl Session {
    /// Before the configuration's Endpoints are made. Without the right to, whoever runs the cluster has made it.
    pub(super) async fn ensure_config_service(&self, limit: Duration) -> Result<(), Failure> {
        if self.names.state != StateObjects::Endpoints {
            return Ok(());
        }
        let path = format!("/api/v1/namespaces/{}/services", self.api.namespace().await?);
        let metadata = json!({"name": self.names.config, "labels": self.labels()});
        let service =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"clusterIP": "None"}});
        let ask = Ask { method: Method::POST, path, query: &[], body: Some((JSON, service)) };
        match self.api.ask::<Value>(&ask, limit).await {
            Ok(_) | Err(Failure::Exists(_)) => Ok(()),
            Err(Failure::Denied(detail)) => {
                debug!("the Service {} is not made: {detail}", self.names.config);
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Tells the log what would keep the Service from leading to the leader.
    pub(super) async fn check_service(&self, limit: Duration) {
        if self.names.state != StateObjects::Endpoints {
            return;
        }
        let name = &self.names.leader;
        let Ok(namespace) = self.api.namespace().await else { return };
        let ask = Ask::get(format!("/api/v1/namespaces/{namespace}/services/{name}"));
        match self.api.ask::<Value>(&ask, limit).await {
            Ok(service) => self.complaints(&service).iter().for_each(|complaint| warn!("{complaint}")),
            Err(Failure::Absent(_)) => {
                warn!("there is no Service {name} in the namespace {namespace}: nothing leads clients to the primary");
            }
            Err(failure) => debug!("the Service {name} cannot be looked at: {}", failure.detail()),
        }
    }

    fn complaints(&self, service: &Value) -> Vec<String> {
        let name = &self.names.leader;
        let mut complaints = Vec::new();
        if service["spec"]["selector"].as_object().is_some_and(|selector| !selector.is_empty()) {
            complaints.push(format!(
                "the Service {name} has a selector: Kubernetes overwrites the primary's address in its Endpoints with those of \
                 all pods that are selected; remove the selector, or use ConfigMaps and a selector with the label {}={}",
                self.config.role_label, self.config.leader_value
            ));
        }
        let named = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
        let wanted: BTreeSet<&str> = named.iter().map(|port| port["name"].as_str().unwrap_or_default()).collect();
        let given: BTreeSet<&str> =
            self.config.ports.iter().map(|port| port.name.as_deref().unwrap_or_default()).collect();
        if wanted != given {
            let list = |names: &BTreeSet<&str>| {
                let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
                names.join(", ")
            };
            complaints.push(format!(
                "the ports of the Service {name} are named {}, those of its Endpoints {}: only ports of one name lead on; set \
                 PATRONI_KUBERNETES_PORTS",
                list(&wanted),
                list(&given)
            ));
        }
        complaints
    }
}
