//! What goes on beside the decisions: the servers' replication slots, and a restart at a time.

use std::collections::{BTreeMap, BTreeSet};

use tamada::core::decision::{Decision, LeaseStep, ScheduleStep};
use tamada::core::local::{LastRole, Upstream};
use tamada::core::note;
use tamada::core::observation::{Event, RestartConditions, ScheduledRestart};
use tamada::core::policy::{Pause, PermanentSlot, SlotSettings};
use tamada::core::slots::{SlotFound, SlotsWanted, Verdict};
use tamada::core::units::{Lsn, WallTime};

use super::node::{Node, Server};
use super::world::World;

/// The cluster's permanent logical slot.
const LOGICAL: &str = "reader";

pub fn slot_settings() -> SlotSettings {
    let reader = PermanentSlot::Logical { database: "db".to_owned(), plugin: "pgoutput".to_owned() };
    SlotSettings { permanent: BTreeMap::from([(LOGICAL.to_owned(), reader)]), ..SlotSettings::default() }
}

/// The replication slots of a server.
#[derive(Default)]
pub struct ServerSlots {
    /// Physical ones, and from where on they keep WAL.
    pub physical: BTreeMap<String, u64>,
    /// How far the consumer of the cluster's logical slot is, as this server knows it.
    pub logical: Option<u64>,
    /// The same of a copy that waits for a start.
    pub copy: Option<u64>,
}

/// Made by hand, in pause.
const FOREIGN: &str = "by_hand";

/// A restart that a person has scheduled: on which member, when (ms), and how often it was begun.
#[derive(Clone, Copy)]
pub struct Scheduled {
    pub index: usize,
    pub at: u64,
    pub begun: u32,
    pub is_over: bool,
}

impl World {
    /// What is decided beside the rest, carried out.
    pub(super) fn keep_up(&mut self, index: usize, decision: &Decision) {
        let races = matches!(decision.lease, LeaseStep::Acquire { .. });
        let won = self.nodes[index].memory.lease_valid_until.is_some();
        if let Some(slots) = decision.slots.as_ref().filter(|_| won || !races) {
            self.bring_slots(index, slots);
        }
        let Some(scheduled) = self.scheduled.as_mut().filter(|scheduled| scheduled.index == index) else { return };
        match decision.schedule {
            ScheduleStep::Keep => {}
            ScheduleStep::Drop(_) => scheduled.is_over = true,
            ScheduleStep::Begin => {
                (scheduled.begun, scheduled.is_over) = (scheduled.begun + 1, true);
                self.nodes[index].asked.restart_until = self.now + 30_000;
                self.reached.insert("scheduled restart");
                if self.now < scheduled.at || scheduled.begun > 1 {
                    self.broken = Some(format!("a scheduled restart is begun too early or twice, at {}", self.now));
                }
            }
        }
    }

    pub(super) fn scheduled_for(&self, index: usize) -> Option<ScheduledRestart> {
        let scheduled = self.scheduled.filter(|scheduled| scheduled.index == index && !scheduled.is_over)?;
        let at = WallTime(scheduled.at as i64);
        Some(ScheduledRestart { at, started: None, conditions: RestartConditions::default() })
    }

    /// The positions of the members that stream from this one.
    fn streams_from(&self, index: usize) -> BTreeMap<String, u64> {
        let name = &self.nodes[index].name;
        let streams = self.nodes.iter().filter(|other| {
            let from = matches!(&other.upstream, Upstream::Member { name: from, .. } if from == name);
            from && other.streaming && other.server == Server::Standby
        });
        streams.map(|other| (other.name.slot_name(), other.wal.end)).collect()
    }

