//! `POST /switchover` and `/failover`: check, write the request, follow the statuses until the new leader is known.
//!
//! The leader checks everything again before it gives its lock away; what is refused here is refused for the sake of a
//! clear answer. A DCS that does not answer closes the connection.

mod refusal;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::Request;

use self::refusal::{Kind, Possible, Wanted};
use super::answer::{self, Answer, Need};
use super::ask::ask;
use super::state::State;
use super::times;
use crate::agent::mailbox::{self, SwitchoverDocument, WriteResult};

/// Asking all members takes 2 s; writing is bounded by the store's deadlines.
const ELIGIBLE_LIMIT: Duration = Duration::from_secs(10);
const WRITE_LIMIT: Duration = Duration::from_secs(20);

pub async fn switchover(Shared(state): Shared<Arc<State>>, request: Request<Body>) -> Answer {
    change_leader(&state, Kind::Switchover, request).await
}

pub async fn failover(Shared(state): Shared<Arc<State>>, request: Request<Body>) -> Answer {
    change_leader(&state, Kind::Failover, request).await
}

pub async fn cancel(Shared(state): Shared<Arc<State>>) -> Answer {
    match ask(&state.mailbox, WRITE_LIMIT, mailbox::Request::ClearSwitchover).await {
        Ok(WriteResult::Done) => answer::text(200, "scheduled switchover deleted"),
        Ok(WriteResult::Conflict) => answer::text(409, "the request was changed by somebody else meanwhile"),
        Ok(WriteResult::NothingThere) => answer::text(404, "no switchover is scheduled"),
        Ok(WriteResult::Unreachable(cause)) => answer::text(503, format!("the DCS does not answer: {cause}")),
        Err(cause) => answer::text(503, cause.to_string()),
    }
}

async fn change_leader(state: &State, asked: Kind, request: Request<Body>) -> Answer {
    let body = match answer::object(request, Need::Mandatory).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let Some(read) = state.cluster().await else { return answer::hang_up() };
    let Some(cluster) = read.as_ref() else { return answer::hang_up() };
    let possible = match refusal::check(asked, Wanted::of(&body), cluster, times::now()) {
        Ok(possible) => possible,
        Err((code, text)) => return answer::text(code, text),
    };
    let Possible { kind, wanted, candidates, .. } = &possible;
    if let Some(candidates) = candidates {
        let asked = candidates.clone();
        match ask(&state.mailbox, ELIGIBLE_LIMIT, |answer| mailbox::Request::Eligible(asked, answer)).await {
            Ok(eligible) if eligible.is_empty() => return answer::text(412, refusal::no_good_candidates(*kind)),
            Ok(_) => {}
            Err(_) => return answer::hang_up(),
        }
    }
    let document = SwitchoverDocument {
        leader: wanted.leader.clone(),
        candidate: wanted.candidate.clone(),
        scheduled_at: possible.schedule.as_ref().map(|planned| planned.text.clone()),
    };
    let statuses = state.follow();
    match ask(&state.mailbox, WRITE_LIMIT, |answer| mailbox::Request::Switchover(document, answer)).await {
        Ok(Ok(())) if possible.schedule.is_some() => answer::text(202, "Switchover scheduled"),
        Ok(Ok(())) => {
            let leader = cluster.view.leader.as_ref().map(|leader| leader.name.clone());
            wait::for_new_leader(state, statuses, *kind, leader, wanted.candidate.as_deref()).await
        }
        Ok(Err(_)) => answer::text(503, "failed to write failover key into DCS"),
        Err(_) => answer::hang_up(),
    }
}
