//! What an answer of etcd, or the lack of one, means for the call that met it.

use std::error::Error as _;
use std::time::Duration;

use etcd_client::Error;
use tonic::Code;

use crate::dcs::DcsError;
use crate::dcs::causes::with_causes;

pub(super) const STORE: &str = "etcd";

/// Why an attempt brought nothing.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// This connection, or the node behind it, is of no use: another one must be tried.
    Gone(String),
    /// Not now; the same node may be asked again.
    Busy(String),
    /// The token is missing or out of date, or a right is missing: log in and ask again.
    Token(String),
    Denied(String),
    /// Authentication is switched off in etcd.
    AuthIsOff,
    /// The lease is not, or no longer, there.
    LeaseGone,
    /// The answer comes from a store that has lost what it had shown before.
    Forgot,
    /// etcd is full: it serves reads and keeps leases alive, but refuses writes.
    Full,
    /// Any other answer.
    Answer(String),
}

impl Failure {
    pub(super) fn into_error(self, limit: Duration) -> DcsError {
        let store = STORE;
        match self {
            Failure::Gone(detail) | Failure::Busy(detail) => DcsError::Unreachable { store, limit, detail },
            Failure::Token(detail) | Failure::Denied(detail) => DcsError::Denied { store, detail },
            Failure::Full => DcsError::Full { store },
            Failure::Answer(detail) => DcsError::Failed { store, detail },
            Failure::AuthIsOff => DcsError::Failed { store, detail: "authentication is not enabled".to_owned() },
            Failure::Forgot => DcsError::Forgot { store },
            Failure::LeaseGone => DcsError::Failed { store, detail: "the lease has run out".to_owned() },
        }
    }

    pub(super) fn detail(&self) -> &str {
        match self {
            Failure::Gone(detail)
            | Failure::Busy(detail)
            | Failure::Token(detail)
            | Failure::Denied(detail)
            | Failure::Answer(detail) => detail,
            Failure::Full => "it is out of space",
            Failure::AuthIsOff => "authentication is not enabled",
            Failure::LeaseGone => "the lease has run out",
            Failure::Forgot => "it has lost its data",
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::GRpcStatus(status) => of_status(&status),
            Error::LeaseKeepAliveError(text) if text == "lease not found" => Failure::LeaseGone,
            Error::LeaseKeepAliveError(text) | Error::WatchError(text) => Failure::Gone(text),
            Error::IoError(error) => Failure::Gone(with_causes(&error)),
            Error::TransportError(error) => Failure::Gone(with_causes(&error)),
            other => Failure::Answer(other.to_string()),
        }
    }
}

/// Only what etcd itself says begins with its name; everything else came from the transport or from something that is
/// not etcd.
fn of_status(status: &tonic::Status) -> Failure {
    let Some(message) = status.message().strip_prefix("etcdserver: ") else {
        let cause = status.source().map(with_causes);
        return Failure::Gone(match cause {
            Some(cause) if !cause.is_empty() => cause,
            Some(_) | None => format!("{}: {}", status.code(), status.message()),
        });
    };
    let detail = || message.to_owned();
    match (status.code(), message) {
        (Code::Unavailable, _) => Failure::Gone(detail()),
        (_, "requested lease not found") => Failure::LeaseGone,
        (_, "authentication is not enabled") => Failure::AuthIsOff,
        (_, "mvcc: database space exceeded") => Failure::Full,
        (_, "user name is empty" | "permission denied" | "invalid auth token" | "revision of auth store is old") => {
            Failure::Token(detail())
        }
        (_, text) if text.starts_with("authentication failed") => Failure::Denied(detail()),
        (Code::DeadlineExceeded | Code::FailedPrecondition, _) | (_, "too many requests") => Failure::Busy(detail()),
        (_, text) if text.contains("not a primary lessor") => Failure::Gone(detail()),
        (Code::Unauthenticated | Code::PermissionDenied, _) => Failure::Token(detail()),
        (_, _) => Failure::Answer(detail()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: Code, message: &str) -> Failure {
        Failure::from(Error::GRpcStatus(tonic::Status::new(code, message)))
    }

    #[test]
    fn answers_of_etcd_are_told_from_the_transports() {
        assert!(matches!(failure(Code::Unavailable, "etcdserver: no leader"), Failure::Gone(_)));
        assert!(matches!(failure(Code::Unknown, "lease: not a primary lessor"), Failure::Gone(_)));
        assert!(matches!(failure(Code::ResourceExhausted, "h2 protocol error: calm"), Failure::Gone(_)));
        assert!(matches!(failure(Code::Unimplemented, "unknown service"), Failure::Gone(_)));
        assert!(matches!(failure(Code::FailedPrecondition, "etcdserver: not leader"), Failure::Busy(_)));
        assert!(matches!(failure(Code::NotFound, "etcdserver: requested lease not found"), Failure::LeaseGone));
        assert!(matches!(failure(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"), Failure::Full));
        assert!(matches!(failure(Code::ResourceExhausted, "etcdserver: too many requests"), Failure::Busy(_)));
        assert!(matches!(failure(Code::OutOfRange, "etcdserver: mvcc: whatever"), Failure::Answer(_)));
    }

    #[test]
    fn wrong_passwords_are_refusals_and_old_tokens_are_not_yet() {
        let wrong = "etcdserver: authentication failed, invalid user ID or password";
        assert!(matches!(failure(Code::InvalidArgument, wrong), Failure::Denied(_)));
        for token in ["invalid auth token", "permission denied", "user name is empty", "revision of auth store is old"]
        {
            let failure = failure(Code::InvalidArgument, &format!("etcdserver: {token}"));
            assert!(matches!(failure, Failure::Token(_)), "{token}");
        }
        let off = failure(Code::FailedPrecondition, "etcdserver: authentication is not enabled");
        assert!(matches!(off, Failure::AuthIsOff));
    }
}
