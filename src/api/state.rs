//! What all requests share: the last status, the way to the loop, and the readings that many may want at once.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
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

/// Asks the log how many lines wait to be written, and how many were lost and not told yet.
#[derive(Clone)]
pub struct LogGauge(pub Arc<dyn Fn() -> (usize, u64) + Send + Sync>);

impl Default for LogGauge {
    fn default() -> Self {
        LogGauge(Arc::new(|| (0, 0)))
    }
}

impl fmt::Debug for LogGauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogGauge").field(&(self.0)()).finish()
    }
}

#[derive(Debug)]
pub struct State {
    pub mode: Mode,
    pub mailbox: Mailbox,
    log: LogGauge,
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
    pub fn new(
        mode: Mode,
        mailbox: Mailbox,
        log: LogGauge,
        status: watch::Receiver<Arc<Status>>,
        settings: Arc<Settings>,
    ) -> Self {
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
        State { mode, mailbox, log, status, settings, positions, cluster, rendered: Mutex::new(None) }
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

    /// The status document, with what the log says of itself where it does not keep up.
    pub fn document(&self, status: &Status) -> Map<String, Value> {
        let mut document = document::render(status);
        let (waiting, lost) = (self.log.0)();
        if is_behind(waiting, lost) {
            document.insert("logger_queue_size".into(), waiting.into());
        }
        if lost > 0 {
            document.insert("logger_records_lost".into(), lost.into());
        }
        document
    }

    /// The status document as bytes.
    pub fn body(&self, status: &Arc<Status>) -> Bytes {
        let bytes =
            |document: &Map<String, Value>| Bytes::from(json::spaced(document).expect("JSON values can be written"));
        let (waiting, lost) = (self.log.0)();
        if is_behind(waiting, lost) {
            return bytes(&self.document(status));
        }
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        match &*rendered {
            Some(last) if Arc::ptr_eq(&last.status, status) => last.body.clone(),
            Some(_) | None => {
                let body = bytes(&document::render(status));
                *rendered = Some(Rendered { status: status.clone(), body: body.clone() });
                body
            }
        }
    }
}

/// Two lines may wait at any moment.
fn is_behind(waiting: usize, lost: u64) -> bool {
    waiting > 2 || lost > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture;

    #[tokio::test]
    async fn a_log_that_does_not_keep_up_is_shown() {
        let settings = Arc::new(Settings::load(&fixture::open_settings()).await.expect("settings"));
        for (backlog, expected) in [
            ((2, 0), [None, None]),
            ((3, 0), [Some(3), None]),
            ((1000, 7), [Some(1000), Some(7)]),
            ((0, 7), [Some(0), Some(7)]),
        ] {
            let status = Arc::new(fixture::primary());
            let (mailbox, _requests) = tokio::sync::mpsc::channel(1);
            let (_status, seen) = watch::channel(status.clone());
            let log = LogGauge(Arc::new(move || backlog));
            let state = State::new(Mode::Cluster, mailbox, log, seen, settings.clone());
            let body: Value = serde_json::from_slice(&state.body(&status)).expect("JSON");
            for document in [Value::Object(state.document(&status)), body] {
                let shown = ["logger_queue_size", "logger_records_lost"].map(|key| document[key].as_u64());
                assert_eq!(shown, expected, "{backlog:?}");
            }
        }
    }
}
