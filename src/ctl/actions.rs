//! Switchover and failover.

use std::time::Duration;

use hyper::Method;
use serde_json::{Map, Value};

use super::args::{Failover, Switchover};
use super::members::Members;
use super::prompt::{Ask, confirm, print};
use super::settings::Settings;
use super::{CtlError, list, settings};
use crate::http::Answer;

/// A member answers within twice its loop_wait, which may be long; beyond this nobody waits.
const CHANGE_LIMIT: Duration = Duration::from_secs(900);

pub async fn switchover(settings: &Settings, options: &Switchover) -> Result<(), CtlError> {
    let members = Members::find(settings).await?;
    let scope = members.cluster.scope.clone();
    let leader = members.leader().ok_or_else(|| refused("This cluster has no leader"))?;
    if let Some(given) = options.leader.as_ref().filter(|given| **given != leader.name) {
        return Err(refused(format!("Member {given} is not the leader of cluster {scope}")));
    }
    check_candidate(&members, options.candidate.as_deref())?;
    let scheduled = options.scheduled.as_deref().map(settings::with_offset).transpose()?;
    let ask = Ask::from(options.force);
    if ask == Ask::First {
        print(&format!("Current cluster topology\n{}", list::pretty(&members, list::Extended::IfUsed)));
    }
    let name = &leader.name;
    match &scheduled {
        None => confirm(
            ask,
            &format!("Are you sure you want to switchover cluster {scope}, demoting current leader {name}?"),
            "Aborting switchover",
        )?,
        Some(at) => confirm(
            ask,
            &format!(
                "Are you sure you want to schedule switchover of cluster {scope} at {at}, demoting current leader {name}?"
            ),
            "Aborting scheduled switchover",
        )?,
    }
    let mut body = Map::new();
    body.insert("leader".into(), name.clone().into());
    body.insert("candidate".into(), options.candidate.clone().into());
    if let Some(at) = scheduled {
        body.insert("scheduled_at".into(), at.into());
    }
    let first = Some(leader);
    let answer =
        members.ask_first(first, Method::POST, "/switchover", Some(&Value::Object(body)), CHANGE_LIMIT).await?;
    report("Switchover", &answer)?;
    show(settings).await
}

pub async fn failover(settings: &Settings, options: &Failover) -> Result<(), CtlError> {
    let members = Members::find(settings).await?;
    let scope = members.cluster.scope.clone();
    check_candidate(&members, Some(&options.candidate))?;
    let ask = Ask::from(options.force);
    if ask == Ask::First {
        print(&format!("Current cluster topology\n{}", list::pretty(&members, list::Extended::IfUsed)));
    }
    let demoting = members.leader().map(|leader| format!(", demoting current leader {}", leader.name));
    let question = format!("Are you sure you want to failover cluster {scope}{}?", demoting.unwrap_or_default());
    confirm(ask, &question, "Aborting failover")?;
    let body = serde_json::json!({ "candidate": options.candidate });
    let first = members.leader().or_else(|| members.named(&options.candidate));
    let answer = members.ask_first(first, Method::POST, "/failover", Some(&body), CHANGE_LIMIT).await?;
    report("Failover", &answer)?;
    show(settings).await
}

fn check_candidate(members: &Members, candidate: Option<&str>) -> Result<(), CtlError> {
    let scope = &members.cluster.scope;
    let others = members.cluster.members.iter().filter(|member| !member.is_leader() && !is_nofailover(member));
    let others: Vec<&str> = others.map(|member| member.name.as_str()).collect();
    match candidate {
        None if others.is_empty() => Err(refused("No candidates found to switchover to")),
        Some(name) if members.leader().is_some_and(|leader| leader.name == name) => {
            Err(refused(format!("Member {name} is already the leader of cluster {scope}")))
        }
        Some(name) if !others.contains(&name) => {
            Err(refused(format!("Member {name} does not exist in cluster {scope} or is tagged as nofailover")))
        }
        Some(_) | None => Ok(()),
    }
}

fn is_nofailover(member: &crate::api::types::MemberDocument) -> bool {
    let tag = |name: &str| member.tags.as_ref().and_then(|tags| tags.get(name));
    match (tag("nofailover"), tag("failover_priority")) {
        (Some(nofailover), _) => *nofailover == Value::Bool(true),
        (None, Some(priority)) => {
            let number = priority.as_i64().or_else(|| priority.as_str()?.trim().parse().ok());
            number.is_some_and(|number| number <= 0)
        }
        (None, None) => false,
    }
}

/// What the member said, with the exit code that it deserves.
fn report(action: &str, answer: &Answer) -> Result<(), CtlError> {
    let text = answer.text();
    match answer.code {
        200 | 202 => {
            let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S%.5f");
            print(&format!("{now} {text}"));
            Ok(())
        }
        code if text.contains("status unknown") => {
            Err(CtlError::Unknown(format!("{action} result unknown, details: {code}, {text}")))
        }
        code => Err(refused(format!("{action} failed, details: {code}, {text}"))),
    }
}

/// The cluster afterwards; the action is done whether or not it can be shown.
async fn show(settings: &Settings) -> Result<(), CtlError> {
    match Members::find(settings).await {
        Ok(members) => print(&list::pretty(&members, list::Extended::IfUsed)),
        Err(error) => print(&format!("the cluster cannot be shown: {error}")),
    }
    Ok(())
}

fn refused(text: impl Into<String>) -> CtlError {
    CtlError::Refused(text.into())
}
