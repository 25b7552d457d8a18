//! Restart, reload, reinitialize, and the endpoints that exist for the sake of Patroni's clients.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::{HeaderName, HeaderValue, Request};
use serde_json::{Map, Value};

use super::answer::{self, Answer, Need};
use super::ask::{ask, tell};
use super::state::State;
use super::{health, times};
use crate::agent::mailbox::{self, FailsafeAnswer, FailsafeBody, ReinitializeBody, RestartBody, RestartResult};
use crate::config::units::parse_int;
use crate::core::policy::Pause;
use crate::core::units::{Lsn, WallTime};
use crate::core::view::MemberRole;

/// The header in which a member that vouches tells its position.
const LSN: HeaderName = HeaderName::from_static("lsn");

/// Answers that need no work.
const SHORT_LIMIT: Duration = Duration::from_secs(10);

/// The primary that asks waits two seconds.
const FAILSAFE_LIMIT: Duration = Duration::from_secs(2);

/// The longest restart that somebody waits for when no timeout was given: stop, crash recovery, start.
const RESTART_LIMIT: Duration = Duration::from_secs(3600);

/// Cancelling a running action takes as long as its processes take to die.
const REINITIALIZE_LIMIT: Duration = Duration::from_secs(60);

pub async fn restart(Shared(state): Shared<Arc<State>>, request: Request<Body>) -> Answer {
    let body = match answer::object(request, Need::Optional).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    if body.contains_key("schedule") && state.status().pause == Pause::Paused {
        return answer::text(500, "Can't schedule restart in the paused state");
    }
    let body = match restart_body(body, times::now()) {
        Ok(body) => body,
        Err((code, text)) => return answer::text(code, text),
    };
    let limit = body.timeout.map_or(RESTART_LIMIT, |timeout| timeout + RESTART_LIMIT);
    match ask(&state.mailbox, limit, |answer| mailbox::Request::Restart(body, answer)).await {
        Ok(result) => {
            let (code, text) = restart_outcome(result);
            answer::text(code, text)
        }
        Err(_) => answer::text(503, "restart failed"),
    }
}

/// Every field is checked in the order given; the first error answers.
fn restart_body(given: Map<String, Value>, now: WallTime) -> Result<RestartBody, (u16, String)> {
    let mut body = RestartBody::default();
    for (key, value) in &given {
        let mut shown = value.clone();
        match key.as_str() {
            "schedule" => {
                let planned = times::plan(&word(value), now).map_err(|bad| bad.answer("restart"))?;
                body.schedule = Some(planned.at);
                shown = planned.text.into();
            }
            "role" => body.conditions.role = Some(restart_role(&word(value))?),
            "postgres_version" => body.conditions.older_than = Some(postgres_version(&word(value))?),
            "timeout" => {
                let seconds = parse_int(&word(value), Some("s")).filter(|seconds| *seconds > 0);
                let wrong = || (400, "Timeout should be a positive number of seconds".to_owned());
                body.timeout = Some(Duration::from_secs(seconds.ok_or_else(wrong)?.unsigned_abs()));
            }
            "restart_pending" => body.conditions.is_pending = true,
            other => return Err((400, format!("Unknown filter for the scheduled restart: {other}"))),
        }
        body.document.insert(key.clone(), shown);
    }
    Ok(body)
}

fn restart_role(word: &str) -> Result<MemberRole, (u16, String)> {
    match word {
        "primary" => Ok(MemberRole::Primary),
        "standby_leader" => Ok(MemberRole::StandbyLeader),
        "replica" => Ok(MemberRole::Replica),
        _ => Err((400, "PostgreSQL role should be either primary, standby_leader, or replica".into())),
    }
}

/// `15.3` is 150003, `9.6.1` is 90601.
fn postgres_version(text: &str) -> Result<u32, (u16, String)> {
    let wrong = |reason: &str| (400, format!("Invalid PostgreSQL version{reason}: {text}"));
    let parts: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok().filter(|n| *n < 10_000)).collect();
    let number = match parts.ok_or_else(|| wrong(""))?.as_slice() {
        [major, minor] if *major >= 10 => major * 10_000 + minor,
        [major, minor, patch] if *minor < 100 && *patch < 100 => major * 10_000 + minor * 100 + patch,
        _ => return Err(wrong(" format: X.Y or X.Y.Z is accepted")),
    };
    Ok(number)
}

/// A value as text, however it was written.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn restart_outcome(result: RestartResult) -> (u16, String) {
    match result {
        RestartResult::Restarted => (200, "restarted successfully".into()),
        RestartResult::Scheduled => (202, "Restart scheduled".into()),
        RestartResult::AlreadyScheduled => (409, "Another restart is already scheduled".into()),
        RestartResult::ConditionsNotSatisfied => (503, "restart conditions are not satisfied".into()),
        RestartResult::Busy(text) => (503, text),
        RestartResult::StillStarting => (503, "postgres is still starting".into()),
        RestartResult::Failed => (503, "restart failed".into()),
    }
}

