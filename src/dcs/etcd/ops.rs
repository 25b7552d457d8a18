//! The requests of the trait, each one transaction beside the lease.
//!
//! Every request may be sent twice (a frozen node may have carried the first one out), so each is made such that a
//! second one does no harm and its answer still tells the truth.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnResponse};
use serde_json::Value;
use tracing::warn;

use super::failure::Failure;
use super::lease::{Missing, Release, Renewal};
use super::link::Link;
use super::pool::{Doubt, Try};
use super::session::{Origin, Session};
use crate::core::units::Revision;
use crate::dcs::codec::{self, Entry};
use crate::dcs::{Content, DcsError, Expect, Key, Lock};

/// The answer to a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Written {
    Done,
    /// What stands there instead.
    Refused(Option<Entry>),
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Done,
    /// Another one stands there than was known.
    Refused,
}

impl Session {
    /// The lock hangs on this lease, which was renewed during this call.
    pub(super) fn held(&self, lease: i64) -> Lock {
        Lock::Held { valid_for: self.granted_ttl(lease) }
    }

    /// Nothing is asked or said of the lock for a caller who does not know yet that the store has lost its data.
    pub(super) fn recall(&self) -> Result<(), Failure> {
        if self.cache().losses().is_one_hidden() { Err(Failure::Forgot) } else { Ok(()) }
    }

    /// Nothing is written that was decided before a loss of the store's data.
    fn remembers(&self, expect: Expect) -> Result<(), Failure> {
        if self.cache().losses().outdate(expect) { Err(Failure::Forgot) } else { Ok(()) }
    }

    pub(super) fn is_lock(&self, entry: &Entry, lease: i64) -> bool {
        entry.lease == lease && entry.value == self.name.as_str().as_bytes()
    }

    /// How to keep the lock: by looking, unless an unanswered release must be made to miss it.
    pub(super) fn keeping(&self) -> Keep {
        match self.leases().release {
            Release::None => Keep::Lock,
            Release::Pending => Keep::Rewritten,
        }
    }

    pub(super) async fn release(
        &self,
        status: Option<&str>,
        record: Option<&[u8]>,
        deadline: Duration,
    ) -> Result<(), DcsError> {
        let release = |attempt: Try| async move {
            let Some(lease) = self.leases().id() else { return Ok(()) };
            if !self.cache().is_filled() {
                self.range(&attempt.link).await?;
            }
            self.leases().release = Release::Pending;
            let path = codec::member_key(&self.name);
            let record = record.filter(|record| !self.is_published(&path, record, lease));
            match self.release_once(&attempt.link, lease, Along { status, record }).await {
                Err(Failure::Full) if status.is_some() || record.is_some() => {
                    warn!("the lock is released without a last status: etcd is out of space");
                    self.release_once(&attempt.link, lease, Along::default()).await
                }
                // The record could not be put on it, and the lock went with it.
                Err(Failure::LeaseGone) => {
                    self.forget_lease(lease);
                    Ok(())
                }
                answer => answer,
            }
        };
        self.pool.call(deadline, release).await.map_err(|failure| failure.into_error(deadline))
    }

    /// Retries once if the key is ours but has changed since we read it.
    async fn release_once(&self, link: &Link, lease: i64, along: Along<'_>) -> Result<(), Failure> {
        if self.with_lock(link, lease, along, Keep::Nothing).await? == Lock::NotHeld {
            let is_ours = self.cache().entry(codec::LEADER).is_some_and(|entry| self.is_lock(entry, lease));
            if is_ours {
                self.with_lock(link, lease, along, Keep::Nothing).await?;
            }
        }
        Ok(())
    }

