//! Everything outside the agents: the store, the servers, PID 1 of each node, and what is watched all the time: that
//! there are never two writable primaries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tamada::agent::clock::{Alarm, Clock};
use tamada::core::local::Guard;
use tamada::core::units::{Instant, MemberName, WallTime};
use tamada::dcs::memory::MemoryStore;
use tamada::wire::watchdog::{WatchdogOrder, WatchdogState};
use tokio::time::{self, sleep};

use crate::node::Node;
use crate::server::Server;

/// tokio's clock, so that a paused one rules the loop too.
#[derive(Clone, Copy)]
pub struct TestClock {
    origin: time::Instant,
}

const BOOT: Duration = Duration::from_secs(1_000);
const EPOCH: i64 = 1_795_000_000_000;

impl Clock for TestClock {
    fn now(&self) -> Instant {
        Instant(BOOT + self.origin.elapsed())
    }

    fn wall(&self) -> WallTime {
        WallTime(EPOCH + i64::try_from(self.origin.elapsed().as_millis()).unwrap())
    }

    fn alarm(&self) -> Box<dyn Alarm> {
        Box::new(*self)
    }
}

impl Alarm for TestClock {
    fn at(&mut self, at: Instant) -> BoxFuture<'_, ()> {
        sleep(at.left(self.now())).boxed()
    }
}

/// Something that happened to a server, when and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    pub at: Instant,
    pub node: &'static str,
    pub what: &'static str,
}

/// A watchdog device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Works,
    /// It is there, but another process has it.
    Busy,
    Missing,
}

impl Device {
    pub fn answer(self, order: WatchdogOrder) -> Option<WatchdogState> {
        match (order, self) {
            (WatchdogOrder::Keep { timeout, .. }, Device::Works) => {
                Some(WatchdogState::Armed { timeout: u32::from(timeout) })
            }
            (WatchdogOrder::Keep { .. }, Device::Busy | Device::Missing) => Some(WatchdogState::Failed),
            (WatchdogOrder::Check(_), Device::Works | Device::Busy) => Some(WatchdogState::Usable),
            (WatchdogOrder::Check(_), Device::Missing) => Some(WatchdogState::Unusable),
            (WatchdogOrder::Disarm, _) => None,
        }
    }
}

#[derive(Default)]
pub struct Inner {
    pub servers: BTreeMap<&'static str, Server>,
    pub happenings: Vec<Happening>,
    /// Nodes whose API does not answer.
    pub silent: std::collections::BTreeSet<&'static str>,
    pub initdbs: u64,
    /// What each node's PID 1 was told last.
    pub guards: BTreeMap<&'static str, Guard>,
    /// What each node's PID 1 answers about its watchdog; none: nothing.
    pub watchdogs: BTreeMap<&'static str, Device>,
    /// How long a node takes to read its history files.
    pub slow_history: BTreeMap<&'static str, Duration>,
    /// Set by tests of what needs no lock.
    pub unguarded: bool,
}

#[derive(Clone)]
pub struct World {
    pub store: MemoryStore,
    pub clock: TestClock,
    inner: Arc<Mutex<Inner>>,
}

impl World {
    pub fn new() -> Self {
        // Shows, in a failing test's output, what the agents said.
        let _already_set =
            tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::INFO).without_time().try_init();
        let clock = TestClock { origin: time::Instant::now() };
        World { store: MemoryStore::new(), clock, inner: Arc::default() }
    }

    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Notes what happened to a server and checks what must hold at all times.
    pub fn note(&self, node: &'static str, what: &'static str) {
        let at = self.now();
        let mut inner = self.inner();
        inner.happenings.push(Happening { at, node, what });
        let primaries: Vec<_> = inner.servers.values().filter(|server| server.is_primary()).map(|s| s.name).collect();
        if matches!(what, "promote" | "start primary") && !inner.unguarded {
            let guard = inner.guards.get(node).copied().unwrap_or(Guard::NoDeadline);
            let armed = matches!(guard, Guard::Until(deadline) if deadline > at);
            assert!(armed, "{node} becomes a primary, and its PID 1 knows no deadline");
        }
        assert!(primaries.len() <= 1, "two writable primaries: {primaries:?}; {:#?}", inner.happenings);
    }

    /// When this happened last.
    pub fn when(&self, node: &str, what: &str) -> Option<Instant> {
        let inner = self.inner();
        inner.happenings.iter().rev().find(|one| one.node == node && one.what == what).map(|one| one.at)
    }

    pub fn count(&self, what: &str) -> usize {
        self.inner().happenings.iter().filter(|one| one.what == what).count()
    }

    /// Waits until this holds; returns how long that took.
    pub async fn until(&self, what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
        let began = self.now();
        while !holds() {
            let took = self.now().since(began);
            assert!(took < limit, "not within {limit:?}: {what}; {:#?}", self.inner().happenings);
            sleep(Duration::from_millis(10)).await;
        }
        self.now().since(began)
    }

    /// The one node whose server takes writes.
    pub fn primary(&self) -> Option<&'static str> {
        self.inner().servers.values().find(|server| server.is_primary()).map(|server| server.name)
    }

    pub fn leader(&self) -> Option<String> {
        self.store.get_raw("leader")
    }

    /// A primary that holds the lock, and each of the others streaming from it.
    pub fn is_settled(&self, nodes: &[&Node]) -> bool {
        let Some(primary) = self.primary() else { return false };
        if self.leader().as_deref() != Some(primary) {
            return false;
        }
        let inner = self.inner();
        let streams = |node: &&Node| {
            let server = &inner.servers[node.name];
            node.name == primary || server.upstream() == Some(MemberName::from(primary))
        };
        nodes.iter().all(streams)
    }

    pub async fn settled(&self, nodes: &[&Node], limit: Duration) -> &'static str {
        self.until("a primary and streaming replicas", limit, || self.is_settled(nodes)).await;
        self.primary().unwrap()
    }
}
