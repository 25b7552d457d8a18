//! The loop: observe, decide, act, learn, wait. One step a cycle; no decision assumes that an action worked.
//!
//! **Invariant:** nothing in a cycle waits without a bound, and every bound on a call to the store ends before the
//! point where a primary without a renewal has to stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::answers::Answers;
use super::background_task::BackgroundTasks;
use super::clock::{Alarm, Clock};
use super::cluster_file::ClusterFile;
use super::cycle_log::{Cycle, CycleLog};
use super::fence::Fence;
use super::init_link::{FromInit, InitLink};
use super::job::JobSlot;
use super::kept_files::KeptFiles;
use super::known_branch::KnownBranch;
use super::lease_file::LeaseFile;
use super::listeners::Listeners;
use super::mailbox::Mailbox;
use super::peers::PeerClient;
use super::publisher::Publisher;
use super::reading::{Outage, Reading};
use super::remembered::Remembered;
use super::server::Server;
use super::settings::Settings;
use super::shared::Shared;
use super::status::Status;
use super::watchdog::Watchdog;
use crate::config::Config;
use crate::core;
use crate::core::decision::{Decision, Exit, Wake};
use crate::core::local::{Guard, Postgres, StopMode};
use crate::core::reason::Reason;
use crate::core::units::Instant;
use crate::dcs::Dcs;
use crate::postgres::Instance;

/// How many requests may wait for the loop's thread; more wait in the API.
const MAILBOX: usize = 64;
/// Back-to-back cycles before throttling; decisions need a handful.
const HURRIED_MAX: u32 = 64;
const REST: Duration = Duration::from_millis(250);
/// During an outage the store is looked at so often, whatever its watch says.
const OUTAGE_REST: Duration = Duration::from_millis(500);
/// The stop before a fatal end.
const LAST_STOP_LIMIT: Duration = Duration::from_secs(60);

/// What the loop is made of.
pub struct Parts<D, I> {
    pub config: Config,
    pub dcs: D,
    pub instance: I,
    pub clock: Arc<dyn Clock>,
    pub peers: Arc<dyn PeerClient>,
    pub init: Arc<dyn InitLink>,
    pub runtimes: Runtimes,
    /// What PID 1 will do if it hears nothing new.
    pub guard: Guard,
    pub incarnation: Incarnation,
    /// Where the lease is kept beside the data; `None` without a DCS.
    pub lease_file: Option<LeaseFile>,
    /// Where the cluster's identifier is kept; `None` without a DCS.
    pub cluster_file: Option<ClusterFile>,
    /// Reads the configuration again (SIGHUP); the error is for the log.
    pub reread: Reread,
}

/// Where work runs that may block: never on the loop's thread, which has a lease to renew.
pub struct Runtimes {
    pub jobs: Handle,
    pub background: Handle,
}

impl Runtimes {
    /// Everything on the runtime that we are on, for tests whose work blocks nothing.
    pub fn current() -> Self {
        Runtimes { jobs: Handle::current(), background: Handle::current() }
    }
}

/// Which agent of its container this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incarnation {
    First,
    /// PID 1 has started it after another one ended; the name is known to be ours.
    Later,
}

pub type Reread = Box<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// What the rest of the process holds of the running agent.
pub struct AgentHandle {
    pub mailbox: Mailbox,
    pub status: watch::Receiver<Arc<Status>>,
    pub signals: mpsc::UnboundedSender<FromInit>,
}

pub struct Agent<D, I> {
    pub(super) shared: Arc<Shared<D, I>>,
    alarm: Box<dyn Alarm>,
    pub(super) settings: Settings,
    pub(super) reread: Reread,
    pub(super) incarnation: Incarnation,
    pub(super) memory: Remembered,
    pub(super) jobs: JobSlot,
    pub(super) background: BackgroundTasks,
    pub(super) server: Server,
    pub(super) reading: Reading,
    pub(super) answers: Answers,
    pub(super) fence: Fence,
    pub(super) watchdog: Watchdog,
    pub(super) publisher: Publisher,
    pub(super) kept: KeptFiles,
    pub(super) branch: KnownBranch,
    reason: Reason,
    cycle_log: CycleLog,
    hurried: u32,
    listeners: Listeners,
}

impl<D: Dcs, I: Instance> Agent<D, I> {
    pub fn new(parts: Parts<D, I>) -> (Self, AgentHandle) {
        let Parts {
            config,
            dcs,
            instance,
            clock,
            peers,
            init,
            guard,
            incarnation,
            lease_file,
            cluster_file,
            reread,
            runtimes,
        } = parts;
        let kept = KeptFiles::new(lease_file, cluster_file);
        let settings = Settings::new(Arc::new(config), instance.load_dynamic(), dcs.ttl_min(), clock.now());
        instance.set_config(settings.config.clone());
        dcs.set_timing(settings.timing);
        let status = Status::before_first_cycle(&settings, clock.now());
        let shared = Arc::new(Shared::new(dcs, instance, clock, peers, status));
        let (mailbox, requests) = mpsc::channel(MAILBOX);
        let (signals, heard) = mpsc::unbounded_channel();
        let handle = AgentHandle { mailbox, status: shared.status.subscribe(), signals };
        let agent = Agent {
            alarm: shared.clock.alarm(),
            reread,
            incarnation,
            memory: Remembered::new(kept.cluster()),
            jobs: JobSlot::new(runtimes.jobs),
            background: BackgroundTasks::new(runtimes.background, shared.wake.clone()),
            server: Server::not_probed_yet(shared.now()),
            reading: Reading::none_yet(),
            answers: Answers::default(),
            watchdog: Watchdog::new(init.clone(), settings.config.watchdog.clone()),
            fence: Fence::new(init, guard),
            publisher: Publisher::default(),
            kept,
            branch: KnownBranch::default(),
            reason: Reason::NotStarted,
            cycle_log: CycleLog::default(),
            hurried: 0,
            settings,
            listeners: Listeners::new(requests, heard),
            shared,
        };
        (agent, handle)
    }

