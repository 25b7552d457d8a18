//! Decision table 11: whether a request makes sense, before anything is written. Pure.

use serde_json::{Map, Value};

use crate::agent::status::ClusterStatusDocuments;
use crate::api::health::{is_true, sync_mode};
use crate::api::times::{self, Planned};
use crate::core::policy::SyncMode;
use crate::core::units::{MemberName, WallTime};
use crate::core::view::ClusterView;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Switchover,
    Failover,
}

/// The request's fields; empty ones and nulls are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub leader: Option<String>,
    pub candidate: Option<String>,
    scheduled_at: Option<String>,
}

impl Wanted {
    pub fn of(body: &Map<String, Value>) -> Self {
        let field = |name: &str| match body.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()).filter(|text| !text.is_empty()),
            Some(other) => Some(other.to_string()),
        };
        Wanted {
            leader: field("leader"),
            candidate: field("candidate").or_else(|| field("member")),
            scheduled_at: field("scheduled_at"),
        }
    }
}

/// A request that may be written.
#[derive(Debug, PartialEq, Eq)]
pub struct Possible {
    /// A failover that names the leader is a switchover.
    pub kind: Kind,
    pub wanted: Wanted,
    pub schedule: Option<Planned>,
    /// One of these must turn out to be eligible; `None`: nobody is to be asked.
    pub candidates: Option<Vec<MemberName>>,
}

type Refusal = (u16, String);

fn refuse<T>(code: u16, text: &str) -> Result<T, Refusal> {
    Err((code, text.to_owned()))
}

pub fn check(
    asked: Kind,
    wanted: Wanted,
    cluster: &ClusterStatusDocuments,
    now: WallTime,
) -> Result<Possible, Refusal> {
    let paused = cluster.config.as_ref().and_then(|config| config.get("pause")).is_some_and(is_true);
    if asked == Kind::Failover && wanted.candidate.is_none() {
        return refuse(400, "Failover could be performed only to a specific candidate");
    }
    if asked == Kind::Switchover && wanted.leader.is_none() {
        return refuse(400, "Switchover could be performed only from a specific leader");
    }
    let schedule = match &wanted.scheduled_at {
        None => None,
        Some(_) if asked == Kind::Failover => return refuse(400, "Failover can't be scheduled"),
        Some(_) if paused => return refuse(400, "Can't schedule switchover in the paused state"),
        Some(text) => Some(times::plan(text, now).map_err(|bad| bad.answer("switchover"))?),
    };
    if paused && wanted.candidate.is_none() {
        return refuse(400, "Switchover is possible only to a specific candidate in a paused state");
    }
    let kind = if wanted.leader.is_some() { Kind::Switchover } else { asked };
    if wanted.leader == wanted.candidate {
        return refuse(400, "Switchover target and source are the same");
    }
    let candidates = match &schedule {
        Some(_) => None,
        None => Some(candidates(kind, &wanted, &cluster.view, sync_mode(cluster.config.as_ref()))?),
    };
    Ok(Possible { kind, wanted, schedule, candidates })
}

/// Rows 9 to 13: the members of whom one must be eligible.
fn candidates(kind: Kind, wanted: &Wanted, view: &ClusterView, mode: SyncMode) -> Result<Vec<MemberName>, Refusal> {
    let current = view.leader.as_ref().map(|leader| leader.name.as_str());
    if wanted.leader.is_some() && wanted.leader.as_deref() != current {
        return refuse(412, "leader name does not match");
    }
    let synchronous = mode == SyncMode::Priority && view.sync.leader.is_some();
    let in_sync = |name: &str| view.sync.standbys.iter().any(|standby| standby.as_str().eq_ignore_ascii_case(name));
    let members = || view.members.values();
    if let Some(candidate) = &wanted.candidate {
        if kind == Kind::Switchover && synchronous && !in_sync(candidate) {
            return refuse(412, "candidate name does not match with sync_standby");
        }
        let known = members().find(|member| member.name.as_str() == candidate);
        return known.map(|member| vec![member.name.clone()]).ok_or((412, "candidate does not exists".into()));
    }
    if synchronous {
        let standbys: Vec<_> = members().filter(|member| in_sync(member.name.as_str())).collect();
        return match standbys.is_empty() {
            true => refuse(412, "switchover is not possible: can not find sync_standby"),
            false => Ok(standbys.into_iter().map(|member| member.name.clone()).collect()),
        };
    }
    let others = members().filter(|member| Some(member.name.as_str()) != current && member.api_url.is_some());
    let others: Vec<_> = others.map(|member| member.name.clone()).collect();
    match others.is_empty() {
        true => refuse(412, "switchover is not possible: cluster does not have members except leader"),
        false => Ok(others),
    }
}

