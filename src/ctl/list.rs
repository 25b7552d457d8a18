//! `list`: the members as patronictl shows them. One request to the local member; where none is, and no cluster is named, all
//! clusters that are found.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::CtlError;
use super::args::{Format, List};
use super::members::Members;
use super::prompt::{complain, print};
use super::settings::Settings;
use super::store::Cluster;
use super::table::{Align, Column, draw};
use super::yaml;
use crate::api::types::{ClusterDocument, MemberDocument};
use crate::http::json;

/// Whether the last four columns are shown where nobody has a value for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    IfUsed,
    Always,
}

pub async fn run(settings: &Settings, options: &List) -> Result<(), CtlError> {
    let extended = if options.extended { Extended::Always } else { Extended::IfUsed };
    let (mut clusters, mut failure) = (Vec::new(), None);
    for cluster in settings.clusters().await? {
        match Members::find(&cluster).await {
            Ok(members) => clusters.push(Cluster { document: members.cluster, system_id: members.system_id }),
            Err(error) => {
                // Those that can be read are shown all the same; the last failure is the command's.
                if let Some(earlier) = failure.replace(error) {
                    complain(&earlier.to_string());
                }
            }
        }
    }
    if !clusters.is_empty() {
        print(&text(&clusters, options.format, extended));
    }
    failure.map_or(Ok(()), Err)
}

pub fn text(clusters: &[Cluster], format: Format, extended: Extended) -> String {
    let documents: Vec<&ClusterDocument> = clusters.iter().map(|cluster| &cluster.document).collect();
    match format {
        Format::Pretty => {
            let tables =
                clusters.iter().map(|cluster| table(&cluster.document, cluster.system_id.as_deref(), extended));
            tables.collect::<Vec<_>>().join("\n")
        }
        Format::Tsv => tsv(&documents, extended),
        Format::Json => json::text(&Value::from(objects(&documents))),
        Format::Yaml => yaml::block(&Value::from(objects(&documents))),
    }
}

/// One member's row. Empty texts are what nobody knows or has.
struct Row {
    cluster: String,
    member: String,
    host: String,
    role: String,
    state: String,
    timeline: Value,
    receive: Position,
    replay: Position,
    pending: &'static str,
    reasons: Vec<String>,
    scheduled: String,
    tags: Option<Value>,
}

#[derive(Default)]
struct Position {
    lsn: String,
    /// Mebibytes.
    lag: Option<u64>,
}

impl Position {
    /// The leader has none.
    fn of(lsn: Option<&Value>, lag: Option<&Value>) -> Self {
        let lag = lag.and_then(Value::as_u64).map(|bytes| (bytes as f64 / 1_048_576.0).round_ties_even() as u64);
        Position { lsn: lsn.and_then(Value::as_str).unwrap_or_default().to_owned(), lag }
    }

    fn lag_text(&self) -> String {
        self.lag.map(|lag| lag.to_string()).unwrap_or_default()
    }
}

fn rows(cluster: &ClusterDocument) -> Vec<Row> {
    let hosts: BTreeSet<_> = cluster.members.iter().filter_map(|member| member.host.as_deref()).collect();
    let with_host = cluster.members.iter().filter(|member| member.host.is_some()).count();
    let other_port = cluster.members.iter().any(|member| member.port.is_some_and(|port| port != 5432));
    let shows_port = other_port || hosts.len() < with_host;
    let row = |member: &MemberDocument| Row {
        cluster: cluster.scope.clone(),
        member: member.name.clone(),
        host: match (&member.host, member.port) {
            (Some(host), Some(port)) if shows_port => format!("{host}:{port}"),
            (host, _) => host.clone().unwrap_or_default(),
        },
        role: title_case(&member.role),
        state: member.state.clone(),
        timeline: member.timeline.clone().unwrap_or_default(),
        receive: Position::of(member.receive_lsn.as_ref(), member.receive_lag.as_ref()),
        replay: Position::of(member.replay_lsn.as_ref(), member.replay_lag.as_ref()),
        pending: if member.pending_restart == Some(Value::Bool(true)) { "*" } else { "" },
        reasons: reasons(member.pending_restart_reason.as_ref()),
        scheduled: scheduled(member.scheduled_restart.as_ref()),
        tags: member.tags.clone().filter(|tags| tags.as_object().is_some_and(|tags| !tags.is_empty())),
    };
    cluster.members.iter().map(row).collect()
}

/// `sync_standby` is `Sync Standby`.
fn title_case(role: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    };
    role.split('_').map(capital).collect::<Vec<_>>().join(" ")
}

fn reasons(reasons: Option<&Value>) -> Vec<String> {
    let text = |value: Option<&Value>| value.map(plain).unwrap_or_default();
    let reasons = reasons.and_then(Value::as_object).into_iter().flatten();
    reasons
        .map(|(name, change)| format!("{name}: {}->{}", text(change.get("old_value")), text(change.get("new_value"))))
        .collect()
}