    /// One transaction under the condition that the leader key is ours. Its branches always read or write the store,
    /// since etcd answers an empty one from memory, without asking the other nodes.
    pub(super) async fn with_lock(
        &self,
        link: &Link,
        lease: i64,
        along: Along<'_>,
        keep: Keep,
    ) -> Result<Lock, Failure> {
        let Along { status, record } = along;
        let leader = self.leader_key();
        let member = codec::member_key(&self.name);
        let name = self.name.as_str();
        let get_leader = TxnOp::get(leader.as_str(), None);
        let on_lease = || Some(PutOptions::new().with_lease(lease));
        let put_status = status.map(|status| TxnOp::put(self.key(codec::STATUS), status, None));
        let put_record = record.map(|record| TxnOp::put(self.key(&member), record, on_lease()));
        let mut conditions = self.leads(lease);
        let lock = match keep {
            Keep::Lock => get_leader.clone(),
            Keep::Rewritten => TxnOp::put(leader.as_str(), name, on_lease()),
            Keep::Nothing => {
                let known = self.cache().entry(codec::LEADER).and_then(|entry| i64::try_from(entry.revision).ok());
                let is_as_known = |revision| Compare::mod_revision(leader.as_str(), CompareOp::Equal, revision);
                conditions.extend(known.map(is_as_known));
                TxnOp::delete(leader.as_str(), None)
            }
        };
        let txn = Txn::new()
            .when(conditions)
            .and_then([Some(lock), put_status, put_record].into_iter().flatten().collect::<Vec<_>>())
            .or_else([get_leader]);
        let _status = status.map(|status| self.writing(codec::STATUS, Some(status.as_bytes())));
        let _record = record.map(|record| self.writing(&member, Some(record)));
        let _leader = (keep == Keep::Nothing).then(|| self.writing(codec::LEADER, None));
        let mark = self.cache().mark();
        let answer = match status.is_some() || record.is_some() || keep == Keep::Rewritten {
            true => self.space.write(link.kv().txn(txn)).await?,
            false => link.kv().txn(txn).await?,
        };
        let writes = status.is_some() || record.is_some() || keep != Keep::Lock;
        let mark = mark.written_if(answer.succeeded() && writes);
        let origin = self.answered(link, answer.header(), mark).await?;
        if !answer.succeeded() {
            self.learn_key(codec::LEADER, &answer, origin);
            return Ok(Lock::NotHeld);
        }
        if let Some(status) = status {
            self.wrote(origin, codec::STATUS, Some(status.as_bytes().to_vec()), 0);
        }
        if let Some(record) = record {
            self.record_stands(origin, &member, record, lease);
        }
        match keep {
            Keep::Lock => {}
            Keep::Rewritten => {
                self.leases().release = Release::None;
                self.wrote(origin, codec::LEADER, Some(name.as_bytes().to_vec()), lease);
            }
            Keep::Nothing => self.wrote(origin, codec::LEADER, None, 0),
        }
        Ok(self.held(lease))
    }

    /// That the leader key is ours and hangs on this lease.
    fn leads(&self, lease: i64) -> Vec<Compare> {
        let leader = self.leader_key();
        vec![
            Compare::lease(leader.as_str(), CompareOp::Equal, lease),
            Compare::value(leader.as_str(), CompareOp::Equal, self.name.as_str()),
        ]
    }

    pub(super) async fn publish(&self, record: &Value, deadline: Duration) -> Result<(), DcsError> {
        let record = record.to_string().into_bytes();
        let record = record.as_slice();
        let publish = |attempt: Try| async move {
            match self.publish_once(&attempt.link, record).await {
                // It ran out after we had looked, or the key has changed since it was read: now that is known.
                Err(Failure::LeaseGone) | Ok(Put::Refused) => self.publish_once(&attempt.link, record).await,
                answer => answer,
            }
        };
        let answer = self.pool.call(deadline, publish).await.and_then(|put| match put {
            Put::Done => Ok(()),
            Put::Refused => Err(Failure::Busy(format!("the record of member {} keeps changing", self.name))),
        });
        answer.map_err(|failure| failure.into_error(deadline))
    }

    /// Over the record that is known to stand there, and no other: a request that got no answer may arrive long after
    /// newer ones, and would make others take a primary for a replica.
    async fn publish_once(&self, link: &Link, record: &[u8]) -> Result<Put, Failure> {
        let Some(lease) = self.hold_lease(link, Renewal::IfDue, Missing::Grant).await? else {
            return Err(Failure::LeaseGone);
        };
        let path = codec::member_key(&self.name);
        if self.is_published(&path, record, lease) {
            return Ok(Put::Done);
        }
        let full = self.key(&path);
        let seen = self.cache().entry(&path).map(|entry| Revision(entry.revision));
        let txn = Txn::new()
            .when([as_seen(&full, seen)])
            .and_then([TxnOp::put(full.as_str(), record, Some(PutOptions::new().with_lease(lease)))])
            .or_else([TxnOp::get(full.as_str(), None)]);
        let _writing = self.writing(&path, Some(record));
        let (answer, origin) = self.write_on(link, lease, txn).await?;
        if answer.succeeded() {
            self.record_stands(origin, &path, record, lease);
            return Ok(Put::Done);
        }
        self.learn_key(&path, &answer, origin);
        Ok(Put::Refused)
    }

    /// A transaction that puts a key on our lease, which turns out to be gone where etcd knows none of that number.
    pub(super) async fn write_on(&self, link: &Link, lease: i64, txn: Txn) -> Result<(TxnResponse, Origin), Failure> {
        let mark = self.cache().mark();
        let answer = self.space.write(link.kv().txn(txn)).await.inspect_err(|failure| {
            if matches!(failure, Failure::LeaseGone) {
                self.forget_lease(lease);
            }
        })?;
        let origin = self.answered(link, answer.header(), mark.written_if(answer.succeeded())).await?;
        Ok((answer, origin))
    }

    fn record_stands(&self, origin: Origin, path: &str, record: &[u8], lease: i64) {
        self.leases().published = Some((record.to_vec(), lease));
        self.wrote(origin, path, Some(record.to_vec()), lease);
    }

