//! Taking the lock.

use std::time::Duration;

use etcd_client::{PutOptions, Txn, TxnOp};

use super::failure::Failure;
use super::lease::{Missing, Release, Renewal};
use super::link::Link;
use super::ops::{Along, as_seen};
use super::pool::Try;
use super::session::Session;
use crate::core::lock_seen::{LockSeen, StatusSeen};
use crate::dcs::codec;
use crate::dcs::{DcsError, Lock};

impl Session {
    pub(super) async fn acquire(&self, seen: LockSeen, deadline: Duration) -> Result<Lock, DcsError> {
        let acquire = |attempt: Try| async move {
            let answer = match self.acquire_once(&attempt.link, seen).await {
                // It ran out after we had looked.
                Err(Failure::LeaseGone) => self.acquire_once(&attempt.link, seen).await,
                answer => answer,
            };
            match answer {
                // Whoever held it has given it up.
                Ok(Lock::NotHeld) if seen.lock.is_some() && self.cache().entry(codec::LEADER).is_none() => {
                    self.acquire_once(&attempt.link, LockSeen { lock: None, ..seen }).await
                }
                answer => answer,
            }
        };
        let answer = self.pool.call(deadline, acquire).await.and_then(|lock| self.recall().map(|()| lock));
        answer.map_err(|failure| failure.into_error(deadline))
    }

    async fn acquire_once(&self, link: &Link, seen: LockSeen) -> Result<Lock, Failure> {
        let Some(lease) = self.hold_lease(link, Renewal::Now, Missing::Grant).await? else {
            return Err(Failure::LeaseGone);
        };
        self.recall()?;
        let (leader, status) = (self.leader_key(), self.key(codec::STATUS));
        let name = self.name.as_str();
        let status_as_seen = match seen.status {
            StatusSeen::Any => None,
            StatusSeen::Absent => Some(as_seen(&status, None)),
            StatusSeen::At(revision) => Some(as_seen(&status, Some(revision))),
        };
        let txn = Txn::new()
            .when([Some(as_seen(&leader, seen.lock)), status_as_seen].into_iter().flatten().collect::<Vec<_>>())
            .and_then([TxnOp::put(leader.as_str(), name, Some(PutOptions::new().with_lease(lease)))])
            .or_else([TxnOp::get(leader.as_str(), None), TxnOp::get(status.as_str(), None)]);
        let _writing = self.writing(codec::LEADER, Some(name.as_bytes()));
        let (answer, origin) = self.write_on(link, lease, txn).await?;
        if answer.succeeded() {
            // A new key has a new revision: an unanswered release misses it.
            self.leases().release = Release::None;
            self.wrote(origin, codec::LEADER, Some(name.as_bytes().to_vec()), lease);
            return Ok(self.held(lease));
        }
        self.learn_key(codec::STATUS, &answer, origin);
        match self.learn_key(codec::LEADER, &answer, origin) {
            Some(entry) if self.is_lock(&entry, lease) => {
                self.with_lock(link, lease, Along::default(), self.keeping()).await
            }
            Some(_) | None => Ok(Lock::NotHeld),
        }
    }
}
