//! One node: its agent as a task, its handle of the store, its PID 1 that really kills at the deadline, and its API.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};
use tamada::agent::init_link::{FromInit, InitLink};
use tamada::agent::mailbox::Request;
use tamada::agent::peers::{PeerClient, PeerReply};
use tamada::agent::status::Status;
use tamada::agent::{Agent, AgentHandle, Incarnation, Parts, Runtimes};
use tamada::config::{Config, DcsConfig};
use tamada::core::failsafe::Vouch;
use tamada::core::local::{Guard, Postgres, Running};
use tamada::core::lock_seen::LockSeen;
use tamada::core::policy::Timing;
use tamada::core::units::{Instant, MemberName};
use tamada::core::view::ClusterStatus;
use tamada::dcs::memory::{Fault, MemoryDcs};
use tamada::dcs::{Content, Dcs, DcsError, Expect, Key, LeaseToken, Lock, Snapshot};
use tamada::postgres::Instance;
use tamada::wire::watchdog::{WatchdogOrder, WatchdogState};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::fake::FakeInstance;
use crate::server::Server;
use crate::world::World;

/// A handle of the store that the test keeps too.
#[derive(Clone)]
pub struct Handle(pub Arc<MemoryDcs>);

impl Dcs for Handle {
    fn snapshot(&self, deadline: Duration) -> impl Future<Output = Result<Arc<Snapshot>, DcsError>> + Send {
        self.0.snapshot(deadline)
    }
    fn read(&self, deadline: Duration) -> impl Future<Output = Result<Arc<Snapshot>, DcsError>> + Send {
        self.0.read(deadline)
    }
    fn acquire(&self, seen: LockSeen, deadline: Duration) -> impl Future<Output = Result<Lock, DcsError>> + Send {
        self.0.acquire(seen, deadline)
    }
    fn renew(
        &self,
        status: Option<&ClusterStatus>,
        record: Option<&Value>,
        deadline: Duration,
    ) -> impl Future<Output = Result<Lock, DcsError>> + Send {
        self.0.renew(status, record, deadline)
    }
    fn release(
        &self,
        status: Option<&ClusterStatus>,
        record: Option<&Value>,
        deadline: Duration,
    ) -> impl Future<Output = Result<(), DcsError>> + Send {
        self.0.release(status, record, deadline)
    }
    fn publish(&self, record: &Value, deadline: Duration) -> impl Future<Output = Result<(), DcsError>> + Send {
        self.0.publish(record, deadline)
    }
    fn replace(
        &self,
        key: Key,
        content: Content,
        expect: Expect,
        deadline: Duration,
    ) -> impl Future<Output = Result<(), DcsError>> + Send {
        self.0.replace(key, content, expect, deadline)
    }
    fn remove_cluster(&self, deadline: Duration) -> impl Future<Output = Result<(), DcsError>> + Send {
        self.0.remove_cluster(deadline)
    }
    fn wait_for_change(&self, version: u64) -> impl Future<Output = ()> + Send {
        self.0.wait_for_change(version)
    }
    fn ttl_min(&self) -> Duration {
        self.0.ttl_min()
    }
    fn set_timing(&self, timing: Timing) {
        self.0.set_timing(timing);
    }
    fn set_credentials(&self, config: &DcsConfig) {
        self.0.set_credentials(config);
    }
    fn lease(&self) -> Option<LeaseToken> {
        self.0.lease()
    }
    fn lease_after_loss(&self) -> Option<LeaseToken> {
        self.0.lease_after_loss()
    }
}

/// What PID 1 was told, and the timer that makes it come true.
pub struct FakeInit {
    world: World,
    name: &'static str,
    state: Mutex<InitState>,
}

struct InitState {
    guard: Guard,
    lease: Option<LeaseToken>,
    timer: Option<JoinHandle<()>>,
    told: Option<Instant>,
    /// To the agent.
    signals: Option<mpsc::UnboundedSender<FromInit>>,
}

impl FakeInit {
    pub fn guard_now(&self) -> Guard {
        self.state.lock().unwrap().guard
    }

    /// When PID 1 was told something last.
    pub fn told_at(&self) -> Option<Instant> {
        self.state.lock().unwrap().told
    }

    pub fn lease_kept(&self) -> Option<LeaseToken> {
        self.state.lock().unwrap().lease.clone()
    }
}

