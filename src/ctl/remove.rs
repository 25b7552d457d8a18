//! `remove`: everything that the DCS holds of a cluster goes, after patronictl's questions.
//!
//! Unlike there, nothing goes while the leader runs: it would take the lock anew at once and write its keys again, after a
//! moment in which its clients were cut off. Whether it runs it says itself; where it cannot be reached, what comes back
//! after the removal tells.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::Value;

use super::args::Remove;
use super::prompt::{ask, print, warn};
use super::settings::Settings;
use super::store::{self, Cluster};
use super::{CtlError, list};
use crate::core::view::Initialize;
use crate::dcs::{Dcs, DcsError, Snapshot, Store};
use crate::http::{Caller, endpoint};

const READ_LIMIT: Duration = Duration::from_secs(10);
const REMOVE_LIMIT: Duration = Duration::from_secs(30);
/// A leader that lives answers at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(250);
const AWARE: &str = "Yes I am aware";

pub async fn run(settings: &Settings, options: &Remove) -> Result<(), CtlError> {
    let settings = settings.settled().await?;
    let scope = &settings.config.scope;
    let unusable = |error: &dyn std::fmt::Display| CtlError::Unreachable(format!("cannot read the cluster: {error}"));
    let store = store::open(&settings).map_err(|error| unusable(&error))?;
    let snapshot = store.read(READ_LIMIT).await.map_err(|error| unusable(&error))?;
    if holds_nothing(&snapshot) {
        return Err(CtlError::Refused(format!("the DCS holds nothing of cluster {scope}")));
    }
    let cluster = Cluster::of(&settings, &snapshot);
    print(&list::text(std::slice::from_ref(&cluster), options.format, list::Extended::IfUsed));
    let leader = snapshot.view.leader.as_ref().map(|leader| leader.name.as_str());
    if let Some(leader) = leader {
        warn(&format!("{leader} holds the leader lock. Stop all members first: nothing is removed while it runs."));
    }
    let is_confirmed = ask("Please confirm the cluster name to remove")? == *scope;
    expect(is_confirmed, "Cluster names specified do not match")?;
    let question = format!("You are about to remove all information in DCS for {scope}, please type: \"{AWARE}\"");
    let is_aware = ask(&question)? == AWARE;
    expect(is_aware, &format!("You did not exactly type \"{AWARE}\""))?;
    if let Some(leader) = leader {
        let named = ask("This cluster currently is healthy. Please specify the leader name to continue")?;
        expect(named == leader, "You did not specify the current leader of the cluster")?;
        refuse_beside(leader, &settings, &cluster).await?;
    }
    store.remove_cluster(REMOVE_LIMIT).await.map_err(|error| failed(scope, &error))?;
    if let Some(leader) = leader {
        expect_gone(&store, leader, &snapshot).await?;
    }
    print(&format!("Success: cluster {scope} is removed"));
    Ok(())
}

fn expect(holds: bool, otherwise: &str) -> Result<(), CtlError> {
    if holds { Ok(()) } else { Err(CtlError::Refused(otherwise.to_owned())) }
}

fn failed(scope: &str, error: &DcsError) -> CtlError {
    let text = format!("cluster {scope} is not removed, or not all of it: {error}");
    match error {
        DcsError::Unreachable { .. } => CtlError::Unknown(text),
        DcsError::Conflict { .. }
        | DcsError::Forgot { .. }
        | DcsError::Unasked { .. }
        | DcsError::Denied { .. }
        | DcsError::Full { .. }
        | DcsError::Failed { .. } => CtlError::Refused(text),
    }
}

/// Records of members do not count: those of pods stay.
fn holds_nothing(snapshot: &Snapshot) -> bool {
    let Snapshot { view, documents, .. } = snapshot;
    let document = [&documents.config, &documents.switchover, &documents.history, &documents.failsafe];
    let revisions = [documents.initialize, view.lock_revision, view.status_revision];
    document.iter().all(|document| document.is_none())
        && revisions.iter().all(Option::is_none)
        && view.sync.leader.is_none()
}

/// Asks the leader whether it is one.
async fn refuse_beside(leader: &str, settings: &Settings, cluster: &Cluster) -> Result<(), CtlError> {
    let member = cluster.document.members.iter().find(|member| member.name == leader);
    let Some(url) = member.and_then(|member| member.api_url.as_deref()) else { return Ok(()) };
    let client = settings.client(Caller::Operator)?;
    let Ok(answer) = client.send(Method::GET, &endpoint(url, "/health"), None, ANSWER_LIMIT).await else {
        return Ok(());
    };
    let status = answer.json().unwrap_or_default();
    let says = |path: &str, text: &str| status.pointer(path).and_then(Value::as_str) == Some(text);
    let is_it = says("/patroni/scope", &settings.config.scope) && says("/patroni/name", leader);
    if !is_it {
        return Ok(());
    }
    Err(CtlError::Refused(format!(
        "{leader} leads cluster {} and runs: it would take the lock anew and write its keys again. Nothing was removed; \
         stop all members first",
        settings.config.scope
    )))
}

/// A leader that could not be asked and runs is back within its `loop_wait`.
async fn expect_gone(store: &Store, leader: &str, before: &Snapshot) -> Result<(), CtlError> {
    let config = before.documents.config.as_ref().map(|config| &config.value);
    let loop_wait = config.and_then(|config| config.get("loop_wait")?.as_u64()).unwrap_or(10).clamp(1, 60);
    print(&format!("Waiting for {} seconds whether {leader} comes back", loop_wait + 1));
    let end = Instant::now() + Duration::from_secs(loop_wait + 1);
    while Instant::now() < end {
        tokio::time::sleep(POLL).await;
        let unknown =
            |error| CtlError::Unknown(format!("the cluster was removed; whether it stays so is not known: {error}"));
        let now = store.read(READ_LIMIT).await.map_err(unknown)?;
        if now.view.leader.is_some() || matches!(now.view.initialize, Initialize::Done(_)) {
            let text =
                format!("the keys were removed, but {leader} runs and has written them again: stop all members first");
            return Err(CtlError::Refused(text));
        }
    }
    Ok(())
}
