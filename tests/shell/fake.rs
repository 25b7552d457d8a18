//! The agent's door to a fake server: what each operation takes and what it does to the state.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tamada::config::Config;
use tamada::core::local::{
    CloneSource, ClusterState, Control, Data, DataDir, LastRole, Postgres, PrimaryFacts, RecoverySignal, Replay,
    Running, StandbyFacts, StartAs, StopMode, Upstream,
};
use tamada::core::observation::Divergence;
use tamada::core::slots::{Brought, SlotsWanted};
use tamada::core::standby_names::StandbyNames;
use tamada::core::units::{Lsn, SystemId, Timeline};
use tamada::core::view::{Address, HistoryEntry, ReplicationState};
use tamada::postgres::{DesiredServer, Force, Instance, PostgresError, Probe, Progress, ServerFacts};
use tokio::time::sleep;

use crate::server::{Files, PrePromote, ProbeMode, Run, Server, divergence};
use crate::world::World;

const INITDB: Duration = Duration::from_millis(900);
const CLONE: Duration = Duration::from_millis(1_500);
const PROMOTE: Duration = Duration::from_millis(100);
const FAST_STOP: Duration = Duration::from_millis(150);
const KILL: Duration = Duration::from_millis(20);
/// One node's way to its server.
#[derive(Clone)]
pub struct FakeInstance {
    pub world: World,
    pub name: &'static str,
}

fn failed(attempted: &str, cause: &str) -> PostgresError {
    PostgresError::Failed { attempted: attempted.to_owned(), cause: cause.to_owned() }
}

impl FakeInstance {
    fn with<T>(&self, act: impl FnOnce(&mut Server) -> T) -> T {
        act(self.world.inner().servers.get_mut(self.name).unwrap())
    }

    /// A standby has what its upstream has, as long as that one runs as a primary on a history that contains ours.
    fn stream(&self) {
        let now = self.world.now();
        let mut inner = self.world.inner();
        let Some(upstream) = inner.servers[self.name].upstream() else { return };
        let Some(source) = inner.servers.get(upstream.as_str()).filter(|source| source.is_primary()) else { return };
        let (end, files) = (source.end(now), source.files.clone().unwrap());
        let own = inner.servers.get_mut(self.name).unwrap();
        let mine = own.files.as_mut().unwrap();
        if divergence(mine, &files) == Divergence::None {
            mine.end = end;
            mine.timeline = files.timeline;
            mine.history = files.history;
        }
    }

    fn look(&self) -> Probe {
        self.stream();
        let now = self.world.now();
        self.with(|server| {
            let data = match &server.files {
                None => DataDir::Empty,
                Some(files) => DataDir::Present(Data {
                    system_id: files.system_id,
                    signal: if files.standby { RecoverySignal::Present } else { RecoverySignal::None },
                    control: (!server.is_running()).then_some(Control {
                        state: files.state,
                        timeline: files.timeline,
                        checkpoint: files.end,
                        recovery_end: None,
                        wal_end: None,
                    }),
                }),
            };
            let timeline = server.files.as_ref().map(|files| files.timeline);
            let end = server.end(now);
            let postgres = match &server.run {
                Run::Stopped => Postgres::Stopped,
                Run::Starting { since, role } => Postgres::Starting { since: *since, role: *role },
                Run::Primary { .. } => {
                    Postgres::Running(Running::Primary(PrimaryFacts { timeline: timeline.unwrap(), flushed: end }))
                }
                Run::Standby { upstream } => Postgres::Running(Running::Standby(StandbyFacts {
                    timeline,
                    received: end,
                    replayed: end,
                    upstream: upstream.clone(),
                    replication: Some(ReplicationState::Streaming),
                    replay: Replay::Going,
                })),
            };
            let facts = ServerFacts { pending_restart: server.waiting.clone(), ..ServerFacts::default() };
            Probe { data, postgres, facts }
        })
    }

    fn begin(&self, role: &StartAs) {
        let now = self.world.now();
        self.with(|server| {
            let role = match role {
                StartAs::Primary => LastRole::Primary,
                StartAs::Standby(_) => LastRole::Standby,
            };
            server.run = Run::Starting { since: now, role };
        });
    }
}

impl Instance for FakeInstance {
    async fn probe(&self, _deadline: Duration) -> Probe {
        if self.with(|server| server.probe == ProbeMode::Hangs) {
            pending::<()>().await;
        }
        self.look()
    }

    async fn positions(&self, deadline: Duration) -> Option<Probe> {
        sleep(Duration::from_millis(5)).await;
        match self.with(|server| server.probe) {
            ProbeMode::Answers => Some(self.look()),
            ProbeMode::Hangs => {
                sleep(deadline).await;
                None
            }
        }
    }