impl InitLink for FakeInit {
    fn guard(&self, guard: Guard) {
        let mut state = self.state.lock().unwrap();
        state.guard = guard;
        state.told = Some(self.world.now());
        self.world.inner().guards.insert(self.name, guard);
        if let Some(timer) = state.timer.take() {
            timer.abort();
        }
        if let Guard::Until(deadline) = guard {
            let (world, name) = (self.world.clone(), self.name);
            state.timer = Some(tokio::spawn(async move {
                sleep(deadline.left(world.now())).await;
                let running = world.inner().servers[name].is_running();
                if running {
                    let now = world.now();
                    world.inner().servers.get_mut(name).unwrap().kill(now);
                    world.note(name, "fenced");
                }
            }));
        }
    }

    fn postmaster(&self, _pid: Option<i32>) {}

    fn watchdog(&self, order: WatchdogOrder) {
        let device = self.world.inner().watchdogs.get(self.name).copied();
        if device.is_some() && order == WatchdogOrder::Disarm {
            self.world.note(self.name, "disarm");
        }
        let Some(state) = device.and_then(|device| device.answer(order)) else { return };
        let signals = self.state.lock().unwrap().signals.clone();
        self.world
            .note(self.name, if matches!(state, WatchdogState::Armed { .. }) { "keepalive" } else { "no watchdog" });
        // The agent may have ended.
        let _ = signals.map(|signals| signals.send(FromInit::Watchdog(state)));
    }

    fn lease(&self, token: &LeaseToken) {
        self.state.lock().unwrap().lease = Some(token.clone());
    }
}

/// The other nodes' APIs: their servers' states as documents.
struct Peers(World);

impl PeerClient for Peers {
    fn vouch<'a>(&'a self, url: &'a str, _body: &'a Value, limit: Duration) -> BoxFuture<'a, Vouch> {
        async move {
            let host =
                url.strip_prefix("http://").and_then(|rest| rest.split(':').next()).unwrap_or_default().to_owned();
            let is_silent = self.0.inner().silent.iter().any(|name| **name == host);
            if is_silent {
                sleep(limit).await;
            }
            // These nodes have no API of their own: whoever is not silent is taken for a standby.
            if is_silent { Vouch::NoAnswer } else { Vouch::Accepted }
        }
        .boxed()
    }

    fn get<'a>(&'a self, url: &'a str, limit: Duration) -> BoxFuture<'a, Option<PeerReply>> {
        async move {
            let host = url.strip_prefix("http://")?.split(':').next()?.to_owned();
            let name = self.0.inner().servers.keys().find(|name| **name == host).copied();
            let Some(name) = name.filter(|name| !self.0.inner().silent.contains(name)) else {
                sleep(limit).await;
                return None;
            };
            let instance = FakeInstance { world: self.0.clone(), name };
            let probe = instance.positions(limit).await?;
            let body = match probe.postgres {
                Postgres::Running(Running::Primary(facts)) => json!({
                    "state": "running", "role": "primary", "timeline": facts.timeline.0,
                    "xlog": {"location": facts.flushed.0},
                }),
                Postgres::Running(Running::Standby(facts)) => json!({
                    "state": "running", "role": "replica", "timeline": facts.timeline.map(|t| t.0),
                    "xlog": {"received_location": facts.received.0, "replayed_location": facts.replayed.0},
                }),
                Postgres::Stopped | Postgres::Starting { .. } | Postgres::Unresponsive { .. } | Postgres::Stopping => {
                    json!({"state": "stopped", "role": "replica"})
                }
            };
            Some(PeerReply { status: 200, body })
        }
        .boxed()
    }
}

pub struct Node {
    pub name: &'static str,
    world: World,
    config: Config,
    pub dcs: Handle,
    pub init: Arc<FakeInit>,
    handle: AgentHandle,
    agent: JoinHandle<u8>,
    frozen: Arc<AtomicBool>,
}

impl Node {
    /// A node with an empty volume.
    pub fn start(world: &World, name: &'static str) -> Node {
        world.inner().servers.entry(name).or_insert_with(|| Server::new(name));
        Node::start_with(world, crate::settings::config(name))
    }

    pub fn start_with(world: &World, config: Config) -> Node {
        let name = leak(config.name.as_str());
        world.inner().servers.entry(name).or_insert_with(|| Server::new(name));
        let state = InitState { guard: Guard::NoDeadline, lease: None, timer: None, told: None, signals: None };
        let init = Arc::new(FakeInit { world: world.clone(), name, state: Mutex::new(state) });
        let dcs = Handle(Arc::new(MemoryDcs::new(&world.store, MemberName::from(name), Timing::default())));
        let frozen = Arc::new(AtomicBool::new(false));
        let (handle, agent) = run(world, &config, &dcs, &init, Incarnation::First, frozen.clone());
        Node { name, world: world.clone(), config, dcs, init, handle, agent, frozen }
    }