pub fn no_good_candidates(kind: Kind) -> &'static str {
    match kind {
        Kind::Switchover => "switchover is not possible: no good candidates have been found",
        Kind::Failover => "failover is not possible: no good candidates have been found",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture;
    use crate::core::view::SyncState;
    use serde_json::json;

    fn ask(kind: Kind, body: Value, cluster: &ClusterStatusDocuments) -> Result<Possible, Refusal> {
        check(kind, Wanted::of(body.as_object().expect("an object")), cluster, WallTime(0))
    }

    fn assert_refused(kind: Kind, body: Value, cluster: &ClusterStatusDocuments, code: u16, text: &str) {
        assert_eq!(ask(kind, body.clone(), cluster), Err((code, text.to_owned())), "{body}");
    }

    #[test]
    fn refuses_in_the_order_of_the_table() {
        let cluster = fixture::cluster();
        let cases = [
            (Kind::Failover, json!({"leader": "n0"}), 400, "Failover could be performed only to a specific candidate"),
            (Kind::Failover, json!({"candidate": ""}), 400, "Failover could be performed only to a specific candidate"),
            (
                Kind::Switchover,
                json!({"candidate": "n1"}),
                400,
                "Switchover could be performed only from a specific leader",
            ),
            (Kind::Failover, json!({"candidate": "n1", "scheduled_at": "x"}), 400, "Failover can't be scheduled"),
            (
                Kind::Switchover,
                json!({"leader": "n0", "scheduled_at": "2030-01-01T00:00"}),
                400,
                "Timezone information is mandatory for the scheduled switchover",
            ),
            (
                Kind::Switchover,
                json!({"leader": "n0", "scheduled_at": "1969-01-01T00:00Z"}),
                422,
                "Cannot schedule switchover in the past",
            ),
            (
                Kind::Switchover,
                json!({"leader": "zz", "candidate": "zz"}),
                400,
                "Switchover target and source are the same",
            ),
            (Kind::Switchover, json!({"leader": "n1"}), 412, "leader name does not match"),
            (Kind::Failover, json!({"leader": "n1", "candidate": "n2"}), 412, "leader name does not match"),
            (Kind::Switchover, json!({"leader": "n0", "candidate": "zz"}), 412, "candidate does not exists"),
            (Kind::Failover, json!({"member": "zz"}), 412, "candidate does not exists"),
        ];
        for (kind, body, code, text) in cases {
            assert_refused(kind, body, &cluster, code, text);
        }
    }

    #[test]
    fn paused_clusters_need_a_candidate_and_no_schedule() {
        let mut cluster = fixture::cluster();
        cluster.config = Some(json!({"pause": true}));
        let scheduled = json!({"leader": "n0", "scheduled_at": "nonsense"});
        assert_refused(Kind::Switchover, scheduled, &cluster, 400, "Can't schedule switchover in the paused state");
        let text = "Switchover is possible only to a specific candidate in a paused state";
        assert_refused(Kind::Switchover, json!({"leader": "n0"}), &cluster, 400, text);
        assert!(ask(Kind::Switchover, json!({"leader": "n0", "candidate": "n1"}), &cluster).is_ok());
    }

    #[test]
    fn synchronous_clusters_switch_over_to_synchronous_standbys() {
        let mut cluster = fixture::cluster();
        cluster.config = Some(json!({"synchronous_mode": "on"}));
        cluster.view.sync =
            SyncState { leader: Some("n0".into()), standbys: ["n2".into()].into(), ..SyncState::default() };
        let text = "candidate name does not match with sync_standby";
        assert_refused(Kind::Switchover, json!({"leader": "n0", "candidate": "n1"}), &cluster, 412, text);
        let failover = ask(Kind::Failover, json!({"candidate": "n1"}), &cluster).expect("possible");
        assert_eq!((failover.kind, failover.candidates), (Kind::Failover, Some(vec!["n1".into()])));
        let anybody = ask(Kind::Switchover, json!({"leader": "n0"}), &cluster).expect("possible");
        assert_eq!(anybody.candidates, Some(vec!["n2".into()]));
        cluster.view.sync.standbys.clear();
        let text = "switchover is not possible: can not find sync_standby";
        assert_refused(Kind::Switchover, json!({"leader": "n0"}), &cluster, 412, text);
        cluster.config = Some(json!({"synchronous_mode": "quorum"}));
        let quorum = ask(Kind::Switchover, json!({"leader": "n0"}), &cluster).expect("possible");
        assert_eq!(quorum.candidates.map(|names| names.len()), Some(2));
    }

    #[test]
    fn without_other_members_there_is_nobody_to_switch_to() {
        let mut cluster = fixture::cluster();
        for name in ["n1", "n2"] {
            cluster.view.members.get_mut(&MemberName::from(name)).expect("a member").api_url = None;
        }
        let text = "switchover is not possible: cluster does not have members except leader";
        assert_refused(Kind::Switchover, json!({"leader": "n0", "candidate": null}), &cluster, 412, text);
    }

    #[test]
    fn a_schedule_is_taken_without_a_look_at_the_members() {
        let body = json!({"leader": "zz", "candidate": "nobody", "scheduled_at": "2030-01-01T00:00+02:00"});
        let possible = ask(Kind::Switchover, body, &fixture::cluster()).expect("possible");
        assert_eq!(possible.candidates, None);
        assert_eq!(possible.schedule.map(|planned| planned.text).as_deref(), Some("2030-01-01T00:00:00+02:00"));
    }

    #[test]
    fn a_failover_that_names_the_leader_is_a_switchover() {
        let body = json!({"leader": "n0", "candidate": "n1"});
        let possible = ask(Kind::Failover, body, &fixture::cluster()).expect("possible");
        assert_eq!(possible.kind, Kind::Switchover);
        assert_eq!(no_good_candidates(Kind::Failover), "failover is not possible: no good candidates have been found");
    }
}
