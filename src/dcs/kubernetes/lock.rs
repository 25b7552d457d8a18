//! The lock: taking it, renewing it, giving it up. Each is one conditional write of one object, over the version that it was
//! decided by: whoever has renewed since makes it miss.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::failure::Failure;
use super::objects::{Changes, Object, Write};
use super::session::{Session, Tries, locked};
use super::slice::pod_reference;
use super::state::{
    ACQUIRE_TIME, HOLDER, LEADER, OPTIME, RENEW_TIME, RETAIN_SLOTS, SLOTS, TRANSITIONS, TTL, holder_text,
};
use crate::config::StateObjects;
use crate::core::lock_seen::{LockSeen, StatusSeen};
use crate::core::view::ClusterStatus;
use crate::dcs::{DcsError, Lock, codec};

/// Whose the lock is, by an answer of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Ours,
    NotOurs,
}

impl Session {
    pub(super) async fn acquire(&self, seen: LockSeen, deadline: Duration) -> Result<Lock, DcsError> {
        let _turn = self.lock_turn.lock().await;
        let (began, ttl, mut tries) = (Instant::now(), self.whole_ttl(), Tries::new(deadline));
        loop {
            match self.acquire_once(seen, tries.share()).await {
                Ok(Hold::Ours) => return Ok(self.held(began, ttl)),
                Ok(Hold::NotOurs) => return Ok(Lock::NotHeld),
                Err(failure) => tries.again(failure).await?,
            }
        }
    }

    async fn acquire_once(&self, seen: LockSeen, limit: Duration) -> Result<Hold, Failure> {
        self.recall()?;
        self.refuse_other_modes(limit).await?;
        let written = match self.known_leader(limit).await? {
            None => self.make_leader(limit).await,
            Some(leader) if self.is_ours(&leader) => self.renew_over(&leader, None, limit).await,
            Some(leader) if self.may_take(&leader, seen) => self.take(&leader, limit).await,
            // What stands there now is what the next decision goes by.
            Some(_) => {
                self.get(self.names.lock_kind(), &self.names.leader, limit).await?;
                return Ok(Hold::NotOurs);
            }
        };
        match written {
            Ok(()) => return Ok(Hold::Ours),
            // Somebody has written it meanwhile: perhaps an earlier attempt of this call.
            Err(Failure::Conflict(_) | Failure::Exists(_) | Failure::Absent(_)) => {}
            Err(failure) => return Err(failure),
        }
        match self.get(self.names.lock_kind(), &self.names.leader, limit).await? {
            // Others count from the write that made it ours, which may be of an earlier call: only one of this call counts.
            Some(leader) if self.is_ours(&leader) => self.renew_over(&leader, None, limit).await.map(|()| Hold::Ours),
            Some(leader) if seen.status == StatusSeen::Any && self.is_free(&leader) => {
                self.take(&leader, limit).await.map(|()| Hold::Ours)
            }
            Some(_) | None => Ok(Hold::NotOurs),
        }
    }

    pub(super) async fn renew(&self, status: Option<&ClusterStatus>, deadline: Duration) -> Result<Lock, DcsError> {
        let _turn = self.lock_turn.lock().await;
        let (began, ttl, mut tries) = (Instant::now(), self.whole_ttl(), Tries::new(deadline));
        loop {
            match self.renew_once(status, tries.share()).await {
                Ok(Hold::Ours) => return Ok(self.held(began, ttl)),
                Ok(Hold::NotOurs) => {
                    *locked(&self.held) = None;
                    return Ok(Lock::NotHeld);
                }
                Err(failure) => tries.again(failure).await?,
            }
        }
    }

    /// Only a fresh reading says that the lock is not ours: the cache may be older than the object.
    async fn renew_once(&self, status: Option<&ClusterStatus>, limit: Duration) -> Result<Hold, Failure> {
        self.recall()?;
        let known = self.known_leader(limit).await?.filter(|leader| self.is_ours(leader));
        let leader = match known {
            Some(leader) => leader,
            None => match self.get(self.names.lock_kind(), &self.names.leader, limit).await? {
                Some(leader) if self.is_ours(&leader) => leader,
                Some(_) => return Ok(Hold::NotOurs),
                // Somebody has deleted it under us.
                None if self.is_held() => return self.make_leader(limit).await.map(|()| Hold::Ours),
                None => return Ok(Hold::NotOurs),
            },
        };
        match self.renew_over(&leader, status, limit).await {
            Ok(()) => Ok(Hold::Ours),
            Err(Failure::Conflict(detail) | Failure::Absent(detail)) => {
                self.get(self.names.lock_kind(), &self.names.leader, limit).await?;
                Err(Failure::Busy { detail, after: None })
            }
            Err(failure) => Err(failure),
        }
    }

