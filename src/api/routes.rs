//! Which handler answers which method and path, and the documents that are only read. Health checks never come here.

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::routing::{delete, get, patch, post};
use serde_json::{Value, json};

use super::answer::{self, Answer, not_implemented};
use super::state::State;
use super::types::ClusterDocument;
use super::{configuration, control, document, switchover};
use crate::agent::status::ClusterStatusDocuments;

pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/patroni", get(patroni))
        .route("/cluster", get(cluster))
        .route("/history", get(history))
        .route("/failsafe", get(failsafe).post(refuse_failsafe))
        .route("/config", get(config))
        .route("/config", patch(configuration::merge).put(configuration::replace))
        .route("/switchover", post(switchover::switchover))
        .route("/switchover", delete(switchover::cancel))
        .route("/failover", post(switchover::failover))
        .route("/restart", post(control::restart).delete(control::cancel_restart))
        .route("/reload", post(control::reload))
        .route("/reinitialize", post(control::reinitialize))
        .route("/sigterm", post(control::sigterm))
        .route("/citus", post(control::mpp))
        .route("/mpp", post(control::mpp))
        .fallback(not_implemented)
        .method_not_allowed_fallback(not_implemented)
        .with_state(state)
}

/// The status with fresh positions: what candidates of an election compare. Always 200.
async fn patroni(Shared(state): Shared<Arc<State>>) -> Answer {
    answer::json(200, &Value::Object(document::render(&*state.probed().await)))
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

async fn config(Shared(state): Shared<Arc<State>>) -> Answer {
    match with_cluster(&state, |cluster| cluster.config.clone()).await {
        Some(Some(config)) if config.is_object() => answer::json(200, &config),
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

/// Failsafe mode is not carried out yet and can therefore not be enabled: the answer for a cluster without it.
async fn refuse_failsafe() -> Answer {
    answer::text(502, "failsafe mode is not enabled")
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
