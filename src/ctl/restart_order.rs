//! In which order members are restarted: parameters that a standby needs at least as large as its primary has them are
//! raised on the standbys first, and lowered there last.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use super::members::Members;
use crate::api::types::MemberDocument;

const PARAMETERS: [&str; 5] = [
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
];

/// How long standbys may take to hear of the lower value. After that they keep the higher one until their next restart.
const REPLAY_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(500);
const ASK_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    LeaderLast,
    /// The leader only lowers such parameters.
    LeaderFirst,
}

/// Puts the members into their order.
pub fn arrange(members: &mut [&MemberDocument]) -> Order {
    let leader = members.iter().find(|member| member.is_leader());
    let changes = leader.map(|leader| changes(leader.pending_restart_reason.as_ref())).unwrap_or_default();
    let is_lowered = changes.iter().any(|(old, new)| new < old) && !changes.iter().any(|(old, new)| new > old);
    let order = if is_lowered { Order::LeaderFirst } else { Order::LeaderLast };
    members.sort_by_key(|member| member.is_leader() == (order == Order::LeaderLast));
    order
}

/// The old and the new values of such parameters.
fn changes(reason: Option<&Value>) -> Vec<(i64, i64)> {
    let number = |change: &Value, when: &str| change.get(when)?.as_str()?.parse().ok();
    let change = |name| {
        let change = reason?.get(name)?;
        Some((number(change, "old_value")?, number(change, "new_value")?))
    };
    PARAMETERS.into_iter().filter_map(change).collect()
}

/// Until the standbys have replayed what the leader has said of its parameters at its start.
pub async fn lowered_everywhere(members: &Members, leader: &MemberDocument, standbys: &[&MemberDocument]) {
    let waiting = async {
        let Some(told) = position(members, leader, "location").await else { return };
        for standby in standbys {
            while position(members, standby, "replayed_location").await.is_none_or(|replayed| replayed < told) {
                tokio::time::sleep(POLL).await;
            }
        }
    };
    let _ = tokio::time::timeout(REPLAY_LIMIT, waiting).await;
}

async fn position(members: &Members, member: &MemberDocument, which: &str) -> Option<u64> {
    let answer = members.ask(member, Method::GET, "/patroni", None, ASK_LIMIT).await.ok()?;
    answer.json()?.get("xlog")?.get(which)?.as_u64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn member(name: &str, role: &str, reason: Value) -> MemberDocument {
        let document = json!({"name": name, "role": role, "state": "running", "pending_restart_reason": reason});
        serde_json::from_value(document).expect("a member")
    }

    fn order(reason: Value) -> (Order, String) {
        let all = [
            member("a", "replica", json!({"max_connections": {"old_value": "9", "new_value": "10"}})),
            member("b", "leader", reason),
            member("c", "replica", Value::Null),
        ];
        let mut members: Vec<&MemberDocument> = all.iter().collect();
        let order = arrange(&mut members);
        (order, members.iter().map(|member| member.name.as_str()).collect())
    }

    fn change(old: &str, new: &str) -> Value {
        json!({"old_value": old, "new_value": new})
    }

    #[test]
    fn the_leader_comes_first_only_where_it_lowers() {
        let cases = [
            (Value::Null, Order::LeaderLast, "acb"),
            (json!({"max_connections": change("100", "120")}), Order::LeaderLast, "acb"),
            (json!({"max_connections": change("100", "90")}), Order::LeaderFirst, "bac"),
            (json!({"shared_buffers": change("128MB", "64MB")}), Order::LeaderLast, "acb"),
            (
                json!({"max_connections": change("100", "90"), "max_wal_senders": change("10", "12")}),
                Order::LeaderLast,
                "acb",
            ),
            (
                json!({"max_wal_senders": change("12", "10"), "wal_level": change("replica", "logical")}),
                Order::LeaderFirst,
                "bac",
            ),
            (json!({"max_connections": change("?", "90")}), Order::LeaderLast, "acb"),
        ];
        for (reason, expected, names) in cases {
            assert_eq!(order(reason.clone()), (expected, names.to_owned()), "{reason}");
        }
    }
}
