//! The forms that answers have, and how a body is read.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::http::{json, warning};

/// The largest request body.
const BODY_MAX: usize = 1 << 20;

/// How long a client may take to send a body.
const BODY_LIMIT: Duration = Duration::from_secs(10);

pub type Answer = Response<Body>;

/// Patroni's literal messages are `text/html`.
pub fn text(code: u16, body: impl Into<String>) -> Answer {
    whole(code, HeaderValue::from_static("text/html"), Body::from(body.into()))
}

/// Metrics for Prometheus.
pub fn metrics(text: String) -> Answer {
    whole(200, HeaderValue::from_static("text/plain"), Body::from(text))
}

/// A document.
pub fn json(code: u16, document: &impl Serialize) -> Answer {
    match json::spaced(document) {
        Ok(body) => whole(code, HeaderValue::from_static("application/json"), Body::from(body)),
        Err(cause) => text(500, format!("cannot write the answer: {cause}")),
    }
}

/// The same answer with a `Warning` header for each of these, as far as there is room for them.
pub fn with_warnings(mut answer: Answer, warnings: &[String]) -> Answer {
    const WARNINGS_MAX: usize = 20;
    let rest = warnings.len().saturating_sub(WARNINGS_MAX);
    let rest = (rest > 0).then(|| format!("{rest} more"));
    for text in warnings.iter().take(WARNINGS_MAX).chain(&rest) {
        if let Some(value) = warning::header(text) {
            answer.headers_mut().append(header::WARNING, value);
        }
    }
    answer
}

/// An answer of which only the code matters: a word for people.
pub fn error(code: StatusCode) -> Answer {
    text(code.as_u16(), code.canonical_reason().unwrap_or("error"))
}

/// No answer at all: the connection is closed, which makes stock patronictl fall back to the DCS.
pub fn hang_up() -> Answer {
    let mut answer = Response::new(Body::empty());
    answer.extensions_mut().insert(HangUp);
    answer
}

/// Marks an answer that is not to be sent.
#[derive(Clone, Copy, Debug)]
pub struct HangUp;

fn whole(code: u16, kind: HeaderValue, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Missing: 411; an empty object: 400.
    Mandatory,
    /// Missing or of length 0: an empty object.
    Optional,
}

/// The request's body as an object; `Err` is the answer to whoever sent something else.
pub async fn object(request: Request<Body>, need: Need) -> Result<Map<String, Value>, Answer> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()).and_then(|length| length.parse::<usize>().ok());
    match (length, need) {
        (None | Some(0), Need::Optional) => return Ok(Map::new()),
        (None, Need::Mandatory) => return Err(error(StatusCode::LENGTH_REQUIRED)),
        (Some(length), _) if length > BODY_MAX => return Err(error(StatusCode::PAYLOAD_TOO_LARGE)),
        (Some(_), _) => {}
    }
    let body = match tokio::time::timeout(BODY_LIMIT, axum::body::to_bytes(request.into_body(), BODY_MAX)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return Err(error(StatusCode::BAD_REQUEST)),
        Err(_) => return Err(error(StatusCode::REQUEST_TIMEOUT)),
    };
    match (serde_json::from_slice(&body), need) {
        (Ok(Value::Object(object)), Need::Mandatory) if object.is_empty() => Err(error(StatusCode::BAD_REQUEST)),
        (Ok(Value::Object(object)), _) => Ok(object),
        (Ok(_) | Err(_), _) => Err(error(StatusCode::BAD_REQUEST)),
    }
}

/// What a method without a handler gets.
pub async fn not_implemented() -> Answer {
    error(StatusCode::NOT_IMPLEMENTED).into_response()
}
