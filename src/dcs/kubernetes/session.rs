//! What all parts of the Kubernetes backend share: the API, the cache, and how a call uses its time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::http::Method;
use serde_json::Value;
use tokio::time::Instant;
use tracing::warn;

use super::api::{Api, Ask};
use super::cache::{Cache, Mark};
use super::failure::Failure;
use super::kept::Kept;
use super::modes::OtherModes;
use super::objects::{Kind, Names, Object, Write};
use crate::config::KubernetesConfig;
use crate::core::policy::Timing;
use crate::core::units::MemberName;
use crate::dcs::{DcsError, Snapshot};

/// Not a strategic one: in an object without annotations those leave empty ones where some are to be removed, on servers
/// before <https://github.com/kubernetes/kubernetes/pull/107705>.
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(super) const JSON: &str = "application/json";
/// How long a request may take before another connection is tried, at least.
const ATTEMPT_MIN: Duration = Duration::from_secs(1);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

pub(super) struct Session {
    pub(super) api: Api,
    pub(super) config: KubernetesConfig,
    pub(super) names: Names,
    pub(super) name: MemberName,
    timing: Mutex<Timing>,
    cache: Mutex<Cache>,
    /// Held while the lock's object is being written: each write needs the version that the one before has made.
    pub(super) lock_turn: tokio::sync::Mutex<()>,
    /// The same of our pod.
    pub(super) pod_turn: tokio::sync::Mutex<()>,
    /// When the lock was proven to be ours last, and for how long: by then nobody else can have it.
    pub(super) held: Mutex<Option<Instant>>,
    pub(super) other_modes: OtherModes,
}

impl Session {
    pub(super) fn new(config: &KubernetesConfig, scope: &str, name: MemberName, timing: Timing, kept: Kept) -> Session {
        let names = Names::of(config, scope);
        Session {
            api: Api::new(config, timing),
            config: config.clone(),
            cache: Mutex::new(Cache::new(names.clone(), name.clone(), kept, timing.ttl)),
            names,
            name,
            timing: Mutex::new(timing),
            lock_turn: tokio::sync::Mutex::default(),
            pod_turn: tokio::sync::Mutex::default(),
            held: Mutex::default(),
            other_modes: OtherModes::default(),
        }
    }

    pub(super) fn timing(&self) -> Timing {
        *locked(&self.timing)
    }

    pub(super) fn set_timing(&self, timing: Timing) {
        *locked(&self.timing) = timing;
        self.cache().set_ttl(timing.ttl);
    }