    /// Whether it was ours.
    pub(super) async fn release(&self, status: Option<&ClusterStatus>, deadline: Duration) -> Result<bool, DcsError> {
        let _turn = self.lock_turn.lock().await;
        *locked(&self.held) = None;
        let mut tries = Tries::new(deadline);
        loop {
            match self.release_once(status, tries.share()).await {
                Ok(was_ours) => return Ok(was_ours),
                Err(failure) => tries.again(failure).await?,
            }
        }
    }

    async fn release_once(&self, status: Option<&ClusterStatus>, limit: Duration) -> Result<bool, Failure> {
        let known = self.known_leader(limit).await?;
        let Some(leader) = known.filter(|leader| self.is_ours(leader)) else { return Ok(false) };
        let mut annotations = Changes::from([(LEADER, None), (HOLDER, None)]);
        annotations.extend(status.into_iter().flat_map(status_changes));
        let subsets = (self.names.state == StateObjects::Endpoints).then(|| json!([]));
        let write = Write { subsets, annotations, ..self.leader_write() };
        match self.patch(&write, Some(&leader.metadata.resource_version), limit).await {
            Ok(_) | Err(Failure::Absent(_)) => Ok(true),
            Err(Failure::Conflict(detail)) => {
                self.get(self.names.lock_kind(), &self.names.leader, limit).await?;
                Err(Failure::Busy { detail, after: None })
            }
            Err(failure) => Err(failure),
        }
    }

    /// Whether the lock is ours by what is known of its object.
    pub(super) fn holds(&self) -> bool {
        let cache = self.cache();
        cache.state().leader().is_some_and(|leader| cache.state().is_ours(leader))
    }

    fn is_ours(&self, leader: &Object) -> bool {
        self.cache().state().is_ours(leader)
    }

    /// The lock's object, from the cache if that has seen it.
    async fn known_leader(&self, limit: Duration) -> Result<Option<Object>, Failure> {
        let known = self.cache().state().leader().cloned();
        match known {
            Some(leader) => Ok(Some(leader)),
            None => self.get(self.names.lock_kind(), &self.names.leader, limit).await,
        }
    }

    /// Whether it stands as it did when it was decided to take it, or nobody holds it and nothing else was to be looked at.
    fn may_take(&self, leader: &Object, seen: LockSeen) -> bool {
        let revision = leader.revision();
        let status = match seen.status {
            StatusSeen::Any => true,
            StatusSeen::Absent => false,
            StatusSeen::At(status) => status.0 == revision,
        };
        let is_as_seen = seen.lock.is_some_and(|lock| lock.0 == revision) && status;
        is_as_seen || (seen.status == StatusSeen::Any && self.is_free(leader))
    }

    /// Whether nobody holds the lock, or whoever held it has let it run out before our eyes.
    fn is_free(&self, leader: &Object) -> bool {
        let cache = self.cache();
        let ends = cache.state().lock_ends(self.timing().ttl);
        let is_known = cache.state().leader().is_some_and(|known| known.revision() == leader.revision());
        leader.annotation(LEADER).is_none_or(str::is_empty)
            || (is_known && ends.is_some_and(|end| end <= Instant::now()))
    }

    pub(super) fn is_held(&self) -> bool {
        locked(&self.held).is_some_and(|until| until > Instant::now())
    }

    /// `ttl`: as it was when the call began. Another one may have been written since.
    fn held(&self, began: Instant, ttl: Duration) -> Lock {
        let ttl = ttl.min(self.whole_ttl());
        *locked(&self.held) = Some(began + ttl);
        Lock::Held { valid_for: ttl }
    }

    /// The ttl in whole seconds, as it is written.
    fn whole_ttl(&self) -> Duration {
        Duration::from_secs(self.timing().ttl.as_secs().max(1))
    }

    async fn make_leader(&self, limit: Duration) -> Result<(), Failure> {
        let write = Write { labels: self.labels(), ..self.leader_write() };
        let write = self.with_term(write, &Object::default()).await;
        self.create(&write, limit).await.map(drop)
    }

    async fn take(&self, leader: &Object, limit: Duration) -> Result<(), Failure> {
        let write = self.with_term(self.leader_write(), leader).await;
        self.patch(&write, Some(&leader.metadata.resource_version), limit).await.map(drop)
    }