fn scheduled(restart: Option<&Value>) -> String {
    let field = |name: &str| restart.and_then(|restart| restart.get(name)).and_then(Value::as_str);
    match (field("schedule"), field("postgres_version")) {
        (Some(at), Some(version)) => format!("{at} if version < {version}"),
        (Some(at), None) => at.to_owned(),
        (None, _) => String::new(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub fn pretty(members: &Members, extended: Extended) -> String {
    table(&members.cluster, members.system_id.as_deref(), extended)
}

fn table(cluster: &ClusterDocument, system_id: Option<&str>, extended: Extended) -> String {
    let rows = rows(cluster);
    let left = |title| Column { title, align: Align::Left };
    let right = |title| Column { title, align: Align::Right };
    let mut columns = vec![left("Member"), left("Host"), left("Role"), left("State"), right("TL")];
    columns.extend([right("Receive LSN"), right("Lag"), right("Replay LSN"), right("Lag")]);
    let mut cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let names = [&row.member, &row.host, &row.role, &row.state].map(String::clone);
            let numbers = [plain(&row.timeline), row.receive.lsn.clone(), row.receive.lag_text()];
            names.into_iter().chain(numbers).chain([row.replay.lsn.clone(), row.replay.lag_text()]).collect()
        })
        .collect();
    let mut add = |title, value: &dyn Fn(&Row) -> String| {
        if extended == Extended::Always || rows.iter().any(|row| !value(row).is_empty()) {
            columns.push(left(title));
            cells.iter_mut().zip(&rows).for_each(|(cells, row)| cells.push(value(row)));
        }
    };
    add("Pending restart", &|row| row.pending.to_owned());
    add("Pending restart reason", &|row| {
        row.reasons.iter().map(|reason| shortened(reason)).collect::<Vec<_>>().join("\n")
    });
    add("Scheduled restart", &|row| row.scheduled.clone());
    add("Tags", &|row| row.tags.as_ref().map(|tags| yaml::block(tags).trim_end().to_owned()).unwrap_or_default());
    let id = system_id.map(|id| format!(" ({id})")).unwrap_or_default();
    let title = format!("Cluster: {}{id}", cluster.scope);
    let table = draw(&title, &columns, &cells);
    [vec![table], footer(cluster)].concat().join("\n")
}

fn shortened(reason: &str) -> String {
    match reason.split_once(": ") {
        Some((name, _)) if reason.chars().count() > 50 => format!("{name}: [hidden - too long]"),
        Some(_) | None => reason.to_owned(),
    }
}

fn footer(cluster: &ClusterDocument) -> Vec<String> {
    let mut lines = Vec::new();
    if cluster.pause == Some(true) {
        lines.push(" Maintenance mode: on".to_owned());
    }
    if let Some(switchover) = &cluster.scheduled_switchover {
        lines.push(format!(" Switchover scheduled at: {}", switchover.at));
        for (label, name) in [("from", &switchover.from), ("to", &switchover.to)] {
            lines.extend(name.iter().map(|name| format!("{label:>24}: {name}")));
        }
    }
    lines
}

fn tsv(clusters: &[&ClusterDocument], extended: Extended) -> String {
    let rows: Vec<Row> = clusters.iter().flat_map(|cluster| rows(cluster)).collect();
    let mut titles = vec!["Cluster", "Member", "Host", "Role", "State", "TL"];
    titles.extend(["Receive LSN", "Receive Lag", "Replay LSN", "Replay Lag"]);
    let mut lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let names = [&row.cluster, &row.member, &row.host, &row.role, &row.state].map(String::clone);
            let numbers = [plain(&row.timeline), row.receive.lsn.clone(), row.receive.lag_text()];
            names.into_iter().chain(numbers).chain([row.replay.lsn.clone(), row.replay.lag_text()]).collect()
        })
        .collect();
    let mut add = |title, value: &dyn Fn(&Row) -> String| {
        if extended == Extended::Always || rows.iter().any(|row| !value(row).is_empty()) {
            titles.push(title);
            lines.iter_mut().zip(&rows).for_each(|(cells, row)| cells.push(value(row)));
        }
    };
    add("Pending restart", &|row| row.pending.to_owned());
    add("Pending restart reason", &|row| row.reasons.join(", "));
    add("Scheduled restart", &|row| row.scheduled.clone());
    add("Tags", &|row| row.tags.as_ref().map(yaml::flow).unwrap_or_default());
    let lines = lines.into_iter().map(|cells| cells.join("\t"));
    [titles.join("\t")].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

/// For json and yaml: what prints empty is left out.
fn objects(clusters: &[&ClusterDocument]) -> Vec<Value> {
    let object = |row: Row| {
        let position = |position: Position| (Value::from(position.lsn), position.lag.map_or(Value::Null, Value::from));
        let ((receive_lsn, receive_lag), (replay_lsn, replay_lag)) = (position(row.receive), position(row.replay));
        let fields = [
            ("Cluster", Value::from(row.cluster)),
            ("Member", row.member.into()),
            ("Host", row.host.into()),
            ("Role", row.role.into()),
            ("State", row.state.into()),
            ("TL", row.timeline),
            ("Receive LSN", receive_lsn),
            ("Receive Lag", receive_lag),
            ("Replay LSN", replay_lsn),
            ("Replay Lag", replay_lag),
            ("Pending restart", row.pending.into()),
            ("Pending restart reason", row.reasons.join("\n").into()),
            ("Scheduled restart", row.scheduled.into()),
            ("Tags", row.tags.unwrap_or_default()),
        ];
        let known = fields.into_iter().filter(|(_, value)| !value.is_null() && value != "");
        Value::Object(known.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
    };
    clusters.iter().flat_map(|cluster| rows(cluster)).map(object).collect()
}

#[cfg(test)]
mod tests;
