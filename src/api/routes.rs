//! Which handler answers which method and path, and the documents that are only read. Health checks never come here.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use axum::{Extension, Router};
use serde_json::{Value, json};

use super::access::Reader;
use super::answer::{self, Answer, not_implemented};
use super::state::State;
use super::types::ClusterDocument;
use super::{configuration, control, metrics, switchover};
use crate::agent::status::ClusterStatusDocuments;
use crate::boottime;
use crate::config::redacted;

/// What the API answers besides the health checks.
#[derive(Clone, Debug)]
pub struct Routes {
    router: Router,
    /// The first segments of the paths that GET has a handler for; all others are health checks.
    documents: Arc<[&'static str]>,
}

/// One endpoint: the first segment of its path, its method, its handler.
type Route = (&'static str, Method, MethodRouter<Arc<State>>);

/// The one list of endpoints.
fn table() -> Vec<Route> {
    vec![
        ("patroni", Method::GET, get(patroni)),
        ("cluster", Method::GET, get(cluster)),
        ("history", Method::GET, get(history)),
        ("failsafe", Method::GET, get(failsafe)),
        ("failsafe", Method::POST, post(control::failsafe)),
        ("metrics", Method::GET, get(metrics)),
        ("config", Method::GET, get(config)),
        ("config", Method::PATCH, patch(configuration::merge)),
        ("config", Method::PUT, put(configuration::replace)),
        ("switchover", Method::POST, post(switchover::switchover)),
        ("switchover", Method::DELETE, delete(switchover::cancel)),
        ("failover", Method::POST, post(switchover::failover)),
        ("restart", Method::POST, post(control::restart)),
        ("restart", Method::DELETE, delete(control::cancel_restart)),
        ("reload", Method::POST, post(control::reload)),
        ("reinitialize", Method::POST, post(control::reinitialize)),
        ("sigterm", Method::POST, post(control::sigterm)),
        ("citus", Method::POST, post(control::mpp)),
        ("mpp", Method::POST, post(control::mpp)),
    ]
}

impl Routes {
    pub fn new(state: Arc<State>) -> Self {
        let table = table();
        let documents = table.iter().filter(|(_, method, _)| *method == Method::GET).map(|(name, _, _)| *name);
        let documents = documents.collect();
        let router = table.into_iter().fold(Router::new(), |router, (name, _, handler)| {
            // Handlers of one path with different methods add up.
            router.route(&format!("/{name}"), handler)
        });
        let router = router.fallback(not_implemented).method_not_allowed_fallback(not_implemented);
        Routes { router: router.with_state(state), documents }
    }

    /// Whether GET of a path with this first segment is a document rather than a health check.
    pub fn is_document(&self, segment: &str) -> bool {
        self.documents.contains(&segment)
    }

    pub fn router(&self) -> Router {
        self.router.clone()
    }
}

/// The status with fresh positions: what candidates of an election compare. Always 200.
async fn patroni(Shared(state): Shared<Arc<State>>) -> Answer {
    answer::json(200, &Value::Object(state.document(&*state.probed().await)))
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> Answer {
    answer::metrics(metrics::render(&*state.probed().await, boottime::now()))
}

async fn cluster(Shared(state): Shared<Arc<State>>) -> Answer {
    let Some(read) = state.cluster().await else { return unreachable_dcs() };
    let Some(cluster) = read.as_ref() else { return unreachable_dcs() };
    let ClusterStatusDocuments { view, members, config, switchover, .. } = cluster;
    let scope = &state.status().scope;
    answer::json(200, &ClusterDocument::of(scope, view, members, config.as_ref(), switchover.as_ref()))
}

async fn history(Shared(state): Shared<Arc<State>>) -> Answer {
    match with_cluster(&state, |cluster| cluster.history.clone()).await {
        Some(history) => answer::json(200, &history.unwrap_or_else(|| json!([]))),
        None => unreachable_dcs(),
    }
}

/// Whole for whoever may change it; others see no secrets.
async fn config(Shared(state): Shared<Arc<State>>, Extension(reader): Extension<Reader>) -> Answer {
    match with_cluster(&state, |cluster| cluster.config.clone()).await {
        Some(Some(config)) if config.is_object() => match reader {
            Reader::Admitted => answer::json(200, &config),
            Reader::Stranger => answer::json(200, &redacted("", &config)),
        },
        Some(_) => answer::text(502, "the cluster has no valid configuration"),
        None => unreachable_dcs(),
    }
}

/// The key as last read; it stays when the mode is switched off.
async fn failsafe(Shared(state): Shared<Arc<State>>) -> Answer {
    let status = state.status();
    match status.cluster.as_ref().and_then(|cluster| cluster.failsafe.as_ref()) {
        Some(failsafe) => answer::json(200, failsafe),
        None => answer::text(502, "failsafe mode is not enabled"),
    }
}

/// From the last view; without one, from a fresh reading. `None`: the DCS does not answer.
async fn with_cluster<T>(state: &State, part: impl Fn(&ClusterStatusDocuments) -> T) -> Option<T> {
    if let Some(cluster) = &state.status().cluster {
        return Some(part(cluster));
    }
    let read = state.cluster().await?;
    (*read).as_ref().map(part)
}

fn unreachable_dcs() -> Answer {
    answer::text(503, "the DCS does not answer")
}
