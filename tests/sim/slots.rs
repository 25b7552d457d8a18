//! What goes on beside the decisions: the servers' replication slots, and a restart at a time.

use std::collections::BTreeMap;

use tamada::core::decision::{Decision, LeaseStep, ScheduleStep};
use tamada::core::local::Upstream;
use tamada::core::note;
use tamada::core::observation::{Event, RestartConditions, ScheduledRestart};
use tamada::core::policy::Pause;
use tamada::core::slots::{SlotFound, SlotsWanted, Verdict};
use tamada::core::units::{Lsn, WallTime};

use super::node::Server;
use super::world::World;

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
        node.memory = note(std::mem::take(&mut node.memory), &Event::SlotsTouched);
        if node.pause == Pause::Paused {
            node.slots.insert(FOREIGN.to_owned(), node.wal.end);
        }
        let mut in_use = false;
        for (name, reserved) in node.slots.clone() {
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
                Verdict::Advance(position) => drop(node.slots.insert(name, position.0)),
                Verdict::Drop(_) => {
                    if slot.is_active || node.pause == Pause::Paused {
                        self.broken = Some(format!("{} drops the slot {name} at {}", node.name, self.now));
                    }
                    self.reached.insert("slot dropped");
                    node.slots.remove(&name);
                }
            }
        }
        let end = node.wal.end;
        for name in wanted.physical.keys() {
            node.slots.entry(name.clone()).or_insert(end);
        }
        if !in_use {
            node.memory = note(std::mem::take(&mut node.memory), &Event::SlotsBrought(wanted.clone()));
        }
    }

    /// With each renewal a leader publishes where its slots are.
    pub(super) fn publish_slots(&mut self, lease: u64) {
        let Some(index) = self.nodes.iter().position(|node| node.lease == lease) else { return };
        let streams = self.streams_from(index);
        for (name, reserved) in &mut self.nodes[index].slots {
            *reserved = streams.get(name).copied().unwrap_or(*reserved);
        }
        let slots = self.nodes[index].slots.iter().map(|(name, reserved)| (name.clone(), Lsn(*reserved)));
        self.store.status.slots = slots.collect();
    }
}
