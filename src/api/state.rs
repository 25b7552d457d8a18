//! What all requests share: the last status, the way to the loop, and the readings that many may want at once.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::ask::{Shared, ask};
use super::settings::Settings;
use super::{document, shown};
use crate::agent::mailbox::{Mailbox, Request};
use crate::agent::status::{ClusterStatusDocuments, PostgresStatus, Status};
use crate::core::policy::Mode;
use crate::http::json;

/// How long a client waits for positions: a peer in an election gives up after 2 s.
const POSITIONS_LIMIT: Duration = Duration::from_secs(1);

/// How long a client waits for a fresh reading of the DCS, including one that was under way when it came.
const CLUSTER_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct State {
    pub mode: Mode,
    pub mailbox: Mailbox,
    status: watch::Receiver<Arc<Status>>,
    settings: RwLock<Arc<Settings>>,
    positions: Shared<Option<PostgresStatus>>,
    cluster: Shared<Option<ClusterStatusDocuments>>,
    rendered: Mutex<Option<Rendered>>,
}

/// The body of health checks, made once for each status.
#[derive(Debug)]
struct Rendered {
    status: Arc<Status>,
    body: Bytes,
}

impl State {
    pub fn new(mode: Mode, mailbox: Mailbox, status: watch::Receiver<Arc<Status>>, settings: Arc<Settings>) -> Self {
        let asking = mailbox.clone();
        let positions = Shared::new(move || {
            let mailbox = asking.clone();
            async move { ask(&mailbox, POSITIONS_LIMIT, Request::Positions).await.ok().flatten() }
        });
        let asking = mailbox.clone();
        let cluster = Shared::new(move || {
            let mailbox = asking.clone();
            async move { ask(&mailbox, CLUSTER_LIMIT, Request::Cluster).await.ok().flatten() }
        });
        let settings = RwLock::new(settings);
        State { mode, mailbox, status, settings, positions, cluster, rendered: Mutex::new(None) }
    }

    pub fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// A receiver that sees every status after this moment.
    pub fn follow(&self) -> watch::Receiver<Arc<Status>> {
        let mut status = self.status.clone();
        status.mark_unchanged();
        status
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn replace_settings(&self, settings: Arc<Settings>) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// The status with positions probed after this call; without any when the server or the loop gives no answer.
    pub async fn probed(&self) -> Arc<Status> {
        let status = self.status();
        if !shown::may_answer(status.state) {
            return status;
        }
        let fresh = self.positions.read(POSITIONS_LIMIT).await.and_then(|fresh| (*fresh).clone());
        Arc::new(document::with_positions(&self.status(), fresh))
    }

    /// The cluster, read after this call; `None`: the DCS does not answer.
    pub async fn cluster(&self) -> Option<Arc<Option<ClusterStatusDocuments>>> {
        self.cluster.read(CLUSTER_LIMIT).await.filter(|cluster| cluster.is_some())
    }

    /// The status document.
    pub fn body(&self, status: &Arc<Status>) -> Bytes {
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        match &*rendered {
            Some(last) if Arc::ptr_eq(&last.status, status) => last.body.clone(),
            Some(_) | None => {
                let body = json::spaced(&document::render(status)).expect("JSON values can be written");
                let body = Bytes::from(body);
                *rendered = Some(Rendered { status: status.clone(), body: body.clone() });
                body
            }
        }
    }
}
