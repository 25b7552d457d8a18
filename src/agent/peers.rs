//! The other members, asked over HTTP for what they know of themselves. The client is a trait because tests put the
//! asked members into the same process.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use serde_json::Value;

use super::clock::Clock;
use crate::core::failsafe::{Vouch, Vouchers};
use crate::core::observation::{PeerAnswer, PeerReport, PeerReports, PeerRole, PeerStatus, PeerWatchdog};
use crate::core::units::{Lsn, MemberName, Timeline};
use crate::dcs::codec;

/// GET requests to other members.
pub trait PeerClient: Send + Sync + 'static {
    /// The answer with its body as JSON (null when it is none), whatever its status; `None`: no answer in time.
    fn get<'a>(&'a self, url: &'a str, limit: Duration) -> BoxFuture<'a, Option<PeerReply>>;

    /// `POST /failsafe` on the member whose `api_url` this is.
    fn vouch<'a>(&'a self, url: &'a str, body: &'a Value, limit: Duration) -> BoxFuture<'a, Vouch>;
}

#[derive(Clone, Debug, PartialEq)]
pub struct PeerReply {
    pub status: u16,
    pub body: Value,
}

/// One member to be asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) name: MemberName,
    /// `None`: it has not said where; counts as unreachable.
    pub(super) api_url: Option<String>,
    pub(super) limit: Duration,
}

/// Asks all of them at once; ends when the last one has answered or run out of its time.
pub(super) async fn ask_all(client: &dyn PeerClient, clock: &dyn Clock, asked: Vec<Asked>) -> PeerReports {
    let asked_at = clock.now();
    let questions = asked.into_iter().map(async |peer| {
        let reply = match &peer.api_url {
            Some(url) => tokio::time::timeout(peer.limit, client.get(url, peer.limit)).await.ok().flatten(),
            None => None,
        };
        let status = reply.and_then(|reply| peer_status(&peer.name, &reply.body));
        let answer = status.map_or(PeerAnswer::Unreachable, PeerAnswer::Status);
        tracing::debug!(member = %peer.name, ?answer, "asked");
        (peer.name, PeerReport { asked_at, answer })
    });
    join_all(questions).await.into_iter().collect::<BTreeMap<_, _>>()
}

/// Asks all of them to vouch for us.
pub(super) async fn ask_to_vouch(
    client: &dyn PeerClient,
    clock: &dyn Clock,
    members: BTreeMap<MemberName, Option<String>>,
    body: &Value,
    limit: Duration,
) -> Vouchers {
    let asked_at = clock.now();
    let questions = members.into_iter().map(async |(name, url)| {
        let vouch = match &url {
            Some(url) => tokio::time::timeout(limit, client.vouch(url, body, limit)).await.unwrap_or(Vouch::NoAnswer),
            None => Vouch::NoAnswer,
        };
        if vouch != Vouch::Accepted {
            tracing::warn!("{name} does not accept this leader in failsafe mode: {vouch:?}");
        }
        (name, vouch)
    });
    Vouchers { asked_at, answers: join_all(questions).await.into_iter().collect() }
}

/// A member's status document. Without `xlog` the member counts as not reachable.
pub(super) fn peer_status(name: &MemberName, body: &Value) -> Option<PeerStatus> {
    let xlog = body.get("xlog")?.as_object()?;
    let position = |field: &str| xlog.get(field).and_then(Value::as_u64);
    let says_primary = matches!(body.get("role").and_then(Value::as_str), Some("primary" | "master"));
    let location = position("location");
    let received = position("received_location").max(position("replayed_location"));
    Some(PeerStatus {
        role: if location.is_some() || says_primary { PeerRole::Primary } else { PeerRole::Standby },
        position: Lsn(location.or(received).unwrap_or(0)),
        timeline: body.get("timeline").and_then(Value::as_u64).and_then(timeline),
        began: body.pointer("/tamada/timeline_began").and_then(Value::as_u64).map(Lsn),
        is_abandoned: body.pointer("/tamada/timeline_abandoned").and_then(Value::as_bool).unwrap_or(false),
        tags: codec::member_of(name.clone(), body).tags,
        watchdog: match body.get("watchdog_failed") {
            Some(Value::Bool(true)) => PeerWatchdog::Failed,
            Some(_) | None => PeerWatchdog::Fine,
        },
    })
}

fn timeline(number: u64) -> Option<Timeline> {
    u32::try_from(number).ok().filter(|number| *number > 0).map(Timeline)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::view::Tags;

    fn status(body: Value) -> Option<PeerStatus> {
        peer_status(&"n2".into(), &body)
    }

    #[test]
    fn a_standby_counts_by_the_larger_of_received_and_replayed() {
        let seen = status(json!({
            "state": "running", "role": "replica", "timeline": 3, "tags": {"nofailover": true},
            "tamada": {"timeline_began": 90, "timeline_abandoned": true},
            "xlog": {"received_location": 100, "replayed_location": 120, "paused": false},
        }));
        let expected = PeerStatus {
            role: PeerRole::Standby,
            position: Lsn(120),
            timeline: Some(Timeline(3)),
            began: Some(Lsn(90)),
            is_abandoned: true,
            tags: Tags { failover_priority: 0, ..Tags::default() },
            watchdog: PeerWatchdog::Fine,
        };
        assert_eq!(seen, Some(expected));
    }

    #[test]
    fn a_member_of_patroni_says_nothing_of_where_its_timeline_began() {
        let seen = status(json!({"role": "replica", "timeline": 3, "xlog": {"received_location": 100}}));
        assert_eq!(seen.map(|status| (status.began, status.is_abandoned)), Some((None, false)));
    }

    #[test]
    fn a_location_or_the_role_makes_a_primary() {
        let by_location = status(json!({"role": "replica", "xlog": {"location": 7}})).unwrap();
        assert_eq!((by_location.role, by_location.position), (PeerRole::Primary, Lsn(7)));
        let by_role = status(json!({"role": "master", "xlog": {}})).unwrap();
        assert_eq!((by_role.role, by_role.position), (PeerRole::Primary, Lsn(0)));
    }

    #[test]
    fn without_positions_a_member_counts_as_unreachable() {
        assert_eq!(status(json!({"state": "starting", "role": "replica"})), None);
        assert_eq!(status(json!("busy")), None);
    }

    #[test]
    fn a_failed_watchdog_is_seen() {
        let seen = status(json!({"role": "replica", "xlog": {"received_location": 1}, "watchdog_failed": true}));
        assert_eq!(seen.map(|status| status.watchdog), Some(PeerWatchdog::Failed));
    }
}