    pub(super) fn is_published(&self, path: &str, record: &[u8], lease: i64) -> bool {
        let published = self.leases().published.clone();
        let is_written = published.as_ref().is_some_and(|(written, on)| written == record && *on == lease);
        let cache = self.cache();
        if !cache.is_filled() {
            return is_written;
        }
        let Some(entry) = cache.entry(path) else { return false };
        let is_there = entry.value == record && entry.lease == lease;
        if is_written && !is_there {
            warn!("the record of member {} was overwritten: does another process use this name?", self.name);
        }
        is_there
    }

    pub(super) fn has_value(&self, path: &str, value: &[u8]) -> bool {
        self.cache().entry(path).is_some_and(|entry| entry.value == value)
    }

    pub(super) async fn replace(
        &self,
        key: Key,
        content: &Content,
        expect: Expect,
        deadline: Duration,
    ) -> Result<(), DcsError> {
        let value = codec::content_bytes(content);
        let value = value.as_deref();
        let replace = |attempt: Try| async move {
            // A claim must not outlive us.
            let lease = match content {
                Content::Claim => self.hold_lease(&attempt.link, Renewal::IfDue, Missing::Grant).await?.unwrap_or(0),
                Content::Text(_) | Content::Json(_) | Content::Delete => 0,
            };
            let written = self.replace_once(&attempt.link, key, value, lease, expect).await?;
            Ok((written, attempt.doubt))
        };
        let answer = self.pool.call(deadline, replace).await.map_err(|failure| failure.into_error(deadline))?;
        match answer {
            (Written::Done, _) => Ok(()),
            (Written::Refused(_), Doubt::None) => Err(DcsError::Conflict { key }),
            // Perhaps it was our own first try that changed the key: then what stands there is what we wrote.
            (Written::Refused(entry), Doubt::SentBefore) => match entry.as_ref().map(|entry| entry.value.as_slice()) {
                found if found != value => Err(DcsError::Conflict { key }),
                // Everybody who starts to initialise a cluster writes the same nothing.
                Some(b"") => {
                    let detail = format!("whether {key:?} was written by us is not known");
                    Err(Failure::Gone(detail).into_error(deadline))
                }
                Some(_) | None => Ok(()),
            },
        }
    }

    async fn replace_once(
        &self,
        link: &Link,
        key: Key,
        value: Option<&[u8]>,
        lease: i64,
        expect: Expect,
    ) -> Result<Written, Failure> {
        let path = codec::key_path(key);
        let full = self.key(path);
        let conditions = match expect {
            Expect::AsSeen(seen) => vec![as_seen(&full, seen.revision)],
            Expect::Leading(seen) => {
                let Some(own) = self.leases().id() else { return Ok(Written::Refused(None)) };
                [vec![as_seen(&full, seen.revision)], self.leads(own)].concat()
            }
            Expect::Anything => Vec::new(),
        };
        let write = match value {
            Some(value) => TxnOp::put(full.as_str(), value, Some(PutOptions::new().with_lease(lease))),
            None => TxnOp::delete(full.as_str(), None),
        };
        let txn = Txn::new().when(conditions).and_then([write]).or_else([TxnOp::get(full.as_str(), None)]);
        self.remembers(expect)?;
        let _writing = self.writing(path, value);
        let mark = self.cache().mark();
        let answer = match value {
            Some(_) => self.space.write(link.kv().txn(txn)).await?,
            // Making room is allowed.
            None => link.kv().txn(txn).await?,
        };
        // A key that was not there is deleted without a write.
        let mark = mark.written_if(answer.succeeded() && value.is_some());
        let origin = self.answered(link, answer.header(), mark).await?;
        // The watch may have noticed a loss meanwhile: then this answer may be that of the store as it is since.
        self.remembers(expect)?;
        if answer.succeeded() {
            self.wrote(origin, path, value.map(<[u8]>::to_vec), lease);
            return Ok(Written::Done);
        }
        Ok(Written::Refused(self.learn_key(path, &answer, origin)))
    }
}

/// The key is as it was seen: of this revision, or absent.
pub(super) fn as_seen(key: &str, seen: Option<Revision>) -> Compare {
    match seen {
        None => Compare::create_revision(key, CompareOp::Equal, 0),
        Some(Revision(seen)) => Compare::mod_revision(key, CompareOp::Equal, i64::try_from(seen).unwrap_or(i64::MAX)),
    }
}

/// What is written in the same transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Along<'a> {
    pub(super) status: Option<&'a str>,
    pub(super) record: Option<&'a [u8]>,
}

/// What becomes of the leader key in a transaction that proved it ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Lock,
    /// The same, with a new revision, so that a request bound to the old one finds nothing to do.
    Rewritten,
    Nothing,
}
