//! What goes wrong in a world, and what people and orchestrators ask of its members meanwhile.

use tamada::core::local::{Guard, Replay};
use tamada::core::observation::ShutdownRequest;
use tamada::core::policy::Pause;
use tamada::core::view::{MemberRole, Schedule, SwitchoverRequest};

use super::node::{Asked, DataFault, Server};
use super::store::Store;
use super::world::World;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The node dies; the container comes back, with the lease id on its volume.
    NodeDies,
    ServerCrashes,
    AgentFreezes,
    Cut,
    Alone,
    StoreDown,
    AgentRestarts,
    Switchover,
    ShutdownGraceful,
    ShutdownFast,
    ShutdownImmediate,
    ShutdownOfAll,
    Pause,
    Restart,
    Reinitialize,
    FailoverByHand,
    DataUnusable,
    DataEmpty,
    ServerSilent,
    TtlChanged,
    BackupTaken,
    StoreGoesBack,
    StoreWiped,
    StaleView,
    ReplicationStalls,
    ReplayPaused,
    LeaderKeyRemoved,
    WalRemoved,
}

impl Fault {
    pub const ALL: [(Fault, &'static str); 28] = [
        (Fault::NodeDies, "node dies"),
        (Fault::ServerCrashes, "server crashes"),
        (Fault::AgentFreezes, "agent freezes"),
        (Fault::Cut, "cut off from the store"),
        (Fault::Alone, "cut off from all"),
        (Fault::StoreDown, "store down"),
        (Fault::AgentRestarts, "agent restarts"),
        (Fault::Switchover, "switchover"),
        (Fault::ShutdownGraceful, "shutdown, graceful"),
        (Fault::ShutdownFast, "shutdown, fast"),
        (Fault::ShutdownImmediate, "shutdown, immediate"),
        (Fault::ShutdownOfAll, "shutdown of all"),
        (Fault::Pause, "pause"),
        (Fault::Restart, "restart request"),
        (Fault::Reinitialize, "reinitialize"),
        (Fault::FailoverByHand, "failover by hand"),
        (Fault::DataUnusable, "data unusable"),
        (Fault::DataEmpty, "data gone for a while"),
        (Fault::ServerSilent, "server silent"),
        (Fault::TtlChanged, "ttl changed"),
        (Fault::BackupTaken, "backup of the store"),
        (Fault::StoreGoesBack, "store goes back"),
        (Fault::StoreWiped, "store wiped"),
        (Fault::StaleView, "stale view"),
        (Fault::ReplicationStalls, "replication stalls"),
        (Fault::ReplayPaused, "replay paused"),
        (Fault::LeaderKeyRemoved, "leader key removed"),
        (Fault::WalRemoved, "WAL removed"),
    ];
}

impl World {
    pub(super) fn fault(&mut self) {
        if !self.rng.one_in(60) || self.calm_until > self.now {
            return;
        }
        let index = self.rng.below(self.nodes.len() as u64) as usize;
        let long = self.rng.below(9_000);
        let (what, named) = Fault::ALL[self.rng.below(Fault::ALL.len() as u64) as usize];
        if what == Fault::AgentFreezes && !self.layers.guard {
            return;
        }
        if self.inflict(what, index, long) {
            self.log.add(|| format!("{} fault {named} on n{} for {long}", self.now, index + 1));
            self.reached.insert(named);
            self.covered.insert((self.nodes[index].situation, named));
        }
    }