    async fn wait_exit(&self) {
        let mut exits = self.with(|server| server.exits.subscribe());
        if self.with(|server| server.is_running()) {
            exits.changed().await.unwrap();
        }
    }

    fn set_config(&self, _config: Arc<Config>) {}

    async fn configure(&self, desired: &DesiredServer, force: Force) -> Result<(), PostgresError> {
        sleep(Duration::from_millis(100)).await;
        self.with(|server| {
            server.configured += 1;
            let waits = desired.server.parameters.get_key_value("max_connections");
            server.waiting = waits.map(|(name, value)| (name.clone(), value.clone())).into_iter().collect();
        });
        if self.with(|server| server.configure_fails) {
            return Err(failed("configure", "as the test wants it"));
        }
        if force == Force::Yes {
            self.world.note(self.name, "reload");
        }
        Ok(())
    }

    async fn bootstrap(&self, _progress: Progress) -> Result<SystemId, PostgresError> {
        sleep(INITDB).await;
        if self.with(|server| server.initdb_fails) {
            return Err(failed("initdb", "as the test wants it"));
        }
        let now = self.world.now();
        let system_id = {
            let mut inner = self.world.inner();
            inner.initdbs += 1;
            SystemId(7_000_000_000_000_000_000 + inner.initdbs)
        };
        self.with(|server| {
            let (timeline, end) = (Timeline(1), Lsn(0x0100_0000));
            server.files = Some(Files {
                system_id,
                timeline,
                history: Vec::new(),
                end,
                standby: false,
                state: ClusterState::InProduction,
                dynamic: None,
            });
            server.run = Run::Primary { since: now, from: end };
        });
        self.world.note(self.name, "bootstrap");
        Ok(system_id)
    }

    async fn set_standby_names(&self, _names: Option<&StandbyNames>) -> Result<(), PostgresError> {
        Ok(())
    }

    async fn wait_standby_lost(&self) {
        pending::<()>().await;
    }

    async fn ensure_roles(&self) -> Result<(), PostgresError> {
        self.world.note(self.name, "roles");
        Ok(())
    }

    async fn clone_from(&self, source: &CloneSource, _progress: Progress) -> Result<(), PostgresError> {
        sleep(CLONE).await;
        let now = self.world.now();
        let copy = {
            let inner = self.world.inner();
            let source = inner.servers.get(source.name.as_str()).filter(|server| server.is_running());
            let source = source.ok_or_else(|| failed("clone", "the source does not answer"))?;
            Files { end: source.end(now), standby: true, ..source.files.clone().unwrap() }
        };
        self.with(|server| server.files = Some(copy));
        self.world.note(self.name, "clone");
        Ok(())
    }

    async fn rewind(&self, leader: &Address, _progress: Progress) -> Result<(), PostgresError> {
        sleep(Duration::from_millis(400)).await;
        let now = self.world.now();
        let copy = {
            let inner = self.world.inner();
            let source = inner.servers.get(leader.host.as_str()).filter(|server| server.is_primary());
            let source = source.ok_or_else(|| failed("rewind", "the leader does not answer"))?;
            Files { end: source.end(now), standby: true, ..source.files.clone().unwrap() }
        };
        self.with(|server| server.files = Some(copy));
        self.world.note(self.name, "rewind");
        Ok(())
    }

    async fn recover(&self) -> Result<(), PostgresError> {
        sleep(Duration::from_millis(300)).await;
        self.with(|server| server.files.as_mut().unwrap().state = ClusterState::ShutDown);
        self.world.note(self.name, "recover");
        Ok(())
    }

    async fn start(&self, role: &StartAs, limit: Duration) -> Result<(), PostgresError> {
        let takes = self.with(|server| server.start_takes);
        self.begin(role);
        sleep(takes.min(limit)).await;
        if takes > limit {
            return Err(PostgresError::TooLong { attempted: "the start".to_owned(), limit });
        }
        let now = self.world.now();
        let started = self.with(|server| {
            if server.start_fails || !server.is_running() {
                server.run = Run::Stopped;
                return Err(failed("start", "as the test wants it"));
            }
            let files = server.files.as_mut().expect("only a server with data is started");
            files.state = ClusterState::InProduction;
            server.run = match role {
                StartAs::Primary => {
                    files.standby = false;
                    Run::Primary { since: now, from: files.end }
                }
                StartAs::Standby(upstream) => {
                    files.standby = true;
                    files.state = ClusterState::InArchiveRecovery;
                    Run::Standby { upstream: upstream.clone() }
                }
            };
            Ok(())
        });
        self.world.note(self.name, if matches!(role, StartAs::Primary) { "start primary" } else { "start standby" });
        started
    }

