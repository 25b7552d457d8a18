//! Our pod: the member's record and the labels that tell its role. And the pods of others, as far as a label of theirs would
//! lead clients astray.

use std::time::Duration;

use serde_json::{Map, Value};
use tracing::{info, warn};

use super::failure::Failure;
use super::objects::{Changes, Kind, Object, Write};
use super::session::{Session, Tries};
use super::state::STATUS;
use crate::core::view::MemberState;
use crate::dcs::DcsError;

impl Session {
    /// The record and the labels, where they differ from what stands there. Over the version that is known: a request that
    /// got no answer may arrive long after newer ones.
    pub(super) async fn publish(&self, record: &Value, deadline: Duration) -> Result<(), DcsError> {
        let _turn = self.pod_turn.lock().await;
        let mut tries = Tries::new(deadline);
        loop {
            match self.publish_once(record, tries.share()).await {
                Ok(()) => return Ok(()),
                Err(failure) => tries.again(failure).await?,
            }
        }
    }

    async fn publish_once(&self, record: &Value, limit: Duration) -> Result<(), Failure> {
        self.renew_claim(limit).await.or_else(|failure| if failure.is_passing() { Err(failure) } else { Ok(()) })?;
        let known = self.cache().state().own_pod().cloned();
        let pod = match known {
            Some(pod) => Some(pod),
            None => self.get(Kind::Pods, self.name.as_str(), limit).await?,
        };
        let Some(pod) = pod else { return Err(self.no_pod().await) };
        let annotations = Changes::from([(STATUS, Some(record.to_string()))]);
        let labels = self.role_labels(record);
        let write = Write { kind: Kind::Pods, name: self.name.as_str(), labels, annotations, subsets: None };
        if write.stands_in(&pod) {
            return Ok(());
        }
        match self.patch(&write, Some(&pod.metadata.resource_version), limit).await {
            Ok(_) => Ok(()),
            // The kubelet writes into it, too.
            Err(Failure::Conflict(detail)) => {
                self.get(Kind::Pods, self.name.as_str(), limit).await?;
                Err(Failure::Busy { detail, after: None })
            }
            Err(Failure::Absent(_)) => Err(self.no_pod().await),
            Err(failure) => Err(failure),
        }
    }

    async fn no_pod(&self) -> Failure {
        let namespace = self.api.namespace().await.unwrap_or_default();
        Failure::Answer(format!(
            "there is no pod {} in the namespace {namespace}: PATRONI_NAME must be the pod's name, and \
             PATRONI_KUBERNETES_NAMESPACE its namespace",
            self.name
        ))
    }

    /// By the lock, not by PostgreSQL: the label leads clients to where writes will be.
    fn role_labels(&self, record: &Value) -> Map<String, Value> {
        let text = |field: &str| record.get(field).and_then(Value::as_str).unwrap_or_default();
        let (role, state) = (text("role"), MemberState::from_word(text("state")));
        let config = &self.config;
        let leads = self.holds();
        let (value, plain) = match (leads, state, role) {
            (true, _, "standby_leader") => (Some(config.standby_leader_value.as_str()), Some("primary")),
            (true, ..) => (Some(config.leader_value.as_str()), Some("primary")),
            (false, MemberState::Running, "replica") => (Some(config.follower_value.as_str()), Some("replica")),
            (false, MemberState::Running, "primary" | "master") => (None, None),
            (false, MemberState::Running, role) => (Some(role), Some(role)),
            (false, ..) => (None, None),
        };
        let mut labels = Map::new();
        labels.insert(config.role_label.clone(), value.into());
        if let Some(label) = &config.tmp_role_label {
            labels.insert(label.clone(), plain.into());
        }
        let is_made = matches!(
            state,
            MemberState::InitializingNewCluster
                | MemberState::RunningCustomBootstrap
                | MemberState::StartingAfterCustomBootstrap
                | MemberState::CreatingReplica
        );
        for (name, value) in &config.bootstrap_labels {
            labels.insert(name.clone(), Some(value.as_str()).filter(|_| is_made).into());
        }
        labels
    }

    /// Whoever held the lock before may be dead: its pod keeps the label of a primary until somebody takes it away.
    pub(super) async fn unlabel_others(&self, limit: Duration) {
        let labelled: Vec<Object> = {
            let cache = self.cache();
            let is_other = |pod: &&Object| pod.metadata.name != self.name.as_str();
            let leads = |pod: &&Object| {
                let role = pod.label(&self.config.role_label);
                role == Some(self.config.leader_value.as_str())
                    || role == Some(self.config.standby_leader_value.as_str())
            };
            cache.state().objects(Kind::Pods).filter(is_other).filter(leads).cloned().collect()
        };
        for pod in labelled {
            let mut labels = Map::from_iter([(self.config.role_label.clone(), Value::Null)]);
            labels.extend(self.config.tmp_role_label.clone().map(|label| (label, Value::Null)));
            let name = pod.metadata.name.as_str();
            let write = Write { kind: Kind::Pods, name, labels, annotations: Changes::new(), subsets: None };
            match self.patch(&write, None, limit).await {
                Ok(_) => {
                    info!("the pod {name} does not lead any more: its label {} is removed", self.config.role_label)
                }
                Err(failure) => warn!("the label {} of pod {name} stays: {}", self.config.role_label, failure.detail()),
            }
        }
    }
}
