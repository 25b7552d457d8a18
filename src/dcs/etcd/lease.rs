//! The one lease that the leader key and our member record hang on.
//!
//! It is granted when first needed, renewed by keepalives, and replaced when the ttl changes: the keys move to the new
//! lease in one transaction and are at no time without one. Until a move is known to be done both leases are remembered,
//! and the same move is tried again. A replaced lease is never revoked: nothing hangs on it, and it runs out by itself.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use tokio::time::Instant;

use super::failure::Failure;
use super::link::{Alive, Link};
use super::session::Session;
use crate::core::policy::Timing;
use crate::dcs::codec;

/// From this age on a renewal is due whatever the ttl.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How often a new ttl may overtake the move to the last one within one call.
const MOVES_MAX: u32 = 3;

#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    id: i64,
    /// As granted; `None`: taken over from a former process and not asked for yet.
    ttl: Option<Duration>,
    /// When the last keepalive that was answered was sent.
    renewed: Option<Instant>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    current: Option<Lease>,
    /// The lease that our keys are moving to.
    next: Option<Lease>,
    /// Our record as last written, and on which lease.
    pub(super) published: Option<(Vec<u8>, i64)>,
    pub(super) release: Release,
}

/// Whether a request to release the lock may still be on its way to be carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Release {
    #[default]
    None,
    /// It got no answer, or none that we know of. A node that thaws would carry it out whenever that may be.
    Pending,
}

/// When to send a keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    Now,
    IfDue,
}

/// What to do without a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Grant,
    Report,
}

/// How old a renewal may get before the next cycle of a member without the lock sends another: half a ttl, but where
/// the timers are tight so early that a renewal left to the cycle after still has half a retry_timeout before the end. The
/// renewal also tells whether the node still answers, on whose word such a member hears that the lock is free: hence
/// `SILENCE_MAX`, however long the ttl is.
pub(super) fn renewal_due_after(timing: &Timing) -> Duration {
    let latest = timing.ttl.saturating_sub(timing.loop_wait + timing.retry_timeout / 2);
    (timing.ttl / 2).min(latest).min(SILENCE_MAX.max(timing.loop_wait))
}

impl Leases {
    /// Going on with the lease of a former process, which may have sent a release that is still on its way.
    pub(super) fn resume(lease: Option<i64>) -> Self {
        let current = lease.map(|id| Lease { id, ttl: None, renewed: None });
        let release = if current.is_some() { Release::Pending } else { Release::None };
        Leases { current, release, ..Leases::default() }
    }

    pub(super) fn id(&self) -> Option<i64> {
        self.current.map(|lease| lease.id)
    }
}

impl Session {
    /// Our lease, alive and with the ttl in force; `None` if there is none and none was to be granted.
    pub(super) async fn hold_lease(
        &self,
        link: &Link,
        renewal: Renewal,
        missing: Missing,
    ) -> Result<Option<i64>, Failure> {
        let _turn = self.lease_turn.lock().await;
        let mut kept = None;
        // Twice, because our keys may have moved to another lease already when the current one turns out to be gone.
        for _ in 0..2 {
            let current = self.leases().current;
            kept = match current {
                Some(lease) if kept.is_none() => self.keep(link, lease, renewal).await?,
                Some(_) | None => kept,
            };
        }
        match (kept, missing) {
            (Some(lease), _) => Ok(Some(self.fit_ttl(link, lease).await?.id)),
            (None, Missing::Report) => Ok(None),
            (None, Missing::Grant) => {
                let lease = self.grant(link).await?;
                self.adopt(lease);
                Ok(Some(lease.id))
            }
        }
    }

    /// Our lease, if nothing but its renewal is due: it has the ttl in force, and our keys are not on their way to another.
    pub(super) fn settled_lease(&self) -> Option<i64> {
        let (current, next) = {
            let leases = self.leases();
            (leases.current, leases.next)
        };
        let settled = current.filter(|lease| lease.ttl == Some(self.lease_ttl()) && next.is_none());
        settled.map(|lease| lease.id)
    }

    /// The lease is gone: nothing of ours hangs anywhere.
    pub(super) fn forget_lease(&self, id: i64) {
        let mut leases = self.leases();
        if leases.id() == Some(id) {
            leases.current = leases.next.take();
            let lease = leases.id();
            drop(leases);
            self.cache().set_lease(lease);
        }
    }

    fn adopt(&self, lease: Lease) {
        {
            let mut leases = self.leases();
            leases.current = Some(lease);
            leases.next = None;
        }
        self.cache().set_lease(Some(lease.id));
    }