    fn bring_slots(&mut self, index: usize, wanted: &SlotsWanted) {
        let streams = self.streams_from(index);
        let node = &mut self.nodes[index];
        node.memory = note(std::mem::take(&mut node.memory), &Event::SlotsTouched(wanted.clone()));
        if node.pause == Pause::Paused {
            node.slots.physical.insert(FOREIGN.to_owned(), node.wal.end);
        }
        let mut in_use = false;
        for (name, reserved) in node.slots.physical.clone() {
            let slot = SlotFound {
                name: &name,
                kind: "physical",
                database: None,
                plugin: None,
                is_active: streams.contains_key(&name),
                is_temporary: false,
                is_failover: false,
                is_synced: false,
                is_lost: false,
                holds_rows: false,
                reserved: Some(Lsn(reserved)),
                confirmed: None,
            };
            match wanted.verdict(&slot) {
                Verdict::Leave => {}
                Verdict::InUse(_) => in_use = true,
                Verdict::Advance(position) => drop(node.slots.physical.insert(name, position.0)),
                Verdict::Drop(_) => {
                    if slot.is_active || node.pause == Pause::Paused {
                        self.broken = Some(format!("{} drops the slot {name} at {}", node.name, self.now));
                    }
                    self.reached.insert("slot dropped");
                    node.slots.physical.remove(&name);
                }
            }
        }
        let end = node.wal.end;
        for name in wanted.physical.keys() {
            node.slots.physical.entry(name.clone()).or_insert(end);
        }
        let is_whole = self.tend_logical(index, wanted);
        let node = &mut self.nodes[index];
        if !in_use && is_whole {
            node.memory = note(std::mem::take(&mut node.memory), &Event::SlotsBrought(wanted.clone()));
        }
    }

    /// Whether the logical slot is as it should be.
    fn tend_logical(&mut self, index: usize, wanted: &SlotsWanted) -> bool {
        let Some(slot) = wanted.logical.get(LOGICAL) else {
            self.nodes[index].slots.logical = None;
            return true;
        };
        if wanted.role == LastRole::Primary {
            let node = &mut self.nodes[index];
            if node.server == Server::Primary {
                node.slots.logical.get_or_insert(node.wal.end);
            }
            return node.slots.logical.is_some();
        }
        if wanted.to_copy(|_| self.nodes[index].slots.logical.is_some()).next().is_some() {
            let is_source = |other: &Node| {
                other.server == Server::Primary
                    && wanted.source.as_ref().is_some_and(|source| source.address == other.address())
            };
            let source = self.nodes.iter().position(is_source).filter(|source| self.reaches(index, *source));
            if let Some(at) = source.and_then(|source| self.nodes[source].slots.logical) {
                let node = &mut self.nodes[index];
                node.slots.copy = Some(at);
                let copied = Event::SlotsCopied(BTreeSet::from([LOGICAL.to_owned()]));
                node.memory = note(std::mem::take(&mut node.memory), &copied);
            }
            return false;
        }
        let node = &mut self.nodes[index];
        let (Some(at), Some(confirmed)) = (node.slots.logical, slot.confirmed) else { return true };
        node.slots.logical = Some(at.max(confirmed.0.min(node.wal.end)));
        node.slots.logical >= Some(confirmed.0)
    }

    /// With each renewal a leader publishes where its slots are.
    pub(super) fn publish_slots(&mut self, lease: u64) {
        let Some(index) = self.nodes.iter().position(|node| node.lease == lease) else { return };
        let streams = self.streams_from(index);
        for (name, reserved) in &mut self.nodes[index].slots.physical {
            *reserved = streams.get(name).copied().unwrap_or(*reserved);
        }
        let node = &mut self.nodes[index];
        if node.server == Server::Primary {
            // Its consumer has all that there is.
            node.slots.logical = node.slots.logical.map(|at| at.max(node.wal.end));
        }
        self.store.status.slots = self.positions(index);
    }

    /// Where the slots of this server are.
    pub(super) fn positions(&self, index: usize) -> BTreeMap<String, Lsn> {
        let node = &self.nodes[index];
        let slots = node.slots.physical.iter().map(|(name, reserved)| (name.clone(), Lsn(*reserved)));
        let logical = node.slots.logical.map(|at| (LOGICAL.to_owned(), Lsn(at)));
        slots.chain(logical).collect()
    }
}