    async fn stop(&self, mode: StopMode, _limit: Duration) -> Result<Option<Lsn>, PostgresError> {
        let was_primary = self.with(|server| server.is_primary());
        let (takes, clean) = match mode {
            StopMode::CheckpointThenFast | StopMode::Fast => (FAST_STOP, true),
            StopMode::Immediate => (KILL, false),
        };
        sleep(takes).await;
        let now = self.world.now();
        // All standbys that stream receive everything before a clean stop ends.
        if was_primary && clean {
            self.stream_to_all();
        }
        let end = self.with(|server| {
            server.kill(now);
            let files = server.files.as_mut()?;
            if clean {
                files.state = if files.standby { ClusterState::ShutDownInRecovery } else { ClusterState::ShutDown };
            }
            (was_primary && clean).then_some(files.end)
        });
        self.world.note(self.name, "stop");
        Ok(end)
    }

    async fn pre_promote(&self, limit: Duration) -> Result<(), PostgresError> {
        let says = self.with(|server| server.pre_promote);
        self.world.note(self.name, "pre_promote");
        match says {
            PrePromote::AgreesAfter(takes) => {
                sleep(takes).await;
                Ok(())
            }
            PrePromote::Hangs => {
                sleep(limit).await;
                Err(PostgresError::TooLong { attempted: "pre_promote".to_owned(), limit })
            }
            PrePromote::Refuses => Err(failed("pre_promote", "as the test wants it")),
        }
    }

    async fn promote(&self, _limit: Duration) -> Result<(), PostgresError> {
        sleep(PROMOTE).await;
        self.stream();
        let now = self.world.now();
        self.with(|server| {
            let files = server.files.as_mut().unwrap();
            let left = HistoryEntry {
                left: files.timeline,
                at: files.end,
                reason: "no recovery target specified".to_owned(),
                time: Some("2026-11-22T09:00:00+00:00".to_owned()),
                new_leader: None,
            };
            files.history.push(left);
            files.timeline = Timeline(files.timeline.0 + 1);
            files.standby = false;
            files.state = ClusterState::InProduction;
            server.run = Run::Primary { since: now, from: files.end };
        });
        self.world.note(self.name, "promote");
        Ok(())
    }

    async fn follow(&self, upstream: &Upstream) -> Result<(), PostgresError> {
        self.stream();
        self.with(|server| server.run = Run::Standby { upstream: upstream.clone() });
        self.world.note(self.name, "follow");
        Ok(())
    }

    async fn resume_replay(&self) -> Result<(), PostgresError> {
        Ok(())
    }

    async fn checkpoint(&self) -> Result<(), PostgresError> {
        sleep(Duration::from_millis(500)).await;
        self.world.note(self.name, "checkpoint");
        Ok(())
    }

    async fn divergence(&self, leader: &Address, _deadline: Duration) -> Divergence {
        let inner = self.world.inner();
        let mine = inner.servers[self.name].files.as_ref();
        let theirs = inner.servers.get(leader.host.as_str()).filter(|server| server.is_primary());
        match (mine, theirs.and_then(|server| server.files.as_ref())) {
            (Some(mine), Some(theirs)) => divergence(mine, theirs),
            (None, _) | (_, None) => Divergence::Undecided,
        }
    }

    async fn history(&self, _timeline: Timeline) -> Result<Vec<HistoryEntry>, PostgresError> {
        let history = self.with(|server| server.files.as_ref().unwrap().history.clone());
        let takes = self.world.inner().slow_history.get(self.name).copied();
        sleep(takes.unwrap_or_default()).await;
        Ok(history)
    }

    async fn sync_slots(&self, wanted: &SlotsWanted) -> Result<Brought, PostgresError> {
        let slots = wanted.physical.keys().cloned().collect();
        self.with(|server| server.slots = slots);
        Ok(Brought::All)
    }

    async fn save_dynamic(&self, config: &Value) -> Result<(), PostgresError> {
        self.with(|server| server.files.as_mut().unwrap().dynamic = Some(config.clone()));
        Ok(())
    }

    fn load_dynamic(&self) -> Option<Value> {
        self.with(|server| server.files.as_ref().and_then(|files| files.dynamic.clone()))
    }
}

impl FakeInstance {
    fn stream_to_all(&self) {
        let others: Vec<&'static str> = self.world.inner().servers.keys().copied().collect();
        for name in others.into_iter().filter(|name| *name != self.name) {
            FakeInstance { world: self.world.clone(), name }.stream();
        }
    }
}
