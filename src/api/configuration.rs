//! PATCH and PUT of the cluster's configuration. What it means is checked on the other side of the
//! mailbox, where the settings are known.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::Request;
use serde_json::{Map, Value};

use super::answer::{self, Answer, Need};
use super::ask::{NoAnswer, ask};
use super::state::State;
use crate::agent::mailbox::{self, ConfigChange, ConfigResult};
use crate::config::{Dynamic, HIDDEN};
use crate::core::policy::Mode;

/// Reading, comparing and writing with its retries.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

const SINGLE: &str = "this is a single server without a DCS: there is no cluster configuration; change postgresql.conf, \
                      or set the variables of a DCS to make it the first member of a cluster";

const HIDDEN_VALUES: &str = "the document holds *** in the place of a value: it was read without credentials; read it \
                             again with them, or leave that key out";

pub async fn merge(Shared(state): Shared<Arc<State>>, request: Request<Body>) -> Answer {
    match accepted(&state, request).await {
        Ok(change) => {
            let warnings = Dynamic::warnings(&change);
            outcome(change_to(&state, ConfigChange::Merge(change)).await, 503, &warnings)
        }
        Err(refusal) => refusal,
    }
}

pub async fn replace(Shared(state): Shared<Arc<State>>, request: Request<Body>) -> Answer {
    match accepted(&state, request).await {
        Ok(change) => {
            let warnings = Dynamic::warnings(&change);
            outcome(change_to(&state, ConfigChange::Replace(change)).await, 502, &warnings)
        }
        Err(refusal) => refusal,
    }
}

async fn accepted(state: &State, request: Request<Body>) -> Result<Map<String, Value>, Answer> {
    match state.mode {
        Mode::Single => Err(answer::text(409, SINGLE)),
        Mode::Cluster => {
            let document = answer::object(request, Need::Mandatory).await?;
            match document.values().any(holds_hidden) {
                true => Err(answer::text(422, HIDDEN_VALUES)),
                false => Ok(document),
            }
        }
    }
}

/// A document that was read by somebody who may not see its secrets would replace them by what was shown instead.
fn holds_hidden(value: &Value) -> bool {
    match value {
        Value::String(text) => text == HIDDEN,
        Value::Array(items) => items.iter().any(holds_hidden),
        Value::Object(map) => map.values().any(holds_hidden),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

async fn change_to(state: &State, change: ConfigChange) -> Result<ConfigResult, NoAnswer> {
    ask(&state.mailbox, WRITE_LIMIT, |answer| mailbox::Request::Config(change, answer)).await
}

/// `unwritten` is the code for a store that did not take the document; `warnings`: what the change does not bring about.
fn outcome(result: Result<ConfigResult, NoAnswer>, unwritten: u16, warnings: &[String]) -> Answer {
    match result {
        Ok(ConfigResult::Done(document)) => answer::with_warnings(answer::json(200, &document), warnings),
        Ok(ConfigResult::Conflict) => answer::text(409, "the configuration was changed by somebody else meanwhile"),
        Ok(ConfigResult::Missing) => answer::text(503, "the cluster has no valid configuration"),
        Ok(ConfigResult::Refused(reasons)) => answer::text(422, reasons.join("\n")),
        Ok(ConfigResult::Unreachable(cause)) => answer::text(unwritten, format!("the DCS does not answer: {cause}")),
        Err(cause) => answer::text(503, cause.to_string()),
    }
}
