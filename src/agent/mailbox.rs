//! What the API may ask of the loop. Each request carries the channel for its one answer.

use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::status::{ClusterStatusDocuments, PostgresStatus};
use crate::core::observation::RestartConditions;

/// The mailbox's far end; bounded, so that a flood of requests waits in the clients and not in our memory.
pub type Mailbox = tokio::sync::mpsc::Sender<Request>;

/// One request and where its answer goes. A dropped sender means that the loop has ended.
#[derive(Debug)]
pub enum Request {
    /// Fresh WAL positions and walsenders. Concurrent ones share a probe. `None` after the deadline of 1 s: the answer
    /// then has no `xlog`.
    Positions(oneshot::Sender<Option<PostgresStatus>>),
    /// A fresh reading of the DCS; `None`: it does not answer.
    Cluster(oneshot::Sender<Option<ClusterStatusDocuments>>),
    /// Write the `failover` key (unconditionally) and wake the loop; `Err`: it could not be written.
    Switchover(SwitchoverDocument, oneshot::Sender<Result<(), String>>),
    /// Rewrite the `failover` key to `{}` if it still holds this scheduled switchover.
    ClearSwitchover(oneshot::Sender<WriteResult>),
    /// Replace the `config` document, if `merge` says how: merged with compare-and-set, or put as it is.
    Config(ConfigChange, oneshot::Sender<ConfigResult>),
    /// Restart PostgreSQL now and tell how it ended; or schedule it.
    Restart(RestartBody, oneshot::Sender<RestartResult>),
    /// Remove the scheduled restart; `false`: there was none.
    CancelRestart(oneshot::Sender<bool>),
    Reload,
    /// `Err` is the text of the refusal, as Patroni words it.
    Reinitialize(ReinitializeBody, oneshot::Sender<Result<(), String>>),
    /// A primary that the DCS does not answer asks whether this member vouches for it.
    Failsafe(FailsafeBody, oneshot::Sender<FailsafeAnswer>),
    /// Ask these members for `GET api_url` (2 s) and say which are eligible to become leader.
    Eligible(Vec<crate::core::units::MemberName>, oneshot::Sender<Vec<crate::core::units::MemberName>>),
}

/// `POST /failsafe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailsafeBody {
    pub name: crate::core::units::MemberName,
    /// Ours: the ttl that the primary goes by; Patroni's members do not say it.
    pub ttl: Option<std::time::Duration>,
    /// Where its slots are.
    pub slots: std::collections::BTreeMap<String, crate::core::units::Lsn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailsafeAnswer {
    NotEnabled,
    /// It leads, races, or has vouched for another member.
    Refused,
    /// With the last position that this member has received or replayed.
    Accepted(Option<crate::core::units::Lsn>),
}

/// The `failover` key's fields; absent ones are left out of the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchoverDocument {
    pub leader: Option<String>,
    pub candidate: Option<String>,
    /// ISO 8601 with offset.
    pub scheduled_at: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteResult {
    Done,
    Conflict,
    NothingThere,
    Unreachable(String),
}

#[derive(Clone, Debug)]
pub enum ConfigChange {
    /// PATCH: recursive merge, null removes.
    Merge(Map<String, Value>),
    /// PUT.
    Replace(Map<String, Value>),
}

#[derive(Clone, Debug)]
pub enum ConfigResult {
    /// The document as it now stands.
    Done(Value),
    /// Somebody else changed it meanwhile.
    Conflict,
    /// The `config` key is missing or invalid.
    Missing,
    /// Settings that this version refuses, each as a sentence with field, value and what to do.
    Refused(Vec<String>),
    Unreachable(String),
}

/// `POST /restart`, its fields checked by the API.
#[derive(Clone, Debug, Default)]
pub struct RestartBody {
    pub conditions: RestartConditions,
    pub timeout: Option<std::time::Duration>,
    pub schedule: Option<crate::core::units::WallTime>,
    /// The request's own fields, for the member record.
    pub document: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartResult {
    Restarted,
    Scheduled,
    AlreadyScheduled,
    ConditionsNotSatisfied,
    /// `<action> already in progress`.
    Busy(String),
    StillStarting,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReinitializeBody {
    pub force: bool,
    pub from_leader: bool,
}

/// A client that has gone needs no answer.
pub(super) fn reply<T>(to: oneshot::Sender<T>, answer: T) {
    let _gone = to.send(answer);
}
