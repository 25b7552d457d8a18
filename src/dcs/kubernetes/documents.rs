//! Documents: annotations of the configuration's and the request's objects, written over what was seen of them.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::failure::Failure;
use super::objects::{Changes, Object, Write};
use super::session::{Session, Tries};
use super::state::{CLAIM, FAILOVER, SYNC};
use crate::dcs::{Content, DcsError, Expect, Key, Seen, codec};

/// The answer to a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Done,
    Refused,
}

/// Whether an attempt may have written it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Nothing,
    Unanswered,
}

impl Session {
    pub(super) async fn replace(
        &self,
        key: Key,
        content: &Content,
        expect: Expect,
        deadline: Duration,
    ) -> Result<(), DcsError> {
        let mut tries = Tries::new(deadline);
        let mut sent = Sent::Nothing;
        loop {
            match self.replace_once(key, content, expect, &mut sent, tries.share()).await {
                Ok(Written::Done) => return Ok(()),
                Ok(Written::Refused) => return Err(DcsError::Conflict { key }),
                Err(failure) => tries.again(failure).await?,
            }
        }
    }

    async fn replace_once(
        &self,
        key: Key,
        content: &Content,
        expect: Expect,
        sent: &mut Sent,
        limit: Duration,
    ) -> Result<Written, Failure> {
        self.remembers(expect)?;
        let write = self.document_write(key, content);
        let found = self.known(&write, limit).await?;
        if *sent == Sent::Unanswered && found.as_ref().is_some_and(|found| write.stands_in(found)) {
            return Ok(Written::Done);
        }
        if !self.is_as_seen(key, expect) {
            return Ok(Written::Refused);
        }
        let version = found.as_ref().map(|found| found.metadata.resource_version.as_str());
        *sent = Sent::Unanswered;
        let answer = match (version, expect) {
            (None, _) if *content == Content::Delete => return Ok(Written::Done),
            (None, _) => {
                self.ensure_config_service(limit).await?;
                self.create(&write, limit).await
            }
            (Some(_), Expect::Anything) => self.patch(&write, None, limit).await,
            (Some(version), Expect::AsSeen(_) | Expect::Leading(_)) => self.patch(&write, Some(version), limit).await,
        };
        match answer {
            Ok(_) => {
                self.remembers(expect)?;
                Ok(Written::Done)
            }
            // Another annotation of the object may have been written; this one is looked at again.
            Err(Failure::Conflict(detail) | Failure::Exists(detail) | Failure::Absent(detail)) => {
                self.get(write.kind, write.name, limit).await?;
                Err(Failure::Busy { detail, after: None })
            }
            Err(failure) => Err(failure),
        }
    }

    /// The object that a write goes to, from the cache if that has seen it.
    async fn known(&self, write: &Write<'_>, limit: Duration) -> Result<Option<Object>, Failure> {
        let known = self.cache().state().object(write.kind, write.name).cloned();
        match known {
            Some(object) => Ok(Some(object)),
            None => self.get(write.kind, write.name, limit).await,
        }
    }

    fn is_as_seen(&self, key: Key, expect: Expect) -> bool {
        match expect {
            Expect::Anything => true,
            Expect::AsSeen(seen) => self.is_at(key, seen),
            // The lock is another object: a write that is late is told by the version of its own alone.
            Expect::Leading(seen) => self.is_at(key, seen) && self.is_held(),
        }
    }

    fn is_at(&self, key: Key, seen: Seen) -> bool {
        self.cache().revision_of(key, Instant::now()) == seen.revision.map(|revision| revision.0)
    }

    /// Nothing is written that was decided before a loss of the store's data.
    fn remembers(&self, expect: Expect) -> Result<(), Failure> {
        if self.cache().losses().outdate(expect) { Err(Failure::Forgot) } else { Ok(()) }
    }

    fn document_write(&self, key: Key, content: &Content) -> Write<'_> {
        let text = match content {
            Content::Claim => Some(String::new()),
            Content::Text(text) => Some(text.clone()),
            Content::Json(value) => Some(value.to_string()),
            Content::Delete => None,
        };
        let (name, annotations) = match key {
            Key::Failover => (&self.names.failover, fields_as_changes(&FAILOVER, content)),
            Key::Sync => (&self.names.sync, fields_as_changes(&SYNC, content)),
            Key::Initialize => {
                let claim = (*content == Content::Claim).then(|| self.claim());
                (&self.names.config, Changes::from([(codec::key_path(key), text), (CLAIM, claim)]))
            }
            Key::Config | Key::History => (&self.names.config, Changes::from([(codec::key_path(key), text)])),
        };
        Write { kind: self.names.kind(), name, labels: self.labels(), annotations, subsets: None }
    }

    fn claim(&self) -> String {
        format!("{} {}", self.cache().state().holder(), Timestamp::now())
    }

    /// A claim of ours that half a ttl has passed of is made anew: others take it for given up after a whole one.
    pub(super) async fn renew_claim(&self, limit: Duration) -> Result<(), Failure> {
        let claimed = {
            let cache = self.cache();
            let own = cache.state().claim_ends(self.timing().ttl);
            let is_ours = cache.state().is_claim_ours();
            own.filter(|_| is_ours)
        };
        let is_due = claimed.is_some_and(|end| end <= Instant::now() + self.timing().ttl / 2);
        if !is_due {
            return Ok(());
        }
        let write = self.document_write(Key::Initialize, &Content::Claim);
        let Some(found) = self.known(&write, limit).await? else { return Ok(()) };
        self.patch(&write, Some(&found.metadata.resource_version), limit).await.map(drop)
    }
}

/// Each field of the document is an annotation of its own.
fn fields_as_changes(names: &'static [&'static str], content: &Content) -> Changes {
    let fields = match content {
        Content::Json(Value::Object(fields)) => Some(fields),
        Content::Json(_) | Content::Claim | Content::Text(_) | Content::Delete => None,
    };
    let text = |name: &str| match fields?.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    names.iter().map(|name| (*name, text(name))).collect()
}
