//! Member records: ours as we write them, anybody's as we read them.

use serde_json::{Map, Value, json};

use crate::config::HostPort;
use crate::core::policy::Pause;
use crate::core::units::{Lsn, MemberName, Timeline};
use crate::core::view::{Address, AfterPromote, Member, MemberKind, MemberRole, MemberState, ReplicationState, Tags};

/// The version of Patroni that our records and answers match. Patroni's members compare it, so it is integers only.
pub const PATRONI_VERSION: &str = "4.1.5";

/// The field that distinguishes our members from Patroni's.
const OURS: &str = "tamada";

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberRecord {
    pub address: Address,
    /// `http[s]://host:port/patroni`.
    pub api_url: String,
    pub state: MemberState,
    pub role: MemberRole,
    pub proxy: Option<Address>,
    /// `Pending` only while this member holds the lock.
    pub checkpoint: AfterPromote,
    /// As effective; an empty map is left out.
    pub tags: Map<String, Value>,
    /// Parameter to `{"old_value":…,"new_value":…}`; empty: nothing is pending.
    pub pending_restart: Map<String, Value>,
    pub position: Option<Lsn>,
    pub replayed: Option<Lsn>,
    pub received: Option<Lsn>,
    pub replication: Option<ReplicationState>,
    pub timeline: Option<Timeline>,
    pub scheduled_restart: Option<Map<String, Value>>,
    pub pause: Pause,
}

impl MemberRecord {
    /// A record with only what every record has.
    pub fn new(address: Address, api_url: String, state: MemberState, role: MemberRole) -> Self {
        MemberRecord {
            address,
            api_url,
            state,
            role,
            proxy: None,
            checkpoint: AfterPromote::Done,
            tags: Map::new(),
            pending_restart: Map::new(),
            position: None,
            replayed: None,
            received: None,
            replication: None,
            timeline: None,
            scheduled_restart: None,
            pause: Pause::Running,
        }
    }
}

/// The document, its fields in Patroni's order.
pub fn member_record(record: &MemberRecord) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("conn_url", connection_url(&record.address).into());
    put("api_url", record.api_url.as_str().into());
    put("state", record.state.as_str().into());
    put("role", record.role.as_str().into());
    put("version", PATRONI_VERSION.into());
    if let Some(proxy) = &record.proxy {
        put("proxy_url", connection_url(proxy).into());
    }
    if record.checkpoint == AfterPromote::Pending {
        put("checkpoint_after_promote", false.into());
    }
    if !record.tags.is_empty() {
        put("tags", Value::Object(record.tags.clone()));
    }
    if !record.pending_restart.is_empty() {
        put("pending_restart", true.into());
        put("pending_restart_reason", Value::Object(record.pending_restart.clone()));
    }
    let positions =
        [("xlog_location", record.position), ("replay_lsn", record.replayed), ("receive_lsn", record.received)];
    for (name, position) in positions {
        if let Some(position) = position {
            put(name, position.0.into());
        }
    }
    if let Some(replication) = record.replication {
        put("replication_state", replication.as_str().into());
    }
    if let Some(timeline) = record.timeline {
        put("timeline", timeline.0.into());
    }
    if let Some(restart) = &record.scheduled_restart {
        put("scheduled_restart", Value::Object(restart.clone()));
    }
    if record.pause == Pause::Paused {
        put("pause", true.into());
    }
    put(OURS, env!("CARGO_PKG_VERSION").into());
    Value::Object(fields)
}

/// `postgres://host:port/database`, an IPv6 address in brackets.
pub fn connection_url(address: &Address) -> String {
    let Address { host, port, database } = address;
    format!("postgres://{}/{database}", HostPort { host: host.clone(), port: *port })
}

/// The server that a `conn_url` names; user, password and options in it are passed over.
pub fn address_of(url: &str) -> Option<Address> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))?;
    let rest = rest.split(['?', '#']).next()?;
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let HostPort { host, port } = HostPort::parse(authority, Some(5432))?;
    let database = if database.is_empty() { "postgres" } else { database };
    Some(Address { host, port, database: database.to_owned() })
}

/// A member from its record; whatever is missing or of the wrong type counts as not said.
pub fn member_of(name: MemberName, record: &Value) -> Member {
    let text = |field: &str| record.get(field).and_then(Value::as_str);
    let number = |field: &str| integer(record.get(field)?).and_then(|number| u64::try_from(number).ok());
    let address = text("conn_url").and_then(address_of);
    Member {
        kind: if text(OURS).is_some() { MemberKind::Ours } else { MemberKind::Patroni },
        api_url: text("api_url").map(str::to_owned),
        state: text("state").map_or(MemberState::Unknown, MemberState::from_word),
        role: text("role").map_or(MemberRole::Uninitialized, MemberRole::from_word),
        timeline: number("timeline").and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0).map(Timeline),
        position: number("xlog_location").map(Lsn),
        replication: match text("replication_state") {
            Some("streaming") => Some(ReplicationState::Streaming),
            Some("in archive recovery") => Some(ReplicationState::InArchiveRecovery),
            Some(_) | None => None,
        },
        checkpoint: match record.get("checkpoint_after_promote") {
            Some(Value::Bool(false)) => AfterPromote::Pending,
            Some(_) | None => AfterPromote::Done,
        },
        tags: tags_of(record.get("tags").unwrap_or(&Value::Null), address.is_some()),
        address,
        name,
    }
}

/// A value that is no record: a bare connection URL (very old versions), else a member of which nothing is known.
pub(super) fn legacy_member(name: MemberName, value: &str) -> Member {
    let mut member = Member::empty(name);
    if value.starts_with("postgres") {
        member.address = address_of(value);
        member.api_url = value
            .split_once('?')
            .and_then(|(_, query)| query.split('&').find_map(|option| option.strip_prefix("application_name=")))
            .map(str::to_owned);
    }
    member
}

/// The tags that steer decisions, as Patroni interprets them: an explicit `nofailover` or `nosync` wins over the
/// priority beside it.
fn tags_of(tags: &Value, has_address: bool) -> Tags {
    let given = |name: &str| tags.get(name).filter(|value| !value.is_null());
    let is_set = |name: &str| given(name).is_some_and(is_truthy);
    let priority = |name: &str| given(name).and_then(integer);
    let weighed = |never: &str, name: &str| {
        let weight = match (given(never).map(is_truthy), priority(name)) {
            (Some(true), _) => 0,
            (Some(false), priority) => priority.unwrap_or(1).max(1),
            (None, priority) => priority.unwrap_or(1).max(0),
        };
        i32::try_from(weight).unwrap_or(i32::MAX)
    };
    Tags {
        failover_priority: weighed("nofailover", "failover_priority"),
        noloadbalance: is_set("noloadbalance"),
        clonefrom: has_address && is_set("clonefrom"),
        sync_priority: weighed("nosync", "sync_priority"),
        nostream: given("nostream").is_some_and(is_yes),
        replicatefrom: given("replicatefrom")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
            .map(MemberName::from),
    }
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// A boolean word as PostgreSQL and YAML know them.
fn is_yes(value: &Value) -> bool {
    match value {
        Value::String(text) => ["on", "true", "yes", "1"].contains(&text.trim().to_lowercase().as_str()),
        Value::Bool(_) | Value::Number(_) => *value == json!(true) || value.as_f64() == Some(1.0),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// An integer, also when it stands in a string.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
