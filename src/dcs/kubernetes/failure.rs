//! What an answer of the API server, or the lack of one, means for the call that met it.

use std::time::Duration;

use kube::core::Status;

use crate::dcs::DcsError;

pub(super) const STORE: &str = "the Kubernetes API";

/// Why a request brought nothing. `detail` says which request it was and what the server said.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// No answer, or half of one: what was asked may have happened.
    Gone(String),
    /// Not now. The server may be asked again, not before this time has passed if it says so.
    Busy { detail: String, after: Option<Duration> },
    /// Nothing was sent: what it takes to reach the server is missing or cannot be read.
    Unasked(String),
    /// 401: the token may have been replaced.
    Token(String),
    /// 403: a right is missing.
    Denied(String),
    /// 404: there is no such object, or no such namespace.
    Absent(String),
    /// 404 that is about no object: the server has no resource of this version, or something that stands before it answers.
    Unserved(String),
    /// 409 to a create: there is one.
    Exists(String),
    /// 409: the object has another version.
    Conflict(String),
    /// 410: the version that is asked for is too old.
    Expired(String),
    /// The answer comes from a store that has lost what it had shown before.
    Forgot,
    /// Any other answer.
    Answer(String),
}

impl Failure {
    pub(super) fn into_error(self, limit: Duration) -> DcsError {
        let store = STORE;
        match self {
            Failure::Gone(detail) | Failure::Busy { detail, .. } | Failure::Unserved(detail) => {
                DcsError::Unreachable { store, limit, detail }
            }
            Failure::Token(detail) | Failure::Denied(detail) => DcsError::Denied { store, detail },
            Failure::Unasked(detail) => DcsError::Unasked { store, detail },
            Failure::Forgot => DcsError::Forgot { store },
            Failure::Absent(detail)
            | Failure::Exists(detail)
            | Failure::Conflict(detail)
            | Failure::Expired(detail)
            | Failure::Answer(detail) => DcsError::Failed { store, detail },
        }
    }

    pub(super) fn detail(&self) -> &str {
        match self {
            Failure::Gone(detail)
            | Failure::Busy { detail, .. }
            | Failure::Unasked(detail)
            | Failure::Token(detail)
            | Failure::Denied(detail)
            | Failure::Absent(detail)
            | Failure::Unserved(detail)
            | Failure::Exists(detail)
            | Failure::Conflict(detail)
            | Failure::Expired(detail)
            | Failure::Answer(detail) => detail,
            Failure::Forgot => "it has lost its data",
        }
    }

    /// Whether the same request may be answered otherwise in a moment.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Failure::Gone(_) | Failure::Busy { .. } | Failure::Token(_) | Failure::Unserved(_) => true,
            Failure::Unasked(_)
            | Failure::Denied(_)
            | Failure::Absent(_)
            | Failure::Exists(_)
            | Failure::Conflict(_)
            | Failure::Expired(_)
            | Failure::Forgot
            | Failure::Answer(_) => false,
        }
    }
}

/// The answer to a request that was refused, in a class. `text`: what the server said.
pub(super) fn refused(status: &Status, retriable: &[u16], after: Option<Duration>, text: String) -> Failure {
    let names_object = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
    match (status.code, status.reason.as_str()) {
        (401, _) => Failure::Token(text),
        (403, _) => Failure::Denied(text),
        (404, _) if names_object => Failure::Absent(text),
        (404, _) => Failure::Unserved(text),
        (409, "AlreadyExists") => Failure::Exists(text),
        (409, _) => Failure::Conflict(text),
        (410, _) => Failure::Expired(text),
        (429 | 500 | 503 | 504, _) => Failure::Busy { detail: text, after },
        (code, _) if after.is_some() || retriable.contains(&code) => Failure::Busy { detail: text, after },
        (_, _) => Failure::Answer(text),
    }
}