pub async fn cancel_restart(Shared(state): Shared<Arc<State>>) -> Answer {
    match ask(&state.mailbox, SHORT_LIMIT, mailbox::Request::CancelRestart).await {
        Ok(true) => answer::text(200, "scheduled restart deleted"),
        Ok(false) => answer::text(404, "no restarts are scheduled"),
        Err(cause) => answer::text(503, cause.to_string()),
    }
}

pub async fn reload(Shared(state): Shared<Arc<State>>) -> Answer {
    match tell(&state.mailbox, SHORT_LIMIT, mailbox::Request::Reload).await {
        Ok(()) => answer::text(202, "reload scheduled"),
        Err(cause) => answer::text(503, cause.to_string()),
    }
}

pub async fn reinitialize(Shared(state): Shared<Arc<State>>, request: Request<Body>) -> Answer {
    let body = match answer::object(request, Need::Optional).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let is_set = |key: &str| body.get(key).is_some_and(health::is_true);
    let body = ReinitializeBody { force: is_set("force"), from_leader: is_set("from_leader") };
    match ask(&state.mailbox, REINITIALIZE_LIMIT, |answer| mailbox::Request::Reinitialize(body, answer)).await {
        Ok(Ok(())) => answer::text(200, "reinitialize started"),
        Ok(Err(refusal)) => answer::text(503, refusal),
        Err(cause) => answer::text(503, cause.to_string()),
    }
}

/// A primary that the DCS does not answer asks whether we vouch for it.
pub async fn failsafe(Shared(state): Shared<Arc<State>>, request: Request<Body>) -> Answer {
    if !state.status().failsafe.is_on() {
        return answer::text(502, "failsafe mode is not enabled");
    }
    let body = match answer::object(request, Need::Mandatory).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Some(name) = body.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
        return answer::text(400, "name: not given; expected: the name of the primary that asks");
    };
    let ttl = body.get("ttl").and_then(Value::as_u64).map(Duration::from_secs);
    let slots = body.get("slots").and_then(Value::as_object).into_iter().flatten();
    let slots = slots.filter_map(|(name, at)| Some((name.clone(), Lsn(at.as_u64()?)))).collect();
    let body = FailsafeBody { name: name.into(), ttl, slots };
    match ask(&state.mailbox, FAILSAFE_LIMIT, |answer| mailbox::Request::Failsafe(body, answer)).await {
        Ok(FailsafeAnswer::Accepted(position)) => {
            let mut answer = answer::text(200, "Accepted");
            answer.headers_mut().extend(position.map(|lsn| (LSN, HeaderValue::from(lsn.0))));
            answer
        }
        Ok(FailsafeAnswer::Refused) => answer::text(500, "Running as a leader"),
        Ok(FailsafeAnswer::NotEnabled) => answer::text(502, "failsafe mode is not enabled"),
        Err(cause) => answer::text(503, cause.to_string()),
    }
}

/// A hook of another platform's tests.
pub async fn sigterm() -> Answer {
    answer::text(202, "shutdown scheduled")
}

/// Whoever is no coordinator takes note of nothing and agrees.
pub async fn mpp(request: Request<Body>) -> Answer {
    match answer::object(request, Need::Mandatory).await {
        Ok(_) => answer::text(200, "OK"),
        Err(refusal) => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<RestartBody, (u16, String)> {
        restart_body(body.as_object().cloned().expect("an object"), WallTime(0))
    }

    #[test]
    fn refuses_each_wrong_field_with_its_own_words() {
        let cases = [
            (json!({"role": "master"}), "PostgreSQL role should be either primary, standby_leader, or replica"),
            (json!({"postgres_version": "10"}), "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: 10"),
            (json!({"postgres_version": "9.6"}), "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: 9.6"),
            (json!({"postgres_version": "a"}), "Invalid PostgreSQL version: a"),
            (json!({"timeout": "500ms"}), "Timeout should be a positive number of seconds"),
            (json!({"timeout": "soon"}), "Timeout should be a positive number of seconds"),
            (json!({"timeout": -1}), "Timeout should be a positive number of seconds"),
            (json!({"colour": 1, "role": "master"}), "Unknown filter for the scheduled restart: colour"),
            (json!({"schedule": "2030-01-01T00:00"}), "Timezone information is mandatory for the scheduled restart"),
        ];
        for (body, expected) in cases {
            assert_eq!(read(body.clone()).err(), Some((400, expected.to_owned())), "{body}");
        }
        assert_eq!(read(json!({"schedule": "x"})).err().map(|(code, _)| code), Some(422));
    }

    #[test]
    fn reads_all_fields_and_keeps_them_for_the_record() {
        let body = json!({
            "schedule": "2030-01-01T00:00+01:00", "role": "replica", "postgres_version": "15.3", "timeout": "1min",
            "restart_pending": false,
        });
        let read = read(body).expect("a valid body");
        assert_eq!(read.conditions.role, Some(MemberRole::Replica));
        assert_eq!(read.conditions.older_than, Some(150_003));
        assert_eq!(read.timeout, Some(Duration::from_secs(60)));
        assert!(read.conditions.is_pending, "its presence counts, not its value");
        assert_eq!(read.document["schedule"], "2030-01-01T00:00:00+01:00");
        assert_eq!(postgres_version("9.6.1"), Ok(90_601));
    }
}