    /// The agent dies; its server runs on and PID 1 starts another one after a while.
    pub async fn restart_agent(&mut self, after: Duration) {
        self.agent.abort();
        sleep(after).await;
        let name = MemberName::from(self.name);
        let lease = self.init.lease_kept();
        self.dcs = Handle(Arc::new(MemoryDcs::resume(&self.world.store, name, Timing::default(), lease.as_ref())));
        let frozen = self.frozen.clone();
        (self.handle, self.agent) = run(&self.world, &self.config, &self.dcs, &self.init, Incarnation::Later, frozen);
    }

    /// The node is gone, as by `docker kill`.
    pub fn die(&mut self) {
        self.agent.abort();
        if let Some(timer) = self.init.state.lock().unwrap().timer.take() {
            timer.abort();
        }
        let now = self.world.now();
        self.world.inner().silent.insert(self.name);
        self.world.inner().servers.get_mut(self.name).unwrap().kill(now);
        self.world.note(self.name, "die");
    }

    /// The agent makes no step any more, but its server runs on and PID 1 watches.
    pub fn freeze(&mut self) {
        self.agent.abort();
        self.world.inner().silent.insert(self.name);
    }

    /// The loop makes no step any more, but the job that it has begun goes on.
    pub fn freeze_loop(&self) {
        self.frozen.store(true, Ordering::Relaxed);
        self.world.inner().silent.insert(self.name);
    }

    pub fn fault(&self, fault: Fault) {
        self.dcs.0.inject(fault);
    }

    pub fn terminate(&self) {
        self.handle.signals.send(FromInit::Terminate).unwrap();
    }

    pub fn reload(&self) {
        self.handle.signals.send(FromInit::Reload).unwrap();
    }

    /// The exit code, once the agent has ended.
    pub async fn ended(&mut self, limit: Duration) -> u8 {
        tokio::time::timeout(limit, &mut self.agent).await.expect("the agent ends in time").unwrap()
    }

    pub fn is_running(&self) -> bool {
        !self.agent.is_finished()
    }

    pub fn status(&self) -> Arc<Status> {
        self.handle.status.borrow().clone()
    }

    /// Whether `/primary` would answer 200 now.
    pub fn says_leader(&self) -> bool {
        self.status().leader_until.is_some_and(|until| self.world.now() < until)
    }

    /// One request of the API's, and its answer.
    pub async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request, limit: Duration) -> T {
        let (answer, answered) = oneshot::channel();
        self.handle.mailbox.send(request(answer)).await.unwrap();
        tokio::time::timeout(limit, answered).await.expect("the request is answered in time").unwrap()
    }

    pub async fn tell(&self, request: Request) {
        self.handle.mailbox.send(request).await.unwrap();
    }

    pub fn server<T>(&self, look: impl FnOnce(&mut Server) -> T) -> T {
        look(self.world.inner().servers.get_mut(self.name).unwrap())
    }

    /// The postmaster is killed.
    pub fn crash(&self) {
        let now = self.world.now();
        self.server(|server| server.kill(now));
        self.world.note(self.name, "crash");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.agent.abort();
    }
}

fn run(
    world: &World,
    config: &Config,
    dcs: &Handle,
    init: &Arc<FakeInit>,
    incarnation: Incarnation,
    frozen: Arc<AtomicBool>,
) -> (AgentHandle, JoinHandle<u8>) {
    let again = config.clone();
    let (mut agent, handle) = Agent::new(Parts {
        config: config.clone(),
        dcs: dcs.clone(),
        instance: FakeInstance { world: world.clone(), name: init.name },
        clock: Arc::new(world.clock),
        peers: Arc::new(Peers(world.clone())),
        init: init.clone(),
        runtimes: Runtimes::current(),
        guard: init.guard_now(),
        incarnation,
        lease_file: None,
        cluster_file: None,
        reread: Box::new(move || Ok(again.clone())),
    });
    init.state.lock().unwrap().signals = Some(handle.signals.clone());
    // As in the real process, the API listens only once the agent is prepared.
    let (there, name) = (world.clone(), init.name);
    there.inner().silent.insert(name);
    let life = async move {
        match agent.prepare().await {
            Some(code) => code,
            None => {
                there.inner().silent.remove(name);
                agent.run().await
            }
        }
    };
    let steps = async move {
        let mut life = Box::pin(life);
        std::future::poll_fn(|context| match frozen.load(Ordering::Relaxed) {
            true => Poll::Pending,
            false => life.as_mut().poll(context),
        })
        .await
    };
    (handle, tokio::spawn(steps))
}

/// Names live as long as the test.
fn leak(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}
