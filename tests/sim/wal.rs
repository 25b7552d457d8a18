//! The WAL of a simulated member, as plain facts.

use tamada::core::units::{Branch, Lsn, Timeline};

/// What has been written, as PostgreSQL can tell it: the timeline, its end, and where earlier timelines were left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wal {
    pub timeline: u32,
    pub end: u64,
    pub left: Vec<(u32, u64)>,
}

impl Wal {
    /// Whether all that we have stands in `leader`'s history too.
    pub fn fits(&self, leader: &Wal) -> bool {
        if self.timeline == leader.timeline {
            return self.left == leader.left && self.end <= leader.end;
        }
        let common = leader.left.starts_with(&self.left);
        common && leader.left.get(self.left.len()).is_some_and(|&(left, at)| left == self.timeline && self.end <= at)
    }

    /// The same up to a position.
    pub fn until(&self, position: u64) -> Wal {
        let left = self.left.iter().position(|(_, at)| position <= *at);
        match left {
            Some(index) => Wal { timeline: self.left[index].0, end: position, left: self.left[..index].to_vec() },
            None => Wal { end: position.min(self.end), ..self.clone() },
        }
    }

    /// Up to where both hold the same.
    pub fn agrees_until(&self, other: &Wal) -> u64 {
        let (own, theirs) = (self.branches(), other.branches());
        let mut agreed = 0;
        for (&(timeline, end), &(their_timeline, their_end)) in own.iter().zip(&theirs) {
            if timeline != their_timeline {
                break;
            }
            agreed = end.min(their_end);
            if end != their_end {
                break;
            }
        }
        agreed
    }

    /// What the newest history file says.
    pub fn branch(&self) -> Option<Branch> {
        let (_, began) = self.left.last()?;
        Some(Branch { timeline: Timeline(self.timeline), began: Lsn(*began) })
    }

    fn branches(&self) -> Vec<(u32, u64)> {
        self.left.iter().copied().chain([(self.timeline, self.end)]).collect()
    }
}