    /// Renew the lease if need be; `None`: it is gone.
    async fn keep(&self, link: &Link, lease: Lease, renewal: Renewal) -> Result<Option<Lease>, Failure> {
        if renewal == Renewal::IfDue && !self.is_due(&lease) {
            return Ok(Some(lease));
        }
        let began = Instant::now();
        let alive = link.keep_alive(lease.id).await?;
        if alive == Alive::Yes && lease.ttl.is_some() {
            let lease = Lease { renewed: Some(began), ..lease };
            self.leases().current = Some(lease);
            return Ok(Some(lease));
        }
        // A node that has just become etcd's leader may not know a young lease yet, so its word is checked once.
        let answer = link.lease().time_to_live(lease.id, None).await?;
        self.origin(answer.header())?;
        match (alive, answer.ttl() > 0) {
            (Alive::Yes, true) => {
                let ttl = u64::try_from(answer.granted_ttl()).map(Duration::from_secs).ok();
                let lease = Lease { ttl, renewed: Some(began), ..lease };
                self.leases().current = Some(lease);
                Ok(Some(lease))
            }
            (Alive::No, true) => Err(Failure::Busy("the lease is and is not there".to_owned())),
            (Alive::Yes | Alive::No, false) => {
                self.forget_lease(lease.id);
                Ok(None)
            }
        }
    }

    fn is_due(&self, lease: &Lease) -> bool {
        let due = renewal_due_after(&self.timing());
        lease.ttl.is_none() || lease.renewed.is_none_or(|renewed| renewed.elapsed() >= due)
    }

    async fn grant(&self, link: &Link) -> Result<Lease, Failure> {
        let ttl = self.lease_ttl();
        let began = Instant::now();
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let answer = self.space.write(link.lease().grant(seconds, None)).await?;
        self.origin(answer.header())?;
        Ok(Lease { id: answer.id(), ttl: Some(ttl), renewed: Some(began) })
    }

    /// For how long etcd keeps this lease from a renewal on: what was granted; until that is known, the ttl in force.
    pub(super) fn granted_ttl(&self, lease: i64) -> Duration {
        let current = self.leases().current.filter(|current| current.id == lease);
        current.and_then(|current| current.ttl).unwrap_or_else(|| self.lease_ttl())
    }

    /// etcd counts in whole seconds.
    fn lease_ttl(&self) -> Duration {
        Duration::from_secs(self.timing().ttl.as_secs().max(1))
    }

    /// Finish a move that was begun, and move to a lease of the ttl in force if this one has another.
    async fn fit_ttl(&self, link: &Link, lease: Lease) -> Result<Lease, Failure> {
        let mut lease = lease;
        for _ in 0..MOVES_MAX {
            let begun = self.leases().next;
            let next = match begun {
                Some(next) => match link.keep_alive(next.id).await? {
                    Alive::Yes => Some(next),
                    Alive::No => None,
                },
                None => None,
            };
            if next.is_none() && lease.ttl == Some(self.lease_ttl()) {
                self.leases().next = None;
                return Ok(lease);
            }
            let next = match next {
                Some(next) => next,
                None => self.grant(link).await?,
            };
            self.leases().next = Some(next);
            self.move_keys(link, lease.id, next.id).await?;
            self.adopt(next);
            lease = next;
        }
        Err(Failure::Busy("the ttl changes too often".to_owned()))
    }

    /// The leader key moves only if it hangs on our old lease; on the new one already is as good.
    async fn move_keys(&self, link: &Link, old: i64, new: i64) -> Result<(), Failure> {
        let on_new = || Some(PutOptions::new().with_lease(new));
        let leader = self.leader_key();
        let name = self.name.as_str();
        let member = codec::member_key(&self.name);
        let record = self.leases().published.clone().map(|(record, _)| record);
        let put_member = record.as_ref().map(|record| TxnOp::put(self.key(&member), record.as_slice(), on_new()));
        let both = [Some(TxnOp::put(leader.as_str(), name, on_new())), put_member.clone()];
        let neither = [put_member, Some(TxnOp::get(leader.as_str(), None))];
        let txn = Txn::new()
            .when([Compare::lease(leader.as_str(), CompareOp::Equal, old)])
            .and_then(both.into_iter().flatten().collect::<Vec<_>>())
            .or_else(neither.into_iter().flatten().collect::<Vec<_>>());
        let _leader = self.writing(codec::LEADER, Some(name.as_bytes()));
        let answer = self.space.write(link.kv().txn(txn)).await?;
        let origin = self.origin(answer.header())?;
        match answer.succeeded() {
            true => self.wrote(origin, codec::LEADER, Some(name.as_bytes().to_vec()), new),
            false => {
                self.learn_key(codec::LEADER, &answer, origin);
            }
        }
        if let Some(record) = record {
            self.leases().published = Some((record.clone(), new));
            self.wrote(origin, &member, Some(record), new);
        }
        Ok(())
    }
}