    /// Whether there was anything to be done.
    fn inflict(&mut self, what: Fault, index: usize, long: u64) -> bool {
        let (now, until) = (self.now, self.now + long);
        let name = self.nodes[index].name.clone();
        let failover_stands = self.failover_stands();
        let node = &mut self.nodes[index];
        match what {
            Fault::NodeDies => self.node_dies(index, until),
            Fault::ServerCrashes => node.crash_server(),
            Fault::AgentFreezes => {
                node.away_until = until;
                node.frozen = true;
            }
            Fault::Cut => {
                self.cut_until.insert(name, until);
            }
            Fault::Alone => {
                self.cut_until.insert(name.clone(), until);
                self.alone_until.insert(name, until);
            }
            Fault::StoreDown => self.store_down_until = now + long / 2,
            Fault::AgentRestarts => node.restart_agent(now + long / 10),
            Fault::Switchover => return self.ask_for_switchover(index),
            Fault::ShutdownGraceful => {
                if self.rng.one_in(3) {
                    // Nobody receives the last WAL.
                    self.nodes.iter_mut().for_each(|node| node.starved_until = now + 6_000);
                }
                self.shut_down(index, ShutdownRequest::Graceful, long);
            }
            Fault::ShutdownFast => self.shut_down(index, ShutdownRequest::Fast, long),
            Fault::ShutdownImmediate => self.shut_down(index, ShutdownRequest::Immediate, long),
            Fault::ShutdownOfAll => {
                for index in 0..self.nodes.len() {
                    let back_after = self.rng.below(4_000);
                    self.shut_down(index, ShutdownRequest::Graceful, back_after);
                }
            }
            Fault::Pause if failover_stands => return false,
            Fault::Pause => {
                self.store.is_paused = true;
                self.pause_until = self.pause_until.max(until);
                self.wake_all();
            }
            Fault::Restart => (node.asked.restart_until, node.wake) = (now + 3_000, now),
            Fault::Reinitialize => (node.asked.reinitialize_until, node.wake) = (now + 3_000, now),
            Fault::FailoverByHand => return self.ask_for_failover(index),
            Fault::DataUnusable => node.data_fault = Some((DataFault::Unusable, until)),
            Fault::DataEmpty => node.data_fault = Some((DataFault::Empty, until)),
            Fault::ServerSilent => node.silent = Some((now, until)),
            Fault::TtlChanged => self.change_ttl(),
            Fault::BackupTaken => self.backup = Some(Box::new(self.store.clone())),
            Fault::StoreGoesBack => {
                let Some(backup) = self.backup.take() else { return false };
                self.lose(*backup);
            }
            Fault::StoreWiped => self.lose(Store::default()),
            Fault::StaleView => return self.view_stands_still(index, now + long / 4),
            Fault::ReplicationStalls => node.starved_until = until,
            Fault::ReplayPaused if node.server == Server::Standby => node.replay = Replay::Paused,
            Fault::ReplayPaused => return false,
            Fault::WalRemoved => node.oldest = node.oldest.max(node.wal.end.saturating_sub(long / 100)),
            Fault::LeaderKeyRemoved => return self.remove_leader_key(),
        }
        true
    }

    pub(super) fn node_dies(&mut self, index: usize, back_at: u64) {
        let node = &mut self.nodes[index];
        node.crash_server();
        node.guard = Guard::NoDeadline;
        node.asked = Asked::default();
        node.restart_agent(back_at);
    }

    fn shut_down(&mut self, index: usize, how: ShutdownRequest, back_after: u64) {
        let killed_at = self.now + self.stop_timeout.as_millis() as u64;
        let node = &mut self.nodes[index];
        if node.asked.shutdown.is_none() {
            node.asked.killed_at = killed_at;
            node.asked.back_after = back_after;
        }
        node.asked.shutdown = node.asked.shutdown.filter(|before| strength(*before) >= strength(how)).or(Some(how));
        node.wake = self.now;
    }

    /// What lasts until something ends it.
    pub(super) fn faults_end(&mut self) {
        let now = self.now;
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            node.data_fault = node.data_fault.filter(|(_, until)| *until > now);
            node.silent = node.silent.filter(|(_, until)| *until > now);
            node.stale = node.stale.take().filter(|(until, ..)| *until > now);
            let asked = node.asked;
            if asked.shutdown.is_some() && asked.killed_at <= now {
                self.log.add(|| format!("{now} {} killed after its grace", node.name));
                self.node_dies(index, now + asked.back_after);
            }
        }
        self.pause_ends();
    }

