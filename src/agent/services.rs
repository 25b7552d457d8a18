//! Answers the API's requests beside the loop: on the loop's thread, but never behind a cycle. What only the loop may
//! do is left in its inbox; everything else is done here.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::inbox::{BEGIN_WITHIN, ForceOut, PendingReinit, PendingRestart, Reload, ScheduledRestart};
use super::mailbox::{
    ConfigChange, ConfigResult, FailsafeAnswer, FailsafeBody, ReinitializeBody, Request, RestartBody, RestartResult,
    SwitchoverDocument, WriteResult, reply,
};
use super::peers::{Asked, ask_all};
use super::shared::Shared;
use super::status::{ClusterStatusDocuments, PostgresStatus};
use crate::config::{self, Dynamic, Patched, is_same_document, objections_to_document, patch};
use crate::core::observation::{PeerAnswer, PeerWatchdog, ReinitRequest, RestartRequest};
use crate::core::units::MemberName;
use crate::dcs::{Content, Dcs, DcsError, Expect, Key, Snapshot, codec};
use crate::postgres::Instance;

/// Requests worked on at a time; the others wait in the mailbox.
const AT_A_TIME: usize = 32;
/// Deadline of a probe; on timeout no position is reported, since an old one would be a stale vote.
const POSITIONS_LIMIT: Duration = Duration::from_secs(1);
/// How long a member may take to say whether it is eligible.
const ELIGIBLE_LIMIT: Duration = Duration::from_secs(2);

/// However long a ttl a primary says that it has.
const LONGEST_PROMISE: Duration = Duration::from_secs(600);

type PositionsAnswer = oneshot::Sender<Option<PostgresStatus>>;

/// Serves until the API's side is gone or the task is aborted.
pub(super) async fn serve<D: Dcs, I: Instance>(shared: Arc<Shared<D, I>>, mut requests: mpsc::Receiver<Request>) {
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    let positions = Arc::new(Positions::default());
    while let Some(request) = requests.recv().await {
        if let Request::Positions(answer) = request {
            positions.clone().join(shared.clone(), answer);
            continue;
        }
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let shared = shared.clone();
        tokio::spawn(async move {
            shared.answer(request).await;
            drop(place);
        });
    }
}

/// Requests for positions share probes: whoever comes while one is under way waits for the next, since a probe that
/// began before the request tells an older position.
#[derive(Default)]
struct Positions {
    /// `None`: no probe is under way.
    waiting: Mutex<Option<Vec<PositionsAnswer>>>,
}

impl Positions {
    fn join<D: Dcs, I: Instance>(self: Arc<Self>, shared: Arc<Shared<D, I>>, answer: PositionsAnswer) {
        let mut waiting = self.waiting.lock().expect("nothing panics while it holds the list");
        match waiting.as_mut() {
            Some(list) => list.push(answer),
            None => {
                *waiting = Some(vec![answer]);
                drop(waiting);
                tokio::spawn(self.probe(shared));
            }
        }
    }

    async fn probe<D: Dcs, I: Instance>(self: Arc<Self>, shared: Arc<Shared<D, I>>) {
        loop {
            let batch = {
                let mut waiting = self.waiting.lock().expect("nothing panics while it holds the list");
                match waiting.as_mut() {
                    Some(list) if !list.is_empty() => std::mem::take(list),
                    Some(_) | None => {
                        *waiting = None;
                        return;
                    }
                }
            };
            let probe = tokio::time::timeout(POSITIONS_LIMIT, shared.instance.positions(POSITIONS_LIMIT)).await;
            let status = probe.ok().flatten().map(|probe| PostgresStatus::of(&probe));
            for answer in batch {
                reply(answer, status.clone());
            }
        }
    }
}

impl<D: Dcs, I: Instance> Shared<D, I> {
    /// Given at once, between two steps of the loop.
    fn vouch(&self, body: FailsafeBody) -> FailsafeAnswer {
        let status = self.status();
        if !status.failsafe.is_on() {
            return FailsafeAnswer::NotEnabled;
        }
        let lasts = body.ttl.map_or(status.timing.ttl, |ttl| status.timing.ttl.max(ttl.min(LONGEST_PROMISE)));
        let leader = status.cluster.as_ref().and_then(|cluster| cluster.view.leader.as_ref());
        let is_anothers = leader.is_some_and(|leader| leader.name != body.name);
        let name = body.name.clone();
        if is_anothers || !self.inbox().promise.give(body.name, body.slots, self.now(), lasts) {
            tracing::warn!("not accepting {name} as the leader in failsafe mode");
            return FailsafeAnswer::Refused;
        }
        tracing::debug!("accepting {name} as the leader in failsafe mode for {lasts:?}");
        FailsafeAnswer::Accepted(status.postgres.received.max(status.postgres.replayed))
    }

