//! Watches: what changes after a version, as long as the client stays.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::asked::Query;
use super::read::version;
use super::refusal::Refusal;
use super::selector::Selector;
use super::server::{Server, State};
use super::store::{Change, Compacted};
use super::table::Form;
use super::transport::{Body, Parts};
use super::write::Target;

/// How `KubeApi::drop_watches` ends them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// As at the end of their time.
    Clean,
    /// The connection breaks in the middle of the answer.
    Broken,
    /// An event ERROR with 410 Expired, then the end.
    Expired,
    /// An event ERROR with 500, then the end.
    Error,
}

pub struct Watch {
    target: Target,
    selector: Selector,
    form: Form,
    /// The version behind which it began, and the one up to which everything was sent.
    began: u64,
    sent: u64,
    /// What is sent first.
    first: Vec<Value>,
    has_bookmarks: bool,
    deadline: Instant,
    /// Which ending of all watches it has not to care for.
    ending: u64,
}

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1800);
/// So long before the end a bookmark comes.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

impl Watch {
    pub fn begin(state: &State, target: Target, query: &Query, form: Form) -> Result<Self, Refusal> {
        let mut selector = query.selector().map_err(Refusal::bad_request)?;
        if let Some(complaint) = selector.complaint(target.resource.kind) {
            return Err(Refusal::bad_request(complaint));
        }
        if !target.name.is_empty() {
            selector.limit_to(&target.name);
        }
        let asked = version(query.text("resourceVersion"))?;
        let has_bookmarks = query.is_set("allowWatchBookmarks");
        let timeout = query.number("timeoutSeconds").filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let mut watch = Watch {
            target,
            selector,
            form,
            began: asked.unwrap_or(state.store.revision()),
            sent: asked.unwrap_or(state.store.revision()),
            first: Vec::new(),
            has_bookmarks,
            deadline: Instant::now() + timeout.unwrap_or(TIMEOUT_DEFAULT),
            ending: state.endings.0,
        };
        let wants_all = query.is_set("sendInitialEvents");
        if wants_all || asked.is_none() && query.text("sendInitialEvents").is_empty() {
            watch.sent = state.store.revision();
            watch.began = watch.sent;
            watch.add_all(state);
        }
        if wants_all && has_bookmarks {
            let mut mark = watch.bookmark(watch.sent);
            mark["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            watch.first.push(mark);
        }
        Ok(watch)
    }

    /// What is there, as if it had just been made.
    fn add_all(&mut self, state: &State) {
        let namespace = (!self.target.namespace.is_empty()).then_some(self.target.namespace.as_str());
        for (_, object) in state.store.list(self.target.resource, namespace) {
            if self.selector.matches(&object) {
                self.first.push(json!({"type": "ADDED", "object": self.form.object(self.target.resource, &object)}));
            }
        }
    }

    fn bookmark(&self, version: u64) -> Value {
        let resource = self.target.resource;
        json!({"type": "BOOKMARK", "object": {
            "kind": resource.kind,
            "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
        }})
    }

    /// What is to be sent now; an error ends the watch.
    fn next(&mut self, state: &State) -> Result<Vec<Value>, Option<Value>> {
        if state.endings.0 != self.ending {
            return Err(match state.endings.1 {
                Ending::Clean | Ending::Broken => None,
                Ending::Expired => Some(too_old(self.sent, state.store.revision())),
                Ending::Error => Some(Refusal::internal("etcdserver: request timed out").status),
            });
        }
        let mut events = std::mem::take(&mut self.first);
        match state.store.changes(self.target.resource, self.sent) {
            Ok(changes) => events.extend(changes.iter().filter_map(|change| self.event(change))),
            Err(Compacted { oldest }) => return Err(Some(too_old(self.sent, oldest))),
        }
        // A version from the future is waited for, in silence.
        self.sent = self.sent.max(state.store.revision());
        Ok(events)
    }

    fn event(&self, change: &Change) -> Option<Value> {
        if !self.target.namespace.is_empty() && self.target.namespace != change.key.1 {
            return None;
        }
        let was_in = change.before.as_ref().is_some_and(|before| self.selector.matches(before));
        let is_in = !change.is_deletion && self.selector.matches(&change.object);
        let (kind, object) = match (was_in, is_in) {
            (false, true) => ("ADDED", Arc::clone(&change.object)),
            (true, true) => ("MODIFIED", Arc::clone(&change.object)),
            (true, false) => {
                // The state in which it last matched, with the version of what ended that.
                let mut last = change.before.as_deref().cloned().unwrap_or_default();
                last["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                ("DELETED", Arc::new(last))
            }
            (false, false) => return None,
        };
        Some(json!({"type": kind, "object": self.form.object(self.target.resource, &object)}))
    }
}

fn too_old(asked: u64, oldest: u64) -> Value {
    Refusal::expired(format!("too old resource version: {asked} ({oldest})")).status
}

fn line(event: &Value) -> Bytes {
    Bytes::from(format!("{event}\n"))
}

/// The answer's body.
pub fn stream(server: Arc<Server>, watch: Watch) -> Body {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(run(server, watch, sender));
    Parts(receiver).boxed_unsync()
}

async fn run(server: Arc<Server>, mut watch: Watch, sender: mpsc::Sender<io::Result<Bytes>>) {
    let mut changed = server.changed();
    let mut bookmark_at = next_bookmark(&server, watch.deadline);
    loop {
        changed.borrow_and_update();
        let events = watch.next(&server.state());
        let is_broken = server.state().endings.1 == Ending::Broken;
        let lines = match events {
            Ok(events) => events,
            Err(Some(status)) => {
                sender.send(Ok(line(&json!({"type": "ERROR", "object": status})))).await.ok();
                return;
            }
            Err(None) if is_broken => {
                sender.send(Err(io::Error::other("the watch is broken off"))).await.ok();
                return;
            }
            Err(None) => return,
        };
        for event in lines {
            if sender.send(Ok(line(&event))).await.is_err() {
                return;
            }
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = sender.closed() => return,
            () = sleep_until(watch.deadline) => return,
            () = sleep_until(bookmark_at) => {
                bookmark_at = next_bookmark(&server, watch.deadline);
                // A bookmark says something new, or is not sent.
                let is_news = watch.has_bookmarks && watch.sent > watch.began;
                if is_news && sender.send(Ok(line(&watch.bookmark(watch.sent)))).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Every so often, and once shortly before the end.
fn next_bookmark(server: &Server, deadline: Instant) -> Instant {
    let regular = Instant::now() + server.state().bookmark_every;
    let last = deadline - BOOKMARK_BEFORE_END;
    if last > Instant::now() { regular.min(last) } else { regular }
}