    /// Whoever ends a pause sees to it that all members are there and take part again: a primary that cannot hear of it goes
    /// on without a lock, and one whose agent freezes before it has acted has no deadline of PID 1 yet.
    fn pause_ends(&mut self) {
        let now = self.now;
        let all_hear = (0..self.nodes.len()).all(|index| {
            let node = &self.nodes[index];
            let sees = self.connected(index) && node.stale.is_none() && node.silent.is_none();
            // Nor does one stand still between two of its steps.
            sees && node.away_until <= now && node.acting.is_none()
        });
        if self.store.is_paused && self.pause_until <= now && all_hear {
            self.store.is_paused = false;
            self.calm_until = self.calm_until.max(now + 2_000);
            self.nodes.iter_mut().for_each(|node| node.pause = Pause::Running);
            self.wake_all();
        }
    }

    fn wake_all(&mut self) {
        let now = self.now;
        self.nodes.iter_mut().for_each(|node| node.wake = node.wake.min(now));
    }

    /// But not where the store has lost its data since: what is read shows the loss.
    fn view_stands_still(&mut self, index: usize, until: u64) -> bool {
        let now = self.now;
        let Ok(view) = self.read(index) else { return false };
        let knows = self.nodes[index].losses == self.store.losses;
        // What it shows was seen then.
        self.look(index);
        self.nodes[index].stale = Some((until, now, Box::new(view))).filter(|_| knows);
        knows
    }

    /// A person does it in a calm cluster, and nothing else happens for a while: the key is gone before its lease is, so that
    /// only what the members know of each other keeps them from a second primary.
    fn remove_leader_key(&mut self) -> bool {
        let now = self.now;
        let Some((leader, _)) = &self.store.leader else { return false };
        let says_so = self.store.members.get(leader).is_some_and(|(record, _)| record.role == MemberRole::Primary);
        let is_calm = (0..self.nodes.len()).all(|index| {
            let node = &self.nodes[index];
            let hears = self.connected(index) && node.away_until <= now && node.stale.is_none();
            hears && node.timing == self.timing && !self.is_alone(index)
        });
        let knows = self.nodes.iter().all(|node| node.memory.unlocked_since.is_none() && node.memory.amnesia.is_none());
        if !(says_so && is_calm && knows) {
            return false;
        }
        let ttl = self.timing.ttl.as_millis() as u64;
        (self.key_removed_at, self.calm_until) = (now, now + 2 * ttl);
        self.store.remove_leader()
    }

    fn change_ttl(&mut self) {
        let mut timing = self.timing;
        timing.ttl = std::time::Duration::from_secs(5 + self.rng.below(4));
        timing.retry_timeout = std::time::Duration::from_secs(1 + self.rng.below(2));
        self.timing = timing;
        self.store.timing = Some(timing);
        self.wake_all();
    }

    /// The store loses all but what the backup holds. It is another process then, at which no call arrives that was sent to
    /// the one before.
    fn lose(&mut self, backup: Store) {
        self.late.clear();
        self.store.forget(backup, self.now);
        self.forgot_at = self.now;
        self.released = None;
        self.wake_all();
    }

    fn ask_for_switchover(&mut self, candidate: usize) -> bool {
        let Some((leader, _)) = self.store.leader.clone() else { return false };
        let candidate = self.nodes[candidate].name.clone();
        let candidate = (!self.rng.one_in(4)).then_some(candidate);
        self.request(Some(leader), candidate);
        true
    }

    /// Not in a pause, nor the other way round: there nothing keeps the named member from a lock that a primary has lost without stopping.
    fn ask_for_failover(&mut self, candidate: usize) -> bool {
        if self.store.is_paused || self.nodes.iter().any(|node| node.pause == Pause::Paused) {
            return false;
        }
        let candidate = self.nodes[candidate].name.clone();
        self.request(None, Some(candidate));
        true
    }

    fn failover_stands(&self) -> bool {
        self.store.switchover.as_ref().is_some_and(|request| request.leader.is_none())
    }

    fn request(
        &mut self,
        leader: Option<tamada::core::units::MemberName>,
        candidate: Option<tamada::core::units::MemberName>,
    ) {
        let scheduled_at = Schedule::Now;
        self.store.request(|revision| SwitchoverRequest { leader, candidate, scheduled_at, revision });
        self.wake_all();
    }
}

/// A harder request replaces a softer one.
fn strength(how: ShutdownRequest) -> u8 {
    match how {
        ShutdownRequest::Graceful => 0,
        ShutdownRequest::Fast => 1,
        ShutdownRequest::Immediate => 2,
    }
}