    /// One request.
    async fn answer(&self, request: Request) {
        match request {
            Request::Positions(answer) => reply(answer, None),
            Request::Cluster(answer) => reply(answer, self.cluster().await),
            Request::Switchover(document, answer) => reply(answer, self.write_switchover(&document).await),
            Request::ClearSwitchover(answer) => reply(answer, self.clear_switchover().await),
            Request::Config(change, answer) => reply(answer, self.change_config(change).await),
            Request::Restart(body, answer) => self.restart(body, answer),
            Request::CancelRestart(answer) => {
                let cancelled = self.inbox().scheduled.take();
                self.wake.notify_one();
                reply(answer, cancelled.is_some());
            }
            Request::Failsafe(body, answer) => reply(answer, self.vouch(body)),
            Request::Reload => {
                self.inbox().reload = Reload::Asked;
                self.wake.notify_one();
            }
            Request::Reinitialize(body, answer) => reply(answer, self.reinitialize(body)),
            Request::Eligible(names, answer) => reply(answer, self.eligible(names).await),
        }
    }

    fn limit(&self) -> Duration {
        self.status().timing.retry_timeout
    }

    async fn cluster(&self) -> Option<ClusterStatusDocuments> {
        self.dcs.read(self.limit()).await.ok().map(|snapshot| ClusterStatusDocuments::of(&snapshot))
    }

    async fn write_switchover(&self, wanted: &SwitchoverDocument) -> Result<(), String> {
        let SwitchoverDocument { leader, candidate, scheduled_at } = wanted;
        let document = codec::switchover_document(leader.as_deref(), candidate.as_deref(), scheduled_at.as_deref());
        let written = self.dcs.replace(Key::Failover, Content::Json(document), Expect::Anything, self.limit()).await;
        self.wake.notify_one();
        written.map_err(|error| error.to_string())
    }

    async fn clear_switchover(&self) -> WriteResult {
        let snapshot = match self.dcs.read(self.limit()).await {
            Ok(snapshot) => snapshot,
            Err(error) => return WriteResult::Unreachable(error.to_string()),
        };
        let Some(document) = &snapshot.documents.switchover else { return WriteResult::NothingThere };
        if document.value.get("scheduled_at").is_none_or(Value::is_null) {
            return WriteResult::NothingThere;
        }
        let nothing = Content::Json(Value::Object(Map::new()));
        match self.dcs.replace(Key::Failover, nothing, snapshot.expect(Some(document.revision)), self.limit()).await {
            Ok(()) => {
                self.wake.notify_one();
                WriteResult::Done
            }
            Err(DcsError::Conflict { .. }) => WriteResult::Conflict,
            Err(error) => WriteResult::Unreachable(error.to_string()),
        }
    }

    async fn change_config(&self, change: ConfigChange) -> ConfigResult {
        let mut refused = match &change {
            ConfigChange::Merge(body) => Dynamic::problems_of_patch(body),
            ConfigChange::Replace(body) => Dynamic::problems_of(body),
        };
        let read = self.dcs.read(self.limit()).await;
        refused.extend(read.as_ref().map(|snapshot| problems_of_slots(&change, snapshot)).unwrap_or_default());
        if !refused.is_empty() {
            return ConfigResult::Refused(refused);
        }
        let snapshot = match read {
            Ok(snapshot) => snapshot,
            Err(error) => return ConfigResult::Unreachable(error.to_string()),
        };
        let current = snapshot.documents.config.as_ref();
        match change {
            ConfigChange::Replace(body) => {
                let objections = objections_to_document(&body, &snapshot.view);
                if !objections.is_empty() {
                    return ConfigResult::Refused(objections);
                }
                let body = Value::Object(body);
                match current.is_some_and(|current| is_same_document(&current.value, &body)) {
                    true => ConfigResult::Done(body),
                    false => self.write_config(body, Expect::Anything).await,
                }
            }
            ConfigChange::Merge(body) => match current.map(|current| (&current.value, current.revision)) {
                Some((Value::Object(fields), revision)) => match patch(fields, &body) {
                    Patched::Changed(document) => {
                        let objections = objections_to_document(&document, &snapshot.view);
                        if !objections.is_empty() {
                            return ConfigResult::Refused(objections);
                        }
                        self.write_config(Value::Object(document), snapshot.expect(Some(revision))).await
                    }
                    Patched::Same => {
                        self.wake.notify_one();
                        ConfigResult::Done(Value::Object(fields.clone()))
                    }
                },
                Some(_) | None => ConfigResult::Missing,
            },
        }
    }

