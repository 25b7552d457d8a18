//! State that the loop shares with jobs, background tasks and services. No lock here is held across an await, so none
//! is waited for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::clock::Clock;
use super::inbox::Inbox;
use super::init_link::FromInit;
use super::peers::PeerClient;
use super::status::Status;
use crate::core::observation::ShutdownRequest;
use crate::core::units::Instant;

pub(crate) struct Shared<D, I> {
    pub(crate) dcs: D,
    pub(crate) instance: I,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) peers: Arc<dyn PeerClient>,
    inbox: Mutex<Inbox>,
    /// Begins the next cycle.
    pub(crate) wake: Arc<Notify>,
    /// The strongest shutdown that was asked for; waited on by whatever a shutdown must not wait for.
    shutdown: watch::Sender<Option<ShutdownRequest>>,
    pub(crate) status: watch::Sender<Arc<Status>>,
    /// PostgreSQL is being stopped, so that load balancers should go elsewhere although the lock is kept to the end.
    stepping_down: AtomicBool,
    /// Until when PostgreSQL may be made a primary by what the last cycle knows of the lock (`Tenure::may_lead_until`).
    may_lead_until: Mutex<Option<Instant>>,
    /// Held while the server's files are being written; a start waits for it.
    pub(crate) configuring: Arc<tokio::sync::Mutex<()>>,
}

impl<D, I> Shared<D, I> {
    pub(crate) fn new(dcs: D, instance: I, clock: Arc<dyn Clock>, peers: Arc<dyn PeerClient>, status: Status) -> Self {
        Shared {
            dcs,
            instance,
            clock,
            peers,
            inbox: Mutex::default(),
            wake: Arc::default(),
            shutdown: watch::Sender::new(None),
            status: watch::Sender::new(Arc::new(status)),
            stepping_down: AtomicBool::new(false),
            may_lead_until: Mutex::default(),
            configuring: Arc::default(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Never held across an await.
    pub(crate) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().expect("nothing panics while it holds the inbox")
    }

    /// The last cycle's picture.
    pub(crate) fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// Health checks flip at once, not at the end of a cycle.
    pub(crate) fn show_leader(&self, until: Option<Instant>) {
        self.status.send_if_modified(|status| {
            let flips = status.leader_until.is_some() != until.is_some();
            if flips {
                Arc::make_mut(status).leader_until = until;
            }
            flips
        });
    }

    /// What a job asks again before it makes PostgreSQL a primary.
    pub(crate) fn let_lead_until(&self, until: Option<Instant>) {
        *self.may_lead_until.lock().expect("nothing panics while it holds an instant") = until;
    }

    pub(crate) fn may_lead(&self) -> bool {
        let until = *self.may_lead_until.lock().expect("nothing panics while it holds an instant");
        until.is_some_and(|until| self.now() < until)
    }

    /// PostgreSQL is about to be stopped.
    pub(crate) fn steps_down(&self) {
        self.stepping_down.store(true, Ordering::Relaxed);
        self.show_leader(None);
    }

    /// Another job begins.
    pub(crate) fn steps_up(&self) {
        self.stepping_down.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_stepping_down(&self) -> bool {
        self.stepping_down.load(Ordering::Relaxed)
    }

    /// A signal that PID 1 passed on.
    pub(crate) fn hear(&self, message: FromInit) {
        let shutdown = {
            let mut inbox = self.inbox();
            inbox.hear(message);
            inbox.shutdown
        };
        self.shutdown.send_replace(shutdown);
        self.wake.notify_one();
    }

    /// Returns `grace` after a shutdown was asked for.
    pub(crate) async fn shutdown_asked(&self, grace: Duration) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let asked = self.shutdown.subscribe().wait_for(Option::is_some).await.is_ok();
        debug_assert!(asked, "the sender is ours");
        tokio::time::sleep(grace).await;
    }

    /// Waits for `work` at most so long, and only a little longer than a shutdown's arrival.
    pub(crate) async fn bounded<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = timeout(limit, work) => done.ok(),
            () = self.shutdown_asked(SHUTDOWN_GRACE) => None,
        }
    }
}

/// How long a call that was under way when a shutdown came may still take.
pub(crate) const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
