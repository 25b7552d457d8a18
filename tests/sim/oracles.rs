//! What is judged: one writable primary, no promotion without the lock, no acknowledged write lost that need not be, no
//! second cluster, and a whole cluster in the end.

use std::cmp::Ordering;

use tamada::core::invariants::one_writable;
use tamada::core::local::{Guard, Job};
use tamada::core::observation::Observation;
use tamada::core::policy::{Pause, Policy, SyncMode};
use tamada::core::units::{Lsn, Timeline};
use tamada::core::view::{ClusterView, Initialize};

use super::failsafe::Failsafe;
use super::node::{Node, Server, at};
use super::world::World;

/// A member that nothing has disturbed for so long has answered whoever asks, if that one has reached others for so long.
const STEADY: u64 = 5_000;

/// What a member knew when it decided to take the lock: the store may have lost it since.
#[derive(Clone, Copy, Default)]
pub struct Raced {
    /// When the reading was made, and what ttl the member went by, in milliseconds.
    pub at: u64,
    ttl: u64,
    /// The last position that it showed, and the timeline of the cluster.
    last: Lsn,
    timeline: Option<Timeline>,
    /// Whether the store had lost its data and nobody was known to hold the lock since.
    in_amnesia: bool,
    /// Whether a person wanted this member, whatever it lacks.
    pub by_hand: bool,
}

impl Raced {
    pub fn on(view: &ClusterView, seen: &Observation, at: u64, policy: &Policy) -> Raced {
        let wanted = view.switchover.as_ref().filter(|request| request.leader.is_none());
        Raced {
            at,
            ttl: policy.timing.ttl.as_millis() as u64,
            last: view.status.optime.unwrap_or_default(),
            timeline: view.history.timeline(),
            in_amnesia: seen.memory.amnesia.is_some(),
            by_hand: wanted.is_some_and(|request| request.candidate.as_ref() == Some(&policy.name)),
        }
    }
}

impl World {
    pub(super) fn judge(&mut self) -> Result<(), String> {
        self.one_primary()?;
        if let Initialize::Done(id) = self.store.initialize
            && *self.cluster.get_or_insert(id) != id
        {
            return Err(self.with_log(&format!("another cluster was initialised at {}", self.now)));
        }
        match self.broken.take() {
            Some(what) => Err(self.with_log(&what)),
            None => Ok(()),
        }
    }

    fn one_primary(&self) -> Result<(), String> {
        let primaries = self.nodes.iter().filter(|node| node.server == Server::Primary);
        one_writable(primaries.map(|node| node.name.as_str()))
            .map_err(|what| self.with_log(&format!("{what} at {}", self.now)))
    }

    /// A server becomes writable by a promotion or a start: then the leader key must hang on this node's living lease, and
    /// no more of the acknowledged writes may be missing than the rules allow.
    ///
    /// Two ways to be writable are no business of this oracle. A bootstrap makes a primary before there is a lock: its
    /// cluster has no other member yet, and the claim on `initialize` keeps a second one from being made. And a primary
    /// may outlive its lock for a while, as long as nobody else is one: that is for `one_primary` to judge.
    pub(super) fn becomes_writable(&mut self, index: usize, how: &str) {
        let node = &self.nodes[index];
        // After a loss of the store's data, or of the key by a person's hand, the lock is known by its holder's own clock alone; in pause by nobody's.
        let ttl = node.timing.ttl.as_millis() as u64;
        let has_vanished = self.forgot_at.max(self.key_removed_at) + 2 * ttl > self.now;
        let is_guarded = matches!(node.guard, Guard::Until(deadline) if deadline > at(self.now));
        let is_valid = is_guarded || node.memory.lease_valid_until.is_some_and(|until| until > at(self.now));
        let remembered = has_vanished && (is_valid || self.store.leader.is_none());
        // A promotion may come about while its stop is under way.
        let is_stopped = matches!(node.job, Some((Job::Stop { .. }, ..)));
        if !self.store.holds(node.lease) && !remembered && !is_stopped && node.pause == Pause::Running {
            let holder = self.store.leader.as_ref().map(|(name, _)| name.as_str());
            self.broken = Some(format!(
                "{} became a primary without the lock by a {how} at {}, the holder is {holder:?}",
                node.name, self.now
            ));
        }
        if let Some(what) = self.lost_unduly(index, how) {
            self.broken = Some(format!("{what}, at {}", self.now));
        }
    }