    async fn write_config(&self, document: Value, expect: Expect) -> ConfigResult {
        match self.dcs.replace(Key::Config, Content::Json(document.clone()), expect, self.limit()).await {
            Ok(()) => {
                self.wake.notify_one();
                ConfigResult::Done(document)
            }
            Err(DcsError::Conflict { .. }) => ConfigResult::Conflict,
            Err(error) => ConfigResult::Unreachable(error.to_string()),
        }
    }

    fn restart(&self, body: RestartBody, answer: oneshot::Sender<RestartResult>) {
        let status = self.status();
        let mut inbox = self.inbox();
        let result = if body.schedule.is_some() {
            match inbox.scheduled {
                Some(_) => RestartResult::AlreadyScheduled,
                None => {
                    let postmaster_start_time = status.postgres.postmaster_start_time.clone();
                    inbox.scheduled = Some(ScheduledRestart { body, postmaster_start_time });
                    RestartResult::Scheduled
                }
            }
        } else if let Some(job) = &status.job {
            RestartResult::Busy(format!("{job} already in progress"))
        } else if inbox.restart.is_some() {
            RestartResult::Busy("restart already in progress".to_owned())
        } else if !body.conditions.are_met(&status.about()) {
            RestartResult::ConditionsNotSatisfied
        } else if status.system_id.is_none() {
            // There are no data that could be served.
            RestartResult::Failed
        } else {
            let request = RestartRequest { timeout: body.timeout };
            let until = self.now() + BEGIN_WITHIN;
            inbox.restart = Some(PendingRestart { request, answer: Some(answer), until });
            self.wake.notify_one();
            return;
        };
        drop(inbox);
        self.wake.notify_one();
        reply(answer, result);
    }

    fn reinitialize(&self, body: ReinitializeBody) -> Result<(), String> {
        let status = self.status();
        let leader = status.cluster.as_ref().and_then(|cluster| cluster.view.leader.as_ref());
        let Some(leader) = leader else {
            return Err("Cluster has no leader, can not reinitialize".to_owned());
        };
        if leader.name == status.name {
            return Err("I am the leader, can not reinitialize".to_owned());
        }
        let mut inbox = self.inbox();
        match &status.job {
            Some(job) if !body.force => return Err(format!("{job} already in progress")),
            Some(_) => inbox.force = ForceOut::CancelJob,
            None => {}
        }
        let request = if body.from_leader { ReinitRequest::FromLeader } else { ReinitRequest::AnySource };
        inbox.reinitialize = Some(PendingReinit { request, until: self.now() + BEGIN_WITHIN });
        self.wake.notify_one();
        Ok(())
    }

    /// Reachable, allowed to become leader, watchdog fine.
    async fn eligible(&self, names: Vec<MemberName>) -> Vec<MemberName> {
        let status = self.status();
        let members = status.cluster.as_ref().map(|cluster| &cluster.view.members);
        let asked = names.into_iter().map(|name| Asked {
            api_url: members.and_then(|members| members.get(&name)).and_then(|member| member.api_url.clone()),
            name,
            limit: ELIGIBLE_LIMIT,
        });
        let reports = ask_all(self.peers.as_ref(), self.clock.as_ref(), asked.collect()).await;
        let eligible = reports.into_iter().filter(|(_, report)| match &report.answer {
            PeerAnswer::Unreachable => false,
            PeerAnswer::Status(status) => !status.tags.is_nofailover() && status.watchdog == PeerWatchdog::Fine,
        });
        eligible.map(|(name, _)| name).collect()
    }
}

/// What is wrong with the slots as they would stand afterwards, where the change is one of slots: what stands there
/// already, in a document of Patroni's, is in the way of no other change.
fn problems_of_slots(change: &ConfigChange, snapshot: &Snapshot) -> Vec<String> {
    let current = snapshot.documents.config.as_ref().and_then(|current| current.value.as_object());
    let document = match (change, current) {
        (ConfigChange::Replace(body), _) => body.clone(),
        (ConfigChange::Merge(body), _) if !config::concerns_slots(body) => return Vec::new(),
        (ConfigChange::Merge(body), Some(fields)) => match patch(fields, body) {
            Patched::Changed(document) => document,
            Patched::Same => return Vec::new(),
        },
        (ConfigChange::Merge(body), None) => body.clone(),
    };
    let members = snapshot.view.members.keys().map(MemberName::slot_name).collect();
    config::problems_of_slots(&document, &members)
}
