//! What the decisions remember, and the two ways in which it changes.

use std::ops::Deref;

use super::cluster_file::Known;
use crate::core;
use crate::core::observation::{Event, Memory, Observation, Outcome};

#[derive(Debug)]
pub(super) struct Remembered(Memory);

impl Remembered {
    /// `cluster`: what a file knows of the cluster from an earlier run.
    pub(super) fn new(cluster: Option<Known>) -> Self {
        let Some(Known { id, abandoned, outlived, failsafe_key }) = cluster else {
            return Remembered(Memory::default());
        };
        Remembered(Memory { cluster: Some(id), abandoned, outlived, failsafe_key, ..Memory::default() })
    }

    /// Something that happened between two decisions.
    pub(super) fn note(&mut self, event: &Event) {
        self.0 = core::note(std::mem::take(&mut self.0), event);
    }

    /// A cycle's observation and what its actions led to.
    pub(super) fn learn(&mut self, seen: &Observation, outcome: &Outcome) {
        self.0 = core::learn(std::mem::take(&mut self.0), seen, outcome);
    }
}

impl Deref for Remembered {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        &self.0
    }
}