    /// The writes that clients were told of, as far as nothing allows that they are lost.
    fn lost_unduly(&mut self, index: usize, how: &str) -> Option<String> {
        let node = &self.nodes[index];
        let has = self.acknowledged.agrees_until(&node.wal);
        let lost = self.acknowledged.end.saturating_sub(has);
        // Which timeline was the cluster's before does not count in a standby cluster, as in Patroni.
        if lost == 0 || self.layers.standby {
            return None;
        }
        let told = |why: &str| {
            Some(format!(
                "{} lost {lost} acknowledged bytes by a {how}: {why}; {:?}, not {:?}",
                node.name, node.wal, self.acknowledged
            ))
        };
        if how == "start" {
            return told("a start in place loses nothing");
        }
        // Once the store has lost its data, the key too may be one of long ago; and a new cluster has none until its first
        // leader has written it.
        let is_promised = self.layers.sync && self.forgot_at == 0 && self.store.sync.leader.is_some();
        // Whom a person has wanted has written the key, whether or not it came to lead.
        if is_promised && !node.was_wanted {
            return told("a synchronous cluster loses nothing");
        }
        if let Some((released, position)) = self.released
            && self.now < released + node.raced.ttl
            && has < position
            // After a loss of the store's data what it says of who led does not count.
            && !node.raced.in_amnesia
        {
            return told("a planned change of the leader loses nothing");
        }
        self.reached.insert("loss as after a crash");
        if node.raced.by_hand {
            return None;
        }
        if node.raced.timeline.is_some_and(|cluster| Timeline(node.wal.timeline) < cluster) {
            return told("it is on an older timeline than the cluster");
        }
        let behind = Lsn(node.wal.end).behind(node.raced.last);
        if behind > self.lag_max {
            return told(&format!("it lags {behind} bytes, more than maximum_lag_on_failover"));
        }
        let better = self.nodes.iter().find(|other| self.should_go_first(other, node, has))?;
        told(&format!("{} has more of them", better.name))
    }

    fn should_go_first(&self, other: &Node, node: &Node, has: u64) -> bool {
        // One that gave the lock up because it could not serve goes last.
        let gave_way = self.store.status.gave_way.as_ref() == Some(&other.name);
        let is_other = other.name != node.name && other.server == Server::Standby && !gave_way;
        // Which of two branches is the cluster's is known from its history alone: of one number that history does not
        // hold, or after a loss of it, until a leader of since has noted its timeline, where the newest goes first. A leader
        // that never noted its own, on no newer number than the history's, has left no trace.
        let timeline = Timeline(node.wal.timeline);
        let is_forgotten = node.raced.in_amnesia || self.store.history_written_at < self.forgot_at;
        let is_one = other.wal.branch() == node.wal.branch();
        let began = self.store.history.began(timeline);
        let is_named =
            self.store.history.timeline() == Some(timeline) && began == node.wal.branch().map(|own| own.began);
        let is_known = match node.wal.timeline.cmp(&other.wal.timeline) {
            _ if is_one => true,
            Ordering::Less => true,
            Ordering::Equal => began.is_some() && !is_forgotten && !is_named,
            Ordering::Greater => !is_forgotten && !is_named,
        };
        if !is_known {
            return false;
        }
        // One that knows that its own timeline was abandoned, and is right, goes last; that a person has brought it back it
        // knows only once it has seen the leader of since as a primary.
        let knows_so = other.memory.abandoned.is_some_and(|known| known.timeline == Timeline(other.wal.timeline));
        let is_last = |node: &Node| node.raced.by_hand && node.wal.branch() == self.acknowledged.branch();
        let is_brought_back = self.nodes.iter().any(is_last);
        if knows_so && (is_brought_back || self.acknowledged.agrees_until(&other.wal) < other.wal.end) {
            return false;
        }
        // One that the key does not name waits for those that it names.
        if self.layers.sync && self.is_shut_out(other, &|_| false) {
            return false;
        }
        // Nor is one waited for that a primary in failsafe mode would not have asked.
        let names = &other.memory.failsafe_key;
        if self.layers.failsafe != Failsafe::Off && !names.is_empty() && !self.store.failsafe.contains_key(&other.name)
        {
            return false;
        }
        let is_steady = other.steady_since.max(node.alone_at) + STEADY <= node.raced.at;
        let may = Lsn(other.wal.end).behind(node.raced.last) <= self.lag_max;
        is_other && is_steady && may && self.acknowledged.agrees_until(&other.wal) > has
    }