    /// Before the API listens and the first cycle begins. `Some`: the agent is to end with this code.
    pub async fn prepare(&mut self) -> Option<u8> {
        self.listeners.start(&self.shared);
        self.start().await
    }

    /// Runs until the agent is to end; the exit code.
    pub async fn run(mut self) -> u8 {
        loop {
            let (wake, exit) = self.cycle().await;
            if let Some(exit) = exit {
                return self.leave(exit).await;
            }
            self.wait(wake).await;
        }
    }

    async fn cycle(&mut self) -> (Wake, Option<Exit>) {
        self.begin_cycle().await;
        let seen = self.observe().await;
        self.show_loss(&seen);
        let policy = self.settings.policy();
        let decision = core::decide(&policy, &seen);
        self.tell(&decision);
        let outcome = self.act(&decision, &seen).await;
        self.memory.learn(&seen, &outcome);
        let wake = core::next_wake(decision.wake, &outcome);
        self.show(&decision.reason, wake);
        (wake, decision.exit)
    }

    fn tell(&mut self, decision: &Decision) {
        let view = self.reading.current().map(|snapshot| &snapshot.view);
        let cycle = Cycle {
            now: self.shared.now(),
            loop_wait: self.settings.timing.loop_wait,
            deduplicate: self.settings.config.log.deduplicate_heartbeats,
            name: &self.settings.config.name,
            lock_owner: view.and_then(|view| view.leader.as_ref()).map(|leader| &leader.name),
        };
        self.cycle_log.tell(&self.reason, decision, &cycle);
        self.reason = decision.reason.clone();
    }

    /// Until the wake-up or the first thing that happens before it.
    async fn wait(&mut self, wake: Wake) {
        let began = self.shared.now();
        match wake {
            Wake::Now => tokio::task::yield_now().await,
            Wake::At(at) => self.wait_until(at).await,
        }
        if self.shared.now().since(began) > Duration::from_millis(1) {
            self.hurried = 0;
            return;
        }
        self.hurried += 1;
        if self.hurried >= HURRIED_MAX {
            tracing::warn!(
                "slowing down after {} cycles that followed each other without a pause: {}",
                self.hurried,
                self.reason
            );
            sleep(REST).await;
            self.hurried = 0;
        }
    }

    async fn wait_until(&mut self, at: Instant) {
        let exit_of = self.server.exit_to_wait_for(self.jobs.running().map(|running| &running.job));
        let shared = &self.shared;
        let version = self.reading.last().map_or(0, |snapshot| snapshot.version);
        let changed = async {
            // An outage counts as a change, so that its end is one too; it must not keep the loop spinning.
            match self.reading.outage() {
                Outage::No => {}
                Outage::Yes => sleep(OUTAGE_REST).await,
            }
            shared.dcs.wait_for_change(version).await;
        };
        let exited = async {
            match exit_of {
                Some(_) => shared.instance.wait_exit().await,
                None => std::future::pending().await,
            }
        };
        // Whom commits wait for is another matter from then on.
        let waits = !self.server.probe().facts.sync.names.names.is_empty();
        let standby_lost = async {
            match waits {
                true => shared.instance.wait_standby_lost().await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.alarm.at(at) => {}
            () = shared.wake.notified() => {}
            () = changed => {}
            () = standby_lost => {}
            () = exited => self.server.exited(exit_of),
        }
    }

    async fn leave(&mut self, exit: Exit) -> u8 {
        match exit {
            Exit::Stopped => 0,
            Exit::Fatal(why) => {
                tracing::error!("{why}");
                self.stop_for_good().await;
                1
            }
            Exit::FatalLeaveRunning(why) => {
                tracing::error!("{why}");
                1
            }
        }
    }

    /// What must not run here is stopped, and a lock that is still ours is given up afterwards.
    async fn stop_for_good(&mut self) {
        if let Some(cancelled) = self.jobs.cancel(self.shared.now()).await {
            self.job_ended(cancelled);
        }
        if self.server.probe().postgres != Postgres::Stopped {
            let stop = self.shared.instance.stop(StopMode::Fast, LAST_STOP_LIMIT);
            match timeout(LAST_STOP_LIMIT * 2, stop).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::error!("{error}");
                    return;
                }
                Err(_) => return,
            }
        }
        if self.memory.lease_valid_until.is_some() {
            let limit = self.short_patience();
            // It expires by itself if this fails.
            let released = self.shared.bounded(limit, self.shared.dcs.release(None, None, limit)).await;
            tracing::debug!(?released, "leader lock given up");
        }
    }
}