    async fn renew_over(
        &self,
        leader: &Object,
        status: Option<&ClusterStatus>,
        limit: Duration,
    ) -> Result<(), Failure> {
        let mut write = self.with_term(self.leader_write(), leader).await;
        write.annotations.extend(status.into_iter().flat_map(status_changes));
        self.patch(&write, Some(&leader.metadata.resource_version), limit).await.map(drop)
    }

    fn leader_write(&self) -> Write<'_> {
        Write {
            kind: self.names.lock_kind(),
            name: &self.names.leader,
            labels: serde_json::Map::new(),
            annotations: Changes::new(),
            subsets: None,
        }
    }

    /// The annotations that make the lock ours, and in Endpoints the address that leads clients to us.
    async fn with_term<'a>(&self, mut write: Write<'a>, leader: &Object) -> Write<'a> {
        let now = time_text(Timestamp::now(), self.names.state);
        let last = leader.annotation(ACQUIRE_TIME).map(str::to_owned);
        let was_us = leader.annotation(LEADER) == Some(self.name.as_str());
        let count = leader.annotation(TRANSITIONS).and_then(|count| count.parse::<u64>().ok());
        let (acquired, transitions) = match (last, count) {
            (Some(acquired), Some(count)) if was_us => (acquired, count),
            (_, Some(count)) => (now.clone(), count + 1),
            (_, None) => (now.clone(), 0),
        };
        let holder = holder_text(self.cache().state().holder(), &now);
        write.annotations.extend([
            (LEADER, Some(self.name.as_str().to_owned())),
            (TTL, Some(self.whole_ttl().as_secs().to_string())),
            (ACQUIRE_TIME, Some(acquired)),
            (TRANSITIONS, Some(transitions.to_string())),
            (HOLDER, Some(holder)),
            (RENEW_TIME, Some(now)),
        ]);
        write.subsets = self.subsets_due(leader);
        write
    }

    /// Where clients reach this pod; `None`: nobody has said so yet.
    pub(super) fn pod_ip(&self) -> Option<String> {
        let configured = self.config.pod_ip.map(|ip| ip.to_string());
        configured.or_else(|| self.cache().state().own_pod()?.pod_ip.clone())
    }

    /// The one address behind the Service; `None`: it stands there already, or is none of ours to write.
    fn subsets_due(&self, leader: &Object) -> Option<Value> {
        if self.names.state != StateObjects::Endpoints {
            return None;
        }
        let ip = self.pod_ip()?;
        let ports = self.config.ports.iter().map(|port| {
            let mut map = serde_json::Map::new();
            map.extend(port.name.as_ref().map(|name| ("name".to_owned(), name.as_str().into())));
            map.insert("port".to_owned(), port.port.into());
            map.insert("protocol".to_owned(), port.protocol.as_str().into());
            Value::Object(map)
        });
        let ports: Vec<Value> = ports.collect();
        if has_address(&leader.subsets, &ip, &ports) {
            return None;
        }
        let mut address = json!({ "ip": ip, "hostname": self.name.as_str() });
        let cache = self.cache();
        if let (Some(pod), Some(address)) = (cache.state().own_pod(), address.as_object_mut()) {
            address.extend(pod.node_name.as_ref().map(|node| ("nodeName".to_owned(), node.as_str().into())));
            address.insert("targetRef".to_owned(), pod_reference(pod));
        }
        Some(json!([{ "addresses": [address], "ports": ports }]))
    }
}

/// Whether it is this address and these ports alone, in whatever order.
fn has_address(subsets: &Value, ip: &str, ports: &[Value]) -> bool {
    let Some([subset]) = subsets.as_array().map(Vec::as_slice) else { return false };
    let addresses = subset.get("addresses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let found = subset.get("ports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_ours = matches!(addresses, [address] if address.get("ip").and_then(Value::as_str) == Some(ip));
    is_ours && found.len() == ports.len() && ports.iter().all(|port| found.contains(port))
}

/// A leader's word as annotations; what it does not hold is removed.
fn status_changes(status: &ClusterStatus) -> Changes {
    let mut document = codec::status_document(status);
    let mut changes = Changes::new();
    for name in [OPTIME, SLOTS, RETAIN_SLOTS].into_iter().chain(codec::OWN_STATUS) {
        let value = document.as_object_mut().and_then(|fields| fields.remove(name));
        changes.insert(name, value.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    }
    changes
}

/// UTC with microseconds: as Patroni writes it, or as the API server has it in a Lease.
fn time_text(time: Timestamp, state: StateObjects) -> String {
    let zone = if state == StateObjects::Leases { "Z" } else { "+00:00" };
    format!("{}{zone}", time.strftime("%Y-%m-%dT%H:%M:%S.%6f"))
}