    pub(super) fn cache(&self) -> MutexGuard<'_, Cache> {
        locked(&self.cache)
    }

    /// Nothing is asked or said of the lock for a caller who does not know yet that the store has lost its data.
    pub(super) fn recall(&self) -> Result<(), Failure> {
        if self.cache().losses().is_one_hidden() { Err(Failure::Forgot) } else { Ok(()) }
    }

    /// A fresh reading of all objects, taken into the cache.
    pub(super) async fn read(&self, deadline: Duration) -> Result<Arc<Snapshot>, DcsError> {
        let mut tries = Tries::new(deadline);
        loop {
            match self.read_once(tries.share()).await {
                Ok(snapshot) => return Ok(snapshot),
                Err(failure) => tries.again(failure).await?,
            }
        }
    }

    async fn read_once(&self, limit: Duration) -> Result<Arc<Snapshot>, Failure> {
        for kind in self.names.watched() {
            self.list(kind, limit).await?;
        }
        Ok(self.cache().snapshot(Instant::now()))
    }

    /// All objects of a kind that are the cluster's; the version of the list.
    pub(super) async fn list(&self, kind: Kind, limit: Duration) -> Result<String, Failure> {
        let mark = self.cache().mark();
        let (items, version) = self.api.list(kind, &self.names.selector(), limit).await?;
        let revision = version.parse().unwrap_or(0);
        let mut cache = self.cache();
        let losses = cache.losses().count();
        cache.install(kind, revision, items, mark, Instant::now());
        if cache.losses().count() != losses {
            *locked(&self.held) = None;
            warn!("the API server has lost data that it had before: restored from a backup, or another one");
        }
        Ok(version)
    }

    /// One object as it is at this moment, taken into the cache; `None`: there is none.
    pub(super) async fn get(&self, kind: Kind, name: &str, limit: Duration) -> Result<Option<Object>, Failure> {
        let mark = self.cache().mark();
        let path = self.path_of(kind, name).await?;
        match self.api.ask::<Object>(&Ask::get(path), limit).await {
            Ok(object) => {
                self.expect_own(kind, &object)?;
                self.learn(kind, object.clone(), mark, limit).await?;
                Ok(Some(object))
            }
            Err(Failure::Absent(_)) => {
                self.cache().gone(kind, name, None, Instant::now());
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Of the name alone: the labels may be another cluster's, and a pod without them is found by no other member.
    fn expect_own(&self, kind: Kind, object: &Object) -> Result<(), Failure> {
        let is_other = |(name, value): &(&String, &String)| match object.label(name) {
            Some(found) => found != value.as_str(),
            None => kind == Kind::Pods,
        };
        let Some((name, value)) = self.names.labels.iter().find(is_other) else { return Ok(()) };
        let found = object.label(name).map_or("no such label".to_owned(), |found| format!("{name}={found}"));
        Err(Failure::Answer(format!(
            "the {} {} is not of this cluster: the label {name}={value} is expected, and it has {found}; change its labels, or \
             PATRONI_SCOPE, PATRONI_KUBERNETES_LABELS or PATRONI_NAME",
            kind.singular(),
            object.metadata.name,
        )))
    }

    /// Writes over an object of this version; `None`: whatever it is.
    pub(super) async fn patch(
        &self,
        write: &Write<'_>,
        version: Option<&str>,
        limit: Duration,
    ) -> Result<Object, Failure> {
        let path = self.path_of(write.kind, write.name).await?;
        let ask = Ask { method: Method::PATCH, path, query: &[], body: Some((MERGE_PATCH, write.patch(version))) };
        self.send(write, &ask, limit).await
    }

    /// Makes the object; it must not be there. The namespace is all that can be missing.
    pub(super) async fn create(&self, write: &Write<'_>, limit: Duration) -> Result<Object, Failure> {
        let path = write.kind.path(&self.api.namespace().await?);
        let ask = Ask { method: Method::POST, path, query: &[], body: Some((JSON, write.create())) };
        self.send(write, &ask, limit).await.map_err(|failure| match failure {
            Failure::Absent(detail) => Failure::Answer(format!("{detail}; set PATRONI_KUBERNETES_NAMESPACE")),
            failure => failure,
        })
    }

    async fn send(&self, write: &Write<'_>, ask: &Ask<'_>, limit: Duration) -> Result<Object, Failure> {
        let mark = self.cache().mark();
        let _writing = self.writing(write.kind, write.name);
        let object: Object = self.api.ask(ask, limit).await?;
        self.learn(write.kind, object.clone(), mark, limit).await?;
        Ok(object)
    }

    /// An answer that goes back behind what was known is followed by a list, which says what has happened.
    async fn learn(&self, kind: Kind, object: Object, mark: Mark, limit: Duration) -> Result<(), Failure> {
        if self.cache().take_in(kind, object, Some(mark), Instant::now()) {
            return Ok(());
        }
        self.cache().distrust();
        self.list(self.names.kind(), limit).await?;
        Err(Failure::Forgot)
    }

    pub(super) async fn path_of(&self, kind: Kind, name: &str) -> Result<String, Failure> {
        Ok(format!("{}/{name}", kind.path(&self.api.namespace().await?)))
    }

    /// While the guard lives, the watch takes a change of this object for ours.
    fn writing(&self, kind: Kind, name: &str) -> Writing<'_> {
        self.cache().begin_write(kind, name);
        Writing { session: self, kind, name: name.to_owned() }
    }

    /// The labels of a new object.
    pub(super) fn labels(&self) -> serde_json::Map<String, Value> {
        self.names.labels.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect()
    }
}

/// What may succeed in a moment is tried again until the time is over; each attempt judges anew what is known by then.
pub(super) struct Tries {
    deadline: Duration,
    end: Instant,
    pause: Duration,
}

impl Tries {
    pub(super) fn new(deadline: Duration) -> Tries {
        Tries { deadline, end: Instant::now() + deadline, pause: PAUSE_MIN }
    }

    /// How long one request of the next attempt may take.
    pub(super) fn share(&self) -> Duration {
        let left = self.end.saturating_duration_since(Instant::now());
        (self.deadline / 3).max(ATTEMPT_MIN).min(left)
    }

    /// Returns when it is time for another attempt; the error, where there is none.
    pub(super) async fn again(&mut self, failure: Failure) -> Result<(), DcsError> {
        let wait = match &failure {
            Failure::Busy { after: Some(after), .. } => self.pause.max(*after),
            _ => self.pause,
        };
        if !failure.is_passing() || Instant::now() + wait >= self.end {
            return Err(failure.into_error(self.deadline));
        }
        tokio::time::sleep(wait).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

struct Writing<'a> {
    session: &'a Session,
    kind: Kind,
    name: String,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.session.cache().finish_write(self.kind, &self.name);
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
