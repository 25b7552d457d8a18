//! Actions on single members: restart, reload, reinitialize, and taking back what was scheduled.

use std::time::Duration;

use hyper::Method;
use serde_json::{Map, Value, json};

use super::args::{Flush, OnMembers, Reinit, Restart};
use super::members::Members;
use super::prompt::{Ask, confirm, is_yes, print};
use super::restart_order::{self, Order};
use super::settings::{self, Settings};
use super::{CtlError, list};
use crate::api::types::MemberDocument;
use crate::http::Answer;

/// Beyond the longest that a member waits for its server.
const RESTART_LIMIT: Duration = Duration::from_secs(7300);
const SHORT_LIMIT: Duration = Duration::from_secs(70);

/// A clone may take hours; a day is somebody's mistake.
const CLONE_LIMIT: Duration = Duration::from_secs(24 * 3600);
const CLONE_POLL: Duration = Duration::from_secs(2);

pub async fn restart(settings: &Settings, options: &Restart) -> Result<(), CtlError> {
    let members = Members::find(settings).await?;
    let mut chosen = choose(&members, &options.on.members)?;
    if options.pending {
        chosen.retain(|member| member.pending_restart == Some(Value::Bool(true)));
    }
    let schedule = options.scheduled.as_deref().map(settings::with_offset).transpose()?;
    if schedule.is_some() && members.cluster.pause == Some(true) {
        return Err(CtlError::Refused("Can't schedule restart in the paused state".into()));
    }
    let action = if schedule.is_some() { "schedule a restart of" } else { "restart" };
    agree(&members, &chosen, action, "Aborted restart", Ask::from(options.on.force))?;
    let mut body = Map::new();
    let fields = [("schedule", &schedule), ("postgres_version", &options.pg_version), ("timeout", &options.timeout)];
    for (name, value) in fields {
        body.extend(value.iter().map(|value| (name.to_owned(), Value::from(value.clone()))));
    }
    if options.pending {
        body.insert("restart_pending".into(), true.into());
    }
    let body = Value::Object(body);
    let mut results = Results::default();
    let order = restart_order::arrange(&mut chosen);
    for (at, member) in chosen.iter().enumerate() {
        if order == Order::LeaderFirst && at == 1 && schedule.is_none() {
            restart_order::lowered_everywhere(&members, chosen[0], &chosen[1..]).await;
        }
        let answer = members.ask(member, Method::POST, "/restart", Some(&body), RESTART_LIMIT).await;
        results.take(&member.name, answer, |name, answer| match answer.code {
            200 => Ok(format!("Success: restart on member {name}")),
            202 => Ok(format!("Success: restart scheduled on member {name}")),
            409 => Err(format!("Failed: another restart is already scheduled on member {name}")),
            code => Err(format!("Failed: restart for member {name}, status code={code}, ({})", answer.text())),
        });
    }
    results.finish()
}

pub async fn reload(settings: &Settings, options: &OnMembers) -> Result<(), CtlError> {
    let members = Members::find(settings).await?;
    let chosen = choose(&members, &options.members)?;
    agree(&members, &chosen, "reload", "Aborted reload", Ask::from(options.force))?;
    let mut results = Results::default();
    for member in chosen {
        let answer = members.ask(member, Method::POST, "/reload", None, SHORT_LIMIT).await;
        results.take(&member.name, answer, |name, answer| match answer.code {
            200 => Ok(format!("No changes to apply on member {name}")),
            202 => Ok(format!("Reload request received for member {name} and will be processed at once")),
            code => Err(format!("Failed: reload for member {name}, status code={code}, ({})", answer.text())),
        });
    }
    results.finish()
}

pub async fn reinitialize(settings: &Settings, options: &Reinit) -> Result<(), CtlError> {
    let members = Members::find(settings).await?;
    let chosen = choose(&members, &options.members)?;
    if chosen.iter().any(|member| member.is_leader()) {
        return Err(CtlError::Refused("No replica among provided members".into()));
    }
    agree(&members, &chosen, "reinitialize", "Aborted reinitialize", Ask::from(options.force))?;
    let mut results = Results::default();
    let mut started = Vec::new();
    for member in chosen {
        let ask = |force: bool| {
            let body = json!({ "force": force, "from_leader": options.from_leader });
            let members = &members;
            async move { members.ask(member, Method::POST, "/reinitialize", Some(&body), SHORT_LIMIT).await }
        };
        let mut answer = ask(options.force).await;
        let is_busy = answer.as_ref().is_ok_and(|answer| answer.text().ends_with(" already in progress"));
        if is_busy && !options.force {
            print(&answer.as_ref().map(Answer::text).unwrap_or_default());
            if is_yes("Do you want to cancel it and reinitialize anyway?") {
                answer = ask(true).await;
            }
        }
        let accepted = results.take(&member.name, answer, |name, answer| match answer.code {
            200..400 => Ok(format!("Success: reinitialize for member {name}")),
            code => Err(format!("Failed: reinitialize for member {name}, status code={code}, ({})", answer.text())),
        });
        started.extend(accepted.is_some().then_some(member));
    }
    if options.wait && !started.is_empty() {
        wait_for_clones(&members, started).await?;
    }
    results.finish()
}

