//! The configuration: this member's effective one, and the cluster's with pause and resume.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Map, Value, json};

use super::args::ConfigCommand;
use super::members::Members;
use super::prompt::{print, warn};
use super::settings::Settings;
use super::{CtlError, yaml};
use crate::http::Answer;

const WRITE_LIMIT: Duration = Duration::from_secs(40);

/// How long members may take to notice a change that they watch for.
const NOTICE_LIMIT: Duration = Duration::from_secs(60);
const NOTICE_POLL: Duration = Duration::from_millis(250);

/// Whether the command returns before the members have taken note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    Written,
    Noticed,
}

impl From<bool> for Until {
    fn from(wait: bool) -> Self {
        if wait { Until::Noticed } else { Until::Written }
    }
}

pub async fn run(settings: &Settings, command: ConfigCommand) -> Result<(), CtlError> {
    match command {
        ConfigCommand::Check => {
            check(settings);
            Ok(())
        }
        ConfigCommand::Show => {
            let answer = Members::find(settings).await?.ask_any("/config").await?;
            print(&yaml::block(&document(&answer)?));
            Ok(())
        }
        ConfigCommand::Set { changes } => {
            let members = Members::find(settings).await?;
            let answer = patch(&members, &patch_of(&changes)?).await?;
            print(&yaml::block(&document(&answer)?));
            answer.warnings.iter().for_each(|warning| warn(warning));
            Ok(())
        }
    }
}

/// What is wrong was told instead of the settings: then there are none.
fn check(settings: &Settings) {
    print(&settings.config.effective().to_string());
    settings.config.warnings.iter().for_each(|warning| print(&format!("warning: {warning}")));
}

pub async fn pause(settings: &Settings, until: Until) -> Result<(), CtlError> {
    let members = Members::find(settings).await?;
    if members.cluster.pause == Some(true) {
        return Err(CtlError::Refused("Cluster is already paused".into()));
    }
    document(&patch(&members, &json!({ "pause": true })).await?)?;
    if until == Until::Noticed {
        print("'pause' request sent, waiting until it is recognized by all nodes");
        wait_for(&members, "pause", Wanted::Paused).await?;
    }
    print("Success: cluster management is paused");
    Ok(())
}

pub async fn resume(settings: &Settings, until: Until) -> Result<(), CtlError> {
    let members = Members::find(settings).await?;
    if members.cluster.pause != Some(true) {
        return Err(CtlError::Refused("Cluster is not paused".into()));
    }
    document(&patch(&members, &json!({ "pause": null })).await?)?;
    if until == Until::Noticed {
        print("'resume' request sent, waiting until it is recognized by all nodes");
        wait_for(&members, "resume", Wanted::Running).await?;
    }
    print("Success: cluster management is resumed");
    Ok(())
}

/// A change that is written, or an error.
pub async fn change(members: &Members, change: &Value) -> Result<(), CtlError> {
    let answer = patch(members, change).await?;
    answer.warnings.iter().for_each(|warning| warn(warning));
    document(&answer).map(drop)
}

async fn patch(members: &Members, change: &Value) -> Result<Answer, CtlError> {
    members.ask_first(members.leader(), Method::PATCH, "/config", Some(change), WRITE_LIMIT).await
}

fn document(answer: &Answer) -> Result<Value, CtlError> {
    match (answer.code, answer.json()) {
        (200, Some(document)) => Ok(document),
        (code, _) => Err(CtlError::Refused(format!("status code={code}, {}", answer.text()))),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Paused,
    Running,
}

async fn wait_for(members: &Members, request: &str, wanted: Wanted) -> Result<(), CtlError> {
    let end = Instant::now() + NOTICE_LIMIT;
    let mut waiting: Vec<_> = members.cluster.members.iter().filter(|member| member.api_url.is_some()).collect();
    loop {
        let mut rest = Vec::new();
        for member in waiting {
            let answer = members.ask(member, Method::GET, "/health", None, Duration::from_secs(5)).await;
            let status = answer.ok().and_then(|answer| answer.json());
            let seen = status.map(|status| match status.get("pause") {
                Some(Value::Bool(true)) => Wanted::Paused,
                Some(_) | None => Wanted::Running,
            });
            if seen != Some(wanted) {
                rest.push(member);
            }
        }
        waiting = rest;
        if waiting.is_empty() {
            return Ok(());
        }
        if Instant::now() >= end {
            let names: Vec<&str> = waiting.iter().map(|member| member.name.as_str()).collect();
            let (names, seconds) = (names.join(", "), NOTICE_LIMIT.as_secs());
            let text = format!("{names} members didn't recognized {request} state after {seconds} seconds");
            return Err(CtlError::Unknown(text));
        }
        tokio::time::sleep(NOTICE_POLL).await;
    }
}

/// `a.b=1` is `{"a": {"b": 1}}`; below `postgresql.parameters` the rest of the path is one name. Values are YAML.
fn patch_of(changes: &[String]) -> Result<Value, CtlError> {
    let mut patch = Value::Object(Map::new());
    for change in changes {
        let wrong = |why: &str| CtlError::Refused(format!("{change:?}: {why}"));
        let (path, value) = change.split_once('=').ok_or_else(|| wrong("KEY=VALUE is expected"))?;
        let value: Value = serde_norway::from_str(value).map_err(|_| wrong("the value is no YAML"))?;
        let parameter = path.strip_prefix("postgresql.parameters.");
        let keys: Vec<&str> = match parameter {
            Some(name) => vec!["postgresql", "parameters", name],
            None => path.split('.').collect(),
        };
        if keys.iter().any(|key| key.is_empty()) {
            return Err(wrong("a part of the key is empty"));
        }
        let mut place = &mut patch;
        for key in keys {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[key];
        }
        *place = value;
    }
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_become_one_patch() {
        let changes = ["ttl=20", "postgresql.parameters.pg_stat_statements.max=100", "postgresql.use_slots=false"];
        let changes: Vec<String> =
            changes.iter().map(|change| (*change).to_owned()).chain(["pause=null".into()]).collect();
        let expected = json!({
            "ttl": 20, "pause": null,
            "postgresql": {"parameters": {"pg_stat_statements.max": 100}, "use_slots": false},
        });
        assert_eq!(patch_of(&changes).expect("a patch"), expected);
        for wrong in ["ttl", "a..b=1", "=1", "a={"] {
            assert!(patch_of(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
