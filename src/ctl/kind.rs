//! Making a standby cluster of a cluster, and a cluster with a primary of a standby cluster.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Map, Value, json};

use super::args::{DemoteCluster, PromoteCluster};
use super::members::Members;
use super::prompt::{Ask, confirm, print};
use super::settings::Settings;
use super::{CtlError, configuration, list};
use crate::api::types::MemberDocument;

/// A demotion waits for a clean stop, and then for the first bytes from elsewhere.
const CHANGE_LIMIT: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// What the cluster is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Demoted,
    Promoted,
}

impl Wanted {
    /// Of the leader: in the cluster's document, and as it tells itself.
    fn roles(self) -> (&'static str, &'static str) {
        match self {
            Wanted::Demoted => ("standby_leader", "standby_leader"),
            Wanted::Promoted => ("leader", "primary"),
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Wanted::Demoted => "demote",
            Wanted::Promoted => "promote",
        }
    }
}

pub async fn demote(settings: &Settings, options: &DemoteCluster) -> Result<(), CtlError> {
    if options.host.is_none() && options.port.is_none() && options.restore_command.is_none() {
        let text = "At least --host, --port or --restore-command should be specified";
        return Err(CtlError::Refused(text.to_owned()));
    }
    let given = [
        ("host", options.host.clone().map(Value::from)),
        ("port", options.port.map(Value::from)),
        ("restore_command", options.restore_command.clone().map(Value::from)),
        ("primary_slot_name", options.primary_slot_name.clone().map(Value::from)),
    ];
    let section: Map<String, Value> =
        given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    change(settings, Wanted::Demoted, options.force.into(), &json!({ "standby_cluster": section })).await
}

pub async fn promote(settings: &Settings, options: &PromoteCluster) -> Result<(), CtlError> {
    change(settings, Wanted::Promoted, options.force.into(), &json!({ "standby_cluster": null })).await
}

async fn change(settings: &Settings, wanted: Wanted, ask: Ask, body: &Value) -> Result<(), CtlError> {
    let members = Members::find(settings).await?;
    let verb = wanted.verb();
    let what = if wanted == Wanted::Demoted { "demotion" } else { "promotion" };
    let leader =
        members.leader().ok_or_else(|| CtlError::Refused(format!("Cluster has no leader, {what} is not possible")))?;
    if leader.role == wanted.roles().0 {
        return Err(CtlError::Refused("Cluster is already in the required state".to_owned()));
    }
    let scope = &members.cluster.scope;
    confirm(ask, &format!("Are you sure you want to {verb} {scope} cluster?"), "Aborted!")?;
    configuration::change(&members, body).await?;
    let end = Instant::now() + CHANGE_LIMIT;
    while let Err(state) = looked(settings, wanted).await {
        if Instant::now() >= end {
            let seconds = CHANGE_LIMIT.as_secs();
            return Err(CtlError::Unknown(format!("the cluster is not {verb}d after {seconds} seconds: {state}")));
        }
        print(&format!("{} {state}", now()));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    print(&format!("{} cluster is successfully {verb}d", now()));
    let members = Members::find(settings).await?;
    print(&list::pretty(&members, list::Extended::IfUsed));
    Ok(())
}

/// `Err`: it is not there yet; how far it is.
async fn looked(settings: &Settings, wanted: Wanted) -> Result<(), String> {
    let members = Members::find(settings).await.map_err(|error| error.to_string())?;
    let Some(leader) = members.leader() else { return Err("cluster is unlocked: True".to_owned()) };
    let (role, state) = told(&members, leader).await;
    match role == wanted.roles().1 && state == "running" {
        true => Ok(()),
        false => Err(format!("cluster is unlocked: False, leader role: {role}, leader state: {state}")),
    }
}

async fn told(members: &Members, leader: &MemberDocument) -> (String, String) {
    let answer = members.ask(leader, Method::GET, "/patroni", None, ASK_LIMIT).await;
    let document = answer.ok().and_then(|answer| answer.json()).unwrap_or_default();
    let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    (text("role"), text("state"))
}

fn now() -> String {
    jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S%.5f").to_string()
}