async fn wait_for_clones(members: &Members, mut cloning: Vec<&MemberDocument>) -> Result<(), CtlError> {
    let names: Vec<&str> = cloning.iter().map(|member| member.name.as_str()).collect();
    print(&format!("Waiting for reinitialize to complete on: {}", names.join(", ")));
    let waiting = async {
        while !cloning.is_empty() {
            tokio::time::sleep(CLONE_POLL).await;
            let mut rest = Vec::new();
            for member in cloning {
                let answer = members.ask(member, Method::GET, "/patroni", None, SHORT_LIMIT).await;
                let state =
                    answer.ok().and_then(|answer| answer.json()).and_then(|status| status.get("state").cloned());
                match state {
                    Some(state) if state != "creating replica" => {
                        print(&format!("Reinitialize is completed on: {}", member.name));
                    }
                    // A member that does not answer for a moment is still at it.
                    Some(_) | None => rest.push(member),
                }
            }
            cloning = rest;
        }
    };
    let late = |_| CtlError::Unknown(format!("the copy was not complete after {CLONE_LIMIT:?}"));
    tokio::time::timeout(CLONE_LIMIT, waiting).await.map_err(late)
}

pub async fn flush(settings: &Settings, what: Flush) -> Result<(), CtlError> {
    let members = Members::find(settings).await?;
    match what {
        Flush::Switchover => {
            let answer = members.ask_first(members.leader(), Method::DELETE, "/switchover", None, SHORT_LIMIT).await?;
            match answer.code {
                200 => print("Success: scheduled switchover deleted"),
                404 => return Err(CtlError::Refused("no switchover is scheduled".into())),
                code => return Err(CtlError::Refused(format!("Failed: {code}, {}", answer.text()))),
            }
            Ok(())
        }
        Flush::Restart { members: names } => {
            let chosen = choose(&members, &names)?;
            let mut results = Results::default();
            for member in chosen {
                if member.scheduled_restart.is_none() {
                    print(&format!("No scheduled restart for member {}", member.name));
                    continue;
                }
                let answer = members.ask(member, Method::DELETE, "/restart", None, SHORT_LIMIT).await;
                results.take(&member.name, answer, |name, answer| match answer.code {
                    200 | 404 => Ok(format!("Success: flush scheduled restart for member {name}")),
                    code => Err(format!("Failed: restart for member {name}, status code={code}, ({})", answer.text())),
                });
            }
            results.finish()
        }
    }
}

/// The members named, or all.
fn choose<'a>(members: &'a Members, names: &[String]) -> Result<Vec<&'a MemberDocument>, CtlError> {
    let scope = &members.cluster.scope;
    if members.cluster.members.is_empty() {
        return Err(CtlError::Refused(format!("{scope} cluster doesn't have any members")));
    }
    if names.is_empty() {
        return Ok(members.cluster.members.iter().collect());
    }
    let unknown = |name: &String| CtlError::Refused(format!("{name} is not a member of cluster"));
    names.iter().map(|name| members.named(name).ok_or_else(|| unknown(name))).collect()
}

fn agree(members: &Members, chosen: &[&MemberDocument], action: &str, refusal: &str, ask: Ask) -> Result<(), CtlError> {
    if ask == Ask::First {
        print(&list::pretty(members, list::Extended::IfUsed));
    }
    let names: Vec<&str> = chosen.iter().map(|member| member.name.as_str()).collect();
    confirm(ask, &format!("Are you sure you want to {action} members {}?", names.join(", ")), refusal)
}

/// What became of several members; the worst decides the exit code.
#[derive(Default)]
struct Results {
    failures: Vec<String>,
    unknown: Vec<String>,
    unreachable: Vec<String>,
}

impl Results {
    /// Prints a success; `None`: it was none.
    fn take(
        &mut self,
        name: &str,
        answer: Result<Answer, CtlError>,
        judge: impl Fn(&str, &Answer) -> Result<String, String>,
    ) -> Option<()> {
        match answer.map(|answer| judge(name, &answer)) {
            Ok(Ok(success)) => {
                print(&success);
                return Some(());
            }
            Ok(Err(failure)) => self.failures.push(failure),
            Err(error) if error.exit_code() == 3 => self.unknown.push(format!("member {name}: {error}")),
            Err(error) => self.unreachable.push(format!("member {name}: {error}")),
        }
        None
    }

    fn finish(self) -> Result<(), CtlError> {
        let Results { failures, unknown, unreachable } = self;
        let all = [&failures[..], &unknown[..], &unreachable[..]].concat().join("\n");
        match (failures.is_empty(), unknown.is_empty(), unreachable.is_empty()) {
            (true, true, true) => Ok(()),
            (true, true, false) => Err(CtlError::Unreachable(all)),
            (true, false, _) => Err(CtlError::Unknown(all)),
            (false, _, _) => Err(CtlError::Refused(all)),
        }
    }
}
