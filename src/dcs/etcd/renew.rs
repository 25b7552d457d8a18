//! The renewal of the lock: the lease is kept alive, and the leader key is proven to hang on it.

use std::time::Duration;

use futures_util::future::join;

use super::failure::Failure;
use super::lease::{Missing, Renewal};
use super::link::Link;
use super::ops::Along;
use super::pool::Try;
use super::session::Session;
use crate::dcs::codec;
use crate::dcs::{DcsError, Lock};

impl Session {
    pub(super) async fn renew(
        &self,
        status: Option<&str>,
        record: Option<&[u8]>,
        deadline: Duration,
    ) -> Result<Lock, DcsError> {
        let renew = |attempt: Try| async move {
            self.recall()?;
            let link = attempt.link.as_ref();
            let (lease, at_once) = self.renew_at_once(link, status, record).await?;
            let Some(lease) = lease else {
                // A lease may be gone because the whole store is another one.
                return if self.has_forgotten(link).await? { Err(Failure::Forgot) } else { Ok(Lock::NotHeld) };
            };
            match at_once {
                Some(answer) => answer,
                None => self.prove_lock(link, lease, status, record).await,
            }
        };
        let answer = self.pool.call(deadline, renew).await.and_then(|lock| self.recall().map(|()| lock));
        answer.map_err(|failure| failure.into_error(deadline))
    }

    /// The keepalive and, on the lease that our keys hang on as far as is known, the proof of the lock at the same time:
    /// one wait instead of two. Their order does not matter. Validity counts from before either, and a lease that was
    /// alive at both was so in between. The proof is `None` where the lease turns out to be another one.
    async fn renew_at_once(
        &self,
        link: &Link,
        status: Option<&str>,
        record: Option<&[u8]>,
    ) -> Result<(Option<i64>, Option<Result<Lock, Failure>>), Failure> {
        let hold = self.hold_lease(link, Renewal::Now, Missing::Report);
        let Some(known) = self.settled_lease() else { return Ok((hold.await?, None)) };
        let both = join(hold, self.prove_lock(link, known, status, record));
        let (held, proven) = link.patience.for_both(both).await;
        let held = held?;
        Ok((held, (held == Some(known)).then_some(proven)))
    }

    /// That the leader key hangs on this lease, together with what is to be written where it does.
    async fn prove_lock(
        &self,
        link: &Link,
        lease: i64,
        status: Option<&str>,
        record: Option<&[u8]>,
    ) -> Result<Lock, Failure> {
        let status = status.filter(|status| !self.has_value(codec::STATUS, status.as_bytes()));
        let path = codec::member_key(&self.name);
        let record = record.filter(|record| !self.is_published(&path, record, lease));
        let keep = self.keeping();
        match self.with_lock(link, lease, Along { status, record }, keep).await {
            Err(Failure::Full) if status.is_some() || record.is_some() => {
                self.with_lock(link, lease, Along::default(), keep).await
            }
            answer => answer,
        }
    }
}