    /// Clients were told that all is written that this primary has.
    pub(super) fn acknowledge(&mut self, index: usize) {
        if self.nodes[index].data.is_some() && self.nodes[index].data == self.cluster {
            let wal = &self.nodes[index].wal;
            // What it has received and nobody was told of may still be lost, if the cluster replicates synchronously.
            let known = if self.layers.sync { self.acknowledged.agrees_until(wal) } else { 0 };
            let confirmed = self.confirmed(index).unwrap_or(0);
            self.acknowledged = wal.until(known.max(confirmed));
        }
    }

    /// Whether none is left that may lead: each is on an older timeline than the cluster, since its only member there was
    /// made anew or the store went back, or on another one of its number, or lacks more of what was published than the
    /// cluster may lose, or is half rewound.
    /// That needs a person.
    fn is_barred(&self) -> bool {
        let last = self.store.status.optime.unwrap_or_default();
        let lags = |node: &Node| node.server == Server::Standby && Lsn(node.wal.end).behind(last) > self.lag_max;
        let history = &self.store.history;
        let is_behind = |node: &Node| Some(Timeline(node.wal.timeline)) < history.timeline();
        let is_other = |node: &Node| {
            let branch = node.wal.branch();
            branch.is_some_and(|own| history.began(own.timeline).is_some_and(|began| began != own.began))
        };
        let is_out = |node: &Node| node.half_rewound || lags(node) || is_behind(node) || is_other(node);
        // In failsafe mode only those that a primary would have asked may lead.
        let key = &self.store.failsafe;
        let is_unnamed = |node: &Node| !key.is_empty() && !key.contains_key(&node.name);
        self.nodes.iter().all(|node| is_out(node) || is_unnamed(node) || self.is_shut_out(node, &is_out))
    }

    /// Whether the `sync` key lets it lead only if others vote for it that cannot, or not at all.
    fn is_shut_out(&self, node: &Node, is_out: &dyn Fn(&Node) -> bool) -> bool {
        let key = &self.store.sync;
        let is_listed = |node: &Node| key.leader.as_ref() == Some(&node.name) || key.standbys.contains(&node.name);
        let Some(leader) = key.leader.as_ref().filter(|_| self.layers.sync) else { return false };
        let votes = self.nodes.iter().filter(|other| other.name != node.name && is_listed(other) && !is_out(other));
        let needed = key.quorum as usize + usize::from(!is_listed(node));
        match self.synchronous().mode {
            _ if key.quorum > 0 => votes.count() < needed && node.name != *leader,
            SyncMode::Off => false,
            SyncMode::Priority => !is_listed(node),
            SyncMode::Quorum => votes.count() < needed && node.name != *leader,
        }
    }

    /// Everybody streams from the holder of the lock, which has every write that clients were told of and that no
    /// promotion was allowed to lose.
    pub(super) fn whole(&self) -> Result<(), String> {
        let Some((leader, _)) = &self.store.leader else {
            return if self.is_barred() { Ok(()) } else { Err("no leader in the end".to_owned()) };
        };
        for node in &self.nodes {
            let leads = node.name == *leader;
            let fine = if leads { node.server == Server::Primary } else { node.streaming };
            if !fine {
                return Err(format!(
                    "{} is {:?}, streaming: {}, leader {leader}",
                    node.name, node.server, node.streaming
                ));
            }
            let keeps =
                |other: &Node| other.name == *leader || node.slots.physical.contains_key(&other.name.slot_name());
            if leads && !self.nodes.iter().all(keeps) {
                return Err(format!("{leader} keeps the slots {:?} alone", node.slots.physical.keys()));
            }
            if node.slots.logical.is_none() {
                return Err(format!("{} has no copy of the logical slot", node.name));
            }
            if leads && self.acknowledged.agrees_until(&node.wal) < self.acknowledged.end {
                return Err(format!("{leader} lacks acknowledged writes: {:?}, not {:?}", node.wal, self.acknowledged));
            }
        }
        Ok(())
    }
}
